//! The records of journals on stdout, and what had to be passed over on stderr: what `cat` and `tail` have in common, and the walk of `seal` too.

use std::{
    ffi::OsString,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::IgnoredAny};
use untorn::{Code, Damage, ErrorKind, Line, Mark, ReadOptions, Reader, Verdict};

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

/// What is told with each record.
#[derive(Serialize)]
pub(crate) struct Printed<'a> {
    schema: &'static str,
    path: &'a str,
    seq: Option<u64>,
    segment: u64,
    offset: u64,
    len: u64,
}

impl Printed<'_> {
    pub(crate) fn of<'a>(path: &'a str, mark: &Mark) -> Printed<'a> {
        let (segment, offset) = (mark.start.segment, mark.start.offset);
        Printed { schema: "untorn.record.v1", path, seq: mark.seq, segment, offset, len: mark.end.offset - offset }
    }
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
    let reader = options.open(source.path()).map_err(|error| explained(error, source.path()))?;
    let mut records = Records::new(&source, reader, form != Form::Line);
    source.opened();
    while let Some(step) = records.next(&mut || output.flush())? {
        if let Step::Record(mut line) = step {
            print_record(&source, &mut line, form, output)?;
        }
    }
    output.flush()?;
    Ok(records.finish()?.exit)
}

fn explained(error: untorn::Error, path: &Path) -> Stop {
    if error.kind() == ErrorKind::NotAFile && path.is_dir() {
        say::error(&error);
        say::hint(format_args!("name the journals in it; `untorn verify -r {}` finds them", text::quoted(path)));
        return Stop::Told;
    }
    error.into()
}

/// A walk over the records of one journal, which tells what it passes over.
pub(crate) struct Records<'a> {
    reader: Reader,
    passed_over: PassedOver<'a>,
    /// Whether sealed payloads are parsed as well.
    parses: bool,
    ends_torn: bool,
}

/// What a walk has met.
pub(crate) enum Step<'a> {
    Record(Line<'a>),
    /// Damage, which has been told or will be.
    Damage,
    /// Nothing of either kind.
    Nothing,
}

/// What a walk comes to.
pub(crate) struct Walked {
    pub(crate) exit: Exit,
    /// Bytes of damage, passed over.
    pub(crate) damaged_bytes: u64,
}

impl Records<'_> {
    pub(crate) fn new(source: &Source, reader: Reader, parses: bool) -> Records<'_> {
        Records { reader, passed_over: PassedOver::new(source), parses, ends_torn: false }
    }

    /// The next line. `before` is done before anything is said, so that what was printed is out by then.
    pub(crate) fn next(&mut self, before: &mut dyn FnMut() -> Result<(), Stop>) -> Result<Option<Step<'_>>, Stop> {
        let Some(mut line) = self.reader.next_line()? else { return Ok(None) };
        self.ends_torn = line.verdict() == Verdict::Torn;
        Ok(Some(match line.verdict() {
            Verdict::Sealed if self.parses && !line.payload().is_some_and(is_json) => {
                before()?;
                self.passed_over.add_no_json(&line);
                Step::Damage
            }
            Verdict::Sealed | Verdict::Plain => Step::Record(line),
            Verdict::Torn | Verdict::Corrupt(_) => {
                before()?;
                self.passed_over.add(&line);
                Step::Damage
            }
            _ => Step::Nothing,
        }))
    }

    /// Says what there was in all, once the last line has been met. What somebody is still writing there is no damage.
    pub(crate) fn finish(mut self) -> Result<Walked, Stop> {
        if self.ends_torn && self.reader.is_live()? {
            self.passed_over.leave_to_its_writer();
        }
        let exit = self.passed_over.close(self.reader.damage());
        let damaged_bytes = if exit == Exit::Done { 0 } else { self.reader.damage().bytes() };
        Ok(Walked { exit, damaged_bytes })
    }
}

