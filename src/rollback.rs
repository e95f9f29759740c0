//! What if a write fails halfway: taking the writer's own bytes out again, and nothing else.
//!
//! The file itself is asked what landed. Only a strict prefix of our own bytes that ends where the file ends is cut, and only if the system said
//! that it took all of it: what looks like ours beyond that may be somebody else's. Whatever else stands there stays, with an LF behind it, so that
//! no later record shares its line. All of this happens under the exclusive lock.
//!
//! A crash between a failed write and its rollback leaves a torn tail, which the next opener moves to quarantine. A crash after the cut leaves
//! the file as it was before the append; one after a fence, a corrupt line that readers report and pass over.

use std::{collections::HashSet, io, ops::Range};

use crate::{
    append::Lines,
    format::{LF, json, line::Framed, verdict::Judged},
    scan, seeded,
    sys::{File, uninterrupted},
};

/// What to do with a piece of a failed append that is in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollback {
    /// Cut it off. Exact among writers that take the lock; a stranger that appends between the last look and the cut loses what it wrote. Where a
    /// stranger's bytes stand behind it already, or the cut fails, it stays as with `Fence`.
    #[default]
    Cut,
    /// Never cut: end it with an LF. It stays as a corrupt line, which readers report and `untorn repair` moves to quarantine.
    ///
    /// A batch that lands behind a stranger's half line is written again as a whole. Only its first line is corrupt then where it landed first: the
    /// records behind that are read twice, with the same numbers.
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
    /// The file's last line, in which a piece stays, was ended, or was not.
    pub(crate) fn with_fence(self, fenced: io::Result<()>) -> RolledBack {
        RolledBack { unfenced: fenced.is_err(), error: self.error.or(fenced.err()), ..self }
    }

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
        // A stranger's torn bytes may go on as ours do.
        let how = if found.len() > written { Rollback::Fence } else { how };
        return take_back(file, lines, start, &found, how);
    }
    leave(file, lines, start, Place::Boundary, written)
}

/// What was found is a strict prefix of our own bytes, and the file ends right after it.
fn take_back(file: &File, lines: &Lines<'_>, start: u64, found: &[u8], how: Rollback) -> RolledBack {
    let (whole, keep) = if seeded::bug("group-cut-as-one") { (0, 0) } else { lines.whole_within(found.len()) };
    let kept = RolledBack { start, whole, rest: Rest::Nothing, unfenced: false, error: None };
    if keep == found.len() {
        return kept;
    }
    let fragment = start + keep as u64..start + found.len() as u64;
    // A unit that lacks only its LF is whole with it, and an LF that fences it off would make it so unsaid.
    if let Some(ours) = lines.bytes.get(..=found.len()).filter(|ours| lines.ends.contains(&ours.len())) {
        return complete(file, ours, kept, fragment, how);
    }
    let uncut = match how {
        Rollback::Cut => match cut(file, fragment.start) {
            Ok(()) => return kept,
            Err(error) => Some(error),
        },
        Rollback::Fence => None,
    };
    let fenced = fence(file, is_scalar(last_line(found)));
    let unfenced = fenced.is_err() && !seeded::bug("not-poisoned");
    RolledBack { rest: Rest::Fragment(fragment), unfenced, error: uncut.or(fenced.err()), ..kept }
}

/// The last byte of `ours` is an LF, and all that is missing of one more unit than is `kept`: writes it, and only if that fails takes the unit back.
fn complete(file: &File, ours: &[u8], kept: RolledBack, fragment: Range<u64>, how: Rollback) -> RolledBack {
    let (start, end) = (kept.start, kept.start + ours.len() as u64);
    let completed = RolledBack { start, whole: kept.whole + 1, rest: Rest::Nothing, unfenced: false, error: None };
    // An error may be told of an LF that is there after all, and then a follower may have seen the line; and a stranger may write before the LF
    // does. So the file is asked, unless the LF is known to stand in its place.
    let written = fence(file, false);
    if (written.is_ok() && file.position().is_ok_and(|past| past == end)) || is_there(file, ours, start).unwrap_or(false) {
        return completed;
    }
    let uncut = match how {
        // What stands behind our bytes since they were looked at stays.
        Rollback::Cut if file.size().is_ok_and(|size| size == fragment.end) => match cut(file, fragment.start) {
            Ok(()) => return kept,
            Err(error) => Some(error),
        },
        _ => None,
    };
    let fenced = fence(file, false);
    // This LF, too, may be there whatever was told of it.
    let (rest, unread) = match is_there(file, ours, start) {
        Ok(true) => return completed,
        // Whoever opens the file next may give it the LF that is all that is missing, and with it the record is there.
        Ok(false) if fenced.is_err() && !file.size().is_ok_and(|size| size > fragment.end) => (Rest::Unknown, None),
        Ok(false) => (Rest::Fragment(fragment), None),
        Err(unread) => (Rest::Unknown, Some(unread)),
    };
    let unfenced = fenced.is_err() && !seeded::bug("not-poisoned");
    RolledBack { rest, unfenced, error: uncut.or(fenced.err()).or(unread), ..kept }
}

