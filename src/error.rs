//! One error type: what was tried, on which file, at which byte, and why; and what of a failed append is in the file.
//!
//! An [`Error`] is cheap to clone, so that every waiter of a group gets the same one, and no copy or conversion loses the raw OS error.

use std::{
    borrow::Cow,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    format::json::Invalid,
    position::{Appended, Mark, Position},
};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was tried, on which file, at which byte, and why it failed.
///
/// [`kind`](Error::kind) says what to do next, [`left`](Error::left) what of the record is in the file. The text names the attempt; the cause is
/// the [`source`](std::error::Error::source), so a report that prints the whole chain says everything once.
///
/// ```
/// let error = untorn::Writer::open("/").unwrap_err();
/// assert_eq!(error.kind(), untorn::ErrorKind::NotAFile);
/// assert_eq!(error.to_string(), "cannot open `/` for appending: it is a directory");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    attempt: Attempt,
    path: Option<PathBuf>,
    offset: Option<u64>,
    mark: Option<Mark>,
    detail: Option<Cow<'static, str>>,
    cause: Option<Cause>,
    left: Left,
    rollback: Option<Error>,
}

#[derive(Clone)]
enum Cause {
    Io(Arc<io::Error>),
    Json(Arc<serde_json::Error>),
    Invalid(Invalid),
    Earlier(Error),
}

/// Why it failed, as far as it changes what a caller may do next.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The system failed; [`Error::raw_os_error`] says how. The call may be tried again.
    Io,
    /// The disk, the quota or a reserved area is full. The call may be tried again when there is room.
    NoSpace,
    /// Another process holds the lock, and the time to wait for it is over.
    Locked,
    /// An earlier failure left the writer unable to promise anything; `reopen` it. The record was not written.
    Poisoned,
    /// The record is in the file, but the sync failed: it may be gone after a power cut. Do not append it again.
    DurabilityUnknown,
    /// The writer was closed.
    Closed,
    /// The queue is full; wait, or try again.
    QueueFull,
    /// The record could not be turned into JSON.
    Encode,
    /// The record is whole, but is no value of the type that was asked for.
    Decode,
    /// The payload is not one JSON value.
    NotJson,
    /// A payload in plain form has the shape of a seal; reading could not tell it from one.
    SealedPayload,
    /// A line is corrupt, and the reader was told to stop there.
    Corrupt,
    /// The record's line, or the state of a snapshot, would be longer than it may be.
    TooLong,
    /// The journal is in plain form, which has neither numbers nor batches; `untorn seal IN OUT` makes a sealed copy.
    NotSealed,
    /// No number is left for the record.
    SeqExhausted,
    /// The file is not what it was when the plan was made; plan again.
    Changed,
    /// Somebody truncated the file during the append.
    Shrunk,
    /// The path is a directory, a device or a FIFO.
    NotAFile,
    /// The file is compressed, which is only ever read, or this build lacks the feature to read it.
    Compressed,
    /// The file, its directory or its file system may only be read.
    ReadOnly,
    /// A process that does not take the lock has the file open for writing.
    Stranger,
    /// The file has a second hard link, so replacing it would split it in two.
    HardLinked,
    /// The file holds lines of a newer format than this version knows.
    NewerFormat,
    /// The records asked for are no longer kept.
    Pruned,
    /// Another process uses that name.
    NameInUse,
}

/// What of a record is in the file after its append failed.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Left {
    /// No byte of it: it may be appended again.
    #[default]
    Nothing,
    /// All of it, on a line of its own, but perhaps not durable: do not append it again.
    Whole(Appended),
    /// A piece of it that could not be taken out, or somebody else's torn line in which one may hide, fenced off from what follows: it may be
    /// appended again.
    Fragment(Range<Position>),
    /// It could not be found out: after reopening, look whether the record is there.
    Unknown,
}

/// What was tried; it opens the error's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Append,
    Archive,
    Close,
    #[cfg(feature = "zstd")]
    Compress,
    Decode,
    Encode,
    Flush,
    Follow,
    List,
    Lock,
    OpenToAppend,
    OpenToRead,
    PlanRepair,
    Prune,
    Quarantine,
    Read,
    ReadCheckpoint,
    ReadSnapshot,
    Reopen,
    Repair,
    RepairTail,
    RollBack,
    Rotate,
    SaveCheckpoint,
    SaveSnapshot,
    Sync,
    UndoRepair,
    UseCheckpoints,
}

