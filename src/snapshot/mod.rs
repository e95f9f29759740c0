//! State folded through a record: saved beside the journal, and taken up again with what came after it.
//!
//! A snapshot names the last record that its state covers by number and CRC. [`file`](self::file) are its bytes, and it is replaced as
//! [`generations`](crate::generations) says, so a crash at any moment leaves the old snapshot or the new, and a damaged one leaves the one before.
//! The journal is synced before the snapshot is written, so a snapshot is never ahead of what a power cut leaves; if it is nevertheless, or if the
//! record that it names is another one by now, it is refused. [`recover`] restores and replays.

mod file;
mod observer;
mod recover;
pub(crate) mod running;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::{
    fmt, io,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

pub use self::observer::SnapshotObserver;
use self::{file::Header, observer::Observed, running::Saving};
use crate::{
    checkpoint::{self, Checkpoint, Restored, identity, needed::Needed},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LINE_BYTES_MAX_DEFAULT, SEQ_MAX},
    generations::{Generations, Which},
    position::Mark,
    segment::Segments,
    sys::Disk,
};

/// How long a state may be by default, in bytes of JSON.
pub const SNAPSHOT_BYTES_MAX_DEFAULT: u64 = 1 << 30;

/// Typed state, and the record of a journal through which it was folded.
///
/// Restoring it and replaying the records after that one gives what replaying all of them would give, without reading them.
///
/// ```
/// use untorn::{Record, Resumed, Snapshot};
///
/// #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Sum(u64);
/// let fold = |sum: &mut Sum, record: untorn::Result<Record<u64>>| {
///     sum.0 += record?.value;
///     Ok(())
/// };
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("numbers.jsonl");
/// let mut snapshot = Snapshot::<Sum>::open(dir.path().join("sum.snapshot"), &path)?;
/// let Resumed { mut writer, .. } = untorn::resume(&path)?;
/// writer.append(&20)?;
/// let through = writer.append(&22)?.mark();
/// snapshot.save(&Sum(42), through)?;
/// writer.append(&1)?;
/// drop(writer);
///
/// let mut resumed = untorn::resume(&path)?;
/// assert_eq!(snapshot.recover(&mut resumed, fold)?, Sum(43));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
///
/// A save is on the disk when it returns, after everything of the journal that it covers. A failed save leaves the last good one as it was.
pub struct Snapshot<S> {
    disk: Disk,
    generations: Generations,
    journal: PathBuf,
    observed: Option<Observed>,
    bytes_max: u64,
    /// Of the newest generation, if that is known.
    generation: Option<u64>,
    refused: Option<Error>,
    state: PhantomData<fn() -> S>,
}

/// What a snapshot gave back.
#[non_exhaustive]
#[derive(Debug)]
pub struct RestoredState<S> {
    /// The state.
    pub state: S,
    /// The last record that it covers: replay what comes after it.
    pub through: Mark,
    /// Whether that record was found in the journal. It is not once it is pruned.
    pub is_proved: bool,
    /// Why this is not the newest generation, if it is not.
    pub fell_back: Option<Error>,
}

/// What a snapshot file says of itself, whatever the type of its state.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// How often the snapshot was saved.
    pub generation: u64,
    /// When it was saved, RFC 3339.
    pub saved_at: String,
    /// Of the state.
    pub bytes: u64,
    /// The last record that it covers.
    pub through: Mark,
    /// The journal that it was saved for.
    pub journal: PathBuf,
}

impl<S: Serialize + DeserializeOwned> Snapshot<S> {
    /// The snapshot at `path` of what is in `journal`. Nothing is read or written yet, and neither need be there.
    ///
    /// Its previous generation is kept beside it, in `path` with `.previous` behind it.
    ///
    /// # Errors
    ///
    /// If a path names no file.
    pub fn open(path: impl AsRef<Path>, journal: impl AsRef<Path>) -> Result<Snapshot<S>> {
        Snapshot::on(Disk::default(), path.as_ref(), journal.as_ref())
    }

    /// The same on an in-memory disk instead of the real one. Outside SemVer.
    ///
    /// # Errors
    ///
    /// As [`open`](Snapshot::open).
    #[cfg(feature = "sim")]
    pub fn open_on(disk: &crate::sim::SimDisk, path: impl AsRef<Path>, journal: impl AsRef<Path>) -> Result<Snapshot<S>> {
        Snapshot::on(Disk { sim: Some(disk.clone()) }, path.as_ref(), journal.as_ref())
    }

