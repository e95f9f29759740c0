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
    cmp::Ordering,
    io,
    time::{Duration, Instant},
};

use super::{Durability, Form, Known, Writer, open, reopen::Poison};
use crate::{
    append::{self, Failed, Lines},
    encode::{Batch, Unit},
    error::{Attempt, Error, ErrorKind, Left, Result},
    format::{CRC_TAIL_BYTES, seal},
    lock::Lock,
    position::{Appended, Mark, Origin, Position},
    rollback::Rest,
    rotate::Age,
    scan, seeded,
    tail::{self, Numbers, Rules},
};

/// How long a writer that holds the lock trusts that its path names its file. Only a process that does not take the lock could change that.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Units that are in the file.
#[derive(Clone, Debug)]
pub(crate) struct Landing {
    origin: Origin,
    first_seq: Option<u64>,
    start: u64,
    /// How many units are there, from the first on.
    pub(crate) whole: usize,
    fragment: Option<(u64, u64)>,
    bytes_by_others: u64,
    bytes_cut_by_others: u64,
}

impl Landing {
    pub(crate) fn nothing() -> Landing {
        Landing {
            origin: Origin { segment: 1, start: 0 },
            first_seq: None,
            start: 0,
            whole: 0,
            fragment: None,
            bytes_by_others: 0,
            bytes_cut_by_others: 0,
        }
    }

    fn place(&self, offset: u64) -> Position {
        self.origin.position(offset)
    }
}

impl Writer {
    /// Appends one unit.
    pub(super) fn commit_one(&mut self, records: &Batch, unit: Unit, durability: Durability) -> Result<Appended> {
        let (landing, result) = self.commit(records, &[unit], durability);
        match result {
            Ok(()) => Ok(self.appended(&landing, 0)),
            Err(error) if landing.whole == 1 => Err(error.leaving(Left::Whole(self.appended(&landing, 0)))),
            Err(error) => Err(error),
        }
    }

    /// Appends units in one write and one sync; as many as [`Landing::whole`] says are in the file, whatever stopped the others.
    pub(super) fn commit(&mut self, records: &Batch, units: &[Unit], durability: Durability) -> (Landing, Result<()>) {
        let (landing, stopped) = self.write(records, units, durability == Durability::Sync);
        let synced = if landing.whole > 0 { self.settle_durability(durability) } else { Ok(()) };
        let result = match (synced, stopped) {
            (Ok(()), stopped) => stopped,
            (Err(unsynced), Ok(())) => Err(unsynced),
            (Err(unsynced), Err(stopped)) => Err(unsynced.leaving(stopped.left().clone())),
        };
        (landing, result)
    }

    /// Steps 1 to 5 but for the sync. A unit that is refused stops those behind it too.
    pub(crate) fn write(&mut self, records: &Batch, units: &[Unit], syncs: bool) -> (Landing, Result<()>) {
        if let Err(error) = self.begin(Attempt::Append, syncs) {
            return (Landing::nothing(), Err(error));
        }
        let written = match self.rotate_if_due() {
            Ok(()) => self.write_locked(records, units),
            Err(error) => (Landing::nothing(), Err(error)),
        };
        if written.0.whole > 0 && self.options.rotate_after.is_some() {
            self.age.get_or_insert_with(Age::begin);
        }
        self.release();
        written
    }

    /// What is to be said of a unit of the last write.
    pub(crate) fn appended(&self, landing: &Landing, unit: usize) -> Appended {
        let (Some(last), Some(end)) = (self.encoded.lasts.get(unit), self.encoded.ends.get(unit)) else { unreachable!("unit {unit} was written") };
        let before = unit.checked_sub(1).and_then(|before| self.encoded.lasts.get(before)).map_or(0, |before| before.through);
        let place = |offset: usize| landing.place(landing.start + offset as u64);
        let first = unit == 0;
        Appended {
            mark: Mark {
                seq: landing.first_seq.map(|first| first + last.through as u64 - 1),
                start: place(last.start),
                end: place(*end),
                crc: last.crc,
            },
            records: (last.through - before) as u64,
            len: (end - self.encoded.start_of(unit)) as u64,
            bytes_by_others: if first { landing.bytes_by_others } else { 0 },
            bytes_cut_by_others: if first { landing.bytes_cut_by_others } else { 0 },
            fragment: landing.fragment.filter(|_| first).map(|(start, end)| (landing.place(start), landing.place(end))),
        }
    }

    /// Refuses if poisoned, takes the lock, and sees that the file is still the one that the path names.
    pub(crate) fn begin(&mut self, attempt: Attempt, syncs: bool) -> Result<()> {
        self.check_poison(attempt)?;
        match self.scope {
            Lock::PerAppend => {
                let named = match self.active.lock_while_named(self.wait, attempt)? {
                    true => self.follow_path(),
                    false => self.move_on(),
                };
                if named.is_err() {
                    self.release();
                }
                self.as_refusal(attempt, named)
            }
            Lock::Held => {
                if !syncs && self.is_taken_up && self.last_check.elapsed() < CHECK_EVERY {
                    return Ok(());
                }
                let named = self.follow_path();
                self.as_refusal(attempt, named)?;
                self.last_check = Instant::now();
                Ok(())
            }
        }
    }

