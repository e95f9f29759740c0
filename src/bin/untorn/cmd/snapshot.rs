//! `untorn snapshot`: what a snapshot says of itself.

use std::path::{Path, PathBuf};

use serde::Serialize;
use untorn::{ErrorKind, SnapshotInfo};

use crate::{
    exit::{Exit, Stop, help},
    output::Output,
    say::{self, STRONG, styled},
    text::{self, Shown, grouped},
};

/// Show what a snapshot covers
#[derive(Debug, clap::Args)]
#[command(after_help = help(), subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Show),
}

/// Show what a snapshot and the one before it cover
///
/// The state is checked, and not shown: it is the second line of the file.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
struct Show {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print one JSON object for each generation
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let Command::Show(args) = &args.command;
    let mut output = Output::new();
    let mut previous = args.file.clone().into_os_string();
    previous.push(".previous");
    let mut exit = Exit::Done;
    let mut shown = false;
    for (path, is_previous) in [(args.file.as_path(), false), (Path::new(&previous), true)] {
        match untorn::inspect_snapshot(path) {
            Ok(info) => {
                shown = true;
                if args.json {
                    output.json(&Told::of(&info, is_previous))?;
                } else {
                    tell(&info);
                }
            }
            // A first snapshot has none before it. Of a snapshot that is not there, the one before it may still be.
            Err(error) if is_previous && error.raw_os_error() == Some(ENOENT) => {}
            Err(error) => {
                say::error(&error);
                exit = exit.max(if error.kind() == ErrorKind::Corrupt { Exit::Damage } else { Exit::Failed });
            }
        }
    }
    if exit != Exit::Done && shown {
        say::message("restoring uses the snapshot that is shown");
    }
    output.flush()?;
    Ok(exit)
}

/// No such file.
const ENOENT: i32 = 2;

fn tell(info: &SnapshotInfo) {
    let path = styled(STRONG, Shown(info.path.display()));
    let (saves, bytes) = (grouped(info.generation), text::size(info.bytes));
    say::lines(format_args!("{path}: {bytes} of state, saved {} (generation {saves})", Shown(&info.saved_at)));
    let mark = info.through;
    let through = match mark.seq {
        Some(seq) => format!("#{}", grouped(seq)),
        None => format!("the line at byte {} of segment {}", grouped(mark.start.offset), grouped(mark.start.segment)),
    };
    say::lines(format_args!("  covers  {through} of {}", Shown(info.journal.display())));
}

/// What is printed of one generation.
#[derive(Serialize)]
struct Told {
    schema: &'static str,
    path: String,
    previous: bool,
    generation: u64,
    saved_at: String,
    bytes: u64,
    seq: Option<u64>,
    crc: String,
    segment: u64,
    offset: u64,
    journal: String,
}

impl Told {
    fn of(info: &SnapshotInfo, previous: bool) -> Told {
        Told {
            schema: "untorn.snapshot.v1",
            path: info.path.to_string_lossy().into_owned(),
            previous,
            generation: info.generation,
            saved_at: info.saved_at.clone(),
            bytes: info.bytes,
            seq: info.through.seq,
            crc: format!("{:08x}", info.through.crc),
            segment: info.through.end.segment,
            offset: info.through.end.offset,
            journal: info.journal.to_string_lossy().into_owned(),
        }
    }
}
