//! What a follower gives: records that own their bytes, and what happened to the files they come from.

use std::{borrow::Cow, fmt, ops::Range};

use serde::Deserialize;

use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::seal,
    judge::Found,
    position::Mark,
    reader::Record,
    verify::Finding,
};

/// One thing that a follower has to tell.
#[derive(Debug)]
pub enum Followed {
    /// A record, whole and with its LF.
    Record(Record<Payload>),
    /// Something happened to the journal. Records go on behind it.
    Event(FollowEvent),
}

/// What happened to a journal while it was followed. Nothing is skipped or repeated without one of these.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum FollowEvent {
    /// The active segment became an archived one and was read to its end; what follows comes from the next segment.
    #[non_exhaustive]
    Rotated {
        /// The number of the segment that is read now.
        segment: u64,
    },
    /// The path names another file: a repair or an archive put it there, or somebody else did. What the old file held was read to its end.
    #[non_exhaustive]
    Replaced {
        /// Whether the record that was read last is in the new file, so that reading goes on behind it. Else it starts with the first record
        /// there, and records may come again.
        resumed: bool,
    },
    /// The file is shorter than what was read of it, or holds other bytes in its place. What was pending is dropped.
    #[non_exhaustive]
    Truncated {
        /// How far it had been read.
        read: u64,
        /// Where reading goes on: behind the record that was read last if it is still there, else at the first record of the file, and records
        /// may come again.
        from: u64,
    },
    /// The path names nothing any more. What the file held was read; if a file appears there, it is read.
    Deleted,
    /// Records were deleted before they were read. Reading goes on with the first one that is kept.
    #[non_exhaustive]
    Pruned {
        /// The segment that was to be read.
        segment: u64,
    },
    /// A damaged line was passed over.
    Corrupt(Finding),
    /// It has been gone for so long that its place is no longer kept. If it comes back, it is consumed from its first record. Only a consumer says so.
    Forgotten,
    /// So much is in flight that nothing more is delivered until a ticket is settled. Only a consumer says so.
    #[non_exhaustive]
    Stalled {
        /// The record whose ticket is the oldest that is not settled.
        oldest: Mark,
        /// How many records are in flight.
        records: usize,
        /// How many bytes they have.
        bytes: usize,
    },
}

/// The payload of a record, byte for byte as it was appended.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// The line, without what stood around it, except for one byte of the seal that gave way to the payload's last one.
    text: Box<[u8]>,
    payload: Range<usize>,
    /// Where that byte was, and what.
    displaced: Option<(usize, u8)>,
}

impl Payload {
    /// Takes the payload out of a line's bytes.
    pub(crate) fn of(found: &Found, bytes: &[u8]) -> Payload {
        let mut text: Box<[u8]> = bytes.get(found.text.clone()).unwrap_or_default().into();
        let Some(seal) = &found.seal else { return Payload { payload: 0..text.len(), text, displaced: None } };
        let displaced = text.get(seal.close).map(|byte| (seal.close, *byte));
        let len = text.len();
        let inner = seal::payload(&mut text, seal).len();
        // A payload that is wrapped ends where the wrapping was closed, and any other one begins with its line.
        let start = seal.close.saturating_sub(inner);
        Payload { text, payload: start.min(len)..(start + inner).min(len), displaced }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(self.payload.clone()).unwrap_or_default()
    }

    /// The line as it is on disk, its seal included, without LF and surrounding white space.
    pub fn line(&self) -> Cow<'_, [u8]> {
        match self.displaced {
            Some((at, byte)) if self.text.get(at) != Some(&byte) => {
                let mut line = self.text.to_vec();
                line.get_mut(at).into_iter().for_each(|place| *place = byte);
                Cow::Owned(line)
            }
            _ => Cow::Borrowed(&self.text),
        }
    }

    /// Decodes the payload; the type may borrow from it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the record is no value of this type.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(self.as_bytes()).map_err(|error| Error::json(ErrorKind::Decode, Attempt::Decode, error))
    }

    /// How much memory it takes.
    pub(crate) fn bytes_kept(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&String::from_utf8_lossy(self.as_bytes())).finish()
    }
}

impl fmt::Display for FollowEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FollowEvent::Rotated { .. } => f.write_str("rotated, reading on in the new file"),
            FollowEvent::Replaced { resumed: true } => f.write_str("replaced by another file, reading on behind the last record"),
            FollowEvent::Replaced { resumed: false } => f.write_str("replaced by another file, reading that from its first record"),
            FollowEvent::Truncated { from: 0, .. } => f.write_str("truncated, reading from its start"),
            FollowEvent::Truncated { from, .. } => write!(f, "truncated, reading on at byte {}", crate::words::grouped(*from)),
            FollowEvent::Deleted => f.write_str("deleted, waiting for a new file"),
            FollowEvent::Pruned { .. } => f.write_str("records were deleted before they were read; reading on with the first that is kept"),
            FollowEvent::Corrupt(finding) => write!(f, "{}: {}", finding.code, finding.message),
            FollowEvent::Forgotten => f.write_str("gone for long, its place is no longer kept"),
            FollowEvent::Stalled { records, .. } => {
                write!(f, "{} in flight, waiting until the oldest is settled", crate::words::count(*records as u64, "record"))
            }
        }
    }
}
