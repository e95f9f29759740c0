//! The bytes of a snapshot: a sealed header line, whose number is the generation, and the state as one line of JSON.
//!
//! ```text
//! {"untorn":"snapshot","version":1,"saved_at":"2026-11-21T04:02:44Z","length":24,"crc":"9ae0daaf","through":{"seq":42,…},"journal":"/…/j.jsonl","_seq":7,"_crc":"…"}
//! {"turns":3,"open":["t1"]}
//! ```
//!
//! The header's seal covers every byte of it, and the header has the length and the CRC of the state, so any bit that changes shows. Nothing
//! is believed before it is checked: the length is compared with the size of the file, and the CRC with the bytes, before memory is taken for
//! them. Bytes behind the state are damage: no writer of ours leaves any.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::written::{spell, unspell},
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        LF,
        seal::{self, Opening, Shape},
    },
    position::{Mark, WrittenMark},
    sys::File,
};

const MAGIC: &str = "snapshot";
pub(super) const VERSION: u32 = 1;

/// The header is on the first so many bytes: a path is the only part of it that may be long.
const HEADER_BYTES_MAX: usize = 64 << 10;

const CHUNK_BYTES: usize = 64 << 10;

/// What a header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) generation: u64,
    pub(super) saved_at: String,
    /// Of the state, in bytes.
    pub(super) length: u64,
    /// Of the state.
    pub(super) crc: u32,
    pub(super) through: Mark,
    pub(super) journal: PathBuf,
    /// Of the header line, LF included: where the state starts.
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    untorn: String,
    version: u32,
    saved_at: String,
    length: u64,
    crc: String,
    through: WrittenMark,
    journal: String,
}

#[derive(Deserialize)]
struct Magic {
    untorn: String,
    version: u64,
}

/// A snapshot as it is written.
pub(super) fn encode(state: &[u8], through: Mark, journal: &Path, generation: u64) -> Result<Vec<u8>> {
    let written = Written {
        untorn: MAGIC.to_owned(),
        version: VERSION,
        saved_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        length: state.len() as u64,
        crc: format!("{:08x}", crc32fast::hash(state)),
        through: through.into(),
        journal: spell(journal),
    };
    let encode = |error| Error::json(ErrorKind::Encode, Attempt::SaveSnapshot, error);
    let header = serde_json::to_vec(&written).map_err(encode)?;
    let mut bytes = Vec::with_capacity(header.len() + state.len() + 128);
    let opening = Opening::of(&header);
    seal::write(&mut bytes, &header, opening, opening.crc(&header), generation, 0);
    bytes.extend_from_slice(state);
    bytes.push(LF);
    Ok(bytes)
}

/// Reads and checks the header, and what it says of the state, in bounded memory.
pub(super) fn check(file: &File, path: &Path) -> Result<Header> {
    let failed = |error| Error::io(Attempt::ReadSnapshot, path, error);
    let size = file.size().map_err(failed)?;
    let mut start = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX)];
    let read = file.read_full_at(&mut start, 0).map_err(failed)?;
    let header = header(start.get(..read).unwrap_or_default(), path)?;
    let there = size.saturating_sub(header.bytes);
    match there.checked_sub(header.length) {
        Some(1) => {}
        None | Some(0) => return Err(corrupt(path, format!("the header says {} bytes of state, and {there} are there", header.length))),
        Some(behind) => return Err(corrupt(path, format!("{} bytes stand behind the state", behind - 1))),
    }
    if header.length == 0 {
        return Err(corrupt(path, "the state has no bytes".to_owned()));
    }
    let (mut crc, mut last) = (crc32fast::Hasher::new(), [0]);
    each_chunk(file, header.bytes, header.length, |chunk| crc.update(chunk)).map_err(failed)?;
    file.read_full_at(&mut last, header.bytes + header.length).map_err(failed)?;
    prove(path, &header, crc.finalize())?;
    if last != [LF] { Err(corrupt(path, "no LF stands behind the state".to_owned())) } else { Ok(header) }
}

