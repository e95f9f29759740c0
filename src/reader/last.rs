//! Finds the last so many records of a file, from its end on.
//!
//! The same records are counted that reading from the start gives. Of a batch, all lines count or none, and which it is shows only at its first
//! line: so the lines of a batch are counted both ways until a line is met that is none of it.

use std::io;

use crate::{
    format::seal::Seal,
    judge::Found,
    scan::{Backward, Span},
    seek::Stretch,
};

use super::batch;

/// Where the last so many records start.
pub(super) struct Last {
    pub(super) start: u64,
    /// An earlier line of a batch that is not whole, if the start is inside of it: what follows of the batch is withheld.
    pub(super) withheld: Option<Seal>,
}

/// Counts records from the end on, and gives the start of the one at which none is missing any more.
///
/// If there are not so many, `missing` says how many are left to be found in what is before this file.
pub(super) fn nth_last(lines: &Stretch<'_>, missing: &mut u64) -> io::Result<Option<Last>> {
    let mut count = Count::of(*missing, lines.line_bytes_max);
    let (boundary, tail) = lines.tail()?;
    if let Some(tail) = tail {
        count.meet(&tail);
    }
    let mut backward = Backward::new(boundary, lines.line_bytes_max);
    while !count.is_over() {
        let Some(span) = backward.next(lines.file)?.filter(|span| span.start >= lines.start) else { break };
        count.meet(&Found::of(span, backward.bytes()));
    }
    count.close();
    *missing = count.sure.missing;
    Ok(count.sure.start.map(|start| Last { start, withheld: count.withheld }))
}

/// How many records are still to be found, and where the last of them was.
#[derive(Clone, Copy)]
struct Tally {
    missing: u64,
    start: Option<u64>,
}

impl Tally {
    fn add(&mut self, span: Span) {
        if self.missing == 1 {
            self.start = Some(span.start);
        }
        self.missing = self.missing.saturating_sub(1);
    }
}

/// The lines of one batch that were met so far, last ones first. A record that stands alone is a batch of one.
struct Run {
    /// The line met last, the earliest one.
    first: Seal,
    end: u64,
    /// Each number is there, up to the line that announces no more.
    is_whole: bool,
    /// The count if the batch is given, and everything else between its lines.
    with: Tally,
}

struct Count {
    /// The count without the batch that is being met.
    sure: Tally,
    run: Option<Run>,
    withheld: Option<Seal>,
    batch_bytes_max: u64,
}

impl Count {
    fn of(missing: u64, batch_bytes_max: u64) -> Count {
        Count { sure: Tally { missing, start: None }, run: None, withheld: None, batch_bytes_max }
    }

    /// Takes the line before those that were met.
    fn meet(&mut self, found: &Found) {
        let span = found.span;
        if self.run.as_ref().is_some_and(|run| run.end - span.start > self.batch_bytes_max) {
            // No batch is that long, so what was met of it is all.
            self.close();
        }
        match (found.seal, &mut self.run) {
            (Some(seal), Some(run)) if seal.batch_end() == run.first.batch_end() && seal.seq < run.first.seq => {
                run.is_whole &= batch::follows(&run.first, &seal);
                run.first = seal;
                run.with.add(span);
            }
            (Some(seal), _) => {
                self.close();
                if self.sure.missing == 0 {
                    return;
                }
                let mut with = self.sure;
                with.add(span);
                self.run = Some(Run { first: seal, end: span.end, is_whole: seal.more == 0, with });
            }
            // A stranger's line is a record whatever becomes of the batch around it.
            (None, run) if found.is_record() => {
                self.sure.add(span);
                if let Some(run) = run {
                    run.with.add(span);
                }
            }
            _ => {}
        }
    }

    /// Whether nothing that is still to be met can matter.
    fn is_over(&self) -> bool {
        match &self.run {
            None => self.sure.missing == 0,
            Some(run) => run.with.missing == 0 && !run.is_whole && self.sure.missing == 0,
        }
    }

    /// No earlier line is of the batch at hand: it counts, or it does not.
    fn close(&mut self) {
        match self.run.take() {
            Some(run) if run.is_whole => self.sure = run.with,
            Some(run) => self.withheld = self.sure.start.map(|_| run.first),
            None => {}
        }
    }
}
