//! What consumers still need of a journal: the records that must not be pruned.

use std::path::Path;

use super::{
    Checkpoint, Restored, assign, identity, restore,
    store::{self, ConsumerState},
};
use crate::{
    error::Result,
    position::Position,
    segment::Segments,
    sys::{FileId, names::Names},
};

/// What one consumer still needs of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The consumer's name.
    pub(crate) consumer: String,
    pub(crate) from: Needed,
}

/// From where on it is needed. In the order of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needed {
    /// All that is kept.
    Everything,
    /// What is behind this position: just past the last acknowledged record.
    From {
        position: Position,
        /// The number of the first record needed, in sealed form.
        seq: Option<u64>,
    },
}

/// What the consumers in a checkpoint directory, or the one whose directory it is, still need of a journal. Consumers of other journals are
/// left out. What one that has claimed its name and saved nothing will need is not known: everything.
///
/// # Errors
///
/// If any of them cannot be read: what it needs is not known, so nothing may be pruned.
pub(crate) fn needed(segments: &Segments, dir: &Path, line_bytes_max: u64) -> Result<Vec<Need>> {
    let disk = segments.disk();
    let path = identity::canonical(disk, segments.path());
    let mut files = Vec::new();
    for number in segments.numbers() {
        let segment = segments.get(number)?;
        files.push(segment.file.id().map_err(|error| segment.failed(error))?);
    }
    let mut needs = Vec::new();
    for ConsumerState { name, sources, .. } in store::states(disk, dir)? {
        for checkpoint in sources.iter().map(|source| &source.checkpoint) {
            if let Some(from) = needed_by(segments, &path, &files, checkpoint, line_bytes_max)? {
                needs.push(Need { consumer: name.clone(), from });
            }
        }
    }
    let claimed = store::claimed(disk, dir)?;
    let name = |dir: &Path| dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned();
    needs.extend(claimed.iter().map(|dir| Need { consumer: name(dir), from: Needed::Everything }));
    Ok(needs)
}

/// Nothing if the checkpoint is of another journal.
fn needed_by(segments: &Segments, path: &Path, files: &[FileId], checkpoint: &Checkpoint, line_bytes_max: u64) -> Result<Option<Needed>> {
    let is_at_path = checkpoint.path() == Some(path);
    let has_inode = || checkpoint.file().is_some_and(|file| files.contains(&file));
    // A consumer that is opened on this journal would go on here: it was moved to another file system, say.
    let journals = [segments.path().to_owned()];
    let was_moved = || -> Result<bool> {
        // That the record cannot be looked for is an error here, and keeps everything.
        let may_be = checkpoint.mark().is_none() || restore::is_proved(segments, checkpoint, line_bytes_max)?;
        Ok(may_be && assign::assign(segments.disk(), &Names::default(), &[checkpoint], &journals, line_bytes_max) == [Some(0)])
    };
    if !is_at_path && !has_inode() && !was_moved()? {
        return Ok(None);
    }
    let restore::Restoration { segment, offset, restored } = restore::restore(segments, checkpoint, line_bytes_max)?;
    Ok(match restored {
        Restored::Resumed | Restored::Renamed { .. } => {
            let seq = checkpoint.seq().map(|seq| seq.saturating_add(1));
            Some(Needed::From { position: segment.position(offset), seq })
        }
        // It will start with the first record that is kept.
        _ if is_at_path || restored == Restored::New => Some(Needed::Everything),
        // An inode that was another file's once proves nothing.
        _ => None,
    })
}
