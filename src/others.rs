//! Who else is at work on a journal: seen from outside, without taking its lock.
//!
//! What is seen may have changed by the time it is told, so this is for people and for programs that go elsewhere meanwhile. Whoever changes a
//! file looks again, under the lock.

use std::path::Path;

use crate::{
    active::Place,
    error::{Attempt, Error, Result},
    sys::{Disk, FileId, Process},
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
    id_of(&disk, path.as_ref()).map(|id| disk.lock_holder(id))
}

/// The processes that have the file at `path` open for writing without taking part in its locking. They are why a repair is refused.
///
/// Empty also where the system does not tell, as of the processes of other users.
///
/// # Errors
///
/// As [`lock_holder`].
pub fn strangers(path: impl AsRef<Path>) -> Result<Vec<Process>> {
    let disk = Disk::default();
    id_of(&disk, path.as_ref()).map(|id| disk.strangers(id))
}

fn id_of(disk: &Disk, path: &Path) -> Result<FileId> {
    let place = Place::find(disk, path, Attempt::OpenToRead)?;
    disk.open_read(&place.path).and_then(|file| file.id()).map_err(|error| Error::io(Attempt::OpenToRead, &place.path, error))
}
