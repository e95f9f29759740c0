//! Writes an archived segment compressed: zstd frames of whole lines, and the seek table behind them.
//!
//! A frame holds as many whole lines as fit into 4 MiB, or one longer line (of more than 64 MiB, which no record is by default, a part), so that a line is found without decompressing more than one frame, and
//! a frame that is damaged takes no line of another one with it. Each frame carries the length of its content and a checksum.
//!
//! A crash at any moment leaves frames without a table: readable from the start to the cut, by this crate and by `zstd -d`. Nothing here syncs or
//! renames; who archives does that, after reading the new file back.

use std::io;

use zstd::{bulk, zstd_safe::CParameter};

use crate::{
    format::{
        COMPRESSED_FRAME_BYTES, LF, LINE_BYTES_MAX_DEFAULT,
        seek_table::{self, Entry},
    },
    sys::File,
};

/// A good ratio at more than the speed of a disk.
const LEVEL: i32 = 3;

/// What has no LF for longer than this is divided: all of a frame is in memory, here and when it is read.
#[allow(clippy::cast_possible_truncation, reason = "it is 64 MiB")]
const LINE_MAX: usize = LINE_BYTES_MAX_DEFAULT as usize;

/// Bytes are looked at in pieces of this size, whatever they come in.
const PIECE_BYTES: usize = 64 << 10;

/// Compresses lines into a file, behind what it holds already (which should be nothing).
///
/// ```ignore
/// let new = disk.create_append(&path, mode)?;
/// let mut compressor = Compressor::new(&new)?;
/// compressor.write(b"{\"n\":1}\n{\"n\"")?; // pieces of any size
/// compressor.write(b":2}\n")?;
/// let len = compressor.finish()?;
/// new.sync_data()?;
/// ```
#[must_use = "without `finish`, the last lines and the seek table are not written"]
pub(crate) struct Compressor<'a> {
    file: &'a File,
    zstd: bulk::Compressor<'static>,
    /// What is in no frame yet. Less than a frame's worth, unless it is one line.
    pending: Vec<u8>,
    /// No LF that could end a frame is in `pending` before this.
    searched: usize,
    entries: Vec<Entry>,
    written: u64,
}

impl<'a> Compressor<'a> {
    pub(crate) fn new(file: &'a File) -> io::Result<Compressor<'a>> {
        let mut zstd = bulk::Compressor::new(LEVEL)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true))?;
        zstd.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Compressor { file, zstd, pending: Vec::new(), searched: 0, entries: Vec::new(), written: 0 })
    }

    /// Takes more bytes of the segment; lines may be divided over several calls. After an error the file is of no use.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.pending.extend_from_slice(piece);
            while let Some(end) = self.frame_end() {
                self.write_frame(end)?;
            }
        }
        Ok(())
    }

    /// Writes what is left, and the seek table. Gives the number of bytes written in all.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        if !self.pending.is_empty() {
            self.write_frame(self.pending.len())?;
        }
        let table = seek_table::encode(&self.entries).ok_or_else(too_large)?;
        self.file.write_all(&table)?;
        Ok(self.written + table.len() as u64)
    }

    /// Where the next frame ends in `pending`, once there is enough for it.
    fn frame_end(&mut self) -> Option<usize> {
        if self.pending.len() < COMPRESSED_FRAME_BYTES {
            return None;
        }
        let (frame, _) = self.pending.split_at(COMPRESSED_FRAME_BYTES);
        if self.searched == 0
            && let Some(lf) = memchr::memrchr(LF, frame)
        {
            return Some(lf + 1);
        }
        let from = self.searched.max(COMPRESSED_FRAME_BYTES);
        let found = memchr::memchr(LF, self.pending.get(from..).unwrap_or_default());
        self.searched = self.pending.len();
        let end = found.map_or(self.pending.len(), |lf| from + lf + 1);
        if end > LINE_MAX { Some(LINE_MAX) } else { found.map(|_| end) }
    }

    /// Makes a frame of the first `end` bytes of `pending`.
    fn write_frame(&mut self, end: usize) -> io::Result<()> {
        let content = self.pending.get(..end).unwrap_or_default();
        let frame = self.zstd.compress(content)?;
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| too_large());
        let entry = Entry { compressed: len(&frame)?, content: len(content)? };
        self.file.write_all(&frame)?;
        self.written += u64::from(entry.compressed);
        self.entries.push(entry);
        self.pending.drain(..end);
        self.searched = 0;
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a line or a segment is too large for a seek table")
}

#[cfg(all(test, feature = "sim"))]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;
    use crate::{sim::SimDisk, sys::Disk};

    /// A segment with one enormous run of damage, without an LF, was taken into memory as a whole to be compressed.
    #[test]
    fn what_has_no_lf_is_compressed_in_parts() {
        let disk = SimDisk::new();
        disk.mkdir("/j").unwrap();
        let file = Disk { sim: Some(disk.clone()) }.create_append("/j/s.zst".as_ref(), 0o600).unwrap();
        let mut compressor = Compressor::new(&file).unwrap();
        let piece = vec![0; 1 << 20];
        for _ in 0..150 {
            compressor.write(&piece).unwrap();
            assert!(compressor.pending.len() <= LINE_MAX);
        }
        let len = compressor.finish().unwrap();
        assert_eq!(file.size().unwrap(), len);
        let content = crate::segment::content_of("/j/s.zst".as_ref(), file).unwrap();
        assert_eq!(content.size().unwrap(), 150 << 20);
        let mut last = [1];
        assert_eq!(content.read_full_at(&mut last, (150 << 20) - 1).unwrap(), 1);
        assert_eq!(last, [0]);
    }
}
