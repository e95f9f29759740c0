//! What opening changes on the disk: the end of the file, and nothing else.
//!
//! After a crash the last bytes of a journal may be a torn record, a run of NULs, a whole record that lacks its LF, or a batch whose end is
//! missing. [`settle`] looks at them under the exclusive lock and leaves a file that ends on a boundary, with the number that the next record
//! gets. What it removes is durable in the quarantine first:
//!
//! 1. keep the bytes in quarantine and sync it. Crash here: the tail is still there, and the next opener does the same again;
//! 2. cut the file. Crash here: a whole last record may lack its LF still, and the next opener writes it;
//! 3. write the LF, if the last record is whole. Crash here: as if nothing had been done, or done;
//! 4. sync the file.
//!
//! Where nothing may be cut, because a stranger has the file open for writing or the writer was told never to cut, an LF is written instead. What a
//! stranger appends while the bytes are being kept makes it another tail, which is looked at anew.

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    active::Active,
    damage::Damage,
    edits::{Edits, Removed},
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        BOM, SEQ_MAX,
        line::Framed,
        seal::Seal,
        tail,
        verdict::{Code, Judged, Verdict},
    },
    judge::Found,
    position::{Origin, Position},
    quarantine::{self, Plan},
    rollback::{self, Rollback},
    salvage,
    scan::{self, Backward},
    seeded,
    sys::File,
    words,
};

/// What to do with a whole last record that lacks its LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unterminated {
    /// Keep it, and write the LF.
    #[default]
    Keep,
    /// Take it for torn: a writer that always ends its lines did not finish this one.
    Quarantine,
}

/// How the tail of one journal is to be settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) quarantine: &'a Path,
    pub(crate) origin: Origin,
    /// In a sealed journal, the boundary from which on lines were not looked at before; `None` in plain form, which has neither numbers nor batches.
    pub(crate) numbered_from: Option<u64>,
    pub(crate) line_bytes_max: u64,
    pub(crate) unterminated: Unterminated,
    pub(crate) rollback: Rollback,
}

/// What opening, or an append after somebody else's, did to the end of the file.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// # untorn::Writer::open(&path)?.append("hi")?;
/// # let whole = std::fs::metadata(&path)?.len();
/// # std::io::Write::write_all(&mut std::fs::OpenOptions::new().append(true).open(&path)?, b"{\"role\":\"ag")?;
/// // The last run died in the middle of a record.
/// let writer = untorn::Writer::open(&path)?;
/// let repair = writer.tail_repair();
/// assert_eq!((repair.removed_bytes(), repair.reason()), (11, Some(untorn::Code::TornTail)));
/// assert!(repair.to_string().starts_with("11 bytes from byte "));
///
/// // Nothing is lost: the bytes are beside the journal, and the old file can be had back.
/// assert!(std::fs::read_to_string(repair.quarantine().expect("its place"))?.contains("ag"));
/// # drop(writer);
/// untorn::undo_repair(&path)?;
/// assert_eq!(std::fs::metadata(&path)?.len(), whole + 11);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TailRepair {
    removed: Option<(Position, Position)>,
    reason: Option<Code>,
    quarantine: Option<PathBuf>,
    terminated: bool,
    fenced: bool,
    open_batch: bool,
    pub(crate) damage: Damage,
}

impl TailRepair {
    /// Nothing had to be done.
    pub fn is_clean(&self) -> bool {
        self.removed.is_none() && !self.terminated && !self.fenced && !self.open_batch
    }

    /// The range that was moved to quarantine.
    pub fn removed(&self) -> Option<std::ops::Range<Position>> {
        self.removed.map(|(start, end)| start..end)
    }

    /// How many bytes were moved to quarantine.
    pub fn removed_bytes(&self) -> u64 {
        self.removed.map_or(0, |(start, end)| end.offset - start.offset)
    }

    /// What was wrong with them.
    pub fn reason(&self) -> Option<Code> {
        self.reason
    }

    /// Where the removed bytes are kept.
    pub fn quarantine(&self) -> Option<&Path> {
        self.quarantine.as_deref()
    }

    /// The last record was whole and lacked only its LF, which was written.
    pub fn terminated(&self) -> bool {
        self.terminated
    }

    /// Nothing could be cut, so the torn tail was ended with an LF where it stands.
    pub fn fenced(&self) -> bool {
        self.fenced
    }

