//! What waits to be written, who waits for it, and how much may wait.
//!
//! All of it is behind one lock, held for a copy of one record, or for the verdicts of one group. Records and barriers stand in one order; each has
//! a claim, which says what is asked for, and a slot, where its verdict is put. The owner of a slot may go away at any time: the record stays.

use std::{
    path::Path,
    sync::{Arc, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    bell::{Bell, Patience},
    chore::Chore,
    group::{Group, Offer, Order, Outcome, Place, Size},
    runtime::{
        sync::{Condvar, Mutex, MutexGuard},
        thread::{self, ThreadId},
    },
    slots::{SlotId, Wakers},
    state::{Done, Duty, Health, Limits, Marks, Next, Phase, Sleep, State},
    waiters::Turn,
};
use crate::{
    encode::Batch,
    error::{Attempt, Error, ErrorKind, Left, Result},
    position::{Appended, Position},
};

/// How a shared writer is doing, at one moment.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct WriterState {
    /// Records that are queued or being written.
    pub queued_records: usize,
    /// The bytes of their payloads.
    pub queued_bytes: usize,
    /// Just past the last record that this writer wrote.
    pub written: Position,
    /// The watermark: every record before it is durable. Never beyond `written`.
    pub durable: Position,
    /// The last failure, until a write succeeds.
    pub error: Option<Error>,
    /// Nothing is written until [`reopen`](crate::SharedWriter::reopen).
    pub poisoned: bool,
}

#[derive(Debug)]
pub(crate) struct Queue {
    path: Arc<Path>,
    state: Mutex<State>,
    /// Wakes the worker.
    work: Condvar,
    /// Something was queued.
    arrival: Bell,
    /// A group got its verdicts.
    verdicts: Bell,
    worker: OnceLock<ThreadId>,
}

/// How long the worker listens for the next record: longer than it takes to wake who appends it.
const ARRIVAL: Patience = Patience { keeps: Duration::from_micros(4), yields: Duration::from_micros(36) };

/// How long an append listens for its verdict, which is time that a task takes from the others. It does not offer the processor, since nobody says
/// when it would get it back.
const VERDICT: Patience = Patience { keeps: Duration::from_micros(10), yields: Duration::ZERO };

/// A claim that was queued.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) slot: SlotId,
    /// How many groups had got their verdicts, if it may be worth to wait a moment for its own.
    verdicts: Option<u64>,
}

impl Queue {
    pub(super) fn new(path: &Path, (records, bytes): (usize, usize), marks: Marks) -> Queue {
        let path: Arc<Path> = Arc::from(path);
        let state = State::new(Arc::clone(&path), Limits { records, bytes }, marks);
        Queue {
            path,
            state: Mutex::new(state),
            work: Condvar::new(),
            arrival: Bell::new(ARRIVAL),
            verdicts: Bell::new(VERDICT),
            worker: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, kind: ErrorKind, attempt: Attempt) -> Error {
        Error::new(kind, attempt).on(&self.path)
    }

    pub(super) fn state(&self) -> WriterState {
        let state = self.lock();
        let size = state.size();
        WriterState {
            queued_records: size.records,
            queued_bytes: size.bytes,
            written: state.marks.written,
            durable: state.marks.durable,
            error: state.stuck.as_ref().map(|stuck| stuck.error.clone()),
            poisoned: state.poison().is_some(),
        }
    }
}

/// For those who append, and wait.
impl Queue {
    /// Queues a copy of the offer if there is room, and returns its slot.
    pub(super) fn poll_enter(&self, offer: &Offer, turn: &mut Turn, failures: &mut Option<u64>, cx: &Context<'_>) -> Poll<Result<Entered>> {
        let mut state = self.lock();
        let is_lone = state.is_idle() && state.asleep.is_none() && !offer.order.syncs();
        let verdicts = self.verdicts.rings();
        let (entered, unused) = state.enter(offer, turn, failures, cx);
        let (wakes_worker, next) = match &entered {
            Poll::Ready(Ok(_)) => (state.rouse(Some(offer.order)), state.next_in()),
            Poll::Ready(Err(_)) => (false, state.next_in()),
            Poll::Pending => (state.prompt(), None),
        };
        drop(state);
        if wakes_worker {
            self.work.notify_one();
        }
        self.arrival.ring();
        next.into_iter().for_each(Waker::wake);
        drop(unused);
        entered.map_ok(|slot| Entered { slot, verdicts: is_lone.then_some(verdicts) })
    }

