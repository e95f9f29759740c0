//! `untorn archive`: old records leave the active segment.

use std::ffi::OsString;

use serde::Serialize;
use untorn::{Archived, Before};

use crate::{
    exit::{Exit, Stop, help},
    history::{self, Step},
    say::{self, good},
    text::{Shown, count, grouped},
};

/// Move old records from the active segment into an archived one
///
/// The bound itself stays, and so does what is appended meanwhile. What is in archived segments already stays there. Trying again after a crash leads
/// to the same end.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
#[command(group(clap::ArgGroup::new("bound").required(true).args(["before_seq", "keep_last"])))]
pub(crate) struct Args {
    /// The journals
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Move the records before the one of this number
    #[arg(long, value_name = "N")]
    before_seq: Option<u64>,

    /// Move all but the last so many records
    #[arg(long, value_name = "N")]
    keep_last: Option<u64>,

    /// Compress the archived segments that are not compressed yet
    #[arg(long)]
    zstd: bool,

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
    records: Option<u64>,
    bytes: u64,
    bytes_left: u64,
    duplicate_bytes: u64,
    compressed: Vec<CompressedSegment>,
}

#[derive(Serialize)]
struct CompressedSegment {
    path: String,
    segment: u64,
    bytes: u64,
    bytes_before: u64,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let before = args.before_seq.map_or(Before::Last(args.keep_last.unwrap_or(u64::MAX)), Before::Seq);
    history::each(&args.files, |file, output| {
        let told = if args.dry_run { untorn::plan_archive(file, before)? } else { untorn::archive(file, before)? };
        let compressed = if args.zstd && !args.dry_run { untorn::compress_archived(file)? } else { Vec::new() };
        let path = Shown(file.display());
        let is_plan = args.dry_run && (told.archived.is_some() || told.duplicate_bytes > 0);
        if args.json {
            let Archived { archived, segment, first_seq, last_seq, records, bytes, bytes_left, duplicate_bytes, .. } = told;
            let archived = archived.map(|archived| archived.to_string_lossy().into_owned());
            let compressed = compressed.into_iter().map(|done| CompressedSegment {
                path: done.path.to_string_lossy().into_owned(),
                segment: done.segment,
                bytes: done.bytes,
                bytes_before: done.bytes_before,
            });
            output.json(&Told {
                schema: "untorn.archive.v1",
                path: &file.to_string_lossy(),
                dry_run: args.dry_run,
                archived,
                segment,
                first_seq,
                last_seq,
                records,
                bytes,
                bytes_left,
                duplicate_bytes,
                compressed: compressed.collect(),
            })?;
            return Ok(Step::plan(is_plan));
        }
        match &told.archived {
            Some(archived) => {
                let what = if args.dry_run { "would be archived".to_owned() } else { good("archived") };
                let numbers = history::numbers(told.first_seq, told.last_seq);
                say::lines(format_args!("{path}: {what}, {}{numbers}, into {}", count(told.bytes, "byte"), Shown(archived.display())));
            }
            None => say::lines(format_args!("{path}: nothing before the bound, nothing to do")),
        }
        if told.duplicate_bytes > 0 {
            let did = if args.dry_run { "would be removed" } else { "removed" };
            say::lines(format_args!("  {did}: {} that an interrupted archive had left in two segments", count(told.duplicate_bytes, "byte")));
        }
        for done in compressed {
            say::lines(format_args!(
                "  compressed: {}, {}, {} before",
                Shown(done.path.display()),
                count(done.bytes, "byte"),
                grouped(done.bytes_before)
            ));
        }
        Ok(Step::plan(is_plan))
    })
}
