//! `untorn prune`: old archived segments are deleted.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use serde::Serialize;
use untorn::{Consumers, Keep, PrunedSegment};

use crate::{
    args,
    exit::{Exit, Stop, help},
    history::{self, Step},
    say::{self, good},
    text::{Shown, count},
};

/// Delete old archived segments
///
/// Only whole archived segments are deleted, the oldest first, and never the newest of them. What any rule keeps stays, and so does what a consumer has
/// not acknowledged.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
#[command(group(clap::ArgGroup::new("rule").required(true).multiple(true).args(["keep_records", "keep_bytes", "keep_age", "keep_from_seq"])))]
#[command(group(clap::ArgGroup::new("consumers").required(true).args(["checkpoints", "no_consumers"])))]
pub(crate) struct Args {
    /// The journals
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Keep at least the last so many records
    #[arg(long, value_name = "N")]
    keep_records: Option<u64>,

    /// Keep at least the last so many bytes
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<u64>,

    /// Keep what was written so recently, such as `7d`
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    keep_age: Option<Duration>,

    /// Keep the records from this number on
    #[arg(long, value_name = "N")]
    keep_from_seq: Option<u64>,

    /// Keep what the consumers whose checkpoints are in this directory have not acknowledged
    #[arg(long, value_name = "DIR")]
    checkpoints: Vec<PathBuf>,

    /// There are no consumers
    #[arg(long)]
    no_consumers: bool,

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
    segments: Vec<Segment>,
    records: Option<u64>,
    bytes: u64,
    first_seq: Option<u64>,
    held_by: Option<String>,
}

#[derive(Serialize)]
struct Segment {
    path: String,
    segment: u64,
    bytes: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let consumers = if args.no_consumers { Consumers::None } else { Consumers::In(args.checkpoints.clone()) };
    let mut keep = Keep::new(consumers);
    keep = args.keep_records.into_iter().fold(keep, Keep::records);
    keep = args.keep_bytes.into_iter().fold(keep, Keep::bytes);
    keep = args.keep_age.into_iter().fold(keep, Keep::age);
    keep = args.keep_from_seq.into_iter().fold(keep, Keep::since);
    let keep = if args.dry_run { keep.dry_run() } else { keep };
    history::each(&args.files, |file, output| {
        let pruned = if args.dry_run { untorn::prune(file, &keep)? } else { history::open(file)?.prune(&keep)? };
        let is_plan = args.dry_run && !pruned.segments.is_empty();
        if args.json {
            let told = |done: &PrunedSegment| {
                let PrunedSegment { path, segment, bytes, first_seq, last_seq, .. } = done;
                Segment { path: path.to_string_lossy().into_owned(), segment: *segment, bytes: *bytes, first_seq: *first_seq, last_seq: *last_seq }
            };
            output.json(&Told {
                schema: "untorn.prune.v1",
                path: &file.to_string_lossy(),
                dry_run: args.dry_run,
                segments: pruned.segments.iter().map(told).collect(),
                records: pruned.records,
                bytes: pruned.bytes,
                first_seq: pruned.first_seq,
                held_by: pruned.held_by,
            })?;
            return Ok(Step::plan(is_plan));
        }
        let path = Shown(file.display());
        if pruned.segments.is_empty() {
            say::lines(format_args!("{path}: nothing to delete"));
        } else {
            let what = if args.dry_run { "would be pruned".to_owned() } else { good("pruned") };
            let segments = count(pruned.segments.len() as u64, "segment");
            say::lines(format_args!("{path}: {what}, {segments}, {}", count(pruned.bytes, "byte")));
        }
        for done in &pruned.segments {
            let numbers = history::numbers(done.first_seq, done.last_seq);
            say::lines(format_args!("  {}  {}{numbers}", Shown(done.path.display()), count(done.bytes, "byte")));
        }
        if let Some(consumer) = &pruned.held_by {
            say::lines(format_args!("  the rest is kept for `{}`", Shown(consumer)));
        }
        Ok(Step::plan(is_plan))
    })
}
