//! The checkpoints of consumers in a directory: `DIR/NAME/checkpoint.jsonl`, one sealed line whose number is its generation.
//!
//! The line holds the state of all sources of one consumer, so that they are saved as one. It is replaced as [`generations`](crate::generations)
//! says: a crash leaves the old state or the new, and `checkpoint.jsonl.previous` is the one before. `DIR/NAME/lock` is locked by the one process
//! that may use the name. Nothing is created before a consumer has something to save. Crash between the creation and the first save: a
//! directory with an empty lock file, which is like none.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        LF, LINE_BYTES_MAX_DEFAULT, SEQ_MAX,
        seal::{self, Opening, Shape},
    },
    generations::{self, Generations, Loaded},
    sys::{Disk, File, FileKind},
};

const FILE: &str = "checkpoint.jsonl";
const LOCK: &str = "lock";

/// The version of what is saved. A higher one is not touched.
const VERSION: u32 = 1;

/// As long as names are, there is room for what is put behind them.
const NAME_BYTES_MAX: usize = 128;

/// The state of one source of a consumer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// How far it was consumed.
    pub checkpoint: Checkpoint,
    /// How many of its records were rejected.
    pub rejected: u64,
}

impl SourceState {
    pub(crate) fn new(checkpoint: Checkpoint, rejected: u64) -> SourceState {
        SourceState { checkpoint, rejected }
    }

    /// Takes over a later state, which never makes the checkpoint go back: see [`Checkpoint::advance`].
    pub(crate) fn advance(&mut self, next: SourceState) {
        self.rejected = self.rejected.max(next.rejected);
        self.checkpoint.advance(next.checkpoint);
    }
}

/// What a consumer has saved last.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConsumerState {
    /// The consumer's name.
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// How often the consumer has saved its state.
    pub generation: u64,
    /// When it was saved, RFC 3339.
    pub saved_at: String,
    /// Its sources.
    pub sources: Vec<SourceState>,
    /// Why this is the state before the last one, if it is: the last one is damaged.
    pub fell_back: Option<Error>,
}

/// What is saved, as it is written.
#[derive(Serialize)]
struct Saving<'a> {
    checkpoint: &'a str,
    version: u32,
    saved_at: String,
    sources: &'a [SourceState],
}

#[derive(Deserialize)]
struct Saved {
    checkpoint: String,
    saved_at: String,
    sources: Vec<SourceState>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// How the state of a consumer was found.
#[derive(Debug)]
pub(crate) enum Stored {
    /// The name was never used.
    New,
    Current(ConsumerState),
    /// The last state is damaged; this is the one before it, and why.
    Previous(ConsumerState, Error),
    /// No state is whole: the consumer starts anew.
    Damaged,
}

impl Stored {
    pub(crate) fn sources(&self) -> &[SourceState] {
        match self {
            Stored::Current(state) | Stored::Previous(state, _) => &state.sources,
            Stored::New | Stored::Damaged => &[],
        }
    }
}

/// The place of one consumer's state, for the one process that may use the name.
#[derive(Debug)]
#[must_use = "dropping the store lets another process use the name"]
pub(crate) struct Store {
    disk: Disk,
    name: String,
    dir: PathBuf,
    generations: Generations,
    /// Of the state saved last, or found.
    generation: u64,
    lock: Option<File>,
}

impl Store {
    /// Finds what the consumer has saved. Nothing is created; if its directory is there, its name is claimed.
    ///
    /// # Errors
    ///
    /// [`NameInUse`](ErrorKind::NameInUse) if another process uses the name; [`NewerFormat`](ErrorKind::NewerFormat); or the system failed. A damaged
    /// state is no error.
    pub(crate) fn open(disk: &Disk, checkpoints: &Path, name: &str) -> Result<(Store, Stored)> {
        check_name(checkpoints, name)?;
        let dir = checkpoints.join(name);
        let mut store = Store { disk: disk.clone(), name: name.to_owned(), generations: generations_of(disk, &dir), dir, generation: 0, lock: None };
        if disk.kind(&store.dir).map_err(|error| store.failed(error))?.is_some() {
            store.lock = Some(store.take_lock()?);
        }
        let stored = store.load()?;
        if matches!(stored, Stored::Current(_)) {
            // A process that was killed may have put the state in place and not made its name durable. What is taken for saved from now on is.
            disk.open_dir(&store.dir).and_then(|dir| dir.sync()).map_err(|error| store.failed(error))?;
        }
        Ok((store, stored))
    }