    /// A sync that failed before anything was written says nothing of the record that was to be: the writer refuses it.
    pub(crate) fn as_refusal<T>(&self, attempt: Attempt, result: Result<T>) -> Result<T> {
        result.or_else(|error| self.check_poison(attempt).and(Err(error)))
    }

    /// Sees that the path still names the file; goes on in the one it names now, if not.
    pub(super) fn follow_path(&mut self) -> Result<()> {
        if self.active.is_named()? {
            // What was begun when the file was opened, and failed, is begun again.
            return if self.is_taken_up { Ok(()) } else { self.take_up() };
        }
        self.move_on()
    }

    /// Goes on in the file that the path names now.
    fn move_on(&mut self) -> Result<()> {
        tracing::info!(path = %self.path().display(), "another file stands in this one's place; going on in it");
        if self.is_dirty {
            self.sync_now()?;
        }
        // Nobody appends to the old file any more. Who prunes it needs its lock, and holds the one that is waited for next.
        self.release();
        self.attach()
    }

    pub(crate) fn release(&mut self) {
        if self.scope == Lock::PerAppend {
            self.active.unlock();
        }
    }

    /// Opens and locks the file that the path names. The old one is closed, and its lock released, only when that has succeeded.
    pub(super) fn attach(&mut self) -> Result<()> {
        let path = self.active.place.at_home(&self.active.place.path).into_owned();
        self.active = open::open_locked(&self.options, &path, self.wait)?;
        self.take_up()
    }

    /// From here on, what is in the file and not ours is others'.
    pub(super) fn start_counting(&mut self) {
        let end = self.known.map_or(0, |known| known.end);
        self.seen_end = Some(end);
        self.written = end;
        self.synced = end;
        self.unproved.clear();
        self.is_dirty = false;
    }

    /// Step 2 for a file whose end is not known: settles its tail and finds the next number. What stands before `since` was looked at before.
    pub(super) fn look_again(&mut self, since: Option<Known>) -> Result<Known> {
        self.known = None;
        let floor = since.map_or(0, |known| known.end);
        let quarantine = self.active.place.at_home(&self.quarantine);
        let rules = Rules {
            quarantine: &quarantine,
            origin: self.origin,
            numbered_from: (self.form == Form::Sealed).then_some(floor),
            line_bytes_max: self.options.line_bytes_max,
            unterminated: self.options.unterminated,
            rollback: self.options.rollback,
        };
        let settled = match tail::settle(&self.active, &rules) {
            // Our own records since the last good sync may be lost with it.
            Err(error) if error.is_unsynced() && self.is_dirty => {
                let poison = Poison::Sync(error);
                let refused = poison.refuse(Attempt::Append, self.path());
                self.poison = Some(poison);
                return Err(refused);
            }
            settled => settled?,
        };
        if !settled.repair.is_clean() {
            self.tail_repair = settled.repair;
        }
        let next_seq = match self.form {
            Form::Plain => 0,
            Form::Sealed => {
                let numbers = Numbers::find(&self.active.file, floor.min(settled.end)..settled.end, self.options.line_bytes_max);
                let numbers = numbers.map_err(|error| Error::io(Attempt::Read, self.path(), error))?;
                let next = numbers.next(|| match since {
                    Some(known) => Ok(known.next_seq.saturating_sub(1)),
                    None => open::last_archived_seq(&self.active, &self.options),
                });
                // Numbers that were given out are not given again, whatever became of their lines.
                next?.max(self.given)
            }
        };
        let known = Known { end: settled.end, next_seq, crc: None };
        self.known = Some(known);
        Ok(known)
    }

    /// Step 2: where the file ends and which number is next. Returned beside it: how many bytes somebody cut off since our last append.
    pub(super) fn catch_up(&mut self) -> Result<(Known, u64)> {
        let failed = |writer: &Writer, error| Error::io(Attempt::Append, writer.path(), error);
        let size = self.active.file.size().map_err(|error| failed(self, error))?;
        let Some(known) = self.known else { return Ok((self.look_again(None)?, 0)) };
        match size.cmp(&known.end) {
            Ordering::Equal => return Ok((known, 0)),
            Ordering::Greater if self.ends_as_we_left_it(known).map_err(|error| failed(self, error))? => {
                return Ok((self.look_again(Some(known))?, 0));
            }
            _ => {}
        }
        // Somebody truncated the file, and perhaps it has grown again since. It is never made longer to where it ended.
        let cut = known.end.saturating_sub(size);
        tracing::warn!(path = %self.path().display(), from = known.end, to = size, "somebody truncated the journal");
        self.written = self.written.min(size);
        self.synced = self.synced.min(size);
        Ok((self.look_again(None)?, cut))
    }

