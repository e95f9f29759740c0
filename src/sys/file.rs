//! A file on the real disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};

use rustix::fs::OFlags;

use super::{FileId, FileKind, proc, replace};

/// One descriptor, private to its owner and closed when a child process starts.
#[derive(Debug)]
pub(crate) struct RealFile(fs::File);

/// No system has larger pages; a part of one is not forgotten.
const PAGE_BYTES_MAX: u64 = 64 << 10;

/// Not through a link, and not waiting for the other end of a FIFO.
fn careful() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

pub(super) fn open_append(path: &Path) -> io::Result<RealFile> {
    OpenOptions::new().read(true).append(true).custom_flags(careful()).open(path).map(RealFile)
}

pub(super) fn create_append(path: &Path, mode: u32) -> io::Result<RealFile> {
    OpenOptions::new().read(true).append(true).create_new(true).mode(mode).custom_flags(careful()).open(path).map(RealFile)
}

pub(super) fn open_read(path: &Path) -> io::Result<RealFile> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).map(RealFile)
}

pub(super) fn open_rewrite(path: &Path) -> io::Result<RealFile> {
    OpenOptions::new().read(true).write(true).custom_flags(careful()).open(path).map(RealFile)
}

pub(super) fn kind_of(file_type: fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::Regular
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_symlink() {
        FileKind::Link
    } else {
        debug_assert!(file_type.is_fifo() || file_type.is_socket() || file_type.is_char_device() || file_type.is_block_device());
        FileKind::Special
    }
}

impl RealFile {
    pub(super) fn id(&self) -> io::Result<FileId> {
        let metadata = self.0.metadata()?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }

    pub(super) fn kind(&self) -> io::Result<FileKind> {
        Ok(kind_of(self.0.metadata()?.file_type()))
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        Ok(self.0.metadata()?.mode() & 0o7777)
    }

    pub(super) fn age(&self) -> Option<Duration> {
        let born = self.0.metadata().and_then(|metadata| metadata.created()).ok()?;
        Some(born.elapsed().unwrap_or_default())
    }

    pub(super) fn unchanged_for(&self) -> Option<Duration> {
        let changed = self.0.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some(changed.elapsed().unwrap_or_default())
    }

    #[cfg(feature = "zstd")]
    pub(super) fn date_like(&self, model: &RealFile) {
        let dated = model.0.metadata().and_then(|metadata| self.0.set_modified(metadata.modified()?));
        if let Err(error) = dated {
            tracing::debug!(%error, fd = self.0.as_raw_fd(), "the time of the last change cannot be set");
        }
    }

    pub(super) fn links(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.nlink())
    }

    pub(super) fn own_like(&self, model: &RealFile) -> io::Result<()> {
        replace::own_like(&self.0, &model.0)
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        (&self.0).seek(SeekFrom::End(0))
    }

    pub(super) fn position(&self) -> io::Result<u64> {
        (&self.0).stream_position()
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    pub(super) fn cut(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    pub(super) fn forget_cache(&self, offset: u64) {
        let page = offset - offset % PAGE_BYTES_MAX;
        if let Err(error) = rustix::fs::fadvise(&self.0, page, None, rustix::fs::Advice::DontNeed) {
            tracing::debug!(%error, fd = self.0.as_raw_fd(), "the cache cannot be forgotten on this file system");
        }
    }

    // `fs2`'s methods are called by their full names: `std::fs::File` has methods of the same names.

    pub(super) fn try_lock(&self) -> io::Result<bool> {
        loop {
            match fs2::FileExt::try_lock_exclusive(&self.0) {
                Ok(()) => return Ok(true),
                Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn lock(&self) -> io::Result<()> {
        loop {
            match fs2::FileExt::lock_exclusive(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        fs2::FileExt::unlock(&self.0)
    }

    pub(super) fn show_presence(&self) {
        if let Err(error) = proc::show_presence(&self.0) {
            tracing::debug!(%error, fd = self.0.as_raw_fd(), "presence cannot be shown on this file system");
        }
    }
}