    /// Makes the name this process's own, creating the directory if there is none. Saving does it too, but may find the name taken by then.
    ///
    /// # Errors
    ///
    /// [`NameInUse`](ErrorKind::NameInUse) if another process uses the name, or has used it since this one looked; or the system failed.
    pub(crate) fn claim(&mut self) -> Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let failed = |error| self.failed(error);
        generations::make_dir(&self.disk, &self.dir).map_err(failed)?;
        // A process that died may have created the names without making them durable.
        for dir in self.dir.ancestors().skip(1).take(2) {
            self.disk.open_dir(dir).and_then(|dir| dir.sync()).map_err(failed)?;
        }
        let lock = self.take_lock()?;
        let known = self.generation;
        self.load()?;
        if self.generation != known {
            return Err(self.in_use("another process has used it since"));
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// Saves the state of all sources, claiming the name if that was not done.
    ///
    /// # Durability
    ///
    /// On return the state is there after a power cut.
    ///
    /// # Errors
    ///
    /// As [`claim`](Store::claim), and as [`Generations::replace`]: after any error but [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) the state
    /// saved before is in place.
    pub(crate) fn save(&mut self, sources: &[SourceState]) -> Result<()> {
        self.claim()?;
        let generation = self.generation + 1;
        let path = self.generations.path(generations::Which::Current);
        if generation > SEQ_MAX {
            return Err(Error::new(ErrorKind::SeqExhausted, Attempt::SaveCheckpoint).on(path));
        }
        let saved_at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let saving = Saving { checkpoint: &self.name, version: VERSION, saved_at, sources };
        let encode = |error| Error::json(ErrorKind::Encode, Attempt::SaveCheckpoint, error).on(path);
        let payload = serde_json::to_vec(&saving).map_err(encode)?;
        let mut line = Vec::with_capacity(payload.len() + 64);
        let opening = Opening::of(&payload);
        seal::write(&mut line, &payload, opening, opening.crc(&payload), generation, 0);
        if line.len() as u64 > LINE_BYTES_MAX_DEFAULT {
            return Err(Error::new(ErrorKind::TooLong, Attempt::SaveCheckpoint).on(path).detail("there are too many sources"));
        }
        let replaced = self.generations.replace(&line, |generations| generations.is_whole(|path, bytes| decode(path, bytes).is_ok()));
        // In place, if perhaps not after a power cut.
        if !replaced.as_ref().is_err_and(|error| error.kind() != ErrorKind::DurabilityUnknown) {
            self.generation = generation;
        }
        replaced
    }

    /// Lets another process use the name. Saving claims it again.
    pub(crate) fn release(&mut self) {
        self.lock = None;
    }

    /// Of the state saved last, or found; 0 if there is none.
    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn load(&mut self) -> Result<Stored> {
        let stored = match self.generations.load(decode) {
            Ok(None) => Stored::New,
            Ok(Some(Loaded { value, fell_back: None })) => Stored::Current(value),
            Ok(Some(Loaded { value, fell_back: Some(why) })) => Stored::Previous(value, why),
            Err(damage) if damage.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%damage, "no state of the consumer is whole");
                Stored::Damaged
            }
            Err(error) => return Err(error),
        };
        self.generation = match &stored {
            Stored::Current(state) => state.generation,
            // The damaged one may have had the next number.
            Stored::Previous(state, _) => state.generation.saturating_add(1),
            Stored::New | Stored::Damaged => 0,
        };
        Ok(stored)
    }

    fn take_lock(&self) -> Result<File> {
        let path = self.dir.join(LOCK);
        let failed = |error| self.failed(error);
        let file = loop {
            match self.disk.open_append(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => break opened,
            }
            match self.disk.create_append(&path, 0o600) {
                // Somebody else created it in between.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => break created,
            }
        };
        let file = file.map_err(failed)?;
        if file.try_lock().map_err(failed)? {
            return Ok(file);
        }
        let holder = file.id().ok().and_then(|id| self.disk.lock_holder(id));
        Err(self.in_use(&holder.map_or("another process uses it".to_owned(), |holder| format!("{holder} uses it"))))
    }

    fn in_use(&self, why: &str) -> Error {
        Error::new(ErrorKind::NameInUse, Attempt::UseCheckpoints).on(&self.dir).detail(why.to_owned())
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(Attempt::UseCheckpoints, &self.dir, error)
    }
}

fn generations_of(disk: &Disk, dir: &Path) -> Generations {
    Generations::new(disk, &dir.join(FILE), LINE_BYTES_MAX_DEFAULT, Attempt::ReadCheckpoint, Attempt::SaveCheckpoint)
}

/// A name is that of a directory, and of nothing beyond it.
fn check_name(checkpoints: &Path, name: &str) -> Result<()> {
    let why = match name {
        "" => "a consumer needs a name",
        _ if name.len() > NAME_BYTES_MAX => "a consumer's name has at most 128 bytes",
        _ if name.starts_with('.') => "a consumer's name does not begin with a dot",
        _ if name.contains(['/', '\\']) => "a consumer's name is no path",
        _ if name.chars().any(char::is_control) => "a consumer's name has no control characters",
        _ => return Ok(()),
    };
    Err(Error::io(Attempt::UseCheckpoints, checkpoints, io::Error::new(io::ErrorKind::InvalidInput, why)))
}

