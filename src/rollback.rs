//! What if a write fails halfway: taking the writer's own bytes out again, and nothing else.
//!
//! The file itself is asked what landed. Only a strict prefix of our own bytes that ends where the file ends is cut; whatever else stands there
//! stays, with an LF behind it, so that no later record shares its line. All of this happens under the exclusive lock.
//!
//! A crash between a failed write and its rollback leaves a torn tail, which the next opener moves to quarantine. A crash after the cut leaves
//! the file as it was before the append; one after a fence, a corrupt line that readers report and pass over.

use std::{io, ops::Range};

use crate::{
    append::Lines,
    format::{LF, json, line::Framed, verdict::Judged},
    seeded,
    sys::{File, uninterrupted},
};

/// What to do with a piece of a failed append that is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollback {
    /// Cut it off. Exact among writers that take the lock; a stranger that appends between the last look and the cut loses what it wrote.
    #[default]
    Cut,
    /// Never cut: end it with an LF. It stays as a corrupt line, which readers report and `untorn repair` moves to quarantine.
    Fence,
}

/// How a failed append ended.
#[derive(Debug)]
pub(crate) struct RolledBack {
    /// Where the first unit that is whole in the file starts.
    pub(crate) start: u64,
    /// How many of the units are whole in the file, from the first on.
    pub(crate) whole: usize,
    pub(crate) rest: Rest,
    /// A piece that stays, or may stay, has no LF behind it: nothing may be appended before someone looked.
    pub(crate) unfenced: bool,
    /// What went wrong while taking the bytes out.
    pub(crate) error: Option<io::Error>,
}

impl RolledBack {
    /// An earlier try left a range of ours among a stranger's bytes: what is told includes it.
    pub(crate) fn with_earlier(self, fragment: Option<&Range<u64>>, lines: &Lines<'_>) -> RolledBack {
        match (fragment, &self.rest) {
            (Some(fragment), Rest::Nothing) if lines.ends.len() - self.whole == 1 => RolledBack { rest: Rest::Fragment(fragment.clone()), ..self },
            (Some(_), Rest::Nothing) => RolledBack { rest: Rest::Unknown, ..self },
            _ => self,
        }
    }
}

/// What is in the file of the units that are not whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// A piece that stays.
    Fragment(Range<u64>),
    /// It could not be found out.
    Unknown,
}

/// Settles an append that failed: `start` is where its first byte landed or was to land, `written` how many bytes the system said it took.
pub(crate) fn roll_back(file: &File, lines: &Lines<'_>, start: u64, written: usize, how: Rollback) -> RolledBack {
    if seeded::bug("cut-without-looking") {
        let error = file.cut(start).err();
        return RolledBack { start, whole: 0, rest: Rest::Nothing, unfenced: error.is_some(), error };
    }
    let mut found = vec![0; lines.bytes.len() + 1];
    match file.read_full_at(&mut found, start) {
        Ok(len) => found.truncate(len),
        Err(error) => return unreadable(file, lines, start, written, error),
    }
    if found.starts_with(lines.bytes) {
        return RolledBack { start, whole: lines.ends.len(), rest: Rest::Nothing, unfenced: false, error: None };
    }
    if lines.bytes.starts_with(&found) {
        return take_back(file, lines, start, &found, how);
    }
    leave(file, lines, start, written)
}

