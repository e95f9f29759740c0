//! Reading on a thread of its own, for tasks that must not wait on the disk.
//!
//! The thread reads ahead by a bounded amount and keeps what it has read until it is taken, so a future that is dropped loses nothing.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use super::stop::Bell;
use crate::error::Result;

/// How much is read ahead.
const ITEMS_MAX: usize = 64;
const BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Pump<T> {
    shared: Arc<Shared<T>>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    read: VecDeque<(Result<T>, usize)>,
    bytes: usize,
    /// Nothing more comes.
    is_over: bool,
    waker: Option<Waker>,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in, once there is room. Behind an error there is none until it was taken, so that a failure is not repeated in vain.
    fn put(&self, item: Result<T>, bytes: usize, bell: &Bell) {
        let is_full = |state: &mut State<T>| {
            let after_error = state.read.back().is_some_and(|(last, _)| last.is_err());
            (after_error || state.read.len() >= ITEMS_MAX || state.bytes >= BYTES_MAX) && !bell.is_stopped()
        };
        let mut state = self.state();
        // A stop rings another bell, so it is looked for now and then.
        while is_full(&mut state) {
            state = self.changed.wait_timeout(state, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.bytes += bytes;
        state.read.push_back((item, bytes));
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Ends what waits for a thread, however that ends.
struct Ending<T>(Arc<Shared<T>>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_over = true;
        let waker = state.waker.take();
        drop(state);
        self.0.changed.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send + 'static> Pump<T> {
    /// Starts a thread that calls `next` until it gives `None`. The second value that it gives is how many bytes an item has.
    pub(crate) fn start(bell: Arc<Bell>, mut next: impl FnMut() -> Option<(Result<T>, usize)> + Send + 'static) -> io::Result<Pump<T>> {
        let state = State { read: VecDeque::new(), bytes: 0, is_over: false, waker: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let ending = Ending(Arc::clone(&shared));
        let heard = Arc::clone(&bell);
        thread::Builder::new().name("untorn-follow".to_owned()).spawn(move || {
            while let Some((item, bytes)) = next() {
                ending.0.put(item, bytes, &heard);
            }
        })?;
        Ok(Pump { shared, bell })
    }
}

impl<T> Pump<T> {
    fn taken(&self, state: &mut State<T>) -> Option<Option<Result<T>>> {
        if self.bell.is_stopped() {
            return Some(None);
        }
        let Some((item, bytes)) = state.read.pop_front() else { return state.is_over.then_some(None) };
        state.bytes -= bytes;
        self.shared.changed.notify_all();
        Some(Some(item))
    }

    /// The next item; `None` when it was stopped.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<T>>> {
        let mut state = self.shared.state();
        match self.taken(&mut state) {
            Some(item) => Poll::Ready(item),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The same, waiting on this thread for no longer than `wait`.
    pub(crate) fn take(&self, wait: Duration) -> Option<Result<T>> {
        let deadline = Instant::now().checked_add(wait);
        let mut state = self.shared.state();
        loop {
            if let Some(item) = self.taken(&mut state) {
                return item;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            // A stop rings another bell, so it is looked for now and then.
            let left = left.min(Duration::from_millis(50));
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T> Drop for Pump<T> {
    fn drop(&mut self) {
        crate::follow::Stopper(Arc::clone(&self.bell)).stop();
    }
}
