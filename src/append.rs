//! Appending whole lines to one file: in one write, or not at all.
//!
//! The caller holds the exclusive lock and has seen that the file ends on a boundary. A crash before the write leaves nothing; a crash inside it
//! leaves a torn tail or a prefix of whole lines; after it, the lines are there as far as they were synced.

use std::{borrow::Cow, io, ops::Range};

use crate::{
    format::LF,
    rollback::{self, Rest, Rollback, RolledBack},
    scan,
    sys::File,
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
        (whole, whole.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0))
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
    pub(crate) fragment: Option<Range<u64>>,
}

/// How often lines are written again behind a stranger that keeps writing into them.
const TRIES: usize = 8;

/// Appends the lines at `end`, where the file is expected to end.
pub(crate) fn append(file: &File, lines: &Lines<'_>, end: u64, how: Rollback) -> Result<Landed, Failed> {
    let mut bytes = Cow::Borrowed(lines.bytes);
    let mut fenced = 0;
    let mut fragment: Option<Range<u64>> = None;
    let mut end = end;
    for _ in 0..TRIES {
        match write(file, &bytes, end, fenced) {
            Ok(Written::Contiguous { start }) => return Ok(Landed { start: start + fenced as u64, fragment }),
            Ok(Written::Mixed(mixed)) => {
                // A stranger's bytes lie among or right before ours. Crash here: one corrupt line, from which `repair` salvages the stranger's
                // record. An LF and the whole lines go behind it in one write, so only a contiguous line is ever acknowledged.
                end = mixed.end;
                fragment = Some(fragment.map_or(mixed.start, |earlier| earlier.start)..mixed.end);
                bytes.to_mut();
                if fenced == 0 {
                    bytes.to_mut().insert(0, LF);
                    fenced = 1;
                }
            }
            Err(Stopped { cause, start, written }) => {
                let rolled_back = roll_back(file, lines, start, written, fenced, how);
                if rolled_back.whole == lines.ends.len() {
                    return Ok(Landed { start: rolled_back.start, fragment });
                }
                return Err(Failed { cause, rolled_back, fragment });
            }
        }
    }
    let start = fragment.clone().map_or(end, |fragment| fragment.start);
    let error = rollback::fence(file, b"").err();
    let rolled_back = RolledBack { start, whole: 0, rest: Rest::Fragment(start..end), unfenced: error.is_some(), error };
    let cause = io::Error::other("another process keeps writing into the middle of this append without taking the lock");
    Err(Failed { cause, rolled_back, fragment })
}

/// Takes back what a try left, but not the fence before it: that one ends somebody else's bytes.
fn roll_back(file: &File, lines: &Lines<'_>, start: u64, written: usize, fenced: usize, how: Rollback) -> RolledBack {
    if fenced > 0 && written == 0 {
        let error = rollback::fence(file, b"").err();
        return RolledBack { start, whole: 0, rest: Rest::Nothing, unfenced: error.is_some(), error };
    }
    rollback::roll_back(file, lines, start + fenced as u64, written.saturating_sub(fenced), how)
}

enum Written {
    Contiguous {
        start: u64,
    },
    /// The range that holds our bytes and a stranger's.
    Mixed(Range<u64>),
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
        if written > 0 {
            let size = file.size().map_err(stopped)?;
            if size != start + written as u64 {
                return Ok(Written::Mixed(start..size));
            }
        }
        match file.write(rest) {
            Ok(0) => return Err(stopped(io::ErrorKind::WriteZero.into())),
            Ok(taken) => {
                let past = match file.position() {
                    Ok(past) => past,
                    Err(cause) => return Err(Stopped { cause, start, written: written + taken }),
                };
                if written == 0 {
                    start = past - (taken as u64).min(past);
                }
                written += taken;
                if past != start + written as u64 {
                    return Ok(Written::Mixed(start..past));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(stopped(cause)),
        }
    }
    let landed_elsewhere = start != end && fenced == 0;
    if landed_elsewhere && !scan::is_boundary(file, start).map_err(|cause| Stopped { cause, start, written })? {
        return Ok(Written::Mixed(start..start + written as u64));
    }
    Ok(Written::Contiguous { start })
}
