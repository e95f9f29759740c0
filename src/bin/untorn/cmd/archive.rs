//! `untorn archive`: old records leave the active segment.

use std::ffi::OsString;

use serde::Serialize;
use untorn::{Archived, Before};

use crate::{
    exit::{Exit, Stop, help},
    history::{self, Moved, Step},
    say,
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

/// What is printed beside what moved.
#[derive(Serialize)]
struct More {
    records: Option<u64>,
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
        let told = if args.dry_run { untorn::plan_archive(file, before)? } else { history::open(file)?.archive(before)? };
        let compressed = if args.zstd && !args.dry_run { untorn::compress_archived(file)? } else { Vec::new() };
        let moved = Moved::from(&told);
        let Archived { records, bytes_left, duplicate_bytes, .. } = told;
        let is_plan = args.dry_run && (moved.is_some() || duplicate_bytes > 0);
        if args.json {
            let compressed = compressed.into_iter().map(|done| CompressedSegment {
                path: done.path.to_string_lossy().into_owned(),
                segment: done.segment,
                bytes: done.bytes,
                bytes_before: done.bytes_before,
            });
            let more = More { records, bytes_left, duplicate_bytes, compressed: compressed.collect() };
            moved.print(output, "untorn.archive.v1", file, args.dry_run, more)?;
            return Ok(Step::plan(is_plan));
        }
        moved.tell(file, args.dry_run, "archived", "nothing before the bound");
        if duplicate_bytes > 0 {
            let did = if args.dry_run { "would be removed" } else { "removed" };
            say::lines(format_args!("  {did}: {} that an interrupted archive had left in two segments", count(duplicate_bytes, "byte")));
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
