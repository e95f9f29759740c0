//! Finds the whole records inside a corrupt line.
//!
//! A record that shares its line with other bytes is still a record, if that can be shown. A sealed one is proved by its CRC, wherever it
//! stands. A plain one is believed where nothing but whole records stands before it, or where it ends the line and begins as the healthy
//! lines do. NUL bytes are never part of a record, so each stretch between them is looked at by itself. What is not trusted stays behind
//! for the quarantine: records are ranges of the line, in order, and never overlap.
//!
//! One thing cannot be told: where two fragments share a line, an object nested in the second that ends the line looks like a plain record
//! if it begins like one. In sealed form its number and CRC tell.
//!
//! The start of a record that follows a fragment is found backwards from its end (see [`opening`]). There is at most one place where it can
//! be, so nothing is tried twice, and the time for a line grows with its length, whatever the line holds.

use std::collections::BTreeSet;
use std::ops::Range;

use memchr::{memchr, memmem, memrchr};

use crate::format::json::{self, Kind};
use crate::format::line::Framed;
use crate::format::seal::{self, Shape};
use crate::format::verdict::Code;
use crate::format::{CRC_PREFIX, CRC_SUFFIX, CRC_TAIL_BYTES};

/// How the objects of the healthy lines begin.
///
/// Bounded, so that a journal whose keys are data cannot fill the memory: a key that found no place is not known. The smallest keys stay, so what
/// is known does not depend on the order of learning.
#[derive(Debug, Default)]
pub(crate) struct FirstKeys(BTreeSet<Box<[u8]>>);

impl FirstKeys {
    const KEYS_MAX: usize = 1024;
    const KEY_BYTES_MAX: usize = 256;

    /// Keeps the first key of a healthy line.
    pub(crate) fn learn(&mut self, line: &[u8]) {
        let Some(key) = json::first_key(line) else { return };
        if key.len() <= Self::KEY_BYTES_MAX && !self.0.contains(key) {
            self.insert(key.into());
        }
    }

    /// Learns what was learnt elsewhere.
    pub(crate) fn join(&mut self, other: FirstKeys) {
        other.0.into_iter().for_each(|key| self.insert(key));
    }

    fn insert(&mut self, key: Box<[u8]>) {
        self.0.insert(key);
        if self.0.len() > Self::KEYS_MAX {
            self.0.pop_last();
        }
    }

    /// Whether `record` is an object that begins as a healthy line did.
    fn begin(&self, record: &[u8]) -> bool {
        json::first_key(record).is_some_and(|key| self.0.contains(key))
    }
}

/// What the healthy lines around a corrupt one say about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) first_keys: &'a FirstKeys,
    /// The number of the sealed line before, if there is one.
    pub(crate) after: Option<u64>,
    /// The number of the sealed line behind, if it is known.
    pub(crate) before: Option<u64>,
}

/// One whole record inside a corrupt line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// In bytes of the line, without white space around the record.
    pub(crate) range: Range<usize>,
    /// The number of a sealed record.
    pub(crate) seq: Option<u64>,
}

/// What is wrong with a line, and what can be kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Salvage {
    pub(crate) code: Code,
    pub(crate) records: Vec<Salvaged>,
}

/// Finds what can be trusted in `line`, which is corrupt and has neither LF nor byte order mark.
pub(crate) fn salvage(line: &[u8], context: &Context<'_>) -> Salvage {
    let mut search = Search { line, records: Vec::new(), torn: None, spliced: false };
    let mut end = 0;
    for record in sealed_records(line, context.after, context.before) {
        search.whole_records(end..record.range.start);
        end = record.range.end;
        search.keep(record);
    }
    search.whole_records(end..line.len());
    search.last_record(context.first_keys);
    Salvage { code: search.code(), records: search.records }
}

/// The highest number of a sealed record inside a corrupt line that may be salvaged one day: a number not to be given again.
pub(crate) fn highest_number(line: &[u8], after: Option<u64>) -> Option<u64> {
    sealed_records(line, after, None).into_iter().filter_map(|record| record.seq).max()
}

/// How many times the length of a line may be read in search of its sealed records' starts.
///
/// Each whole record costs its own length, and only a seal without its record can cost as much as the line. Damage leaves one or two of
/// those; a line made of them is left to the quarantine.
const SEARCHES_MAX: usize = 16;

/// The sealed records inside `line` whose CRC holds, that are JSON, and whose number lies between those given.
///
/// Searched from the end, so that a record comes before those that its payload holds.
fn sealed_records(line: &[u8], after: Option<u64>, before: Option<u64>) -> Vec<Salvaged> {
    let trusted = |seq| after.is_none_or(|after| after < seq) && before.is_none_or(|before| seq < before);
    let mut records = Vec::new();
    let mut searchable = line.len().saturating_mul(SEARCHES_MAX);
    let mut free = line;
    for tail in memmem::rfind_iter(line, CRC_PREFIX) {
        let Some(text) = free.get(..tail + CRC_TAIL_BYTES) else { continue };
        if !text.ends_with(CRC_SUFFIX) {
            continue;
        }
        let Some(start) = opening(text, &mut searchable) else { continue };
        let (rest, record) = text.split_at(start);
        let Shape::Sealed(seal) = seal::shape(record) else { continue };
        if trusted(seal.seq) && seal.holds(record) && json::validate(record).is_ok() {
            records.push(Salvaged { range: start..text.len(), seq: Some(seal.seq) });
            free = rest;
        }
    }
    records.reverse();
    records
}

