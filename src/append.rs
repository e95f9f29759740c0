//! Appending whole lines to one file: in one write, or not at all.
//!
//! The caller holds the exclusive lock and has seen that the file ends on a boundary. A crash before the write leaves nothing; a crash inside it
//! leaves a torn tail or a prefix of whole lines; after it, the lines are there as far as they were synced.

use std::{borrow::Cow, io, ops::Range};

use crate::{
    format::LF,
    rollback::{self, Rest, Rollback, RolledBack},
    scan, seeded,
    sys::{File, uninterrupted},
};

/// Whole lines, each with its LF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) bytes: &'a [u8],
    /// Just past each unit: a line, or lines that stand or fall together.
    pub(crate) ends: &'a [usize],
}

impl Lines<'_> {
    /// How many units are whole within the first `len` bytes, and where the last of those ends.
    pub(crate) fn whole_within(&self, len: usize) -> (usize, usize) {
        let whole = self.ends.iter().take_while(|end| **end <= len).count();
        (whole, self.start_of(whole))
    }

    /// Where a unit starts.
    pub(crate) fn start_of(&self, unit: usize) -> usize {
        unit.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }
}

/// Lines that are in the file, whole and contiguous.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) start: u64,
    /// What lies damaged in front of them, because a stranger wrote into the middle of the first try.
    pub(crate) fragment: Option<Range<u64>>,
}

/// An append that did not succeed, after its rollback.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) cause: io::Error,
    pub(crate) rolled_back: RolledBack,
}

/// How often lines are written again behind a stranger that keeps writing into them.
const TRIES: usize = 8;

/// Appends the lines at `end`, where the file is expected to end.
///
/// A stranger may write right before ours, or between two pieces of a short write. Then an LF and the line go behind its bytes in one write, so
/// that only a contiguous line on a line of its own is ever acknowledged. Crash before that: one corrupt line, from which `repair` salvages
/// the stranger's record.
pub(crate) fn append(file: &File, lines: &Lines<'_>, end: u64, how: Rollback) -> Result<Landed, Failed> {
    let mut bytes = Cow::Borrowed(lines.bytes);
    let mut fenced = 0;
    let mut fragment: Option<Range<u64>> = None;
    let from = end;
    let mut end = end;
    for _ in 0..TRIES {
        match write(file, &bytes, end, fenced) {
            Ok(Written::Contiguous { start }) => return Ok(Landed { start: start + fenced as u64, fragment }),
            Ok(Written::Glued(ours)) if how == Rollback::Cut && is_last(file, &ours) && rollback::cut(file, ours.start).is_ok() => {
                // All of it was ours, and the last of the file. Crash here: as if it had not been written, and the stranger's fragment is a torn tail.
                end = ours.start;
            }
            Ok(Written::Glued(mixed) | Written::Mixed { range: mixed, .. })
                if lines.ends.len() == 1 && !rollback::is_among_blanks(file, lines.bytes, mixed.start).unwrap_or(true) =>
            {
                end = mixed.end;
                fragment = Some(fragment.map_or(mixed.start, |earlier| earlier.start)..mixed.end);
            }
            Ok(Written::Glued(mixed)) => return Err(mixed_up(file, mixed.start, 0)),
            Ok(Written::Mixed { range, first }) => {
                // Units that are whole already are not written again: nothing could tell the copies apart.
                let (whole, _) = lines.whole_within(first.saturating_sub(fenced));
                return Err(mixed_up(file, range.start + fenced as u64, whole));
            }
            Err(stopped) => {
                let mut rolled_back = roll_back(file, lines, &stopped, end, fenced, how);
                if rolled_back.whole == lines.ends.len() {
                    return Ok(Landed { start: rolled_back.start, fragment });
                }
                if fragment.is_some() && stopped.written < fenced {
                    // The LF that was to end what an earlier try left has not landed.
                    rolled_back = rolled_back.with_fence(rollback::end_line(file));
                }
                rolled_back = rolled_back.with_earlier(fragment.as_ref(), lines);
                let whole = rolled_back.whole;
                let missing = lines.bytes.get(lines.start_of(whole)..).unwrap_or_default();
                let is_read =
                    || -> io::Result<bool> { Ok(rollback::is_among_blanks(file, missing, from)? || rollback::ends_batch(file, lines, whole, from)?) };
                if rolled_back.rest != Rest::Unknown && is_read().unwrap_or(true) {
                    rolled_back.rest = Rest::Unknown;
                }
                return Err(Failed { cause: stopped.cause, rolled_back });
            }
        }
        if fenced == 0 {
            bytes.to_mut().insert(0, LF);
            fenced = 1;
        }
    }
    Err(mixed_up(file, fragment.map_or(end, |fragment| fragment.start), 0))
}

