//! Records turned into payloads, once, before any lock is taken; and payloads turned into lines, when their numbers are known.
//!
//! A record is serialised exactly once. A retry writes the same payload, so a time stamp inside it does not change and an earlier try that landed
//! after all can be recognised.

use std::ops::Range;

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

/// What stands or falls as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A record by itself.
    Record,
    /// So many records, which readers give out all or not at all.
    Batch(usize),
}

impl Unit {
    pub(crate) fn records(self) -> usize {
        match self {
            Unit::Record => 1,
            Unit::Batch(records) => records,
        }
    }
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
        let start = self.start();
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
    /// [`ErrorKind::NotJson`] if the payload is not one JSON value; [`Error::invalid_json`] says where and why. The batch is as before.
    pub fn add_json(&mut self, payload: &[u8]) -> Result<&mut Batch> {
        json::validate(payload).map_err(|invalid| Error::invalid(Attempt::Encode, invalid))?;
        let start = self.start();
        self.payloads.extend_from_slice(payload.trim_ascii());
        self.draft(start);
        Ok(self)
    }

    /// Where the next payload starts. What a `Serialize` left behind that panicked is thrown away.
    fn start(&mut self) -> usize {
        let start = self.drafts.last().map_or(0, |draft| draft.end);
        self.payloads.truncate(start);
        start
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

    /// The bytes of all payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Adds records of another batch as they were encoded.
    pub(crate) fn extend(&mut self, other: &Batch, records: Range<usize>) {
        let start = records.start.checked_sub(1).and_then(|before| other.drafts.get(before)).map_or(0, |before| before.end);
        let drafts = other.drafts.get(records).unwrap_or_default();
        let end = drafts.last().map_or(start, |last| last.end);
        let shift = self.start();
        self.payloads.extend_from_slice(other.payloads.get(start..end).unwrap_or_default());
        self.drafts.extend(drafts.iter().map(|draft| Draft { end: draft.end - start + shift, ..*draft }));
    }

    /// Gives back the room for payloads beyond this, and that for as many bytes of what is known of each record.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        self.payloads.shrink_to(bytes);
        self.drafts.shrink_to(bytes / size_of::<Draft>());
    }

    fn payloads(&self) -> impl Iterator<Item = (&Draft, &[u8])> {
        let starts = std::iter::once(0).chain(self.drafts.iter().map(|draft| draft.end));
        self.drafts.iter().zip(starts).map(|(draft, start)| (draft, self.payloads.get(start..draft.end).unwrap_or_default()))
    }
}

/// Lines ready to be written, and what is needed to speak of each unit.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Just past each unit.
    pub(crate) ends: Vec<usize>,
    /// For each unit.
    pub(crate) lasts: Vec<LastLine>,
}

/// The last line of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastLine {
    /// Where it starts; it ends where its unit does.
    pub(crate) start: usize,
    /// How many records there are up to and including its own.
    pub(crate) through: usize,
    /// What a mark says of it: see [`Mark::crc`](crate::Mark::crc).
    pub(crate) crc: u32,
}

impl Encoded {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.lasts.clear();
    }

    /// How many records are in the units that were encoded.
    pub(crate) fn records(&self) -> usize {
        self.lasts.last().map_or(0, |last| last.through)
    }

    /// Where unit `index` starts in `bytes`.
    pub(crate) fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    /// Seals the records of `batch`, numbered from `first`. If a unit is refused, those before it are ready to be written.
    pub(crate) fn seal(&mut self, batch: &Batch, units: &[Unit], first: u64, line_bytes_max: u64) -> Result<()> {
        self.bytes.reserve(batch.payloads.len() + batch.len() * SEAL_BYTES_MAX);
        self.encode(batch, units, line_bytes_max, |bytes, record| {
            let seq = first.checked_add(record.index as u64).filter(|seq| *seq <= SEQ_MAX);
            let seq = seq.ok_or_else(|| Error::new(ErrorKind::SeqExhausted, Attempt::Append).detail(format!("no number after {SEQ_MAX}")))?;
            Ok(seal::write(bytes, record.payload, record.draft.opening, record.draft.crc, seq, record.more))
        })
    }

    /// Lays the payloads of `batch` out as plain lines. If a unit is refused, those before it are ready to be written.
    pub(crate) fn lay_plain(&mut self, batch: &Batch, units: &[Unit], line_bytes_max: u64) -> Result<()> {
        self.encode(batch, units, line_bytes_max, |bytes, record| {
            if let Unit::Batch(_) = record.unit {
                let detail = "a plain journal has no batches";
                return Err(Error::new(ErrorKind::NotSealed, Attempt::Append).detail(detail));
            }
            if seal::shape(record.payload) != Shape::Plain {
                let detail = "the payload ends like a sealed line; in plain form a reader could not tell it from one";
                return Err(Error::new(ErrorKind::SealedPayload, Attempt::Append).detail(detail));
            }
            bytes.extend_from_slice(record.payload);
            bytes.push(LF);
            Ok(crc32fast::hash(record.payload))
        })
    }

    /// Lays out unit after unit; `write` appends the line of one record and returns what its mark says of it.
    fn encode(
        &mut self,
        batch: &Batch,
        units: &[Unit],
        line_bytes_max: u64,
        write: impl Fn(&mut Vec<u8>, &Recorded<'_>) -> Result<u32>,
    ) -> Result<()> {
        self.clear();
        let mut records = batch.payloads();
        let mut through = 0;
        for unit in units {
            let start = self.bytes.len();
            let mut last = LastLine { start, through, crc: 0 };
            for (more, (draft, payload)) in (0..unit.records() as u64).rev().zip(&mut records) {
                let record = Recorded { unit: *unit, index: through, more, draft, payload };
                last.start = self.bytes.len();
                let written = write(&mut self.bytes, &record).and_then(|crc| {
                    check_length(self.bytes.len() - start, *unit, line_bytes_max)?;
                    Ok(crc)
                });
                last.crc = written.inspect_err(|_| self.bytes.truncate(start))?;
                through += 1;
            }
            self.ends.push(self.bytes.len());
            self.lasts.push(LastLine { through, ..last });
        }
        Ok(())
    }
}

/// One record of a unit, on its way to a line.
struct Recorded<'a> {
    unit: Unit,
    /// Counted from the first record of all.
    index: usize,
    /// How many records of its unit follow.
    more: u64,
    draft: &'a Draft,
    payload: &'a [u8],
}

/// A batch's lines together stay under the limit, so that a reader can withhold them in bounded memory.
fn check_length(len: usize, unit: Unit, line_bytes_max: u64) -> Result<()> {
    if len as u64 <= line_bytes_max {
        return Ok(());
    }
    let what = match unit {
        Unit::Record => "its line would be",
        Unit::Batch(_) => "its lines together would be at least",
    };
    let detail = format!("{what} {len} bytes long, the limit is {line_bytes_max}");
    Err(Error::new(ErrorKind::TooLong, Attempt::Append).detail(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After one batch of many short records, the room for what is known of each was kept for ever, many times that of their bytes.
    #[test]
    fn a_batch_that_shrinks_gives_back_the_room_of_its_records() {
        let mut batch = Batch::new();
        for _ in 0..10_000 {
            batch.add(&1).unwrap();
        }
        batch.clear();
        batch.shrink_to(1 << 10);
        assert!(batch.drafts.capacity() * size_of::<Draft>() <= 1 << 10, "{}", batch.drafts.capacity());
    }
}
