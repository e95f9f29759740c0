//! Archive: the records before a bound leave the active segment and become an archived one.
//!
//! Whole segments stay what they are, so only a bound inside the active segment costs anything: the bytes that move and the bytes that stay are
//! copied. A bound behind its last record is a rotation, and costs nothing. Everything happens under the exclusive lock:
//!
//! 1. the file is synced, so that no record that is archived can be missing where it came from;
//! 2. what moves is copied to a temporary file, byte for byte, and synced. Crash here: a stale temporary file, which the next try removes;
//! 3. that file becomes the next archived segment, and the directory is synced. Crash here: its records are also at the head of the active segment.
//!    It ends with a sealed line, so whoever reads finds the same number and CRC in the active segment and begins behind it;
//! 4. what stays is copied to another file, which is swapped in as `swap` says. Crash here: the same, or done.
//!
//! A try begins behind the newest archived record, whatever bound an earlier one had, and takes away duplicates that one has left. So trying again
//! after any crash leads to the same end.

use std::{io, ops::Range, path::PathBuf};

use crate::{
    active::Active,
    edits,
    error::{Attempt, Error, ErrorKind, Result},
    format::WINDOW_BYTES_DEFAULT,
    judge::Found,
    position::Position,
    reader::{
        Start,
        start::{self, Started},
    },
    scan::{self, Backward, Scanner},
    seek::Stretch,
    segment::Segments,
    swap::{Fresh, Installed, Successor},
};

/// Which records are archived: those before a bound, which itself stays.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Before the record of this number. 0 and 1 are before every record; what is beyond the last record is behind all of them.
    Seq(u64),
    /// Before this position, which is a boundary.
    Position(Position),
    /// Before the last so many records.
    Last(u64),
}

/// What an archive moved, or would move.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// The new archived segment; `None` if everything before the bound was in archived segments already.
    pub archived: Option<PathBuf>,
    /// The number of the segment that the moved records were in, and are in now.
    pub segment: u64,
    /// The number of the first record that moved.
    pub first_seq: Option<u64>,
    /// The number of the last record that moved.
    pub last_seq: Option<u64>,
    /// How many records moved, counted by their numbers; `None` in plain form, which has none.
    pub records: Option<u64>,
    /// How many bytes moved.
    pub bytes: u64,
    /// How many bytes stayed in the active segment.
    pub bytes_left: u64,
    /// Bytes that an interrupted archive had left in both segments, and that are in one now.
    pub duplicate_bytes: u64,
}

/// Where the active segment is divided. All offsets are boundaries of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The first byte that is not archived yet.
    pub(crate) start: u64,
    /// What is before it moves. Between the other two.
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl Cut {
    /// Nothing stays, so nothing need be copied.
    pub(crate) fn takes_all(&self) -> bool {
        self.at == self.end && self.at > self.start
    }

    fn moved(&self) -> Range<u64> {
        self.start..self.at
    }
}

/// Finds where the active segment, which ends at `end`, is to be divided. A bound inside a batch is lowered to its first record.
///
/// # Errors
///
/// [`NotSealed`](ErrorKind::NotSealed) for a number, or for a bound inside the active segment, of a plain journal.
pub(crate) fn divide(segments: &Segments, before: Before, is_sealed: bool, end: u64, line_bytes_max: u64) -> Result<Cut> {
    let origin = segments.active_origin();
    let nothing = Cut { start: origin.start, at: origin.start, end };
    let Some(active) = segments.active() else { return Ok(nothing) };
    let lines = Stretch { file: &active.file, start: origin.start, end, line_bytes_max };
    let failed = |error| Error::io(Attempt::Archive, &active.path, error);
    let not_sealed = || {
        let detail = "a plain journal is archived at the end of a segment only; rotate it there, or make a sealed copy with `untorn seal`";
        Error::new(ErrorKind::NotSealed, Attempt::Archive).on(&active.path).detail(detail)
    };
    let at = match before {
        Before::Seq(_) if !is_sealed => return Err(not_sealed()),
        Before::Seq(seq) => lines.first_from(seq).map_err(failed)?.map_or(end, |line| line.span.start),
        // It was pruned, so it was archived.
        Before::Position(position) if segments.numbers().next().is_some_and(|oldest| position.segment < oldest) => origin.start,
        Before::Position(position) => offset_in(segments, Start::Position(position), line_bytes_max)?,
        Before::Last(0) => end,
        Before::Last(records) => offset_in(segments, Start::Last(records), line_bytes_max)?,
    };
    let at = at.clamp(origin.start, end);
    if at == origin.start || at == end {
        return Ok(Cut { at, ..nothing });
    }
    if !is_sealed {
        return Err(not_sealed());
    }
    let at = behind_a_record(&lines, at).map_err(failed)?;
    check(&lines, at, before).map_err(failed)?.map_or(Ok(Cut { at, ..nothing }), |(seq, offset)| {
        let detail = format!("record {seq} stands among those that are to be archived, and is not one of them");
        Err(Error::new(ErrorKind::Corrupt, Attempt::Archive).on(&active.path).at(offset).detail(detail))
    })
}

/// The byte of the active file that reading would start at; its first one, if that is in a segment before.
fn offset_in(segments: &Segments, start: Start, line_bytes_max: u64) -> Result<u64> {
    let Started { segment, offset, .. } = start::find(segments, &start, line_bytes_max).map_err(|error| error.attempting(Attempt::Archive))?;
    Ok(if segment.number == segments.active_number() { offset } else { 0 })
}

