//! How the command ends: its exit status, and what stops it before it is through.

use std::{io, process::ExitCode};

use clap::builder::StyledStr;

use crate::say;

/// The exit status. Over many files the highest wins, so the order matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    #[default]
    Done = 0,
    Damage = 1,
    Failed = 2,
    Interrupted = 130,
}

impl Exit {
    /// Takes the outcome of one more step. A stop is told here, and only here.
    ///
    /// `None` if nobody is left to read what would come next.
    pub(crate) fn and(self, outcome: Result<Exit, Stop>) -> Option<Exit> {
        match outcome {
            Ok(exit) => Some(self.max(exit)),
            Err(Stop::Unread) => None,
            Err(Stop::Told) => Some(self.max(Exit::Failed)),
            Err(Stop::Failed(failure)) => {
                say::failure(&failure);
                Some(self.max(Exit::Failed))
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ends before it is through.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read our output has gone, which is no failure.
    Unread,
    Failed(Failure),
    /// It failed, and has said so.
    Told,
}

/// What could not be done.
#[derive(Debug)]
pub(crate) enum Failure {
    Journal(untorn::Error),
    /// What was tried beside the journal, in words that follow "cannot".
    System(String, io::Error),
}

impl Stop {
    pub(crate) fn system(attempt: impl Into<String>, cause: io::Error) -> Stop {
        Stop::Failed(Failure::System(attempt.into(), cause))
    }
}

impl From<untorn::Error> for Stop {
    fn from(error: untorn::Error) -> Stop {
        Stop::Failed(Failure::Journal(error))
    }
}

/// The last section of every `--help`.
pub(crate) fn help() -> StyledStr {
    let title = say::TITLE;
    let text = format!(
        "{title}Exit status:{title:#}
  0    clean, or done
  1    damage found or left, or a refused line of input
  2    could not do it: usage, I/O, locked
  130  interrupted"
    );
    text.into()
}