    /// Whether an append that was just queued is likely to have its verdict. It is, within a moment, if the worker is awake and has nothing else.
    pub(super) fn is_settled_soon(&self, entered: &Entered) -> bool {
        entered.verdicts.is_some_and(|before| self.verdicts.listen(before))
    }

    /// Gives up the place of one who waited for room.
    pub(super) fn leave_door(&self, turn: &mut Turn) {
        let mut state = self.lock();
        let unused = state.door.leave(turn);
        let next = state.next_in();
        drop(state);
        drop(unused);
        next.into_iter().for_each(Waker::wake);
    }

    /// The verdict of a slot, which is free after that.
    pub(super) fn poll_settled(&self, slot: SlotId, cx: &Context<'_>) -> Poll<Result<Outcome>> {
        let (verdict, unused) = self.lock().slots.poll(slot, cx);
        drop(unused);
        verdict
    }

    /// Nobody waits for the slot's verdict any more; its record stays.
    pub(super) fn forget(&self, slot: SlotId) {
        let unused = self.lock().slots.forget(slot);
        drop(unused);
    }

    /// Waits until a reopening that began after the first call has ended.
    pub(super) fn poll_reopened(&self, round: &mut Option<u64>, turn: &mut Turn, cx: &Context<'_>) -> Poll<Result<()>> {
        self.poll_watch(turn, cx, |state| {
            let rounds = &mut state.reopening;
            let round = *round.get_or_insert_with(|| {
                rounds.asked = rounds.started + 1;
                rounds.asked
            });
            if rounds.done >= round {
                return Poll::Ready(rounds.result.clone());
            }
            match &state.phase {
                Phase::Ended(_) => Poll::Ready(Err(state.ended(Attempt::Reopen))),
                _ => Poll::Pending,
            }
        })
    }

    /// Queues a chore, which the first call brings, and waits until it is done.
    pub(super) fn poll_chore<T>(
        &self,
        chore: &mut Option<Chore>,
        attempt: Attempt,
        turn: &mut Turn,
        cx: &Context<'_>,
        answer: impl FnOnce() -> Option<Result<T>>,
    ) -> Poll<Result<T>> {
        self.poll_watch(turn, cx, |state| {
            if let Some(answer) = answer() {
                return Poll::Ready(answer);
            }
            if let Phase::Discarding | Phase::Ended(_) = state.phase {
                return Poll::Ready(Err(state.ended(attempt)));
            }
            state.chores.extend(chore.take());
            Poll::Pending
        })
    }

    /// Waits until everything before `end` is durable.
    pub(super) fn poll_durable(&self, end: Position, turn: &mut Turn, cx: &Context<'_>) -> Poll<Result<()>> {
        self.poll_watch(turn, cx, |state| {
            if state.marks.durable >= end {
                return Poll::Ready(Ok(()));
            }
            if let Phase::Ended(_) = &state.phase {
                return Poll::Ready(Err(state.ended(Attempt::Sync)));
            }
            if let Some(poison) = state.poison() {
                return Poll::Ready(Err(poison.clone().attempting(Attempt::Sync)));
            }
            state.sync_asked |= state.marks.written >= end && state.sync_due.is_none();
            Poll::Pending
        })
    }

    /// Ends the worker and waits for that; what was never written is there for the first who asks.
    pub(super) fn poll_discarded(&self, turn: &mut Turn, cx: &Context<'_>) -> Poll<Batch> {
        self.poll_watch(turn, cx, |state| match state.phase {
            Phase::Ended(_) => Poll::Ready(state.left.take().unwrap_or_default()),
            _ => {
                state.phase = Phase::Discarding;
                Poll::Pending
            }
        })
    }