fn is_there(file: &File, ours: &[u8], start: u64) -> io::Result<bool> {
    let mut found = vec![0; ours.len()];
    let len = file.read_full_at(&mut found, start)?;
    Ok(found.get(..len) == Some(ours))
}

/// Cuts the file at `end`. An error may be told of a cut that was made, so the file is asked.
pub(crate) fn cut(file: &File, end: u64) -> io::Result<()> {
    file.cut(end).or_else(|error| if file.size().is_ok_and(|size| size == end) { Ok(()) } else { Err(error) })
}

/// Whether a line begins where our bytes landed or were to land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Boundary,
    /// Inside a stranger's line.
    Glued,
}

/// Somebody else's bytes stand among or in front of ours: every byte stays.
///
/// An error may be told after bytes were taken, so the lines are looked for behind the place where they were to land, too.
fn leave(file: &File, lines: &Lines<'_>, start: u64, place: Place, written: usize) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + LOOK_BEHIND_BYTES];
    let found = match file.read_full_at(&mut found, start) {
        Ok(len) => found.get(..len).unwrap_or_default(),
        Err(error) => return unreadable(file, lines, start, written, error),
    };
    let is_all = found.len() < lines.bytes.len() + LOOK_BEHIND_BYTES;
    let (at, ours) = longest::piece(found, lines.bytes, place == Place::Boundary);
    let (whole, keep) = lines.whole_within(ours);
    let left = RolledBack { start: start + at as u64, whole, rest: Rest::Nothing, unfenced: false, error: None };
    let others = [found.get(..at).unwrap_or_default(), found.get(at + keep..).unwrap_or_default()];
    let others_are_whole = || others.iter().all(|others| others.split_inclusive(|byte| *byte == LF).all(is_whole));
    // A line that equals one of ours, as the first of a batch, is no other's.
    let none_is_ours = !lines.bytes.get(keep..ours).is_some_and(|piece| piece.contains(&LF));
    if whole == lines.ends.len() || (is_all && written <= keep && none_is_ours && others_are_whole()) {
        return left;
    }
    if is_all && ours >= written && at + ours == found.len() {
        // If the system said that it took nothing, what looks like a piece of ours may be somebody else's: it is not cut.
        return take_back(file, lines, left.start, found.get(at..).unwrap_or_default(), Rollback::Fence);
    }
    let error = if is_all { fence(file, is_scalar(last_line(found))) } else { fence_end(file) }.err();
    let is_found = ours > keep && ours >= written;
    // Of several units, a later one may be whole behind a first one that is spoilt; the next look at the file tells, not this one.
    let rest = match lines.ends.len() - whole {
        1 if is_found && (is_all || written > 0) => Rest::Fragment(left.start + keep as u64..left.start + ours as u64),
        1 if is_all => Rest::Fragment(hiding_place(found, if keep == 0 { 0 } else { at + keep }, start)),
        _ => Rest::Unknown,
    };
    RolledBack { rest, unfenced: error.is_some(), error, ..left }
}

/// A piece that was not found may hide in a line of somebody else's: from the first one on that is not whole, behind what is ours.
fn hiding_place(found: &[u8], behind: usize, start: u64) -> Range<u64> {
    let lines = found.get(behind..).unwrap_or_default().split_inclusive(|byte| *byte == LF);
    let whole: usize = lines.take_while(|line| is_whole(line)).map(<[u8]>::len).sum();
    let from = if behind + whole < found.len() { behind + whole } else { behind };
    start + from as u64..start + found.len() as u64
}

/// How far behind the place where a line was to land it is looked for.
const LOOK_BEHIND_BYTES: usize = 1 << 20;

/// How many bytes both begin with.
fn common(found: &[u8], ours: &[u8]) -> usize {
    found.iter().zip(ours).take_while(|(found, ours)| found == ours).count()
}

/// A terminated line that is somebody's record, or blank.
fn is_whole(line: &[u8]) -> bool {
    let judged = line.strip_suffix(b"\n").map(|text| Judged::of(&Framed::new(text, false)));
    matches!(judged, Some(Judged::Sealed(_) | Judged::Plain(_) | Judged::Blank))
}

