//! The way back after a failure that left the writer unable to promise anything.
//!
//! After a failed sync the kernel may have marked pages clean that it never wrote: a second sync would say yes, and reading would show the cached
//! bytes. So the bytes since the last good sync are read, each line is proved by its seal, and the same bytes are written to the same place
//! again, which makes their pages dirty, and synced. A plain line proves nothing, so a plain journal stays poisoned.
//!
//! That sync is no proof yet: where the first one had failed, ext4 writes the bytes and still takes the block for one that was never written. So
//! the cache is forgotten and each line is proved once more by what the disk gives back.
//!
//! A crash at any step leaves the same bytes in the same places, durable or not.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::{Form, Writer};
use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::{LF, name::ArchivedName},
    judge::Found,
    scan::{self, Scanner, Span},
    segment::Segments,
    sys::{File, uninterrupted},
};

/// Why the writer refuses to append.
#[derive(Clone, Debug)]
pub(super) enum Poison {
    /// A piece of a failed append could be neither cut nor fenced off.
    Fragment(Error),
    /// A sync failed.
    Sync(Error),
}

/// What this writer wrote since its last good sync: where, and how the last line of each range is sealed.
#[derive(Debug, Default)]
pub(super) struct Unproved {
    /// In order. Ranges that touch are one.
    ranges: Vec<(Range<u64>, u32)>,
    /// There were more than can be remembered.
    too_many: bool,
}

/// More ranges than this are not remembered. There is a new one when others have appended in between.
const RANGES_MAX: usize = 1 << 16;

