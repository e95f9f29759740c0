//! What the handles of one simulated disk share: its content, who has what open, and what is to go wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    ops::Range,
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    SimDisk,
    content::Content,
    fault::{Fault, How, Op, OpMatch, Outcome},
    inode::Inode,
};
use crate::sys::{FileId, FileKind, Process};

/// The device of every simulated inode.
const DEVICE: u64 = 0x51;
/// No file grows beyond it, so that a wild offset is an error and not an exhausted memory.
const FILE_BYTES_MAX: usize = 1 << 30;

/// What a handle was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Append,
    Rewrite,
}

#[derive(Debug)]
struct Handle {
    inode: u64,
    access: Access,
    position: usize,
    shows_presence: bool,
    process: Arc<Process>,
}

type Hook = Box<dyn FnOnce(&SimDisk) + Send>;

#[derive(Default)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) capacity: Option<usize>,
    /// Ops in the order in which they began.
    pub(super) log: Vec<Op>,
    pub(super) faults: Vec<Fault>,
    pub(super) hooks: Vec<(OpMatch, Hook)>,
    handles: BTreeMap<u64, Handle>,
    last_handle: u64,
    /// Inode to the handle that has its lock.
    locks: BTreeMap<u64, u64>,
    /// The bytes moved by the last call, for its entry in the log.
    pub(super) moved: Option<Range<u64>>,
}

/// An offset as an index into memory.
fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).ok().filter(|offset| *offset <= FILE_BYTES_MAX).ok_or(Errno::FBIG.into())
}

impl State {
    pub(super) fn of(content: Content, capacity: Option<usize>) -> State {
        State { content, capacity, ..State::default() }
    }

    /// Enters the op into the log, and tells its index, its fault, and the hooks that come before it.
    pub(super) fn begin(&mut self, op: &Op) -> (usize, Option<How>, Vec<Hook>) {
        let hooks = self.hooks.extract_if(.., |(at, _)| at.matches(op, &self.log)).map(|(_, hook)| hook).collect();
        let fault = self.faults.iter().find(|fault| fault.at.matches(op, &self.log)).map(|fault| fault.how);
        self.log.push(op.clone());
        (self.log.len() - 1, fault, hooks)
    }

    pub(super) fn finish(&mut self, index: usize, outcome: Outcome) {
        let moved = mem::take(&mut self.moved);
        if let Some(op) = self.log.get_mut(index) {
            op.outcome = outcome;
            op.moved = moved;
        }
    }

    pub(super) fn open(&mut self, inode: u64, access: Access, process: &Arc<Process>) -> u64 {
        self.last_handle += 1;
        let handle = Handle { inode, access, position: 0, shows_presence: false, process: Arc::clone(process) };
        self.handles.insert(self.last_handle, handle);
        self.last_handle
    }

    pub(super) fn close(&mut self, handle: u64) {
        self.unlock(handle);
        self.handles.remove(&handle);
    }

    pub(super) fn inode_of(&self, handle: u64) -> io::Result<&Inode> {
        self.content.inode(self.handle(handle)?.inode)
    }

    pub(super) fn inode_of_mut(&mut self, handle: u64) -> io::Result<&mut Inode> {
        let inode = self.handle(handle)?.inode;
        self.content.inode_mut(inode)
    }

    pub(super) fn id_of(&self, handle: u64) -> io::Result<FileId> {
        Ok(file_id(self.handle(handle)?.inode))
    }

    /// Moves the position, as the seek that finds the size does.
    pub(super) fn size(&mut self, handle: u64) -> io::Result<u64> {
        let size = self.inode_of(handle)?.live().len();
        self.handle_mut(handle)?.position = size;
        Ok(size as u64)
    }

    pub(super) fn position(&self, handle: u64) -> io::Result<u64> {
        Ok(self.handle(handle)?.position as u64)
    }

    pub(super) fn write(&mut self, handle: u64, bytes: &[u8]) -> io::Result<usize> {
        let opened = self.handle(handle)?;
        let offset = if opened.access == Access::Append { self.inode_of(handle)?.live().len() } else { opened.position };
        let written = self.put(handle, bytes, offset)?;
        if written > 0 {
            self.handle_mut(handle)?.position = offset + written;
        }
        Ok(written)
    }

    /// As on Linux, a handle that appends does so whatever the offset.
    pub(super) fn write_at(&mut self, handle: u64, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let appends = self.handle(handle)?.access == Access::Append;
        let offset = if appends { self.inode_of(handle)?.live().len() } else { index(offset)? };
        self.put(handle, bytes, offset)
    }

