//! What is damaged, found in two walks over the file, both in bounded memory.
//!
//! The first walk learns how healthy lines begin, which number follows each damaged place, and where the first damage is: all that is needed to
//! say what can be trusted. A file without damage is not walked again; for any other, the second walk starts right before the first damage and
//! takes down line by line what does not stay as it is.

use std::{io, ops::Range};

use super::batch::{Batches, Member};
use crate::{
    edits::{self, Edits, Removed},
    format::{
        line::Framed,
        seal::{self, Seal, Shape},
        verdict::{Code, Verdict},
    },
    judge::Found,
    salvage::{self, Context, FirstKeys, Salvage, Salvaged},
    scan::{self, Scanner, Span},
    sys::File,
    tail::{Last, Tail, Unterminated},
    verify,
};

/// What decides what is damage, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) line_bytes_max: u64,
    pub(super) unterminated: Unterminated,
    pub(super) salvages: bool,
}

/// Everything that does not stay as it is.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// In order; they do not overlap.
    pub(super) stretches: Vec<Stretch>,
    /// Whole records inside the stretches, in order.
    pub(super) saved: Vec<Saved>,
    /// Where the last record ends, if it only lacks its LF, and the number of its line.
    pub(super) unterminated: Option<(u64, u64)>,
    /// Healthy records that stay.
    pub(super) kept: u64,
    /// What is said of the end of the file may no longer be so when the file has grown.
    pub(super) depends_on_end: bool,
}

/// Neighbouring lines with the same thing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The last byte is an LF.
    pub(super) is_terminated: bool,
    /// The number of the first line, from 1.
    pub(super) line: u64,
    pub(super) lines: u64,
    pub(super) reason: Code,
}

/// A whole record inside a stretch of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) start: u64,
    pub(super) end: u64,
    /// It belongs to a batch that is not whole.
    is_withdrawn: bool,
}

/// A line of a newer format, at this offset: nothing may be touched.
#[derive(Debug)]
pub(super) enum Refusal {
    Newer(u64),
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

/// So many bytes are walked over before it is told again.
const TOLD_EVERY_BYTES: u64 = 4 << 20;

/// How far the walks are, of how many bytes; told now and then.
pub(super) struct Meter<'a> {
    pub(super) on: &'a mut dyn FnMut(verify::Progress<'_>),
    pub(super) next: u64,
}

impl Meter<'_> {
    fn at(&mut self, bytes_done: u64, bytes_total: u64) {
        if bytes_done >= self.next {
            self.next = bytes_done.saturating_add(TOLD_EVERY_BYTES);
            (self.on)(verify::Progress { bytes_done, bytes_total, finding: None, file: None });
        }
    }
}

/// Finds the damage in the first `len` bytes of a file.
pub(super) fn find(file: &File, len: u64, rules: &Rules, meter: &mut Meter<'_>) -> Result<Damage, Refusal> {
    let boundary = scan::boundary_before(file, len)?;
    let tail = Tail::find(file, len)?;
    let rest = tail.rest(file, rules.line_bytes_max)?;
    let last = LastLine { last: Last::of(&rest, rules.unterminated), tail, rest, len };
    if last.last == Last::Newer {
        return Err(Refusal::Newer(last.tail.start));
    }
    let survey = Survey::of(file, boundary, &last, rules, meter)?;
    let mut walk = Walk::new(&survey, rules);
    let mut lines = Scanner::new(survey.restart.offset, boundary, rules.line_bytes_max);
    let again = len - survey.restart.offset;
    while let Some(span) = lines.next(file)? {
        walk.line(&span, lines.bytes())?;
        meter.at(len + (span.end - survey.restart.offset), len + again);
    }
    Ok(walk.finish(&last))
}

/// The end of the file, without an LF.
struct LastLine {
    tail: Tail,
    rest: Vec<u8>,
    last: Last,
    len: u64,
}

impl LastLine {
    fn is_empty(&self) -> bool {
        self.tail.start == self.len
    }
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    offset: u64,
    /// Lines before `offset`.
    lines: u64,
    /// Healthy records before `offset`.
    kept: u64,
    /// The number of the last sealed record before `offset`.
    seq: Option<u64>,
}