/// The state of a file that was checked. It is checked once more, for another process may write to the file, whatever it should.
pub(super) fn state(file: &File, path: &Path, header: &Header) -> Result<Vec<u8>> {
    let mut state = vec![0; usize::try_from(header.length).unwrap_or_default()];
    let read = file.read_full_at(&mut state, header.bytes).map_err(|error| Error::io(Attempt::ReadSnapshot, path, error))?;
    state.truncate(read);
    prove(path, header, crc32fast::hash(&state))?;
    Ok(state)
}

fn prove(path: &Path, header: &Header, crc: u32) -> Result<()> {
    if crc == header.crc { Ok(()) } else { Err(corrupt(path, format!("the header says CRC {:08x}, the state gives {crc:08x}", header.crc))) }
}

fn each_chunk(file: &File, start: u64, len: u64, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    while done < len {
        let wanted = usize::try_from(len - done).unwrap_or(usize::MAX).min(chunk.len());
        let read = file.read_full_at(chunk.get_mut(..wanted).unwrap_or_default(), start + done)?;
        if read == 0 {
            break;
        }
        take(chunk.get(..read).unwrap_or_default());
        done += read as u64;
    }
    Ok(())
}

/// The header in the first bytes of a file. What is wrong is told in the order in which it decides: is it ours, is it whole, do we know it?
fn header(start: &[u8], path: &Path) -> Result<Header> {
    if start.is_empty() {
        return Err(corrupt(path, "it is empty".to_owned()));
    }
    let end = memchr::memchr(LF, start).ok_or_else(|| corrupt(path, "it is no snapshot: its first line has no end".to_owned()))?;
    let line = start.get(..end).unwrap_or_default();
    let seal = match seal::shape(line) {
        Shape::Sealed(seal) if seal.holds(line) => seal,
        Shape::Sealed(seal) => {
            return Err(corrupt(path, format!("the header's seal says {:08x}, its bytes give {:08x}", seal.crc, seal.computed(line))));
        }
        Shape::Newer => return Err(newer(path).detail("the seal of its header has members of a newer format")),
        Shape::Near => return Err(corrupt(path, "one byte of its header's seal is off".to_owned())),
        Shape::Plain => return Err(corrupt(path, "it is no snapshot: its first line is no sealed header".to_owned())),
    };
    let mut line = line.to_vec();
    let payload = seal::payload(&mut line, &seal);
    let no_header = |error: serde_json::Error| corrupt(path, format!("it is no snapshot: its first line is no header: {error}"));
    let magic: Magic = serde_json::from_slice(payload).map_err(no_header)?;
    if magic.untorn != MAGIC {
        let name: String = magic.untorn.chars().take(40).collect();
        return Err(corrupt(path, format!("it is no snapshot: its magic is {name:?}, not {MAGIC:?}")));
    }
    if magic.version > u64::from(VERSION) {
        return Err(newer(path).detail(format!("it has version {}, and this program knows versions up to {VERSION}", magic.version)));
    }
    let written: Written = serde_json::from_slice(payload).map_err(no_header)?;
    let crc = u32::from_str_radix(&written.crc, 16).map_err(|_| corrupt(path, "the header's CRC is no number".to_owned()))?;
    let through = written.through.mark().ok_or_else(|| corrupt(path, "the covered line's CRC is no number".to_owned()))?;
    Ok(Header {
        generation: seal.seq,
        saved_at: written.saved_at,
        length: written.length,
        crc,
        through,
        journal: unspell(&written.journal),
        bytes: end as u64 + 1,
    })
}

fn corrupt(path: &Path, why: String) -> Error {
    Error::new(ErrorKind::Corrupt, Attempt::ReadSnapshot).on(path).detail(why)
}

fn newer(path: &Path) -> Error {
    Error::new(ErrorKind::NewerFormat, Attempt::ReadSnapshot).on(path)
}
