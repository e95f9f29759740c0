//! How a journal is opened for appending.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use super::Writer;
use crate::{
    encode::Batch,
    error::{Error, Result},
    format::{LINE_BYTES_MAX_DEFAULT, WINDOW_BYTES_DEFAULT, name},
    lock::{Lock, LockWait},
    rollback::Rollback,
    sys::Disk,
    tail::Unterminated,
};

/// Room for some seconds of a busy session, and for a few milliseconds of a burst.
const QUEUE_MAX_DEFAULT: (usize, usize) = (16_384, 8 << 20);

/// The form of the lines that a writer appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// What the file has already; sealed for a new one.
    #[default]
    Auto,
    /// Each line carries its number and its CRC.
    Sealed,
    /// Each line is the payload and nothing else.
    Plain,
}

/// When a record that was appended is safe from what.
///
/// Whatever is chosen, a record that was appended survives the death of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On the disk when the append returns: it survives a power cut.
    #[default]
    Sync,
    /// Written at once, and synced by the first append after this much time, and on closing; by a shared writer also when nobody appends any more.
    /// A power cut may take the records since the last sync.
    Interval(Duration),
    /// Written at once; the operating system decides when it reaches the disk. A power cut may take the last half minute or so.
    Os,
}

/// How a journal is opened for appending; made with [`Writer::options`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// use untorn::{Durability, Lock, LockWait, Writer};
/// let mut options = Writer::options();
/// options.durability(Durability::Os).lock(Lock::Held, LockWait::Never);
/// let mut writer = options.open(&path)?;
/// writer.append(&serde_json::json!({"type": "message", "text": "hi"}))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) disk: Disk,
    pub(crate) format: Format,
    pub(crate) durability: Durability,
    pub(crate) lock: Option<(Lock, LockWait)>,
    pub(crate) mode: u32,
    pub(crate) rollback: Rollback,
    pub(crate) unterminated: Unterminated,
    pub(crate) quarantine: Option<PathBuf>,
    pub(crate) line_bytes_max: u64,
    pub(crate) window_bytes: u64,
    /// Encoded when it was given; that it failed is told on opening.
    pub(crate) first_record: Option<Result<Batch, Error>>,
    pub(crate) create_lazily: bool,
    /// A journal that is missing is not created.
    pub(crate) must_exist: bool,
    /// The active segment is rotated when it is so large, or so old.
    pub(crate) rotate_at: Option<u64>,
    pub(crate) rotate_after: Option<Duration>,
    /// Records, and bytes of their payloads.
    pub(crate) queue_max: (usize, usize),
}

impl Options {
    pub(super) fn new() -> Options {
        Options {
            disk: Disk::default(),
            format: Format::default(),
            durability: Durability::default(),
            lock: None,
            mode: 0o600,
            rollback: Rollback::default(),
            unterminated: Unterminated::default(),
            quarantine: None,
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            window_bytes: WINDOW_BYTES_DEFAULT,
            first_record: None,
            create_lazily: false,
            must_exist: false,
            rotate_at: None,
            rotate_after: None,
            queue_max: QUEUE_MAX_DEFAULT,
        }
    }

    /// The form of the lines. Default: [`Format::Auto`]. Forcing a form on a file of the other one mixes the two, which readers take and report.
    pub fn format(&mut self, format: Format) -> &mut Options {
        self.format = format;
        self
    }

    /// When an append is safe from a power cut. Default: [`Durability::Sync`], which costs one `fdatasync` per append.
    pub fn durability(&mut self, durability: Durability) -> &mut Options {
        self.durability = durability;
        self
    }

    /// How long the lock is held, and how long to wait for it. Default: [`Lock::PerAppend`], waiting ten seconds;
    /// [`resume`](Options::resume) takes [`Lock::Held`], waiting not at all. Holding the lock is faster and shuts other writers out.
    pub fn lock(&mut self, scope: Lock, wait: LockWait) -> &mut Options {
        self.lock = Some((scope, wait));
        self
    }

    /// The permissions of files that are created, before the process's umask. Default: `0o600`, since what a session holds is nobody else's business.
    pub fn mode(&mut self, unix_mode: u32) -> &mut Options {
        self.mode = unix_mode;
        self
    }

    /// What to do with a piece of a failed append, and with a torn tail. Default: [`Rollback::Cut`]. [`Rollback::Fence`] can never take a byte from
    /// a process that appends without the lock, and leaves a corrupt line instead.
    pub fn rollback(&mut self, how: Rollback) -> &mut Options {
        self.rollback = how;
        self
    }

    /// What to do with a whole last record that lacks its LF. Default: [`Unterminated::Keep`].
    pub fn unterminated(&mut self, how: Unterminated) -> &mut Options {
        self.unterminated = how;
        self
    }