/// What was found is a strict prefix of our own bytes, and the file ends right after it.
fn take_back(file: &File, lines: &Lines<'_>, start: u64, found: &[u8], how: Rollback) -> RolledBack {
    let (whole, keep) = if seeded::bug("group-cut-as-one") { (0, 0) } else { lines.whole_within(found.len()) };
    let standing = |whole| RolledBack { start, whole, rest: Rest::Nothing, unfenced: false, error: None };
    let kept = standing(whole);
    if keep == found.len() {
        return kept;
    }
    // A unit that lacks only its LF is whole with it, and an LF that fences it off would make it so unsaid.
    let with_lf = lines.bytes.get(..=found.len()).filter(|_| lines.ends.contains(&(found.len() + 1)));
    if with_lf.is_some_and(|ours| complete(file, ours, start)) {
        return standing(whole + 1);
    }
    let fragment = start + keep as u64..start + found.len() as u64;
    let error = match how {
        // What stands behind our bytes since they were looked at stays.
        _ if with_lf.is_some() && !file.size().is_ok_and(|size| size == fragment.end) => None,
        Rollback::Cut => match file.cut(fragment.start) {
            Ok(()) => return kept,
            Err(error) => Some(error),
        },
        Rollback::Fence => None,
    };
    let fenced = fence(file, with_lf.is_none() && is_scalar(last_line(found)));
    // This LF, too, may be there whatever was told of it.
    let (rest, unread) = match with_lf.map_or(Ok(false), |ours| is_there(file, ours, start)) {
        Ok(true) => return standing(whole + 1),
        // Whoever opens the file next may give it the LF that is all that is missing, and with it the record is there.
        Ok(false) if with_lf.is_some() && fenced.is_err() && !file.size().is_ok_and(|size| size > fragment.end) => (Rest::Unknown, None),
        Ok(false) => (Rest::Fragment(fragment), None),
        Err(unread) => (Rest::Unknown, Some(unread)),
    };
    let unfenced = fenced.is_err() && !seeded::bug("not-poisoned");
    RolledBack { rest, unfenced, error: error.or(fenced.err()).or(unread), ..kept }
}

/// Writes the LF that is all that is missing; `false` if the lines are not whole for it, as when a stranger wrote before the LF did.
fn complete(file: &File, ours: &[u8], start: u64) -> bool {
    // An error may be told of an LF that is there after all, and then a follower may have seen the line: the file is asked in any case.
    let written = fence(file, false);
    (written.is_ok() && file.position().is_ok_and(|end| end == start + ours.len() as u64)) || is_there(file, ours, start).unwrap_or(false)
}

fn is_there(file: &File, ours: &[u8], start: u64) -> io::Result<bool> {
    let mut found = vec![0; ours.len()];
    let len = file.read_full_at(&mut found, start)?;
    Ok(found.get(..len) == Some(ours))
}

/// Somebody else's bytes stand among or in front of ours: every byte stays.
///
/// An error may be told after bytes were taken, so the lines are looked for behind the place where they were to land, too.
fn leave(file: &File, lines: &Lines<'_>, start: u64, written: usize) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + LOOK_BEHIND_BYTES];
    let found = match file.read_full_at(&mut found, start) {
        Ok(len) => found.get(..len).unwrap_or_default(),
        Err(error) => return unreadable(file, lines, start, written, error),
    };
    // The place where most of ours stands: where it was to land, or behind a line of somebody else's.
    let boundaries = found.iter().enumerate().filter(|(_, byte)| **byte == LF).map(|(lf, _)| lf + 1);
    let pieces = std::iter::once(0).chain(boundaries).map(|at| (at, common(found.get(at..).unwrap_or_default(), lines.bytes)));
    let (at, ours) = pieces.max_by_key(|(at, ours)| (*ours, std::cmp::Reverse(*at))).unwrap_or_default();
    let (whole, keep) = lines.whole_within(ours);
    let left = RolledBack { start: start + at as u64, whole, rest: Rest::Nothing, unfenced: false, error: None };
    let others = [found.get(..at).unwrap_or_default(), found.get(at + keep..).unwrap_or_default()];
    let others_are_whole = others.iter().all(|others| others.split_inclusive(|byte| *byte == LF).all(is_whole));
    // A line that equals one of ours, as the first of a batch, is no other's.
    let none_is_ours = !lines.bytes.get(keep..ours).is_some_and(|piece| piece.contains(&LF));
    if whole == lines.ends.len() || (written <= keep && none_is_ours && others_are_whole) {
        return left;
    }
    if at + ours == found.len() {
        // If the system said that it took nothing, what looks like a piece of ours may be somebody else's: it is not cut.
        return take_back(file, lines, left.start, found.get(at..).unwrap_or_default(), Rollback::Fence);
    }
    let error = fence(file, is_scalar(last_line(found))).err();
    // Of several units, a later one may be whole behind a first one that is spoilt; the next look at the file tells, not this one.
    let rest = match lines.ends.len() - whole {
        1 => Rest::Fragment(left.start + keep as u64..left.start + ours.max(written) as u64),
        _ => Rest::Unknown,
    };
    RolledBack { rest, unfenced: error.is_some(), error, ..left }
}

