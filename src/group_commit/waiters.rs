//! Those who wait for something else than a verdict, in the order in which they came.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

/// Wakers that are told apart, so that who no longer waits can be left out.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: VecDeque<(u64, Waker)>,
}

/// A place in a [`Waiters`].
pub(crate) type Turn = Option<u64>;

impl Waiters {
    /// Keeps the turn if there is one, takes the last if not. Returns a waker that is not used any more.
    pub(super) fn wait(&mut self, turn: &mut Turn, cx: &Context<'_>) -> Option<Waker> {
        match turn.and_then(|turn| self.waiting.iter_mut().find(|(waiting, _)| *waiting == turn)) {
            Some((_, waker)) if waker.will_wake(cx.waker()) => None,
            Some((_, waker)) => Some(std::mem::replace(waker, cx.waker().clone())),
            None => {
                self.waiting.push_back((self.next, cx.waker().clone()));
                *turn = Some(self.next);
                self.next += 1;
                None
            }
        }
    }

    /// Gives the turn up. Returns a waker that is not used any more.
    pub(super) fn leave(&mut self, turn: &mut Turn) -> Option<Waker> {
        let turn = turn.take()?;
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == turn)?;
        self.waiting.remove(at).map(|(_, waker)| waker)
    }

    /// Whether nobody else is before.
    pub(super) fn is_first(&self, turn: Turn) -> bool {
        self.waiting.front().is_none_or(|(first, _)| Some(*first) == turn)
    }

    pub(super) fn first(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Waker> {
        self.waiting.iter().map(|(_, waker)| waker.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