    pub(super) fn read_at(&mut self, handle: u64, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let inode = self.inode_of(handle)?;
        if inode.kind == FileKind::Directory {
            return Err(Errno::ISDIR.into());
        }
        let there = usize::try_from(offset).ok().and_then(|offset| inode.live().get(offset..)).unwrap_or_default();
        let read = there.len().min(into.len());
        for (place, byte) in into.iter_mut().zip(there) {
            *place = *byte;
        }
        self.moved = Some(offset..offset + read as u64);
        Ok(read)
    }

    pub(super) fn cut(&mut self, handle: u64, len: u64) -> io::Result<()> {
        if self.handle(handle)?.access == Access::Read {
            return Err(Errno::INVAL.into());
        }
        self.inode_of_mut(handle)?.cut(index(len)?);
        Ok(())
    }

    pub(super) fn can_lock(&self, handle: u64) -> bool {
        let holder = self.handles.get(&handle).and_then(|opened| self.locks.get(&opened.inode));
        holder.is_none_or(|holder| *holder == handle)
    }

    pub(super) fn try_lock(&mut self, handle: u64) -> io::Result<bool> {
        let inode = self.handle(handle)?.inode;
        let free = self.can_lock(handle);
        if free {
            self.locks.insert(inode, handle);
        }
        Ok(free)
    }

    pub(super) fn unlock(&mut self, handle: u64) {
        self.locks.retain(|_, holder| *holder != handle);
    }

    pub(super) fn show_presence(&mut self, handle: u64) {
        if let Some(opened) = self.handles.get_mut(&handle) {
            opened.shows_presence = true;
        }
    }

    /// Processes with a handle that may write and shows no presence, each once.
    pub(super) fn strangers(&self, id: FileId) -> Vec<Process> {
        let writing = self.handles.values().filter(|opened| file_id(opened.inode) == id && opened.access != Access::Read);
        let strange = writing.filter(|opened| !opened.shows_presence);
        let by_pid: BTreeMap<_, _> = strange.map(|opened| (opened.process.pid, &opened.process)).collect();
        by_pid.into_values().map(|process| Process::clone(process)).collect()
    }

    pub(super) fn lock_holder(&self, id: FileId) -> Option<Process> {
        let holder = self.locks.get(&id.inode).filter(|_| id.device == DEVICE)?;
        Some(Process::clone(&self.handles.get(holder)?.process))
    }

    pub(super) fn id_at(&self, path: &Path) -> Option<FileId> {
        self.content.names.get(path).map(file_id)
    }

    /// Writes as much as there is room for: short if that is not all, `ENOSPC` if it is nothing.
    fn put(&mut self, handle: u64, bytes: &[u8], offset: usize) -> io::Result<usize> {
        if self.handle(handle)?.access == Access::Read {
            return Err(Errno::BADF.into());
        }
        let room = self.free().unwrap_or(FILE_BYTES_MAX);
        let inode = self.inode_of_mut(handle)?;
        let fits = (inode.live().len() + room).min(FILE_BYTES_MAX).saturating_sub(offset).min(bytes.len());
        match bytes.get(..fits) {
            Some([]) if !bytes.is_empty() => return Err(Errno::NOSPC.into()),
            Some(fitting) if fits > 0 => inode.write(offset, fitting),
            _ => {}
        }
        self.moved = Some(offset as u64..(offset + fits) as u64);
        Ok(fits)
    }

    /// How many names the file of the handle has.
    pub(super) fn links(&self, handle: u64) -> io::Result<u64> {
        let inode = self.handle(handle)?.inode;
        Ok(self.content.names.live().values().filter(|named| **named == inode).count() as u64)
    }

    /// Room for so many bytes, if there is a limit.
    pub(super) fn free(&self) -> Option<usize> {
        self.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }

    /// Bytes of all files that have a name or are open.
    fn used(&self) -> usize {
        let open = self.handles.values().map(|opened| opened.inode);
        let taken: BTreeSet<u64> = self.content.names.live().values().copied().chain(open).collect();
        taken.iter().filter_map(|number| self.content.inodes.get(number)).map(|inode| inode.live().len()).sum()
    }

    fn handle(&self, handle: u64) -> io::Result<&Handle> {
        self.handles.get(&handle).ok_or(Errno::BADF.into())
    }

    fn handle_mut(&mut self, handle: u64) -> io::Result<&mut Handle> {
        self.handles.get_mut(&handle).ok_or(Errno::BADF.into())
    }
}

fn file_id(inode: u64) -> FileId {
    FileId { device: DEVICE, inode }
}
