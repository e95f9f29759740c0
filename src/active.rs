//! The active segment's file: found by its path, opened or created, locked, and checked to be still the one that its path names.
//!
//! A crash while it is created leaves no file, or an empty one, which every opener takes for a journal without records; whoever appends to an
//! empty file syncs its directory first. Where the file is missing beside archived segments a rotation is half done, which `rotate` ends.

use std::{
    borrow::Cow,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::name::{self, ArchivedName},
    lock::{self, LockWait},
    seeded,
    sys::{Dir, Disk, File, FileId, FileKind, names::Names},
};

/// How often a path may name another file than the one that was opened, before opening gives up.
pub(crate) const REPLACED_MAX: usize = 100;

/// The error for a path that names another file each time it is looked at.
pub(crate) fn replaced_again(attempt: Attempt, path: &Path) -> Error {
    Error::new(ErrorKind::Changed, attempt).on(path).detail("it is replaced again and again")
}

/// The active segment, open for appending.
///
/// Clones share the descriptor, and so its lock.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<File>,
    pub(crate) id: FileId,
    pub(crate) place: Arc<Place>,
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
                    Some(FileKind::Regular) => {}
                    Some(FileKind::Link) => return Err(refused("it is a symbolic link to a symbolic link")),
                    Some(kind) => return Err(refused(what(kind))),
                    None => {
                        // In the middle of a rotation there is no active segment.
                        let place = Place::at(disk, target.clone()).map_err(failed)?;
                        if place.is_none_or(|place| place.archived(None).is_ok_and(|archived| archived.is_empty())) {
                            return Err(refused("it is a symbolic link to nothing"));
                        }
                    }
                }
                target
            }
            Some(FileKind::Regular) | None => path.to_owned(),
            Some(kind) => return Err(refused(what(kind))),
        };
        Place::at(disk, path).map_err(failed)?.ok_or_else(|| refused("it names no file"))
    }

    fn at(disk: &Disk, path: PathBuf) -> io::Result<Option<Place>> {
        let Some(name) = path.file_name().map(ToOwned::to_owned) else { return Ok(None) };
        let dir = disk.open_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(Some(Place { disk: disk.clone(), path, name, dir, home: std::env::current_dir().ok() }))
    }

    /// The archived segments in the journal's directory, ascending; of a plain and a compressed twin the plain one. A name that stands for the
    /// active file is none of them: a rotation is half done.
    pub(crate) fn archived(&self, active: Option<FileId>) -> Result<Vec<ArchivedName>> {
        self.archived_in(&Names::default(), active)
    }

    /// The same, for one of many journals in a directory: its listing may be remembered.
    pub(crate) fn archived_in(&self, names: &Names, active: Option<FileId>) -> Result<Vec<ArchivedName>> {
        let failed = |error| Error::io(Attempt::List, &self.path, error).detail("its directory");
        let mut archived = Vec::new();
        for name in names.list(&self.dir).map_err(failed)?.beginning_with(&name::archived_prefix(&self.name)) {
            let Some(found) = name::parse_archived(&self.name, name) else { continue };
            let id = self.dir.id_of(name).map_err(failed)?;
            let is_file = self.disk.kind(&self.path.with_file_name(name)).map_err(failed)? == Some(FileKind::Regular);
            if is_file && id != active {
                archived.push(found);
            }
        }
        archived.sort();
        archived.dedup_by_key(|found| found.number);
        Ok(archived)
    }

    /// The path of an archived segment.
    pub(crate) fn path_of(&self, archived: ArchivedName) -> PathBuf {
        let path = self.path.with_file_name(name::archived(&self.name, archived.number));
        if archived.compressed { name::compressed(&path) } else { path }
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
    /// Opens the file; `None` if there is none. The lock is not taken.
    pub(crate) fn open(place: &Arc<Place>) -> Result<Option<Active>> {
        match place.disk.open_append(&place.path) {
            Ok(file) => Active::of(file, place).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(place.failed(error)),
        }
    }

    /// Creates the file with the mode; `None` if somebody else has created it in between. The lock is not taken.
    pub(crate) fn create(place: &Arc<Place>, mode: u32) -> Result<Option<Active>> {
        match place.disk.create_append(&place.path, mode) {
            Ok(file) => {
                let active = Active::of(file, place)?;
                active.sync_dir()?;
                Ok(Some(active))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(place.failed(error)),
        }
    }

    fn of(file: File, place: &Arc<Place>) -> Result<Active> {
        let kind = file.kind().map_err(|error| place.failed(error))?;
        if kind != FileKind::Regular {
            return Err(Error::new(ErrorKind::NotAFile, Attempt::OpenToAppend).on(&place.path).detail(what(kind)));
        }
        let id = file.id().map_err(|error| place.failed(error))?;
        file.show_presence();
        Ok(Active { file: Arc::new(file), id, place: Arc::clone(place) })
    }

    /// Opens the file that is there, and takes its lock. Nothing is created.
    pub(crate) fn lock_existing(attempt: Attempt, disk: &Disk, path: &Path, wait: LockWait) -> Result<Active> {
        for _ in 0..REPLACED_MAX {
            let place = Place::find(disk, path, attempt)?;
            let failed = |error| Error::io(attempt, path, error);
            let file = disk.open_append(&place.path).map_err(failed)?;
            let id = file.id().map_err(failed)?;
            file.show_presence();
            let active = Active { file: Arc::new(file), id, place: Arc::new(place) };
            // Between opening and locking, a repair or a rotation may have put another file in this one's place.
            if active.lock_while_named(wait, attempt)? && active.is_named()? {
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
        self.locked(lock::acquire(&self.file, wait), attempt)
    }

    /// The same as long as the path names this file; `false` if it names another one by now, whose lock is the one to wait for. This one may
    /// stay locked for long: an archived segment is, while it is compressed.
    pub(crate) fn lock_while_named(&self, wait: LockWait, attempt: Attempt) -> Result<bool> {
        let locked = lock::acquire_while(&self.file, wait, || !matches!(self.is_named(), Ok(false)));
        if matches!(locked, Ok(false)) && !self.is_named()? {
            return Ok(false);
        }
        self.locked(locked, attempt).map(|()| true)
    }

    fn locked(&self, locked: io::Result<bool>, attempt: Attempt) -> Result<()> {
        match locked {
            Ok(true) => Ok(()),
            Ok(false) => {
                let holder = self.place.disk.lock_holder(self.id).map_or("another writer".to_owned(), |holder| holder.to_string());
                Err(Error::new(ErrorKind::Locked, attempt).on(&self.place.path).detail(format!("locked by {holder}")))
            }
            Err(error) => Err(Error::io(Attempt::Lock, &self.place.path, error)),
        }
    }

    /// Refuses a file that has a second name, under which its content would stay what it is.
    pub(crate) fn refuse_second_name(&self, attempt: Attempt) -> Result<()> {
        if self.file.links().map_err(|error| Error::io(attempt, &self.place.path, error))? > 1 {
            let detail = "it has a second hard link, which would keep the old content";
            return Err(Error::new(ErrorKind::HardLinked, attempt).on(&self.place.path).detail(detail));
        }
        Ok(())
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