/// A good CRC says that a payload is as it was sealed, not that whoever sealed it was honest: unparsed, it could end the object around it.
pub(crate) fn is_json(payload: &[u8]) -> bool {
    str::from_utf8(payload).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn print_record(source: &Source, line: &mut Line<'_>, form: Form, output: &mut Output) -> Result<(), Stop> {
    match form {
        Form::Line => output.line(line.bytes()),
        Form::Payload => line.payload().map_or(Ok(()), |payload| output.line(payload)),
        Form::Json => {
            let mark = line.mark();
            let path = source.name(line.path()).to_string_lossy().into_owned();
            let Some(payload) = line.payload() else { return Ok(()) };
            output.json_with_payload(&Printed::of(&path, &mark), payload)
        }
    }
}

/// What is no record, told as it is met: neighbours of one kind together, and the first few only.
struct PassedOver<'a> {
    source: &'a Source,
    /// Kinds that touch one another; all but the first are torn, so that the end of a journal is in here as a whole.
    met: Vec<Damaged>,
    /// How many lines were met that the reader counts as damage.
    lines: u64,
    /// In how many places there was something, and how many bytes in all.
    places: u64,
    bytes: u64,
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

impl Damaged {
    fn touches(&self, next: &Damaged) -> bool {
        self.range.end == next.range.start && self.path == next.path
    }

    fn is_torn(&self) -> bool {
        matches!(self.code, Code::OpenBatch | Code::TornTail)
    }
}

impl PassedOver<'_> {
    fn new(source: &Source) -> PassedOver<'_> {
        PassedOver { source, met: Vec::new(), lines: 0, places: 0, bytes: 0 }
    }

    fn add(&mut self, line: &Line<'_>) {
        let mark = line.mark();
        let code = match line.verdict() {
            Verdict::Corrupt(code) => code,
            _ if mark.seq.is_some() => Code::OpenBatch,
            _ => Code::TornTail,
        };
        self.lines += 1;
        self.add_place(line.path(), line.number(), code, mark.start.offset..mark.end.offset);
    }

    /// Adds a record whose payload is no JSON, which the reader leaves to whoever decodes it.
    fn add_no_json(&mut self, line: &Line<'_>) {
        let mark = line.mark();
        self.add_place(line.path(), line.number(), Code::NotJson, mark.start.offset..mark.end.offset);
    }

    fn add_place(&mut self, path: &Path, line: Option<u64>, code: Code, range: Range<u64>) {
        let next = Damaged { path: path.to_owned(), line, code, lines: 1, range };
        match self.met.last_mut() {
            Some(met) if met.touches(&next) && met.code == code => {
                met.range.end = next.range.end;
                met.lines += 1;
            }
            Some(met) if met.touches(&next) && next.is_torn() => self.met.push(next),
            _ => {
                self.tell();
                self.met = vec![next];
            }
        }
    }

    /// Forgets the torn lines met last: somebody is still writing them.
    fn leave_to_its_writer(&mut self) {
        while self.met.pop_if(|met| met.is_torn()).is_some() {}
    }

    fn tell(&mut self) {
        for met in std::mem::take(&mut self.met) {
            self.tell_one(&met);
        }
    }

    fn tell_one(&mut self, met: &Damaged) {
        self.places += 1;
        self.bytes += met.range.end - met.range.start;
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
    fn close(mut self, damage: &Damage) -> Exit {
        if damage.lines() > self.lines
            && let Some(place) = damage.places().last()
        {
            let start = place.position.offset;
            self.add_place(self.source.path(), None, place.code, start..start + place.len);
        }
        self.tell();
        if self.places == 0 {
            return Exit::Done;
        }
        let name = self.source.name(self.source.path());
        if self.places > PLACES_MAX {
            let more = text::count(self.places - PLACES_MAX, "more place");
            say::message(format_args!("{}: {more}; {} passed over in all", Shown(name.display()), text::count(self.bytes, "byte")));
        }
        if let Source::Named(_) = self.source {
            say::hint(format_args!("`untorn verify {}` shows the damage", text::quoted(name)));
        }
        Exit::Damage
    }
}