    /// A batch whose end is missing was left where it stands; readers withhold its records.
    pub fn left_open_batch(&self) -> bool {
        self.open_batch
    }
}

impl TailRepair {
    /// Damage in the window at the end of the file, which was reported and left alone: see
    /// [`Options::window_bytes`](crate::Options::window_bytes).
    pub fn damage(&self) -> &Damage {
        &self.damage
    }
}

impl fmt::Display for TailRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("the tail is clean");
        }
        let mut told = Vec::new();
        if let (Some(range), Some(reason)) = (self.removed(), self.reason) {
            let from = range.start.offset;
            let (bytes, from) = (words::count(self.removed_bytes(), "byte"), words::grouped(from));
            told.push(format!("{bytes} from byte {from} on moved to quarantine ({reason})"));
        }
        if self.terminated {
            told.push("the last record was whole and got its LF".to_owned());
        }
        if self.fenced {
            told.push("a torn tail was left where it is and ended with an LF".to_owned());
        }
        if self.open_batch {
            told.push("a batch without its end was left where it is".to_owned());
        }
        f.write_str(&told.join("; "))
    }
}

/// A file that ends on a boundary.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) end: u64,
    pub(crate) repair: TailRepair,
}

/// How often a tail is looked at again that a stranger goes on with while it is being kept.
const TRIES: usize = 8;

/// Makes the file end on a boundary, with a whole last batch. Under the exclusive lock.
pub(crate) fn settle(active: &Active, rules: &Rules<'_>) -> Result<Settled> {
    let fenced = Rules { rollback: Rollback::Fence, ..*rules };
    let mut tries = 0;
    loop {
        if let Some(settled) = settle_once(active, if tries < TRIES { rules } else { &fenced })? {
            return Ok(settled);
        }
        // It is another tail by now, perhaps a whole record. Crash here: its first bytes are in quarantine too.
        tries += 1;
    }
}

/// Nothing if somebody who takes no lock wrote while the tail was being kept, to be cut.
fn settle_once(active: &Active, rules: &Rules<'_>) -> Result<Option<Settled>> {
    let failed = |error| Error::io(Attempt::RepairTail, &active.place.path, error);
    let file = &active.file;
    let size = file.size().map_err(failed)?;
    let tail = Tail::find(file, size).map_err(failed)?;
    let rest = tail.rest(file, rules.line_bytes_max).map_err(failed)?;
    let last = Last::of(&rest, rules.unterminated);
    if last == Last::Newer {
        let error = Error::new(ErrorKind::NewerFormat, Attempt::OpenToAppend).on(&active.place.path).at(tail.start);
        return Err(error.detail("the last line is of a newer format than this version knows"));
    }
    let open_batch = match rules.numbered_from {
        Some(from) => OpenBatch::find(file, from, &tail, last, rules.line_bytes_max).map_err(failed)?,
        None => None,
    };
    if seeded::bug("glue") {
        return Ok(Some(Settled { end: size, repair: TailRepair::default() }));
    }
    let terminate = matches!(last, Last::Record(_) | Last::Glued);
    let mut cut = Cut { at: if terminate { tail.rest_end } else { tail.start }, end: size, terminate, reason: tail.reason(last), batch_end: None };
    let mut is_batch_left = matches!(open_batch, Some(OpenBatch::Mixed));
    if let Some(OpenBatch::Alone { from, is_another_left }) = open_batch {
        is_batch_left = is_another_left;
        let batch_end = if terminate { tail.rest_end } else { tail.start };
        cut = Cut { at: from, terminate: false, batch_end: Some(batch_end), ..cut };
    }
    let may_cut = || seeded::bug("fence-cuts") || rules.rollback == Rollback::Cut && active.place.disk.strangers(active.id).is_empty();
    let cuts = cut.at < size && may_cut();
    let mut repair = TailRepair { open_batch: is_batch_left || open_batch.is_some() && !cuts, ..TailRepair::default() };
    // What arrives from here on is not looked at, so the end is where our own change ends, and not where the file does by now.
    let end = if cuts {
        if !cut.make(active, rules, &mut repair)? {
            return Ok(None);
        }
        if cut.terminate { file.position().map_err(failed)? } else { cut.at }
    } else if tail.start < size {
        // The bytes stay where they are. A record that only lacks its LF gets it; any other tail is ended so that it never becomes one.
        rollback::fence(file, last == Last::Torn && is_record(&rest)).map_err(failed)?;
        let end = file.position().map_err(failed)?;
        sync(active, end)?;
        repair.terminated = terminate && tail.rest_end == size;
        repair.fenced = !repair.terminated;
        end
    } else {
        size
    };
    Ok(Some(Settled { end, repair }))
}

