//! The calls that `sys` makes to a simulated disk in place of the system's. Each is an op: it is logged, and can meet a fault.

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use rustix::io::Errno;

use super::{
    SimDisk,
    content::{Taken, key},
    fault::{How, Op, OpKind, Outcome},
    inode::Inode,
    names::is_root,
    state::{Access, State},
};
use crate::sys::{FileId, FileKind, Process, Seen};

/// One open file. Closing it lets go of its lock.
pub(crate) struct SimFile {
    disk: SimDisk,
    handle: u64,
    path: Arc<Path>,
}

/// One open directory.
#[derive(Debug)]
pub(crate) struct SimDir {
    disk: SimDisk,
    path: PathBuf,
}

impl SimDisk {
    fn op<T>(&self, op: Op, act: impl FnOnce(&mut State, Option<How>) -> io::Result<T>) -> io::Result<T> {
        self.op_when(|_| true, op, act)
    }

    /// Runs an op: logs it, lets the hooks run that come before it, waits until the disk is ready for it, and gives it its fault.
    fn op_when<T>(&self, ready: impl Fn(&State) -> bool, op: Op, act: impl FnOnce(&mut State, Option<How>) -> io::Result<T>) -> io::Result<T> {
        let (index, how) = loop {
            // The hooks run unlocked, so they may use this disk in any way.
            let (index, how, hooks) = self.state().begin(&op);
            hooks.into_iter().for_each(|hook| hook(self));
            let Some(How::Errno(errno)) = how else { break (index, how) };
            self.state().finish(index, Outcome::Failed(errno));
            if errno != Errno::INTR.raw_os_error() || op.kind.tells_interruptions() {
                return Err(io::Error::from_raw_os_error(errno));
            }
        };
        let mut state = self.shared.freed.wait_while(self.state(), |state| !ready(state)).unwrap_or_else(PoisonError::into_inner);
        let done = act(&mut state, how);
        let said = match how {
            Some(How::ErrorAfter { errno, .. }) => Some(io::Error::from_raw_os_error(errno)),
            _ => None,
        };
        let failed = said.as_ref().or(done.as_ref().err());
        state.finish(index, failed.map_or(Outcome::Done, |error| Outcome::Failed(error.raw_os_error().unwrap_or(0))));
        // `done` may be a file, and closing it needs the lock.
        drop(state);
        said.map_or(done, Err)
    }

