//! Records turned into payloads, once, before any lock is taken; and payloads turned into lines, when their numbers are known.
//!
//! A record is serialised exactly once. A retry writes the same payload, so a time stamp inside it does not change and an earlier try that landed
//! after all can be recognised.

use serde::Serialize;

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        LF, SEAL_BYTES_MAX, SEQ_MAX, json,
        seal::{self, Opening, Shape},
    },
};

/// Records encoded once, to be appended together: with [`Writer::append_batch`](crate::Writer::append_batch) as one that stands or falls as a
/// whole, with [`Writer::append_all`](crate::Writer::append_all) each on its own.
///
/// A batch owns its bytes and can be sent to another thread. Its records may be of different types.
///
/// ```
/// let mut batch = untorn::Batch::new();
/// batch.add(&serde_json::json!({"type": "tool_call", "id": 7}))?;
/// batch.add_json(br#"{"type":"tool_result","id":7}"#)?;
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), untorn::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The payloads one behind the other, each one JSON value on one line without white space around it.
    payloads: Vec<u8>,
    drafts: Vec<Draft>,
}

/// One encoded record.
#[derive(Clone, Copy, Debug)]
struct Draft {
    /// Just past its payload; the one before ends where it starts.
    end: usize,
    opening: Opening,
    /// The CRC of the line's bytes up to the seal.
    crc: u32,
}

impl Batch {
    /// A batch without records.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Encodes a record and adds it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if the record does not turn into JSON, as a map with keys that are no strings does not. The batch is as before.
    pub fn add<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<&mut Batch> {
        let start = self.payloads.len();
        if let Err(error) = serde_json::to_writer(&mut self.payloads, record) {
            self.payloads.truncate(start);
            return Err(Error::json(ErrorKind::Encode, Attempt::Encode, error));
        }
        self.draft(start);
        Ok(self)
    }

    /// Adds a record that is JSON already; its numbers, key order and escapes are kept as they are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotJson`] if the payload is not one JSON value; the detail says where and why. The batch is as before.
    pub fn add_json(&mut self, payload: &[u8]) -> Result<&mut Batch> {
        json::validate(payload).map_err(|invalid| {
            let detail = format!("byte {} of the payload: {}", invalid.at, invalid.reason);
            Error::new(ErrorKind::NotJson, Attempt::Encode).detail(detail)
        })?;
        let start = self.payloads.len();
        self.payloads.extend_from_slice(payload.trim_ascii());
        self.draft(start);
        Ok(self)
    }

    /// Takes the payload from `start` on for the next record, put on one line.
    fn draft(&mut self, start: usize) {
        let payload = self.payloads.get(start..).unwrap_or_default();
        if memchr::memchr2(LF, b'\r', payload).is_some() {
            // Only white space between tokens can be an LF or a CR; in a string they are escaped.
            let mut compact = Vec::with_capacity(payload.len());
            json::compact(payload, &mut compact);
            self.payloads.truncate(start);
            self.payloads.append(&mut compact);
        }
        let payload = self.payloads.get(start..).unwrap_or_default();
        let opening = Opening::of(payload);
        self.drafts.push(Draft { end: self.payloads.len(), opening, crc: opening.crc(payload) });
    }

    pub(crate) fn clear(&mut self) {
        self.payloads.clear();
        self.drafts.clear();
    }

    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        self.payloads.shrink_to(bytes);
    }

    fn payloads(&self) -> impl Iterator<Item = (&Draft, &[u8])> {
        let starts = std::iter::once(0).chain(self.drafts.iter().map(|draft| draft.end));
        self.drafts.iter().zip(starts).map(|(draft, start)| (draft, self.payloads.get(start..draft.end).unwrap_or_default()))
    }
}

/// Lines ready to be written, and what is needed to speak of each.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Just past the LF of each line.
    pub(crate) ends: Vec<usize>,
    /// What a mark says of each line: see [`Mark::crc`](crate::Mark::crc).
    pub(crate) crcs: Vec<u32>,
}

impl Encoded {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.crcs.clear();
    }

    /// The range of line `index` in `bytes`.
    pub(crate) fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        start..self.ends.get(index).copied().unwrap_or(start)
    }

    fn finish_line(&mut self, start: usize, crc: u32, line_bytes_max: u64) -> Result<()> {
        let len = (self.bytes.len() - start) as u64;
        if len > line_bytes_max {
            let detail = format!("its line would be {len} bytes long, the limit is {line_bytes_max}");
            return Err(Error::new(ErrorKind::TooLong, Attempt::Append).detail(detail));
        }
        self.ends.push(self.bytes.len());
        self.crcs.push(crc);
        Ok(())
    }

    /// Seals the records of `batch`, numbered from `first`; `together` announces in each line how many more follow.
    pub(crate) fn seal(&mut self, batch: &Batch, first: u64, together: bool, line_bytes_max: u64) -> Result<()> {
        self.clear();
        let count = batch.len() as u64;
        if first > SEQ_MAX || count > SEQ_MAX - first + 1 {
            return Err(Error::new(ErrorKind::SeqExhausted, Attempt::Append).detail(format!("no number after {SEQ_MAX}")));
        }
        self.bytes.reserve(batch.payloads.len() + batch.len() * SEAL_BYTES_MAX);
        for (index, (draft, payload)) in batch.payloads().enumerate() {
            let start = self.bytes.len();
            let index = index as u64;
            let more = if together { count - 1 - index } else { 0 };
            let crc = seal::write(&mut self.bytes, payload, draft.opening, draft.crc, first + index, more);
            self.finish_line(start, crc, line_bytes_max)?;
        }
        Ok(())
    }

    /// Lays the payloads of `batch` out as plain lines.
    pub(crate) fn lay_plain(&mut self, batch: &Batch, line_bytes_max: u64) -> Result<()> {
        self.clear();
        for (_, payload) in batch.payloads() {
            if seal::shape(payload) != Shape::Plain {
                let detail = "the payload ends like a sealed line; in plain form a reader could not tell it from one";
                return Err(Error::new(ErrorKind::SealedPayload, Attempt::Append).detail(detail));
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(payload);
            self.bytes.push(LF);
            self.finish_line(start, crc32fast::hash(payload), line_bytes_max)?;
        }
        Ok(())
    }
}
