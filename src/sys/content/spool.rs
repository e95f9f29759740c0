//! A compressed file without a way to its middle, decompressed into a temporary file.
//!
//! The temporary file is made where the system keeps such files (`TMPDIR` names another place), has no name, and is gone with its descriptor,
//! whatever ends the process. If there is no room for the content, that is an error which names the place; nothing is read in part then.

use std::{
    fs,
    io::{self, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
};

use super::{Compression, File, Stream, Unreadable, is_of_system};
use crate::words;

const BLOCK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Spooled {
    content: fs::File,
    /// What is in it, the LF for what could not be decompressed included.
    len: u64,
    /// Why it ends before its end.
    lost: Option<String>,
}

impl Spooled {
    /// Decompresses a file up to its end, or to the first byte that is no compressed data.
    pub(super) fn fill(file: &File, compression: Compression) -> Result<Spooled, Unreadable> {
        let stream = Stream { file, at: 0, end: file.size()? };
        let mut decompressed = decompress(stream, compression)?;
        let temporary = |error| Unreadable::Temporary { dir: std::env::temp_dir(), error };
        let mut content = tempfile::tempfile().map_err(temporary)?;
        let mut len = 0;
        let mut lost = None;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match decompressed.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    content.write_all(block.get(..read).unwrap_or_default()).map_err(temporary)?;
                    len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_of_system(&error) => return Err(error.into()),
                Err(error) => {
                    lost = Some(format!("it decompresses to {} and no further: {error}", words::count(len, "byte")));
                    content.write_all(b"\n").map_err(temporary)?;
                    len += 1;
                    break;
                }
            }
        }
        Ok(Spooled { content, len, lost })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.content.read_at(into, offset)
    }

    pub(super) fn lost(&self, range: &Range<u64>) -> Option<String> {
        self.lost.clone().filter(|_| range.end >= self.len)
    }
}

fn decompress<'a>(stream: Stream<'a>, compression: Compression) -> Result<Box<dyn Read + 'a>, Unreadable> {
    match compression {
        #[cfg(feature = "zstd")]
        Compression::Zstd => Ok(Box::new(zstd::Decoder::new(stream)?)),
        #[cfg(feature = "gzip")]
        Compression::Gzip => Ok(Box::new(flate2::read::MultiGzDecoder::new(stream))),
        #[cfg(not(all(feature = "zstd", feature = "gzip")))]
        _ => Err(Unreadable::Unsupported(compression)),
    }
}