    fn poll_watch<T>(&self, turn: &mut Turn, cx: &Context<'_>, check: impl FnOnce(&mut State) -> Poll<T>) -> Poll<T> {
        let mut state = self.lock();
        let ready = check(&mut state);
        let unused = if ready.is_ready() { state.watchers.leave(turn) } else { state.watchers.wait(turn, cx) };
        let wakes_worker = ready.is_pending() && state.rouse(None);
        drop(state);
        if wakes_worker {
            self.work.notify_one();
        }
        drop(unused);
        ready
    }

    pub(super) fn leave_watch(&self, turn: &mut Turn) {
        let unused = self.lock().watchers.leave(turn);
        drop(unused);
    }

    /// The last handle is gone: the worker writes what it can and ends.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        if let Some(stuck) = &mut state.stuck {
            stuck.prompted = true;
            stuck.tries = 0;
        }
        state.asleep = None;
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn forbid_worker(&self, attempt: Attempt) -> Result<()> {
        if self.worker.get() != Some(&thread::current().id()) {
            return Ok(());
        }
        Err(self.error(ErrorKind::Closed, attempt).detail("the thread that writes must not wait for itself"))
    }
}

/// For the worker.
impl Queue {
    pub(super) fn hire(&self) {
        self.worker.get_or_init(|| thread::current().id());
    }

