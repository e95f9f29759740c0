//! Reading: lines with their verdicts, and above them typed records.
//!
//! Reading never writes and takes no lock, so it works on read-only files and beside a live writer. Whatever the bytes are, each line gets a
//! verdict and reading goes on; an error means that the system failed, or that the caller asked to stop. What is no record is counted in a
//! [`Damage`]. Memory is bounded by the line limit.

mod batch;
mod last;
pub(crate) mod line;
mod options;
pub(crate) mod records;
pub(crate) mod start;
pub(crate) mod walk;

use std::path::Path;

use serde::de::DeserializeOwned;

pub use self::{
    line::Line,
    options::{OnCorrupt, ReadOptions, Start},
    records::{Record, Records},
};
use self::{start::Started, walk::Walk};
use crate::{
    checkpoint::Restored,
    damage::Damage,
    error::Result,
    format::verdict::{Code, Verdict},
    judge::Found,
    position::Position,
    segment::Segments,
    verify::live,
};

/// Reads the lines of a journal, archived segments first, up to where it ended when it was opened.
///
/// [`records`](Reader::records) gives typed records, [`next_line`](Reader::next_line) every line with its verdict.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"n\":1}\n\n{\"n\":2\n{\"n\":3}\n")?;
///
/// let mut reader = untorn::Reader::open(&path)?;
/// let mut verdicts = Vec::new();
/// while let Some(line) = reader.next_line()? {
///     verdicts.push(line.verdict());
/// }
/// use untorn::{Code, Verdict};
/// assert_eq!(verdicts, [Verdict::Plain, Verdict::Blank, Verdict::Corrupt(Code::NotJson), Verdict::Plain]);
///
/// let last = untorn::Reader::options().from(untorn::Start::Last(1)).open(&path)?;
/// let numbers: Vec<_> = last.records::<serde_json::Value>().map(|record| Ok(record?.value["n"].clone())).collect::<untorn::Result<_>>()?;
/// assert_eq!(numbers, [3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    segments: Segments,
    walk: Walk,
    /// Where to stop, if before the end of the journal.
    end: Option<Position>,
    on_corrupt: Option<OnCorrupt>,
    line_bytes_max: u64,
    damage: Damage,
    restored: Option<Restored>,
}

impl Reader {
    /// The options to open a journal with.
    pub fn options() -> ReadOptions {
        ReadOptions::default()
    }

    /// Opens the journal at `path` to read all of it.
    ///
    /// # Errors
    ///
    /// As [`ReadOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Reader> {
        Reader::options().open(path)
    }

    /// The rest of the journal as records of one type. Corrupt lines are counted and passed over, unless the options say otherwise.
    pub fn records<T: DeserializeOwned>(mut self) -> Records<T> {
        self.skip_corrupt();
        Records::new(self)
    }

    /// The next line, whatever it is; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the system fails: calling again tries the same line again. With [`OnCorrupt::Stop`], at a corrupt line: calling again goes on behind it.
    /// Content is never an error otherwise.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        let Some(found) = self.advance()? else { return Ok(None) };
        let Walk { segment, lines, number, .. } = &mut self.walk;
        let bytes = lines.bytes_mut();
        let shown = if found.is_record() && !found.span.terminated { found.text.end } else { bytes.len() };
        let bytes = bytes.get_mut(..shown).unwrap_or_default();
        Ok(Some(Line { bytes, found, segment, number: *number, displaced: None }))
    }

    /// The files that are read.
    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Corrupt lines are passed over from now on, unless the options said otherwise.
    pub(crate) fn skip_corrupt(&mut self) {
        self.on_corrupt.get_or_insert(OnCorrupt::Skip);
    }

    /// Goes on, or back, to where this start is; the end stays where it is.
    pub(crate) fn go_to(&mut self, start: &Start) -> Result<()> {
        let Started { segment, offset, restored, withheld } = start::find(&self.segments, start, self.line_bytes_max)?;
        self.walk = Walk::new(options::cut(segment, self.end), offset, self.line_bytes_max);
        if let Some(seal) = withheld {
            self.walk.withhold(seal);
        }
        self.restored = restored;
        Ok(())
    }

    /// What was passed over or given out as damage so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// How the checkpoint of [`Start::Checkpoint`] was taken up; `None` after any other start.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Just past the last line given, and in front of torn bytes at the end: where [`Start::Position`] goes on.
    ///
    /// Behind a record that lacks its LF it is no boundary; [`Start::After`] with the record's mark goes on there.
    pub fn position(&self) -> Position {
        self.walk.segment.position(self.walk.offset)
    }

    /// Whether somebody is writing at the end of the segment being read: what is torn there may only be unfinished, and no damage.
    ///
    /// It is seen from outside, as [`verify`](fn@crate::verify) does, by the lock and by a size that changes. Only where a process has the file open
    /// for writing without our lock does it take a fifth of a second. Ask when the last line that was given is torn.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub fn is_live(&self) -> Result<bool> {
        let segment = &self.walk.segment;
        let live = live::look(self.segments.disk(), &segment.file, segment.end, true);
        live.map(|live| live.is_some()).map_err(|error| segment.failed(error))
    }

    /// Goes to the next line that is to be given out.
    fn advance(&mut self) -> Result<Option<Found>> {
        loop {
            let offset = self.walk.offset;
            let Some(found) = self.walk.next().map_err(|error| self.walk.segment.failed(error).at(offset))? else {
                match self.segments.after(self.walk.segment.number)? {
                    Some(segment) => {
                        let start = segment.start;
                        self.walk = Walk::new(options::cut(segment, self.end), start, self.line_bytes_max);
                        continue;
                    }
                    None => return Ok(None),
                }
            };
            self.count(&found);
            match (found.verdict, self.on_corrupt.unwrap_or(OnCorrupt::Yield)) {
                (Verdict::Corrupt(code), OnCorrupt::Stop) => {
                    let Walk { segment, lines, number, .. } = &self.walk;
                    return Err(line::corrupt(segment, &found, *number, code, lines.bytes()));
                }
                (Verdict::Corrupt(_), OnCorrupt::Skip) | (Verdict::Torn, OnCorrupt::Skip | OnCorrupt::Stop) => {}
                _ => return Ok(Some(found)),
            }
        }
    }

    fn count(&mut self, found: &Found) {
        let segment = &self.walk.segment;
        let code = match found.verdict {
            Verdict::Corrupt(code) => code,
            Verdict::Torn if found.seal.is_some() => Code::OpenBatch,
            Verdict::Torn => Code::TornTail,
            Verdict::Blank => return self.damage.add_blank(),
            Verdict::Sealed | Verdict::Plain => {
                if let Some(torn) = found.torn_behind() {
                    self.damage.add(segment.position(torn.start), torn.end - torn.start, Code::TornTail);
                }
                return;
            }
        };
        self.damage.add(segment.position(found.span.start), found.span.len(), code);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    /// What a writer that has the lock appends next is none of what is resumed from.
    #[test]
    fn a_reader_that_was_given_an_end_reads_nothing_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        std::fs::write(dir.path().join("j.000001.jsonl"), "1\n2\n").unwrap();
        std::fs::write(&path, "3\n4\n").unwrap();
        for (segment, offset, expected) in [(1, 0, 0), (1, 2, 1), (1, 4, 2), (2, 0, 2), (2, 2, 3), (2, 4, 4), (2, 99, 4)] {
            let end = Position::new(segment, offset);
            let reader = Reader::options().until(end).open(&path).unwrap();
            assert_eq!(reader.records::<u64>().filter_map(Result::ok).count(), expected, "until {end:?}");
        }
    }
}