    /// No op: nobody asks the system for it.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    pub(crate) fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        self.op(Op::new(OpKind::PathKind, path), |state, _| state.content.kind(path))
    }

    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.op(Op::new(OpKind::ReadLink, path), |state, _| state.content.read_link(path))
    }

    pub(crate) fn open_append(&self, path: &Path) -> io::Result<SimFile> {
        self.op(Op::new(OpKind::OpenAppend, path), |state, _| self.open_writable(state, path, Access::Append))
    }

    pub(crate) fn create_append(&self, path: &Path, mode: u32) -> io::Result<SimFile> {
        self.op(Op::new(OpKind::CreateAppend, path), |state, _| {
            let inode = state.content.create(path, Inode::new(FileKind::Regular, mode, Vec::new()))?;
            Ok(self.opened(state, path, inode, Access::Append))
        })
    }

    pub(crate) fn open_read(&self, path: &Path) -> io::Result<SimFile> {
        self.op(Op::new(OpKind::OpenRead, path), |state, _| {
            let inode = state.content.find(&state.content.follow(path)?)?;
            Ok(self.opened(state, path, inode, Access::Read))
        })
    }

    pub(crate) fn open_rewrite(&self, path: &Path) -> io::Result<SimFile> {
        self.op(Op::new(OpKind::OpenRewrite, path), |state, _| self.open_writable(state, path, Access::Rewrite))
    }

    pub(crate) fn open_dir(&self, path: &Path) -> io::Result<SimDir> {
        self.op(Op::new(OpKind::OpenDir, path), |state, _| {
            let path = state.content.follow(path)?;
            if !matches!(state.content.kind(&path)?, None | Some(FileKind::Directory)) {
                return Err(Errno::NOTDIR.into());
            }
            state.content.make_dirs(&path);
            Ok(SimDir { disk: self.clone(), path })
        })
    }

    /// Renames a file over whatever has the new name.
    pub(crate) fn replace(&self, old: &Path, new: &Path) -> io::Result<()> {
        self.op(Op::new(OpKind::Rename, old), |state, _| state.content.rename(old, new, Taken::Replace))
    }

    /// Renames a file; fails if the new name is taken.
    pub(crate) fn rename_new(&self, old: &Path, new: &Path) -> io::Result<()> {
        self.op(Op::new(OpKind::Rename, old), |state, _| state.content.rename(old, new, Taken::Refuse))
    }

    pub(crate) fn hard_link(&self, old: &Path, new: &Path) -> io::Result<()> {
        self.op(Op::new(OpKind::Link, old), |state, _| state.content.link(old, new))
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.op(Op::new(OpKind::Remove, path), |state, _| state.content.remove(path))
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.op(Op::new(OpKind::CreateDir, path), |state, _| state.content.create(path, super::content::Content::new_dir()).map(drop))
    }

    /// There is no clock here, so other bytes are another time.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Option<Seen>> {
        self.op(Op::new(OpKind::Look, path), |state, _| {
            let path = state.content.follow(path)?;
            let Some(id) = state.id_at(&path) else { return Ok(None) };
            let number = state.content.find(&path)?;
            let bytes = state.content.inode(number)?.live();
            Ok(Some(Seen { id, len: bytes.len() as u64, changed: (i64::from(crc32fast::hash(bytes)) - i64::from(u32::MAX), 0) }))
        })
    }

    /// Links are followed at the end of a path only, as everywhere on this disk.
    pub(crate) fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.op(Op::new(OpKind::Canonical, path), |state, _| {
            let path = state.content.follow(path)?;
            if state.content.kind(&path)?.is_some() { Ok(path) } else { Err(Errno::NOENT.into()) }
        })
    }

    pub(crate) fn strangers(&self, id: FileId) -> Vec<Process> {
        self.state().strangers(id)
    }

    pub(crate) fn lock_holder(&self, id: FileId) -> Option<Process> {
        self.state().lock_holder(id)
    }

    pub(super) fn open_writable(&self, state: &mut State, path: &Path, access: Access) -> io::Result<SimFile> {
        let inode = state.content.find_writable(path)?;
        Ok(self.opened(state, path, inode, access))
    }

    fn opened(&self, state: &mut State, path: &Path, inode: u64, access: Access) -> SimFile {
        SimFile { disk: self.clone(), handle: state.open(inode, access, &self.process), path: path.into() }
    }
}

impl SimDir {
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.op(Op::new(OpKind::SyncDir, &self.path), |state, how| {
            match how {
                Some(How::LyingSync) => {}
                Some(How::SyncFailsAndDrops(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                _ => state.content.names.settle(|change| change.is_in(&self.path)),
            }
            Ok(())
        })
    }

    pub(crate) fn id_of(&self, name: &OsStr) -> io::Result<Option<FileId>> {
        self.disk.op(Op::new(OpKind::IdOf, self.path.join(name)), |state, _| Ok(state.id_at(&key(&self.path.join(name)))))
    }

    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        self.disk.op(Op::new(OpKind::Names, &self.path), |state, _| {
            let there = is_root(&self.path) || state.content.names.get(&self.path).is_some();
            if there { Ok(state.content.names_in(&self.path)) } else { Err(Errno::NOENT.into()) }
        })
    }

    pub(crate) fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.disk.op(Op::new(OpKind::FreeBytes, &self.path), |state, _| Ok(state.free().map(|free| free as u64)))
    }
}

