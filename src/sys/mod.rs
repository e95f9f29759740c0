//! The operating system: the only module that uses `std::fs`.
//!
//! It knows files, directories and locks, and nothing of lines. Everything goes through two values: a [`Disk`], which opens and names things,
//! and a [`File`], one open descriptor. In a normal build both are thin covers over the system's calls; with the feature `sim` they may stand
//! for an in-memory disk whose every call can fail.

#[cfg(any(feature = "zstd", feature = "gzip"))]
mod content;
mod dir;
mod file;
pub(crate) mod names;
mod proc;
mod replace;
#[cfg(feature = "sim")]
pub mod sim;

use std::{
    ffi::{OsStr, OsString},
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use self::proc::Writing;
use crate::{error::ReadFailed, format::compression::Compression};

/// A file's identity on this machine while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What a path names, as it looks without being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: FileId,
    pub(crate) len: u64,
    /// When the system took note of the last change, whatever that was: seconds, and parts of one.
    pub(crate) changed: (i64, u32),
}

/// Why a compressed file cannot be read at all.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Io(io::Error),
    /// The temporary file for its content could not be made or filled.
    #[cfg(any(feature = "zstd", feature = "gzip"))]
    Temporary {
        dir: PathBuf,
        error: io::Error,
    },
    /// This build lacks the feature.
    #[cfg(not(all(feature = "zstd", feature = "gzip")))]
    Unsupported(Compression),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        Unreadable::Io(error)
    }
}

/// What a path names, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// How often a call is made again that a signal interrupted: enough for any storm of signals, and yet no hang.
const INTERRUPTIONS_MAX: usize = 1000;

/// Makes a call again while a signal interrupts it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    call()
}

/// A process, as far as the system tells.
///
/// It shows as `process 4242 (recorder)`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What it is called.
    pub name: Option<String>,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

/// Where a journal lives: the real disk, or one in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    #[cfg(feature = "sim")]
    pub(crate) sim: Option<sim::SimDisk>,
}

/// One open file.
#[derive(Debug)]
pub(crate) enum File {
    Real(file::RealFile),
    /// What a compressed file holds, only to be read.
    #[cfg(any(feature = "zstd", feature = "gzip"))]
    Content(content::Content),
    #[cfg(feature = "sim")]
    Sim(sim::SimFile),
}

/// One open directory: names looked up in it stay right when the directory itself is renamed.
#[derive(Debug)]
pub(crate) enum Dir {
    Real(dir::RealDir),
    #[cfg(feature = "sim")]
    Sim(sim::SimDir),
}

macro_rules! on_disk {
    ($disk:expr, $real:expr, $sim:ident => $simulated:expr) => {{
        #[cfg(feature = "sim")]
        if let Some($sim) = &$disk.sim {
            return $simulated;
        }
        $real
    }};
}

macro_rules! on_dir {
    ($handle:expr, $inner:ident => $call:expr) => {
        match $handle {
            Dir::Real($inner) => $call,
            #[cfg(feature = "sim")]
            Dir::Sim($inner) => $call,
        }
    };
}

macro_rules! on_file {
    ($handle:expr, $inner:ident => $call:expr) => {
        match $handle {
            File::Real($inner) => $call,
            #[cfg(any(feature = "zstd", feature = "gzip"))]
            File::Content($inner) => $call,
            #[cfg(feature = "sim")]
            File::Sim($inner) => $call,
        }
    };
}

impl Disk {
    /// Whether what happens on it is known to the system.
    pub(crate) fn is_real(&self) -> bool {
        on_disk!(self, true, _sim => false)
    }