/// Syncs the file after its end was changed, up to `end`.
///
/// If that fails, the kernel may take the LF there for clean although it is not on the disk, and nothing tells the next opener to look: what it
/// appends would be synced on a line that others have begun. Written again, the LF is dirty, so that the next sync proves something.
fn sync(active: &Active, end: u64) -> Result<()> {
    active.file.sync_data().map_err(|error| {
        if let Err(error) = write_again(active, end) {
            tracing::warn!(path = %active.place.path.display(), %error, "the LF behind a torn tail may not be on the disk");
        }
        Error::io(Attempt::Sync, &active.place.path, error).at(end)
    })
}

/// Writes the bytes in front of `end` in their place once more, as many as a fence has. Crash here: as if the sync had just failed.
fn write_again(active: &Active, end: u64) -> io::Result<()> {
    let again = active.place.disk.open_rewrite(&active.place.at_home(&active.place.path))?;
    let from = end.saturating_sub(FENCE_BYTES_MAX as u64);
    let mut fence = vec![0; usize::try_from(end - from).unwrap_or_default()];
    let read = active.file.read_full_at(&mut fence, from)?;
    if again.id()? == active.id {
        again.write_at(fence.get(..read).unwrap_or_default(), from)?;
    }
    Ok(())
}

/// An LF, or one with a `#` before it.
const FENCE_BYTES_MAX: usize = 2;

/// Whether readers would take these bytes for a record, had they an LF.
fn is_record(text: &[u8]) -> bool {
    matches!(Judged::of(&Framed::new(text, false)), Judged::Sealed(_) | Judged::Plain(_))
}

/// A range at the end of a file that is moved to quarantine.
struct Cut {
    at: u64,
    end: u64,
    /// An LF goes where the range was.
    terminate: bool,
    reason: Code,
    /// The lines of an open batch end here, and other torn bytes follow. Between `at` and `end`.
    batch_end: Option<u64>,
}

impl Cut {
    /// `false` if nothing was cut, because somebody wrote meanwhile who takes no lock.
    fn make(&self, active: &Active, rules: &Rules<'_>, repair: &mut TailRepair) -> Result<bool> {
        let batch = self.batch_end.map(|end| Removed { start: self.at, end, reason: Code::OpenBatch });
        let rest = Removed { start: self.batch_end.unwrap_or(self.at), end: self.end, reason: self.reason };
        let removed: Vec<Removed> = batch.into_iter().chain([rest]).filter(|range| range.start < range.end).collect();
        let reason = removed.first().map_or(self.reason, |first| first.reason);
        let added = self.terminate.then_some(self.at).into_iter().collect();
        if take_off(active, rules.quarantine, &Edits { removed, added }, self.end)?.is_none() {
            return Ok(false);
        }
        repair.removed = Some((rules.origin.position(self.at), rules.origin.position(self.end)));
        repair.reason = Some(reason);
        repair.quarantine = Some(rules.quarantine.to_owned());
        repair.terminated = self.terminate;
        Ok(true)
    }
}

/// Moves what the edits remove, all of it at the end of a file of `size` bytes, to quarantine; cuts the file, ends it with an LF where they say
/// so, and syncs it. Returns the id of the repair; `None` if nothing was changed, because the file has another size by now.
pub(crate) fn take_off(active: &Active, quarantine: &Path, edits: &Edits, size: u64) -> Result<Option<String>> {
    let cut = edits.cut_at(size).unwrap_or(size);
    debug_assert_eq!(edits.cut_at(size), Some(cut), "only the end of a file is taken off");
    let failed = |error| Error::io(Attempt::RepairTail, &active.place.path, error).at(cut);
    let mode = active.file.mode().map_err(failed)?;
    let trace = edits.trace_of_cut(&active.file, cut).map_err(failed)?;
    let plan = Plan { before_len: size, edits, trace };
    let id = if seeded::bug("cut-without-quarantine") {
        String::new()
    } else {
        quarantine::keep(&active.place.disk, quarantine, mode, &active.file, &plan)?
    };
    // Crash here: the bytes are durable in quarantine and the journal still has them. The next opener finds both, and writes nothing twice.
    if cut < size {
        // The syncs took their time, and what a stranger wrote meanwhile is in no quarantine.
        if active.file.size().map_err(failed)? != size {
            return Ok(None);
        }
        active.file.cut(cut).map_err(failed)?;
    }
    // Crash here: a whole last record may lack its LF, which the next opener writes.
    if !edits.added.is_empty() {
        rollback::fence(&active.file, false).map_err(failed)?;
    }
    let end = if edits.added.is_empty() { cut } else { active.file.position().map_err(failed)? };
    sync(active, end)?;
    tracing::warn!(path = %active.place.path.display(), from = cut, to = size, %id, "moved the end of the file to quarantine");
    Ok(Some(id))
}

