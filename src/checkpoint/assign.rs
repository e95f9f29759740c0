//! Which of the stored checkpoints belongs to which file by now.
//!
//! Files are renamed, copied, rotated and replaced while no consumer looks. A checkpoint goes, in this order, to
//!
//! 1. the file that has its path and its inode, if the record is proved to be there;
//! 2. a file that has its inode and another path, with proof: it was renamed;
//! 3. the file that has its path, with proof: it was repaired, archived or restored from a copy;
//! 4. a file that begins with the same line, with proof, if nothing at the old path proves it: it was moved to another file system;
//! 5. the file that has its path, without proof. Restoring tells why.
//!
//! So a copy does not inherit the place of its original, an inode that was given to another file proves nothing, and an empty file is like no
//! other. No file gets two checkpoints, and none is open while another is looked at.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{Checkpoint, identity, restore};
use crate::{
    error::Result,
    fingerprint::Fingerprint,
    segment::Segments,
    sys::{Disk, FileId},
};

/// For each of the journals, in their order, the index of its checkpoint among those that are stored.
///
/// A journal that cannot be opened gets none: whoever opens it is told why.
pub(crate) fn assign(disk: &Disk, stored: &[&Checkpoint], journals: &[PathBuf], line_bytes_max: u64) -> Result<Vec<Option<usize>>> {
    let journals: Vec<Journal> = journals.iter().map(|path| Journal::look(disk, path)).collect();
    let mut matching = Matching { disk, stored, line_bytes_max, is_taken: vec![false; stored.len()], taken: vec![None; journals.len()] };
    let by_path: HashMap<&Path, usize> = stored.iter().enumerate().filter_map(|(index, checkpoint)| Some((checkpoint.path()?, index))).collect();
    let by_file = || stored.iter().enumerate().filter_map(|(index, checkpoint)| Some((checkpoint.file()?, index)));
    let at_path = |journal: &Journal| by_path.get(journal.canonical.as_path()).copied();

    matching.pass(&journals, |matching, journal| {
        let index = at_path(journal)?;
        let has_inode = matching.stored.get(index).and_then(|checkpoint| checkpoint.file()) == journal.file;
        has_inode.then_some((index, Claim::Proof))
    })?;
    let by_inode: HashMap<FileId, usize> = by_file().filter(|(_, index)| !matching.is_taken(*index)).collect();
    matching.pass(&journals, |_, journal| Some((*by_inode.get(&journal.file?)?, Claim::Proof)))?;
    matching.pass(&journals, |_, journal| Some((at_path(journal)?, Claim::Proof)))?;
    matching.elsewhere(&journals)?;
    matching.pass(&journals, |_, journal| Some((at_path(journal)?, Claim::Path)))?;
    Ok(matching.taken)
}

/// One journal, as its active file was found.
struct Journal {
    path: PathBuf,
    canonical: PathBuf,
    /// None in the middle of a rotation: then the archived segments are all there is.
    file: Option<FileId>,
    is_there: bool,
}

impl Journal {
    fn look(disk: &Disk, path: &Path) -> Journal {
        let file = disk.open_read(path).and_then(|file| file.id()).ok();
        let is_there = file.is_some() || Segments::open(disk, path, true).is_ok();
        Journal { path: path.to_owned(), canonical: identity::canonical(disk, path), file, is_there }
    }
}

/// What a checkpoint needs to go to a journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Proof,
    Path,
}

struct Matching<'a> {
    disk: &'a Disk,
    stored: &'a [&'a Checkpoint],
    line_bytes_max: u64,
    /// Of each checkpoint, whether a journal has it.
    is_taken: Vec<bool>,
    /// Of each journal, its checkpoint.
    taken: Vec<Option<usize>>,
}

impl Matching<'_> {
    /// Offers each journal without a checkpoint the one that `offer` finds for it.
    fn pass(&mut self, journals: &[Journal], offer: impl Fn(&Self, &Journal) -> Option<(usize, Claim)>) -> Result<()> {
        for (at, journal) in journals.iter().enumerate().filter(|(_, journal)| journal.is_there) {
            if self.taken.get(at) != Some(&None) {
                continue;
            }
            if let Some((index, claim)) = offer(self, journal)
                && !self.is_taken(index)
                && (claim == Claim::Path || self.proves(&journal.path, index)?)
            {
                self.give(at, index);
            }
        }
        Ok(())
    }

    /// Step 4.
    fn elsewhere(&mut self, journals: &[Journal]) -> Result<()> {
        let mut by_line: HashMap<Fingerprint, Vec<usize>> = HashMap::new();
        let left = self.stored.iter().enumerate().filter(|(index, _)| !self.is_taken(*index));
        for (index, checkpoint) in left {
            if let Some(fingerprint) = checkpoint.fingerprint() {
                by_line.entry(fingerprint).or_default().push(index);
            }
        }
        if by_line.is_empty() {
            return Ok(());
        }
        for (at, journal) in journals.iter().enumerate().filter(|(_, journal)| journal.is_there) {
            if self.taken.get(at) != Some(&None) {
                continue;
            }
            for index in self.first_lines(&journal.path).iter().filter_map(|fingerprint| by_line.get(fingerprint)).flatten() {
                if !self.is_taken(*index) && !self.still_matches(*index) && self.proves(&journal.path, *index)? {
                    self.give(at, *index);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The fingerprints of all segments: rotation and archive may have put the one that held the record anywhere.
    fn first_lines(&self, path: &Path) -> Vec<Fingerprint> {
        let Ok(segments) = Segments::open(self.disk, path, true) else { return Vec::new() };
        let all = segments.numbers().filter_map(|number| segments.get(number).ok());
        all.filter_map(|segment| Fingerprint::of(&segment.file).ok().flatten()).collect()
    }

    /// Whether the old path has the record still.
    fn still_matches(&self, index: usize) -> bool {
        let path = self.stored.get(index).and_then(|checkpoint| checkpoint.path());
        path.is_some_and(|path| self.proves(path, index).unwrap_or(false))
    }

    /// Whether the journal at a path has the checkpoint's record; of one without a record, whether the journal begins as it did.
    fn proves(&self, path: &Path, index: usize) -> Result<bool> {
        let Some(checkpoint) = self.stored.get(index) else { return Ok(false) };
        let Ok(segments) = Segments::open(self.disk, path, true) else { return Ok(false) };
        if checkpoint.mark().is_some() {
            return restore::is_proved(&segments, checkpoint, self.line_bytes_max);
        }
        let newest = segments.newest()?;
        let failed = |error| newest.failed(error);
        let is_same_line = match checkpoint.fingerprint() {
            Some(known) => Fingerprint::of(&newest.file).map_err(failed)? == Some(known),
            None => false,
        };
        Ok(is_same_line || checkpoint.file() == Some(newest.file.id().map_err(failed)?))
    }

    fn is_taken(&self, index: usize) -> bool {
        self.is_taken.get(index).copied().unwrap_or(true)
    }

    fn give(&mut self, at: usize, index: usize) {
        if let (Some(journal), Some(is_taken)) = (self.taken.get_mut(at), self.is_taken.get_mut(index)) {
            *journal = Some(index);
            *is_taken = true;
        }
    }
}
