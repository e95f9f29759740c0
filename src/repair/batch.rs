//! Which lines belong to a batch that is not whole.
//!
//! The lines of a batch agree on the number of its last record, and their own numbers rise by one. A batch is whole if all of them up to that record
//! are there, in no more bytes than a line may have. Other lines in between do not matter. Readers withhold what is not whole.

use std::ops::Range;

use crate::{format::seal::Seal, scan::Span};

/// The batch that is being walked through, if there is one.
#[derive(Debug)]
pub(super) struct Batches {
    open: Option<Open>,
    bytes_max: u64,
}

/// A batch whose last record has not been met.
#[derive(Debug)]
pub(super) struct Open {
    /// The number of its last record.
    end: u64,
    /// The number of its record met last. Less than `end`.
    last: u64,
    start: u64,
    pub(super) members: Vec<Member>,
    /// Something else than blank lines stands among its lines or behind them.
    is_mixed: bool,
    /// One of its records is not there, or they are too long together: nothing that follows makes it whole.
    is_broken: bool,
}

/// Records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// Neighbouring healthy lines.
    Lines { start: u64, end: u64, line: u64, lines: u64 },
    /// A salvaged record, by its place among them.
    Saved(usize),
}

impl Member {
    pub(super) fn line(span: &Span, line: u64) -> Member {
        Member::Lines { start: span.start, end: span.end, line, lines: 1 }
    }
}

impl Batches {
    pub(super) fn new(line_bytes_max: u64) -> Batches {
        Batches { open: None, bytes_max: line_bytes_max }
    }

    /// No batch is waiting for its last record.
    pub(super) fn are_whole(&self) -> bool {
        self.open.is_none()
    }

    /// Something that is no sealed record, and not blank, was met.
    pub(super) fn mix(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_mixed = true;
        }
    }

    /// Counts the sealed record at `range`, LF included, to its batch. Returned are the records of a batch that turns out not to be whole.
    pub(super) fn take(&mut self, seal: &Seal, range: Range<u64>, member: Member) -> Option<Vec<Member>> {
        let goes_on = |open: &Open| open.end == seal.batch_end() && open.last < seal.seq;
        let left = if self.open.as_ref().is_some_and(goes_on) { None } else { self.leave() };
        match &mut self.open {
            Some(open) => {
                open.is_broken |= open.last + 1 != seal.seq || range.end - open.start > self.bytes_max;
                open.last = seal.seq;
                open.add(member);
            }
            None if seal.more > 0 => {
                let (end, last, start) = (seal.batch_end(), seal.seq, range.start);
                self.open = Some(Open { end, last, start, members: vec![member], is_mixed: false, is_broken: false });
            }
            None => {}
        }
        // A batch that was left and one that is complete are never met at once: a record that starts a batch does not end it.
        let done = self.open.take_if(|open| open.last == open.end).filter(|done| done.is_broken);
        left.or(done).map(|open| open.members)
    }

    /// The batch that is still waiting, where nothing more can come.
    pub(super) fn leave(&mut self) -> Option<Open> {
        self.open.take()
    }
}

impl Open {
    fn add(&mut self, member: Member) {
        match (self.members.last_mut(), member) {
            (Some(Member::Lines { end, lines, .. }), Member::Lines { start, end: new_end, .. }) if *end == start => {
                *end = new_end;
                *lines += 1;
            }
            _ => self.members.push(member),
        }
    }

    /// Where it starts, offset and line, if from there on there are only its lines and blank ones.
    pub(super) fn alone(&self) -> Option<(u64, u64)> {
        let all_lines = self.members.iter().all(|member| matches!(member, Member::Lines { .. }));
        match self.members.first() {
            Some(Member::Lines { start, line, .. }) if all_lines && !self.is_mixed => Some((*start, *line)),
            _ => None,
        }
    }

    /// How many of its records stand on healthy lines.
    pub(super) fn records(&self) -> u64 {
        let lines = self.members.iter().map(|member| if let Member::Lines { lines, .. } = member { *lines } else { 0 });
        lines.sum()
    }
}
