//! Waiting a moment for what is likely to happen in it.
//!
//! To put a thread to sleep and wake it takes longer than to write a record. So who expects something within a few microseconds first listens
//! that long; and who listened in vain does not try again for a while, so that an idle or a slow journal costs nothing.

use std::{
    hint,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::runtime::thread;

/// Something that happens again and again.
///
/// A ring says only that it is worth to look: the queue's lock orders what is found.
#[derive(Debug)]
pub(super) struct Bell {
    rings: AtomicU64,
    /// `None` where nobody is to listen.
    patience: Option<Patience>,
    /// So many chances to listen are still passed by, after having listened in vain.
    skips: AtomicU32,
    /// How many were passed by the last time; 0 after having heard something.
    skipped: AtomicU32,
}

/// How long to listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For so long the processor is kept.
    pub(super) keeps: Duration,
    /// And for so long after that it is offered, before each look, to whoever is ready. Threads that wake each other are often put on one processor,
    /// where who keeps it listens in vain.
    pub(super) yields: Duration,
}

/// After listening in vain the next chance is passed by; then twice as many each time, up to so many. Where all processors are busy, who listens
/// only keeps one from who is to ring: that costs one part in so many of the longest moment. More would make it slow to find out that listening
/// pays again.
const SKIPS_MAX: u32 = 32;

impl Bell {
    /// Never listened to where there is but one processor, which is better left to who is to ring, nor under a model checker.
    pub(super) fn new(patience: Patience) -> Bell {
        let is_heard = cfg!(not(shuttle)) && std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Bell { rings: AtomicU64::new(0), patience: is_heard.then_some(patience), skips: AtomicU32::new(0), skipped: AtomicU32::new(0) }
    }

    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Relaxed);
    }

    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Relaxed)
    }

    /// Whether it rang since `before`, now or within a moment.
    pub(super) fn listen(&self, before: u64) -> bool {
        if self.rings() != before {
            return true;
        }
        let Some(patience) = self.patience else { return false };
        let skips = self.skips.load(Relaxed);
        if skips > 0 {
            self.skips.store(skips - 1, Relaxed);
            return false;
        }
        let has_rung = self.rings_within(patience, before);
        self.learn(has_rung);
        has_rung
    }

    fn learn(&self, has_rung: bool) {
        let skips = if has_rung { 0 } else { (2 * self.skipped.load(Relaxed)).clamp(1, SKIPS_MAX) };
        self.skips.store(skips, Relaxed);
        self.skipped.store(skips, Relaxed);
    }

    fn rings_within(&self, patience: Patience, before: u64) -> bool {
        let start = Instant::now();
        loop {
            let listened = start.elapsed();
            if self.rings() != before {
                return true;
            }
            if listened < patience.keeps {
                hint::spin_loop();
            } else if listened < patience.keeps + patience.yields {
                thread::yield_now();
            } else {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Patience = Patience { keeps: Duration::ZERO, yields: Duration::ZERO };

    fn heard_by_anybody(patience: Option<Patience>) -> Bell {
        Bell { rings: AtomicU64::new(0), patience, skips: AtomicU32::new(0), skipped: AtomicU32::new(0) }
    }

    /// After how many chances that were passed by somebody listened again, each time in vain.
    fn pauses(bell: &Bell, count: usize) -> Vec<u32> {
        let pause = || {
            (0..).find(|_| {
                let is_listening = bell.skips.load(Relaxed) == 0;
                assert!(!bell.listen(bell.rings()));
                is_listening
            })
        };
        (0..count).filter_map(|_| pause()).collect()
    }

    #[test]
    fn who_listens_in_vain_passes_ever_more_chances_by() {
        let bell = heard_by_anybody(Some(NONE));
        assert_eq!(pauses(&bell, 8), [0, 1, 2, 4, 8, 16, 32, 32]);
    }

    #[test]
    fn who_hears_something_listens_the_next_time_too() {
        let bell = heard_by_anybody(Some(NONE));
        bell.skipped.store(16, Relaxed);
        bell.learn(true);
        assert_eq!(pauses(&bell, 3), [0, 1, 2]);
    }

    #[test]
    fn what_rings_while_somebody_listens_is_heard() {
        let bell = heard_by_anybody(None);
        let before = bell.rings();
        std::thread::scope(|scope| {
            scope.spawn(|| bell.ring());
            assert!(bell.rings_within(Patience { keeps: Duration::from_secs(60), ..NONE }, before));
        });
    }

    #[test]
    fn what_rang_before_is_heard_without_listening() {
        let bell = heard_by_anybody(None);
        let before = bell.rings();
        assert!(!bell.listen(before));
        bell.ring();
        assert!(bell.listen(before));
    }
}