    fn on(disk: Disk, path: &Path, journal: &Path) -> Result<Snapshot<S>> {
        for path in [path, journal] {
            if path.file_name().is_none() {
                return Err(Error::new(ErrorKind::NotAFile, Attempt::ReadSnapshot).on(path).detail("it names no file"));
            }
        }
        Ok(Snapshot {
            generations: generations(&disk, path),
            disk,
            journal: journal.to_owned(),
            observed: None,
            bytes_max: SNAPSHOT_BYTES_MAX_DEFAULT,
            generation: None,
            refused: None,
            state: PhantomData,
        })
    }

    /// How long a state may be, in bytes of JSON. Default: 1 GiB.
    ///
    /// A longer one is not saved, and none is read.
    pub fn bytes_max(&mut self, max: u64) -> &mut Snapshot<S> {
        self.bytes_max = max;
        self
    }

    /// Tells an observer of every save from now on, restored or not, under this id. It takes the place of an earlier one.
    pub fn observer(&mut self, id: &str, observer: impl SnapshotObserver + 'static) {
        self.observed = Some(Observed { id: id.to_owned(), observer: Box::new(observer) });
    }

    /// Saves the state, which covers all records up to and including the one of the mark.
    ///
    /// The state is encoded and the journal is synced first. Rotation, archive and prune in this process wait until the save is over; while the state
    /// is encoded they do not, so it may append to the journal and rotate it.
    ///
    /// # Durability
    ///
    /// On return the state and all that it covers are there after a power cut.
    ///
    /// # Errors
    ///
    /// After each but the last the snapshot saved before is in place.
    ///
    /// - [`Encode`](ErrorKind::Encode): the state is no JSON. [`TooLong`](ErrorKind::TooLong): it is longer than it may be.
    /// - [`Changed`](ErrorKind::Changed): the journal does not have that record.
    /// - [`NewerFormat`](ErrorKind::NewerFormat): the snapshot in place is of a newer version, and is left there.
    /// - The system failed, in the journal or in the snapshot.
    /// - [`DurabilityUnknown`](ErrorKind::DurabilityUnknown): the new snapshot is in place, but a power cut may bring the old one back.
    pub fn save(&mut self, state: &S, through: Mark) -> Result<()> {
        let observed = self.observed.take();
        let flush = observed.as_ref().map(Observed::start);
        let saved = catch_unwind(AssertUnwindSafe(|| self.save_unobserved(state, through)));
        drop(flush);
        self.observed = observed;
        saved.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn save_unobserved(&mut self, state: &S, through: Mark) -> Result<()> {
        let path = self.generations.path(Which::Current).to_owned();
        // Before the save counts as running: a state may wait for a queue, whose worker may be waiting to rotate.
        let state = encode(state, self.bytes_max).map_err(|error| error.on(&path))?;
        let _saving = Saving::begin(&self.disk, &path, &self.journal);
        // Crash before or while the journal is synced: the old snapshot, and of the journal what is durable by then.
        let journal = self.sync_journal(through)?;
        let generation = self.next_generation()?;
        let bytes = file::encode(&state, through, &journal, generation).map_err(|error| error.on(&path))?;
        drop(state);
        let (disk, current) = (&self.disk, path.as_path());
        let replaced = self.generations.replace(&bytes, |_| is_whole(disk, current));
        let is_in_place = !replaced.as_ref().is_err_and(|error| error.kind() != ErrorKind::DurabilityUnknown);
        self.generation = is_in_place.then_some(generation);
        replaced
    }

    /// Makes durable what the snapshot covers, which must be there. Gives the journal's one absolute path.
    fn sync_journal(&self, through: Mark) -> Result<PathBuf> {
        let segments = Segments::open(&self.disk, &self.journal, true).map_err(|error| error.attempting(Attempt::SaveSnapshot))?;
        let checkpoint = Checkpoint::covering(through);
        let found = checkpoint::restore(&segments, &checkpoint, LINE_BYTES_MAX_DEFAULT)?;
        let refused = |why: String| Error::new(ErrorKind::Changed, Attempt::SaveSnapshot).on(segments.path()).detail(why);
        match found.restored {
            Restored::Resumed | Restored::Renamed { .. } => {}
            // Nothing of what it covers is kept.
            Restored::Pruned { .. } => return Ok(identity::canonical(&self.disk, segments.path())),
            _ => return Err(refused(format!("{} is not there", named(&through)))),
        }
        // Rotation syncs a segment before it archives it, so what is before the active one is durable, but for what a rotation may be about.
        let mut numbers = segments.numbers().filter(|number| *number >= found.segment.number);
        numbers.try_for_each(|number| {
            let segment = segments.get(number)?;
            segment.file.sync_data().map_err(|error| Error::io(Attempt::Sync, &segment.path, error))
        })?;
        Ok(identity::canonical(&self.disk, segments.path()))
    }

    /// One more than that of the newest generation.
    fn next_generation(&self) -> Result<u64> {
        let known = match self.generation {
            Some(known) => known,
            None => {
                let of = |which| match open(&self.disk, self.generations.path(which)) {
                    Ok(found) => Ok(found.map_or(0, |(_, header)| header.generation)),
                    Err(error) if error.kind() == ErrorKind::Corrupt => Ok(0),
                    // A newer version's snapshot is not replaced.
                    Err(error) => Err(error.attempting(Attempt::SaveSnapshot)),
                };
                of(Which::Current)?.max(of(Which::Previous)?)
            }
        };
        match known.checked_add(1).filter(|next| *next <= SEQ_MAX) {
            Some(next) => Ok(next),
            None => Err(Error::new(ErrorKind::SeqExhausted, Attempt::SaveSnapshot).on(self.generations.path(Which::Current))),
        }
    }

    /// The newest state that is whole and covers what the journal has; `None` if nothing was ever saved.
    ///
    /// A generation is refused if it is damaged, if the journal ends before the record that it covers, or if that record is another one by now; then
    /// the one before is looked at. A record that was pruned proves nothing either way: the state is given, and said to be unproved.
    ///
    /// # Errors
    ///
    /// If there are generations, and each is refused: why the newest one was. [`Corrupt`](ErrorKind::Corrupt), [`NewerFormat`](ErrorKind::NewerFormat)
    /// or [`Changed`](ErrorKind::Changed). [`Decode`](ErrorKind::Decode) if the state is no `S`. Or the system failed.
    pub fn restore(&mut self) -> Result<Option<RestoredState<S>>> {
        self.refused = None;
        self.generation = None;
        let segments = match Segments::open(&self.disk, &self.journal, true) {
            // A journal that is gone ends before everything.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) => None,
            opened => Some(opened?),
        };
        self.restore_in(segments.as_ref())
    }

    fn restore_in(&mut self, segments: Option<&Segments>) -> Result<Option<RestoredState<S>>> {
        for which in [Which::Current, Which::Previous] {
            match self.take(which, segments) {
                Ok(None) => {}
                Ok(Some((state, header, is_proved))) => {
                    // What was refused must not push this one out.
                    self.generations.judge_current(which == Which::Current);
                    self.generation = (which == Which::Current).then_some(header.generation);
                    let fell_back = match which {
                        Which::Current => None,
                        Which::Previous => Some(self.refused.get_or_insert_with(|| missing(&self.generations)).clone()),
                    };
                    return Ok(Some(RestoredState { state, through: header.through, is_proved, fell_back }));
                }
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat | ErrorKind::Changed) => {
                    self.refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if self.refused.is_some() {
            self.generations.judge_current(false);
        }
        self.refused.clone().map_or(Ok(None), Err)
    }

    /// One generation, if it is good: its state, and whether the record that it covers was found.
    fn take(&self, which: Which, segments: Option<&Segments>) -> Result<Option<(S, Header, bool)>> {
        let path = self.generations.path(which);
        let Some((file, header)) = open(&self.disk, path)? else { return Ok(None) };
        if header.length > self.bytes_max {
            let why = format!("its state of {} bytes is longer than the {} that it may have", header.length, self.bytes_max);
            return Err(Error::new(ErrorKind::Corrupt, Attempt::ReadSnapshot).on(path).detail(why));
        }
        let is_proved = is_covered(path, &header, segments)?;
        let state = file::state(&file, path, &header)?;
        let decode = |error| Error::json(ErrorKind::Decode, Attempt::ReadSnapshot, error).on(path);
        Ok(Some((serde_json::from_slice(&state).map_err(decode)?, header, is_proved)))
    }

    /// Why the last [`restore`](Snapshot::restore) or [`recover`](Snapshot::recover) did not use the newest generation; `None` if it did, or there
    /// was none.
    pub fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }
}

impl<S> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observer = self.observed.as_ref().map(|observed| &observed.id);
        let path = self.generations.path(Which::Current);
        f.debug_struct("Snapshot").field("path", &path).field("journal", &self.journal).field("observer", &observer).finish_non_exhaustive()
    }
}

