//! Opening a journal without waiting on the task's thread.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use crate::error::{Attempt, Error, ErrorKind, Result};

/// A journal that is being opened, on a thread of its own: a future of what was opened.
///
/// # Cancel safety
///
/// Nothing happens before the first poll. Dropped after that, the journal is opened and closed again in the background.
#[must_use = "nothing happens before it is awaited"]
pub struct Opening<T>(Stage<T>);

enum Stage<T> {
    Planned(PathBuf, Box<dyn FnOnce() -> Result<T> + Send>),
    UnderWay(Arc<Mutex<Doorstep<T>>>),
    Over,
}

/// Where what was opened is left for who waits.
enum Doorstep<T> {
    Awaited(Waker),
    Opened(Result<T>),
}

impl<T: Send + 'static> Opening<T> {
    pub(crate) fn new(path: &Path, open: impl FnOnce() -> Result<T> + Send + 'static) -> Opening<T> {
        Opening(Stage::Planned(path.to_owned(), Box::new(open)))
    }
}

impl<T: Send + 'static> Future for Opening<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match std::mem::replace(&mut self.0, Stage::Over) {
            Stage::Planned(path, open) => {
                let doorstep = Arc::new(Mutex::new(Doorstep::Awaited(cx.waker().clone())));
                self.0 = Stage::UnderWay(Arc::clone(&doorstep));
                let panicked = Error::new(ErrorKind::Io, Attempt::OpenToAppend).on(&path).detail("the thread that opened it has panicked");
                let delivery = Delivery { doorstep, opened: Err(panicked) };
                let opener = thread::Builder::new().name("untorn-open".to_owned()).spawn(move || delivery.deliver(open()));
                opener.map_or_else(|error| Poll::Ready(Err(Error::io(Attempt::OpenToAppend, &path, error))), |_| Poll::Pending)
            }
            Stage::UnderWay(doorstep) => {
                let mut found = doorstep.lock().unwrap_or_else(PoisonError::into_inner);
                match std::mem::replace(&mut *found, Doorstep::Awaited(cx.waker().clone())) {
                    Doorstep::Opened(opened) => Poll::Ready(opened),
                    Doorstep::Awaited(_) => {
                        drop(found);
                        self.0 = Stage::UnderWay(doorstep);
                        Poll::Pending
                    }
                }
            }
            Stage::Over => Poll::Pending,
        }
    }
}

/// What was opened, on its way to who waits. It is delivered when this is dropped, so that nobody waits for a thread that has panicked.
struct Delivery<T> {
    doorstep: Arc<Mutex<Doorstep<T>>>,
    opened: Result<T>,
}

impl<T> Delivery<T> {
    fn deliver(mut self, opened: Result<T>) {
        self.opened = opened;
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        let gone = Err(Error::new(ErrorKind::Io, Attempt::OpenToAppend));
        let opened = Doorstep::Opened(std::mem::replace(&mut self.opened, gone));
        let before = std::mem::replace(&mut *self.doorstep.lock().unwrap_or_else(PoisonError::into_inner), opened);
        if let Doorstep::Awaited(waker) = before {
            waker.wake();
        }
    }
}

impl<T> fmt::Debug for Opening<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.0 {
            Stage::Planned(..) => "planned",
            Stage::UnderWay(_) => "under way",
            Stage::Over => "over",
        };
        f.debug_tuple("Opening").field(&stage).finish()
    }
}
