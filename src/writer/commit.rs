//! One append, from lock to acknowledgement.
//!
//! 1. take the lock, and see that the path still names the file;
//! 2. see where the file ends; deal with what others left there;
//! 3. number and seal the lines, and write them in one call;
//! 4. if that fails, roll back;
//! 5. release the lock, then sync, so that others may append meanwhile.
//!
//! A crash before the write leaves nothing of the record; a crash after it leaves the record, or a torn tail that the next opener moves to
//! quarantine; a crash after the sync leaves the record.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Durability, Form, Known, Writer, open, reopen::Poison};
use crate::{
    append::{self, Failed, Lines, Stand},
    encode::{Batch, Encoded},
    error::{Attempt, Error, ErrorKind, Left, Result},
    lock::Lock,
    position::{Appended, Mark, Position},
    rollback::Rest,
    scan,
    tail::{self, Numbers, Rules},
};

/// How long a writer that holds the lock trusts that its path names its file. Only a process that does not take the lock could change that.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Lines that are in the file.
#[derive(Clone, Debug)]
pub(super) struct Landing {
    first_seq: Option<u64>,
    start: u64,
    /// How many lines are there, from the first on.
    pub(super) whole: usize,
    fragment: Option<(u64, u64)>,
    bytes_by_others: u64,
    bytes_cut_by_others: u64,
}

impl Landing {
    /// What is to be said of line `index`.
    pub(super) fn appended(&self, encoded: &Encoded, index: usize, segment: u64) -> Appended {
        let range = encoded.range(index);
        let place = |offset: usize| Position::new(segment, self.start + offset as u64);
        let mark = Mark {
            seq: self.first_seq.map(|first| first + index as u64),
            start: place(range.start),
            end: place(range.end),
            crc: encoded.crcs.get(index).copied().unwrap_or_default(),
        };
        Appended {
            mark,
            records: 1,
            len: range.len() as u64,
            bytes_by_others: if index == 0 { self.bytes_by_others } else { 0 },
            bytes_cut_by_others: if index == 0 { self.bytes_cut_by_others } else { 0 },
            fragment: self.fragment.filter(|_| index == 0).map(|(start, end)| (Position::new(segment, start), Position::new(segment, end))),
        }
    }

    /// What is to be said of all lines as one batch.
    pub(super) fn appended_batch(&self, encoded: &Encoded, segment: u64) -> Appended {
        let first = self.appended(encoded, 0, segment);
        let last = self.appended(encoded, self.whole.saturating_sub(1), segment);
        Appended { mark: last.mark, records: self.whole as u64, len: encoded.bytes.len() as u64, ..first }
    }
}

impl Writer {
    /// Appends the records; all of them are in the file if this succeeds.
    pub(super) fn commit(&mut self, batch: &Batch, stand: Stand, durability: Durability) -> Result<Landing> {
        self.begin(batch, stand, durability)?;
        let landing = self.commit_locked(batch, stand);
        self.release();
        let landing = landing?;
        match self.settle_durability(durability) {
            Ok(()) => Ok(landing),
            Err(error) => {
                let appended = match stand {
                    Stand::Each => landing.appended(&self.encoded, 0, self.segment),
                    Stand::Together => landing.appended_batch(&self.encoded, self.segment),
                };
                Err(error.leaving(Left::Whole(appended)))
            }
        }
    }

    /// Appends the records; as many as [`Landing::whole`] says are in the file, whatever stopped the others.
    pub(super) fn commit_each(&mut self, batch: &Batch, durability: Durability) -> (Landing, Result<()>) {
        let nothing = Landing { first_seq: None, start: 0, whole: 0, fragment: None, bytes_by_others: 0, bytes_cut_by_others: 0 };
        if let Err(error) = self.begin(batch, Stand::Each, durability) {
            return (nothing, Err(error));
        }
        let written = self.write_locked(batch, Stand::Each);
        self.release();
        let (landing, stopped) = match written {
            Ok(written) => written,
            Err(error) => return (nothing, Err(error)),
        };
        let synced = if landing.whole > 0 { self.settle_durability(durability) } else { Ok(()) };
        let result = match (synced, stopped) {
            (Ok(()), None) => Ok(()),
            (Err(unsynced), Some(stopped)) => Err(unsynced.leaving(stopped.left().clone())),
            (Err(error), None) | (Ok(()), Some(error)) => Err(error),
        };
        (landing, result)
    }

