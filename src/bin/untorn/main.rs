//! The `untorn` command: feeds, reads, verifies and repairs journals from a shell.
//!
//! Records go to stdout, every word to stderr. What the command does is in [`cmd`], one file per command; what it says is in [`say`], [`finding`]
//! and [`picture`]; how it ends is in [`exit`].

mod args;
mod cmd;
mod compressed;
mod exit;
mod finding;
mod history;
mod input;
mod interrupt;
mod journals;
mod new_file;
mod output;
mod picture;
mod progress;
mod records;
mod repairs;
mod say;
mod sizes;
mod source;
mod summary;
mod target;
mod text;
mod times;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = args::parse();
    cmd::run(&command).into()
}
