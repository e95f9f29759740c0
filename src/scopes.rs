//! Which records the iterations of a loop wrote, as numbers, so that finished iterations can be archived and old ones pruned.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    archive::Before,
    prune::{Consumers, Keep},
};

/// The numbers at which the last iterations of a loop began: a plain value, to be kept in the caller's own snapshot.
///
/// A loop calls [`begin`](Scopes::begin) when an iteration starts, then archives what was before it and prunes what is too old to keep. The unit
/// is the iteration, however many records one has; [`Keep`] counts records, bytes or time instead.
///
/// | current iteration, the first one being 0 | archived: what was written by | pruned, with `keep(100)`: what was written by |
/// |---|---|---|
/// | 0 | none | none |
/// | 1 | 0 | none |
/// | 2 | 0 and 1 | none |
/// | 100 | 0 to 99 | none |
/// | 101 | 0 to 100 | 0 |
/// | 102 | 0 to 101 | 0 and 1 |
///
/// So the current iteration and the 100 before it are kept. Whole segments are pruned only, so more may be.
///
/// ```
/// use untorn::{Before, Consumers, Scopes};
///
/// let mut scopes = Scopes::keep(100);
/// scopes.begin(1);
/// assert_eq!(scopes.archive_before(), None);
/// scopes.begin(8); // iteration 1: iteration 0 wrote the records 1 to 7
/// assert_eq!(scopes.archive_before(), Some(Before::Seq(8)));
/// assert!(scopes.prune_keep(Consumers::None).is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// How many finished iterations are kept.
    keep: usize,
    /// How many iterations have begun.
    begun: u64,
    /// Where the last of them began: those that are kept and the one that is under way. Ascending.
    starts: VecDeque<u64>,
}

impl Scopes {
    /// For a loop that keeps so many finished iterations beside the current one.
    pub fn keep(iterations: usize) -> Scopes {
        Scopes { keep: iterations, begun: 0, starts: VecDeque::new() }
    }

    /// The next iteration begins, and its first record will have this number: [`Writer::next_seq`](crate::Writer::next_seq).
    ///
    /// An iteration that is begun again where it began, as after a crash before its first record, is one iteration. A number below earlier ones means
    /// that the journal lost the records of those iterations: they are forgotten, and this one takes the place of the first of them.
    pub fn begin(&mut self, first_seq: u64) {
        while self.starts.back().is_some_and(|last| *last >= first_seq) {
            tracing::debug!(first_seq, begun = self.begun, "an iteration begins again");
            self.starts.pop_back();
            self.begun = self.begun.saturating_sub(1);
        }
        self.starts.push_back(first_seq);
        self.begun += 1;
        while self.starts.len() > self.keep.saturating_add(1) {
            self.starts.pop_front();
        }
    }

    /// The current iteration, counted from 0; `None` before the first.
    pub fn current(&self) -> Option<u64> {
        self.begun.checked_sub(1)
    }

    /// What the finished iterations wrote; `None` while there is none.
    pub fn archive_before(&self) -> Option<Before> {
        let current = self.starts.back().filter(|_| self.begun > 1)?;
        Some(Before::Seq(*current))
    }

    /// What no iteration that is under way in any of these loops wrote, for loops inside loops that write to one journal.
    pub fn archive_before_all<'a>(loops: impl IntoIterator<Item = &'a Scopes>) -> Option<Before> {
        loops.into_iter().filter_map(|scopes| scopes.starts.back()).min().map(|first| Before::Seq(*first))
    }

    /// What is to be kept; `None` while nothing is old enough to go.
    pub fn prune_keep(&self, consumers: Consumers) -> Option<Keep> {
        let kept = u64::try_from(self.keep).unwrap_or(u64::MAX).saturating_add(1);
        let oldest = self.starts.front().filter(|_| self.begun > kept)?;
        Some(Keep::new(consumers).since(*oldest))
    }
}
