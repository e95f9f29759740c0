//! One chunk of a file, judged line by line: what can be said without knowing the lines before it.
//!
//! A chunk owns the lines that start in it, so chunks can be judged in any order and on any thread. Neighbouring lines of one kind are told as
//! one [`Run`]: a healthy file is a handful of runs, whatever its length.

use std::{io, ops::Range};

use super::Flow;
use crate::{
    format::{
        json::{self, Invalid},
        line::Framed,
        seal::{Seal, Shape},
        verdict::Judged,
    },
    scan::{Scanner, Span},
    sys::File,
};

/// A file as it is judged.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    /// The bytes to judge, from a boundary to the end of the file as it was; what is appended meanwhile is not looked at.
    pub(super) range: Range<u64>,
    pub(super) line_bytes_max: u64,
    /// Parses sealed lines too.
    pub(super) strict: bool,
}

/// Neighbouring lines of one kind, or the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    /// Just past the LF of the first line; never greater than `end`.
    pub(super) first_end: u64,
    pub(super) end: u64,
    pub(super) lines: u64,
    pub(super) kind: Kind,
    pub(super) oddities: Oddities,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sealed(SealedRun),
    /// Records without a seal, none of them equal to its neighbour.
    Plain {
        first: Print,
        last: Print,
    },
    Blank,
    /// One line. Corrupt lines are never joined.
    Corrupt(Corrupt),
    /// The bytes after the last LF.
    Tail,
}

/// Sealed lines whose numbers rise by one, either all of one batch or all of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SealedRun {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The number of the batch's last record, if these are lines of a batch; its last line may stand alone, and looks like no batch then.
    pub(super) batch_end: Option<u64>,
    pub(super) first_crc: u32,
    pub(super) last_crc: u32,
}

/// What two plain records have in common if they are equal, and hardly ever otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Print {
    len: usize,
    crc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Corrupt {
    TooLong,
    /// A compressed file could not be decompressed here.
    Lost,
    Newer,
    Crc {
        says: u32,
        gives: u32,
    },
    /// A byte of the seal itself is off.
    Seal,
    /// The place counts from the start of the line.
    NotJson(Invalid),
    SealedNotJson(Invalid),
}

/// What is legal and worth knowing about a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    pub(super) bom: bool,
    pub(super) crlf: bool,
    pub(super) lone_surrogate: bool,
}

impl Source<'_> {
    /// Judges the lines that start in `chunk`, and tells their runs in order.
    pub(super) fn judge(&self, chunk: &Range<u64>, tell: &mut impl FnMut(Run) -> Flow) -> Flow {
        let Some(mut lines) = self.lines_of(chunk)? else { return Ok(()) };
        let mut open: Option<Run> = None;
        let mut last = LastPlain::default();
        while lines.offset() < chunk.end
            && let Some(span) = lines.next(self.file)?
        {
            let framed = Framed::new(lines.bytes(), span.start == 0);
            let line = self.line(&span, &framed);
            match &mut open {
                Some(run) if run.takes(&line) && !(run.is_plain() && last.is(framed.payload())) => run.extend_by(&line),
                _ => {
                    let first = line.printed(|| Print::of(framed.payload()));
                    if let Some(done) = open.replace(first) {
                        tell(done.ended(|| last.print()))?;
                    }
                }
            }
            if open.as_ref().is_some_and(Run::is_plain) {
                last.keep(framed.payload());
            }
        }
        open.map_or(Ok(()), |done| tell(done.ended(|| last.print())))
    }

    /// Stands at the first boundary in the chunk, if there is one.
    pub(super) fn lines_of(&self, chunk: &Range<u64>) -> io::Result<Option<Scanner>> {
        let Some(before) = chunk.start.checked_sub(1) else {
            return Ok(Some(Scanner::new(0, self.range.end, self.line_bytes_max)));
        };
        // The byte before the chunk may be the LF that makes its start a boundary.
        let mut lines = Scanner::new(before, chunk.end, self.line_bytes_max);
        let found = lines.next(self.file)?.is_some_and(|span| span.terminated);
        lines.extend_to(self.range.end);
        Ok(found.then_some(lines))
    }

    /// Some bytes of the file, fewer if it has become shorter. Only ever asked for what may be in memory at once.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
        let read = self.file.read_full_at(&mut bytes, range.start)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The run of one line; that of a plain line is not printed yet.
    #[inline(always)]
    fn line(&self, span: &Span, framed: &Framed<'_>) -> Run {
        let mut oddities = Oddities { bom: framed.bom > 0, crlf: framed.crlf, lone_surrogate: false };
        let kind = if !span.terminated {
            oddities = Oddities::default();
            Kind::Tail
        } else if span.lost {
            Kind::Corrupt(Corrupt::Lost)
        } else if span.too_long {
            Kind::Corrupt(Corrupt::TooLong)
        } else {
            self.kind(framed, &mut oddities)
        };
        let lines = u64::from(span.terminated);
        Run { start: span.start, first_end: span.end, end: span.end, lines, kind, oddities }
    }

    #[inline(always)]
    fn kind(&self, framed: &Framed<'_>, oddities: &mut Oddities) -> Kind {
        match Judged::of(framed) {
            Judged::Sealed(seal) if self.strict => match json::validate(framed.payload()) {
                Ok(valid) => {
                    oddities.lone_surrogate = valid.lone_surrogate;
                    SealedRun::of(&seal)
                }
                Err(invalid) => Kind::Corrupt(Corrupt::SealedNotJson(in_line(framed, invalid))),
            },
            Judged::Sealed(seal) => SealedRun::of(&seal),
            Judged::Plain(valid) => {
                oddities.lone_surrogate = valid.lone_surrogate;
                Kind::Plain { first: Print::default(), last: Print::default() }
            }
            Judged::Blank => Kind::Blank,
            Judged::CrcMismatch => Kind::Corrupt(match framed.shape() {
                Shape::Sealed(seal) => Corrupt::Crc { says: seal.crc, gives: seal.computed(framed.text) },
                _ => Corrupt::Seal,
            }),
            Judged::NotJson(invalid) => Kind::Corrupt(Corrupt::NotJson(in_line(framed, invalid))),
            Judged::Newer => Kind::Corrupt(Corrupt::Newer),
        }
    }
}

