//! The commands, one file each.

pub(crate) mod append;
pub(crate) mod cat;
pub(crate) mod repair;
pub(crate) mod tail;
pub(crate) mod verify;

use crate::{args::Command, exit::Exit};

pub(crate) fn run(command: &Command) -> Exit {
    let outcome = match command {
        Command::Append(args) => append::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Verify(args) => verify::run(args),
    };
    Exit::Done.and(outcome).unwrap_or_default()
}