    /// Waits until there is something to do. A group to commit is put into `group`.
    pub(super) fn next(&self, group: &mut Group) -> Next {
        group.clear();
        let mut gather_until = None;
        let mut listens = true;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let until = match state.duty(now, &mut gather_until) {
                Duty::Now(next) => {
                    state.asleep = None;
                    if let Next::Commit = next {
                        state.hand_over(group);
                    }
                    return next;
                }
                Duty::Sleep(Sleep::Idle, _) if std::mem::take(&mut listens) => {
                    let arrivals = self.arrival.rings();
                    drop(state);
                    self.arrival.listen(arrivals);
                    state = self.lock();
                    continue;
                }
                Duty::Sleep(sleep, until) => {
                    state.asleep = Some(sleep);
                    until
                }
            };
            state = match until {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => self.wait_until(state, until.saturating_duration_since(now)),
            };
        }
    }

    #[cfg(not(shuttle))]
    fn wait_until<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.work.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The model checker has no clock: any time may be over at once.
    #[cfg(shuttle)]
    fn wait_until<'a>(&'a self, state: MutexGuard<'a, State>, _: Duration) -> MutexGuard<'a, State> {
        drop(state);
        thread::yield_now();
        self.lock()
    }

    /// Gives verdicts to claims of a group whose commit is not over.
    pub(super) fn acknowledge(&self, group: &mut Group, verdict: impl FnMut(Place) -> Option<Result<Outcome>>) {
        let mut wake = Wakers::new();
        let mut state = self.lock();
        group.settle(&mut state.slots, &mut wake, verdict);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    /// Settles a group after its commit: what is whole in the file is acknowledged, what is not goes back to the front of the queue, but for what
    /// its owner is told. Returns whether a close was reached.
    pub(super) fn finish(&self, group: &mut Group, done: Done, mut appended: impl FnMut(usize) -> Appended) -> bool {
        let mut wake = Wakers::new();
        let mut state = self.lock();
        let Done { whole, refused, failed, synced, health } = done;
        let not_synced = synced.clone().and_then(Result::err);
        let durable = health.marks.durable;
        let mut closed = false;
        group.settle(&mut state.slots, &mut wake, |place| {
            if place.is_reached(whole) {
                return match (&not_synced, place.order.is_barrier()) {
                    (None, true) if place.order == Order::Close => {
                        closed = true;
                        None
                    }
                    (None, true) => Some(Ok(Outcome::Passed(durable))),
                    (Some(error), true) => Some(Err(error.clone())),
                    (Some(error), false) if place.order.syncs() => Some(Err(error.clone().leaving(Left::Whole(appended(place.unit))))),
                    (_, false) => Some(Ok(Outcome::Appended(appended(place.unit)))),
                };
            }
            match (&refused, &failed) {
                (Some(refused), _) => (place.unit == whole && !place.order.is_barrier()).then(|| Err(refused.clone())),
                (None, Some(failed)) => place.told(failed, place.unit == whole).map(Err),
                (None, None) => None,
            }
        });
        let interval = group.reached(whole).filter_map(Order::interval).min();
        let kept = group.unsettled();
        group.clear();
        // Who came while this try was made has not been tried.
        let untried = state.waiting.orders().any(|order| !matches!(order, Order::Enqueue(_)));
        if !kept.is_empty() {
            let arrived = std::mem::replace(&mut state.waiting, kept);
            state.waiting.extend(&arrived);
        }
        state.under_way = Size::default();
        state.schedule_sync(interval, synced.is_some());
        let failure = not_synced.or(failed);
        if failure.is_none() && (whole > 0 || synced.is_some() || refused.is_some()) {
            state.stuck = None;
        }
        if let Some(failure) = failure {
            state.fail(failure, health.poison.clone());
            if let Some(stuck) = &mut state.stuck {
                stuck.prompted |= untried;
            }
        }
        state.report(health, &mut wake);
        drop(state);
        // Who hears it takes the lock next.
        self.verdicts.ring();
        wake.into_iter().for_each(Waker::wake);
        closed
    }

    /// Takes note of a sync that no group asked for.
    pub(super) fn synced(&self, result: Result<()>, health: Health) {
        let mut wake = Wakers::new();
        let mut state = self.lock();
        state.sync_asked = false;
        state.schedule_sync(None, true);
        match result {
            Ok(()) => {}
            Err(error) => state.fail(error, health.poison.clone()),
        }
        state.report(health, &mut wake);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// The next chore, once the worker comes to it.
    pub(super) fn take_chore(&self) -> Option<Chore> {
        self.lock().chores.pop_front()
    }

    /// Takes note of a chore that was done, or could not be.
    pub(super) fn chore_done(&self, result: Result<()>, health: Health) {
        let mut wake = Wakers::new();
        let mut state = self.lock();
        if let Err(error) = result
            && health.poison.is_some()
        {
            state.fail(error, health.poison.clone());
        }
        state.report(health, &mut wake);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Takes note of a reopening.
    pub(super) fn reopened(&self, result: Result<()>, health: Health) {
        let mut wake = Wakers::new();
        let mut state = self.lock();
        match &result {
            Ok(()) => state.stuck = None,
            Err(error) => state.fail(error.clone(), health.poison.clone()),
        }
        state.reopening.done = state.reopening.started;
        state.reopening.result = result;
        state.report(health, &mut wake);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }

    /// The worker has ended and the journal is closed: nobody waits from here on.
    pub(super) fn end(&self, group: &mut Group, reason: Error) {
        let mut wake = Wakers::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        // Of what the worker had, nobody knows what is in the file. There is something only if it panicked.
        group.settle(&mut state.slots, &mut wake, |_| Some(Err(reason.clone().leaving(Left::Unknown))));
        let durable = state.marks.durable;
        let is_closed = matches!(state.phase, Phase::Closing) && reason.kind() == ErrorKind::Closed;
        state.waiting.settle(&mut state.slots, &mut wake, |place| match place.order {
            Order::Close if is_closed => Some(Ok(Outcome::Passed(durable))),
            _ => Some(Err(reason.clone())),
        });
        let chores = std::mem::take(&mut state.chores);
        let left = std::mem::take(&mut state.waiting);
        state.left = Some(left.records);
        state.under_way = Size::default();
        state.phase = Phase::Ended(reason);
        wake.extend(state.door.all());
        wake.extend(state.watchers.all());
        drop(guard);
        drop(chores);
        wake.into_iter().for_each(Waker::wake);
    }
}
