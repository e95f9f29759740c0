//! The way back: rebuilds what a journal was before its last repair, from the repaired file and the quarantine.
//!
//! Nothing says which repairs are in force but the file itself: a repair is, if the file begins as that repair left it, and is not what it was
//! before that repair or an earlier one. So a repair that crashed before it changed anything, or that was undone, is passed over, and calling this
//! again goes one repair further back.
//!
//! If nothing was appended since, the original takes the journal's place by the rules of [`swap`], and a crash leaves one of the two,
//! whole. Else it becomes a file of its own, and the journal stays as it is. The quarantine is only read, unless a stranger wrote into the journal
//! meanwhile.

use std::{
    collections::HashSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use crc32fast::Hasher;

use crate::{
    active::{Active, Place},
    edits::{self, Edits, Trace},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LF, QUARANTINE_END_BYTES, name},
    quarantine::{KeptRepair, Known, Repairs},
    repair::{RepairOptions, refuse_strangers, take_over},
    swap::{self, Successor},
    sys::File,
};

/// Takes back the newest repair that is in force: see [`RepairOptions::undo`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"id\":1}{\"id\":2}\n\0\0\0\0\n")?;
/// untorn::plan_repair(&path)?.apply()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"id\":1}\n{\"id\":2}\n");
/// let untorn::Undone::Restored { len, .. } = untorn::undo_repair(&path)? else { panic!("nothing was appended") };
/// assert_eq!(len, 22);
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"id\":1}{\"id\":2}\n\0\0\0\0\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of [`RepairOptions::undo`].
pub fn undo_repair(path: impl AsRef<Path>) -> Result<Undone> {
    RepairOptions::new().undo(path)
}

/// What undoing did.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// No repair is in force.
    Nothing,
    /// The journal is again what it was before the repair.
    #[non_exhaustive]
    Restored {
        /// The id of the repair.
        repair: String,
        /// The length of the file now, without late bytes.
        len: u64,
        /// Bytes that a stranger wrote into the replaced file meanwhile; they stand behind the original, or in quarantine if they are no whole
        /// records.
        late_bytes: u64,
    },
    /// The journal has gone on since the repair and stays as it is; what it was before is in a file of its own.
    #[non_exhaustive]
    Beside {
        /// The id of the repair.
        repair: String,
        /// The new file.
        original: PathBuf,
        /// Its length.
        len: u64,
    },
}