impl Unproved {
    pub(super) fn add(&mut self, range: Range<u64>, crc: u32) {
        let is_full = self.ranges.len() >= RANGES_MAX;
        match self.ranges.last_mut() {
            Some((last, last_crc)) if last.end == range.start => (last.end, *last_crc) = (range.end, crc),
            _ if is_full => self.too_many = true,
            _ => self.ranges.push((range, crc)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
        self.too_many = false;
    }
}

impl Poison {
    pub(super) fn refuse(&self, attempt: Attempt, path: &Path) -> Error {
        let (why, earlier) = match self {
            Poison::Fragment(error) => ("writer is poisoned by a failed append that could not be rolled back; reopen it", error),
            Poison::Sync(error) => ("writer is poisoned by an earlier failed sync; reopen it", error),
        };
        Error::new(ErrorKind::Poisoned, attempt).on(path).detail(why).earlier(earlier.clone())
    }
}

impl Writer {
    /// Opens the journal anew after a failure; what was poisoned is usable again if this succeeds.
    ///
    /// After a failed sync, every line since the last good one is proved by its seal, written again in its place, synced, and read back from
    /// the disk: success is proof that all of it is durable. After a failed rollback, the torn tail is repaired as on opening. On a writer that is not poisoned this only
    /// looks at the file again.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](ErrorKind::Poisoned) with the offset of the first line that cannot be proved, or if the journal is in plain form: its lines
    /// carry no proof, so a person must compare them with what was meant to be there, and open a new writer.
    pub fn reopen(&mut self) -> Result<()> {
        if let Some(Poison::Sync(error)) = &self.poison {
            let earlier = error.clone();
            self.lock_again()?;
            let proved = self.prove_and_sync(&earlier);
            self.release();
            proved?;
        } else if self.is_dirty {
            // What was written before is not to be forgotten: from here on it counts as durable.
            self.sync_now()?;
        }
        // The same file cannot be locked through a new descriptor while the old one holds its lock. Nothing is appended in between: the writer
        // stays poisoned until the new one is locked.
        self.poison.get_or_insert_with(|| Poison::Fragment(Error::new(ErrorKind::Poisoned, Attempt::Reopen)));
        self.active.unlock();
        self.attach()?;
        self.release();
        self.poison = None;
        Ok(())
    }

    fn lock_again(&self) -> Result<()> {
        // Locking a descriptor that holds the lock changes nothing.
        self.active.lock(self.wait, Attempt::Reopen)
    }

    /// Writes every line since the last good sync again, and syncs.
    fn prove_and_sync(&mut self, earlier: &Error) -> Result<()> {
        let refused = |detail: &'static str| self.error(ErrorKind::Poisoned, Attempt::Reopen).detail(detail).earlier(earlier.clone());
        let failed = |error| Error::io(Attempt::Reopen, self.path(), error);
        if self.form == Form::Plain {
            return Err(refused("plain lines carry no proof; compare what is there with what was appended, then open a new writer").at(self.synced));
        }
        let path = self.path_by_now()?;
        let again = self.active.place.disk.open_rewrite(&path).map_err(failed)?;
        if again.id().map_err(failed)? != self.active.id {
            return Err(refused("another file stands in its place, so the lines cannot be written again").at(self.synced));
        }
        let size = self.active.file.size().map_err(failed)?;
        // What stands in front of the first line may be a stranger's, and was never synced. Without its LF, that line is none.
        let from = self.synced.min(size);
        let begins_line = scan::is_boundary(&self.active.file, from).map_err(failed)?;
        let before = from.checked_sub(1).filter(|_| begins_line);
        if let Some(lf) = before {
            write_all_at(&again, &[LF], lf).map_err(|error| failed(error).at(lf))?;
        }
        self.prove_lines(size, earlier, |span, bytes| {
            let written = write_all_at(&again, bytes, span.start).and_then(|()| write_all_at(&again, &[LF], span.end - 1));
            written.map_err(|error| failed(error).at(span.start))
        })?;
        again.sync_data().map_err(|error| failed(error).at(self.synced))?;
        again.forget_cache(before.unwrap_or(from));
        if scan::is_boundary(&self.active.file, from).map_err(failed)? != begins_line {
            return Err(refused("the line in front of what is to be proved has lost its LF").at(from));
        }
        self.prove_lines(size, earlier, |_, _| Ok(()))?;
        self.synced = size;
        self.unproved.clear();
        self.is_dirty = false;
        Ok(())
    }

    /// The path of the writer's file: the journal's, or that of an archived segment if somebody has rotated it.
    fn path_by_now(&self) -> Result<PathBuf> {
        let path = self.active.place.at_home(self.path()).into_owned();
        if self.active.is_named()? {
            return Ok(path);
        }
        let segments = Segments::open(&self.active.place.disk, &path, true).map_err(|error| error.attempting(Attempt::Reopen))?;
        let archived = segments.number_of(self.active.id)?.map(|number| segments.path_of(ArchivedName { number, compressed: false }));
        Ok(archived.unwrap_or(path))
    }

    /// Proves every line since the last good sync by its seal, and the writer's own by their places and CRCs too; and does something with each.
    fn prove_lines(&self, size: u64, earlier: &Error, mut with: impl FnMut(Span, &[u8]) -> Result<()>) -> Result<()> {
        let refused = |detail: &'static str, at| Err(self.error(ErrorKind::Poisoned, Attempt::Reopen).detail(detail).earlier(earlier.clone()).at(at));
        if self.unproved.too_many {
            return refused("too many appends of others lie between the lines to be proved", self.synced);
        }
        let mut own = self.unproved.ranges.iter().peekable();
        let mut lines = Scanner::new(self.synced.min(size), size, self.options.line_bytes_max);
        while let Some(span) = lines.next(&self.active.file).map_err(|error| Error::io(Attempt::Reopen, self.path(), error))? {
            if !span.terminated {
                // A torn tail holds nothing that was acknowledged; it is repaired next.
                break;
            }
            let Some(seal) = Found::of(span, lines.bytes()).seal else { return refused("the line there cannot be proved", span.start) };
            if let Some((range, _)) = own.next_if(|(range, crc)| range.end < span.end || range.end == span.end && *crc != seal.crc) {
                return refused("another line stands where this writer wrote one", range.start);
            }
            own.next_if(|(range, _)| range.end == span.end);
            with(span, lines.bytes())?;
        }
        own.next().map_or(Ok(()), |(range, _)| refused("the lines that this writer wrote there are gone", range.start))
    }
}

fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match uninterrupted(|| file.write_at(rest, offset + written as u64))? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            taken => written += taken,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that is seldom synced could not be reopened, or took ever more memory until it was.
    #[test]
    fn appends_behind_each_other_are_one_range_and_others_are_counted() {
        let mut unproved = Unproved::default();
        let end = RANGES_MAX as u64 + 1;
        (1..end).for_each(|at| unproved.add(at - 1..at, 0));
        unproved.add(end - 1..end, 7);
        assert_eq!((&unproved.ranges[..], unproved.too_many), (&[(0..end, 7)][..], false));
        (1..=end).for_each(|at| unproved.add(end + 2 * at..end + 2 * at + 1, 0));
        assert_eq!((unproved.ranges.len(), unproved.too_many), (RANGES_MAX, true));
        unproved.clear();
        assert!(unproved.ranges.is_empty() && !unproved.too_many);
    }
}