/// The bytes after the last LF.
pub(crate) struct Tail {
    /// Just past the last LF, or past a byte order mark at the start of the file.
    pub(crate) start: u64,
    /// From here on there are only NULs and white space. Never less than `start`.
    pub(crate) rest_end: u64,
    has_nul: bool,
}

/// What the bytes after the last LF are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// A whole record, with its seal if it has one.
    Record(Option<Seal>),
    /// A whole object or array, and more on the same line.
    Glued,
    /// Nothing that is whole, or nothing at all.
    Torn,
    Newer,
}

impl Last {
    /// Judges the bytes between the last LF and the NULs and white space at the end.
    pub(crate) fn of(rest: &[u8], unterminated: Unterminated) -> Last {
        let keep = unterminated == Unterminated::Keep;
        match tail::Tail::of(rest) {
            tail::Tail::Whole(Judged::Sealed(seal)) if keep => Last::Record(Some(seal)),
            tail::Tail::Whole(_) if keep => Last::Record(None),
            tail::Tail::Glued => Last::Glued,
            tail::Tail::Newer => Last::Newer,
            _ => Last::Torn,
        }
    }
}

impl Tail {
    pub(crate) fn find(file: &File, size: u64) -> io::Result<Tail> {
        let mut start = scan::boundary_before(file, size)?;
        // One that a stranger has completed since the size was asked for is none yet.
        if start == 0 && size >= BOM.len() as u64 {
            let mut first = [0; BOM.len()];
            let read = file.read_full_at(&mut first, 0)?;
            if first.get(..read) == Some(BOM) {
                start = BOM.len() as u64;
            }
        }
        let mut rest_end = size;
        let mut has_nul = false;
        let mut block = vec![0; usize::try_from(size - start).unwrap_or(usize::MAX).min(64 << 10)];
        while rest_end > start {
            let from = rest_end.saturating_sub(block.len() as u64).max(start);
            let wanted = usize::try_from(rest_end - from).unwrap_or(block.len());
            let room = block.get_mut(..wanted).unwrap_or_default();
            let read = file.read_full_at(room, from)?;
            let bytes = room.get(..read).unwrap_or_default();
            let kept = bytes.iter().rposition(|byte| !tail::Tail::is_filling(*byte)).map_or(0, |last| last + 1);
            has_nul |= bytes.get(kept..).unwrap_or_default().contains(&0);
            rest_end = from + kept as u64;
            if kept > 0 {
                break;
            }
        }
        Ok(Tail { start, rest_end, has_nul })
    }

    /// The bytes before the NULs and white space at the end; none if they are more than a line can be.
    pub(crate) fn rest(&self, file: &File, line_bytes_max: u64) -> io::Result<Vec<u8>> {
        let len = self.rest_end - self.start;
        if len >= line_bytes_max {
            return Ok(Vec::new());
        }
        let mut rest = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_full_at(&mut rest, self.start)?;
        rest.truncate(read);
        Ok(rest)
    }

    /// Why the bytes behind `rest_end`, or all of them, are removed.
    pub(crate) fn reason(&self, last: Last) -> Code {
        match last {
            Last::Record(_) | Last::Glued if !self.has_nul => Code::Blank,
            Last::Record(_) | Last::Glued => Code::NulRun,
            _ if self.has_nul && self.rest_end == self.start => Code::NulRun,
            _ => Code::TornTail,
        }
    }
}

/// A batch at the end of the file whose end is missing.
enum OpenBatch {
    /// From this boundary on there are only its lines and blank ones, and those of other such batches in front of it: one opening takes them all, so
    /// that the next has nothing to do. `is_another_left` if one more stands in front of those, and stays.
    Alone { from: u64, is_another_left: bool },
    /// Other lines stand behind it, or may stand among its lines.
    Mixed,
}

