//! What tells one file from another: its journal's path, its inode, its fingerprint.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::Result,
    fingerprint::Fingerprint,
    position::Position,
    segment::{Segment, Segments},
    sys::{Disk, FileId},
};

/// One segment's file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The one absolute path of the journal's active segment, so that a journal that is reached by two paths is one.
    pub(crate) path: Arc<Path>,
    pub(crate) file: FileId,
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Identity {
    /// Reads the first line of the segment.
    pub(crate) fn of(segments: &Segments, segment: &Segment) -> Result<Identity> {
        let failed = |error| segment.failed(error);
        let path = canonical(segments.disk(), segments.path()).into();
        Ok(Identity { path, file: segment.file.id().map_err(failed)?, fingerprint: Fingerprint::of(&segment.file).map_err(failed)? })
    }

    /// The identity of the segment that holds a position, or of the newest one if none has that number.
    pub(crate) fn of_position(segments: &Segments, position: Position) -> Result<Identity> {
        let segment = match segments.numbers().find(|number| *number == position.segment) {
            Some(number) => segments.get(number)?,
            None => segments.newest()?,
        };
        Identity::of(segments, &segment)
    }
}

/// The one absolute path of a file, which need not be there.
pub(crate) fn canonical(disk: &Disk, path: &Path) -> PathBuf {
    let in_dir = || {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(disk.canonical(dir).ok()?.join(path.file_name()?))
    };
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    disk.canonical(path).ok().or_else(in_dir).unwrap_or_else(absolute)
}
