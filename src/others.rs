//! Who else is at work on a journal: seen from outside, without taking its lock.
//!
//! What is seen may have changed by the time it is told, so this is for people and for programs that go elsewhere meanwhile. Whoever changes a
//! file looks again, under the lock.

use std::{io, path::Path};

use crate::{
    active::Place,
    error::{Attempt, Error, Result},
    sys::{Disk, File, Process, Writing},
};

/// The process that holds the lock of the file at `path`, if one does and the system tells.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// use untorn::{Lock, LockWait, Writer, lock_holder};
/// let writer = Writer::options().lock(Lock::Held, LockWait::Never).open(&path)?;
/// assert_eq!(lock_holder(&path)?.map(|holder| holder.pid), Some(std::process::id()));
/// drop(writer);
/// assert_eq!(lock_holder(&path)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If there is no such file, it is no regular file, or the system fails.
pub fn lock_holder(path: impl AsRef<Path>) -> Result<Option<Process>> {
    let disk = Disk::default();
    ask(&disk, path.as_ref(), |file| Ok(disk.lock_holder(file.id()?)))
}

/// The processes that have the file at `path` open for writing without taking part in its locking. They are why a repair is refused.
///
/// Empty also where the system does not tell, as of the processes of other users.
///
/// # Errors
///
/// As [`lock_holder`].
pub fn strangers(path: impl AsRef<Path>) -> Result<Vec<Process>> {
    Others::look().strangers(path)
}

/// One look at the processes of this machine, for questions about many files.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let paths = [dir.path().join("a.jsonl"), dir.path().join("b.jsonl")];
/// # let files: Vec<_> = paths.iter().map(std::fs::File::create).collect::<Result<_, _>>()?;
/// use untorn::Others;
/// // Instead of `strangers(path)`, which looks at every process for each of them.
/// let others = Others::look();
/// for path in &paths {
///     for stranger in others.strangers(path)? {
///         println!("{stranger} writes into {}", path.display());
///     }
/// }
/// # assert_eq!(others.strangers(&paths[1])?.len(), 1);
/// # drop(files);
/// # assert_eq!(others.strangers(&paths[1])?.len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Others {
    writing: Writing,
}

impl Others {
    /// Looks at every process that may be looked at.
    #[must_use]
    pub fn look() -> Others {
        Others { writing: Writing::look() }
    }

    /// As [`strangers`](fn@strangers), of those processes that had the file open at that look, and have it still.
    ///
    /// # Errors
    ///
    /// As [`lock_holder`].
    pub fn strangers(&self, path: impl AsRef<Path>) -> Result<Vec<Process>> {
        ask(&Disk::default(), path.as_ref(), |file| Ok(self.writing.strangers(file.id()?)))
    }
}

/// Asks while the file is open: what the system calls it is seen in our own descriptor.
fn ask<T>(disk: &Disk, path: &Path, question: impl FnOnce(&File) -> io::Result<T>) -> Result<T> {
    let place = Place::find(disk, path, Attempt::OpenToRead)?;
    let answer = disk.open_read(&place.path).and_then(|file| question(&file));
    answer.map_err(|error| Error::io(Attempt::OpenToRead, &place.path, error))
}