impl OpenBatch {
    /// Looks whether the last sealed line announces more lines of its batch.
    ///
    /// A batch is no longer than a line may be, so one that is further back than that is not among the last lines and stays.
    fn find(file: &File, from: u64, tail: &Tail, last: Last, line_bytes_max: u64) -> io::Result<Option<OpenBatch>> {
        let mut behind = last == Last::Glued || last == Last::Record(None);
        let mut batch = None;
        if let Last::Record(Some(seal)) = last {
            if seal.more == 0 {
                return Ok(None);
            }
            batch = Some((seal.batch_end(), seal.seq, tail.start));
        }
        let mut mixed = false;
        // Where the batches begin that stand behind the one being looked at, which begins further up.
        let mut others_from = None;
        let mut lines = Backward::new(tail.start, line_bytes_max);
        while let Some(span) = lines.next(file)?.filter(|span| span.start >= from) {
            let found = Found::of(span, lines.bytes());
            match (found.verdict, found.seal, batch) {
                (Verdict::Blank, ..) => {}
                (_, Some(seal), None) if seal.more == 0 => return Ok(None),
                (_, Some(seal), None) => {
                    mixed = behind;
                    batch = Some((seal.batch_end(), seal.seq, span.start));
                }
                (_, Some(seal), Some((batch_end, seq, _))) if seal.batch_end() == batch_end && seal.seq + 1 == seq => {
                    mixed |= behind;
                    batch = Some((batch_end, seal.seq, span.start));
                }
                (_, Some(seal), Some((_, _, start))) if seal.more > 0 && !mixed => {
                    others_from = Some(start);
                    mixed = behind;
                    batch = Some((seal.batch_end(), seal.seq, span.start));
                }
                (_, Some(_), Some(_)) => break,
                // What stands before the lines of the batch seen so far may be its damaged first line, or stand among its lines.
                (Verdict::Corrupt(_), None, Some(_)) => {
                    mixed = true;
                    break;
                }
                (_, None, _) => behind = true,
            }
            if tail.start - span.start > line_bytes_max {
                // Of several batches, the first may not have been seen whole.
                mixed |= behind || others_from.is_some();
                break;
            }
        }
        Ok(batch.map(|(_, _, from)| match others_from {
            Some(from) if mixed => OpenBatch::Alone { from, is_another_left: true },
            None if mixed => OpenBatch::Mixed,
            _ => OpenBatch::Alone { from, is_another_left: false },
        }))
    }
}

/// The numbers that the end of a file leaves to go on from.
pub(crate) struct Numbers {
    /// Of the last sealed line, or of the batch that it announces the end of; `None` if no line is sealed.
    last: Option<u64>,
    /// How many terminated corrupt lines follow it, or are in the file if no line is sealed.
    corrupt: u64,
    /// The highest number that salvage would trust in those.
    highest: u64,
}

impl Numbers {
    /// Looks backwards for the last sealed line of a range.
    pub(crate) fn find(file: &File, range: Range<u64>, line_bytes_max: u64) -> io::Result<Numbers> {
        let mut lines = Backward::new(range.end, line_bytes_max);
        let mut numbers = Numbers { last: None, corrupt: 0, highest: 0 };
        while let Some(span) = lines.next(file)?.filter(|span| span.start >= range.start) {
            let found = Found::of(span, lines.bytes());
            if let Some(seal) = found.seal {
                numbers.last = Some(seal.batch_end());
                break;
            }
            if matches!(found.verdict, Verdict::Corrupt(_)) {
                numbers.corrupt += 1;
                numbers.highest = numbers.highest.max(salvage::highest_number(lines.bytes(), None).unwrap_or(0));
            }
        }
        Ok(numbers)
    }

    /// The number that the next record gets, one more than [`SEQ_MAX`] if there is none left. `before` gives the number to go on from if the file
    /// has no sealed line.
    ///
    /// A terminated corrupt line keeps its number, so that its loss shows as a gap.
    pub(crate) fn next(&self, before: impl FnOnce() -> Result<u64>) -> Result<u64> {
        let last = self.last.map_or_else(before, Ok)?;
        Ok(last.saturating_add(self.corrupt).max(self.highest).min(SEQ_MAX) + 1)
    }
}