impl RepairOptions {
    /// Takes back the newest repair that is in force, tail repairs on opening included; called again, the one before.
    ///
    /// If nothing was appended since, the journal becomes what it was, byte for byte. Else the original is written beside it, with `.original-` and
    /// the repair's id behind the journal's name.
    ///
    /// No backup is kept: what a process that does not take the lock writes into the replaced file later than that is nowhere. See
    /// [`force`](RepairOptions::force).
    ///
    /// # Durability
    ///
    /// When this returns, what it tells of is durable. A crash leaves the repaired journal or the original one, whole. The quarantine stays as it is,
    /// so undoing loses nothing either: the next repair removes the same bytes.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if the quarantine is damaged where it is needed; those of [`RepairPlan::apply`](crate::RepairPlan::apply). The
    /// journal is as it was after any of them but [`DurabilityUnknown`](ErrorKind::DurabilityUnknown), and a failure to keep what a stranger wrote
    /// meanwhile.
    pub fn undo(&self, path: impl AsRef<Path>) -> Result<Undone> {
        let active = Active::lock_existing(Attempt::UndoRepair, &self.disk, path.as_ref(), self.wait)?;
        let journal = active.place.path.clone();
        let failed = |error| Error::io(Attempt::UndoRepair, &journal, error);
        let size = active.file.size().map_err(failed)?;
        let path = self.quarantine_of(&journal);
        let quarantine = match self.disk.open_read(&path) {
            Ok(file) => Quarantine { file, path },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Undone::Nothing),
            Err(error) => return Err(Error::io(Attempt::Read, &path, error)),
        };
        let Some(repair) = quarantine.newest_in_force(&active.file, size)? else { return Ok(Undone::Nothing) };
        let (id, len) = (repair.id.clone(), repair.before_len);
        if size > repair.after_len {
            let mode = active.file.mode().map_err(failed)?;
            let original = self.write_beside(&active.place, &repair, mode, |out| quarantine.rebuild(&repair, &active.file, out))?;
            return Ok(Undone::Beside { repair: id, original, len });
        }
        refuse_strangers(Attempt::UndoRepair, &active, self.is_forced)?;
        let successor = Successor::create(Attempt::UndoRepair, active)?;
        quarantine.rebuild(&repair, &successor.old().file, successor.new_file())?;
        let installed = successor.install(None)?;
        // Crash here: what a stranger wrote into the replaced file meanwhile is lost with it.
        let late_bytes = take_over(Attempt::UndoRepair, self, &installed, size)?;
        tracing::warn!(path = %journal.display(), %id, "took back a repair");
        Ok(Undone::Restored { repair: id, len, late_bytes })
    }

    fn write_beside(&self, place: &Place, repair: &KeptRepair, mode: u32, fill: impl Fn(&File) -> Result<()>) -> Result<PathBuf> {
        let mut attempt = 0;
        loop {
            let original = place.path.with_file_name(name::original(&place.name, &repair.id, attempt));
            if self.disk.kind(&original).map_err(|error| Error::io(Attempt::UndoRepair, &original, error))?.is_none() {
                swap::create_beside(Attempt::UndoRepair, &self.disk, &original, mode, &fill)?;
                return Ok(original);
            }
            attempt += 1;
        }
    }
}

struct Quarantine {
    file: File,
    path: PathBuf,
}

impl Quarantine {
    fn newest_in_force(&self, journal: &File, size: u64) -> Result<Option<KeptRepair>> {
        let failed = |error| Error::io(Attempt::Read, &self.path, error);
        let end = self.file.size().map_err(failed)?;
        // A torn line at the end was never part of a repair that changed the journal.
        let end = crate::scan::boundary_before(&self.file, end).map_err(failed)?;
        let mut newest = None;
        let mut is_placed = false;
        for repair in Repairs::new(&self.file, &self.path, end) {
            let repair = repair?;
            if !is_placed && was_before(&repair, journal, size).map_err(failed)? {
                // The file stands before this repair, so no later one is in force, whatever it looks like.
                is_placed = true;
                newest = None;
            } else if newest.is_none() && is_in_force(&repair, journal, size).map_err(failed)? {
                newest = Some(repair);
            }
        }
        Ok(newest)
    }

    /// Writes the original behind the end of `out`, from what the repair left of it and what it took out.
    fn rebuild(&self, repair: &KeptRepair, repaired: &File, out: &File) -> Result<()> {
        let failed = |error| Error::io(Attempt::UndoRepair, &self.path, error);
        let corrupt = |why| Error::new(ErrorKind::Corrupt, Attempt::UndoRepair).on(&self.path).detail(why);
        let mut entries = repair.entries.clone();
        // An added LF comes before what was removed behind it. A range that was kept again is there twice, and its last line counts.
        entries.reverse();
        entries.sort_by_key(|entry| (entry.known.offset(), matches!(entry.known, Known::Range { .. })));
        entries.dedup_by_key(|entry| entry.known);
        let mut crc = Hasher::new();
        // Where we are in the original, and in what the repair left of it.
        let mut written = 0;
        let mut read = 0;
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            out.write_all(bytes)
        };
        // What a cut in place took out stood together at the end.
        let is_cut = matches!(repair.trace, Some(Trace::End(_)));
        for (at, entry) in entries.iter().enumerate() {
            let kept = entry.known.offset().checked_sub(written).ok_or_else(|| corrupt("two ranges of one repair overlap"))?;
            if kept > repair.after_len.saturating_sub(read) || (is_cut && at > 0 && kept > 0) {
                return Err(corrupt("a range of a repair is not where it was, or another one is missing"));
            }
            edits::read_range(repaired, read..read + kept, &mut put).map_err(failed)?;
            read += kept;
            written += kept;
            match entry.known {
                Known::Added { .. } => read += 1,
                Known::Range { len, .. } => {
                    put(&entry.bytes(&self.file, &self.path)?).map_err(failed)?;
                    written += len;
                }
            }
        }
        let rest = repair.after_len.checked_sub(read).filter(|rest| !is_cut || *rest == 0);
        let rest = rest.ok_or_else(|| corrupt("the ranges of a repair are not what it took out"))?;
        edits::read_range(repaired, read..repair.after_len, &mut put).map_err(failed)?;
        let is_proved = match repair.trace {
            Some(Trace::Whole { before, .. }) => crc.finalize() == before,
            _ => true,
        };
        let is_original = is_proved && written + rest == repair.before_len;
        if is_original { Ok(()) } else { Err(corrupt("the ranges of a repair do not add up to the original")) }
    }
}

