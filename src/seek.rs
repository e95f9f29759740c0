//! Finds sealed lines in one file by their numbers, without reading the file.
//!
//! Numbers rise from line to line, so a number is found by bisecting on byte offsets: from any byte the next boundary is near, and the next
//! sealed line tells on which side to go on. Damage and lines of strangers are stepped over. Where two numbers contradict the order (a copied
//! line, a file put together by hand) the file is read from its start instead.

use std::{io, ops::Range};

use crate::{
    format::{WINDOW_BYTES_DEFAULT, seal::Seal},
    judge::Found,
    scan::{self, Backward, Scanner, Span},
    sys::File,
};

/// Bisecting ends, and plain reading begins, where this little is left. It is what one read gives.
const PROBE_BYTES: u64 = 64 << 10;

/// A line whose seal holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) seal: Seal,
    pub(crate) span: Span,
}

impl Sealed {
    fn of(found: &Found) -> Option<Sealed> {
        found.seal.map(|seal| Sealed { seal, span: found.span })
    }

    /// The same record: equal in number and CRC.
    pub(crate) fn is(&self, seq: u64, crc: u32) -> bool {
        self.seal.seq == seq && self.seal.crc == crc
    }
}

/// A stretch of one file that starts on a boundary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch<'a> {
    pub(crate) file: &'a File,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) line_bytes_max: u64,
}

