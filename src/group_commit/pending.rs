//! The futures of those who wait: for room, for a verdict, for the worker.
//!
//! They own what they need and do nothing before they are polled. Dropping one gives up waiting, and nothing else.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    Handle, block_on,
    group::{Offer, Order, Outcome},
    queue::{Entered, Queue},
    slots::SlotId,
    waiters::Turn,
};
use crate::{
    encode::{Batch, Unit},
    error::{Attempt, ErrorKind, Result},
    position::{Appended, Position},
};

thread_local! {
    /// The buffer of the last offer that was queued from this thread.
    static SPARE: Cell<Batch> = Cell::default();
}

/// The buffer shrinks back to this after a larger record.
const SPARE_BYTES_KEPT: usize = 1 << 16;

/// A record, a batch or a barrier on its way into the queue. Ready once it is there.
#[derive(Debug)]
#[must_use]
pub(crate) struct Entering {
    handle: Arc<Handle>,
    /// `Err` until the first poll if the record could not be encoded.
    offer: Result<Offer>,
    turn: Turn,
    /// How many writes had failed when there was no room.
    failures: Option<u64>,
}

impl Entering {
    /// Encodes now; what the caller's code does while it is encoded, panicking included, concerns nobody else.
    pub(crate) fn encoded(handle: &Arc<Handle>, order: Order, unit: Option<Unit>, encode: impl FnOnce(&mut Batch) -> Result<()>) -> Entering {
        let mut records = SPARE.take();
        records.clear();
        let encoded = encode(&mut records).map_err(|error| error.on(handle.queue.path()));
        let offer = encoded.map(|()| Offer { records, unit, order });
        Entering { handle: Arc::clone(handle), offer, turn: None, failures: None }
    }

    pub(crate) fn barrier(handle: &Arc<Handle>, order: Order) -> Entering {
        let offer = Offer { records: Batch::new(), unit: None, order };
        Entering { handle: Arc::clone(handle), offer: Ok(offer), turn: None, failures: None }
    }

    /// Queues it if there is room at once.
    pub(crate) fn try_now(mut self) -> Result<Queued> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(&mut self).poll(&mut cx) {
            Poll::Ready(queued) => queued,
            Poll::Pending => {
                let error = self.handle.queue.error(ErrorKind::QueueFull, Attempt::Append);
                let state = self.handle.queue.state();
                let full = error.detail(format!("{} records wait, of {} bytes", state.queued_records, state.queued_bytes));
                Err(state.error.map_or(full.clone(), |cause| full.earlier(cause)))
            }
        }
    }
}

impl Entering {
    fn poll_entered(&mut self, cx: &Context<'_>) -> Poll<Result<Entered>> {
        let Entering { handle, offer, turn, failures } = self;
        let offer = offer.as_mut().map_err(|error| error.clone())?;
        let entered = ready!(handle.queue.poll_enter(offer, turn, failures, cx))?;
        let mut spare = std::mem::take(&mut offer.records);
        spare.shrink_to(SPARE_BYTES_KEPT);
        // A thread that is ending has no place for it.
        let _ = SPARE.try_with(|place| place.set(spare));
        Poll::Ready(Ok(entered))
    }

    fn queued(&self, entered: &Entered) -> Queued {
        Queued { queue: Arc::clone(&self.handle.queue), slot: Some(entered.slot) }
    }
}

impl Future for Entering {
    type Output = Result<Queued>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Queued>> {
        let entered = ready!(self.poll_entered(cx))?;
        Poll::Ready(Ok(self.queued(&entered)))
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.handle.queue.leave_door(&mut self.turn);
        }
    }
}

/// A record that is queued: a future of what becomes of it.
///
/// It resolves when the record is as durable as was asked. A write that fails and is tried again leaves it waiting:
/// [`WriterState::error`](crate::WriterState::error) shows why.
///
/// # Cancel safety
///
/// Dropping it forgets about the record, which is written all the same.
///
/// # Errors
///
/// The kinds that speak of this record and are final: [`TooLong`](ErrorKind::TooLong), [`NotSealed`](ErrorKind::NotSealed) and the like, with
/// nothing of it in the file; [`DurabilityUnknown`](ErrorKind::DurabilityUnknown), with all of it; any kind with [`Left::Unknown`](crate::Left),
/// if that could not be found out; [`Closed`](ErrorKind::Closed) if the queue was discarded before it was written.
#[derive(Debug)]
#[must_use = "the record is queued; drop this to forget about it"]
pub struct Queued {
    queue: Arc<Queue>,
    /// `None` once the verdict was given out.
    slot: Option<SlotId>,
}

