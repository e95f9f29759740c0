//! `untorn rotate`: the active segment becomes an archived one.

use std::ffi::OsString;

use serde::Serialize;
use untorn::Before;

use crate::{
    exit::{Exit, Stop, help},
    history::{self, Step},
    say::{self, good},
    text::{Shown, count},
};

/// Make the active segment an archived one
///
/// FILE becomes FILE's next archived segment, and an empty file takes its place. Numbers go on, and so do writers in other processes. A journal whose
/// active segment has no record is left as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Change nothing, and say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object for each file
    #[arg(long)]
    json: bool,
}

/// What is printed of one journal.
#[derive(Serialize)]
struct Told<'a> {
    schema: &'static str,
    path: &'a str,
    dry_run: bool,
    archived: Option<String>,
    segment: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    history::each(&args.files, |file, output| {
        let (archived, segment, first_seq, last_seq, bytes) = if args.dry_run {
            let planned = untorn::plan_archive(file, Before::Last(0))?;
            (planned.archived, planned.segment, planned.first_seq, planned.last_seq, planned.bytes)
        } else {
            let rotated = untorn::rotate(file)?;
            for stranger in &rotated.strangers {
                say::message(format_args!("{}: {stranger} goes on writing into the archived segment", Shown(file.display())));
            }
            (rotated.archived, rotated.segment, rotated.first_seq, rotated.last_seq, rotated.bytes)
        };
        if args.json {
            let path = &*file.to_string_lossy();
            let archived = archived.map(|archived| archived.to_string_lossy().into_owned());
            let told = Told { schema: "untorn.rotate.v1", path, dry_run: args.dry_run, archived, segment, first_seq, last_seq, bytes };
            output.json(&told)?;
            return Ok(Step::plan(args.dry_run && told.archived.is_some()));
        }
        let path = Shown(file.display());
        let Some(archived) = archived else {
            say::lines(format_args!("{path}: the active segment has no record, nothing to do"));
            return Ok(Exit::Done);
        };
        let what = if args.dry_run { "would be rotated".to_owned() } else { good("rotated") };
        let into = Shown(archived.display());
        say::lines(format_args!("{path}: {what}, {}{}, into {into}", count(bytes, "byte"), history::numbers(first_seq, last_seq)));
        Ok(Step::plan(args.dry_run))
    })
}