/// What a snapshot file says of itself. Its state is checked, and not read.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let (path, journal) = (dir.path().join("sum.snapshot"), dir.path().join("numbers.jsonl"));
/// let through = untorn::Writer::open(&journal)?.append(&42)?.mark();
/// untorn::Snapshot::open(&path, &journal)?.save(&42, through)?;
/// assert_eq!(untorn::inspect_snapshot(&path)?.through, through);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Corrupt`](ErrorKind::Corrupt) if it is damaged or no snapshot, [`NewerFormat`](ErrorKind::NewerFormat) if it is of a newer version; or if it cannot
/// be read.
pub fn inspect_snapshot(path: impl AsRef<Path>) -> Result<SnapshotInfo> {
    let path = path.as_ref();
    let missing = || Error::io(Attempt::ReadSnapshot, path, rustix::io::Errno::NOENT.into());
    let (_, header) = open(&Disk::default(), path)?.ok_or_else(missing)?;
    let Header { generation, saved_at, length, through, journal, .. } = header;
    Ok(SnapshotInfo { path: path.to_owned(), generation, saved_at, bytes: length, through, journal })
}

fn generations(disk: &Disk, path: &Path) -> Generations {
    Generations::new(disk, path, u64::MAX, Attempt::ReadSnapshot, Attempt::SaveSnapshot)
}

