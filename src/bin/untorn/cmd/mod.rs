//! The commands, one file each.

pub(crate) mod append;
pub(crate) mod archive;
pub(crate) mod cat;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod consume;
pub(crate) mod prune;
pub(crate) mod repair;
pub(crate) mod rotate;
pub(crate) mod seal;
pub(crate) mod snapshot;
pub(crate) mod stat;
pub(crate) mod tail;
pub(crate) mod verify;

use crate::{args::Command, exit::Exit};

pub(crate) fn run(command: &Command) -> Exit {
    let outcome = match command {
        Command::Append(args) => append::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Checkpoint(args) => checkpoint::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Rotate(args) => rotate::run(args),
        Command::Archive(args) => archive::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Seal(args) => seal::seal(args),
        Command::Unseal(args) => seal::unseal(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
        Command::Tail(args) => tail::run(args),
        Command::Verify(args) => verify::run(args),
    };
    Exit::Done.and(outcome).unwrap_or_default()
}