    /// Whether the file still has the line that ended where it ended when we left it.
    fn ends_as_we_left_it(&self, known: Known) -> io::Result<bool> {
        let Some(crc) = known.crc else { return scan::is_boundary(&self.active.file, known.end) };
        let expected = seal::tail_of(crc);
        let mut found = [0; CRC_TAIL_BYTES + 1];
        let from = known.end.saturating_sub(found.len() as u64);
        self.active.file.read_full_at(&mut found, from)?;
        Ok(found.strip_suffix(b"\n") == Some(&expected[..]))
    }

    /// Steps 2 to 4. What was written is told beside what stopped the rest.
    pub(super) fn write_locked(&mut self, records: &Batch, units: &[Unit]) -> (Landing, Result<()>) {
        let (known, bytes_cut_by_others) = match self.catch_up() {
            Ok(caught_up) => caught_up,
            Err(error) => return (Landing::nothing(), Err(error)),
        };
        let max = self.options.line_bytes_max;
        let encoded = match self.form {
            Form::Sealed => self.encoded.seal(records, units, known.next_seq, max),
            Form::Plain => self.encoded.lay_plain(records, units, max),
        };
        let refused = encoded.map_err(|error| error.on(self.path()).at(known.end));
        if self.encoded.ends.is_empty() {
            return (Landing::nothing(), refused);
        }
        let landing = Landing {
            origin: self.origin,
            first_seq: (self.form == Form::Sealed).then_some(known.next_seq),
            start: known.end,
            whole: 0,
            fragment: None,
            bytes_by_others: self.seen_end.map_or(0, |seen| known.end.saturating_sub(seen)),
            bytes_cut_by_others,
        };
        let lines = Lines { bytes: &self.encoded.bytes, ends: &self.encoded.ends };
        match append::append(&self.active.file, &lines, known.end, self.options.rollback) {
            Ok(landed) => {
                let whole = lines.ends.len();
                let end = landed.start + lines.bytes.len() as u64;
                let crc = self.encoded.lasts.last().map(|last| last.crc);
                let next_seq = self.next_after(known, self.encoded.records());
                self.known = Some(Known { end, next_seq, crc: crc.filter(|_| self.form == Form::Sealed) });
                self.given = next_seq;
                self.unproved.add(landed.start..end, crc.unwrap_or_default());
                self.seen_end = Some(end);
                self.written = end;
                self.is_dirty = true;
                let fragment = landed.fragment.map(|range| (range.start, range.end));
                if let Some((from, to)) = fragment {
                    tracing::warn!(path = %self.path().display(), from, to, "a stranger wrote into an append");
                }
                (Landing { start: landed.start, whole, fragment, ..landing }, refused)
            }
            Err(failed) => {
                // The file says best where it ends now.
                self.known = None;
                self.seen_end = None;
                let (start, whole) = (failed.rolled_back.start, failed.rolled_back.whole);
                if let Some(last) = whole.checked_sub(1).and_then(|last| self.encoded.lasts.get(last)) {
                    self.written = start + self.encoded.start_of(whole) as u64;
                    self.is_dirty = true;
                    self.unproved.add(start..self.written, last.crc);
                    self.given = self.next_after(known, last.through);
                }
                // Nothing damaged stands in front of units that are whole: what a stranger wrote among them is behind those.
                (Landing { start, whole, ..landing }, Err(self.stopped(failed, known.end)))
            }
        }
    }

    /// The number after so many records; still none in plain form.
    fn next_after(&self, known: Known, records: usize) -> u64 {
        match self.form {
            Form::Sealed => known.next_seq + records as u64,
            Form::Plain => 0,
        }
    }

    /// The error of an append after its rollback; poisons the writer if a fragment could be neither cut nor fenced.
    fn stopped(&mut self, failed: Failed, at: u64) -> Error {
        let place = |offset| self.origin.position(offset);
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
            Durability::Sync if seeded::bug("acknowledged-before-sync") => Ok(()),
            Durability::Sync => self.sync_now(),
            Durability::Interval(every) if self.last_sync.elapsed() >= every => self.sync_now(),
            Durability::Interval(_) | Durability::Os => Ok(()),
        }
    }

    /// Syncs once. A failure poisons the writer: a second sync could say yes without the bytes being on the disk.
    pub(crate) fn sync_now(&mut self) -> Result<()> {
        let synced = match self.active.file.sync_data() {
            Err(_) if seeded::bug("sync-retried") => self.active.file.sync_data(),
            synced => synced,
        };
        match synced {
            Ok(()) => {
                self.synced = self.written;
                self.unproved.clear();
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
