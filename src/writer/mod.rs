//! The writer: appends records to a journal, whole or not at all.
//!
//! [`options`] says how a journal is opened, [`open`] opens it, [`commit`] is one append from lock to acknowledgement, and [`reopen`] is the way
//! back after a failure that left the writer unable to promise anything. [`history`] is what becomes of the records that were
//! written before.

mod commit;
mod history;
mod open;
mod options;
mod reopen;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;

pub(crate) use self::commit::Landing;
pub use self::history::{archive, plan_archive, prune, rotate};
pub use self::options::{Durability, Format, Options};
use self::reopen::{Poison, Unproved};
use crate::{
    active::Active,
    encode::{Batch, Encoded, Unit},
    error::{Attempt, Error, ErrorKind, Result},
    lock::{Lock, LockWait},
    position::{Appended, Origin, Position},
    rotate::Age,
    tail::TailRepair,
};

/// Appends records to a journal, whole or not at all.
///
/// Opening creates the file if it is missing and repairs a torn tail. An append is one `write` under an exclusive lock; a failed one is rolled
/// back, so that whatever happened before, the next record starts on a line of its own. By default a record is on the disk when its append
/// returns.
///
/// A writer may be sent to another thread, and is used by one at a time.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// let mut writer = untorn::Writer::open(&path)?;
/// let appended = writer.append(&serde_json::json!({"text": "hi"}))?;
/// assert_eq!(appended.seq(), Some(1));
/// writer.close()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"text\":\"hi\",\"_seq\":1,\"_crc\":\"72ce66d0\"}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
///
/// | what happens | `Sync` | `Interval`, `Os` |
/// |---|---|---|
/// | the process dies | every appended record is there | every appended record is there |
/// | the system crashes or the power fails | every appended record is there | records since the last sync may be gone, the last one torn |
///
/// A torn record is never read as a whole one, and the next opening moves it to quarantine.
#[derive(Debug)]
#[must_use = "dropping the writer releases its lock"]
pub struct Writer {
    options: Options,
    quarantine: PathBuf,
    scope: Lock,
    wait: LockWait,
    active: Active,
    /// The number of the active segment, and where its positions are counted from.
    origin: Origin,
    /// The file was looked at to the end since it was opened; if not, that is done before anything else.
    is_taken_up: bool,
    /// Since when the file has records, as far as it can be told.
    age: Option<Age>,
    /// Why the last rotation that was due was not done.
    rotation_failure: Option<(Error, Instant)>,
    form: Form,
    /// What is known of the end of the file; `None` when it must be looked at again.
    known: Option<Known>,
    /// Where our last append ended: what is beyond it others appended.
    seen_end: Option<u64>,
    /// Just past our last line; where the file ended before the first.
    written: u64,
    /// Everything of ours before this offset was synced. Never greater than `written`.
    synced: u64,
    /// Something of ours was written since the last sync.
    is_dirty: bool,
    last_sync: Instant,
    /// When the path was last seen to name the file.
    last_check: Instant,
    poison: Option<Poison>,
    /// What was written since the last good sync.
    unproved: Unproved,
    /// No number below this is given: the highest one that was, plus 1.
    given: u64,
    tail_repair: TailRepair,
    /// Reused by the appends of single records.
    single: Batch,
    encoded: Encoded,
}

/// The form of the lines in one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Sealed,
    Plain,
}

/// The end of a file that ends on a boundary.
#[derive(Clone, Copy, Debug)]
struct Known {
    end: u64,
    /// The number of the next record; 0 in plain form, which has none.
    next_seq: u64,
    /// The CRC in the seal of the last line, if we wrote it.
    crc: Option<u32>,
}

/// The buffer for single records shrinks back to this after a larger one.
const SINGLE_BYTES_KEPT: usize = 1 << 20;

impl Writer {
    /// The options that a journal can be opened with.
    pub fn options() -> Options {
        Options::new()
    }

