//! Places in a journal: a position is a segment and an offset, a mark is one line with its proof.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A place in a journal: a segment and a byte offset in it.
///
/// Positions order as the journal does: by segment, then by offset. The number of the active segment is one more than that of the newest
/// archived segment, so a position stays valid when the active segment is rotated; one past the end of an archived segment goes on in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The number of the segment, from 1.
    pub segment: u64,
    /// Bytes from the start of the segment's file. Lines at the head of it that are also in the segment before, as a crash inside `archive` leaves
    /// them, do not count.
    pub offset: u64,
}

impl Position {
    pub(crate) fn new(segment: u64, offset: u64) -> Position {
        Position { segment, offset }
    }
}

/// Where the positions of one segment are counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// The first byte of its file that is not also in the segment before.
    pub(crate) start: u64,
}

impl Origin {
    /// The position of a byte of the file.
    pub(crate) fn position(self, offset: u64) -> Position {
        Position::new(self.segment, offset.saturating_sub(self.start))
    }
}

/// One line with its proof: where it stands, its number, and a CRC that only this line is likely to have.
///
/// A mark is a plain value to be stored beside whatever was derived from the record. In a sealed journal the number and the CRC together name
/// the record for ever; after a power cut the number alone may be given again.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The record's number; `None` for a plain line.
    pub seq: Option<u64>,
    /// Where the line starts, always on a boundary.
    pub start: Position,
    /// Just past the line's LF; for a line that lacks its LF, the end of its last byte.
    pub end: Position,
    /// Of a sealed line the CRC in its seal; of any other line the CRC-32 of its bytes without surrounding white space.
    pub crc: u32,
}

/// A mark as checkpoints and snapshots write it: flat, the CRC as it stands in a seal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WrittenMark {
    seq: Option<u64>,
    crc: String,
    segment: u64,
    start: u64,
    end: u64,
}

impl From<Mark> for WrittenMark {
    fn from(mark: Mark) -> WrittenMark {
        let crc = format!("{:08x}", mark.crc);
        WrittenMark { seq: mark.seq, crc, segment: mark.start.segment, start: mark.start.offset, end: mark.end.offset }
    }
}

impl WrittenMark {
    /// None if the CRC is none.
    pub(crate) fn mark(self) -> Option<Mark> {
        let crc = u32::from_str_radix(&self.crc, 16).ok().filter(|_| self.crc.len() == 8)?;
        let at = |offset| Position { segment: self.segment, offset };
        Some(Mark { seq: self.seq, start: at(self.start), end: at(self.end.max(self.start)), crc })
    }
}

/// What an append put into the journal: one record, or one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub(crate) mark: Mark,
    pub(crate) records: u64,
    pub(crate) len: u64,
    pub(crate) bytes_by_others: u64,
    pub(crate) bytes_cut_by_others: u64,
    pub(crate) fragment: Option<(Position, Position)>,
}

impl Appended {
    /// The line of the record; of a batch, the line of its last record.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// The record's number; of a batch, the number of its last record. `None` in plain form.
    pub fn seq(&self) -> Option<u64> {
        self.mark.seq
    }

    /// How many records: 1, or the length of the batch.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes on disk, LF included.
    #[expect(clippy::len_without_is_empty, reason = "an append is never empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes that others appended since this writer's last append, or since it was opened.
    pub fn bytes_by_others(&self) -> u64 {
        self.bytes_by_others
    }

    /// Bytes that others cut from the end of the file since this writer's last append; 0 unless somebody truncated the journal.
    pub fn bytes_cut_by_others(&self) -> u64 {
        self.bytes_cut_by_others
    }

    /// A damaged range in front of this record, if a stranger wrote into the middle of the append.
    ///
    /// The record itself is whole, on a line of its own behind the range; `untorn repair` can salvage what the stranger wrote.
    pub fn fragment(&self) -> Option<Range<Position>> {
        self.fragment.map(|(start, end)| start..end)
    }
}
