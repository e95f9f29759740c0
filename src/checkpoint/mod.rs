//! Where a consumer is in a journal, as a value that proves itself.
//!
//! A [`Checkpoint`] names the last acknowledged record by its number and CRC; in a plain file by its bytes, where they stood, and the file's
//! fingerprint. Where the record is, which file held it and what that was called are hints: archive, repair, rotation and renames change them. A
//! checkpoint is read from disks and databases, so none of it is trusted: [`restore`] looks whether the record is there, and says what it found.
//!
//! [`store`] keeps checkpoints in a directory, [`assign`] finds out which file each of them belongs to by now, and [`needed`] what the consumers
//! of a directory still need of a journal.

pub(crate) mod assign;
pub(crate) mod identity;
pub(crate) mod needed;
mod restore;
pub(crate) mod store;
pub(crate) mod written;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    identity::Identity,
    restore::{Restoration, restore},
};
pub use self::{
    restore::Restored,
    store::{ConsumerState, SourceState, checkpoints, reset_checkpoint},
};
use crate::{
    error::Result,
    fingerprint::Fingerprint,
    position::{Mark, Position},
    sys::{Disk, FileId},
};

/// How far a journal was consumed: the last acknowledged record, with its proof.
///
/// It is a plain value. Kept in the transaction that stores what was made of the records, it makes their consumption exactly once: after a crash,
/// [`Start::Checkpoint`](crate::Start::Checkpoint) goes on behind the last record that the transaction saw. Whatever happened to the journal
/// meanwhile, the outcome is one of [`Restored`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// use untorn::{Checkpoint, Reader, Restored, Start, Writer};
///
/// let mut writer = Writer::open(&path)?;
/// let first = writer.append(&serde_json::json!({"text": "hi"}))?;
/// writer.append(&serde_json::json!({"text": "bye"}))?;
///
/// let stored = serde_json::to_string(&Checkpoint::new(&path, &first.mark())?)?;
///
/// let checkpoint: Checkpoint = serde_json::from_str(&stored)?;
/// let reader = Reader::options().from(Start::Checkpoint(checkpoint)).open(&path)?;
/// assert_eq!(reader.restored(), Some(&Restored::Resumed));
/// let rest: Vec<serde_json::Value> = reader.records().map(|record| Ok(record?.value)).collect::<untorn::Result<_>>()?;
/// assert_eq!(rest, [serde_json::json!({"text": "bye"})]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
///
/// A checkpoint is never ahead of the journal if the journal is synced before the checkpoint is stored. Otherwise a power cut may take the record
/// and leave the checkpoint, which [`Restored::Shorter`] tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "written::Written", into = "written::Written")]
pub struct Checkpoint {
    /// Absolute, of the active segment.
    path: Option<PathBuf>,
    /// The file that held the last acknowledged record.
    file: Option<FileId>,
    /// Of that file.
    fingerprint: Option<Fingerprint>,
    /// How often the source was declared to be another one.
    generation: u64,
    /// The last acknowledged record; none before the first.
    mark: Option<Mark>,
}

impl Checkpoint {
    /// The checkpoint of somebody who is through with the journal at `path` up to and including the record of the mark.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub fn new(path: impl AsRef<Path>, mark: &Mark) -> Result<Checkpoint> {
        Checkpoint::on(&Disk::default(), path.as_ref(), mark)
    }

    pub(crate) fn on(disk: &Disk, path: &Path, mark: &Mark) -> Result<Checkpoint> {
        let segments = crate::segment::Segments::open(disk, path, true)?;
        Ok(Checkpoint::of(&Identity::of_position(&segments, mark.start)?, Some(*mark), 0))
    }

    /// The checkpoint of a source that was read up to the mark, in a file of this identity.
    pub(crate) fn of(identity: &Identity, mark: Option<Mark>, generation: u64) -> Checkpoint {
        let Identity { path, file, fingerprint } = identity;
        Checkpoint { path: Some(path.to_path_buf()), file: Some(*file), fingerprint: *fingerprint, generation, mark }
    }

    /// Names a record and nothing else.
    pub(crate) fn covering(mark: Mark) -> Checkpoint {
        Checkpoint { path: None, file: None, fingerprint: None, generation: 0, mark: Some(mark) }
    }

    /// The path that the journal had, as far as it is known.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The number of the last acknowledged record; `None` before the first, and in plain form.
    pub fn seq(&self) -> Option<u64> {
        self.mark.and_then(|mark| mark.seq)
    }

    /// The last acknowledged record; `None` before the first.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Just past the last acknowledged record, when the checkpoint was taken.
    pub fn position(&self) -> Option<Position> {
        self.mark.map(|mark| mark.end)
    }

    /// How often the source was truncated or replaced while it was followed. What was acknowledged before does not count for what came after.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn file(&self) -> Option<FileId> {
        self.file
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// The same source, nothing of it acknowledged.
    pub(crate) fn reset(&self) -> Checkpoint {
        Checkpoint { mark: None, generation: self.generation.saturating_add(1), ..self.clone() }
    }

    /// Takes over a later state of the same source, and loses nothing that was known: a checkpoint never goes back, except to a source that was
    /// declared to be another one, and what the later state does not know stays.
    pub(crate) fn advance(&mut self, next: Checkpoint) {
        if next.generation > self.generation {
            let path = next.path.or(self.path.take());
            *self = Checkpoint { path, ..next };
            return;
        }
        if next.generation < self.generation {
            return;
        }
        let goes_back = match (self.mark, next.mark) {
            (Some(_), None) => true,
            (Some(Mark { seq: Some(old), .. }), Some(Mark { seq: Some(new), .. })) => new < old,
            // Positions order as the journal does.
            (Some(old), Some(new)) => new.end < old.end,
            (None, _) => false,
        };
        self.path = next.path.or(self.path.take());
        if !goes_back {
            // The file, its fingerprint and the mark in it belong together.
            let is_same_file = next.file.is_none() || next.file == self.file;
            self.fingerprint = next.fingerprint.or(self.fingerprint.filter(|_| is_same_file));
            self.file = next.file.or(self.file);
            self.mark = next.mark;
        } else if self.file.is_none() {
            self.file = next.file;
        }
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
