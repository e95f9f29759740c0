//! What `rotate`, `archive` and `prune` have in common: one journal after the other, each whole before the next; and what is said of records that
//! left the active segment.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Serialize;
use untorn::{Archived, Rotated, Writer};

use crate::{
    exit::{Exit, Stop},
    interrupt,
    output::Output,
    say::{self, good},
    target,
    text::{Shown, count, grouped},
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
        let done = interrupt::unbroken(|| {
            let exit = target::check(path).and_then(|()| step(path, &mut output))?;
            output.flush()?;
            Ok(exit)
        });
        let Some(worst) = exit.and(done) else { return Ok(exit) };
        exit = worst;
        if interrupt::is_requested() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

/// Opens a journal that is there. What that did to its tail is told, whatever comes of the rest.
pub(crate) fn open(file: &Path) -> untorn::Result<Writer> {
    let writer = Writer::options().existing_only().open(file)?;
    let repair = writer.tail_repair();
    if !repair.is_clean() {
        say::message(format_args!("{}: {repair}", Shown(file.display())));
    }
    Ok(writer)
}

/// Records that left the active segment, or would.
pub(crate) struct Moved {
    archived: Option<PathBuf>,
    segment: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    bytes: u64,
}

impl From<&Rotated> for Moved {
    fn from(rotated: &Rotated) -> Moved {
        let Rotated { archived, segment, first_seq, last_seq, bytes, .. } = rotated.clone();
        Moved { archived, segment, first_seq, last_seq, bytes }
    }
}

impl From<&Archived> for Moved {
    fn from(moved: &Archived) -> Moved {
        let Archived { archived, segment, first_seq, last_seq, bytes, .. } = moved.clone();
        Moved { archived, segment, first_seq, last_seq, bytes }
    }
}

/// What is printed of them; a command has more to say.
#[derive(Serialize)]
struct Told<'a, More> {
    schema: &'static str,
    path: &'a str,
    dry_run: bool,
    archived: Option<String>,
    segment: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    bytes: u64,
    #[serde(flatten)]
    more: More,
}

impl Moved {
    pub(crate) fn is_some(&self) -> bool {
        self.archived.is_some()
    }

    pub(crate) fn print(&self, output: &mut Output, schema: &'static str, file: &Path, dry_run: bool, more: impl Serialize) -> Result<(), Stop> {
        let Moved { ref archived, segment, first_seq, last_seq, bytes } = *self;
        let archived = archived.as_ref().map(|archived| archived.to_string_lossy().into_owned());
        output.json(&Told { schema, path: &file.to_string_lossy(), dry_run, archived, segment, first_seq, last_seq, bytes, more })
    }

    /// Says that they were `done`, which is "rotated" or the like, or why there is `nothing` to do.
    pub(crate) fn tell(&self, file: &Path, dry_run: bool, done: &str, nothing: &str) {
        let path = Shown(file.display());
        let Some(archived) = &self.archived else {
            return say::lines(format_args!("{path}: {nothing}, nothing to do"));
        };
        let what = if dry_run { format!("would be {done}") } else { good(done) };
        let (bytes, numbers) = (count(self.bytes, "byte"), numbers(self.first_seq, self.last_seq));
        say::lines(format_args!("{path}: {what}, {bytes}{numbers}, into {}", Shown(archived.display())));
    }
}

/// The numbers of the records that are spoken of, if they have some.
pub(crate) fn numbers(first: Option<u64>, last: Option<u64>) -> String {
    let range = first.zip(last).filter(|(first, last)| first <= last);
    range.map_or(String::new(), |(first, last)| format!(", #{} to #{}", grouped(first), grouped(last)))
}
