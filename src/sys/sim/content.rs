//! Everything that outlives the processes: names and inodes, without handles, locks or faults.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

use rustix::io::Errno;

use super::{
    inode::Inode,
    names::{NameChange, Names, is_root},
};
use crate::sys::FileKind;

const DIR_MODE: u32 = 0o755;
const WRITE_BITS: u32 = 0o222;
/// As many as Linux follows.
const LINKS_MAX: usize = 40;

/// What a rename does when the new name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Replace,
    Refuse,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
}

/// The one spelling of a path: without `.`.
pub(super) fn key(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

impl Content {
    /// The same inode numbers, other names and inodes: what is left after a power cut.
    pub(super) fn after_crash(&self, names: Names, inodes: BTreeMap<u64, Inode>) -> Content {
        Content { names, inodes, last_inode: self.last_inode }
    }

    pub(super) fn inode(&self, number: u64) -> io::Result<&Inode> {
        self.inodes.get(&number).ok_or(Errno::STALE.into())
    }

    pub(super) fn inode_mut(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or(Errno::STALE.into())
    }

    /// The inode that the path names, links not followed; fails where the path goes through something that is no directory.
    fn lookup(&self, path: &Path) -> io::Result<Option<u64>> {
        let path = key(path);
        for above in path.ancestors().skip(1) {
            if let Some(number) = self.names.get(above)
                && self.inode(number)?.kind != FileKind::Directory
            {
                return Err(Errno::NOTDIR.into());
            }
        }
        Ok(self.names.get(&path))
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        self.lookup(path)?.ok_or(Errno::NOENT.into())
    }

    pub(super) fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        if is_root(&key(path)) {
            return Ok(Some(FileKind::Directory));
        }
        self.lookup(path)?.map(|number| Ok(self.inode(number)?.kind)).transpose()
    }

    pub(super) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let inode = self.inode(self.find(path)?)?;
        if inode.kind == FileKind::Link { Ok(OsString::from_vec(inode.live().to_vec()).into()) } else { Err(Errno::INVAL.into()) }
    }

    /// The path that a chain of links ends at; nothing need be there.
    pub(super) fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = key(path);
        for _ in 0..LINKS_MAX {
            if self.kind(&path)? != Some(FileKind::Link) {
                return Ok(path);
            }
            let target = self.read_link(&path)?;
            path = key(&path.parent().unwrap_or(Path::new("")).join(target));
        }
        Err(Errno::LOOP.into())
    }

    /// The inode to open for writing: never through a link, and only if its mode allows it.
    pub(super) fn find_writable(&self, path: &Path) -> io::Result<u64> {
        let number = self.find(path)?;
        let inode = self.inode(number)?;
        match inode.kind {
            FileKind::Link => Err(Errno::LOOP.into()),
            FileKind::Directory => Err(Errno::ISDIR.into()),
            FileKind::Regular | FileKind::Special if inode.mode & WRITE_BITS == 0 => Err(Errno::ACCESS.into()),
            FileKind::Regular | FileKind::Special => Ok(number),
        }
    }

    pub(super) fn names_in(&self, dir: &Path) -> Vec<OsString> {
        let inside = self.names.live().keys().filter(|path| path.parent() == Some(dir));
        inside.filter_map(|path| path.file_name()).map(OsStr::to_owned).collect()
    }

    /// Gives a name to a new inode. The name is not durable before its directory is synced.
    pub(super) fn create(&mut self, path: &Path, inode: Inode) -> io::Result<u64> {
        let path = self.free_name(path)?;
        let number = self.add(inode);
        self.names.change(NameChange { gone: None, new: Some((path, number)) });
        Ok(number)
    }

    pub(super) fn link(&mut self, old: &Path, new: &Path) -> io::Result<()> {
        let number = self.find_no_dir(old)?;
        let path = self.free_name(new)?;
        self.names.change(NameChange { gone: None, new: Some((path, number)) });
        Ok(())
    }

    pub(super) fn rename(&mut self, old: &Path, new: &Path, taken: Taken) -> io::Result<()> {
        let number = self.find_no_dir(old)?;
        match self.lookup(new)? {
            Some(_) if taken == Taken::Refuse => return Err(Errno::EXIST.into()),
            Some(same) if same == number => return Ok(()),
            Some(other) if self.inode(other)?.kind == FileKind::Directory => return Err(Errno::ISDIR.into()),
            _ => {}
        }
        self.check_dir_of(old)?;
        self.check_dir_of(new)?;
        let new = self.with_dirs(new);
        self.names.change(NameChange { gone: Some(key(old)), new: Some((new, number)) });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find_no_dir(path)?;
        self.check_dir_of(path)?;
        self.names.change(NameChange { gone: Some(key(path)), new: None });
        Ok(())
    }

    /// Makes the directory and those above it exist, as if they had always been there.
    pub(super) fn make_dirs(&mut self, dir: &Path) {
        let missing: Vec<_> = dir.ancestors().filter(|dir| !is_root(dir) && self.names.get(dir).is_none()).map(Path::to_owned).collect();
        for dir in missing {
            let number = self.add(Content::new_dir());
            self.names.change(NameChange { gone: None, new: Some((dir.clone(), number)) });
            self.names.settle(|change| change.touches(&dir));
        }
    }

    pub(super) fn new_dir() -> Inode {
        Inode::new(FileKind::Directory, DIR_MODE, Vec::new())
    }

    pub(super) fn new_link(target: &Path) -> Inode {
        Inode::new(FileKind::Link, 0o777, target.as_os_str().as_bytes().to_vec())
    }

    fn add(&mut self, inode: Inode) -> u64 {
        self.last_inode += 1;
        self.inodes.insert(self.last_inode, inode);
        self.last_inode
    }

    fn free_name(&mut self, path: &Path) -> io::Result<PathBuf> {
        if self.kind(path)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        self.check_dir_of(path)?;
        Ok(self.with_dirs(path))
    }

    /// The path as a key, the directories above it made.
    fn with_dirs(&mut self, path: &Path) -> PathBuf {
        let path = key(path);
        if let Some(dir) = path.parent() {
            self.make_dirs(dir);
        }
        path
    }

    /// Directories are neither linked, renamed nor removed here.
    fn find_no_dir(&self, path: &Path) -> io::Result<u64> {
        let number = self.find(path)?;
        if self.inode(number)?.kind == FileKind::Directory { Err(Errno::OPNOTSUPP.into()) } else { Ok(number) }
    }

    /// A directory without write permission keeps its names.
    fn check_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = key(path).parent().and_then(|dir| self.names.get(dir));
        match dir.map(|number| self.inode(number)).transpose()? {
            Some(dir) if dir.mode & WRITE_BITS == 0 => Err(Errno::ACCESS.into()),
            _ => Ok(()),
        }
    }
}
