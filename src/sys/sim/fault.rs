//! Ops, as the log keeps them, and the faults that can meet them.

use std::{fmt, ops::Range, path::PathBuf};

/// A kind of call that the library makes to the disk.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// Asks what a path names.
    PathKind,
    /// Asks which file a path names, and how long that is.
    Look,
    /// Reads the target of a link.
    ReadLink,
    /// Opens a file to append.
    OpenAppend,
    /// Creates a file to append.
    CreateAppend,
    /// Opens a file to read.
    OpenRead,
    /// Opens a file to write at offsets.
    OpenRewrite,
    /// Opens a directory.
    OpenDir,
    /// Renames a file.
    Rename,
    /// Gives a file a second name.
    Link,
    /// Removes a name.
    Remove,
    /// Creates a directory.
    CreateDir,
    /// Asks for the one absolute path of what a path names.
    Canonical,
    /// Makes the names in a directory durable.
    SyncDir,
    /// Asks which file a name in a directory stands for.
    IdOf,
    /// Lists a directory.
    Names,
    /// Asks for the identity of an open file.
    Id,
    /// Asks for the kind of an open file.
    FileKind,
    /// Asks for the mode of an open file.
    Mode,
    /// Asks how many names an open file has.
    Links,
    /// Gives an open file the owner and mode of another one.
    OwnLike,
    /// Asks how much room is left.
    FreeBytes,
    /// Asks for the size of an open file.
    Size,
    /// Asks where an open file stands.
    Position,
    /// Appends.
    Write,
    /// Reads.
    ReadAt,
    /// Writes at an offset.
    WriteAt,
    /// Cuts a file.
    Cut,
    /// Makes the bytes of a file durable.
    SyncData,
    /// Takes the lock if it is free.
    TryLock,
    /// Waits for the lock.
    Lock,
    /// Lets go of the lock.
    Unlock,
}

impl OpKind {
    /// Whether the real call tells its caller of an interruption (`EINTR`). The others are made again until they are not interrupted.
    pub(super) fn tells_interruptions(self) -> bool {
        matches!(self, OpKind::Write | OpKind::WriteAt | OpKind::ReadAt)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The call has not returned yet.
    UnderWay,
    /// The call returned `Ok`.
    Done,
    /// The call returned this `errno`.
    Failed(i32),
}

/// One call, as the log of a [`SimDisk`](super::SimDisk) keeps it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What was called.
    pub kind: OpKind,
    /// The path given, or that the handle was opened with.
    pub path: PathBuf,
    /// The offset given, or the length to cut at.
    pub offset: Option<u64>,
    /// Bytes given to write, or room given to read into.
    pub len: Option<u64>,
    /// The bytes of the file that the call has read or written, whatever it said.
    pub moved: Option<Range<u64>>,
    /// How the call ended.
    pub outcome: Outcome,
}

impl Op {
    pub(super) fn new(kind: OpKind, path: impl Into<PathBuf>) -> Op {
        Op { kind, path: path.into(), offset: None, len: None, moved: None, outcome: Outcome::UnderWay }
    }

    pub(super) fn at(self, offset: u64) -> Op {
        Op { offset: Some(offset), ..self }
    }

    pub(super) fn len(self, len: usize) -> Op {
        Op { len: Some(len as u64), ..self }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} `{}`", self.kind, self.path.display())?;
        if let Some(len) = self.len {
            write!(f, ", {len} bytes")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        if let Some(moved) = &self.moved {
            write!(f, ": bytes {} to {}", moved.start, moved.end)?;
        }
        match self.outcome {
            Outcome::UnderWay => write!(f, ": under way"),
            Outcome::Done => Ok(()),
            Outcome::Failed(errno) => write!(f, ": {}", std::io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Which ops a fault or a hook waits for. Counting begins with the first op of the disk, at 0, and goes by the order in which ops begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpMatch {
    kind: Option<OpKind>,
    path: Option<PathBuf>,
    nth: usize,
    later_too: bool,
}

impl OpMatch {
    /// The op with this index in the log.
    pub fn nth(nth: usize) -> OpMatch {
        OpMatch { kind: None, path: None, nth, later_too: false }
    }

    /// The nth op of a kind.
    pub fn nth_of(kind: OpKind, nth: usize) -> OpMatch {
        OpMatch { kind: Some(kind), ..OpMatch::nth(nth) }
    }

    /// All ops of a kind.
    pub fn every(kind: OpKind) -> OpMatch {
        OpMatch::nth_of(kind, 0).and_later()
    }

    /// All later ops too that would have counted.
    pub fn and_later(self) -> OpMatch {
        OpMatch { later_too: true, ..self }
    }

    /// Counts only ops that were given this path, or a handle opened with it.
    pub fn on(self, path: impl Into<PathBuf>) -> OpMatch {
        OpMatch { path: Some(path.into()), ..self }
    }

    /// Whether the op is meant, when it begins after those in the log.
    pub(super) fn matches(&self, op: &Op, log: &[Op]) -> bool {
        let counts_all = self.kind.is_none() && self.path.is_none();
        let earlier = || if counts_all { log.len() } else { log.iter().filter(|op| self.counts(op)).count() };
        self.counts(op) && if self.later_too { earlier() >= self.nth } else { earlier() == self.nth }
    }

    fn counts(&self, op: &Op) -> bool {
        self.kind.is_none_or(|kind| kind == op.kind) && self.path.as_ref().is_none_or(|path| *path == op.path)
    }
}

/// What goes wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The ops that it meets.
    pub at: OpMatch,
    /// What becomes of them.
    pub how: How,
}

/// What becomes of an op that meets a fault. A way that does not fit the op leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Nothing is done and this `errno` is returned. `EINTR` is told by reads and writes only; any other call is made again, as a new op.
    Errno(i32),
    /// A read or write moves only so many bytes, and says so.
    Short(usize),
    /// The op is done, a write with only so many bytes, and yet this `errno` is returned.
    ErrorAfter {
        /// Bytes that a write has put into the file.
        bytes: usize,
        /// The error it returns.
        errno: i32,
    },
    /// A sync returns `Ok` and nothing becomes durable.
    LyingSync,
    /// A sync of a file returns this `errno` and marks the pages clean without writing them: reads still show their bytes, the next sync
    /// says `Ok`, and the bytes never get onto the disk, though the size does. See [`SimDisk::drop_caches`](super::SimDisk::drop_caches).
    SyncFailsAndDrops(i32),
    /// The same, but the sync returns `Ok`: as ext4 does with bytes written again where a failed sync has left the block without them.
    SyncDrops,
}

impl How {
    /// How many of the bytes given a read or write may move.
    pub(super) fn reach(how: Option<How>, len: usize) -> usize {
        match how {
            Some(How::Short(bytes) | How::ErrorAfter { bytes, .. }) => bytes.min(len),
            _ => len,
        }
    }
}
