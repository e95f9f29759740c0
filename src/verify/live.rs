//! Whether a file is being written: seen from outside, without taking its lock.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::sys::{Disk, File, Process};

/// How long the size of a file with an unfinished end is looked at.
const WAIT: Duration = Duration::from_millis(200);

const PAUSE: Duration = Duration::from_millis(5);

/// How it showed that somebody is writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// A writer of ours holds the lock.
    Locked(Process),
    /// The size changed.
    Moved,
}

/// Looks for somebody at work on `file`, which had `size` bytes when it was judged.
///
/// Our own writers hold the lock while bytes of theirs lack an LF, and a size that changed tells of everybody, so both are looked at always: they
/// cost a microsecond. Only what is `unfinished` after that is worth more: if a process without our lock has the file open for writing, the
/// size is watched for a moment. A cold file is never waited for.
pub(crate) fn look(disk: &Disk, file: &File, size: u64, unfinished: bool) -> io::Result<Option<Live>> {
    let id = file.id()?;
    if let Some(holder) = disk.lock_holder(id) {
        return Ok(Some(Live::Locked(holder)));
    }
    if file.size()? != size {
        return Ok(Some(Live::Moved));
    }
    if !unfinished || disk.strangers(id).is_empty() {
        return Ok(None);
    }
    let deadline = Instant::now() + WAIT;
    // Looked at once more when the time is over, however busy the machine was meanwhile.
    loop {
        let is_over = Instant::now() >= deadline;
        if file.size()? != size {
            return Ok(Some(Live::Moved));
        }
        if is_over {
            return Ok(None);
        }
        sleep(PAUSE);
    }
}