/// The walk over one line from left to right.
struct Search<'a> {
    line: &'a [u8],
    records: Vec<Salvaged>,
    /// The first byte that is neither white space, nor NUL, nor of a whole record.
    torn: Option<usize>,
    /// Some record was found behind such a byte.
    spliced: bool,
}

impl<'a> Search<'a> {
    fn keep(&mut self, record: Salvaged) {
        self.spliced |= self.torn.is_some();
        self.records.push(record);
    }

    /// Keeps the plain records in a range that holds no sealed one, up to the first fragment.
    fn whole_records(&mut self, range: Range<usize>) {
        let mut start = range.start;
        for stretch in self.part(range).split(|byte| *byte == 0) {
            self.whole_records_of(start, trim_end(stretch));
            start += stretch.len() + 1;
        }
    }

    /// Keeps the records that `text` begins with; it starts at byte `start` of the line and holds no NUL.
    fn whole_records_of(&mut self, mut start: usize, text: &[u8]) {
        let mut rest = text;
        while self.torn.is_none() && !rest.is_empty() {
            // A seal is told by the whole line, so the record is judged as it will stand on a line of its own.
            let indent = rest.iter().take_while(|byte| seal::is_space(**byte)).count();
            match json::first_value(rest).map(|(valid, len)| (valid.kind, rest.split_at(len))) {
                Ok((kind, (value, behind))) if is_record(kind, value.get(indent..).unwrap_or_default(), behind) => {
                    let end = start + value.len();
                    self.keep(Salvaged { range: start + indent..end, seq: None });
                    (start, rest) = (end, behind);
                }
                _ => self.torn = Some(start),
            }
        }
    }

    /// Keeps the plain record that ends the line behind a fragment, if it begins as the healthy lines do and the fragment does not go on in
    /// it: then it may be nested.
    fn last_record(&mut self, first_keys: &FirstKeys) {
        let Some(torn) = self.torn else { return };
        let kept = self.records.last().map_or(0, |record| record.range.end);
        let nuls = memrchr(0, self.line).map_or(0, |last| last + 1);
        let text = trim_end(self.part(torn.max(kept).max(nuls)..self.line.len()));
        let Some((_, object)) = opening(text, &mut text.len()).and_then(|open| text.split_at_checked(open)) else { return };
        let is_trusted = first_keys.begin(object)
            && seal::shape(object) == Shape::Plain
            && json::validate(object).is_ok()
            && !json::is_fragment(self.part(torn..self.line.len()));
        if is_trusted {
            let end = trim_end(self.line).len();
            self.keep(Salvaged { range: end - object.len()..end, seq: None });
        }
    }

    fn part(&self, range: Range<usize>) -> &'a [u8] {
        self.line.get(range).unwrap_or_default()
    }

    /// The first code that fits, in the order that the format lists them.
    fn code(&self) -> Code {
        if memchr(0, self.line).is_some() {
            Code::NulRun
        } else if self.records.len() > 1 {
            Code::Glued
        } else if self.spliced {
            Code::Spliced
        } else if str::from_utf8(self.line).is_err() {
            Code::NotUtf8
        } else if matches!(Framed::new(self.line, false).shape(), Shape::Sealed(_) | Shape::Near) {
            Code::CrcMismatch
        } else {
            Code::NotJson
        }
    }
}

/// Whether a plain value is a record if a record may start where it does.
///
/// A number could have lost digits, a string with more behind it could be a key, and an object with anything but another record behind it
/// could be half of one whose bytes changed.
fn is_record(kind: Kind, value: &[u8], behind: &[u8]) -> bool {
    let next = behind.iter().find(|byte| !seal::is_space(**byte));
    let is_apart = match kind {
        Kind::Object | Kind::Array => matches!(next, None | Some(b'{' | b'[')),
        Kind::String | Kind::Literal => next.is_none(),
        Kind::Number => false,
    };
    is_apart && seal::shape(value) == Shape::Plain
}

/// The offset of the `{` whose object ends `text`, if there is one; whether the object is JSON is left to ask.
///
/// JSON can be told apart backwards from the end of a value, without knowing where it starts: outside strings, a quote ends one, and it
/// starts at the nearest quote before without an odd number of backslashes in front. So brackets can be paired, and of all `{` only the
/// one paired with the last `}` can be the start. Reading stops at a byte that JSON has only in strings, or when `searchable` runs out.
fn opening(text: &[u8], searchable: &mut usize) -> Option<usize> {
    let mut rest = text.strip_suffix(b"}")?;
    let mut depth = 1_usize;
    while let Some((byte, before)) = rest.split_last() {
        let behind = rest.len();
        rest = before;
        match byte {
            b'}' | b']' => depth += 1,
            b'{' | b'[' => depth -= 1,
            b'"' => rest = before_string(before),
            b':' | b',' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'E' | b'a'..=b'z' => {}
            space if seal::is_space(*space) => {}
            _ => return None,
        }
        *searchable = searchable.checked_sub(behind - rest.len())?;
        if depth == 0 {
            return (*byte == b'{').then_some(rest.len());
        }
    }
    None
}

/// What stands before the string that ends `text`, whose last quote is already taken off; nothing if the string has no start.
fn before_string(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some(quote) = memrchr(b'"', rest) {
        rest = rest.get(..quote).unwrap_or_default();
        let backslashes = rest.iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes.is_multiple_of(2) {
            return rest;
        }
    }
    &[]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let kept = text.iter().rposition(|byte| !seal::is_space(*byte)).map_or(0, |last| last + 1);
    text.get(..kept).unwrap_or_default()
}

#[cfg(test)]
mod tests;