/// Opens one generation and checks it; `None` if there is none.
fn open(disk: &Disk, path: &Path) -> Result<Option<(crate::sys::File, Header)>> {
    let failed = |error| Error::io(Attempt::ReadSnapshot, path, error);
    let file = match disk.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.kind().map_err(failed)? != crate::sys::FileKind::Regular {
        return Err(Error::new(ErrorKind::NotAFile, Attempt::ReadSnapshot).on(path).detail("it is no regular file"));
    }
    let header = file::check(&file, path)?;
    Ok(Some((file, header)))
}

/// What recovering from a snapshot, or from its previous generation, needs of a journal.
///
/// # Errors
///
/// If no generation is whole, or the system fails.
pub(crate) fn needed(segments: &Segments, path: &Path, line_bytes_max: u64) -> Result<Needed> {
    let disk = segments.disk();
    let generations = generations(disk, path);
    let mut needed = None;
    let mut unread = None;
    for which in [Which::Current, Which::Previous] {
        let header = match open(disk, generations.path(which)) {
            Ok(Some((_, header))) => header,
            Ok(None) => continue,
            Err(error) => {
                unread.get_or_insert(error);
                continue;
            }
        };
        let found = checkpoint::restore(segments, &Checkpoint::covering(header.through), line_bytes_max)?;
        let needs = match found.restored {
            Restored::Resumed | Restored::Renamed { .. } => {
                let seq = header.through.seq.map(|seq| seq.saturating_add(1));
                Needed::From { position: found.segment.position(found.offset), seq }
            }
            _ => Needed::Everything,
        };
        needed = Some(needed.map_or(needs, |other: Needed| other.min(needs)));
    }
    let missing = || Error::io(Attempt::ReadSnapshot, path, rustix::io::Errno::NOENT.into());
    needed.ok_or_else(|| unread.unwrap_or_else(missing))
}

fn is_whole(disk: &Disk, path: &Path) -> Result<bool> {
    match open(disk, path) {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
        Err(error) => Err(error.attempting(Attempt::SaveSnapshot)),
    }
}

/// Whether the record that a snapshot covers was found; an error if it cannot be in this journal.
fn is_covered(path: &Path, header: &Header, segments: Option<&Segments>) -> Result<bool> {
    let refused = |why: &str| {
        let why = format!("it covers {}, and {why}", named(&header.through));
        Error::new(ErrorKind::Changed, Attempt::ReadSnapshot).on(path).detail(why)
    };
    let Some(segments) = segments else { return Err(refused("the journal is not there")) };
    let found = checkpoint::restore(segments, &Checkpoint::covering(header.through), LINE_BYTES_MAX_DEFAULT)?;
    match found.restored {
        Restored::Resumed | Restored::Renamed { .. } => Ok(true),
        Restored::Pruned { .. } => Ok(false),
        Restored::Shorter => Err(refused("the journal ends before that")),
        _ => Err(refused("the journal has another one in its place")),
    }
}

fn named(mark: &Mark) -> String {
    let name = mark.seq.map_or_else(|| format!("the line at byte {}", mark.start.offset), |seq| format!("record {seq}"));
    format!("{name} with CRC {:08x}", mark.crc)
}

fn missing(generations: &Generations) -> Error {
    let path = generations.path(Which::Current);
    Error::new(ErrorKind::Corrupt, Attempt::ReadSnapshot).on(path).detail("only its previous generation is there")
}

/// The state as one line of JSON of at most so many bytes.
fn encode<S: Serialize>(state: &S, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bounded = Bounded { bytes: Vec::new(), bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX), is_full: false };
    let encoded = serde_json::to_writer(&mut bounded, state);
    if bounded.is_full {
        let why = format!("the state is longer than {bytes_max} bytes");
        return Err(Error::new(ErrorKind::TooLong, Attempt::SaveSnapshot).detail(why));
    }
    encoded.map_err(|error| Error::json(ErrorKind::Encode, Attempt::SaveSnapshot, error))?;
    // Raw JSON values may have line breaks between their tokens. Nothing depends on there being none.
    Ok(bounded.bytes)
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
