//! Taking a checkpoint up again: is the last acknowledged record there, and if not, why not?
//!
//! Of a sealed record the number and the CRC decide, wherever it is by now: first its old place is looked at, then its number is searched. Of a
//! plain record its old place is looked at, in a file with the same fingerprint, and the CRC of the line there decides. A place inside a line is
//! taken for that line, so that reading never starts in the middle of a record; and it goes on at the end that the line has, so that no record is
//! skipped. Where no line proves the position, reading starts at the first record that is kept: rather twice than never.

use std::path::PathBuf;

use super::{Checkpoint, identity};
use crate::{
    error::{ErrorKind, Result},
    fingerprint::Fingerprint,
    position::Mark,
    reader::start::{Proof, Search},
    scan,
    segment::{Segment, Segments},
};

/// How a checkpoint was taken up again.
///
/// But for the first three, the consumer may get records again that it has had.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The last acknowledged record is there, and reading goes on behind it.
    Resumed,
    /// Nothing was acknowledged before: reading starts with the first record that is kept.
    New,
    /// As `Resumed`, in a file that had another path.
    Renamed {
        /// The path that it had.
        from: PathBuf,
    },
    /// The journal ends before the checkpoint: a power cut took records that had not been synced, or the file was truncated. Reading starts with the
    /// first record that is kept.
    Shorter,
    /// Where the record should be is another one. Reading starts with the first record that is kept.
    ProofFailed,
    /// The checkpoint was damaged, and the generation before it was used; how that went is told by a second outcome.
    PreviousUsed,
    /// The checkpoint was damaged, and there was no generation before it. Reading starts with the first record that is kept.
    Damaged,
    /// The record is no longer kept. Reading starts with the first record that is kept.
    Pruned {
        /// Records behind the checkpoint that are not kept either: 0 if reading goes on without a gap; `None` in plain form.
        missing: Option<u64>,
    },
}

impl Restored {
    /// Whether the position was proved: no record is given again, and none is left out.
    pub fn is_proved(&self) -> bool {
        matches!(self, Restored::Resumed | Restored::New | Restored::Renamed { .. })
    }
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Restored::Resumed => f.write_str("resumed"),
            Restored::New => f.write_str("new"),
            Restored::Renamed { from } => write!(f, "resumed, renamed from `{}`", from.display()),
            Restored::Shorter => f.write_str("the journal ends before the checkpoint; reading from its first record"),
            Restored::ProofFailed => f.write_str("the checkpoint's record is not there; reading from the first record"),
            Restored::PreviousUsed => f.write_str("the checkpoint is damaged; its previous generation is used"),
            Restored::Damaged => f.write_str("the checkpoint is damaged, and so is its previous generation; reading from the first record"),
            Restored::Pruned { missing: Some(0) } => f.write_str("the checkpoint's record is no longer kept; reading on without a gap"),
            Restored::Pruned { missing: Some(missing) } => {
                write!(f, "records are no longer kept, {} of them not yet consumed; reading from the first record", crate::words::grouped(*missing))
            }
            Restored::Pruned { missing: None } => f.write_str("the checkpoint's record is no longer kept; reading from the first record"),
        }
    }
}

/// Where a consumer goes on.
#[derive(Debug)]
pub(crate) struct Restoration {
    pub(crate) segment: Segment,
    /// In the segment's file; a boundary, or the end of a record that lacks its LF.
    pub(crate) offset: u64,
    pub(crate) restored: Restored,
}

/// Finds where to go on in one journal.
///
/// # Errors
///
/// If the system fails. What the checkpoint says is never an error.
pub(crate) fn restore(segments: &Segments, checkpoint: &Checkpoint, line_bytes_max: u64) -> Result<Restoration> {
    let restored = match find(segments, checkpoint, line_bytes_max)? {
        Found::Proved(segment, offset) => {
            let restored = renamed(segments, checkpoint)?.map_or(Restored::Resumed, |from| Restored::Renamed { from });
            return Ok(Restoration { segment, offset, restored });
        }
        Found::Not(why) => why,
    };
    let segment = segments.oldest()?;
    Ok(Restoration { offset: segment.start, segment, restored })
}

/// Whether the checkpoint's record is in the journal.
pub(super) fn is_proved(segments: &Segments, checkpoint: &Checkpoint, line_bytes_max: u64) -> Result<bool> {
    Ok(matches!(find(segments, checkpoint, line_bytes_max)?, Found::Proved(..)))
}

/// Where reading goes on behind the checkpoint's record, or why that is not known.
enum Found {
    Proved(Segment, u64),
    Not(Restored),
}

