//! What `rotate`, `archive` and `prune` have in common: one journal after the other, each whole before the next.

use std::{ffi::OsString, path::Path};

use crate::{
    exit::{Exit, Stop},
    interrupt,
    output::Output,
    target,
    text::grouped,
};

/// How one journal counts for the exit status.
pub(crate) struct Step;

impl Step {
    /// A plan with something to do is 1.
    pub(crate) fn plan(has_something_to_do: bool) -> Exit {
        if has_something_to_do { Exit::Damage } else { Exit::Done }
    }
}

/// Deals with each journal. One that fails does not stop the others; ^C waits for the one at hand.
pub(crate) fn each(files: &[OsString], mut step: impl FnMut(&Path, &mut Output) -> Result<Exit, Stop>) -> Result<Exit, Stop> {
    interrupt::end_between_steps();
    let mut output = Output::new();
    let mut exit = Exit::Done;
    for file in files {
        let path = Path::new(file);
        let done = interrupt::unbroken(|| target::check(path).and_then(|()| step(path, &mut output))).and_then(|exit| output.flush().map(|()| exit));
        let Some(worst) = exit.and(done) else { return Ok(exit) };
        exit = worst;
        if interrupt::is_requested() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

/// The numbers of the records that are spoken of, if they have some.
pub(crate) fn numbers(first: Option<u64>, last: Option<u64>) -> String {
    let range = first.zip(last).filter(|(first, last)| first <= last);
    range.map_or(String::new(), |(first, last)| format!(", #{} to #{}", grouped(first), grouped(last)))
}
