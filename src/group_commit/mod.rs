//! Group commit: many appends, one write, one sync.
//!
//! Appenders encode their records, copy them into one [`queue`] and wait. One thread, the [`worker`], owns the writer: it takes all that waits,
//! writes it in one call, syncs once for all who asked for it, and gives each its own verdict. What is appended meanwhile forms the next group,
//! so groups grow with the load and a lone append waits for nobody. [`pending`] holds the futures that wait, on a task or on a thread.
//!
//! No code of the caller's runs while the queue is locked, neither a `Serialize` nor a waker nor a `tracing` subscriber: each of them may panic, or
//! append.
//!
//! A crash leaves what the writer leaves: whole units of a group, at most one torn tail, and nothing acknowledged that is not there.

mod bell;
mod block;
mod chore;
mod group;
mod pending;
mod queue;
mod slots;
mod state;
mod waiters;
mod worker;

use std::sync::Arc;

pub(crate) use self::{
    block::block_on,
    chore::Chored,
    group::{Order, Outcome},
    pending::{Discarded, DurableThrough, Entering, Reopened, Settling, Watching},
    worker::Journal,
};
pub use self::{pending::Queued, queue::WriterState};
use self::{queue::Queue, worker::Worker};
use crate::{
    error::{Attempt, Result},
    writer::Durability,
};

/// What a model checker puts its own in place of.
mod runtime {
    #[cfg(not(shuttle))]
    pub(super) use std::{sync, thread, thread_local};

    #[cfg(shuttle)]
    pub(super) use shuttle::{sync, thread, thread_local};
}

/// One of those who may append. The worker ends, as far as it can, what is queued when the last one is gone.
#[derive(Debug)]
pub(crate) struct Handle {
    queue: Arc<Queue>,
    /// What an append asks for that does not say.
    durability: Durability,
}

impl Handle {
    /// Starts the worker. If the system has no thread to give, every append says so.
    pub(crate) fn start(journal: Journal) -> Arc<Handle> {
        let options = journal.options();
        let durability = options.durability;
        let queue = Arc::new(Queue::new(journal.path(), options.queue_max, journal.marks()));
        Worker::start(journal, Arc::clone(&queue));
        Arc::new(Handle { queue, durability })
    }

    pub(crate) fn state(&self) -> WriterState {
        self.queue.state()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Refuses to wait on the worker's own thread, where a `tracing` subscriber or a waker of the caller's may run: it would wait for ever.
    pub(crate) fn forbid_worker(&self, attempt: Attempt) -> Result<()> {
        self.queue.forbid_worker(attempt)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}
