//! A directory on the real disk.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, OFlags, StatxFlags};

use super::{FileId, FileKind, Seen, file, names::Changed, replace};

/// One open directory.
#[derive(Debug)]
pub(crate) struct RealDir {
    handle: fs::File,
    path: PathBuf,
}

pub(super) fn kind(path: &Path) -> io::Result<Option<FileKind>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(file::kind_of(metadata.file_type()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn look(path: &Path) -> io::Result<Option<Seen>> {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::SIZE | StatxFlags::CTIME) {
        Ok(found) => {
            let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
            let changed = (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec);
            Ok(Some(Seen { id: FileId { device, inode: found.stx_ino }, len: found.stx_size, changed }))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn create(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

impl RealDir {
    pub(super) fn open(path: &Path) -> io::Result<RealDir> {
        // An empty path is how the parent of a bare file name is spelled.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let handle = fs::OpenOptions::new().read(true).custom_flags(OFlags::DIRECTORY.bits().cast_signed()).open(path)?;
        Ok(RealDir { handle, path: path.to_owned() })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    pub(super) fn id_of(&self, name: &OsStr) -> io::Result<Option<FileId>> {
        match rustix::fs::statx(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO) {
            Ok(found) => {
                let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
                Ok(Some(FileId { device, inode: found.stx_ino }))
            }
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|found| Ok(found?.file_name())).collect()
    }

    pub(super) fn changed(&self) -> Option<Changed> {
        let metadata = self.handle.metadata().ok()?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        Some(Changed { id, at: metadata.modified().ok()?, told: (metadata.ctime(), metadata.ctime_nsec()) })
    }

    pub(super) fn free_bytes(&self) -> io::Result<Option<u64>> {
        replace::free_bytes(&self.handle)
    }
}
