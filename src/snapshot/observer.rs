//! Who is told when a save begins and ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Is told when a save of a snapshot begins and ends.
///
/// A save may take a while, and some things had better wait for its end. `on_flush_start` comes once and before anything else of the save;
/// `on_flush_complete` comes once after it: on success, on every failure, and when the state's serialisation panics. They say nothing of the
/// outcome, which is the caller's to know, and change nothing of it: a panic in either is caught and dropped, and a start that panicked still has
/// its end.
pub trait SnapshotObserver: Send {
    /// A save begins.
    fn on_flush_start(&self, id: &str);

    /// The save is over, whatever came of it.
    fn on_flush_complete(&self, id: &str);
}

/// An observer, and what it knows the snapshot by.
pub(super) struct Observed {
    pub(super) id: String,
    pub(super) observer: Box<dyn SnapshotObserver>,
}

impl Observed {
    /// Tells of the start; of the end when what is returned is dropped.
    pub(super) fn start(&self) -> Flush<'_> {
        let flush = Flush(self);
        undisturbed(|| self.observer.on_flush_start(&self.id));
        flush
    }
}

/// One save, as its observer sees it.
pub(super) struct Flush<'a>(&'a Observed);

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        undisturbed(|| self.0.observer.on_flush_complete(&self.0.id));
    }
}

fn undisturbed(tell: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(tell)).is_err() {
        tracing::warn!("an observer of snapshots panicked");
    }
}
