//! A file's identity across renames and growth: a hash of its first whole line.
//!
//! The first line of a file that is only appended to never changes once its LF is there, so the fingerprint is the same however far the file has
//! grown. A file without a whole line has none: two empty files are not taken for one. Files that begin with the same line have the same
//! fingerprint, so it never stands alone: whoever compares it also wants a proof of the position.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{
    format::{LF, LINE_BYTES_MAX_DEFAULT},
    sys::{File, uninterrupted},
};

/// See <http://www.isthe.com/chongo/tech/comp/fnv/>: the offset basis and the prime of the 64-bit hash.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

const CHUNK_BYTES: usize = 64 << 10;

/// FNV-1a 64 over the first whole line of a file, without its LF, and how long that line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    #[serde(with = "hex")]
    pub(crate) fnv: u64,
    /// Without the LF.
    pub(crate) len: u64,
}

impl Fingerprint {
    /// The fingerprint of a file; none if its first line has no LF, or is longer than any line may be by default.
    pub(crate) fn of(file: &File) -> io::Result<Option<Fingerprint>> {
        let mut found = Fingerprint { fnv: BASIS, len: 0 };
        let mut chunk = vec![0; CHUNK_BYTES];
        while found.len < LINE_BYTES_MAX_DEFAULT {
            let read = uninterrupted(|| file.read_at(&mut chunk, found.len))?;
            let bytes = chunk.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = memchr::memchr(LF, bytes);
            let line = bytes.get(..end.unwrap_or(read)).unwrap_or_default();
            found.fnv = line.iter().fold(found.fnv, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
            found.len += line.len() as u64;
            if end.is_some() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Sixteen hexadecimal digits: no JSON reader loses bits of them.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{number:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;
    use crate::sys::Disk;

    fn of(bytes: &[u8]) -> Option<Fingerprint> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        std::fs::write(&path, bytes).unwrap();
        Fingerprint::of(&Disk::default().open_read(&path).unwrap()).unwrap()
    }

    /// Known answers of FNV-1a 64.
    #[test]
    fn the_hash_is_fnv_1a_over_the_line_without_its_lf() {
        assert_eq!(of(b"a\n"), Some(Fingerprint { fnv: 0xaf63_dc4c_8601_ec8c, len: 1 }));
        assert_eq!(of(b"foobar\nmore\n"), Some(Fingerprint { fnv: 0x8594_4171_f739_67e8, len: 6 }));
        assert_eq!(of(b"\n"), Some(Fingerprint { fnv: BASIS, len: 0 }));
    }

    /// S0-13: growth does not change it, at whatever byte the file was cut. S0-15: without a whole line there is none.
    #[test]
    fn it_is_there_from_the_first_lf_on_and_never_changes() {
        let file = b"{\"first\":1}\n{\"second\":2}\n{\"thi";
        let first = file.iter().position(|byte| *byte == LF).unwrap();
        for len in 0..=file.len() {
            let expected = (len > first).then(|| of(file).unwrap());
            assert_eq!(of(&file[..len]), expected, "of {len} bytes");
        }
    }

    #[test]
    fn a_line_longer_than_one_read_is_hashed_as_one() {
        let mut file = vec![b'x'; 3 * CHUNK_BYTES + 7];
        assert_eq!(of(&file), None);
        file.push(LF);
        let hash = file.iter().take(file.len() - 1).fold(BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
        assert_eq!(of(&file), Some(Fingerprint { fnv: hash, len: 3 * CHUNK_BYTES as u64 + 7 }));
    }
}