/// What the first walk learns.
#[derive(Debug, Default)]
struct Survey {
    first_keys: FirstKeys,
    /// For each place where corrupt lines stand between two sealed ones, the number of the sealed line behind it, if there is one.
    behind: Vec<Option<u64>>,
    /// Before the first damage, and inside no batch.
    restart: Progress,
}

impl Survey {
    fn of(file: &File, boundary: u64, last: &LastLine, rules: &Rules, meter: &mut Meter<'_>) -> io::Result<Survey> {
        let mut survey = Survey::default();
        let mut progress = Progress::default();
        let mut batches = Batches::new(rules.line_bytes_max);
        let mut is_damaged = false;
        let mut is_behind_corrupt = false;
        let mut lines = Scanner::new(0, boundary, rules.line_bytes_max);
        while let Some(span) = lines.next(file)? {
            if !is_damaged && batches.are_whole() {
                survey.restart = progress;
            }
            let found = Found::of(span, lines.bytes());
            match (found.verdict, found.seal) {
                // Of a newer format too: the second walk meets the line again, and refuses the file.
                (Verdict::Corrupt(_), _) => {
                    is_damaged = true;
                    is_behind_corrupt = true;
                }
                (_, Some(seal)) => {
                    is_damaged |= batches.take(&seal, span.start..span.end, Member::line(&span, 0)).is_some();
                    if std::mem::take(&mut is_behind_corrupt) {
                        survey.behind.push(Some(seal.seq));
                    }
                    progress.seq = Some(seal.seq);
                }
                _ => {}
            }
            if found.is_record() {
                survey.first_keys.learn(lines.bytes().get(found.text).unwrap_or_default());
                progress.kept += 1;
            }
            progress.offset = span.end;
            progress.lines += 1;
            // What follows on the first damage is walked over again.
            let again = if is_damaged { last.len - survey.restart.offset } else { 0 };
            meter.at(span.end, last.len + again);
        }
        if is_behind_corrupt {
            survey.behind.push(if let Last::Record(Some(seal)) = last.last { Some(seal.seq) } else { None });
        }
        if let Last::Record(_) = last.last {
            survey.first_keys.learn(&last.rest);
        }
        if !is_damaged && batches.are_whole() {
            survey.restart = progress;
        }
        Ok(survey)
    }
}

/// The second walk.
struct Walk<'a> {
    survey: &'a Survey,
    rules: &'a Rules,
    progress: Progress,
    batches: Batches,
    /// How many entries of [`Survey::behind`] are behind us.
    passed: usize,
    /// How many LFs go in between records that are saved, up to here: a batch is as long as it will be.
    lfs: u64,
    is_behind_corrupt: bool,
    damage: Damage,
}