impl SimFile {
    fn op<T>(&self, kind: OpKind, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.disk.op(Op::new(kind, &*self.path), |state, _| act(state))
    }

    pub(crate) fn id(&self) -> io::Result<FileId> {
        self.op(OpKind::Id, |state| state.id_of(self.handle))
    }

    pub(crate) fn kind(&self) -> io::Result<FileKind> {
        self.op(OpKind::FileKind, |state| Ok(state.inode_of(self.handle)?.kind))
    }

    pub(crate) fn mode(&self) -> io::Result<u32> {
        self.op(OpKind::Mode, |state| Ok(state.inode_of(self.handle)?.mode))
    }

    pub(crate) fn links(&self) -> io::Result<u64> {
        self.op(OpKind::Links, |state| state.links(self.handle))
    }

    pub(crate) fn own_like(&self, model: &SimFile) -> io::Result<()> {
        self.op(OpKind::OwnLike, |state| {
            let mode = state.inode_of(model.handle)?.mode;
            state.inode_of_mut(self.handle)?.mode = mode;
            Ok(())
        })
    }

    pub(crate) fn size(&self) -> io::Result<u64> {
        self.op(OpKind::Size, |state| state.size(self.handle))
    }

    pub(crate) fn position(&self) -> io::Result<u64> {
        self.op(OpKind::Position, |state| state.position(self.handle))
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let op = Op::new(OpKind::Write, &*self.path).len(bytes.len());
        self.disk.op(op, |state, how| state.write(self.handle, reached(how, bytes)))
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let op = Op::new(OpKind::ReadAt, &*self.path).at(offset).len(into.len());
        self.disk.op(op, |state, how| {
            let reach = How::reach(how, into.len());
            state.read_at(self.handle, into.get_mut(..reach).unwrap_or_default(), offset)
        })
    }

    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let op = Op::new(OpKind::WriteAt, &*self.path).at(offset).len(bytes.len());
        self.disk.op(op, |state, how| state.write_at(self.handle, reached(how, bytes), offset))
    }

    pub(crate) fn cut(&self, len: u64) -> io::Result<()> {
        self.disk.op(Op::new(OpKind::Cut, &*self.path).at(len), |state, _| state.cut(self.handle, len))
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        self.disk.op(Op::new(OpKind::SyncData, &*self.path), |state, how| {
            let inode = state.inode_of_mut(self.handle)?;
            match how {
                Some(How::LyingSync) => {}
                Some(How::SyncFailsAndDrops(errno)) => {
                    inode.lose_pending_bytes();
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Some(How::SyncDrops) => inode.lose_pending_bytes(),
                _ => inode.sync(),
            }
            Ok(())
        })
    }

    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.op(OpKind::TryLock, |state| state.try_lock(self.handle))
    }

    pub(crate) fn lock(&self) -> io::Result<()> {
        let op = Op::new(OpKind::Lock, &*self.path);
        self.disk.op_when(|state| state.can_lock(self.handle), op, |state, _| state.try_lock(self.handle).map(drop))
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        let done = self.op(OpKind::Unlock, |state| {
            state.unlock(self.handle);
            Ok(())
        });
        self.disk.shared.freed.notify_all();
        done
    }

    pub(crate) fn forget_cache(&self, _offset: u64) {
        if let Ok(inode) = self.disk.state().inode_of_mut(self.handle) {
            inode.drop_cache();
        }
    }

    pub(crate) fn show_presence(&self) {
        self.disk.state().show_presence(self.handle);
    }

    /// Does something with the handle that is no op: what a stranger does.
    pub(super) fn aside<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.disk.state();
        let done = act(&mut state, self.handle);
        // What moved here is no op's.
        state.moved = None;
        done
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().close(self.handle);
        self.disk.shared.freed.notify_all();
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The part of the bytes that a write comes to.
fn reached(how: Option<How>, bytes: &[u8]) -> &[u8] {
    bytes.get(..How::reach(how, bytes.len())).unwrap_or(bytes)
}