    /// Opens a journal for appending with the default options: see [`Options::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Writer> {
        Options::new().open(path)
    }

    /// What opening did to the tail; or, if an append found a torn tail of somebody else's since, what it did to that one.
    pub fn tail_repair(&self) -> &TailRepair {
        &self.tail_repair
    }

    /// The journal's path, a symbolic link followed.
    pub fn path(&self) -> &Path {
        &self.active.place.path
    }

    /// The number that the next record gets, if nobody else appends before; `None` in plain form.
    pub fn next_seq(&self) -> Option<u64> {
        match self.form {
            Form::Sealed => self.known.map(|known| known.next_seq),
            Form::Plain => None,
        }
    }

    /// Appends one record.
    ///
    /// The record is serialised before the lock is taken, and once: whatever is retried, the same bytes are.
    ///
    /// # Durability
    ///
    /// As the options say; by default the record is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::left`] says what of the record is in the file. After [`Left::Nothing`](crate::Left::Nothing) the append may be tried again, as
    /// after [`NoSpace`](ErrorKind::NoSpace) when there is room. After [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) the record is in the
    /// file and must not be appended again; the writer is poisoned until [`reopen`](Writer::reopen).
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<Appended> {
        self.append_with(record, self.options.durability)
    }

    /// Appends one record with a durability of its own.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Writer::append).
    pub fn append_with<T: Serialize + ?Sized>(&mut self, record: &T, durability: Durability) -> Result<Appended> {
        self.append_single(durability, |single| single.add(record).map(|_| ()))
    }

    /// Appends one record that is JSON already; its numbers, key order and escapes are kept as they are.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Writer::append), and [`NotJson`](ErrorKind::NotJson) if the payload is not one JSON value.
    pub fn append_json(&mut self, payload: &[u8]) -> Result<Appended> {
        self.append_single(self.options.durability, |single| single.add_json(payload).map(|_| ()))
    }

    fn append_single(&mut self, durability: Durability, encode: impl FnOnce(&mut Batch) -> Result<()>) -> Result<Appended> {
        let mut single = std::mem::take(&mut self.single);
        single.clear();
        let appended = encode(&mut single).map_err(|error| error.on(self.path())).and_then(|()| self.commit_one(&single, Unit::Record, durability));
        single.shrink_to(SINGLE_BYTES_KEPT);
        self.single = single;
        appended
    }

    /// Appends records that stand or fall as one, after a crash too: readers give out all of them, or none.
    ///
    /// What is returned speaks of the batch's last record.
    ///
    /// # Errors
    ///
    /// Those of [`append`](Writer::append); [`NotSealed`](ErrorKind::NotSealed) in plain form, where nothing could tell half a batch from a whole
    /// one; [`TooLong`](ErrorKind::TooLong) if its lines together exceed the line limit; [`Encode`](ErrorKind::Encode) for a batch without records.
    pub fn append_batch(&mut self, batch: &Batch) -> Result<Appended> {
        if batch.is_empty() {
            return Err(self.error(ErrorKind::Encode, Attempt::Append).detail("the batch has no records"));
        }
        self.commit_one(batch, Unit::Batch(batch.len()), self.options.durability)
    }

    /// Appends records in one write and one sync, each on its own: if the write fails halfway, those that are whole stay.
    ///
    /// Returned are the records that are in the file, from the first on, and what stopped the others; [`Error::left`] then speaks of the first of
    /// those. After [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) the records returned are in the file but may not survive a power cut.
    pub fn append_all(&mut self, records: &Batch) -> (Vec<Appended>, Result<()>) {
        if records.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let (landing, result) = self.commit(records, &vec![Unit::Record; records.len()], self.options.durability);
        let appended = (0..landing.whole).map(|unit| self.appended(&landing, unit)).collect();
        (appended, result)
    }

    /// Makes everything appended so far durable, and returns the position before which all is.
    ///
    /// # Errors
    ///
    /// [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) if the sync fails; the writer is then poisoned. A failed sync is never tried again: the
    /// kernel may have dropped the bytes and would say yes. See <https://danluu.com/fsyncgate/>.
    pub fn sync(&mut self) -> Result<Position> {
        self.check_poison(Attempt::Sync)?;
        if self.scope == Lock::Held {
            self.follow_path()?;
        }
        self.sync_now()?;
        Ok(self.durable())
    }

    /// Makes everything durable and releases the lock.
    ///
    /// Dropping a writer releases the lock too, but leaves records that were appended with [`Durability::Interval`] or [`Durability::Os`] to the
    /// operating system.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](Writer::sync).
    pub fn close(mut self) -> Result<()> {
        self.check_poison(Attempt::Close)?;
        if self.is_dirty { self.sync_now() } else { Ok(()) }
    }

    /// The options it was opened with.
    pub(crate) fn options_given(&self) -> &Options {
        &self.options
    }

    /// Just past our last line.
    pub(crate) fn written(&self) -> Position {
        self.origin.position(self.written)
    }

    /// The watermark.
    pub(crate) fn durable(&self) -> Position {
        self.origin.position(self.synced)
    }

    /// What an append to a poisoned writer is told; `None` if it is not poisoned.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.check_poison(Attempt::Append).err()
    }

    /// The error of every call on a poisoned writer.
    fn check_poison(&self, attempt: Attempt) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(poison) => Err(poison.refuse(attempt, self.path())),
        }
    }

    /// Where the file ended when it was last looked at.
    pub(crate) fn end(&self) -> Position {
        self.origin.position(self.known.map_or(self.synced, |known| known.end))
    }

    fn error(&self, kind: ErrorKind, attempt: Attempt) -> Error {
        Error::new(kind, attempt).on(self.path())
    }
}