impl<'a> Walk<'a> {
    fn new(survey: &'a Survey, rules: &'a Rules) -> Walk<'a> {
        let damage = Damage { kept: survey.restart.kept, ..Damage::default() };
        Walk {
            survey,
            rules,
            progress: survey.restart,
            batches: Batches::new(rules.line_bytes_max),
            passed: 0,
            lfs: 0,
            is_behind_corrupt: false,
            damage,
        }
    }

    fn line(&mut self, span: &Span, bytes: &[u8]) -> Result<(), Refusal> {
        self.progress.lines += 1;
        let found = Found::of(*span, bytes);
        match (found.verdict, found.seal) {
            (Verdict::Corrupt(Code::NewerFormat), _) => return Err(Refusal::Newer(span.start)),
            (Verdict::Corrupt(_), _) => self.corrupt(span, bytes),
            (Verdict::Plain, _) => {
                self.batches.mix();
                self.damage.kept += 1;
            }
            (_, Some(seal)) => self.sealed(&seal, span.start..span.end, span.end, self.progress.lines),
            _ => {}
        }
        Ok(())
    }

    /// A healthy sealed line. `past` is just past its LF, whether it has that already or not.
    fn sealed(&mut self, seal: &Seal, range: Range<u64>, past: u64, line: u64) {
        if std::mem::take(&mut self.is_behind_corrupt) {
            self.passed += 1;
        }
        self.progress.seq = Some(seal.seq);
        self.damage.kept += 1;
        let member = Member::Lines { start: range.start, end: range.end, line, lines: 1 };
        self.join_batch(seal, range.start..past, member);
    }

    fn join_batch(&mut self, seal: &Seal, range: Range<u64>, member: Member) {
        if let Some(members) = self.batches.take(seal, range.start + self.lfs..range.end + self.lfs, member) {
            self.withdraw(members);
        }
    }

    fn corrupt(&mut self, span: &Span, bytes: &[u8]) {
        self.batches.mix();
        self.is_behind_corrupt = true;
        let stretch =
            Stretch { start: span.start, end: span.end, is_terminated: span.terminated, line: self.progress.lines, lines: 1, reason: Code::TooLong };
        if span.too_long {
            return self.take_down(stretch);
        }
        let bom = Framed::new(bytes, span.start == 0).bom;
        let text = bytes.get(bom..).unwrap_or_default();
        let Salvage { code, records } = self.salvage(text);
        self.take_down_but(Stretch { reason: code, ..stretch }, text, span.start + bom as u64, &records);
    }

    fn salvage(&self, text: &[u8]) -> Salvage {
        let before = self.survey.behind.get(self.passed).copied().flatten();
        let context = Context { first_keys: &self.survey.first_keys, after: self.progress.seq, before };
        let mut salvage = salvage::salvage(text, &context);
        if !self.rules.salvages {
            salvage.records.clear();
        }
        salvage
    }

    /// Takes down a stretch in which nothing can be saved.
    fn take_down(&mut self, stretch: Stretch) {
        let saved_until = self.damage.saved.last().map_or(0, |saved| saved.end);
        match self.damage.stretches.last_mut() {
            Some(last) if last.end == stretch.start && last.reason == stretch.reason && saved_until <= last.start => {
                last.end = stretch.end;
                last.lines += stretch.lines;
            }
            _ => self.damage.stretches.push(stretch),
        }
    }

    /// Takes down a stretch and the records in it that stay. `text` is the part of it that starts at `base`.
    fn take_down_but(&mut self, stretch: Stretch, text: &[u8], base: u64, records: &[Salvaged]) {
        if records.is_empty() {
            return self.take_down(stretch);
        }
        self.damage.stretches.push(stretch);
        for (at, Salvaged { range, .. }) in records.iter().enumerate() {
            self.lfs += u64::from(at > 0);
            // White space behind a record does no harm on its line, and would be a removed range of its own in the quarantine.
            let behind = text.get(range.end..).unwrap_or_default();
            let end = range.end + behind.iter().take_while(|byte| seal::is_space(**byte)).count();
            let index = self.damage.saved.len();
            self.damage.saved.push(Saved { start: base + range.start as u64, end: base + end as u64, is_withdrawn: false });
            if let Shape::Sealed(seal) = seal::shape(text.get(range.clone()).unwrap_or_default()) {
                self.progress.seq = Some(seal.seq);
                self.join_batch(&seal, base + range.start as u64..base + end as u64 + 1, Member::Saved(index));
            }
        }
    }

    /// The records of a batch that is not whole go to quarantine.
    fn withdraw(&mut self, members: Vec<Member>) {
        for member in members {
            match member {
                Member::Lines { start, end, line, lines } => {
                    self.damage.kept -= lines;
                    // A last record that lacks its LF does not get it.
                    self.damage.unterminated.take_if(|(record_end, _)| *record_end == end);
                    self.damage.stretches.push(Stretch { start, end, is_terminated: true, line, lines, reason: Code::OpenBatch });
                }
                Member::Saved(index) => {
                    if let Some(saved) = self.damage.saved.get_mut(index) {
                        saved.is_withdrawn = true;
                    }
                }
            }
        }
    }

    /// Deals with the end of the file.
    fn finish(mut self, last: &LastLine) -> Damage {
        self.damage.depends_on_end = !last.is_empty() || !self.batches.are_whole();
        if !last.is_empty() {
            self.last_line(last);
        }
        if let Some(open) = self.batches.leave() {
            match open.alone() {
                // As opening does it: with the blank lines among its lines and behind them. A last record that lacks its LF is one of its own.
                Some((start, line)) => {
                    let end = self.damage.unterminated.take().map_or(last.tail.start, |(end, _)| end);
                    let (records, lines) = (open.records(), self.progress.lines + 1 - line);
                    self.damage.kept -= records;
                    self.damage.stretches.push(Stretch { start, end, is_terminated: true, line, lines, reason: Code::OpenBatch });
                }
                None => self.withdraw(open.members),
            }
        }
        self.damage.stretches.sort_by_key(|stretch| stretch.start);
        self.damage.saved.retain(|saved| !saved.is_withdrawn);
        self.damage
    }

    /// The bytes after the last LF: a whole record stays and gets its LF, as on opening; of anything else what can be trusted is kept.
    fn last_line(&mut self, found: &LastLine) {
        let LastLine { tail, rest, last, len } = found;
        let line = self.progress.lines + 1;
        let stretch = |start| Stretch { start, end: *len, is_terminated: false, line, lines: 1, reason: tail.reason(*last) };
        let Last::Record(seal) = last else {
            let mut salvage = self.salvage(rest);
            // A last record without LF was to be quarantined, and a bare literal could be the beginning of a longer word.
            salvage.records.retain(|record| {
                let is_closed = matches!(rest.get(record.range.clone()).and_then(<[u8]>::last), Some(b'}' | b']'));
                let is_last = record.range.end == rest.len();
                is_closed && (self.rules.unterminated == Unterminated::Keep || !is_last)
            });
            let mut stretch = stretch(tail.start);
            if *last == Last::Glued || !salvage.records.is_empty() {
                self.batches.mix();
                stretch.reason = salvage.code;
            }
            return self.take_down_but(stretch, rest, tail.start, &salvage.records);
        };
        if tail.rest_end < *len {
            self.damage.stretches.push(stretch(tail.rest_end));
        }
        self.damage.unterminated = Some((tail.rest_end, line));
        match seal {
            Some(seal) => {
                self.progress.lines += 1;
                self.sealed(seal, tail.start..tail.rest_end, tail.rest_end + 1, line);
            }
            None => {
                self.batches.mix();
                self.damage.kept += 1;
            }
        }
    }
}

