//! A disk in memory whose every call can fail and whose power can be cut at any moment. For tests; **outside SemVer**.
//!
//! A [`SimDisk`] stands in for the real disk below everything the library does, so a test of a full disk, a failed sync or a power cut runs in
//! microseconds and always the same way. Three things can be done to it:
//!
//! - **Faults**: [`SimDisk::fail`] makes a chosen call fail, be short or lie; [`SimDisk::set_capacity`] fills the disk. Every call the library
//!   makes is an op in a log ([`SimDisk::ops`], [`SimDisk::log`]), so a sweep can fail each one in turn.
//! - **Strangers**: [`SimDisk::before`] runs a closure just before a chosen op, for instance one that appends, truncates or renames.
//! - **Crashes**: [`SimDisk::crash_images`] gives the disks that a power cut could leave now; [`SimDisk::kill`] the one that is left when only
//!   the processes die.
//!
//! ```
//! use untorn::sim::{Bounds, SimDisk};
//!
//! let disk = SimDisk::new();
//! disk.write_file("j.jsonl", "{}\n")?;
//! disk.append_raw("j.jsonl", "[1,2,3]\n")?;
//! for image in disk.crash_images(&Bounds::default()) {
//!     let bytes = image.read_file("j.jsonl").unwrap_or_default();
//!     assert!(bytes.starts_with(b"{}\n"), "{}", image.origin().unwrap());
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What a test does to the disk through the public methods is no op: it is not logged, and no fault meets it.
//!
//! # What is simulated
//!
//! Files with a cache and a platter, changed in order and synced as a whole; names that become durable when their directory is synced; links,
//! modes, and exclusive locks, each held by one handle. Paths are plain keys, and a directory that is named exists. Directories are not renamed
//! or removed, links are followed only at the end of a path, and `..` is a name like any other. Time, users and quotas do not exist.

mod content;
mod crash;
mod fault;
mod inode;
mod names;
mod seam;
mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

pub use crash::{Bounds, CrashImages, CrashOrigin, Tear};
pub use fault::{Fault, How, Op, OpKind, OpMatch, Outcome};
pub(crate) use seam::{SimDir, SimFile};

use super::{FileKind, Process};
use content::{Content, Taken, key};
use inode::Inode;
use state::{Access, State};

const FILE_MODE: u32 = 0o644;

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    /// Who opens files through this clone.
    process: Arc<Process>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when a lock is let go.
    freed: Condvar,
    origin: Option<Arc<CrashOrigin>>,
}

/// A file opened by someone who knows nothing of the library: it takes no lock unless told to, and shows no presence. What it does is no op.
#[derive(Debug)]
pub struct RawFile(SimFile);

impl SimDisk {
    /// An empty disk without limit.
    pub fn new() -> SimDisk {
        SimDisk::with(State::default(), None)
    }

    fn with(state: State, origin: Option<Arc<CrashOrigin>>) -> SimDisk {
        let process = Process { pid: std::process::id(), name: None };
        SimDisk { shared: Arc::new(Shared { state: Mutex::new(state), freed: Condvar::new(), origin }), process: Arc::new(process) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same disk as another process sees it: what is opened through this clone counts as opened by that process.
    pub fn as_process(&self, pid: u32, name: &str) -> SimDisk {
        SimDisk { shared: Arc::clone(&self.shared), process: Arc::new(Process { pid, name: Some(name.to_owned()) }) }
    }
}

/// Faults.
impl SimDisk {
    /// How many ops have begun: the index of the next one.
    pub fn ops(&self) -> usize {
        self.state().log.len()
    }

    /// All ops so far, in the order in which they began.
    pub fn log(&self) -> Vec<Op> {
        self.state().log.clone()
    }

    /// Makes ops fail from now on. Of several faults that wait for an op, the first one set meets it.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes back all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Limits the bytes in all files. A write that does not fit is short, and fails with `ENOSPC` when nothing of it fits. `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// Runs the hook just before an op, once. The hook may use the disk in any way; the op is in the log already, and its fault is settled.
    pub fn before(&self, op: OpMatch, hook: impl FnOnce(&SimDisk) + Send + 'static) {
        self.state().hooks.push((op, Box::new(hook)));
    }
}

/// Crashes. The disk itself goes on as it was, and so do its handles.
impl SimDisk {
    /// The disks that a power cut could leave now.
    pub fn crash_images(&self, bounds: &Bounds) -> CrashImages {
        let state = self.state();
        crash::images(&state.content, state.capacity, bounds, self.shared.origin.clone())
    }

    /// The disk after a power cut that left what is durable and nothing else.
    pub fn crash_now(&self) -> SimDisk {
        let state = self.state();
        crash::durable_image(&state.content, state.capacity, self.shared.origin.clone())
    }

    /// The disk after all processes were killed: every byte written is there, synced or not, and no handle or lock is left.
    pub fn kill(&self) -> SimDisk {
        let state = self.state();
        SimDisk::with(State::of(state.content.clone(), state.capacity), self.shared.origin.clone())
    }

    /// What happened to the disk in its last power cut, and in those before it.
    pub fn origin(&self) -> Option<&CrashOrigin> {
        self.shared.origin.as_deref()
    }

    /// Forgets every cached byte that counts as written, so that reads show what the disk really has.
    pub fn drop_caches(&self) {
        self.state().content.inodes.values_mut().for_each(Inode::drop_cache);
    }

    /// Makes everything durable, as `sync` on the command line does.
    pub fn sync(&self) {
        let content = &mut self.state().content;
        content.inodes.values_mut().for_each(Inode::sync);
        content.names.settle(|_| true);
    }
}

/// Looking at the files.
impl SimDisk {
    /// All regular files, by path.
    pub fn files(&self) -> Vec<PathBuf> {
        let content = &self.state().content;
        let regular = |number| content.inode(number).is_ok_and(|inode| inode.kind == FileKind::Regular);
        content.names.live().iter().filter(|(_, number)| regular(**number)).map(|(path, _)| path.clone()).collect()
    }

    /// The bytes that a reader would see; `None` without such a file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let content = &self.state().content;
        let number = content.find(&content.follow(path.as_ref()).ok()?).ok()?;
        Some(content.inode(number).ok()?.live().to_vec())
    }

    /// The bytes that [`crash_now`](SimDisk::crash_now) would leave; `None` if it would leave no such file.
    pub fn durable_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.crash_now().read_file(path)
    }
}