/// Reads one saved state.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<ConsumerState> {
    let corrupt = |why: String| Error::new(ErrorKind::Corrupt, Attempt::ReadCheckpoint).on(path).detail(why);
    let newer = || Error::new(ErrorKind::NewerFormat, Attempt::ReadCheckpoint).on(path);
    let line = bytes.strip_suffix(&[LF]).filter(|line| !line.contains(&LF));
    let line = line.ok_or_else(|| corrupt("it is not one whole line".to_owned()))?;
    let seal = match seal::shape(line) {
        Shape::Sealed(seal) => seal,
        Shape::Newer => return Err(newer()),
        Shape::Near | Shape::Plain => return Err(corrupt("its line is not sealed".to_owned())),
    };
    if !seal.holds(line) {
        return Err(corrupt(format!("seal says {:08x}, bytes give {:08x}", seal.crc, seal.computed(line))));
    }
    let mut line = line.to_vec();
    let payload = seal::payload(&mut line, &seal);
    let parsed = |error: serde_json::Error| corrupt(format!("it is sealed, and yet no checkpoint: {error}"));
    let Versioned { version } = serde_json::from_slice(payload).map_err(parsed)?;
    if version > VERSION {
        return Err(newer().detail(format!("it has version {version}")));
    }
    let Saved { checkpoint, saved_at, sources } = serde_json::from_slice(payload).map_err(parsed)?;
    Ok(ConsumerState { name: checkpoint, path: path.to_owned(), generation: seal.seq, saved_at, sources, fell_back: None })
}

/// The state of one consumer, found without claiming its name; `None` if it has saved nothing.
fn look(disk: &Disk, dir: &Path) -> Result<Option<ConsumerState>> {
    let loaded = generations_of(disk, dir).load(decode)?;
    Ok(loaded.map(|Loaded { value, fell_back }| ConsumerState { fell_back, ..value }))
}

/// The directories of the consumers in a checkpoint directory, by name; or the directory itself, if it is that of one consumer.
pub(crate) fn consumers(disk: &Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    directories(disk, dir, |dir| has_saved(disk, dir))
}

/// The same for consumers that have claimed their name and saved nothing so far.
pub(super) fn claimed(disk: &Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    directories(disk, dir, |dir| Ok(disk.kind(&dir.join(LOCK))?.is_some() && !has_saved(disk, dir)?))
}

fn has_saved(disk: &Disk, dir: &Path) -> io::Result<bool> {
    let generations = generations_of(disk, dir);
    let is_there = |which| disk.kind(generations.path(which)).map(|kind| kind.is_some());
    Ok(is_there(generations::Which::Current)? || is_there(generations::Which::Previous)?)
}

fn directories(disk: &Disk, dir: &Path, is_one: impl Fn(&Path) -> io::Result<bool>) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io(Attempt::ReadCheckpoint, dir, error).detail("the directory");
    match disk.kind(dir).map_err(failed)? {
        None => return Err(failed(rustix::io::Errno::NOENT.into())),
        _ if is_one(dir).map_err(failed)? => return Ok(vec![dir.to_owned()]),
        _ => {}
    }
    let mut found = Vec::new();
    for name in disk.open_dir(dir).and_then(|dir| dir.names()).map_err(failed)? {
        let path = dir.join(name);
        if disk.kind(&path).map_err(failed)? == Some(FileKind::Directory) && is_one(&path).map_err(failed)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What the consumers of a checkpoint directory have saved, by name: each its state, or why that cannot be read. The directory of one consumer
/// will do too.
///
/// Nothing is claimed or written, so the consumers may be at work.
///
/// # Errors
///
/// If the directory cannot be read.
pub fn checkpoints(dir: impl AsRef<Path>) -> Result<Vec<Result<ConsumerState>>> {
    let disk = Disk::default();
    let dirs = consumers(&disk, dir.as_ref())?;
    Ok(dirs.iter().filter_map(|dir| look(&disk, dir).transpose()).collect())
}

pub(super) fn states(disk: &Disk, dir: &Path) -> Result<Vec<ConsumerState>> {
    consumers(disk, dir)?.iter().filter_map(|dir| look(disk, dir).transpose()).collect()
}

/// Makes a consumer start anew: from the first record kept of each of its sources. Gives the state that it had; `None` if that was damaged.
///
/// The state that it had becomes the previous generation, beside the new one.
///
/// # Errors
///
/// If no consumer of that name has saved anything; [`NameInUse`](ErrorKind::NameInUse) if it is at work; or the system failed.
pub fn reset_checkpoint(dir: impl AsRef<Path>, name: &str) -> Result<Option<ConsumerState>> {
    let (dir, disk) = (dir.as_ref(), Disk::default());
    check_name(dir, name)?;
    if !consumers(&disk, dir)?.contains(&dir.join(name)) {
        let missing = io::Error::new(io::ErrorKind::NotFound, format!("no consumer `{name}` has saved anything there"));
        return Err(Error::io(Attempt::UseCheckpoints, dir, missing));
    }
    let (mut store, stored) = Store::open(&disk, dir, name)?;
    let fresh = |source: &SourceState| SourceState { checkpoint: source.checkpoint.reset(), rejected: 0 };
    let sources: Vec<SourceState> = stored.sources().iter().map(fresh).collect();
    store.save(&sources)?;
    Ok(match stored {
        Stored::Current(state) => Some(state),
        Stored::Previous(state, why) => Some(ConsumerState { fell_back: Some(why), ..state }),
        Stored::New | Stored::Damaged => None,
    })
}
