//! `untorn tail`: the last records of journals, and those that come.

use std::{ffi::OsString, io};

use untorn::{Reader, Start};

use crate::{
    exit::{Exit, Stop, help},
    following,
    records::{self, Form},
};

/// Print the last records, and follow what comes
///
/// They are found from the end, so it takes no longer on a long journal. With `-f` each
/// record is printed once it is whole, across rotation, repair and truncation, until ^C.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    records: u64,

    /// Go on with what is appended
    #[arg(short, long)]
    follow: bool,

    /// Print each record with its number and place, as one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let form = if args.json { Form::Json } else { Form::Payload };
    if args.follow {
        if args.files.iter().any(|file| file == "-") {
            return Err(Stop::system("follow stdin", io::ErrorKind::Unsupported.into()));
        }
        return following::follow(args.files.iter().map(Into::into).collect(), args.records, form);
    }
    let mut options = Reader::options();
    options.from(Start::Last(args.records));
    records::print(&args.files, &options, form)
}
