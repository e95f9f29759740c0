//! Putting a new file in a journal's place, with no moment at which the journal is missing or half there.
//!
//! Everything happens under the exclusive lock of the old file:
//!
//! 1. what an earlier swap left behind when it crashed is removed: its temporary files, and a backup that is still the journal itself, or the name
//!    of an archived segment that is, which a rotation leaves where a rename without replacing takes two calls;
//! 2. a temporary file beside the journal gets the journal's owner and mode, and then its new content. Crash here: a stale temporary file, which
//!    step 1 of the next swap removes;
//! 3. it is synced. Crash here: the same;
//! 4. the old file gets a second name, the backup, and the directory is synced. Crash here: the journal has two names, and whoever opens it next
//!    removes the second;
//! 5. the new file is locked, before anybody can see it, and gets a second temporary name;
//! 6. it is renamed over the journal. Crash here: the path names the old file or the new one, and each of them is whole. Whoever opens the new one
//!    sees its two names and syncs the directory, or else what he appends could be lost with the rename in a power cut;
//! 7. the directory is synced, and the second name removed. Crash here: the new file;
//! 8. the new file is unlocked, and then the old one. A writer that waited for the old lock sees that its path names another file, and goes on
//!    in that one.
//!
//! A rotation uses the same temporary files, for the new active segment and without a replaced one: see `rotate`.
//!
//! Permission bits and owner are kept; extended attributes are not.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    active::{Active, Place},
    error::{Attempt, Error, ErrorKind, Result},
    format::name,
    seeded,
    sys::{Disk, File, FileId},
};

/// How many names are tried for a file that must not replace another one.
const NAMES_MAX: u32 = 1000;

/// A new file under a temporary name beside a journal, with the journal's owner and mode. Dropping it removes it, unless it got another name.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) file: Arc<File>,
    temporary: Temporary,
}

impl Fresh {
    /// Creates it, empty, with the owner and the mode of `model`.
    pub(crate) fn create(place: &Place, model: &File) -> io::Result<Fresh> {
        Fresh::create_as(place, &place.name, model)
    }

    /// The same under a temporary name of another file than the active one.
    pub(crate) fn create_as(place: &Place, base: &OsStr, model: &File) -> io::Result<Fresh> {
        let mode = model.mode()?;
        let name = |attempt| name::temporary(base, std::process::id(), attempt);
        let (file, path) = first_free(name, |name| {
            let path = place.path.with_file_name(name);
            place.disk.create_append(&path, mode & 0o600).map(|file| (file, path))
        })?;
        let temporary = Temporary { disk: place.disk.clone(), path, is_installed: false };
        file.own_like(model)?;
        Ok(Fresh { file: Arc::new(file), temporary })
    }

    #[cfg(feature = "zstd")]
    pub(crate) fn path(&self) -> &Path {
        &self.temporary.path
    }

    /// Takes its lock, before anybody else can see it as the journal.
    pub(crate) fn lock(&self, attempt: Attempt) -> Result<FileId> {
        let failed = |error| Error::io(attempt, &self.temporary.path, error);
        self.file.show_presence();
        let id = self.file.id().map_err(failed)?;
        if !self.file.try_lock().map_err(failed)? {
            return Err(Error::new(ErrorKind::Locked, attempt).on(&self.temporary.path).detail("somebody locked the temporary file"));
        }
        Ok(id)
    }

    /// Gives it its name, which nothing may have.
    pub(crate) fn rename_new(&mut self, path: &Path) -> io::Result<()> {
        self.temporary.disk.rename_new(&self.temporary.path, path)?;
        self.temporary.is_installed = true;
        Ok(())
    }

    /// Gives it its name in place of the file that has it now.
    fn replace(&mut self, path: &Path) -> io::Result<()> {
        self.temporary.disk.replace(&self.temporary.path, path)?;
        self.temporary.is_installed = true;
        Ok(())
    }
}

/// The next content of a journal, in a file of its own until it is installed. Dropping it removes that file.
#[derive(Debug)]
pub(crate) struct Successor {
    attempt: Attempt,
    /// Removed before the lock is let go, and another swap may use the name: fields are dropped in order.
    fresh: Fresh,
    active: Active,
}

/// A file that is removed again unless it has come to its place.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(crate) disk: Disk,
    pub(crate) path: PathBuf,
    pub(crate) is_installed: bool,
}

impl Temporary {
    /// Lets it stay, to be removed by whoever comes next.
    fn keep(mut self) {
        self.is_installed = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_installed
            && let Err(error) = self.disk.remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file could not be removed; the next repair does it");
        }
    }
}

/// What a swap leaves: the journal's new file and, still locked, the one that it replaced.
#[derive(Debug)]
pub(crate) struct Installed {
    /// Unlocked before `replaced` is: fields are dropped in order.
    pub(crate) active: Active,
    pub(crate) replaced: Arc<File>,
    pub(crate) backup: Option<PathBuf>,
}

impl Successor {
    /// Steps 1 and 2, but for the content.
    ///
    /// # Errors
    ///
    /// [`HardLinked`](ErrorKind::HardLinked) if the journal has a second name: the swap would leave the old content under that one.
    pub(crate) fn create(attempt: Attempt, active: Active) -> Result<Successor> {
        clear_leftovers(attempt, &active)?;
        active.refuse_second_name(attempt)?;
        let fresh = Fresh::create(&active.place, &active.file).map_err(|error| Error::io(attempt, &active.place.path, error))?;
        Ok(Successor { attempt, fresh, active })
    }

    /// The journal as it is now.
    pub(crate) fn old(&self) -> &Active {
        &self.active
    }

    /// The empty file to be filled by appending.
    pub(crate) fn new_file(&self) -> &File {
        &self.fresh.file
    }