/// The end of the last sealed line before `at` that ends a batch or is in none; the start, if there is none. What reads after a crash knows the
/// copy by its last line, and a batch is never divided.
fn behind_a_record(lines: &Stretch<'_>, at: u64) -> io::Result<u64> {
    let mut backward = Backward::new(at, lines.line_bytes_max);
    while let Some(span) = backward.next(lines.file)?.filter(|span| span.start >= lines.start) {
        if Found::of(span, backward.bytes()).seal.is_some_and(|seal| seal.more == 0) {
            return Ok(span.end);
        }
    }
    Ok(lines.start)
}

/// A sealed line before `at` whose number is not below the bound, if there is one: the file was put together by somebody else.
fn check(lines: &Stretch<'_>, at: u64, before: Before) -> io::Result<Option<(u64, u64)>> {
    let Before::Seq(bound) = before else { return Ok(None) };
    let mut moved = Scanner::new(lines.start, at, lines.line_bytes_max);
    while let Some(span) = moved.next(lines.file)? {
        if let Some(seal) = Found::of(span, moved.bytes()).seal.filter(|seal| seal.seq >= bound) {
            return Ok(Some((seal.seq, span.start)));
        }
    }
    Ok(None)
}

/// What moves by this cut.
pub(crate) fn report(segments: &Segments, cut: &Cut, line_bytes_max: u64) -> io::Result<Archived> {
    let origin = segments.active_origin();
    let told = Archived { segment: origin.segment, bytes: cut.at - cut.start, bytes_left: cut.end - cut.at, ..Archived::default() };
    let Some(active) = segments.active().filter(|_| told.bytes > 0) else { return Ok(told) };
    let lines = Stretch { file: &active.file, start: cut.start, end: cut.at, line_bytes_max };
    let first_seq = lines.first_sealed(WINDOW_BYTES_DEFAULT)?.map(|line| line.seal.seq);
    let last_seq = lines.last_sealed(WINDOW_BYTES_DEFAULT)?.map(|line| line.seal.seq);
    let records = first_seq.zip(last_seq).map(|(first, last)| last.saturating_sub(first) + 1);
    Ok(Archived { first_seq, last_seq, records, ..told })
}

/// Steps 2 and 3. The file must be synced, and only whoever holds its lock may call this.
pub(crate) fn copy_out(active: &Active, cut: &Cut, segment: PathBuf) -> Result<PathBuf> {
    let place = &active.place;
    let failed = |error| Error::io(Attempt::Archive, &place.path, error);
    let mut fresh = Fresh::create(place, &active.file).map_err(failed)?;
    edits::read_range(&active.file, cut.moved(), |bytes| fresh.file.write_all(bytes)).map_err(failed)?;
    fresh.file.sync_data().map_err(failed)?;
    fresh.rename_new(&segment).map_err(failed)?;
    place.dir.sync().map_err(failed)?;
    Ok(segment)
}

/// Step 4: gives the active segment that begins with what stays, locked.
pub(crate) fn swap_in_rest(active: &Active, cut: &Cut) -> Result<Installed> {
    let failed = |error| Error::io(Attempt::Archive, &active.place.path, error);
    let successor = Successor::create(Attempt::Archive, active.clone())?;
    edits::read_range(&active.file, cut.at..cut.end, |bytes| successor.new_file().write_all(bytes)).map_err(failed)?;
    let installed = successor.install(None)?;
    // A stranger may have opened the old file after it was looked for one. What he wrote by now is kept; nothing of ours is behind it yet.
    let end = installed.replaced.size().map_err(failed)?;
    if end > cut.end {
        tracing::warn!(path = %active.place.path.display(), bytes = end - cut.end, "a stranger wrote into the journal while it was archived");
        edits::read_range(&installed.replaced, cut.end..end, |bytes| installed.active.file.write_all(bytes)).map_err(failed)?;
        installed.active.file.sync_data().map_err(failed)?;
    }
    Ok(installed)
}

/// Refuses early what would run out of room halfway. Where the system does not tell, running out is still safe.
pub(crate) fn check_space(active: &Active, cut: &Cut) -> Result<()> {
    let needed = cut.end - cut.start;
    match active.place.dir.free_bytes() {
        Ok(Some(free)) if free < needed => {
            let detail = format!("it needs {needed} bytes beside the journal, and {free} are free");
            Err(Error::new(ErrorKind::NoSpace, Attempt::Archive).on(&active.place.path).detail(detail))
        }
        _ => Ok(()),
    }
}

/// Whether a segment that is only read is sealed, and where its last whole line ends.
pub(crate) fn survey(segments: &Segments, line_bytes_max: u64) -> Result<(bool, u64)> {
    let Some(active) = segments.active() else { return Ok((true, 0)) };
    let failed = |error| Error::io(Attempt::Archive, &active.path, error);
    let lines = active.stretch(line_bytes_max);
    let is_sealed =
        active.len() == 0 || lines.first_sealed(1).map_err(failed)?.is_some() || lines.last_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)?.is_some();
    Ok((is_sealed, scan::boundary_before(&active.file, active.end).map_err(failed)?.max(active.start)))
}
