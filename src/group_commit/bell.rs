//! Waiting a moment for what is likely to happen in it.
//!
//! To put a thread to sleep and wake it takes longer than to write a record. So who expects something within a few microseconds first listens
//! that long; and who listened in vain does not try again for a while, so that an idle or a slow journal costs nothing.

use std::{
    hint,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Something that happens again and again.
///
/// A ring says only that it is worth to look: the queue's lock orders what is found.
#[derive(Debug)]
pub(super) struct Bell {
    rings: AtomicU64,
    /// How long to listen.
    moment: Duration,
    /// So many chances to listen are still passed by, after having listened in vain.
    skips: AtomicU32,
    /// How many were passed by the last time; 0 after having heard something.
    skipped: AtomicU32,
}

/// After listening in vain, so many chances are passed by; twice as many each next time, up to the last. Where all processors are busy, who listens
/// only keeps one from who is to ring.
const SKIPS: u32 = 16;
const SKIPS_MAX: u32 = 1024;

impl Bell {
    /// Never listened to where there is but one processor, which is better left to who is to ring, nor under a model checker.
    pub(super) fn new(moment: Duration) -> Bell {
        let is_heard = cfg!(not(shuttle)) && std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Bell {
            rings: AtomicU64::new(0),
            moment: if is_heard { moment } else { Duration::ZERO },
            skips: AtomicU32::new(0),
            skipped: AtomicU32::new(0),
        }
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
        let skips = self.skips.load(Relaxed);
        if skips > 0 || self.moment.is_zero() {
            self.skips.store(skips.saturating_sub(1), Relaxed);
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < self.moment {
            if self.rings() != before {
                self.skipped.store(0, Relaxed);
                return true;
            }
            hint::spin_loop();
        }
        let skips = (2 * self.skipped.load(Relaxed)).clamp(SKIPS, SKIPS_MAX);
        self.skips.store(skips, Relaxed);
        self.skipped.store(skips, Relaxed);
        false
    }
}