    /// Refuses what needs no lock to be refused, takes the lock, and sees that the file is still the one that the path names.
    fn begin(&mut self, batch: &Batch, stand: Stand, durability: Durability) -> Result<()> {
        self.check_poison(Attempt::Append)?;
        if batch.is_empty() {
            return Err(self.error(ErrorKind::Encode, Attempt::Append).detail("the batch has no records"));
        }
        if stand == Stand::Together && self.form == Form::Plain {
            let detail = "a plain journal has no batches; `untorn seal IN OUT` makes a sealed copy";
            return Err(self.error(ErrorKind::NotSealed, Attempt::Append).detail(detail));
        }
        match self.scope {
            Lock::PerAppend => {
                self.active.lock(self.wait, Attempt::Append)?;
                let named = self.follow_path();
                if named.is_err() {
                    self.release();
                }
                named
            }
            Lock::Held => {
                let syncs = durability == Durability::Sync;
                if !syncs && self.last_check.elapsed() < CHECK_EVERY {
                    return Ok(());
                }
                self.follow_path()?;
                self.last_check = Instant::now();
                Ok(())
            }
        }
    }

    /// Sees that the path still names the file; goes on in the one it names now, if not.
    pub(super) fn follow_path(&mut self) -> Result<()> {
        if self.active.is_named()? {
            return Ok(());
        }
        tracing::info!(path = %self.path().display(), "another file stands in this one's place; going on in it");
        if self.is_dirty {
            self.sync_now()?;
        }
        self.attach()
    }

    pub(super) fn release(&mut self) {
        if self.scope == Lock::PerAppend {
            self.active.unlock();
        }
    }

    /// Opens and locks the file that the path names. The old one is closed, and its lock released, only when that has succeeded.
    pub(super) fn attach(&mut self) -> Result<()> {
        let path = self.active.place.path.clone();
        self.active = open::open_locked(&self.options, &path, self.wait)?;
        self.known = None;
        self.seen_end = None;
        self.synced = 0;
        self.segment = open::active_number(&self.active)?;
        self.look_again(None)?;
        self.start_counting();
        Ok(())
    }

    /// From here on, what is in the file and not ours is others'.
    pub(super) fn start_counting(&mut self) {
        let end = self.known.map_or(0, |known| known.end);
        self.seen_end = Some(end);
        self.synced = end;
        self.is_dirty = false;
    }

    /// Step 2 for a file whose end is not known: settles its tail and finds the next number, which is `at_least` so much.
    pub(super) fn look_again(&mut self, at_least: Option<u64>) -> Result<Known> {
        self.known = None;
        let rules = Rules {
            quarantine: &self.quarantine,
            segment: self.segment,
            line_bytes_max: self.options.line_bytes_max,
            unterminated: self.options.unterminated,
            rollback: self.options.rollback,
        };
        let settled = tail::settle(&self.active, &rules)?;
        if !settled.repair.is_clean() {
            self.tail_repair = settled.repair;
        }
        let next_seq = match self.form {
            Form::Plain => 0,
            Form::Sealed => {
                let numbers = Numbers::find(&self.active.file, settled.end, self.options.line_bytes_max);
                let numbers = numbers.map_err(|error| Error::io(Attempt::Read, self.path(), error))?;
                let before = if numbers.has_last() { 0 } else { open::last_archived_seq(&self.active, &self.options)? };
                numbers.next(before).max(at_least.unwrap_or(0))
            }
        };
        let known = Known { end: settled.end, next_seq };
        self.known = Some(known);
        Ok(known)
    }

    /// Step 2: where the file ends and which number is next. Returned beside it: how many bytes somebody cut off since our last append.
    fn catch_up(&mut self) -> Result<(Known, u64)> {
        let failed = |writer: &Writer, error| Error::io(Attempt::Append, writer.path(), error);
        let size = self.active.file.size().map_err(|error| failed(self, error))?;
        let Some(known) = self.known else { return Ok((self.look_again(None)?, 0)) };
        if size == known.end {
            return Ok((known, 0));
        }
        let has_grown = size > known.end && scan::is_boundary(&self.active.file, known.end).map_err(|error| failed(self, error))?;
        if has_grown {
            return Ok((self.look_again(None)?, 0));
        }
        // Somebody truncated the file. Numbers that were given out are not given again, and the file is never made longer to where it ended.
        let cut = known.end.saturating_sub(size);
        tracing::warn!(path = %self.path().display(), from = known.end, to = size, "somebody truncated the journal");
        self.synced = self.synced.min(size);
        Ok((self.look_again(Some(known.next_seq))?, cut))
    }

