//! Work on the journal that is no append: rotation, archive, prune. The worker does it between two groups, after all that was queued before.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, ready},
};

use super::{
    Handle,
    group::Order,
    pending::{Entering, Question, Settling, Watching},
    queue::Queue,
    runtime::sync::Mutex,
    waiters::Turn,
};
use crate::{
    error::{Attempt, Result},
    writer::Writer,
};

/// One piece of work for the worker: does it with the writer, if the journal could be opened, and returns whether that failed.
pub(super) struct Chore(Box<Work>);

type Work = dyn FnOnce(Result<&mut Writer>) -> Result<()> + Send;

impl Chore {
    pub(super) fn run(self, writer: Result<&mut Writer>) -> Result<()> {
        (self.0)(writer)
    }
}

impl fmt::Debug for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chore")
    }
}

/// What came of a chore, once it was done.
type Answer<T> = Arc<Mutex<Option<Result<T>>>>;

/// Has the worker done this, and what came of it?
struct Asked<T> {
    attempt: Attempt,
    /// Until it is queued, by the first poll.
    chore: Option<Chore>,
    answer: Answer<T>,
}

impl<T: Send + 'static> Asked<T> {
    fn new(attempt: Attempt, work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static) -> Asked<T> {
        let answer = Answer::default();
        let told = Arc::clone(&answer);
        let chore = Chore(Box::new(move |writer| {
            let result = writer.and_then(work);
            let done = result.as_ref().map(|_| ()).map_err(Clone::clone);
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            done
        }));
        Asked { attempt, chore: Some(chore), answer }
    }
}

impl<T> Question for Asked<T> {
    type Answer = Result<T>;

    fn ask(&mut self, queue: &Queue, turn: &mut Turn, cx: &Context<'_>) -> Poll<Result<T>> {
        let answer = &self.answer;
        queue.poll_chore(&mut self.chore, self.attempt, turn, cx, || answer.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

impl<T> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// Waits until all that was queued before is written, then until a chore is done.
#[derive(Debug)]
#[must_use]
pub(crate) struct Chored<T> {
    /// `None` once it was passed.
    flush: Option<Settling>,
    chore: Watching<Asked<T>>,
    attempt: Attempt,
}

impl<T: Send + 'static> Chored<T> {
    pub(crate) fn new(handle: &Arc<Handle>, attempt: Attempt, work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static) -> Chored<T> {
        let flush = Settling::Entering(Entering::barrier(handle, Order::Flush));
        Chored { flush: Some(flush), chore: Watching::new(handle, Asked::new(attempt, work)), attempt }
    }
}

impl<T> Future for Chored<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(flush) = &mut self.flush {
            let passed = ready!(Pin::new(flush).poll(cx));
            self.flush = None;
            passed.map_err(|error| error.attempting(self.attempt))?;
        }
        Pin::new(&mut self.chore).poll(cx)
    }
}
