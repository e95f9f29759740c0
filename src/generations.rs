//! A small file that is replaced as a whole, its previous generation kept beside it: how checkpoints and snapshots are stored.
//!
//! At every moment, and after a crash at any, one of the two is whole, and where the file system has hard links the file's own name never
//! vanishes. To replace the file:
//!
//! 1. temporary files that crashed processes left are removed. Each is locked while its process lives, so one that is in use stays;
//! 2. a temporary file beside it gets the new content. Its name is the full name of the file with the process and a counter behind it, so two
//!    never collide. Crash here: a stale temporary file;
//! 3. it is synced. Crash here: the same;
//! 4. the file gets a second name, a temporary one, and that is renamed to the previous generation's. Crash here: a stale temporary name, or the
//!    previous generation is the same as the current one. A current generation that is damaged is not kept: it would push out a good one.
//!    Without hard links the file is renamed to its previous generation. Crash here: the current name is missing, and the previous generation has
//!    the content;
//! 5. the temporary file is renamed over the file. Crash here: after a power cut the old content or the new, and either is whole, because the
//!    new one was synced before it got the name, and the order of the renames does not matter;
//! 6. the directory is synced. Crash here: the new content. If this sync fails, the new content is in place, but a power cut may bring the old
//!    one back: [`DurabilityUnknown`](ErrorKind::DurabilityUnknown), where every other error means that the old content is in place.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::name,
    swap::{self, Temporary},
    sys::{Dir, Disk, File, FileKind},
};

/// Files are private to their owner, as new journals are.
const MODE: u32 = 0o600;

/// Which of the two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Current,
    Previous,
}

/// What is known of the current generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It may be anything: it is read before it is kept.
    Unknown,
    Good,
    /// Damaged, or refused: it is not kept.
    Bad,
}

/// A file and its previous generation.
#[derive(Debug)]
pub(crate) struct Generations {
    disk: Disk,
    current: PathBuf,
    previous: PathBuf,
    bytes_max: u64,
    /// What errors say was tried.
    reading: Attempt,
    saving: Attempt,
    standing: Standing,
    /// Whether what crashed processes left was looked for, and no save has failed since.
    is_clean: bool,
}

/// The newest generation that is whole.
#[derive(Debug)]
pub(crate) struct Loaded<T> {
    pub(crate) value: T,
    /// Why it is the previous one, if it is.
    pub(crate) fell_back: Option<Error>,
}

impl Generations {
    /// Nothing is read or written yet. A file of more than `bytes_max` bytes is damaged, and is not read.
    pub(crate) fn new(disk: &Disk, path: &Path, bytes_max: u64, reading: Attempt, saving: Attempt) -> Generations {
        let (current, previous) = (path.to_owned(), name::previous(path));
        Generations { disk: disk.clone(), current, previous, bytes_max, reading, saving, standing: Standing::Unknown, is_clean: false }
    }

    pub(crate) fn path(&self, which: Which) -> &Path {
        match which {
            Which::Current => &self.current,
            Which::Previous => &self.previous,
        }
    }