    /// Steps 2 to 4 for records that must all be written.
    pub(super) fn commit_locked(&mut self, batch: &Batch, stand: Stand) -> Result<Landing> {
        let (landing, stopped) = self.write_locked(batch, stand)?;
        stopped.map_or(Ok(landing), Err)
    }

    /// Steps 2 to 4. What was written is told beside what stopped the rest.
    fn write_locked(&mut self, batch: &Batch, stand: Stand) -> Result<(Landing, Option<Error>)> {
        let (known, bytes_cut_by_others) = self.catch_up()?;
        let max = self.options.line_bytes_max;
        let encoded = match self.form {
            Form::Sealed => self.encoded.seal(batch, known.next_seq, stand == Stand::Together, max),
            Form::Plain => self.encoded.lay_plain(batch, max),
        };
        encoded.map_err(|error| error.on(self.path()).at(known.end))?;
        let first_seq = (self.form == Form::Sealed).then_some(known.next_seq);
        let bytes_by_others = self.seen_end.map_or(0, |seen| known.end.saturating_sub(seen));
        let landing = |start, whole, fragment: Option<std::ops::Range<u64>>| {
            let fragment = fragment.map(|range| (range.start, range.end));
            Landing { first_seq, start, whole, fragment, bytes_by_others, bytes_cut_by_others }
        };
        let lines = Lines { bytes: &self.encoded.bytes, ends: &self.encoded.ends, stand };
        match append::append(&self.active.file, &lines, known.end, self.options.rollback) {
            Ok(landed) => {
                let end = landed.start + self.encoded.bytes.len() as u64;
                self.known = Some(Known { end, next_seq: known.next_seq + batch.len() as u64 });
                self.seen_end = Some(end);
                self.is_dirty = true;
                if let Some(range) = &landed.fragment {
                    tracing::warn!(path = %self.path().display(), from = range.start, to = range.end, "a stranger wrote into an append");
                }
                Ok((landing(landed.start, batch.len(), landed.fragment), None))
            }
            Err(failed) => {
                // The file says best where it ends now.
                self.known = None;
                self.seen_end = None;
                let (start, whole) = (failed.rolled_back.start, failed.rolled_back.whole);
                self.is_dirty |= whole > 0;
                let landing = landing(start, whole, failed.fragment.clone());
                Ok((landing, Some(self.stopped(failed, known.end))))
            }
        }
    }

    /// The error of an append after its rollback; poisons the writer if a fragment could be neither cut nor fenced.
    fn stopped(&mut self, failed: Failed, at: u64) -> Error {
        let place = |offset| Position::new(self.segment, offset);
        let left = match failed.rolled_back.rest {
            Rest::Nothing => Left::Nothing,
            Rest::Fragment(range) => Left::Fragment(place(range.start)..place(range.end)),
            Rest::Unknown => Left::Unknown,
        };
        let mut error = Error::io(Attempt::Append, self.path(), failed.cause).at(at).leaving(left);
        if let Some(rollback) = failed.rolled_back.error {
            error = error.rolling_back(Error::io(Attempt::RollBack, self.path(), rollback).at(failed.rolled_back.start));
        }
        if failed.rolled_back.unfenced {
            self.poison = Some(Poison::Fragment(error.clone()));
        }
        error
    }

    /// Syncs as the durability asks for.
    pub(super) fn settle_durability(&mut self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.sync_now(),
            Durability::Interval(every) if self.last_sync.elapsed() >= every => self.sync_now(),
            Durability::Interval(_) | Durability::Os => Ok(()),
        }
    }

    /// Syncs once. A failure poisons the writer: a second sync could say yes without the bytes being on the disk.
    pub(super) fn sync_now(&mut self) -> Result<()> {
        let end = self.seen_end.unwrap_or(self.synced);
        match self.active.file.sync_data() {
            Ok(()) => {
                self.synced = end;
                self.is_dirty = false;
                self.last_sync = Instant::now();
                Ok(())
            }
            Err(cause) => Err(self.sync_failed(cause)),
        }
    }

    fn sync_failed(&mut self, cause: io::Error) -> Error {
        let error = Error::io(Attempt::Sync, self.path(), cause).at(self.synced);
        self.poison = Some(Poison::Sync(error.clone()));
        error.kinded(ErrorKind::DurabilityUnknown)
    }
}
