//! What reading had to pass over: how much of it, of which kinds, and where the first of it is.

use std::{collections::BTreeMap, fmt};

use crate::{format::verdict::Code, position::Position, words};

/// How many places are remembered; all are counted.
const PLACES_MAX: usize = 16;

/// What a reader met that is no record: counted, and the first places remembered.
///
/// Blank lines lose nothing, so they are no damage; they are counted beside it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"a\":1}\n{\"a\":\n{\"a\":2}\n")?;
/// let mut records = untorn::Reader::open(&path)?.records::<serde_json::Value>();
/// assert_eq!(records.by_ref().count(), 2);
///
/// let damage = records.damage();
/// assert_eq!(damage.to_string(), "1 damaged line, 6 bytes: 1 not-json; first at byte 8 of segment 1");
/// assert_eq!(damage.count(untorn::Code::NotJson), 1);
/// for place in damage {
///     assert_eq!((place.position.offset, place.len), (8, 6));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    lines: u64,
    bytes: u64,
    blank: u64,
    counts: BTreeMap<Code, u64>,
    /// In the order they were met, never more than [`PLACES_MAX`].
    places: Vec<DamagedPlace>,
}

/// One damaged range.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedPlace {
    /// Where it starts.
    pub position: Position,
    /// Bytes, with the LF if there is one.
    pub len: u64,
    /// What is wrong with it.
    pub code: Code,
}

impl Damage {
    pub(crate) fn add(&mut self, position: Position, len: u64, code: Code) {
        self.lines += 1;
        self.bytes += len;
        *self.counts.entry(code).or_default() += 1;
        if self.places.len() < PLACES_MAX {
            self.places.push(DamagedPlace { position, len, code });
        }
    }

    pub(crate) fn add_blank(&mut self) {
        self.blank += 1;
    }

    /// Whether nothing was damaged.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// How many damaged lines there were; bytes after the last LF count as one.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How many bytes they have together, each with its LF.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many blank lines there were. They are no damage.
    pub fn blank(&self) -> u64 {
        self.blank
    }

    /// How many lines were damaged in this way.
    pub fn count(&self, code: Code) -> u64 {
        self.counts.get(&code).copied().unwrap_or(0)
    }

    /// The kinds of damage that were met, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        self.counts.iter().map(|(code, count)| (*code, *count))
    }

    /// Where the first 16 damaged lines are.
    pub fn places(&self) -> &[DamagedPlace] {
        &self.places
    }
}

impl<'a> IntoIterator for &'a Damage {
    type Item = &'a DamagedPlace;
    type IntoIter = std::slice::Iter<'a, DamagedPlace>;

    fn into_iter(self) -> Self::IntoIter {
        self.places.iter()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.places.first() else { return f.write_str("no damage") };
        write!(f, "{}, {}", words::count(self.lines, "damaged line"), words::count(self.bytes, "byte"))?;
        let mut separator = ": ";
        for (code, count) in &self.counts {
            write!(f, "{separator}{} {code}", words::grouped(*count))?;
            separator = ", ";
        }
        write!(f, "; first at byte {} of segment {}", words::grouped(first.position.offset), first.position.segment)
    }
}
