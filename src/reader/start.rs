//! Finds where reading starts.

use crate::{
    checkpoint::{self, Restoration, Restored},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LF, WINDOW_BYTES_DEFAULT, seal::Seal},
    judge::Found,
    position::{Mark, Position},
    scan::Scanner,
    seek::Stretch,
    segment::{Segment, Segments},
};

use super::{
    last::{self, Last},
    line,
    options::Start,
};

/// Where reading starts.
pub(crate) struct Started {
    pub(crate) segment: Segment,
    /// In the segment's file.
    pub(crate) offset: u64,
    /// How a checkpoint was taken up.
    pub(crate) restored: Option<Restored>,
    /// An earlier line of a batch that the start is inside of, and that is not whole.
    pub(crate) withheld: Option<Seal>,
}

impl Started {
    fn at((segment, offset): (Segment, u64)) -> Started {
        Started { segment, offset, restored: None, withheld: None }
    }
}

/// Finds where reading starts.
pub(crate) fn find(segments: &Segments, start: &Start, line_bytes_max: u64) -> Result<Started> {
    let search = Search { segments, line_bytes_max };
    let found = match start {
        Start::Beginning => segments.oldest().map(at_start),
        Start::End => search.end(),
        Start::Seq(seq) => search.seq(*seq),
        Start::Position(position) => search.position(*position),
        Start::After(mark) => search.after(*mark),
        Start::Last(records) => return search.last(*records),
        Start::Checkpoint(checkpoint) => {
            let Restoration { segment, offset, restored } = checkpoint::restore(segments, checkpoint, line_bytes_max)?;
            return Ok(Started { segment, offset, restored: Some(restored), withheld: None });
        }
    };
    found.map(Started::at)
}

fn at_start(segment: Segment) -> (Segment, u64) {
    let start = segment.start;
    (segment, start)
}

/// Looks for a place in a journal.
pub(crate) struct Search<'a> {
    pub(crate) segments: &'a Segments,
    pub(crate) line_bytes_max: u64,
}