/// Gives up among a stranger's bytes.
fn mixed_up(file: &File, start: u64, whole: usize) -> Failed {
    let error = rollback::fence_end(file).err();
    let rolled_back = RolledBack { start, whole, rest: Rest::Unknown, unfenced: error.is_some(), error };
    let cause = io::Error::other("a process that does not take the lock wrote into the middle of this append");
    Failed { cause, rolled_back }
}

fn is_last(file: &File, range: &Range<u64>) -> bool {
    file.size().is_ok_and(|size| size == range.end)
}

/// Takes back what a try left, but not the fence before it: that one ends somebody else's bytes.
fn roll_back(file: &File, lines: &Lines<'_>, stopped: &Stopped, end: u64, fenced: usize, how: Rollback) -> RolledBack {
    let (start, written) = (stopped.start + fenced as u64, stopped.written.saturating_sub(fenced));
    // A boundary is what the caller has seen, and what a fence that landed has made.
    let seen = if fenced == 0 { stopped.start == end } else { stopped.written >= fenced };
    match if seen { Ok(true) } else { scan::is_boundary(file, start) } {
        Ok(true) => rollback::roll_back(file, lines, start, written, how),
        Ok(false) => rollback::roll_back_glued(file, lines, start, written, how),
        Err(error) => rollback::unreadable(file, lines, start, written, error),
    }
}

enum Written {
    Contiguous {
        start: u64,
    },
    /// All of it is contiguous in this range, but what stands before does not end in an LF.
    Glued(Range<u64>),
    /// The range that holds our bytes and a stranger's; of ours, the `first` so many are contiguous.
    Mixed {
        range: Range<u64>,
        first: usize,
    },
}

struct Stopped {
    cause: io::Error,
    /// Where the first byte landed, or was to land.
    start: u64,
    written: usize,
}

/// Writes all of `bytes`, in one call if the system takes them. What they land on must end in an LF, or they must begin with `fenced` LFs.
fn write(file: &File, bytes: &[u8], end: u64, fenced: usize) -> Result<Written, Stopped> {
    let mut start = end;
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let stopped = |cause| Stopped { cause, start, written };
        if written > 0 && seeded::bug("short-write-acknowledged") {
            break;
        }
        if written > 0 {
            let size = file.size().map_err(stopped)?;
            if size != start + written as u64 {
                return Ok(Written::Mixed { range: start..size, first: written });
            }
        }
        let taken = uninterrupted(|| file.write(rest)).map_err(stopped)?;
        if taken == 0 {
            return Err(stopped(io::ErrorKind::WriteZero.into()));
        }
        let past = file.position().map_err(|cause| Stopped { cause, start, written: written + taken })?;
        if written == 0 {
            start = past - (taken as u64).min(past);
        } else if past != start + (written + taken) as u64 {
            return Ok(Written::Mixed { range: start..past, first: written });
        }
        written += taken;
    }
    let landed_elsewhere = start != end && fenced == 0;
    if landed_elsewhere && !scan::is_boundary(file, start).map_err(|cause| Stopped { cause, start, written })? {
        return Ok(Written::Glued(start..start + written as u64));
    }
    Ok(Written::Contiguous { start })
}

#[cfg(all(test, feature = "sim"))]
mod tests;
