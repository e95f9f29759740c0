//! The records of journals on stdout, and what had to be passed over on stderr: what `cat` and `tail` have in common.

use std::{ffi::OsString, path::Path};

use serde::Serialize;
use untorn::{Code, Line, ReadOptions, Verdict};

use crate::{
    exit::{Exit, Stop},
    finding, interrupt,
    output::Output,
    say,
    source::Source,
    text::{self, Shown},
};

/// How many findings are told of one journal; of the others, how many there are.
const FINDINGS_MAX: u64 = 10;

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
struct Head<'a> {
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
    Ok(passed_over.close())
}

fn print_record(source: &Source, line: &mut Line<'_>, form: Form, output: &mut Output) -> Result<(), Stop> {
    if form == Form::Line {
        return output.line(line.bytes());
    }
    let mark = line.mark();
    let path = source.name(line.path()).to_string_lossy().into_owned();
    let Some(payload) = line.payload() else { return Ok(()) };
    match form {
        Form::Json => {
            let len = mark.end.offset - mark.start.offset;
            let (segment, offset) = (mark.start.segment, mark.start.offset);
            output.json_with_payload(&Head { schema: "untorn.record.v1", path: &path, seq: mark.seq, segment, offset, len }, payload)
        }
        Form::Payload | Form::Line => output.line(payload),
    }
}
