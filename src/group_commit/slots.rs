//! Where the verdicts are put, for owners who may be gone by then.

use std::task::{Context, Poll, Waker};

use super::group::Outcome;
use crate::error::Result;

/// Where the verdict of one claim is put.
pub(super) type SlotId = usize;

#[derive(Debug)]
pub(super) enum Slot {
    Free,
    /// The verdict is not known, and this is who to tell.
    Awaited(Option<Waker>),
    /// The verdict is not known, and nobody waits for it.
    Forgotten,
    Settled(Result<Outcome>),
}

/// Slots, used again and again.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<SlotId>,
}

impl Slots {
    pub(super) fn add(&mut self, slot: Slot) -> SlotId {
        match self.free.pop() {
            Some(id) => {
                self.put(id, slot);
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        }
    }

    fn put(&mut self, id: SlotId, slot: Slot) {
        if let Some(place) = self.slots.get_mut(id) {
            *place = slot;
        }
    }

    fn free(&mut self, id: SlotId) -> Slot {
        self.free.push(id);
        self.slots.get_mut(id).map_or(Slot::Free, |slot| std::mem::replace(slot, Slot::Free))
    }

    pub(super) fn is_awaited(&self, id: SlotId) -> bool {
        matches!(self.slots.get(id), Some(Slot::Awaited(_)))
    }

    /// The verdict of a slot, which is free after that. Beside it: a waker that is not used any more.
    pub(super) fn poll(&mut self, id: SlotId, cx: &Context<'_>) -> (Poll<Result<Outcome>>, Option<Waker>) {
        match self.slots.get_mut(id) {
            Some(Slot::Awaited(Some(waker))) if waker.will_wake(cx.waker()) => (Poll::Pending, None),
            Some(Slot::Awaited(waker)) => (Poll::Pending, waker.replace(cx.waker().clone())),
            _ => match self.free(id) {
                Slot::Settled(verdict) => (Poll::Ready(verdict), None),
                other => unreachable!("the slot of one who waits is {other:?}"),
            },
        }
    }

    /// Its owner is gone. Returns what it held.
    pub(super) fn forget(&mut self, id: SlotId) -> Option<Slot> {
        match self.slots.get_mut(id) {
            Some(slot @ Slot::Awaited(_)) => Some(std::mem::replace(slot, Slot::Forgotten)),
            _ => Some(self.free(id)),
        }
    }

    pub(super) fn settle(&mut self, id: SlotId, verdict: Result<Outcome>, wake: &mut Wakers) {
        match self.slots.get_mut(id) {
            Some(slot @ Slot::Awaited(_)) => {
                if let Slot::Awaited(Some(waker)) = std::mem::replace(slot, Slot::Settled(verdict)) {
                    wake.push(waker);
                }
            }
            _ => drop(self.free(id)),
        }
    }
}

/// To be woken once the queue is unlocked.
pub(super) type Wakers = Vec<Waker>;
