//! `untorn cat`: the records of journals, as they were appended.

use std::ffi::OsString;

use untorn::{Reader, Start};

use crate::{
    exit::{Exit, Stop, help},
    records::{self, Form},
};

/// Print records as they were appended
///
/// Damage is told on stderr and passed over, and archived segments come first.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Print lines as they are on disk, seals included
    #[arg(long, conflicts_with = "json")]
    sealed: bool,

    /// Start with record number N
    #[arg(long, value_name = "N", conflicts_with = "last")]
    from_seq: Option<u64>,

    /// Print the last N records only
    #[arg(long, value_name = "N")]
    last: Option<u64>,

    /// Leave archived segments out
    #[arg(long)]
    active_only: bool,

    /// Print each record with its number and place, as one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let start = match (args.from_seq, args.last) {
        (Some(seq), _) => Start::Seq(seq),
        (None, Some(records)) => Start::Last(records),
        (None, None) => Start::Beginning,
    };
    let mut options = Reader::options();
    options.from(start);
    if args.active_only {
        options.active_only();
    }
    let form = match (args.sealed, args.json) {
        (true, _) => Form::Line,
        (false, true) => Form::Json,
        (false, false) => Form::Payload,
    };
    records::print(&args.files, &options, form)
}
