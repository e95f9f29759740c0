//! The journals of a directory: found by the ends of their names, new ones as they appear.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    error::{Attempt, Error, Result},
    format::name,
    sys::{
        Disk,
        names::{Listing, Names},
    },
};

/// Listing takes no more than this part of the time.
const SHARE: u32 = 100;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    suffixes: Vec<String>,
    /// When it is listed next.
    due: Instant,
    names: Names,
    /// How it was listed last.
    listing: Option<Listing>,
    /// What failed last.
    failed: Option<String>,
}

impl Directory {
    pub(super) fn new(path: PathBuf, suffixes: Vec<String>) -> Directory {
        Directory { path, suffixes, due: Instant::now(), names: Names::default(), listing: None, failed: None }
    }

    /// The journals that are there, if it is time to look and something has changed.
    pub(super) fn journals(&mut self, disk: &Disk, every: Duration) -> Result<Vec<PathBuf>> {
        let started = Instant::now();
        if started < self.due {
            return Ok(Vec::new());
        }
        let journals = match self.list(disk) {
            Ok(journals) => {
                self.failed = None;
                journals
            }
            Err(error) => {
                self.due = Instant::now() + every;
                // What goes on failing is told once.
                let is_news = self.failed.replace(error.to_string()) != Some(error.to_string());
                return if is_news { Err(Error::io(Attempt::List, &self.path, error)) } else { Ok(Vec::new()) };
            }
        };
        // Listing a simulated disk costs nothing, and what happens there is to be the same each time.
        let rest = if disk.is_real() { started.elapsed() * SHARE } else { Duration::ZERO };
        self.due = Instant::now() + every.max(rest);
        Ok(journals)
    }

    /// The journals that are there now, if something has changed.
    pub(super) fn list(&mut self, disk: &Disk) -> io::Result<Vec<PathBuf>> {
        let listing = match disk.open_dir(&self.path).and_then(|dir| self.names.list(&dir)) {
            // It may be created later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        if self.listing.as_ref().is_some_and(|before| before.is_same(&listing)) {
            return Ok(Vec::new());
        }
        let journals: BTreeSet<OsString> = listing.iter().filter(|name| self.has_suffix(name)).map(|name| journal_of(name)).collect();
        self.listing = Some(listing);
        Ok(journals.into_iter().map(|name| self.path.join(name)).collect())
    }

    fn has_suffix(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        !name.starts_with(b".") && self.suffixes.iter().any(|suffix| name.ends_with(suffix.as_bytes()))
    }
}

/// The journal that a file belongs to: of an archived segment the active one's name, else its own.
fn journal_of(found: &OsStr) -> OsString {
    let mut parts: Vec<&[u8]> = found.as_encoded_bytes().split(|byte| *byte == b'.').collect();
    if let Some(at) = parts.len().checked_sub(2).filter(|at| *at > 0) {
        parts.remove(at);
        let journal = str::from_utf8(&parts.join(&b'.')).map(OsString::from);
        if let Ok(journal) = journal
            && name::parse_archived(&journal, found).is_some()
        {
            return journal;
        }
    }
    found.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_belongs_to_its_journal() {
        for (found, journal) in [
            ("a.jsonl", "a.jsonl"),
            ("a.000001.jsonl", "a.jsonl"),
            ("a.b.000012.jsonl", "a.b.jsonl"),
            ("a.1.jsonl", "a.1.jsonl"),
            (".jsonl", ".jsonl"),
        ] {
            assert_eq!(journal_of(OsStr::new(found)), journal);
        }
    }
}
