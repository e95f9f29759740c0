//! The `untorn` command: feeds, reads, verifies and repairs journals from a shell.
//!
//! Records go to stdout, every word to stderr. What the command does is in [`cmd`], one file per command; what it says is in [`say`], [`finding`]
//! and [`picture`]; how it ends is in [`exit`].

mod args;
mod child;
mod cmd;
mod compressed;
mod exit;
mod finding;
mod following;
mod history;
mod input;
mod interrupt;
mod journals;
mod lag;
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
mod terminal;
mod text;
mod times;
/// The numbers in messages are written as those of the library.
#[path = "../../words.rs"]
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::parse().map_or_else(|exit| exit, |command| cmd::run(&command)).into()
}
