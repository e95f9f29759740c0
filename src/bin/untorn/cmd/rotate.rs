//! `untorn rotate`: the active segment becomes an archived one.

use std::ffi::OsString;

use untorn::Before;

use crate::{
    exit::{Exit, Stop, help},
    history::{self, Moved, Step},
    say,
    text::Shown,
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

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    history::each(&args.files, |file, output| {
        let moved = if args.dry_run {
            Moved::from(&untorn::plan_archive(file, Before::Last(0))?)
        } else {
            let rotated = history::open(file)?.rotate()?;
            for stranger in &rotated.strangers {
                say::message(format_args!("{}: {stranger} goes on writing into the archived segment", Shown(file.display())));
            }
            Moved::from(&rotated)
        };
        if args.json {
            moved.print(output, "untorn.rotate.v1", file, args.dry_run, None::<()>)?;
        } else {
            moved.tell(file, args.dry_run, "rotated", "the active segment has no record");
        }
        Ok(Step::plan(args.dry_run && moved.is_some()))
    })
}