impl Attempt {
    /// The words before and after the name of the file.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Attempt::Append => ("append to", ""),
            Attempt::Archive => ("archive records of", ""),
            Attempt::Close => ("close", ""),
            #[cfg(feature = "zstd")]
            Attempt::Compress => ("compress", ""),
            Attempt::Decode => ("decode a record of", ""),
            Attempt::Encode => ("encode a record", ""),
            Attempt::Follow => ("follow", ""),
            Attempt::Flush => ("flush what is queued for", ""),
            Attempt::List => ("list", ""),
            Attempt::Lock => ("lock", ""),
            Attempt::OpenToAppend => ("open", " for appending"),
            Attempt::OpenToRead => ("open", " for reading"),
            Attempt::Prune => ("prune", ""),
            Attempt::PlanRepair => ("plan a repair of", ""),
            Attempt::Quarantine => ("keep removed bytes in", ""),
            Attempt::Read => ("read", ""),
            Attempt::ReadCheckpoint => ("read the checkpoint", ""),
            Attempt::ReadSnapshot => ("read the snapshot", ""),
            Attempt::Reopen => ("reopen", ""),
            Attempt::Repair => ("repair", ""),
            Attempt::RepairTail => ("repair the tail of", ""),
            Attempt::RollBack => ("roll back a failed append to", ""),
            Attempt::Rotate => ("rotate", ""),
            Attempt::SaveCheckpoint => ("save the checkpoint", ""),
            Attempt::SaveSnapshot => ("save the snapshot", ""),
            Attempt::Sync => ("sync", ""),
            Attempt::UndoRepair => ("undo the last repair of", ""),
            Attempt::UseCheckpoints => ("use the checkpoints in", ""),
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, attempt: Attempt) -> Error {
        let left = Left::Nothing;
        Error(Arc::new(Inner { kind, attempt, path: None, offset: None, mark: None, detail: None, cause: None, left, rollback: None }))
    }

    /// An error of the system, its kind taken from the code; of a read that failed, with the byte.
    pub(crate) fn io(attempt: Attempt, path: &Path, cause: io::Error) -> Error {
        Error::new(kind_of(&cause), attempt).on(path).cause(cause)
    }

    pub(crate) fn json(kind: ErrorKind, attempt: Attempt, cause: serde_json::Error) -> Error {
        Error::new(kind, attempt).with(|inner| inner.cause = Some(Cause::Json(Arc::new(cause))))
    }

    pub(crate) fn invalid(attempt: Attempt, cause: Invalid) -> Error {
        Error::new(ErrorKind::NotJson, attempt).with(|inner| inner.cause = Some(Cause::Invalid(cause)))
    }

    /// The same failure, met while something else was tried.
    pub(crate) fn attempting(self, attempt: Attempt) -> Error {
        self.with(|inner| inner.attempt = attempt)
    }

    /// Whether it is a sync that failed.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.0.attempt == Attempt::Sync
    }

    pub(crate) fn kinded(self, kind: ErrorKind) -> Error {
        self.with(|inner| inner.kind = kind)
    }

    pub(crate) fn on(self, path: &Path) -> Error {
        self.with(|inner| inner.path = Some(path.to_owned()))
    }

    pub(crate) fn at(self, offset: u64) -> Error {
        self.with(|inner| inner.offset = Some(offset))
    }

    pub(crate) fn marked(self, mark: Mark) -> Error {
        self.with(|inner| inner.mark = Some(mark))
    }

    pub(crate) fn detail(self, detail: impl Into<Cow<'static, str>>) -> Error {
        self.with(|inner| inner.detail = Some(detail.into()))
    }

    pub(crate) fn cause(self, cause: io::Error) -> Error {
        let (cause, offset) = match cause.downcast::<ReadFailed>() {
            Ok(ReadFailed { offset, error }) => (error, Some(offset)),
            Err(cause) => (cause, None),
        };
        self.with(|inner| {
            inner.offset = inner.offset.or(offset);
            inner.cause = Some(Cause::Io(Arc::new(cause)));
        })
    }

    pub(crate) fn earlier(self, cause: Error) -> Error {
        self.with(|inner| inner.cause = Some(Cause::Earlier(cause)))
    }

    pub(crate) fn leaving(self, left: Left) -> Error {
        self.with(|inner| inner.left = left)
    }

    pub(crate) fn rolling_back(self, rollback: Error) -> Error {
        self.with(|inner| inner.rollback = Some(rollback))
    }

    /// Whether what was looked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.0.cause, Some(Cause::Io(cause)) if cause.kind() == io::ErrorKind::NotFound)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Error {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Why it failed, as far as it changes what a caller may do next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file it failed on.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte it failed at, counted from the start of the file.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The line it failed on, when reading failed on one line: reading goes on behind it.
    pub fn mark(&self) -> Option<Mark> {
        self.0.mark
    }

    /// The code that the operating system gave, from this error or the one below it.
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.0.cause {
            Some(Cause::Io(cause)) => cause.raw_os_error(),
            Some(Cause::Earlier(earlier)) => earlier.raw_os_error(),
            Some(Cause::Json(_) | Cause::Invalid(_)) | None => None,
        }
    }

    /// Where and why a payload is not JSON, of an error of kind [`NotJson`](ErrorKind::NotJson).
    pub fn invalid_json(&self) -> Option<&Invalid> {
        match &self.0.cause {
            Some(Cause::Invalid(invalid)) => Some(invalid),
            _ => None,
        }
    }

    /// What of the record is in the file; [`Left::Nothing`] for an error of anything but an append.
    pub fn left(&self) -> &Left {
        &self.0.left
    }

    /// The second failure, if taking the record's bytes out again failed too.
    pub fn rollback_error(&self) -> Option<&Error> {
        self.0.rollback.as_ref()
    }
}

