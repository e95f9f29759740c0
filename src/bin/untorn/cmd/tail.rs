//! `untorn tail`: the last records of journals.

use std::ffi::OsString;

use untorn::{Reader, Start};

use crate::{
    exit::{Exit, Stop, help},
    records::{self, Form},
};

/// Print the last records
///
/// They are found from the end, so it takes no longer on a long journal.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    records: u64,

    /// Print each record with its number and place, as one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let mut options = Reader::options();
    options.from(Start::Last(args.records));
    records::print(&args.files, &options, if args.json { Form::Json } else { Form::Payload })
}