fn find(segments: &Segments, checkpoint: &Checkpoint, line_bytes_max: u64) -> Result<Found> {
    let search = Search { segments, line_bytes_max };
    match checkpoint.mark {
        None => Ok(Found::Not(Restored::New)),
        Some(mark @ Mark { seq: Some(seq), .. }) => sealed(&search, seq, &mark),
        Some(mark) => plain(&search, checkpoint, &mark),
    }
}

fn sealed(search: &Search<'_>, seq: u64, mark: &Mark) -> Result<Found> {
    // The old place is only a hint, so that it cannot be looked at is no matter.
    if let Ok((segment, offset)) = search.position(mark.start)
        && let Some(end) = line_end(search, &segment, offset, mark)?
    {
        return Ok(Found::Proved(segment, end));
    }
    let (segment, offset) = search.first_from(seq)?;
    match search.line_at(&segment, offset)? {
        Some((end, proof)) if proof == Proof::of(mark) => return Ok(Found::Proved(segment, end)),
        // The same number in another line.
        Some((_, proof)) if proof.seq == Some(seq) => return Ok(Found::Not(Restored::ProofFailed)),
        _ => {}
    }
    Ok(Found::Not(match first_number(search.segments, search.line_bytes_max)? {
        First::Number(first) if first > seq => Restored::Pruned { missing: Some(first - seq - 1) },
        // No line has this number or a higher one.
        First::Number(_) if offset >= segment.end => Restored::Shorter,
        First::NoLine => Restored::Shorter,
        First::Number(_) | First::NoNumber => Restored::ProofFailed,
    }))
}

/// The first number of a journal.
enum First {
    Number(u64),
    /// No line is sealed.
    NoNumber,
    /// No line is whole.
    NoLine,
}

fn first_number(segments: &Segments, line_bytes_max: u64) -> Result<First> {
    let mut has_line = false;
    for number in segments.numbers() {
        let segment = segments.get(number)?;
        let failed = |error| segment.failed(error);
        let lines = segment.stretch(line_bytes_max);
        if let Some(first) = lines.first_sealed(u64::MAX).map_err(failed)? {
            return Ok(First::Number(first.seal.seq));
        }
        has_line |= lines.tail().map_err(failed)?.0 > segment.start;
    }
    Ok(if has_line { First::NoNumber } else { First::NoLine })
}

fn plain(search: &Search<'_>, checkpoint: &Checkpoint, mark: &Mark) -> Result<Found> {
    let (segment, offset) = match search.resolve(mark.start) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::Pruned => return Ok(Found::Not(Restored::Pruned { missing: None })),
        Err(error) if error.kind() == ErrorKind::Changed => return Ok(Found::Not(Restored::Shorter)),
        Err(error) => return Err(error),
    };
    let failed = |error| segment.failed(error);
    let fingerprint = Fingerprint::of(&segment.file).map_err(failed)?;
    let is_same_file = checkpoint.fingerprint.is_none_or(|known| fingerprint == Some(known));
    // Inside a line, that line is meant.
    let start = scan::boundary_before(&segment.file, offset).map_err(failed)?.max(segment.start);
    if is_same_file && let Some(end) = line_end(search, &segment, start, mark)? {
        return Ok(Found::Proved(segment, end));
    }
    let end = mark.end.offset.saturating_sub(mark.start.offset).saturating_add(offset);
    let is_shorter = is_same_file && end > segment.end && search.segments.after(segment.number)?.is_none();
    Ok(Found::Not(if is_shorter { Restored::Shorter } else { Restored::ProofFailed }))
}

/// Where the line at a boundary ends, if it is the one of the mark.
fn line_end(search: &Search<'_>, segment: &Segment, offset: u64, mark: &Mark) -> Result<Option<u64>> {
    let line = search.line_at(segment, offset)?;
    Ok(line.filter(|(_, proof)| *proof == Proof::of(mark)).map(|(end, _)| end))
}

/// The path that the checkpoint's file had, if that does not name it any more.
fn renamed(segments: &Segments, checkpoint: &Checkpoint) -> Result<Option<PathBuf>> {
    let Some(old) = &checkpoint.path else { return Ok(None) };
    let now = identity::canonical(segments.disk(), segments.path());
    if *old == now {
        return Ok(None);
    }
    // The old path may be a second one of the same file.
    let named = |path: &std::path::Path| segments.disk().open_read(path).and_then(|file| file.id()).ok();
    let is_alias = named(&now).is_some_and(|id| named(old) == Some(id));
    Ok((!is_alias).then(|| old.clone()))
}