/// A read that failed, and the byte that it began at, on its way through `io::Result` to [`Error::cause`].
#[derive(Debug)]
pub(crate) struct ReadFailed {
    offset: u64,
    error: io::Error,
}

impl ReadFailed {
    pub(crate) fn at(offset: u64, error: io::Error) -> io::Error {
        let error = match error.downcast::<ReadFailed>() {
            Ok(failed) => failed.error,
            Err(error) => error,
        };
        io::Error::new(error.kind(), ReadFailed { offset, error })
    }

    #[cfg(any(feature = "zstd", feature = "gzip"))]
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<ReadFailed>())
    }
}

impl fmt::Display for ReadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for ReadFailed {}

fn kind_of(cause: &io::Error) -> ErrorKind {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => ErrorKind::ReadOnly,
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.0.attempt.words();
        write!(f, "cannot {before}")?;
        if let Some(path) = &self.0.path {
            write!(f, " `{}`", path.display())?;
        }
        f.write_str(after)?;
        if let Some(offset) = self.0.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.to_string());
        if let Some(cause) = std::error::Error::source(self) {
            out.field("cause", &cause.to_string());
        }
        out.field("left", &self.0.left);
        if let Some(rollback) = &self.0.rollback {
            out.field("rollback", rollback);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Some(Cause::Io(cause)) => Some(&**cause),
            Some(Cause::Json(cause)) => Some(&**cause),
            Some(Cause::Invalid(cause)) => Some(cause),
            Some(Cause::Earlier(earlier)) => Some(earlier),
            None => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind; [`io::Error::get_ref`] gives the [`Error`] back, raw OS error included.
    fn from(error: Error) -> io::Error {
        let kind = match &error.0.cause {
            Some(Cause::Io(cause)) => cause.kind(),
            _ => match error.kind() {
                ErrorKind::NoSpace => io::ErrorKind::StorageFull,
                ErrorKind::Locked => io::ErrorKind::WouldBlock,
                ErrorKind::ReadOnly => io::ErrorKind::PermissionDenied,
                ErrorKind::NotAFile | ErrorKind::TooLong | ErrorKind::NotJson | ErrorKind::SealedPayload => io::ErrorKind::InvalidInput,
                ErrorKind::Encode | ErrorKind::Decode | ErrorKind::Corrupt => io::ErrorKind::InvalidData,
                _ => io::ErrorKind::Other,
            },
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Error {
        Error::io(Attempt::Append, Path::new("a.jsonl"), io::Error::from_raw_os_error(28)).at(7)
    }

    /// S2-15: an error exposes its kind and errno, and a copy of it keeps both.
    #[test]
    fn copies_and_conversions_keep_kind_and_errno() {
        let copy = full().clone();
        assert_eq!((copy.kind(), copy.raw_os_error(), copy.offset()), (ErrorKind::NoSpace, Some(28), Some(7)));
        let wrapped = Error::new(ErrorKind::Poisoned, Attempt::Append).earlier(copy);
        assert_eq!(wrapped.raw_os_error(), Some(28));
        let converted = io::Error::from(wrapped);
        let back = converted.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("the error is inside");
        assert_eq!((back.kind(), back.raw_os_error()), (ErrorKind::Poisoned, Some(28)));
        assert_eq!(io::Error::from(full()).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_cause_is_printed_once() {
        assert_eq!(full().to_string(), "cannot append to `a.jsonl` at byte 7");
        let cause = std::error::Error::source(&full()).map(ToString::to_string).expect("there is a cause");
        assert!(cause.starts_with("No space left on device"));
    }
}