/// How many bytes both begin with.
fn common(found: &[u8], ours: &[u8]) -> usize {
    found.iter().zip(ours).take_while(|(found, ours)| found == ours).count()
}

/// How far behind the place where a line was to land it is looked for.
const LOOK_BEHIND_BYTES: usize = 1 << 20;

/// A terminated line that is somebody's record, or blank.
fn is_whole(line: &[u8]) -> bool {
    let judged = line.strip_suffix(b"\n").map(|text| Judged::of(&Framed::new(text, false)));
    matches!(judged, Some(Judged::Sealed(_) | Judged::Plain(_) | Judged::Blank))
}

/// The bytes cannot be read back. If some were taken, what ends them does no harm: at worst it is a blank line.
fn unreadable(file: &File, lines: &Lines<'_>, start: u64, written: usize, error: io::Error) -> RolledBack {
    let fragment = last_line(lines.bytes.get(..written).unwrap_or_default());
    let unfenced = written > 0 && fence(file, is_scalar(fragment)).is_err();
    RolledBack { start, whole: 0, rest: Rest::Unknown, unfenced, error: Some(error) }
}

/// Settles an append whose bytes stand behind a stranger's fragment: nothing counts as whole, since the first line is glued.
pub(crate) fn roll_back_glued(file: &File, lines: &Lines<'_>, start: u64, written: usize, how: Rollback) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + 1];
    match file.read_full_at(&mut found, start) {
        Ok(len) => found.truncate(len),
        Err(error) => return unreadable(file, lines, start, written, error),
    }
    let error = match how {
        Rollback::Cut if lines.bytes.starts_with(&found) => match file.cut(start) {
            Ok(()) => return RolledBack { start, whole: 0, rest: Rest::Nothing, unfenced: false, error: None },
            Err(error) => Some(error),
        },
        _ => None,
    };
    // The first of our lines is glued and no record, but a piece of a later one could become one.
    let fencing = fence(file, found.contains(&LF) && is_scalar(last_line(&found))).err();
    let rest = match lines.ends.len() {
        1 => Rest::Fragment(start..start + common(&found, lines.bytes).max(written) as u64),
        _ => Rest::Unknown,
    };
    RolledBack { start, whole: 0, rest, unfenced: fencing.is_some(), error: error.or(fencing) }
}

/// The bytes after the last LF.
fn last_line(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|byte| *byte == LF).map_or(bytes, |lf| bytes.get(lf + 1..).unwrap_or_default())
}

/// A fragment that would be a record by itself, as `12` of `1234` is.
fn is_scalar(fragment: &[u8]) -> bool {
    matches!(json::validate(fragment), Ok(valid) if matches!(valid.kind, json::Kind::Number | json::Kind::Literal))
}

/// Ends whatever the file ends in.
pub(crate) fn fence_end(file: &File) -> io::Result<()> {
    let size = file.size()?;
    let from = size.saturating_sub(SCALAR_BYTES_MAX);
    let mut end = vec![0; usize::try_from(size - from).unwrap_or_default()];
    let read = file.read_full_at(&mut end, from)?;
    fence(file, is_scalar(last_line(end.get(..read).unwrap_or_default())))
}

/// No number that anybody means is longer.
const SCALAR_BYTES_MAX: u64 = 4 << 10;

/// Ends a fragment with an LF, so that what follows starts on a fresh line. `spoil`: with a `#` before the LF, so that it never becomes a record.
pub(crate) fn fence(file: &File, spoil: bool) -> io::Result<()> {
    let mut fence: &[u8] = if spoil { b"#\n" } else { b"\n" };
    while !fence.is_empty() {
        match uninterrupted(|| file.write(fence))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => fence = fence.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "sim"))]
mod tests;
