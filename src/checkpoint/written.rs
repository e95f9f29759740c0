//! A checkpoint as it is written: flat, short, and every member always there, so that formats without names can hold it too.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::{fingerprint::Fingerprint, position::WrittenMark, sys::FileId};

#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    /// Percent signs, and bytes that are no UTF-8, are spelled `%FF`.
    path: Option<String>,
    file: Option<File>,
    fingerprint: Option<Fingerprint>,
    generation: u64,
    /// The last acknowledged record.
    last: Option<WrittenMark>,
}

#[derive(Serialize, Deserialize)]
struct File {
    device: u64,
    inode: u64,
}

impl From<Checkpoint> for Written {
    fn from(checkpoint: Checkpoint) -> Written {
        Written {
            path: checkpoint.path.as_deref().map(spell),
            file: checkpoint.file.map(|FileId { device, inode }| File { device, inode }),
            fingerprint: checkpoint.fingerprint,
            generation: checkpoint.generation,
            last: checkpoint.mark.map(WrittenMark::from),
        }
    }
}

impl From<Written> for Checkpoint {
    /// A CRC that is none makes a checkpoint without a last record: it proves nothing.
    fn from(written: Written) -> Checkpoint {
        Checkpoint {
            path: written.path.as_deref().map(unspell),
            file: written.file.map(|File { device, inode }| FileId { device, inode }),
            fingerprint: written.fingerprint,
            generation: written.generation,
            mark: written.last.and_then(WrittenMark::mark),
        }
    }
}

pub(crate) fn spell(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

pub(crate) fn unspell(text: &str) -> PathBuf {
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
