//! The walk over one segment: each line judged, each batch taken as one.

use std::io;

use super::batch::Batch;
use crate::{
    format::{seal::Seal, verdict::Verdict},
    judge::Found,
    neighbours::Neighbours,
    scan::Scanner,
    segment::Segment,
};

/// The walk over one segment, from a boundary to its end.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) segment: Segment,
    pub(crate) lines: Scanner,
    /// A second walk, in front of the first by no more than one batch.
    ahead: Scanner,
    batch: Option<Batch>,
    /// Whether the line to be read next begins a batch whose end is not there yet.
    pub(crate) awaits_batch: bool,
    /// How many lines were met, if all from the file's first one on were.
    pub(crate) number: Option<u64>,
    /// Just past the last line met; in front of bytes that are torn.
    pub(crate) offset: u64,
    line_bytes_max: u64,
    neighbours: Neighbours,
}

impl Walk {
    pub(crate) fn new(segment: Segment, offset: u64, line_bytes_max: u64) -> Walk {
        let lines = Scanner::new(offset, segment.end, line_bytes_max);
        let ahead = Scanner::new(offset, segment.end, line_bytes_max);
        Walk {
            segment,
            lines,
            ahead,
            batch: None,
            awaits_batch: false,
            number: (offset == 0).then_some(0),
            offset,
            line_bytes_max,
            neighbours: Neighbours::default(),
        }
    }

    /// Withholds what follows of a batch that is not whole.
    pub(crate) fn withhold(&mut self, seal: Seal) {
        self.batch = Some(Batch::not_whole(seal));
    }

    /// The next line that nothing appended later can change; `None` where the rest of what there is now is not finished.
    ///
    /// Bytes that are unfinished are forgotten: a rollback may cut them, and others come in their place. So a line is read in one go with its
    /// LF, and so is a batch, or again once its end was seen; what looks corrupt is looked at twice. Whole lines that were read ahead are given as
    /// they were then. Whether new bytes follow those that were given before, the caller finds out.
    pub(crate) fn next_finished(&mut self) -> io::Result<Option<Found>> {
        self.awaits_batch = false;
        loop {
            self.lines.forget_unfinished();
            let Some(span) = self.lines.next(&self.segment.file)? else { return Ok(None) };
            if !span.terminated {
                self.lines.seek(span.start);
                return Ok(None);
            }
            let found = Found::of(span, self.lines.bytes());
            let begins_batch = match found.seal {
                Some(seal) if self.batch.as_ref().is_none_or(|batch| !batch.has(&seal)) => {
                    self.batch = None;
                    seal.more > 0
                }
                _ => false,
            };
            let is_doubtful = matches!(found.verdict, Verdict::Corrupt(_)) && !span.too_long;
            if let Some(seal) = found.seal.filter(|_| begins_batch) {
                self.batch = Batch::read_ahead(&self.segment.file, &self.lines, &found, seal, self.line_bytes_max);
            }
            if begins_batch && self.batch.is_none() || is_doubtful {
                let seen = crc32fast::hash(self.lines.bytes());
                if let Some(seal) = found.seal.filter(|_| begins_batch) {
                    self.ahead.forget();
                    let looked = Batch::look_ahead(&self.segment.file, &mut self.ahead, &found, seal, self.line_bytes_max);
                    let batch = looked.inspect_err(|_| self.lines.seek(span.start))?;
                    if batch.is_unfinished {
                        self.awaits_batch = true;
                        self.lines.seek(span.start);
                        return Ok(None);
                    }
                    self.batch = Some(batch);
                }
                self.lines.seek(span.start);
                let again = self.lines.next(&self.segment.file)?;
                if again != Some(span) || crc32fast::hash(self.lines.bytes()) != seen {
                    self.batch = None;
                    self.lines.seek(span.start);
                    continue;
                }
            }
            let is_whole = match &self.batch {
                Some(batch) if begins_batch => batch.is_whole,
                _ => self.is_of_whole_batch(&found)?,
            };
            return Ok(Some(self.judged(found, is_whole)));
        }
    }

    /// Reads on to a later end: the file has grown.
    pub(crate) fn extend_to(&mut self, end: u64) {
        self.segment.end = self.segment.end.max(end);
        self.lines.extend_to(end);
        self.ahead.extend_to(end);
    }

    /// The next line; its bytes are in `lines`. After an error the same line is tried again.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        let Some(span) = self.lines.next(&self.segment.file)? else { return Ok(None) };
        let found = Found::of(span, self.lines.bytes());
        let is_whole = self.is_of_whole_batch(&found).inspect_err(|_| self.lines.seek(span.start))?;
        Ok(Some(self.judged(found, is_whole)))
    }

    /// Judges a line by what is around it, and goes behind it.
    fn judged(&mut self, mut found: Found, is_whole: bool) -> Found {
        let span = found.span;
        if !is_whole {
            found.verdict = Verdict::Torn;
        }
        self.neighbours.learn(&found, self.lines.bytes());
        if let Verdict::Corrupt(code) = found.verdict {
            found.verdict = Verdict::Corrupt(self.neighbours.code(code, &found, self.lines.bytes()));
        }
        let is_torn_tail = found.verdict == Verdict::Torn && !span.terminated;
        self.offset = if is_torn_tail { span.start } else { found.end() };
        self.number = self.number.map(|number| number + 1);
        found
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
