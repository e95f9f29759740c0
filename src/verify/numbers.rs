//! The numbers of sealed records, compared along the journal: missing, falling, repeated.

use super::chunk::SealedRun;
use crate::{format::verdict::Code, words::grouped};

/// The numbers seen so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The first number, then the last one with its CRC.
    seen: Option<(u64, u64, u32)>,
    /// Never less than the last one.
    highest: u64,
    /// The numbers up to this one belong to a batch that just turned out to lack its end; no writer gives them again.
    given_up: Option<u64>,
}

impl Numbers {
    pub(super) fn first(&self) -> Option<u64> {
        self.seen.map(|(first, ..)| first)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.seen.map(|(_, last, _)| last)
    }

    /// Takes the numbers of an unfinished batch for given.
    pub(super) fn give_up_to(&mut self, number: u64) {
        self.given_up = Some(number);
    }

    /// Goes on with a run, and compares its first number with those before.
    ///
    /// A journal may begin with any number: older segments may have been pruned. A number is expected to follow the last one; where numbers have
    /// fallen, it may also follow the highest, so that one line out of place is not told twice.
    pub(super) fn go_on(&mut self, run: &SealedRun) -> Option<(Code, String)> {
        let found = self.compare(run.first, run.first_crc);
        let first = self.first().unwrap_or(run.first);
        self.seen = Some((first, run.last, run.last_crc));
        self.highest = self.highest.max(run.last);
        found
    }

    fn compare(&mut self, seq: u64, crc: u32) -> Option<(Code, String)> {
        let (_, last, last_crc) = self.seen?;
        let before = match self.given_up.take() {
            Some(given_up) if given_up < seq => given_up.max(last),
            _ => last,
        };
        if seq == before.saturating_add(1) {
            return None;
        }
        if seq == last || seq == self.highest {
            let which = if (seq, crc) == (last, last_crc) { "the same record" } else { "another record" };
            return Some((Code::SeqDuplicate, format!("#{} again, {which}", grouped(seq))));
        }
        if seq < last {
            return Some((Code::SeqRegression, format!("#{} after #{}", grouped(seq), grouped(last))));
        }
        if seq == self.highest.saturating_add(1) {
            return None;
        }
        let missing = if seq - before == 2 {
            format!("#{} is missing", grouped(seq - 1))
        } else {
            format!("#{} to #{} are missing", grouped(before + 1), grouped(seq - 1))
        };
        Some((Code::SeqGap, missing))
    }
}
