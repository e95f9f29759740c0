//! What the arguments name: journals, and stdin.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use tempfile::TempPath;

use crate::exit::Stop;

/// One journal to read.
#[derive(Debug)]
pub(crate) enum Source {
    Named(OsString),
    /// Stdin, which is kept in a file meanwhile: a journal is read from both ends.
    Stdin(TempPath),
}

/// The file that keeps stdin, for [`forget_stdin`].
static STDIN: Mutex<Option<TempPath>> = Mutex::new(None);

impl Source {
    /// Takes an argument; `-` is stdin, read to its end first.
    pub(crate) fn open(argument: &OsStr) -> Result<Source, Stop> {
        if argument != "-" {
            return Ok(Source::Named(argument.to_owned()));
        }
        let failed = |error| Stop::system("keep stdin in a temporary file", error);
        let (mut file, path) = tempfile::Builder::new().prefix("untorn-").suffix(".jsonl").tempfile().map_err(failed)?.into_parts();
        let twin = TempPath::try_from_path(path.to_path_buf()).map_err(failed)?;
        *STDIN.lock().unwrap_or_else(PoisonError::into_inner) = Some(twin);
        io::copy(&mut io::stdin().lock(), &mut file).map_err(|error| Stop::system("read stdin", error))?;
        Ok(Source::Stdin(path))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::Named(path) => Path::new(path),
            Source::Stdin(path) => path,
        }
    }

    /// What a file of the journal is called when it is spoken of.
    pub(crate) fn name<'a>(&'a self, file: &'a Path) -> &'a Path {
        match self {
            Source::Named(_) => file,
            Source::Stdin(_) => Path::new("stdin"),
        }
    }
}

/// Removes what was kept of stdin, before the process ends on ^C.
pub(crate) fn forget_stdin() {
    drop(STDIN.lock().unwrap_or_else(PoisonError::into_inner).take());
}