    /// The bytes of one generation; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if it is longer than it may be; [`NotAFile`](ErrorKind::NotAFile); or the system failed.
    pub(crate) fn read(&self, which: Which) -> Result<Option<Vec<u8>>> {
        let path = self.path(which);
        let failed = |error| Error::io(self.reading, path, error);
        let file = match self.disk.open_read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if file.kind().map_err(failed)? != FileKind::Regular {
            return Err(Error::new(ErrorKind::NotAFile, self.reading).on(path).detail("it is no regular file"));
        }
        let size = file.size().map_err(failed)?;
        if size > self.bytes_max {
            let why = format!("its {size} bytes are more than the {} that it may have", self.bytes_max);
            return Err(Error::new(ErrorKind::Corrupt, self.reading).on(path).detail(why));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let read = file.read_full_at(&mut bytes, 0).map_err(failed)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// The newest generation that `decode` takes; `None` if there was never one.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if no generation is whole; what `decode` says of another kind; or the system failed.
    pub(crate) fn load<T>(&mut self, decode: impl Fn(&Path, &[u8]) -> Result<T>) -> Result<Option<Loaded<T>>> {
        self.standing = Standing::Unknown;
        let take = |which| match self.read(which).and_then(|bytes| bytes.map(|bytes| decode(self.path(which), &bytes)).transpose()) {
            Err(damage) if damage.kind() == ErrorKind::Corrupt => Ok(Err(damage)),
            other => other.map(Ok),
        };
        let damage = match take(Which::Current)? {
            Ok(Some(value)) => {
                self.standing = Standing::Good;
                return Ok(Some(Loaded { value, fell_back: None }));
            }
            Ok(None) => None,
            Err(damage) => Some(damage),
        };
        match (take(Which::Previous)?, damage) {
            (Ok(Some(value)), damage) => {
                self.standing = Standing::Bad;
                let missing = || Error::new(ErrorKind::Corrupt, self.reading).on(&self.current).detail("only its previous generation is there");
                Ok(Some(Loaded { value, fell_back: Some(damage.unwrap_or_else(missing)) }))
            }
            (Ok(None), None) => Ok(None),
            (Err(damage), None) | (_, Some(damage)) => {
                self.standing = Standing::Bad;
                Err(damage)
            }
        }
    }

    /// Says whether the current generation is of use. If not, even if it is whole, the next one does not push out the previous one for it.
    pub(crate) fn judge_current(&mut self, is_good: bool) {
        self.standing = if is_good { Standing::Good } else { Standing::Bad };
    }

    /// Whether the current generation is one that `decode` takes.
    ///
    /// # Errors
    ///
    /// If the system failed.
    pub(crate) fn is_whole(&self, decode: impl Fn(&Path, &[u8]) -> bool) -> Result<bool> {
        match self.read(Which::Current) {
            Ok(current) => Ok(current.is_some_and(|bytes| decode(&self.current, &bytes))),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            Err(error) => Err(error.attempting(self.saving)),
        }
    }

    /// Replaces the file. What was current becomes the previous generation if it was found to be whole, or else if `is_whole` says so, which is
    /// asked before anything is written.
    ///
    /// # Durability
    ///
    /// On return the new content is there after a power cut.
    ///
    /// # Errors
    ///
    /// [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) if the new content is in place, but perhaps not after a power cut. After any other error a
    /// load gives what it gave before.
    pub(crate) fn replace(&mut self, bytes: &[u8], is_whole: impl FnOnce(&Generations) -> Result<bool>) -> Result<()> {
        let keeps = match self.standing {
            Standing::Good => true,
            Standing::Bad => false,
            Standing::Unknown => is_whole(self)?,
        };
        // Whatever happens, what is current is then to be looked at again.
        let standing = std::mem::replace(&mut self.standing, Standing::Unknown);
        let installed = self.install(bytes, keeps);
        self.is_clean = installed.is_ok();
        self.standing = match &installed {
            Ok(_) => Standing::Good,
            // A refused generation is whole, so looking at it again would keep it.
            Err(_) if standing == Standing::Bad => Standing::Bad,
            Err(_) => Standing::Unknown,
        };
        // Step 6.
        installed?.sync().map_err(|error| {
            let error = self.failed(error).kinded(ErrorKind::DurabilityUnknown);
            error.detail("the new generation is in place, but its directory could not be synced")
        })
    }

    /// Steps 1 to 5.
    fn install(&mut self, bytes: &[u8], keeps: bool) -> Result<Dir> {
        let failed = |error| Error::io(self.saving, &self.current, error);
        let dir = self.disk.open_dir(self.current.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        if !self.is_clean {
            clear_stale(&self.disk, &dir, &self.current);
        }
        let (file, mut temporary) = self.create_temporary().map_err(failed)?;
        // Shows whoever clears stale files that this one is in use. It is let go when the file is closed.
        file.try_lock().map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        // Crash before this sync: the temporary file may hold anything, and has no name that anybody reads.
        file.sync_data().map_err(failed)?;
        if keeps {
            self.keep_current(&dir).map_err(failed)?;
        }
        // Crash here: the current and the previous generation are the same file.
        self.disk.replace(&temporary.path, &self.current).map_err(failed)?;
        temporary.is_installed = true;
        Ok(dir)
    }

    /// Step 4.
    fn keep_current(&self, dir: &Dir) -> io::Result<()> {
        let (Some(current), Some(previous)) = (self.current.file_name(), self.previous.file_name()) else { return Ok(()) };
        let id = dir.id_of(current)?;
        // A rename between two names of one file does nothing, and would leave the temporary name behind.
        if id.is_none() || dir.id_of(previous)? == id {
            return Ok(());
        }
        let linked = self.named(|path| self.disk.hard_link(&self.current, path).map(|()| self.temporary(path)));
        match linked {
            Ok(mut second_name) => {
                self.disk.replace(&second_name.path, &self.previous)?;
                second_name.is_installed = true;
                Ok(())
            }
            Err(error) if has_no_hard_links(&error) => self.disk.replace(&self.current, &self.previous),
            Err(error) => Err(error),
        }
    }

    fn create_temporary(&self) -> io::Result<(File, Temporary)> {
        self.named(|path| self.disk.create_append(path, MODE).map(|file| (file, self.temporary(path))))
    }

    fn temporary(&self, path: &Path) -> Temporary {
        Temporary { disk: self.disk.clone(), path: path.to_owned(), is_installed: false }
    }

    /// Gives the first temporary name that is free to `create`.
    fn named<T>(&self, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        let own = self.current.file_name().unwrap_or_default();
        swap::first_free(|attempt| name::temporary(own, std::process::id(), attempt), |name| create(&self.current.with_file_name(name)))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(self.saving, &self.current, error)
    }
}

/// What file systems without hard links say, and those where a file cannot have another one.
fn has_no_hard_links(error: &io::Error) -> bool {
    let refusals = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

/// Step 1: removes temporary files whose process is gone. What cannot be removed stays, and harms nobody.
fn clear_stale(disk: &Disk, dir: &Dir, current: &Path) {
    let own = current.file_name().unwrap_or_default();
    let names = dir.names().unwrap_or_default();
    for name in names.iter().filter(|name| name::is_temporary(own, name)) {
        let path = current.with_file_name(name);
        // The lock is let go of with the file, after the name is gone.
        let file = disk.open_append(&path);
        let is_stale = file.as_ref().is_ok_and(|file| file.try_lock().unwrap_or(false));
        if is_stale && disk.remove_file(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed what a crash left");
        }
    }
}

/// Makes a directory and those above it, each name durable before anything is put into it.
pub(crate) fn make_dir(disk: &Disk, dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    let above = dir.parent().unwrap_or(Path::new(""));
    match disk.kind(dir)? {
        Some(_) => return Ok(()),
        None => make_dir(disk, above)?,
    }
    match disk.create_dir(dir) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => done?,
    }
    disk.open_dir(above)?.sync()
}

#[cfg(all(test, feature = "sim"))]
mod tests;
