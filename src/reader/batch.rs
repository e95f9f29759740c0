//! Batches stand or fall together: before the first line of one is given out, the rest of it is looked for.
//!
//! A batch is whole if the numbers of its sealed lines follow one another up to the line that announces no more. Plain, blank and corrupt lines
//! between them belong to strangers and do not matter. Reading may start inside a batch; then what is left of it counts as the batch.

use std::io;

use crate::{format::seal::Seal, judge::Found, scan::Scanner, seeded, sys::File};

/// The batch met last, and what was found out about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// The number of its last record.
    last: u64,
    /// The number of its line met last. Never greater than `last`.
    met: u64,
    pub(super) is_whole: bool,
    /// Neither whole nor contradicted: the file ends before its last line. In a file that grows it may still become whole.
    pub(super) is_unfinished: bool,
}

impl Batch {
    /// Looks ahead from the end of a line that announces more.
    ///
    /// `ahead` is a second walk over the same file. It stops where a number contradicts the batch, at the end of the file, or where the batch
    /// would be longer than a line may be.
    pub(super) fn look_ahead(file: &File, ahead: &mut Scanner, first: &Found, seal: Seal, bytes_max: u64) -> io::Result<Batch> {
        ahead.seek(first.span.end);
        let mut before = seal;
        let mut is_unfinished = false;
        while before.more > 0 {
            let Some(span) = ahead.next(file)? else {
                is_unfinished = true;
                break;
            };
            is_unfinished |= !span.terminated;
            if span.end - first.span.start > bytes_max {
                is_unfinished = false;
                break;
            }
            let Some(line) = Found::of(span, ahead.bytes()).seal else { continue };
            if !follows(&line, &before) {
                is_unfinished &= !span.terminated;
                break;
            }
            before = line;
        }
        let is_whole = before.more == 0 || seeded::bug("open-batch-given-out");
        Ok(Batch { last: seal.batch_end(), met: seal.seq, is_whole, is_unfinished })
    }

    /// Looks for the batch of a line in what `lines` has read ahead of it; nothing if its end is not there.
    pub(super) fn read_ahead(file: &File, lines: &Scanner, first: &Found, seal: Seal, bytes_max: u64) -> Option<Batch> {
        let mut before = seal;
        for (span, bytes) in lines.read_ahead() {
            if span.end - first.span.start > bytes_max {
                return None;
            }
            let Some(line) = Found::of(span, bytes).seal else { continue };
            if !follows(&line, &before) || file.lost(&(first.span.start..span.end)).is_some() {
                return None;
            }
            if line.more == 0 {
                return Some(Batch { last: seal.batch_end(), met: seal.seq, is_whole: true, is_unfinished: false });
            }
            before = line;
        }
        None
    }

    /// The batch that a line is of, when it is known already that it is not whole.
    pub(super) fn not_whole(seal: Seal) -> Batch {
        Batch { last: seal.batch_end(), met: seal.seq, is_whole: false, is_unfinished: false }
    }

    /// Whether `seal` is of a later line of this batch.
    pub(super) fn has(&self, seal: &Seal) -> bool {
        seal.batch_end() == self.last && seal.seq > self.met
    }

    /// Whether the batch is whole, if `seal` is of its next line; of a batch that is not whole, of any later line.
    pub(super) fn take(&mut self, seal: &Seal) -> Option<bool> {
        self.has(seal).then(|| {
            self.met = seal.seq;
            self.is_whole
        })
    }
}

/// Whether a sealed line is the next one of the same batch.
pub(super) fn follows(seal: &Seal, before: &Seal) -> bool {
    seal.seq == before.seq.saturating_add(1) && seal.batch_end() == before.batch_end()
}