    /// Steps 3 to 7; the last one happens when what is returned is dropped. `backup` is the id that the old file's second name ends in.
    ///
    /// # Errors
    ///
    /// [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) if the new file is in place, but a power cut may bring the old one back. After any other
    /// error the old file is in place.
    pub(crate) fn install(mut self, backup: Option<&str>) -> Result<Installed> {
        let (attempt, disk) = (self.attempt, self.active.place.disk.clone());
        let journal = self.active.place.path.clone();
        let failed = |error| Error::io(attempt, &journal, error);
        if !seeded::bug("swapped-before-sync") {
            self.fresh.file.sync_data().map_err(failed)?;
        }
        let backup = backup.map(|id| self.back_up(id)).transpose().map_err(failed)?;
        let mut second = self.second_name();
        let renamed = self.rename();
        let installed = renamed.inspect_err(|_| {
            if !matches!(self.active.is_named(), Ok(true)) {
                // It failed, and was done all the same: both names are needed.
                second.take().into_iter().for_each(Temporary::keep);
                return;
            }
            if let Some(Err(error)) = backup.as_ref().map(|backup| disk.remove_file(backup)) {
                tracing::warn!(path = %journal.display(), %error, "the backup's name could not be taken back; whoever opens the journal next does it");
            }
        })?;
        self.active.place.dir.sync().map_err(|error| {
            // Whoever opens the journal next sees two names, and syncs.
            second.take().into_iter().for_each(Temporary::keep);
            failed(error).kinded(ErrorKind::DurabilityUnknown).detail("the new file is in place, but its directory could not be synced")
        })?;
        drop(second);
        let Successor { active: Active { file: replaced, place, .. }, fresh, .. } = self;
        let active = Active { file: fresh.file, id: installed, place };
        Ok(Installed { active, replaced, backup })
    }

    /// Step 4.
    fn back_up(&self, id: &str) -> io::Result<PathBuf> {
        let place = &self.active.place;
        let backup = first_free(
            |attempt| name::backup(&place.name, id, attempt),
            |name| {
                let path = place.path.with_file_name(name);
                place.disk.hard_link(&place.path, &path).map(|()| path)
            },
        )?;
        place.dir.sync()?;
        Ok(backup)
    }

    /// Gives the new file another temporary name, that is there until the first one, being the journal's by then, is durable. Where the file system
    /// has no hard links nothing tells the next opener that this may be missing.
    fn second_name(&self) -> Option<Temporary> {
        let place = &self.active.place;
        let linked = first_free(
            |attempt| name::temporary(&place.name, std::process::id(), attempt),
            |name| {
                let path = place.path.with_file_name(name);
                let linked = place.disk.hard_link(&self.fresh.temporary.path, &path);
                if linked.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
                    // It may be there all the same.
                    let _ = place.disk.remove_file(&path);
                }
                linked.map(|()| path)
            },
        );
        match linked {
            Ok(path) => Some(Temporary { disk: place.disk.clone(), path, is_installed: false }),
            Err(error) => {
                tracing::debug!(path = %place.path.display(), %error, "the new file could not get a second name");
                None
            }
        }
    }

    /// Steps 5 and 6.
    fn rename(&mut self) -> Result<FileId> {
        let place = &self.active.place;
        let failed = |error| Error::io(self.attempt, &place.path, error);
        let id = self.fresh.lock(self.attempt)?;
        if !self.active.is_named()? {
            return Err(Error::new(ErrorKind::Changed, self.attempt).on(&place.path).detail("another file was put in its place"));
        }
        self.fresh.replace(&place.path).map_err(failed)?;
        Ok(id)
    }
}

/// Step 1: removes what a swap left that crashed before its rename. Under the exclusive lock, so that no swap is under way.
pub(crate) fn clear_leftovers(attempt: Attempt, active: &Active) -> Result<()> {
    let place = &active.place;
    let failed = |error| Error::io(attempt, &place.path, error);
    let mut is_synced = false;
    for name in place.dir.names().map_err(failed)? {
        let could_be_second = name::is_backup(&place.name, &name) || name::parse_archived(&place.name, &name).is_some();
        let is_second = || Ok(could_be_second && place.dir.id_of(&name)? == Some(active.id));
        if name::is_temporary(&place.name, &name) || is_second().map_err(failed)? {
            if !is_synced {
                // A second name says that the first one may not be durable.
                place.dir.sync().map_err(failed)?;
                is_synced = true;
            }
            place.disk.remove_file(&place.path.with_file_name(&name)).map_err(failed)?;
            tracing::info!(path = %place.path.display(), leftover = %name.display(), "removed what a crash left");
        }
    }
    Ok(())
}

/// Creates a file of its own with what `fill` writes, and makes it durable; if that fails, no file is left.
pub(crate) fn create_beside(attempt: Attempt, disk: &Disk, path: &Path, mode: u32, fill: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let failed = |error| Error::io(attempt, path, error);
    let file = disk.create_append(path, mode).map_err(failed)?;
    let mut unfinished = Temporary { disk: disk.clone(), path: path.to_owned(), is_installed: false };
    fill(&file)?;
    file.sync_data().map_err(failed)?;
    disk.open_dir(path.parent().unwrap_or(Path::new(""))).and_then(|dir| dir.sync()).map_err(failed)?;
    unfinished.is_installed = true;
    Ok(())
}

/// The first name that is not taken, and what `create` made of it.
pub(crate) fn first_free<T>(name: impl Fn(u32) -> OsString, create: impl Fn(&OsStr) -> io::Result<T>) -> io::Result<T> {
    let mut attempt = 0;
    loop {
        match create(&name(attempt)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES_MAX => attempt += 1,
            done => return done,
        }
    }
}