impl Stretch<'_> {
    /// The first sealed line that starts in `starts`, which begins on a boundary, and that `is_wanted`.
    fn first_in(&self, starts: Range<u64>, is_wanted: impl Fn(&Seal) -> bool) -> io::Result<Option<Sealed>> {
        let mut lines = Scanner::new(starts.start, self.end, self.line_bytes_max);
        while let Some(span) = lines.next(self.file)? {
            if span.start >= starts.end {
                break;
            }
            match Sealed::of(&Found::of(span, lines.bytes())) {
                Some(line) if is_wanted(&line.seal) => return Ok(Some(line)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The first sealed line that starts within so many bytes.
    pub(crate) fn first_sealed(&self, within: u64) -> io::Result<Option<Sealed>> {
        self.first_in(self.start..self.end.min(self.start.saturating_add(within)), |_| true)
    }

    /// The sealed line that starts at this byte.
    pub(crate) fn sealed_at(&self, offset: u64) -> io::Result<Option<Sealed>> {
        if offset >= self.end { Ok(None) } else { self.first_in(offset..offset.saturating_add(1), |_| true) }
    }

    /// The last sealed line, if it is among the lines that start within so many bytes of the end, or is the last line of all.
    pub(crate) fn last_sealed(&self, within: u64) -> io::Result<Option<Sealed>> {
        let (boundary, tail) = self.tail()?;
        if let Some(sealed) = tail.as_ref().and_then(Sealed::of) {
            return Ok(Some(sealed));
        }
        let mut lines = Backward::new(boundary, self.line_bytes_max);
        while let Some(span) = lines.next(self.file)? {
            if span.start < self.start {
                break;
            }
            if let Some(sealed) = Sealed::of(&Found::of(span, lines.bytes())) {
                return Ok(Some(sealed));
            }
            if boundary - span.start >= within {
                break;
            }
        }
        Ok(None)
    }

    /// The last boundary, and what stands behind it.
    pub(crate) fn tail(&self) -> io::Result<(u64, Option<Found>)> {
        let boundary = scan::boundary_before(self.file, self.end)?.max(self.start);
        let mut lines = Scanner::new(boundary, self.end, self.line_bytes_max);
        let tail = lines.next(self.file)?;
        Ok((boundary, tail.map(|span| Found::of(span, lines.bytes()))))
    }

    /// The first sealed line whose number is at least `seq`.
    pub(crate) fn first_from(&self, seq: u64) -> io::Result<Option<Sealed>> {
        let Some(first) = self.first_sealed(u64::MAX)? else { return Ok(None) };
        if first.seal.seq >= seq {
            return Ok(Some(first));
        }
        let last = self.last_sealed(WINDOW_BYTES_DEFAULT)?.map_or(u64::MAX, |last| last.seal.seq);
        let mut starts = first.span.start..self.end;
        // What the numbers of the sealed lines in `starts` must be, if they rise.
        let mut numbers = first.seal.seq..=last;
        while starts.end - starts.start > PROBE_BYTES {
            let middle = starts.start + (starts.end - starts.start) / 2;
            let Some(line) = self.first_in(self.boundary_after(middle)?..starts.end, |_| true)? else {
                starts.end = middle;
                continue;
            };
            let number = line.seal.seq;
            if !numbers.contains(&number) {
                return self.first_in(self.start..self.end, |seal| seal.seq >= seq);
            }
            if number < seq {
                starts.start = line.span.end;
                numbers = number..=*numbers.end();
            } else {
                starts.end = middle;
                numbers = *numbers.start()..=number;
            }
        }
        self.first_in(starts.start..self.end, |seal| seal.seq >= seq)
    }

    /// The first boundary at or after `offset`, which is not the start of the file.
    fn boundary_after(&self, offset: u64) -> io::Result<u64> {
        let mut lines = Scanner::new(offset.saturating_sub(1), self.end, self.line_bytes_max);
        lines.next(self.file)?;
        Ok(lines.offset())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that fails should say where")]
mod tests {
    use super::*;
    use crate::{
        format::seal::{self, Opening},
        sys::Disk,
    };

    const LIMIT: u64 = 1 << 20;

    /// A file with these numbers, each line so long that many probes are needed, with a line of another kind after each.
    fn with_numbers<T>(numbers: &[u64], padding: usize, read: impl FnOnce(Stretch<'_>) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let mut bytes = Vec::new();
        for (number, other) in numbers.iter().zip([&b""[..], b"{}\n", b"\n", b"{\"torn\n"].iter().cycle()) {
            let payload = format!("{{\"n\":\"{}\"}}", "x".repeat(padding));
            let opening = Opening::of(payload.as_bytes());
            seal::write(&mut bytes, payload.as_bytes(), opening, opening.crc(payload.as_bytes()), *number, 0);
            bytes.extend_from_slice(other);
        }
        std::fs::write(&path, &bytes).unwrap();
        let file = Disk::default().open_read(&path).unwrap();
        read(Stretch { file: &file, start: 0, end: bytes.len() as u64, line_bytes_max: LIMIT })
    }

    fn found(lines: &Stretch<'_>, seq: u64) -> Option<u64> {
        lines.first_from(seq).unwrap().map(|line| line.seal.seq)
    }

    #[test]
    fn every_number_is_found_and_a_missing_one_gives_the_next() {
        let numbers: Vec<_> = (10..500).filter(|number| number % 7 != 0).collect();
        with_numbers(&numbers, 3000, |lines| {
            for seq in 0..=510 {
                assert_eq!(found(&lines, seq), numbers.iter().copied().find(|number| *number >= seq), "number {seq}");
            }
        });
    }

    /// Lines put together by hand: whatever the order, a number that is there is found if a probe meets the contradiction.
    #[test]
    fn numbers_that_fall_are_searched_from_the_start() {
        let numbers: Vec<_> = (300..400).chain(1..300).collect();
        with_numbers(&numbers, 3000, |lines| {
            assert_eq!(found(&lines, 300), Some(300));
            assert_eq!(found(&lines, 399), Some(399));
        });
    }

    #[test]
    fn the_first_and_the_last_sealed_line_are_found_within_their_bounds() {
        with_numbers(&[5, 6, 7], 0, |lines| {
            assert_eq!(lines.first_sealed(1).unwrap().map(|line| line.seal.seq), Some(5));
            assert_eq!(lines.last_sealed(1).unwrap().map(|line| line.seal.seq), None);
            assert_eq!(lines.last_sealed(100).unwrap().map(|line| line.seal.seq), Some(7));
        });
    }
}