impl Search<'_> {
    pub(crate) fn lines<'a>(&self, segment: &'a Segment) -> Stretch<'a> {
        segment.stretch(self.line_bytes_max)
    }

    /// Behind the last LF, and nothing to read there.
    fn end(&self) -> Result<(Segment, u64)> {
        let mut segment = self.segments.newest()?;
        let (boundary, _) = self.lines(&segment).tail().map_err(|error| segment.failed(error))?;
        segment.end = boundary;
        Ok((segment, boundary))
    }

    fn seq(&self, seq: u64) -> Result<(Segment, u64)> {
        self.check_sealed()?;
        self.first_from(seq)
    }

    /// The first record whose number is at least `seq`, or the end.
    pub(crate) fn first_from(&self, seq: u64) -> Result<(Segment, u64)> {
        let mut next = Some(self.newest_that_begins_at_most_with(seq)?);
        while let Some(segment) = next {
            if let Some(line) = self.lines(&segment).first_from(seq).map_err(|error| segment.failed(error))? {
                return Ok((segment, line.span.start));
            }
            next = self.segments.after(segment.number)?;
        }
        self.end()
    }

    /// The newest segment whose first number is not greater than `seq`; the oldest one if there is none.
    ///
    /// A segment without sealed lines tells nothing, so the search goes on before it: what it misses is found from there on.
    fn newest_that_begins_at_most_with(&self, seq: u64) -> Result<Segment> {
        let mut found = self.segments.oldest()?;
        let numbers: Vec<u64> = self.segments.numbers().collect();
        let mut rest = numbers.get(1..).unwrap_or_default();
        while let Some((middle, behind)) = rest.get(rest.len() / 2..).and_then(<[u64]>::split_first) {
            let segment = self.segments.get(*middle)?;
            let first = self.lines(&segment).first_sealed(u64::MAX).map_err(|error| segment.failed(error))?;
            if first.is_some_and(|first| first.seal.seq <= seq) {
                found = segment;
                rest = behind;
            } else {
                rest = rest.get(..rest.len() / 2).unwrap_or_default();
            }
        }
        Ok(found)
    }

    /// Refuses a journal whose newest lines are plain. One without any record has numbers still to come.
    fn check_sealed(&self) -> Result<()> {
        let mut next = Some(self.segments.newest()?);
        while let Some(segment) = next {
            let failed = |error| segment.failed(error);
            let lines = self.lines(&segment);
            let (boundary, tail) = lines.tail().map_err(failed)?;
            if boundary > segment.start || tail.is_some_and(|tail| tail.is_record()) {
                let first_line = lines.first_sealed(1).map_err(failed)?;
                let is_sealed = first_line.is_some() || lines.last_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)?.is_some();
                return if is_sealed {
                    Ok(())
                } else {
                    Err(Error::new(ErrorKind::NotSealed, Attempt::Read).on(&segment.path).detail("a plain journal has no numbers"))
                };
            }
            next = self.segments.before(segment.number)?;
        }
        Ok(())
    }

    pub(crate) fn position(&self, position: Position) -> Result<(Segment, u64)> {
        let (segment, offset) = self.resolve(position)?;
        if offset > segment.start {
            let mut before = [0];
            segment.file.read_full_at(&mut before, offset - 1).map_err(|error| segment.failed(error))?;
            if before != [LF] {
                return Err(changed(&segment, offset, "it is inside a line"));
            }
        }
        Ok((segment, offset))
    }

    /// Finds the byte that a position names, in a later segment than it was given out for if need be.
    pub(crate) fn resolve(&self, position: Position) -> Result<(Segment, u64)> {
        let oldest = self.segments.oldest()?;
        if position.segment < oldest.number {
            return Err(self.segments.pruned(position.segment));
        }
        let mut segment = match self.segments.numbers().find(|number| *number == position.segment) {
            Some(number) => self.segments.get(number)?,
            None => return Err(changed(&self.segments.newest()?, position.offset, format!("there is no segment {}", position.segment))),
        };
        let mut offset = position.offset;
        while offset > segment.len() {
            offset -= segment.len();
            segment = match self.segments.after(segment.number)? {
                Some(next) => next,
                None => return Err(changed(&segment, position.offset, format!("the journal ends at byte {}", segment.len()))),
            };
        }
        let offset = segment.start + offset;
        Ok((segment, offset))
    }

    /// Behind the line of a mark: looked for where the mark says, and if it has moved by its number.
    fn after(&self, mark: Mark) -> Result<(Segment, u64)> {
        let here = match self.position(mark.start) {
            Ok((segment, offset)) => self.line_at(&segment, offset)?.filter(|(_, proof)| *proof == Proof::of(&mark)).map(|(end, _)| (segment, end)),
            Err(error) if mark.seq.is_some() && error.kind() != ErrorKind::Io => None,
            Err(error) => return Err(error),
        };
        match (here, mark.seq) {
            (Some(found), _) => Ok(found),
            (None, Some(seq)) => self.after_number(seq, mark),
            (None, None) => Err(self.gone(&mark)),
        }
    }

    fn after_number(&self, seq: u64, mark: Mark) -> Result<(Segment, u64)> {
        let (segment, offset) = self.first_from(seq)?;
        if let Some((end, proof)) = self.line_at(&segment, offset)?
            && proof == Proof::of(&mark)
        {
            return Ok((segment, end));
        }
        let oldest = self.segments.oldest()?;
        let first = self.lines(&oldest).first_sealed(u64::MAX).map_err(|error| oldest.failed(error))?;
        if first.is_some_and(|first| first.seal.seq > seq) {
            return Err(Error::new(ErrorKind::Pruned, Attempt::Read).on(self.segments.path()).detail(format!("record {seq} is no longer kept")));
        }
        Err(self.gone(&mark))
    }

    fn gone(&self, mark: &Mark) -> Error {
        let what = mark.seq.map_or("the line".to_owned(), |seq| format!("record {seq}"));
        let error = Error::new(ErrorKind::Changed, Attempt::Read).on(self.segments.path()).at(mark.start.offset);
        error.detail(format!("{what} with CRC {:08x} is not there", mark.crc))
    }

    /// Where the line of the record at a boundary ends, and what proves it.
    pub(crate) fn line_at(&self, segment: &Segment, offset: u64) -> Result<Option<(u64, Proof)>> {
        let mut lines = Scanner::new(offset, segment.end, self.line_bytes_max);
        let Some(span) = lines.next(&segment.file).map_err(|error| segment.failed(error))? else { return Ok(None) };
        let found = Found::of(span, lines.bytes());
        let proof = Proof { seq: found.seal.map(|seal| seal.seq), crc: line::crc(&found, lines.bytes()) };
        Ok(found.is_record().then(|| (found.end(), proof)))
    }

    fn last(&self, records: u64) -> Result<Started> {
        if records == 0 {
            return self.end().map(Started::at);
        }
        let mut missing = records;
        let mut segment = self.segments.newest()?;
        loop {
            let found = last::nth_last(&self.lines(&segment), &mut missing).map_err(|error| segment.failed(error))?;
            if let Some(Last { start, withheld }) = found {
                return Ok(Started { withheld, ..Started::at((segment, start)) });
            }
            match self.segments.before(segment.number)? {
                Some(before) => segment = before,
                None => return Ok(Started::at(at_start(segment))),
            }
        }
    }
}

/// What identifies a record: its number and CRC; of a plain one the CRC, where it stands.
#[derive(PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) seq: Option<u64>,
    pub(crate) crc: u32,
}

impl Proof {
    pub(crate) fn of(mark: &Mark) -> Proof {
        Proof { seq: mark.seq, crc: mark.crc }
    }
}

fn changed(segment: &Segment, offset: u64, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Changed, Attempt::Read).on(&segment.path).at(offset).detail(why)
}