/// Whether one of these lines of ours stands behind `from`, or around it, with a stranger's white space or byte order mark on the same line.
///
/// Readers give it out, so it is not to be written again, though the line is not ours alone.
pub(crate) fn is_among_blanks(file: &File, ours: &[u8], from: u64) -> io::Result<bool> {
    let start = scan::boundary_before(file, from)?;
    let mut found = vec![0; ours.len() + LOOK_BEHIND_BYTES];
    let len = file.read_full_at(&mut found, start)?;
    let texts = found.get(..len).unwrap_or_default().split(|byte| *byte == LF).enumerate();
    let among_blanks = texts.filter_map(|(nth, text)| {
        let framed = Framed::new(text, start == 0 && nth == 0);
        let is_read = framed.payload() != text && matches!(Judged::of(&framed), Judged::Sealed(_) | Judged::Plain(_));
        is_read.then(|| framed.payload())
    });
    let among_blanks: HashSet<&[u8]> = among_blanks.collect();
    Ok(ours.split(|byte| *byte == LF).any(|line| !line.is_empty() && among_blanks.contains(line)))
}

/// Whether the last line of a batch stands behind `from`, of the units from `whole` on: readers give it out, though the first one is spoilt.
pub(crate) fn ends_batch(file: &File, lines: &Lines<'_>, whole: usize, from: u64) -> io::Result<bool> {
    let last_of_batch = |unit: usize| {
        let text = lines.bytes.get(lines.start_of(unit)..*lines.ends.get(unit)?)?.strip_suffix(b"\n")?;
        text.contains(&LF).then(|| last_line(text))
    };
    let ours: HashSet<&[u8]> = (whole..lines.ends.len()).filter_map(last_of_batch).collect();
    let mut found = vec![0; if ours.is_empty() { 0 } else { 2 * lines.bytes.len() + LOOK_BEHIND_BYTES }];
    let len = file.read_full_at(&mut found, from)?;
    Ok(found.get(..len).unwrap_or_default().split(|byte| *byte == LF).any(|text| ours.contains(text)))
}

/// The bytes cannot be read back. If some were taken, what ends them does no harm: at worst it is a blank line.
///
/// More of them may be there than was told. So where the file may end inside a number, that is spoilt, even if it lacks only its LF.
pub(crate) fn unreadable(file: &File, lines: &Lines<'_>, start: u64, written: usize, error: io::Error) -> RolledBack {
    let begun = written - last_line(lines.bytes.get(..written).unwrap_or_default()).len();
    let unfinished = if written < lines.bytes.len() { lines.bytes.get(begun..).unwrap_or_default() } else { &[] };
    let may_end_in_number = unfinished.split(|byte| *byte == LF).any(|line| matches!(line.first(), Some(b'-' | b'0'..=b'9')));
    let unfenced = written > 0 && fence(file, may_end_in_number).is_err();
    RolledBack { start, whole: 0, rest: Rest::Unknown, unfenced, error: Some(error) }
}

/// Settles an append whose first line is glued: a stranger's fragment, not a boundary, stands before `start`. Nothing there counts as whole.
pub(crate) fn roll_back_glued(file: &File, lines: &Lines<'_>, start: u64, written: usize, how: Rollback) -> RolledBack {
    let mut found = vec![0; lines.bytes.len() + 1];
    match file.read_full_at(&mut found, start) {
        Ok(len) => found.truncate(len),
        Err(error) => return unreadable(file, lines, start, written, error),
    }
    let nothing = RolledBack { start, whole: 0, rest: Rest::Nothing, unfenced: false, error: None };
    if found.is_empty() {
        return nothing;
    }
    if written == 0 {
        return leave(file, lines, start, Place::Glued, written);
    }
    let uncut = match how {
        Rollback::Cut if found.len() <= written && lines.bytes.starts_with(&found) => match cut(file, start) {
            Ok(()) => return nothing,
            Err(error) => Some(error),
        },
        _ => None,
    };
    // The first of our lines is glued, and no LF may make a record of it or of what stands of a later one: half a batch would be given out.
    let fencing = fence(file, found.contains(&LF) || is_scalar(last_line(&found))).err();
    let rest = match lines.ends.len() {
        1 => Rest::Fragment(start..start + common(&found, lines.bytes).max(written) as u64),
        _ => Rest::Unknown,
    };
    RolledBack { rest, unfenced: fencing.is_some(), error: uncut.or(fencing), ..nothing }
}

/// The bytes after the last LF.
fn last_line(bytes: &[u8]) -> &[u8] {
    bytes.iter().rposition(|byte| *byte == LF).map_or(bytes, |lf| bytes.get(lf + 1..).unwrap_or_default())
}

/// A fragment that would be a record by itself, as `12` of `1234` is.
fn is_scalar(fragment: &[u8]) -> bool {
    matches!(json::validate(fragment), Ok(valid) if matches!(valid.kind, json::Kind::Number | json::Kind::Literal))
}

/// Ends the file's last line, if it is not ended.
pub(crate) fn end_line(file: &File) -> io::Result<()> {
    let size = file.size()?;
    if scan::is_boundary(file, size)? { Ok(()) } else { fence_end(file) }
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

mod longest;
#[cfg(all(test, feature = "sim"))]
mod tests;
