//! What the arguments name: journals, and stdin.
//!
//! A journal is read from both ends, so stdin is kept in a file meanwhile. That file has no name while it grows, where the system can do that, and
//! loses its name as soon as it is open as a journal: nothing of it stays, whatever ends the process.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};
use tempfile::TempPath;

use crate::exit::Stop;

/// One journal to read.
#[derive(Debug)]
pub(crate) enum Source {
    Named(OsString),
    Stdin(Kept),
}

/// Stdin in a file.
#[derive(Debug)]
pub(crate) struct Kept {
    path: TempPath,
}

/// The name of the file that keeps stdin, for [`forget_stdin`].
static STDIN: Mutex<Option<TempPath>> = Mutex::new(None);

impl Source {
    /// Takes an argument; `-` is stdin, read to its end first.
    pub(crate) fn open(argument: &OsStr) -> Result<Source, Stop> {
        if argument != "-" {
            return Ok(Source::Named(argument.to_owned()));
        }
        let failed = |error| Stop::system("keep stdin in a temporary file", error);
        let path = match unnamed() {
            Ok(mut file) => {
                fill(&mut file)?;
                name_it(&file).map_err(failed)?
            }
            Err(_) => {
                let (mut file, path) = temporary().tempfile().and_then(|named| remember(named.into_parts())).map_err(failed)?;
                fill(&mut file)?;
                path
            }
        };
        Ok(Source::Stdin(Kept { path }))
    }

    /// Takes the name of a temporary file away, once it is open as a journal.
    pub(crate) fn opened(&self) {
        if let Source::Stdin(kept) = self {
            let _ = fs::remove_file(&kept.path);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::Named(path) => Path::new(path),
            Source::Stdin(kept) => &kept.path,
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

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("untorn-").suffix(".jsonl");
    builder
}

fn fill(file: &mut File) -> Result<(), Stop> {
    let copied = io::copy(&mut io::stdin().lock(), file).map(drop);
    copied.map_err(|error| Stop::system("read stdin", error))
}

/// A file without a name; not every file system has such.
fn unnamed() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(std::env::temp_dir())
}

/// Gives a file a name, to be opened by. See open(2), `O_TMPFILE`.
fn name_it(file: &File) -> io::Result<TempPath> {
    let named = temporary().make(|path| Ok(linkat(CWD, descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?))?;
    remember(named.into_parts()).map(|(_, path)| path)
}

fn descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Has the name removed on ^C too.
fn remember<F>((file, path): (F, TempPath)) -> io::Result<(F, TempPath)> {
    let twin = TempPath::try_from_path(path.to_path_buf())?;
    *STDIN.lock().unwrap_or_else(PoisonError::into_inner) = Some(twin);
    Ok((file, path))
}

/// Removes what was kept of stdin, before the process ends on ^C.
pub(crate) fn forget_stdin() {
    drop(STDIN.lock().unwrap_or_else(PoisonError::into_inner).take());
}