/// Whether the file begins as the repair left it, and not as it was before.
fn is_in_force(repair: &KeptRepair, journal: &File, size: u64) -> io::Result<bool> {
    let has = |range: Range<u64>, crc| -> io::Result<bool> { Ok(range.end <= size && edits::crc_of(journal, range)? == crc) };
    match repair.trace {
        None => Ok(false),
        Some(Trace::Whole { before, after }) => Ok(has(0..repair.after_len, after)? && !has(0..repair.before_len, before)?),
        Some(Trace::End(crc)) => {
            let end = repair.after_len.saturating_sub(QUARANTINE_END_BYTES)..repair.after_len;
            // Where the file is shorter than it was, something was taken out, and if the quarantine has lost all of it that has to be told.
            Ok(has(end, crc)? && (size < repair.before_len || !has_what_was_removed(repair, journal, size)?))
        }
    }
}

/// Whether the file is what it was before the repair, and nothing more.
fn was_before(repair: &KeptRepair, journal: &File, size: u64) -> io::Result<bool> {
    match repair.trace {
        _ if size != repair.before_len => Ok(false),
        None => Ok(false),
        Some(Trace::Whole { before, .. }) => Ok(edits::crc_of(journal, 0..size)? == before),
        Some(trace @ Trace::End(_)) => Ok(begins_as_before(repair, journal, size, trace)? && has_what_was_removed(repair, journal, size)?),
    }
}

/// Whether a file is in front of the cut of a repair in place what it was, and the quarantine has all that stood behind it. The length of a file alone
/// proves nothing, nor does a repair of which a crash left only its name.
fn begins_as_before(repair: &KeptRepair, journal: &File, size: u64, trace: Trace) -> io::Result<bool> {
    let known: HashSet<Known> = repair.entries.iter().map(|entry| entry.known).collect();
    let mut removed = 0_u64;
    let mut lfs = Edits::default();
    for known in known {
        match known {
            Known::Range { len, .. } => removed = removed.saturating_add(len),
            Known::Added { offset } => lfs.added.push(offset),
        }
    }
    match repair.before_len.checked_sub(removed) {
        Some(cut) if cut <= size && lfs.len_after(cut) == repair.after_len => Ok(lfs.trace_of_cut(journal, cut)? == trace),
        _ => Ok(false),
    }
}

/// Whether what the repair took out is in its place, and no LF where one was added.
fn has_what_was_removed(repair: &KeptRepair, journal: &File, size: u64) -> io::Result<bool> {
    for entry in &repair.entries {
        let is_there = match entry.known {
            Known::Added { offset } => !has_lf(journal, offset)?,
            Known::Range { offset, len, crc } => {
                let end = offset.saturating_add(len);
                end <= size && edits::crc_of(journal, offset..end)? == crc
            }
        };
        if !is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_lf(file: &File, offset: u64) -> io::Result<bool> {
    let mut byte = [0];
    Ok(file.read_full_at(&mut byte, offset)? == 1 && byte == [LF])
}
