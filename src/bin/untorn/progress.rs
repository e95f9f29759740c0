//! How far a long verification is: one line on a terminal, rewritten in place, and gone before anything else is said.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::text::{self, Shown};

/// What is over sooner needs no progress.
const SHOW_AFTER: Duration = Duration::from_millis(500);

const SHOW_EVERY: Duration = Duration::from_millis(100);

const BAR_COLUMNS: u64 = 20;

/// Whether the line is on the screen.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// The progress of one step; dropping it takes the line away.
pub(crate) struct Progress {
    name: String,
    /// When to show it next; never, if nobody looks.
    next: Option<Instant>,
}

impl Progress {
    pub(crate) fn of(path: &Path) -> Progress {
        let next = io::stderr().is_terminal().then(|| Instant::now() + SHOW_AFTER);
        Progress { name: Shown(path.display()).to_string(), next }
    }

    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if total == 0 || self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + SHOW_EVERY);
        let filled = (0..BAR_COLUMNS).map(|column| if column * total < done * BAR_COLUMNS { '█' } else { '░' });
        let bar: String = filled.collect();
        let name: String = self.name.chars().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect();
        let _ = write!(io::stderr().lock(), "\r{bar} {} of {}  {name}\x1b[K", text::size(done), text::size(total));
        SHOWN.store(true, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        erase(&mut io::stderr().lock());
    }
}

/// Takes the line off the screen, if it is there.
pub(crate) fn erase(stderr: &mut impl Write) {
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = write!(stderr, "\r\x1b[K");
    }
}
