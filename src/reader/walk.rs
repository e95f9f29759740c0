//! The walk over one segment: each line judged, each batch taken as one.

use std::io;

use super::batch::Batch;
use crate::{format::verdict::Verdict, judge::Found, neighbours::Neighbours, scan::Scanner, segment::Segment};

/// The walk over one segment, from a boundary to its end.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) segment: Segment,
    pub(super) lines: Scanner,
    /// A second walk, in front of the first by no more than one batch.
    ahead: Scanner,
    batch: Option<Batch>,
    /// How many lines were met, if all from the file's first one on were.
    pub(super) number: Option<u64>,
    /// Just past the last line met; in front of bytes that are torn.
    pub(super) offset: u64,
    line_bytes_max: u64,
    neighbours: Neighbours,
}

impl Walk {
    pub(super) fn new(segment: Segment, offset: u64, line_bytes_max: u64) -> Walk {
        let lines = Scanner::new(offset, segment.end, line_bytes_max);
        let ahead = Scanner::new(offset, segment.end, line_bytes_max);
        Walk { segment, lines, ahead, batch: None, number: (offset == 0).then_some(0), offset, line_bytes_max, neighbours: Neighbours::default() }
    }

    /// The next line; its bytes are in `lines`. After an error the same line is tried again.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let Some(span) = self.lines.next(&self.segment.file)? else { return Ok(None) };
        let mut found = Found::of(span, self.lines.bytes());
        if !self.is_of_whole_batch(&found).inspect_err(|_| self.lines.seek(span.start))? {
            found.verdict = Verdict::Torn;
        }
        self.neighbours.learn(&found, self.lines.bytes());
        if let Verdict::Corrupt(code) = found.verdict {
            found.verdict = Verdict::Corrupt(self.neighbours.code(code, &found, self.lines.bytes()));
        }
        let is_torn_tail = found.verdict == Verdict::Torn && !span.terminated;
        self.offset = if is_torn_tail { span.start } else { found.end() };
        self.number = self.number.map(|number| number + 1);
        Ok(Some(found))
    }

    /// Whether a line stands alone, or in a batch of which all is there. A batch ends with the first sealed line that is none of its own.
    fn is_of_whole_batch(&mut self, found: &Found) -> io::Result<bool> {
        let Some(seal) = found.seal else { return Ok(true) };
        if let Some(is_whole) = self.batch.as_mut().and_then(|batch| batch.take(&seal)) {
            return Ok(is_whole);
        }
        self.batch = None;
        if seal.more == 0 {
            return Ok(true);
        }
        let batch = Batch::look_ahead(&self.segment.file, &mut self.ahead, found, seal, self.line_bytes_max)?;
        self.batch = Some(batch);
        Ok(batch.is_whole)
    }
}