    /// What the path names, links not followed; `None` if nothing.
    pub(crate) fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        on_disk!(self, dir::kind(path), sim => sim.kind(path))
    }

    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        on_disk!(self, std::fs::read_link(path), sim => sim.read_link(path))
    }

    /// Opens an existing regular file to read and append. Never through a link, and never blocks on a FIFO.
    pub(crate) fn open_append(&self, path: &Path) -> io::Result<File> {
        on_disk!(self, file::open_append(path).map(File::Real), sim => sim.open_append(path).map(File::Sim))
    }

    /// Creates a file to read and append; fails if the name is taken, by a dangling link too.
    pub(crate) fn create_append(&self, path: &Path, mode: u32) -> io::Result<File> {
        on_disk!(self, file::create_append(path, mode).map(File::Real), sim => sim.create_append(path, mode).map(File::Sim))
    }

    /// Opens an existing regular file to read.
    pub(crate) fn open_read(&self, path: &Path) -> io::Result<File> {
        on_disk!(self, file::open_read(path).map(File::Real), sim => sim.open_read(path).map(File::Sim))
    }

    /// Opens an existing regular file to read, and to write at given offsets.
    pub(crate) fn open_rewrite(&self, path: &Path) -> io::Result<File> {
        on_disk!(self, file::open_rewrite(path).map(File::Real), sim => sim.open_rewrite(path).map(File::Sim))
    }

    /// Renames a file over whatever has the new name: at no moment is there neither.
    pub(crate) fn replace(&self, old: &Path, new: &Path) -> io::Result<()> {
        on_disk!(self, replace::replace(old, new), sim => sim.replace(old, new))
    }

    /// Renames a file; fails if the new name is taken.
    pub(crate) fn rename_new(&self, old: &Path, new: &Path) -> io::Result<()> {
        on_disk!(self, replace::rename_new(old, new), sim => sim.rename_new(old, new))
    }

    /// Gives a file a second name; fails if that is taken.
    pub(crate) fn hard_link(&self, old: &Path, new: &Path) -> io::Result<()> {
        on_disk!(self, replace::hard_link(old, new), sim => sim.hard_link(old, new))
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        on_disk!(self, replace::remove_file(path), sim => sim.remove_file(path))
    }

    /// Tells one disk from another in this process; all clones of a disk are the same.
    pub(crate) fn key(&self) -> usize {
        on_disk!(self, 0, sim => sim.key())
    }

    /// Creates a directory that only its owner may use; fails if the name is taken.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        on_disk!(self, dir::create(path), sim => sim.create_dir(path))
    }

    /// What the path names, links followed; `None` if nothing. Leaves the file's times alone.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        on_disk!(self, dir::look(path), sim => sim.look(path))
    }

    /// The one absolute path of what is there, every link followed.
    pub(crate) fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        on_disk!(self, std::fs::canonicalize(path), sim => sim.canonical(path))
    }

    pub(crate) fn open_dir(&self, path: &Path) -> io::Result<Dir> {
        on_disk!(self, dir::RealDir::open(path).map(Dir::Real), sim => sim.open_dir(path).map(Dir::Sim))
    }

    /// Processes that have the file open for writing without showing their presence as our writers do. Empty where the system does not tell.
    pub(crate) fn strangers(&self, id: FileId) -> Vec<Process> {
        on_disk!(self, Writing::look().strangers(id), sim => sim.strangers(id))
    }

    /// The process that holds the file's exclusive lock, where the system tells.
    pub(crate) fn lock_holder(&self, id: FileId) -> Option<Process> {
        on_disk!(self, proc::lock_holder(id), sim => sim.lock_holder(id))
    }
}

impl Dir {
    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        on_dir!(self, dir => dir.sync())
    }

    /// The file that the name stands for now, links not followed. Leaves the file's times alone.
    pub(crate) fn id_of(&self, name: &OsStr) -> io::Result<Option<FileId>> {
        on_dir!(self, dir => dir.id_of(name))
    }

    /// All names, in no order.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        on_dir!(self, dir => dir.names())
    }

    /// When the directory was changed last; `None` if the system does not tell.
    fn changed(&self) -> Option<names::Changed> {
        match self {
            Dir::Real(dir) => dir.changed(),
            #[cfg(feature = "sim")]
            Dir::Sim(_) => None,
        }
    }

    /// Bytes that may still be written to the file system; `None` if it does not tell.
    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        on_dir!(self, dir => dir.free_bytes())
    }
}

impl File {
    pub(crate) fn id(&self) -> io::Result<FileId> {
        on_file!(self, file => file.id())
    }

    pub(crate) fn kind(&self) -> io::Result<FileKind> {
        on_file!(self, file => file.kind())
    }

    /// The permission bits of the file.
    pub(crate) fn mode(&self) -> io::Result<u32> {
        on_file!(self, file => file.mode())
    }

    /// How long ago the file was created; `None` if the system does not tell. A clock that was set back since makes it no time at all.
    pub(crate) fn age(&self) -> Option<Duration> {
        match self {
            File::Real(file) => file.age(),
            #[cfg(any(feature = "sim", feature = "zstd", feature = "gzip"))]
            _ => None,
        }
    }

    /// How long the bytes of the file have not been changed; `None` if the system does not tell.
    pub(crate) fn unchanged_for(&self) -> Option<Duration> {
        match self {
            File::Real(file) => file.unchanged_for(),
            #[cfg(any(feature = "sim", feature = "zstd", feature = "gzip"))]
            _ => None,
        }
    }

