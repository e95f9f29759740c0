//! How a journal is read: from where, and what corrupt lines mean.

use std::path::Path;

use super::{
    Reader, Walk,
    start::{self, Started},
};
use crate::{
    checkpoint::Checkpoint,
    error::Result,
    format::LINE_BYTES_MAX_DEFAULT,
    position::{Mark, Position},
    segment::{Segment, Segments},
    sys::Disk,
};

/// Where reading starts.
///
/// A record is found without reading what is before it. Starting inside a batch is fine: the rest of it is given if its end is there.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first line that is kept.
    #[default]
    Beginning,
    /// Behind the last LF, reading nothing of what is there now. [`Reader::position`] tells where that is.
    End,
    /// With the first record whose number is at least this.
    ///
    /// Found by bisecting, because numbers rise. Where lines met on the way contradict that, the file is searched from its start. A plain journal
    /// has no numbers: [`ErrorKind::NotSealed`](crate::ErrorKind::NotSealed).
    Seq(u64),
    /// At this boundary. Past the end of an archived segment it goes on in the next one, as positions do after a rotation or an archive.
    ///
    /// Inside a line, or past the end: [`ErrorKind::Changed`](crate::ErrorKind::Changed).
    Position(Position),
    /// Behind this line, which must be there still, wherever it is by now: the same number and CRC, or in a plain journal the same bytes in the
    /// same place.
    ///
    /// Else [`ErrorKind::Changed`](crate::ErrorKind::Changed), or [`ErrorKind::Pruned`](crate::ErrorKind::Pruned) if it is older than all that
    /// is kept.
    After(Mark),
    /// With the last so many records, found backwards. Blank lines and damage do not count.
    Last(u64),
    /// Behind the record that this checkpoint names, if that is proved to be there; else with the first line that is kept. How it went is told by
    /// [`Reader::restored`].
    Checkpoint(Checkpoint),
}

/// What happens at a line that is corrupt. It is counted in [`Damage`](crate::Damage) in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorrupt {
    /// It is passed over. Torn bytes and blank lines are too.
    Skip,
    /// Reading stops with [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), which says where and why.
    Stop,
    /// It is given out: by [`Reader::next_line`] as a line, by [`Records`](super::Records) as an error.
    Yield,
}

/// How a journal is read. Made by [`Reader::options`].
#[derive(Clone, Debug)]
pub struct ReadOptions {
    disk: Disk,
    start: Start,
    end: Option<Position>,
    active_only: bool,
    on_corrupt: Option<OnCorrupt>,
    line_bytes_max: u64,
}

impl Default for ReadOptions {
    fn default() -> ReadOptions {
        let line_bytes_max = LINE_BYTES_MAX_DEFAULT;
        ReadOptions { disk: Disk::default(), start: Start::Beginning, end: None, active_only: false, on_corrupt: None, line_bytes_max }
    }
}

impl ReadOptions {
    /// Where to start. Default: [`Start::Beginning`].
    pub fn from(&mut self, start: Start) -> &mut ReadOptions {
        self.start = start;
        self
    }

    /// Reads the active segment only. Default: the whole journal, archived segments first.
    pub fn active_only(&mut self) -> &mut ReadOptions {
        self.active_only = true;
        self
    }

    /// What to do at a corrupt line. Default: [`OnCorrupt::Yield`] for lines, [`OnCorrupt::Skip`] for records.
    pub fn on_corrupt(&mut self, how: OnCorrupt) -> &mut ReadOptions {
        self.on_corrupt = Some(how);
        self
    }

    /// How long a line, or the lines of one batch, may be in bytes, LF included. Default: 64 MiB.
    ///
    /// It bounds the reader's memory. A longer line is counted as damage and passed over; a longer batch is withheld.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut ReadOptions {
        self.line_bytes_max = max;
        self
    }

    /// Where to stop, whatever is there. Default: where the journal ended when it was opened.
    pub(crate) fn until(&mut self, end: Position) -> &mut ReadOptions {
        self.end = Some(end);
        self
    }

    pub(crate) fn on(&mut self, disk: Disk) -> &mut ReadOptions {
        self.disk = disk;
        self
    }

    /// Reads from an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut ReadOptions {
        self.on(Disk { sim: Some(disk.clone()) })
    }

    /// Opens the journal at `path`. Takes no lock and writes nothing, so a writer may be at work and the files may be read-only.
    ///
    /// What is appended later is not read. The time does not grow with the journal.
    ///
    /// # Errors
    ///
    /// If there is no such journal, the path is no regular file, or the system fails; and as told for each [`Start`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Reader> {
        let segments = Segments::open(&self.disk, path.as_ref(), !self.active_only)?;
        let Started { segment, offset, restored, withheld } = start::find(&segments, &self.start, self.line_bytes_max)?;
        let mut walk = Walk::new(cut(segment, self.end), offset, self.line_bytes_max);
        if let Some(seal) = withheld {
            walk.withhold(seal);
        }
        let (on_corrupt, line_bytes_max) = (self.on_corrupt, self.line_bytes_max);
        Ok(Reader { segments, walk, end: self.end, on_corrupt, line_bytes_max, damage: Default::default(), restored })
    }
}

/// The part of a segment that is before `end`.
pub(super) fn cut(mut segment: Segment, end: Option<Position>) -> Segment {
    if let Some(end) = end.filter(|end| end.segment <= segment.number) {
        let own = if end.segment == segment.number { end.offset } else { 0 };
        segment.end = segment.end.min(segment.start.saturating_add(own));
    }
    segment
}
