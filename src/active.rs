//! The active segment's file: found by its path, opened or created, locked, and checked to be still the one that its path names.
//!
//! A crash while it is created leaves no file, or an empty one, which every opener takes for a journal without records; whoever appends to an
//! empty file syncs its directory first.

use std::{
    borrow::Cow,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    lock::{self, LockWait},
    seeded,
    sys::{Dir, Disk, File, FileId, FileKind},
};

/// How often a path may name another file than the one that was opened, before opening gives up.
pub(crate) const REPLACED_MAX: usize = 100;

/// The error for a path that names another file each time it is looked at.
pub(crate) fn replaced_again(attempt: Attempt, path: &Path) -> Error {
    Error::new(ErrorKind::Changed, attempt).on(path).detail("it is replaced again and again")
}

/// The active segment, open for appending.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: File,
    pub(crate) id: FileId,
    pub(crate) place: Place,
}

/// Where a journal is: its path with the last link followed, and its directory.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) disk: Disk,
    pub(crate) path: PathBuf,
    pub(crate) name: OsString,
    pub(crate) dir: Dir,
    /// The working directory that relative paths are meant from, whatever it is later.
    home: Option<PathBuf>,
}

impl Place {
    /// Finds the journal's directory. A symbolic link to a regular file is followed once, and its target used from then on.
    pub(crate) fn find(disk: &Disk, path: &Path, attempt: Attempt) -> Result<Place> {
        let failed = |error| Error::io(attempt, path, error);
        let refused = |why| Error::new(ErrorKind::NotAFile, attempt).on(path).detail(why);
        let path = match disk.kind(path).map_err(failed)? {
            Some(FileKind::Link) => {
                let target = disk.read_link(path).map_err(failed)?;
                let target = path.parent().map_or(target.clone(), |parent| parent.join(&target));
                match disk.kind(&target).map_err(failed)? {
                    Some(FileKind::Regular) => target,
                    Some(FileKind::Link) => return Err(refused("it is a symbolic link to a symbolic link")),
                    Some(kind) => return Err(refused(what(kind))),
                    None => return Err(refused("it is a symbolic link to nothing")),
                }
            }
            Some(FileKind::Regular) | None => path.to_owned(),
            Some(kind) => return Err(refused(what(kind))),
        };
        let Some(name) = path.file_name().map(ToOwned::to_owned) else { return Err(refused("it names no file")) };
        let dir = disk.open_dir(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        Ok(Place { disk: disk.clone(), path, name, dir, home: std::env::current_dir().ok() })
    }

    /// What a path meant when the journal was opened, in a process that may have another working directory by now.
    pub(crate) fn at_home<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        match &self.home {
            Some(home) if path.is_relative() && std::env::current_dir().ok().as_ref() != Some(home) => Cow::Owned(home.join(path)),
            _ => Cow::Borrowed(path),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(Attempt::OpenToAppend, &self.path, error)
    }
}

fn what(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "it is a directory",
        FileKind::Link => "it is a symbolic link",
        FileKind::Special | FileKind::Regular => "it is no regular file",
    }
}

impl Active {
    /// Opens the file, or creates it with the mode. The lock is not taken.
    pub(crate) fn open(place: Place, mode: u32) -> Result<Active> {
        let (file, created) = loop {
            match place.disk.open_append(&place.path) {
                Ok(file) => break (file, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(place.failed(error)),
            }
            match place.disk.create_append(&place.path, mode) {
                Ok(file) => break (file, true),
                // Somebody else created it in between.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(place.failed(error)),
            }
        };
        let kind = file.kind().map_err(|error| place.failed(error))?;
        if kind != FileKind::Regular {
            return Err(Error::new(ErrorKind::NotAFile, Attempt::OpenToAppend).on(&place.path).detail(what(kind)));
        }
        let id = file.id().map_err(|error| place.failed(error))?;
        file.show_presence();
        let active = Active { file, id, place };
        if created {
            active.sync_dir()?;
        }
        Ok(active)
    }

    /// Opens the file that is there, and takes its lock. Nothing is created.
    pub(crate) fn lock_existing(attempt: Attempt, disk: &Disk, path: &Path, wait: LockWait) -> Result<Active> {
        for _ in 0..REPLACED_MAX {
            let place = Place::find(disk, path, attempt)?;
            let failed = |error| Error::io(attempt, path, error);
            let file = disk.open_append(&place.path).map_err(failed)?;
            let id = file.id().map_err(failed)?;
            file.show_presence();
            let active = Active { file, id, place };
            active.lock(wait, attempt)?;
            // Between opening and locking, a repair or a rotation may have put another file in this one's place.
            if active.is_named()? {
                return Ok(active);
            }
        }
        Err(replaced_again(attempt, path))
    }

    /// Makes the file's name durable.
    pub(crate) fn sync_dir(&self) -> Result<()> {
        if seeded::bug("no-directory-sync") {
            return Ok(());
        }
        self.place.dir.sync().map_err(|error| Error::io(Attempt::Sync, &self.place.path, error).detail("its directory"))
    }

    /// Takes the exclusive lock, or says who holds it.
    pub(crate) fn lock(&self, wait: LockWait, attempt: Attempt) -> Result<()> {
        match lock::acquire(&self.file, wait) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let holder = self.place.disk.lock_holder(self.id).map_or("another writer".to_owned(), |holder| holder.to_string());
                Err(Error::new(ErrorKind::Locked, attempt).on(&self.place.path).detail(format!("locked by {holder}")))
            }
            Err(error) => Err(Error::io(Attempt::Lock, &self.place.path, error)),
        }
    }

    /// Lets the next writer in. If the system refuses, it gets in when this descriptor is closed.
    pub(crate) fn unlock(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(path = %self.place.path.display(), %error, "the lock could not be released");
        }
    }

    /// Whether the path still names this file, and no other that was put in its place.
    pub(crate) fn is_named(&self) -> Result<bool> {
        if seeded::bug("path-not-rechecked") {
            return Ok(true);
        }
        let named = self.place.dir.id_of(&self.place.name);
        named.map(|id| id == Some(self.id)).map_err(|error| Error::io(Attempt::Append, &self.place.path, error))
    }
}