impl Queued {
    /// Waits on this thread for what becomes of the record.
    ///
    /// # Errors
    ///
    /// Those of awaiting it.
    pub fn wait(self) -> Result<Appended> {
        self.queue.forbid_worker(Attempt::Append)?;
        block_on(self)
    }

    fn poll_outcome(&mut self, cx: &Context<'_>) -> Poll<Result<Outcome>> {
        let Some(slot) = self.slot else { return Poll::Pending };
        let verdict = ready!(self.queue.poll_settled(slot, cx));
        self.slot = None;
        Poll::Ready(verdict)
    }
}

impl Future for Queued {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Appended>> {
        self.poll_outcome(cx).map_ok(Outcome::appended)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.queue.forget(slot);
        }
    }
}

/// A claim that is queued and waited for in one: an append or a barrier.
#[derive(Debug)]
#[must_use]
pub(crate) enum Settling {
    Entering(Entering),
    Queued(Queued),
}

impl Future for Settling {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        match &mut *self {
            Settling::Entering(entering) => {
                let entered = ready!(entering.poll_entered(cx))?;
                let mut queued = entering.queued(&entered);
                // The queue has the waker already.
                let is_settled = queued.queue.is_settled_soon(&entered);
                let outcome = if is_settled { queued.poll_outcome(cx) } else { Poll::Pending };
                *self = Settling::Queued(queued);
                outcome
            }
            Settling::Queued(queued) => queued.poll_outcome(cx),
        }
    }
}

/// What the queue is asked until it has an answer.
pub(crate) trait Question: Unpin {
    type Answer;

    fn ask(&mut self, queue: &Queue, turn: &mut Turn, cx: &Context<'_>) -> Poll<Self::Answer>;
}

/// Waits for the answer to a question about the whole queue.
#[derive(Debug)]
#[must_use]
pub(crate) struct Watching<Q: Question> {
    handle: Arc<Handle>,
    turn: Turn,
    question: Q,
}

impl<Q: Question> Watching<Q> {
    pub(crate) fn new(handle: &Arc<Handle>, question: Q) -> Watching<Q> {
        Watching { handle: Arc::clone(handle), turn: None, question }
    }
}

impl<Q: Question> Future for Watching<Q> {
    type Output = Q::Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Q::Answer> {
        let Watching { handle, turn, question } = &mut *self;
        question.ask(&handle.queue, turn, cx)
    }
}

impl<Q: Question> Drop for Watching<Q> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.handle.queue.leave_watch(&mut self.turn);
        }
    }
}

/// Has a reopening that began after this was asked ended? Holds its number, once it has one.
#[derive(Debug, Default)]
pub(crate) struct Reopened(Option<u64>);

impl Question for Reopened {
    type Answer = Result<()>;

    fn ask(&mut self, queue: &Queue, turn: &mut Turn, cx: &Context<'_>) -> Poll<Result<()>> {
        queue.poll_reopened(&mut self.0, turn, cx)
    }
}

/// Is everything before the position durable?
#[derive(Debug)]
pub(crate) struct DurableThrough(pub(crate) Position);

impl Question for DurableThrough {
    type Answer = Result<()>;

    fn ask(&mut self, queue: &Queue, turn: &mut Turn, cx: &Context<'_>) -> Poll<Result<()>> {
        queue.poll_durable(self.0, turn, cx)
    }
}

/// Has the worker ended, and what was never written?
#[derive(Debug)]
pub(crate) struct Discarded;

impl Question for Discarded {
    type Answer = Batch;

    fn ask(&mut self, queue: &Queue, turn: &mut Turn, cx: &Context<'_>) -> Poll<Batch> {
        queue.poll_discarded(turn, cx)
    }
}