/// Preparing files. What is prepared is durable.
impl SimDisk {
    /// Gives a file these bytes, and creates it if it is not there.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> io::Result<()> {
        let content = &mut self.state().content;
        let path = content.follow(path.as_ref())?;
        if content.kind(&path)?.is_none() {
            prepare(content, &path, Inode::new(FileKind::Regular, FILE_MODE, Vec::new()))?;
        }
        let number = content.find(&path)?;
        let inode = content.inode_mut(number)?;
        *inode = inode.settled_as(bytes.into());
        content.names.settle(|change| change.touches(&path));
        Ok(())
    }

    /// Creates a symbolic link.
    pub fn symlink(&self, target: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
        prepare(&mut self.state().content, link.as_ref(), Content::new_link(target.as_ref()))
    }

    /// Creates a directory. Directories above a file that is created need not be created first.
    pub fn mkdir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        prepare(&mut self.state().content, path.as_ref(), Content::new_dir())
    }

    /// Creates a FIFO.
    pub fn mkfifo(&self, path: impl AsRef<Path>) -> io::Result<()> {
        prepare(&mut self.state().content, path.as_ref(), Inode::new(FileKind::Special, FILE_MODE, Vec::new()))
    }

    /// Sets permission bits. A file without any write bit cannot be opened for writing, a directory without one keeps its names.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let content = &mut self.state().content;
        let number = content.find(path.as_ref())?;
        content.inode_mut(number)?.mode = mode;
        Ok(())
    }
}

/// What strangers do. None of it is durable before a sync, of the file or of the directory.
impl SimDisk {
    /// Appends like `>>` in a shell: without lock or presence, creating the file if it is not there.
    pub fn append_raw(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let path = path.as_ref();
        if self.state().content.kind(path)?.is_none() {
            self.state().content.create(path, Inode::new(FileKind::Regular, FILE_MODE, Vec::new()))?;
        }
        self.open_raw(path)?.append(bytes)
    }

    /// Cuts a file, or lengthens it with NULs.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> io::Result<()> {
        self.open_raw(path)?.truncate(len)
    }

    /// Removes a name. Who has the file open keeps it.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.state().content.remove(path.as_ref())
    }

    /// Renames a file over whatever has the new name.
    pub fn rename(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        self.state().content.rename(old.as_ref(), new.as_ref(), Taken::Replace)
    }

    /// Gives a file a second name.
    pub fn link(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        self.state().content.link(old.as_ref(), new.as_ref())
    }

    /// Opens an existing file for appending and keeps it open: until it is dropped, its process is a stranger.
    pub fn open_raw(&self, path: impl AsRef<Path>) -> io::Result<RawFile> {
        self.open_writable(&mut self.state(), path.as_ref(), Access::Append).map(RawFile)
    }
}

impl RawFile {
    /// Appends all bytes, wherever the end of the file is by then.
    pub fn append(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let written = self.0.aside(|state, handle| state.write(handle, bytes))?;
        if written < bytes.len() { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    /// Cuts the file, or lengthens it with NULs.
    pub fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.aside(|state, handle| state.cut(handle, len))
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> io::Result<bool> {
        self.0.aside(State::try_lock)
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("files", &self.files()).field("ops", &self.ops()).finish_non_exhaustive()
    }
}

fn prepare(content: &mut Content, path: &Path, inode: Inode) -> io::Result<()> {
    content.create(path, inode)?;
    content.names.settle(|change| change.touches(&key(path)));
    Ok(())
}
