//! What a compressed file holds, read like any other file.
//!
//! Files of zstd frames with a seek table, as archived segments are, are read in place: the frame that is asked for is decompressed, and a few are
//! kept ([`frames`]). In any other compressed file the only way to a byte is through all bytes before it, so it is decompressed once, on opening,
//! into a temporary file without a name ([`spool`]). Memory is bounded either way; the temporary file is as large as the content.
//!
//! What cannot be decompressed is no error, since it must not hide what can. It stands in the content as a line: NULs in the place of a frame, and
//! an LF; or an LF alone behind the last byte that could be had, where it is not known how much is missing. [`Content::lost`] tells such a line from
//! one that is really there. Offsets are always those of the content.

#[cfg(feature = "zstd")]
mod frames;
mod spool;

use std::{
    io::{self, Read},
    ops::Range,
};

use super::{File, FileId, FileKind, Unreadable, uninterrupted};
use crate::{error::ReadFailed, format::compression::Compression};

/// A compressed file, open to be read.
#[derive(Debug)]
pub(crate) struct Content {
    file: Box<File>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    #[cfg(feature = "zstd")]
    Frames(frames::Frames),
    Spooled(spool::Spooled),
}

impl Content {
    pub(super) fn open(file: File, compression: Compression) -> Result<Content, Unreadable> {
        #[cfg(feature = "zstd")]
        if compression == Compression::Zstd
            && let Some(frames) = frames::Frames::find(&file)?
        {
            return Ok(Content { file: Box::new(file), bytes: Bytes::Frames(frames) });
        }
        let spooled = spool::Spooled::fill(&file, compression)?;
        Ok(Content { file: Box::new(file), bytes: Bytes::Spooled(spooled) })
    }

    /// Why bytes of this range could not be decompressed, as far as they were asked for; `None` if all could.
    pub(crate) fn lost(&self, range: &Range<u64>) -> Option<String> {
        match &self.bytes {
            #[cfg(feature = "zstd")]
            Bytes::Frames(frames) => frames.lost(range),
            Bytes::Spooled(spooled) => spooled.lost(range),
        }
    }

    pub(super) fn id(&self) -> io::Result<FileId> {
        self.file.id()
    }

    pub(super) fn kind(&self) -> io::Result<FileKind> {
        self.file.kind()
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        self.file.mode()
    }

    pub(super) fn links(&self) -> io::Result<u64> {
        self.file.links()
    }

    #[allow(clippy::unnecessary_wraps, reason = "it is one of a file's methods")]
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(match &self.bytes {
            #[cfg(feature = "zstd")]
            Bytes::Frames(frames) => frames.len(),
            Bytes::Spooled(spooled) => spooled.len(),
        })
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.bytes {
            #[cfg(feature = "zstd")]
            Bytes::Frames(frames) => frames.read_at(&self.file, into, offset),
            Bytes::Spooled(spooled) => spooled.read_at(into, offset),
        }
    }

    pub(super) fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    pub(super) fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }

    pub(super) fn show_presence(&self) {
        self.file.show_presence();
    }

    // Content is only read. Whoever writes opens the file itself.

    pub(super) fn position(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn write(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn cut(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Of the compressed file: its content is as durable as that.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn forget_cache(&self, _: u64) {}
}

/// The bytes of a range of a file, one after the other.
struct Stream<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let room = into.len().min(left);
        let into = into.get_mut(..room).unwrap_or_default();
        let read = uninterrupted(|| self.file.read_at(into, self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Whether it was reading that failed; else the bytes that were read are no compressed data.
fn is_of_system(error: &io::Error) -> bool {
    ReadFailed::is(error)
}
