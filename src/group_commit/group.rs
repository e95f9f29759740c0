//! What is written in one go: records, batches and barriers in their order, and what is asked for each.

use std::time::Duration;

use super::slots::{SlotId, Slots, Wakers};
use crate::{
    encode::{Batch, Unit},
    error::{Attempt, Error, Left, Result},
    position::{Appended, Position},
    writer::Durability,
};

/// What one claim asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A record or batch whose appender waits: if it cannot be written it is told, and the record is not queued any more.
    Append(Durability),
    /// A record or batch that stays queued until it is written.
    Enqueue(Durability),
    /// A barrier: everything before it is as durable as was asked.
    Flush,
    /// A barrier: everything before it is durable.
    Sync,
    /// The last barrier.
    Close,
}

impl Order {
    /// Whether its verdict is about a sync.
    pub(super) fn syncs(self) -> bool {
        matches!(self, Order::Append(Durability::Sync) | Order::Enqueue(Durability::Sync) | Order::Sync | Order::Close)
    }

    pub(super) fn is_barrier(self) -> bool {
        matches!(self, Order::Flush | Order::Sync | Order::Close)
    }

    /// How long after its write the record is to be synced, if not at once.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Order::Append(Durability::Interval(every)) | Order::Enqueue(Durability::Interval(every)) => Some(every),
            _ => None,
        }
    }

    pub(super) fn attempt(self) -> Attempt {
        match self {
            Order::Append(_) | Order::Enqueue(_) => Attempt::Append,
            Order::Flush => Attempt::Flush,
            Order::Sync => Attempt::Sync,
            Order::Close => Attempt::Close,
        }
    }
}

/// What came of a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// The record is in the journal.
    Appended(Appended),
    /// A barrier was passed; all before the position is durable.
    Passed(Position),
}

impl Outcome {
    pub(crate) fn appended(self) -> Appended {
        match self {
            Outcome::Appended(appended) => appended,
            Outcome::Passed(_) => unreachable!("a record is no barrier"),
        }
    }

    pub(crate) fn passed(self) -> Position {
        match self {
            Outcome::Passed(position) => position,
            Outcome::Appended(_) => unreachable!("a barrier is no record"),
        }
    }
}

/// A record, a batch or a barrier that asks to be queued.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) records: Batch,
    /// `None` for a barrier.
    pub(super) unit: Option<Unit>,
    pub(super) order: Order,
}

impl Offer {
    pub(super) fn size(&self) -> Size {
        Size { records: self.records.len(), barriers: usize::from(self.unit.is_none()), bytes: self.records.bytes() }
    }
}

/// Claims in their order, and the records they are about.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) records: Batch,
    pub(super) units: Vec<Unit>,
    claims: Vec<Claim>,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    /// `None` once it has its verdict.
    slot: Option<SlotId>,
    order: Order,
}

/// One claim with its place in the group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) order: Order,
    /// Its unit; for a barrier, the number of units before it.
    pub(super) unit: usize,
    /// Its owner still waits.
    pub(super) awaited: bool,
}

impl Place {
    /// Whether all it is about is in the file, when that many units are.
    pub(super) fn is_reached(self, whole: usize) -> bool {
        if self.order.is_barrier() { self.unit <= whole } else { self.unit < whole }
    }
}

/// Room that is taken in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) records: usize,
    /// Each takes the room of one record, so that they are bounded too.
    pub(super) barriers: usize,
    pub(super) bytes: usize,
}

impl Size {
    /// The room taken, counted in records.
    pub(super) fn count(self) -> usize {
        self.records + self.barriers
    }
}

impl std::ops::Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size { records: self.records + other.records, barriers: self.barriers + other.barriers, bytes: self.bytes + other.bytes }
    }
}

/// What a buffer shrinks back to after a larger group.
const BYTES_KEPT: usize = 1 << 20;

impl Group {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.records.shrink_to(BYTES_KEPT);
        self.units.clear();
        self.claims.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(super) fn size(&self) -> Size {
        Size { records: self.records.len(), barriers: self.claims.len() - self.units.len(), bytes: self.records.bytes() }
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = Order> {
        self.claims.iter().map(|claim| claim.order)
    }

    /// The orders that are met when so many units are in the file.
    pub(super) fn reached(&self, whole: usize) -> impl Iterator<Item = Order> {
        let mut units = 0;
        self.orders().take_while(move |order| {
            units += usize::from(!order.is_barrier());
            units <= whole
        })
    }

    pub(super) fn push(&mut self, offer: &Offer, slot: SlotId) {
        self.records.extend(&offer.records, 0..offer.records.len());
        self.units.extend(offer.unit);
        self.claims.push(Claim { slot: Some(slot), order: offer.order });
    }

    /// Puts all of `other` behind.
    pub(super) fn extend(&mut self, other: &Group) {
        self.records.extend(&other.records, 0..other.records.len());
        self.units.extend_from_slice(&other.units);
        self.claims.extend_from_slice(&other.claims);
    }

    /// Gives verdicts to claims that have none.
    pub(super) fn settle(&mut self, slots: &mut Slots, wake: &mut Wakers, mut verdict: impl FnMut(Place) -> Option<Result<Outcome>>) {
        let mut unit = 0;
        for claim in &mut self.claims {
            if let Some(slot) = claim.slot {
                let place = Place { order: claim.order, unit, awaited: slots.is_awaited(slot) };
                if let Some(verdict) = verdict(place) {
                    slots.settle(slot, verdict, wake);
                    claim.slot = None;
                }
            }
            unit += usize::from(!claim.order.is_barrier());
        }
    }

    /// The claims without a verdict, with their records.
    pub(super) fn unsettled(&self) -> Group {
        let mut kept = Group::default();
        let mut units = self.units.iter();
        let mut records = 0..0;
        for claim in &self.claims {
            let unit = if claim.order.is_barrier() { None } else { units.next().copied() };
            records = records.end..records.end + unit.map_or(0, Unit::records);
            if claim.slot.is_some() {
                kept.records.extend(&self.records, records.clone());
                kept.units.extend(unit);
                kept.claims.push(*claim);
            }
        }
        kept
    }
}

impl Place {
    /// What the owner of a claim that could not be met is told; `None` if it stays queued. The error speaks of the first such claim.
    pub(super) fn told(self, error: &Error, first: bool) -> Option<Error> {
        // What may be in the file is never written again: it could be there twice.
        let unknown = matches!(error.left(), Left::Unknown) && !self.order.is_barrier();
        let told = unknown || self.order.is_barrier() || (self.awaited && matches!(self.order, Order::Append(_)));
        told.then(|| if unknown || (first && !self.order.is_barrier()) { error.clone() } else { error.clone().leaving(Left::Nothing) })
    }
}
