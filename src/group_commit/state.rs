//! What the queue knows, and what it decides by that. Nothing here waits, wakes or logs: that is done once the lock is let go.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    chore::Chore,
    group::{Group, Offer, Order, Place, Size},
    slots::{Slot, SlotId, Slots, Wakers},
    waiters::{Turn, Waiters},
};
use crate::{
    encode::Batch,
    error::{Attempt, Error, ErrorKind, Left, Result},
    position::Position,
};

/// Whether anything may still be queued.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Open,
    /// A close is queued; appends wait for what becomes of it.
    Closing,
    /// What is queued is to be handed back.
    Discarding,
    /// The worker has ended and the journal is closed. This is what who appends is told.
    Ended(Error),
}

/// Why the worker does nothing now, so who may wake it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleep {
    /// There is nothing to do.
    Idle,
    /// The group is to have so many units.
    Gathering(usize),
    /// The last try failed.
    BackingOff,
}

/// A failure that keeps records in the queue.
#[derive(Debug)]
pub(super) struct Stuck {
    pub(super) error: Error,
    /// If nothing is written before a reopening: what who asks for it is told.
    poison: Option<Error>,
    /// How many tries have failed, in a row.
    pub(super) tries: u32,
    retry_at: Instant,
    /// Somebody asks for a try now.
    pub(super) prompted: bool,
}

/// Rounds of reopening; whoever asks while one is under way waits for the next.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) asked: u64,
    pub(super) started: u64,
    pub(super) done: u64,
    pub(super) result: Result<()>,
}

/// How much may be queued.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) records: usize,
    /// Of their payloads.
    pub(super) bytes: usize,
}

/// All that the lock guards.
#[derive(Debug)]
pub(super) struct State {
    path: Arc<Path>,
    limits: Limits,
    pub(super) waiting: Group,
    /// The group that the worker has.
    pub(super) under_way: Size,
    pub(super) slots: Slots,
    /// Those who wait for room.
    pub(super) door: Waiters,
    /// Those who wait for something else than a verdict or room.
    pub(super) watchers: Waiters,
    pub(super) phase: Phase,
    /// The last handle is gone.
    pub(super) abandoned: bool,
    /// `None` while the worker is awake.
    pub(super) asleep: Option<Sleep>,
    pub(super) stuck: Option<Stuck>,
    /// How many tries have failed in all.
    failures: u64,
    pub(super) reopening: Rounds,
    /// What is to be done between two groups, in order.
    pub(super) chores: VecDeque<Chore>,
    pub(super) sync_asked: bool,
    /// When what was written with an interval is to be synced.
    pub(super) sync_due: Option<Instant>,
    pub(super) marks: Marks,
    /// What was never written, for who discards.
    pub(super) left: Option<Batch>,
    /// How many units the last group had.
    company: usize,
}

/// How far the journal is written, and durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(super) written: Position,
    pub(super) durable: Position,
}

/// What came of one group, or of a sync.
#[derive(Debug)]
pub(super) struct Done {
    /// So many units are in the file.
    pub(super) whole: usize,
    /// Why the first of the others is never written.
    pub(super) refused: Option<Error>,
    /// Why the others are not written yet.
    pub(super) failed: Option<Error>,
    /// What came of the sync, if one was asked for.
    pub(super) synced: Option<Result<()>>,
    pub(super) health: Health,
}

/// What the writer says of itself.
#[derive(Clone, Debug)]
pub(super) struct Health {
    /// Why nothing can be written any more, as who tries is to be told.
    pub(super) poison: Option<Error>,
    pub(super) marks: Marks,
}

/// What the worker is to do.
#[derive(Debug)]
pub(super) enum Next {
    Commit,
    Sync,
    Reopen,
    /// One of the chores.
    Chore,
    /// The last handle is gone, and what could be written is.
    Leave,
    Discard,
}

/// How long a group may gather company. A sync takes about as long, so it pays when the sync is shared.
const GATHER: Duration = Duration::from_micros(300);

/// The first pause before a failed write is tried again; each next one is twice as long, up to the last.
const PAUSE: Duration = if cfg!(shuttle) { Duration::ZERO } else { Duration::from_millis(50) };
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often an abandoned queue is tried in vain before it is given up.
const ABANDONED_TRIES: u32 = 5;

/// What the worker may do.
pub(super) enum Duty {
    Now(Next),
    /// Nothing, until it is woken or this moment comes.
    Sleep(Sleep, Option<Instant>),
}