    /// The file that keeps removed bytes. Default: the journal's name with `.quarantine` behind it.
    pub fn quarantine(&mut self, path: impl Into<PathBuf>) -> &mut Options {
        self.quarantine = Some(path.into());
        self
    }

    /// How long a line may be in bytes, LF included; a batch's lines together too. Default: 64 MiB. More costs readers as much memory.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut Options {
        self.line_bytes_max = max;
        self
    }

    /// How much of the end of the file is verified on opening, in bytes. Default: 1 MiB, which costs about half a millisecond.
    pub fn window_bytes(&mut self, bytes: u64) -> &mut Options {
        self.window_bytes = bytes;
        self
    }

    /// Refuses to open a journal that does not exist, instead of creating it.
    pub fn existing_only(&mut self) -> &mut Options {
        self.must_exist = true;
        self
    }

    /// A record, such as a header, that is appended on opening if and only if the journal has no record, under the same lock.
    /// Default: none. That it cannot be encoded is told on opening.
    pub fn first_record<T: Serialize + ?Sized>(&mut self, record: &T) -> &mut Options {
        let mut batch = Batch::new();
        self.first_record = Some(batch.add(record).map(|_| ()).map(|()| batch));
        self
    }

    /// Rotates before an append that finds the active segment at so many bytes or more: a segment outgrows the limit by less than one append, or one
    /// group of them. Default: never, since most sessions are one file.
    ///
    /// If a rotation fails, the append goes on in the old segment and the next one after a second tries again:
    /// [`Writer::rotation_failure`] says why.
    pub fn rotate_at(&mut self, bytes: u64) -> &mut Options {
        self.rotate_at = Some(bytes);
        self
    }

    /// Rotates before an append that finds the oldest record of the active segment to be so old. Default: never.
    ///
    /// Records need not carry a time, so the age is that of the first append that this writer saw in the empty segment; for a segment that had
    /// records when it was opened, that of its file, where the file system tells when it was created, and else the time since the opening. What
    /// puts a new file in its place, as a repair does, begins anew. A failure is told as for [`rotate_at`](Options::rotate_at).
    pub fn rotate_after(&mut self, age: Duration) -> &mut Options {
        self.rotate_after = Some(age);
        self
    }

    /// Opens a journal only when the first record is written to it: until then there is no file and no lock. Default: at once. What opening finds
    /// wrong is then told as a failure to write, and tried again like one.
    ///
    /// This is for writers that have a queue to keep records in, of [`open_shared`](Options::open_shared) and `open_async`;
    /// [`open`](Options::open) opens at once.
    pub fn create_lazily(&mut self) -> &mut Options {
        self.create_lazily = true;
        self
    }

    /// How much may be queued, in records and in bytes of their payloads; whoever comes when the queue is full waits. Default: 16,384 records and
    /// 8 MiB. Memory can grow to about three times the bytes: what is queued, the lines being written, and a copy while a failed write is settled.
    /// A record larger than the whole queue is taken when nothing else is queued.
    pub fn queue_max(&mut self, records: usize, bytes: usize) -> &mut Options {
        self.queue_max = (records, bytes);
        self
    }

    /// Works on an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut Options {
        self.disk = Disk { sim: Some(disk.clone()) };
        self
    }

    /// Opens the journal for appending, creating it if it is missing, and repairs its tail.
    ///
    /// Any name will do, `session.jsonl` or `log`. Beside it, its archived segments have a number of six digits or more in their names, as
    /// `session.000001.jsonl`: so a file that is called `session.20260101.jsonl` belongs to the journal `session.jsonl`, and is better called otherwise.
    ///
    /// # Durability
    ///
    /// A created file and its name are durable before the first record is acknowledged. What the tail repair removes is durable in quarantine
    /// before it is cut. Nothing but the tail is changed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked) with the holder, where the system tells; [`NotAFile`](crate::ErrorKind::NotAFile) for a
    /// directory, device or FIFO; [`ReadOnly`](crate::ErrorKind::ReadOnly); [`NewerFormat`](crate::ErrorKind::NewerFormat) without touching the
    /// file; [`NoSpace`](crate::ErrorKind::NoSpace) if the quarantine has no room, with the tail left as it is.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Writer> {
        self.open_as(path.as_ref(), Lock::PerAppend)
    }

    pub(crate) fn lock_for(&self, scope: Lock) -> (Lock, LockWait) {
        self.lock.unwrap_or((scope, LockWait::default_of(scope)))
    }

    pub(crate) fn quarantine_of(&self, journal: &Path) -> PathBuf {
        self.quarantine.clone().unwrap_or_else(|| name::quarantine(journal))
    }
}