impl Damage {
    /// The changes that leave the saved records, each on a line of its own, and nothing else of the stretches.
    ///
    /// `tell` is told of each removed range and of each saved record, in order.
    pub(super) fn edits(&self, mut tell: impl FnMut(&Stretch, Part)) -> Edits {
        let mut edits = Edits::default();
        let mut saved = self.saved.iter().peekable();
        for stretch in &self.stretches {
            let mut at = stretch.start;
            let remove = |start, end, edits: &mut Edits, tell: &mut dyn FnMut(&Stretch, Part)| {
                if start < end {
                    edits.removed.push(Removed { start, end, reason: stretch.reason });
                    tell(stretch, Part::Removed(start..end));
                }
            };
            while let Some(record) = saved.next_if(|record| record.start < stretch.end) {
                remove(at, record.start, &mut edits, &mut tell);
                tell(stretch, Part::Saved(record.start..record.end));
                at = record.end;
                let is_last = saved.peek().is_none_or(|next| next.start >= stretch.end);
                if is_last && stretch.is_terminated {
                    // Its line's own LF stays with it.
                    remove(at, stretch.end - 1, &mut edits, &mut tell);
                    at = stretch.end;
                } else {
                    edits.added.push(at);
                }
            }
            remove(at, stretch.end, &mut edits, &mut tell);
        }
        edits.added.extend(self.unterminated.map(|(end, _)| end));
        edits
    }

    /// The CRC of every range that does not stay as it is.
    pub(super) fn proofs(&self, file: &File, len: u64) -> io::Result<Vec<Proof>> {
        let tail = self.unterminated.map(|(end, _)| scan::boundary_before(file, end)).transpose()?;
        let ranges = self.stretches.iter().map(|stretch| stretch.start..stretch.end).chain(tail.map(|start| start..len));
        ranges.map(|range| Ok(Proof { start: range.start, end: range.end, crc: edits::crc_of(file, range)? })).collect()
    }
}

/// A part of a stretch, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Removed(Range<u64>),
    Saved(Range<u64>),
}

/// What a range of the file held when the plan was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) crc: u32,
}

impl Proof {
    pub(super) fn holds(&self, file: &File) -> io::Result<bool> {
        Ok(edits::crc_of(file, self.start..self.end)? == self.crc)
    }
}
