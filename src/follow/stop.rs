//! Waiting for something to happen, and being woken.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Ends the waiting of a follower or a consumer, from any thread and for good.
///
/// Clones stop the same one. After [`stop`](Stopper::stop) nothing more is given.
#[derive(Clone)]
pub struct Stopper(pub(crate) Arc<Bell>);

impl Stopper {
    /// Stops it. Who waits in `next` returns at once.
    pub fn stop(&self) {
        self.0.change(|state| state.is_stopped = true);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("is_stopped", &self.is_stopped()).finish()
    }
}

/// Rung when it is worth to look again.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rings: u64,
    is_stopped: bool,
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    pub(crate) fn ring(&self) {
        self.change(|state| state.rings += 1);
    }

    pub(crate) fn rings(&self) -> u64 {
        self.state().rings
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    /// Waits until it has rung since `before`, or is stopped, or the time is over.
    pub(crate) fn wait(&self, before: u64, time: Duration) {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| state.rings == before && !state.is_stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
