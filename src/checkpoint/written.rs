//! A checkpoint as it is written: flat, short, and every member always there, so that formats without names can hold it too.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::{
    fingerprint::Fingerprint,
    position::{Mark, Position},
    sys::FileId,
};

#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    /// Percent signs, and bytes that are no UTF-8, are spelled `%FF`.
    path: Option<String>,
    file: Option<File>,
    fingerprint: Option<Fingerprint>,
    generation: u64,
    last: Option<Last>,
}

#[derive(Serialize, Deserialize)]
struct File {
    device: u64,
    inode: u64,
}

/// The last acknowledged record.
#[derive(Serialize, Deserialize)]
struct Last {
    seq: Option<u64>,
    crc: String,
    segment: u64,
    start: u64,
    end: u64,
}

impl From<Checkpoint> for Written {
    fn from(checkpoint: Checkpoint) -> Written {
        let last = |mark: Mark| Last {
            seq: mark.seq,
            crc: format!("{:08x}", mark.crc),
            segment: mark.start.segment,
            start: mark.start.offset,
            end: mark.end.offset,
        };
        Written {
            path: checkpoint.path.as_deref().map(spell),
            file: checkpoint.file.map(|FileId { device, inode }| File { device, inode }),
            fingerprint: checkpoint.fingerprint,
            generation: checkpoint.generation,
            last: checkpoint.mark.map(last),
        }
    }
}

impl From<Written> for Checkpoint {
    /// A CRC that is none makes a checkpoint without a last record: it proves nothing.
    fn from(written: Written) -> Checkpoint {
        let mark = |last: Last| {
            let crc = u32::from_str_radix(&last.crc, 16).ok().filter(|_| last.crc.len() == 8)?;
            let at = |offset| Position { segment: last.segment, offset };
            Some(Mark { seq: last.seq, start: at(last.start), end: at(last.end.max(last.start)), crc })
        };
        Checkpoint {
            path: written.path.as_deref().map(unspell),
            file: written.file.map(|File { device, inode }| FileId { device, inode }),
            fingerprint: written.fingerprint,
            generation: written.generation,
            mark: written.last.and_then(mark),
        }
    }
}

fn spell(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

fn unspell(text: &str) -> PathBuf {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let escaped = part.get(..2).and_then(|hex| Some((u8::from_str_radix(hex, 16).ok()?, part.get(2..)?)));
        let (byte, rest) = escaped.unwrap_or((b'%', part));
        bytes.push(byte);
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_comes_back_as_it_was() {
        for path in [&b"/a/b.jsonl"[..], b"/100%/x", b"%25", b"/\xff\xfe%\xc3\xa4\xc3", b"%", b"", "/\u{e4}\"\n".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            assert_eq!(unspell(&spell(&path)), path);
        }
        assert_eq!(spell(Path::new("/a/b c.jsonl")), "/a/b c.jsonl");
    }

    #[test]
    fn any_text_is_some_path() {
        for text in ["%", "%%", "%2", "%zz", "%\u{e4}", "a%0"] {
            unspell(text);
        }
    }
}
