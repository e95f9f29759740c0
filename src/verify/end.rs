//! The end of a segment: bytes after the last LF, a batch without its end, and whether both are only unfinished because somebody is writing.

use super::{
    Flow,
    chunk::{Kind, Oddities, Print, Run, SealedRun, Source},
    corrupt::{Examiner, nul_bytes},
    live::Live,
    merge::Merge,
    record::{Lines, Note},
    tail::Tail,
};
use crate::format::{
    line::Framed,
    tail,
    verdict::{Code, Judged},
};

impl Merge<'_> {
    /// Something at the end is not finished.
    pub(super) fn is_unfinished(&self) -> bool {
        self.tail_end.is_some() || self.batch.is_some()
    }

    /// Tells what the end of a segment is; nothing after it is looked at.
    pub(super) fn finish(&mut self, source: &Source<'_>, examiner: &mut Examiner<'_>, live: Option<&Live>) -> Flow {
        let tail = self.tail_end.map(|_| Tail::find(source, self.offset)).transpose()?;
        let mut good_end = source.range.end;
        match (live, tail) {
            (Some(live), tail) => good_end = self.in_flight(tail.as_ref(), good_end, live)?,
            (None, Some(tail)) => self.tail(&tail, examiner)?,
            (None, None) => {}
        }
        self.end_batch()?;
        self.leave_batch()?;
        self.recorder.close_group()?;
        self.recorder.good_through(good_end, self.lines);
        Ok(())
    }

    /// What a writer at work has not finished is no damage. Gives where the finished part ends.
    fn in_flight(&mut self, tail: Option<&Tail>, end: u64, live: &Live) -> Flow<u64> {
        let tail_start = tail.map(|tail| tail.start).filter(|start| *start < end);
        let batch = if self.batch.as_ref().is_some_and(|batch| !batch.mixed) { self.withhold_batch() } else { None };
        let (lines, start) = match (batch, tail_start) {
            (Some(batch), _) => (Lines { end, ..batch.lines }, batch.lines.start),
            (None, Some(start)) => (Lines { line: self.lines + 1, lines: 1, start: self.offset, end }, start),
            (None, None) => return Ok(end),
        };
        self.lines = lines.line - 1;
        let message = match live {
            Live::Locked(process) => format!("{process} writes"),
            Live::Moved => "the file is being written".to_owned(),
        };
        self.recorder.add_alone(&lines, Note { at: start, len: end - start, count: 1, ..Note::on(&lines, Code::InFlight, message) })?;
        Ok(start)
    }

    /// Tells what the bytes after the last LF are, if nobody is writing them.
    fn tail(&mut self, tail: &Tail, examiner: &mut Examiner<'_>) -> Flow {
        let lines = Lines { line: self.lines + 1, lines: 1, start: self.offset, end: tail.end };
        let rest = Lines { end: tail.rest_end, ..lines };
        let on_tail = |code, message: String| Note { at: tail.start, len: tail.end - tail.start, ..Note::on(&lines, code, message) };
        let mut notes = Vec::new();
        if tail.start > self.offset {
            notes.push(Note { len: tail.start - self.offset, ..Note::on(&rest, Code::Bom, "byte order mark") });
        }
        match &tail.kind {
            tail::Tail::Whole(judged) => {
                notes.extend(self.whole(judged, tail, &rest)?);
                if let Some(nul) = tail.nul {
                    let message = format!("{} after a record", nul_bytes(tail.end - nul));
                    notes.push(Note { at: nul, len: tail.end - tail.rest_end, ..on_tail(Code::NulRun, message) });
                }
                self.lines += 1;
            }
            tail::Tail::Glued => {
                let found = examiner.salvage(&tail.rest, tail.end, self.numbers.last())?;
                let kept: usize = found.records.iter().map(|record| record.range.len()).sum();
                let second = found.records.get(1).map_or(0, |second| second.range.start);
                let note = match tail.nul {
                    Some(nul) => Note { at: nul, ..on_tail(Code::NulRun, format!("{} after a record", nul_bytes(tail.end - nul))) },
                    None => Note { at: tail.start + second as u64, ..on_tail(Code::Glued, "more behind a whole record, no LF".to_owned()) },
                };
                let salvageable = found.records.len() as u64;
                notes.push(Note { len: tail.end - tail.start - kept as u64, salvageable, ..note });
            }
            tail::Tail::Newer => notes.push(Note { len: 0, ..on_tail(Code::NewerFormat, "sealed in a newer format, no LF".to_owned()) }),
            tail::Tail::Torn if tail.is_over_limit() => {
                notes.push(on_tail(Code::TornTail, "no LF, and longer than a line may be".to_owned()));
            }
            tail::Tail::Torn => notes.push(on_tail(Code::TornTail, "no LF, no whole record".to_owned())),
            tail::Tail::Empty if tail.start == tail.end => {}
            tail::Tail::Empty => {
                let message = tail.nul.map_or("white space".to_owned(), |nul| nul_bytes(tail.end - nul));
                notes.push(on_tail(Code::TornTail, format!("{message} after the last LF")));
            }
        }
        self.recorder.add(&lines, notes)
    }

    /// Takes a whole record that lacks its LF for the line that it will be.
    fn whole(&mut self, judged: &Judged, tail: &Tail, rest: &Lines) -> Flow<Vec<Note>> {
        let (kind, lone_surrogate) = match judged {
            Judged::Sealed(seal) => (SealedRun::of(seal), false),
            Judged::Plain(valid) => {
                let print = Print::of(Framed::new(&tail.rest, false).payload());
                (Kind::Plain { first: print, last: print }, valid.lone_surrogate)
            }
            _ => return Ok(Vec::new()),
        };
        let oddities = Oddities { lone_surrogate, ..Oddities::default() };
        let run = Run { start: rest.start, first_end: rest.end, end: rest.end, lines: 1, kind, oddities };
        let placed = self.place(&run, rest)?;
        let unterminated = Note { at: tail.start, len: rest.end - tail.start, ..Note::on(rest, Code::Unterminated, "whole record without LF") };
        Ok(self.notes(&run, rest).chain(placed).chain([unterminated]).collect())
    }
}
