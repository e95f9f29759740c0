//! The records of journals on stdout, and what had to be passed over on stderr: what `cat` and `tail` have in common.

use std::{
    ffi::OsString,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Serialize;
use untorn::{Code, Damage, Line, ReadOptions, Verdict};

use crate::{
    exit::{Exit, Stop},
    finding::Head,
    interrupt,
    output::Output,
    say,
    source::Source,
    text::{self, Shown},
};

/// How many places are told of one journal; of the others, how many there are.
const PLACES_MAX: u64 = 10;

/// How a record is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was appended.
    Payload,
    /// As it is on disk.
    Line,
    /// With its number and place.
    Json,
}

#[derive(Serialize)]
struct Printed<'a> {
    schema: &'static str,
    path: &'a str,
    seq: Option<u64>,
    segment: u64,
    offset: u64,
    len: u64,
}

/// Prints the records of all files, one file after the other; the highest exit status wins.
pub(crate) fn print(files: &[OsString], options: &ReadOptions, form: Form) -> Result<Exit, Stop> {
    interrupt::end_at_once();
    let mut output = Output::new();
    let mut exit = Exit::Done;
    for file in files {
        let printed = print_one(file, options, form, &mut output);
        // Before anything is said of this file, what it had is out.
        let flushed = output.flush();
        match exit.and(flushed.and(printed)) {
            Some(so_far) => exit = so_far,
            None => return Ok(exit),
        }
    }
    Ok(exit)
}

fn print_one(file: &OsString, options: &ReadOptions, form: Form, output: &mut Output) -> Result<Exit, Stop> {
    let source = Source::open(file)?;
    let mut reader = options.open(source.path())?;
    let mut passed_over = PassedOver::new(&source);
    while let Some(mut line) = reader.next_line()? {
        match line.verdict() {
            Verdict::Sealed | Verdict::Plain => print_record(&source, &mut line, form, output)?,
            Verdict::Torn | Verdict::Corrupt(_) => {
                output.flush()?;
                passed_over.add(&line);
            }
            _ => {}
        }
    }
    output.flush()?;
    Ok(passed_over.close(reader.damage()))
}

fn print_record(source: &Source, line: &mut Line<'_>, form: Form, output: &mut Output) -> Result<(), Stop> {
    match form {
        Form::Line => output.line(line.bytes()),
        Form::Payload => line.payload().map_or(Ok(()), |payload| output.line(payload)),
        Form::Json => {
            let mark = line.mark();
            let (segment, offset) = (mark.start.segment, mark.start.offset);
            let len = mark.end.offset - offset;
            let path = source.name(line.path()).to_string_lossy().into_owned();
            let Some(payload) = line.payload() else { return Ok(()) };
            output.json_with_payload(&Printed { schema: "untorn.record.v1", path: &path, seq: mark.seq, segment, offset, len }, payload)
        }
    }
}

/// What is no record, told as it is met: neighbours of one kind together, and the first few only.
pub(crate) struct PassedOver<'a> {
    source: &'a Source,
    met: Option<Damaged>,
    /// How many lines were met, and in how many places.
    lines: u64,
    places: u64,
}

/// Neighbouring lines that are damaged in the same way.
struct Damaged {
    path: PathBuf,
    line: Option<u64>,
    code: Code,
    lines: u64,
    /// Where they are in the file.
    range: Range<u64>,
}

impl PassedOver<'_> {
    pub(crate) fn new(source: &Source) -> PassedOver<'_> {
        PassedOver { source, met: None, lines: 0, places: 0 }
    }

    pub(crate) fn add(&mut self, line: &Line<'_>) {
        let mark = line.mark();
        let code = match line.verdict() {
            Verdict::Corrupt(code) => code,
            _ if mark.seq.is_some() => Code::OpenBatch,
            _ => Code::TornTail,
        };
        self.add_place(line.path(), line.number(), code, mark.start.offset..mark.end.offset);
    }

    fn add_place(&mut self, path: &Path, line: Option<u64>, code: Code, range: Range<u64>) {
        self.lines += 1;
        match &mut self.met {
            Some(met) if met.code == code && met.range.end == range.start && met.path == path => {
                met.range.end = range.end;
                met.lines += 1;
            }
            _ => {
                self.tell();
                self.met = Some(Damaged { path: path.to_owned(), line, code, lines: 1, range });
            }
        }
    }

    fn tell(&mut self) {
        let Some(met) = self.met.take() else { return };
        self.places += 1;
        if self.places > PLACES_MAX {
            return;
        }
        let message = match met.code {
            Code::OpenBatch => format!("{} of an unfinished batch withheld", text::count(met.lines, "record")),
            _ => format!("{} passed over", text::count(met.range.end - met.range.start, "byte")),
        };
        say::message(Head {
            path: self.source.name(&met.path),
            line: met.line.map(|line| (line, 1)),
            severity: met.code.severity(),
            code: met.code.as_str(),
            message: &message,
            offset: met.range.start,
        });
    }

    /// Adds what the reader met behind the last line, and says what there was in all.
    pub(crate) fn close(mut self, damage: &Damage) -> Exit {
        if damage.lines() > self.lines
            && let Some(place) = damage.places().last()
        {
            let start = place.position.offset;
            self.add_place(self.source.path(), None, place.code, start..start + place.len);
        }
        self.tell();
        if self.lines == 0 {
            return Exit::Done;
        }
        let name = self.source.name(self.source.path());
        if self.places > PLACES_MAX {
            let more = text::count(self.places - PLACES_MAX, "more place");
            say::message(format_args!("{}: {more}; {} passed over in all", Shown(name.display()), text::count(damage.bytes(), "byte")));
        }
        if let Source::Named(_) = self.source {
            say::hint(format_args!("`untorn verify {}` shows the damage", text::quoted(name)));
        }
        Exit::Damage
    }
}