/// Counts the place in the payload from the start of the line.
fn in_line(framed: &Framed<'_>, invalid: Invalid) -> Invalid {
    let indent = framed.text.len() - framed.payload().len();
    Invalid { at: framed.bom + indent + invalid.at, ..invalid }
}

impl SealedRun {
    #[inline(always)]
    pub(super) fn of(seal: &Seal) -> Kind {
        let batch_end = (seal.more > 0).then(|| seal.batch_end());
        Kind::Sealed(SealedRun { first: seal.seq, last: seal.seq, batch_end, first_crc: seal.crc, last_crc: seal.crc })
    }

    /// Whether `line` comes next, in the same batch or outside of any like all before it.
    #[inline(always)]
    fn takes(&self, line: &SealedRun) -> bool {
        let same_batch = match self.batch_end {
            None => line.batch_end.is_none(),
            Some(end) => self.last < end && line.batch_end.unwrap_or(line.first) == end,
        };
        same_batch && self.last.checked_add(1) == Some(line.first)
    }
}

impl Print {
    pub(super) fn of(payload: &[u8]) -> Print {
        Print { len: payload.len(), crc: crc32fast::hash(payload) }
    }
}

/// The payload of the plain line met last. It is kept as it is, since copying it costs less than printing it, and few prints are asked for.
#[derive(Debug, Default)]
struct LastPlain {
    bytes: Vec<u8>,
    /// Instead of the bytes, if there are many.
    print: Option<Print>,
}

impl LastPlain {
    const BYTES_MAX: usize = 4 << 10;

    fn keep(&mut self, payload: &[u8]) {
        self.bytes.clear();
        if payload.len() <= Self::BYTES_MAX {
            self.bytes.extend_from_slice(payload);
            self.print = None;
        } else {
            self.print = Some(Print::of(payload));
        }
    }

    fn is(&self, payload: &[u8]) -> bool {
        match self.print {
            Some(print) => print.len == payload.len() && print == Print::of(payload),
            None => self.bytes == payload,
        }
    }

    fn print(&self) -> Print {
        self.print.unwrap_or_else(|| Print::of(&self.bytes))
    }
}

impl Run {
    /// Lines of one batch, rather than its last one and records of none.
    pub(super) fn is_of_batch(&self) -> bool {
        matches!(&self.kind, Kind::Sealed(run) if run.batch_end.is_some())
    }

    fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Plain { .. })
    }

    /// With the print of its first line, if that is a plain one.
    fn printed(mut self, print: impl FnOnce() -> Print) -> Run {
        if let Kind::Plain { first, .. } = &mut self.kind {
            *first = print();
        }
        self
    }

    /// With the print of its last line, if that is a plain one.
    fn ended(mut self, print: impl FnOnce() -> Print) -> Run {
        if let Kind::Plain { last, .. } = &mut self.kind {
            *last = print();
        }
        self
    }

    /// Whether `line` is of the same kind and comes next. Of plain lines it is left to ask whether they are equal.
    #[inline(always)]
    fn takes(&self, line: &Run) -> bool {
        let same_kind = match (&self.kind, &line.kind) {
            (Kind::Sealed(run), Kind::Sealed(line)) => run.takes(line),
            (Kind::Plain { .. }, Kind::Plain { .. }) | (Kind::Blank, Kind::Blank) => true,
            _ => false,
        };
        same_kind && self.oddities == line.oddities
    }

    #[inline(always)]
    fn extend_by(&mut self, line: &Run) {
        self.end = line.end;
        self.lines += line.lines;
        if let (Kind::Sealed(run), Kind::Sealed(line)) = (&mut self.kind, &line.kind) {
            run.last = line.last;
            run.last_crc = line.last_crc;
        }
    }
}
