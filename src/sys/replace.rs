//! Putting one file in another one's place on the real disk: names, links, owners, and the room that is left.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};

pub(super) fn replace(old: &Path, new: &Path) -> io::Result<()> {
    fs::rename(old, new)
}

/// Where the file system knows no such rename, the new name is linked, which fails if it is taken, and the old one removed. Between the two calls
/// the file has both names.
pub(super) fn rename_new(old: &Path, new: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(old, new)?;
            fs::remove_file(old)
        }
        done => Ok(done?),
    }
}

pub(super) fn hard_link(old: &Path, new: &Path) -> io::Result<()> {
    fs::hard_link(old, new)
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

pub(super) fn free_bytes(dir: &fs::File) -> io::Result<Option<u64>> {
    let found = rustix::fs::fstatvfs(dir)?;
    Ok(found.f_bavail.checked_mul(found.f_frsize))
}

/// The mode comes last: changing the owner may clear some of its bits.
pub(super) fn own_like(file: &fs::File, model: &fs::File) -> io::Result<()> {
    let (own, wanted) = (file.metadata()?, model.metadata()?);
    if (own.uid(), own.gid()) != (wanted.uid(), wanted.gid()) {
        fchown(file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.set_permissions(wanted.permissions())
}