    /// Gives the file the time at which another one was changed last. Where that cannot be done, nothing happens.
    #[cfg(feature = "zstd")]
    pub(crate) fn date_like(&self, model: &File) {
        if let (File::Real(file), File::Real(model)) = (self, model) {
            file.date_like(model);
        }
    }

    /// How many names the file has.
    pub(crate) fn links(&self) -> io::Result<u64> {
        on_file!(self, file => file.links())
    }

    /// Gives the file the owner and the permission bits of another one.
    pub(crate) fn own_like(&self, model: &File) -> io::Result<()> {
        match (self, model) {
            (File::Real(file), File::Real(model)) => file.own_like(model),
            #[cfg(feature = "sim")]
            (File::Sim(file), File::Sim(model)) => file.own_like(model),
            #[cfg(any(feature = "sim", feature = "zstd", feature = "gzip"))]
            _ => Ok(()),
        }
    }

    /// Bytes in the file now. Found by seeking, which unlike `fstat` does not make the next write dearer.
    pub(crate) fn size(&self) -> io::Result<u64> {
        on_file!(self, file => file.size())
    }

    /// Just past the last byte that this descriptor wrote.
    pub(crate) fn position(&self) -> io::Result<u64> {
        on_file!(self, file => file.position())
    }

    /// Appends some of `bytes`, in one system call, wherever the end of the file is by then.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        on_file!(self, file => file.write(bytes))
    }

    /// Reads some bytes at an offset; 0 at the end of the file. What fails knows the offset, and [`Error`](crate::Error) tells it.
    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        on_file!(self, file => file.read_at(into, offset)).map_err(|error| ReadFailed::at(offset, error))
    }

    /// Writes some of `bytes` at an offset; only for a file from [`Disk::open_rewrite`].
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        on_file!(self, file => file.write_at(bytes, offset))
    }

    /// Cuts the file at `len`.
    pub(crate) fn cut(&self, len: u64) -> io::Result<()> {
        on_file!(self, file => file.cut(len))
    }

    /// Makes the file's bytes and size durable (`fdatasync`). Never to be tried again after a failure.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        on_file!(self, file => file.sync_data())
    }

    /// Forgets the cached bytes from `offset` on that count as written, so that reads show what the disk has. Where the system keeps them all the
    /// same, nothing happens.
    pub(crate) fn forget_cache(&self, offset: u64) {
        on_file!(self, file => file.forget_cache(offset));
    }

    /// Takes the exclusive advisory lock if it is free.
    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        on_file!(self, file => file.try_lock())
    }

    /// Waits for the exclusive advisory lock.
    pub(crate) fn lock(&self) -> io::Result<()> {
        on_file!(self, file => file.lock())
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        on_file!(self, file => file.unlock())
    }

    /// Shows other processes that this descriptor takes the lock, until it is closed. Where that cannot be shown, nothing happens.
    pub(crate) fn show_presence(&self) {
        on_file!(self, file => file.show_presence());
    }

    /// The file itself, or what it holds if it is compressed.
    pub(crate) fn decompressed(self) -> Result<File, Unreadable> {
        match self.compression()? {
            None => Ok(self),
            #[cfg(any(feature = "zstd", feature = "gzip"))]
            Some(compression) => content::Content::open(self, compression).map(File::Content),
            #[cfg(not(any(feature = "zstd", feature = "gzip")))]
            Some(compression) => Err(Unreadable::Unsupported(compression)),
        }
    }

    /// How the file is compressed, by its first bytes. Told of a file as it was opened, not of the content of a compressed one.
    pub(crate) fn compression(&self) -> io::Result<Option<Compression>> {
        let mut head = [0; Compression::HEAD_BYTES];
        let read = self.read_full_at(&mut head, 0)?;
        Ok(Compression::of(head.get(..read).unwrap_or_default()))
    }

    /// Why bytes of this range are not what the file held: of a compressed file, those that could not be decompressed are made up.
    #[inline]
    pub(crate) fn lost(&self, range: &Range<u64>) -> Option<String> {
        match self {
            #[cfg(any(feature = "zstd", feature = "gzip"))]
            File::Content(content) => content.lost(range),
            _ => {
                let _ = range;
                None
            }
        }
    }

    /// Appends all of `bytes`, in as many system calls as it takes.
    pub(crate) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `into` from `offset` on, and says how much there was: less than all only at the end of the file.
    pub(crate) fn read_full_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match uninterrupted(|| self.read_at(rest, offset + filled as u64))? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }
}
