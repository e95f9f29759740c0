//! Who may write: the exclusive advisory lock on the journal file itself, and how long to wait for it.
//!
//! The lock belongs to the open descriptor, so two writers in one process exclude each other as two processes do, and the kernel frees it when
//! its holder dies. It says nothing to a process that does not ask for it.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{seeded, sys::File};

/// How long a writer holds the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// For each append only, so that several processes may append to one journal.
    #[default]
    PerAppend,
    /// From open to close; a second writer gets [`ErrorKind::Locked`](crate::ErrorKind::Locked).
    Held,
}

/// How long to wait for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// Not at all.
    Never,
    /// At most this long.
    For(Duration),
    /// Until it is free.
    Forever,
}

impl LockWait {
    /// What a writer does unless told otherwise: ten seconds per append, not at all for its life.
    pub(crate) fn default_of(scope: Lock) -> LockWait {
        match scope {
            Lock::PerAppend => LockWait::For(Duration::from_secs(10)),
            Lock::Held => LockWait::Never,
        }
    }
}

/// The first pause between two tries; each next one is twice as long, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Takes the lock; `false` if it was not free in time.
///
/// The system has no lock with a time limit, so a limited wait asks again and again.
pub(crate) fn acquire(file: &File, wait: LockWait) -> io::Result<bool> {
    acquire_while(file, wait, || true)
}

/// The same, as long as the lock is still wanted: `false` too if it is not any more.
pub(crate) fn acquire_while(file: &File, wait: LockWait, is_wanted: impl Fn() -> bool) -> io::Result<bool> {
    if seeded::bug("no-lock") || file.try_lock()? {
        return Ok(true);
    }
    let limit = match wait {
        _ if !is_wanted() => return Ok(false),
        LockWait::Never => return Ok(false),
        LockWait::Forever => return file.lock().map(|()| true),
        LockWait::For(limit) => limit,
    };
    let start = Instant::now();
    let mut pause = PAUSE;
    loop {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (2 * pause).min(PAUSE_MAX);
        if file.try_lock()? {
            return Ok(true);
        }
        if !is_wanted() {
            return Ok(false);
        }
    }
}