impl State {
    pub(super) fn new(path: Arc<Path>, limits: Limits, marks: Marks) -> State {
        State {
            path,
            limits,
            waiting: Group::default(),
            under_way: Size::default(),
            slots: Slots::default(),
            door: Waiters::default(),
            watchers: Waiters::default(),
            phase: Phase::Open,
            abandoned: false,
            asleep: None,
            stuck: None,
            failures: 0,
            reopening: Rounds { asked: 0, started: 0, done: 0, result: Ok(()) },
            chores: VecDeque::new(),
            sync_asked: false,
            sync_due: None,
            marks,
            left: None,
            company: 0,
        }
    }

    /// Nothing is queued or being written.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.records == 0
    }

    pub(super) fn size(&self) -> Size {
        self.waiting.size() + self.under_way
    }

    pub(super) fn poison(&self) -> Option<&Error> {
        self.stuck.as_ref().and_then(|stuck| stuck.poison.as_ref())
    }

    /// The error of whoever comes too late.
    pub(super) fn ended(&self, attempt: Attempt) -> Error {
        match &self.phase {
            Phase::Ended(reason) if reason.kind() != ErrorKind::Closed => reason.clone(),
            _ => Error::new(ErrorKind::Closed, attempt).on(&self.path).detail("the writer was closed"),
        }
    }

    fn has_room(&self) -> bool {
        let size = self.size();
        size.count() < self.limits.records && size.bytes < self.limits.bytes
    }

    /// Whether the offer fits. What is larger than the whole queue fits when nothing else is there.
    fn fits(&self, offer: &Offer) -> bool {
        let (taken, then) = (self.size(), self.size() + offer.size());
        taken.count() == 0 || (then.count() <= self.limits.records && then.bytes <= self.limits.bytes)
    }

    /// Takes the offer, if there is room and it is its turn. Returned beside that: a waker that is not used any more.
    pub(super) fn enter(
        &mut self,
        offer: &Offer,
        turn: &mut Turn,
        failures: &mut Option<u64>,
        cx: &Context<'_>,
    ) -> (Poll<Result<SlotId>>, Option<Waker>) {
        if let Some(error) = self.refuses(offer, *failures) {
            return (Poll::Ready(Err(error)), self.door.leave(turn));
        }
        let held_up = matches!(self.phase, Phase::Closing) && offer.order != Order::Close;
        if held_up || !self.door.is_first(*turn) || !self.fits(offer) {
            failures.get_or_insert(self.failures);
            return (Poll::Pending, self.door.wait(turn, cx));
        }
        let unused = self.door.leave(turn);
        let waker = if let Order::Enqueue(_) = offer.order { None } else { Some(cx.waker().clone()) };
        let slot = self.slots.add(Slot::Awaited(waker));
        self.waiting.push(offer, slot);
        if offer.order == Order::Close {
            self.phase = Phase::Closing;
        }
        (Poll::Ready(Ok(slot)), unused)
    }

    /// Why the offer is not taken, and will not be for a while.
    fn refuses(&self, offer: &Offer, failures: Option<u64>) -> Option<Error> {
        if let Phase::Discarding | Phase::Ended(_) = self.phase {
            return Some(self.ended(offer.order.attempt()));
        }
        let stuck = self.stuck.as_ref()?;
        let keeps = matches!(offer.order, Order::Enqueue(_)) && self.fits(offer);
        if let Some(poison) = stuck.poison.as_ref().filter(|_| !keeps) {
            return Some(poison.clone().attempting(offer.order.attempt()));
        }
        // The queue was full before, and a try to empty it has failed since.
        let in_vain = failures.is_some_and(|seen| self.failures > seen) && !self.fits(offer);
        in_vain.then(|| stuck.error.clone().leaving(Left::Nothing))
    }

    /// Whether the worker is to be woken for a claim of this order, or for something else.
    pub(super) fn rouse(&mut self, order: Option<Order>) -> bool {
        let is_kept = matches!(order, Some(Order::Enqueue(_)));
        if let Some(stuck) = &mut self.stuck {
            stuck.prompted |= order.is_some() && !is_kept;
        }
        let wakes = match self.asleep {
            None => false,
            Some(Sleep::Idle) => true,
            Some(Sleep::Gathering(units)) => self.waiting.units.len() >= units || order.is_none_or(Order::is_barrier),
            Some(Sleep::BackingOff) => !is_kept,
        };
        if wakes {
            self.asleep = None;
        }
        wakes
    }

    /// Someone waits for room: whether the worker is to be woken to make some.
    pub(super) fn prompt(&mut self) -> bool {
        if let Some(stuck) = &mut self.stuck {
            stuck.prompted = true;
        }
        self.asleep.take().is_some()
    }

    /// Whose turn it is to come in, if there is room.
    pub(super) fn next_in(&self) -> Option<Waker> {
        let may_enter = self.has_room() && !matches!(self.phase, Phase::Closing);
        if may_enter { self.door.first() } else { None }
    }

    /// What the worker is to do next. A group may gather until the moment that is set on the first call that finds something to commit.
    pub(super) fn duty(&mut self, now: Instant, gather_until: &mut Option<Instant>) -> Duty {
        if let Phase::Discarding = self.phase {
            return Duty::Now(Next::Discard);
        }
        if self.reopening.asked > self.reopening.started {
            self.reopening.started = self.reopening.asked;
            return Duty::Now(Next::Reopen);
        }
        if !self.chores.is_empty() {
            return Duty::Now(Next::Chore);
        }
        let is_poisoned = self.poison().is_some();
        let mut retry_at = None;
        if !self.waiting.is_empty() && !is_poisoned {
            match &self.stuck {
                Some(stuck) if !stuck.prompted && now < stuck.retry_at => retry_at = Some(stuck.retry_at),
                _ => {
                    let until = *gather_until.get_or_insert(now + GATHER);
                    if now < until && self.gathers() {
                        return Duty::Sleep(Sleep::Gathering(self.company), Some(until));
                    }
                    return Duty::Now(Next::Commit);
                }
            }
        }
        let in_vain = self.stuck.as_ref().is_some_and(|stuck| stuck.tries >= ABANDONED_TRIES);
        if self.abandoned && (self.waiting.is_empty() || is_poisoned || in_vain) {
            return Duty::Now(Next::Leave);
        }
        let sync_due = self.sync_due.filter(|_| !is_poisoned);
        if (self.sync_asked && !is_poisoned) || sync_due.is_some_and(|due| due <= now) {
            return Duty::Now(Next::Sync);
        }
        let sleep = if self.stuck.is_some() { Sleep::BackingOff } else { Sleep::Idle };
        let until = [retry_at, sync_due].into_iter().flatten().min();
        Duty::Sleep(sleep, until)
    }

    /// Gives the worker what waits, and takes an empty group in its place.
    pub(super) fn hand_over(&mut self, group: &mut Group) {
        std::mem::swap(&mut self.waiting, group);
        self.under_way = group.size();
        self.company = group.units.len();
        if let Some(stuck) = &mut self.stuck {
            stuck.prompted = false;
        }
    }

    /// Whether it pays to wait for more: the last group had company, and some of this one want a sync, which is as dear for one as for all.
    fn gathers(&self) -> bool {
        let waits = self.waiting.units.len() < self.company && self.stuck.is_none() && !self.abandoned && self.door.is_empty();
        waits && self.company > 1 && !self.waiting.orders().any(Order::is_barrier) && self.waiting.orders().any(Order::syncs)
    }

    pub(super) fn schedule_sync(&mut self, after: Option<Duration>, synced: bool) {
        if synced {
            self.sync_due = None;
        } else if let Some(after) = after {
            let due = Instant::now() + after;
            self.sync_due = Some(self.sync_due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// Keeps what could not be written for another try.
    pub(super) fn fail(&mut self, error: Error, poison: Option<Error>) {
        self.failures += 1;
        let tries = self.stuck.as_ref().map_or(0, |stuck| stuck.tries);
        let pause = PAUSE.saturating_mul(1 << tries.min(16)).min(PAUSE_MAX);
        let prompted = self.stuck.as_ref().is_some_and(|stuck| stuck.prompted);
        self.stuck = Some(Stuck { error, poison, tries: tries + 1, retry_at: Instant::now() + pause, prompted });
    }

    /// Takes note of how the writer is, and collects those who wait for that.
    pub(super) fn report(&mut self, health: Health, wake: &mut Wakers) {
        self.marks = health.marks;
        if let Some(poison) = &health.poison {
            let told = |place: Place| place.told(poison, true).map(|error| Err(error.attempting(place.order.attempt())));
            self.waiting.settle(&mut self.slots, wake, told);
            self.waiting = self.waiting.unsettled();
        }
        let closes = self.waiting.orders().any(|order| order == Order::Close);
        if matches!(self.phase, Phase::Closing) && !closes {
            self.phase = Phase::Open;
        }
        wake.extend(self.watchers.all());
        if self.stuck.is_some() {
            wake.extend(self.door.all());
        } else {
            wake.extend(self.next_in());
        }
    }
}
