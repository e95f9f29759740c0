//! A new file that appears under its name when it is whole, or not at all; and never in the place of another one.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use tempfile::{TempDir, TempPath};

use crate::exit::Stop;

/// A file in a directory of its own, beside where it is to be; both are removed unless it is [installed](NewFile::install).
pub(crate) struct NewFile {
    path: PathBuf,
    dir: TempDir,
    draft: PathBuf,
}

impl NewFile {
    /// Prepares a place for the file; nothing is created in it yet. ^C may not come between this and the end.
    pub(crate) fn at(path: &Path) -> Result<NewFile, Stop> {
        let name = name_of(path)?;
        let failed = |error| failed(path, error);
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".");
        let dir = tempfile::Builder::new().prefix(&hidden).tempdir_in(parent(path)).map_err(failed)?;
        let draft = dir.path().join(name);
        Ok(NewFile { path: path.to_owned(), dir, draft })
    }

    /// Where the file is to be written.
    pub(crate) fn draft(&self) -> &Path {
        &self.draft
    }

    /// Gives the file its name, durably.
    pub(crate) fn install(self) -> Result<(), Stop> {
        let failed = |error| failed(&self.path, error);
        File::open(&self.draft).and_then(|file| file.sync_all()).map_err(failed)?;
        let draft = TempPath::try_from_path(&self.draft).map_err(failed)?;
        draft.persist_noclobber(&self.path).map_err(|error| failed(error.error))?;
        self.dir.close().and_then(|()| File::open(parent(&self.path))?.sync_all()).map_err(failed)
    }
}

/// Refuses a path where no new file can be, before anything is done for it.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), Stop> {
    name_of(path).map(drop)
}

fn name_of(path: &Path) -> Result<&OsStr, Stop> {
    let Some(name) = path.file_name() else { return Err(failed(path, io::Error::other("it names no file"))) };
    match path.symlink_metadata() {
        Ok(_) => Err(failed(path, io::Error::other("there is such a file already, and it is not replaced"))),
        Err(_) => Ok(name),
    }
}

fn failed(path: &Path, error: io::Error) -> Stop {
    Stop::system(format!("create `{}`", path.display()), error)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
