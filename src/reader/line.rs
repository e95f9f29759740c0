//! One line as a reader gives it, borrowed from the reader's buffer.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        json,
        seal::{self, Seal, Shape},
        verdict::{Code, Verdict},
    },
    judge::Found,
    position::Mark,
    segment::Segment,
};

/// One line of a journal: its verdict, its mark, its bytes.
///
/// It borrows the reader's buffer, so nothing is copied. The payload of a sealed line is made by putting one byte back where the seal stands
/// now; this is why [`bytes`](Line::bytes), [`payload`](Line::payload) and [`decode`](Line::decode) need `&mut`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, concat!(r#"{"type":"message","text":"hi","_seq":42,"_crc":"79097342"}"#, "\n"))?;
/// let mut reader = untorn::Reader::open(&path)?;
/// let mut line = reader.next_line()?.expect("there is one line");
/// assert_eq!(line.verdict(), untorn::Verdict::Sealed);
/// assert_eq!(line.mark().seq, Some(42));
/// assert_eq!(line.payload(), Some(&br#"{"type":"message","text":"hi"}"#[..]));
/// assert!(line.bytes().ends_with(br#","_seq":42,"_crc":"79097342"}"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Line<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) found: Found,
    pub(super) segment: &'a Segment,
    pub(super) number: Option<u64>,
    /// The byte of the seal that gave way to the payload's last one.
    pub(super) displaced: Option<u8>,
}

impl Line<'_> {
    /// What the line is.
    pub fn verdict(&self) -> Verdict {
        self.found.verdict
    }

    /// The line's place, number and CRC. The CRC of a line that was too long to be kept is that of no bytes.
    pub fn mark(&self) -> Mark {
        Mark {
            seq: self.found.seal.map(|seal| seal.seq),
            start: self.segment.position(self.found.span.start),
            end: self.segment.position(self.found.end()),
            crc: crc(&self.found, self.bytes),
        }
    }

    /// The line's number in its file, from 1, if the file was read from its first line on.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// The file that the line is in.
    pub fn path(&self) -> &Path {
        &self.segment.path
    }

    /// The bytes in the file, without LF; none of a line over the limit.
    ///
    /// Of a record at the end of the file that lacks its LF, what may stand behind it is left out.
    pub fn bytes(&mut self) -> &[u8] {
        if let (Some(byte), Some(place)) = (self.displaced.take(), self.close()) {
            *place = byte;
        }
        self.bytes
    }

    /// The payload, byte for byte as it was appended; `None` if the line is no record.
    pub fn payload(&mut self) -> Option<&[u8]> {
        if !self.found.is_record() {
            return None;
        }
        if self.displaced.is_none() {
            self.displaced = self.close().map(|byte| *byte);
        }
        let range = self.found.text.clone();
        let text = self.bytes.get_mut(range)?;
        Some(match &self.found.seal {
            Some(seal) => seal::payload(text, seal),
            None => text,
        })
    }

    /// Decodes the payload; the type may borrow from it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the record is no value of this type, and if the line is blank or torn; [`ErrorKind::Corrupt`] if it is corrupt. The
    /// error carries the path, the offset and the mark. The journal is not worse for it: read on.
    pub fn decode<'a, T: Deserialize<'a>>(&'a mut self) -> Result<T> {
        let mark = self.mark();
        let offset = self.found.span.start;
        let segment = self.segment;
        if let Verdict::Corrupt(code) = self.verdict() {
            return Err(corrupt(segment, &self.found, self.number, code, self.bytes).marked(mark));
        }
        let failed = |error: Error| error.on(&segment.path).at(offset).marked(mark);
        match self.payload() {
            Some(payload) => decode(payload).map_err(|error| failed(Error::json(ErrorKind::Decode, Attempt::Decode, error))),
            None => Err(failed(Error::new(ErrorKind::Decode, Attempt::Decode).detail("the line is no record"))),
        }
    }

    /// Where the payload's last byte gave way to the seal.
    fn close(&mut self) -> Option<&mut u8> {
        let seal = self.found.seal?;
        self.bytes.get_mut(self.found.text.start + seal.close)
    }
}

/// Checking all of the payload for UTF-8 first is faster than checking string by string.
fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> serde_json::Result<T> {
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(payload),
    }
}

/// The CRC in a line's mark.
pub(crate) fn crc(found: &Found, bytes: &[u8]) -> u32 {
    match found.seal {
        Some(Seal { crc, .. }) => crc,
        None => crc32fast::hash(bytes.get(found.text.clone()).unwrap_or_default()),
    }
}

/// The error that tells what is wrong with a corrupt line.
pub(super) fn corrupt(segment: &Segment, found: &Found, number: Option<u64>, code: Code, bytes: &[u8]) -> Error {
    let line = number.map_or("the line".to_owned(), |number| format!("line {number}"));
    let why = why(bytes.get(found.text.clone()).unwrap_or_default(), code);
    let error = Error::new(ErrorKind::Corrupt, Attempt::Read).on(&segment.path).at(found.span.start);
    error.detail(format!("{line} is corrupt ({code}){why}"))
}

fn why(text: &[u8], code: Code) -> String {
    match (code, seal::shape(text)) {
        (Code::CrcMismatch, Shape::Sealed(seal)) => format!(": seal says {:08x}, bytes give {:08x}", seal.crc, seal.computed(text)),
        (Code::CrcMismatch, _) => ": one byte of its seal is off".to_owned(),
        (Code::NotJson | Code::NotUtf8, _) => match json::validate(text) {
            Err(invalid) => format!(": {} at byte {} of the line", invalid.reason, invalid.at),
            Ok(_) => String::new(),
        },
        _ => String::new(),
    }
}
