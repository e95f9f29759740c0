//! What if a write fails halfway: taking the writer's own bytes out again, and nothing else.
//!
//! The file itself is asked what landed. Only a strict prefix of our own bytes that ends where the file ends is cut; whatever else stands there
//! stays, with an LF behind it, so that no later record shares its line. All of this happens under the exclusive lock.
//!
//! A crash between a failed write and its rollback leaves a torn tail, which the next opener moves to quarantine. A crash after the cut leaves
//! the file as it was before the append; one after a fence, a corrupt line that readers report and pass over.

use std::{io, ops::Range};

use memchr::memmem;

use crate::{
    append::Lines,
    format::{LF, json},
    sys::File,
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

/// What is in the file of the units that are not whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// A piece that stays.
    Fragment(Range<u64>),
    /// The file could not be read.
    Unknown,
}

/// Settles an append that failed: `start` is where its first byte landed or was to land, `written` how many bytes the system said it took.
pub(crate) fn roll_back(file: &File, lines: &Lines<'_>, start: u64, written: usize, how: Rollback) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + 1];
    match file.read_full_at(&mut found, start) {
        Ok(len) => found.truncate(len),
        Err(error) => return unreadable(file, start, written, error),
    }
    if found.starts_with(lines.bytes) {
        return RolledBack { start, whole: lines.ends.len(), rest: Rest::Nothing, unfenced: false, error: None };
    }
    if lines.bytes.starts_with(&found) {
        return take_back(file, lines, start, &found, how);
    }
    leave(file, lines, start, written, &found)
}

/// What was found is a strict prefix of our own bytes, and the file ends right after it.
fn take_back(file: &File, lines: &Lines<'_>, start: u64, found: &[u8], how: Rollback) -> RolledBack {
    let all = RolledBack { start, whole: lines.ends.len(), rest: Rest::Nothing, unfenced: false, error: None };
    if found.len() + 1 == lines.bytes.len() && fence(file, found).is_ok() {
        return all;
    }
    let whole = lines.ends.iter().take_while(|end| **end <= found.len()).count();
    let keep = whole.checked_sub(1).and_then(|last| lines.ends.get(last)).copied().unwrap_or(0);
    let kept = RolledBack { start, whole, rest: Rest::Nothing, unfenced: false, error: None };
    if keep == found.len() {
        return kept;
    }
    let fragment = start + keep as u64..start + found.len() as u64;
    let error = match how {
        Rollback::Cut => match file.cut(fragment.start) {
            Ok(()) => return kept,
            Err(error) => Some(error),
        },
        Rollback::Fence => None,
    };
    let torn = found.iter().rposition(|byte| *byte == LF).map_or(found, |lf| found.get(lf + 1..).unwrap_or_default());
    match fence(file, torn) {
        Ok(()) if found.len() + 1 == lines.bytes.len() => all,
        Ok(()) => RolledBack { rest: Rest::Fragment(fragment), error, ..kept },
        Err(fencing) => RolledBack { rest: Rest::Fragment(fragment), unfenced: true, error: error.or(Some(fencing)), ..kept },
    }
}

/// Somebody else's bytes stand among or in front of ours: every byte stays.
fn leave(file: &File, lines: &Lines<'_>, start: u64, written: usize, found: &[u8]) -> RolledBack {
    let ours = found.iter().zip(lines.bytes).take_while(|(found, ours)| found == ours).count();
    if ours == 0 && written == 0 {
        return behind_others(file, lines, start);
    }
    let fragment = start..start + ours.max(written) as u64;
    let error = fence(file, b"").err();
    RolledBack { start, whole: 0, rest: Rest::Fragment(fragment), unfenced: error.is_some(), error }
}

/// The system took nothing and others appended meanwhile; but an error may be told after all was written, so ours is looked for behind theirs.
fn behind_others(file: &File, lines: &Lines<'_>, start: u64) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + LOOK_BEHIND_BYTES];
    let found = match file.read_full_at(&mut found, start) {
        Ok(len) => found.get(..len).unwrap_or_default(),
        Err(error) => return RolledBack { start, whole: 0, rest: Rest::Unknown, unfenced: false, error: Some(error) },
    };
    let at = memmem::find_iter(found, lines.bytes).find(|at| *at == 0 || found.get(at - 1) == Some(&LF));
    match at {
        Some(at) => RolledBack { start: start + at as u64, whole: lines.ends.len(), rest: Rest::Nothing, unfenced: false, error: None },
        None => RolledBack { start, whole: 0, rest: Rest::Nothing, unfenced: false, error: None },
    }
}

/// How far behind the place where a line was to land it is looked for.
const LOOK_BEHIND_BYTES: usize = 1 << 20;

/// The bytes cannot be read back. If some were taken, an LF behind them does no harm: at worst it is a blank line.
fn unreadable(file: &File, start: u64, written: usize, error: io::Error) -> RolledBack {
    let unfenced = written > 0 && fence(file, b"").is_err();
    RolledBack { start, whole: 0, rest: Rest::Unknown, unfenced, error: Some(error) }
}

/// Ends a fragment so that what follows starts on a fresh line. One that would be a record by itself, as `12` of `1234` is, gets a `#` before the
/// LF; so none ever becomes one.
pub(crate) fn fence(file: &File, fragment: &[u8]) -> io::Result<()> {
    let scalar = matches!(json::validate(fragment), Ok(valid) if matches!(valid.kind, json::Kind::Number | json::Kind::Literal));
    let mut fence: &[u8] = if scalar { b"#\n" } else { b"\n" };
    while !fence.is_empty() {
        match file.write(fence) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => fence = fence.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
