//! A corrupt line looked at again, with what the healthy lines around it say: its code, its place, and what can be salvaged of it.

use std::{io, ops::Range};

use memchr::{memchr, memmem};

use super::{
    chunk::{Corrupt, Source},
    keys,
    parallel::Division,
    record::{Lines, Note},
};
use crate::{
    format::{
        BOM, CRC_PREFIX,
        json::{Invalid, Reason},
        line::Framed,
        seal::Shape,
        verdict::Code,
    },
    salvage::{self, Context, FirstKeys, Salvage},
    scan::Scanner,
    words,
};

/// Looks at the corrupt lines of one file, in the order of the file.
pub(super) struct Examiner<'a> {
    source: &'a Source<'a>,
    division: Division,
    first_keys: Option<FirstKeys>,
    ahead: Option<Ahead>,
    block: Block,
}

/// Bytes of the file around the corrupt line looked at last: where there are many, the next one is close behind.
#[derive(Default)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

/// How much is read at once where corrupt lines stand close together.
const BLOCK_BYTES: u64 = 64 << 10;

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The block if it holds the range, or one that does; it holds less if the file has become shorter.
    fn with(self, range: &Range<u64>, source: &Source<'_>) -> io::Result<Block> {
        if self.start <= range.start && range.end <= self.end() {
            return Ok(self);
        }
        let is_close = range.start < self.end().saturating_add(BLOCK_BYTES);
        let end = if is_close { range.end.max(source.range.end.min(range.start.saturating_add(BLOCK_BYTES))) } else { range.end };
        Ok(Block { start: range.start, bytes: source.read(range.start..end)? })
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        let [start, end] = [range.start, range.end].map(|offset| usize::try_from(offset - self.start).unwrap_or(usize::MAX).min(self.bytes.len()));
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// The first sealed line that starts at or behind `from`.
struct Ahead {
    from: u64,
    /// Where it starts, or the end of the file if there is none.
    start: u64,
    seq: Option<u64>,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(source: &'a Source<'a>, division: Division) -> Examiner<'a> {
        Examiner { source, division, first_keys: None, ahead: None, block: Block::default() }
    }

    /// What to note on a corrupt line; `after` is the number of the last sealed line before it.
    pub(super) fn note(&mut self, lines: &Lines, corrupt: &Corrupt, after: Option<u64>) -> io::Result<Note> {
        let (crcs, invalid) = match corrupt {
            Corrupt::TooLong => {
                let message =
                    format!("{}, and the limit is {}", words::count(lines.end - lines.start, "byte"), words::grouped(self.source.line_bytes_max));
                return Ok(Note::on(lines, Code::TooLong, message));
            }
            Corrupt::Lost => {
                let why = self.source.file.lost(&(lines.start..lines.end)).unwrap_or_default();
                return Ok(Note::on(lines, Code::Unreadable, format!("cannot be decompressed: {why}")));
            }
            Corrupt::Newer => return Ok(Note { len: 0, ..Note::on(lines, Code::NewerFormat, "sealed in a newer format") }),
            Corrupt::SealedNotJson(invalid) => {
                let code = if invalid.reason == Reason::NotUtf8 { Code::NotUtf8 } else { Code::NotJson };
                let message = format!("{}, under a good seal", invalid.reason);
                return Ok(Note { at: lines.start + invalid.at as u64, ..Note::on(lines, code, message) });
            }
            Corrupt::Crc { says, gives } => (Some((says, gives)), None),
            Corrupt::Seal => (None, None),
            Corrupt::NotJson(invalid) => (None, Some(invalid)),
        };
        let range = lines.start..lines.end;
        let block = std::mem::take(&mut self.block).with(&range, self.source)?;
        let bytes = block.part(&range);
        let bom = if lines.start == 0 && bytes.starts_with(BOM) { BOM.len() } else { 0 };
        let line = bytes.get(bom..).unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let found = self.salvage(line, lines.end, after)?;
        let (at, message) = match found.code {
            Code::NulRun => nul_run(line, &found),
            Code::Glued => (found.records.get(1).map_or(0, |second| second.range.start), format!("{} records on one line", found.records.len())),
            Code::Spliced => (found.records.first().map_or(0, |whole| whole.range.start), "whole record after a torn one".to_owned()),
            Code::NotUtf8 => (str::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len), Reason::NotUtf8.to_string()),
            _ => match (crcs, invalid) {
                (Some((says, gives)), _) => (0, format!("seal says {says:08x}, bytes give {gives:08x}")),
                (None, Some(Invalid { at, reason })) => (at.saturating_sub(bom), reason.to_string()),
                (None, None) => (0, "one byte of the seal is off".to_owned()),
            },
        };
        let kept: usize = found.records.iter().map(|record| record.range.len()).sum();
        // With a record the line keeps its LF.
        let removed = line.len() - kept + usize::from(found.records.is_empty());
        self.block = block;
        Ok(Note {
            at: lines.start + (bom + at) as u64,
            len: removed as u64,
            salvageable: found.records.len() as u64,
            ..Note::on(lines, found.code, message)
        })
    }

    /// What is wrong with `line`, which ends at the offset `end`, and what can be kept of it.
    pub(super) fn salvage(&mut self, line: &[u8], end: u64, after: Option<u64>) -> io::Result<Salvage> {
        let may_hold_seals = memmem::find(line, CRC_PREFIX).is_some();
        let before = if may_hold_seals { self.next_sealed(end)? } else { None };
        let framed = Framed::new(line, false);
        // Only a plain object at the end of a line is asked for its first key: what else there is does not need the pass over the file.
        let asks_for_keys = framed.text.ends_with(b"}") && framed.shape() == Shape::Plain;
        if asks_for_keys && self.first_keys.is_none() {
            self.first_keys = Some(keys::gather(self.source, self.division)?);
        }
        let none = FirstKeys::default();
        let first_keys = self.first_keys.as_ref().unwrap_or(&none);
        Ok(salvage::salvage(line, &Context { first_keys, after, before }))
    }

    /// The number of the first sealed line from the boundary `from` on. Over all corrupt lines, no line is looked at twice.
    fn next_sealed(&mut self, from: u64) -> io::Result<Option<u64>> {
        if let Some(ahead) = self.ahead.as_ref().filter(|ahead| (ahead.from..=ahead.start).contains(&from)) {
            return Ok(ahead.seq);
        }
        let mut lines = Scanner::new(from, self.source.range.end, self.source.line_bytes_max);
        let mut ahead = Ahead { from, start: self.source.range.end, seq: None };
        while let Some(span) = lines.next(self.source.file)? {
            let framed = Framed::new(lines.bytes(), span.start == 0);
            if let Shape::Sealed(seal) = framed.shape()
                && seal.holds(framed.text)
            {
                ahead = Ahead { from, start: span.start, seq: Some(seal.seq) };
                break;
            }
        }
        Ok(self.ahead.insert(ahead).seq)
    }
}

/// Where the first NUL of a line is, and where the NULs stand.
fn nul_run(line: &[u8], found: &Salvage) -> (usize, String) {
    let first = memchr(0, line).unwrap_or(0);
    let place = match found.records.first() {
        None => "",
        Some(record) if first < record.range.start => " before a record",
        Some(_) => " after a record",
    };
    (first, format!("{}{place}", nul_bytes(memchr::memchr_iter(0, line).count() as u64)))
}

pub(super) fn nul_bytes(count: u64) -> String {
    words::count(count, "NUL byte")
}
