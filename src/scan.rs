//! Lines found in a file by their LFs alone, forwards and backwards, in bounded memory.
//!
//! Nothing is decoded here: a line is the bytes between two LFs, whatever they are. A line over the limit is passed over: its place is told, its
//! bytes are not kept.

use std::{io, ops::Range};

use crate::{
    format::LF,
    sys::{File, uninterrupted},
};

/// The bytes asked for in one read. Larger buffers are slower: a fresh allocation of 128 KiB starts just past a page boundary, where the kernel
/// copies at a fifth of the speed.
const CHUNK_BYTES: usize = 64 << 10;

/// Where one line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// Just past the LF, or the end of the file if the line has none.
    pub(crate) end: u64,
    pub(crate) terminated: bool,
    /// Longer than the limit, LF included: the bytes were passed over.
    pub(crate) too_long: bool,
    /// Not what the file held: a compressed file could not be decompressed here. Such bytes are not given out.
    pub(crate) lost: bool,
}

impl Span {
    /// Bytes in the file, LF included.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// Walks a range of a file line by line.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// `buffer[kept.start..kept.end]` are the bytes read and not yet given out; what is before belongs to the line given out last.
    buffer: Vec<u8>,
    kept: Range<usize>,
    /// The line given out last, without its LF. Never beyond `kept.start`.
    line: Range<usize>,
    /// Where in the file the byte at `kept.start` is. Always a boundary.
    offset: u64,
    /// Where to stop, whatever the file holds.
    until: u64,
    line_bytes_max: u64,
    chunk: usize,
    /// How often the file was read.
    reads: u64,
}

impl Scanner {
    /// Starts at a boundary and ends at `until`, or at the end of the file.
    pub(crate) fn new(from: u64, until: u64, line_bytes_max: u64) -> Scanner {
        Scanner::with_chunk(from, until, line_bytes_max, CHUNK_BYTES)
    }

    pub(crate) fn with_chunk(from: u64, until: u64, line_bytes_max: u64, chunk: usize) -> Scanner {
        Scanner { buffer: Vec::new(), kept: 0..0, line: 0..0, offset: from, until, line_bytes_max, chunk: chunk.max(1), reads: 0 }
    }

    /// Where the next line starts.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Lets the walk go on to a later end, for a file that has grown.
    pub(crate) fn extend_to(&mut self, until: u64) {
        self.until = self.until.max(until);
    }

    /// Goes on at another boundary. Bytes that were read already and stand behind it are kept.
    pub(crate) fn seek(&mut self, boundary: u64) {
        let skipped = boundary.checked_sub(self.offset).and_then(|bytes| usize::try_from(bytes).ok());
        self.kept = match skipped.filter(|bytes| *bytes <= self.kept.len()) {
            Some(skipped) => self.kept.start + skipped..self.kept.end,
            None => 0..0,
        };
        self.line = self.kept.start..self.kept.start;
        self.offset = boundary;
    }

    /// How often the file was read. While this stays the same, lines come from bytes that were read earlier.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// The lines that were read with their LF and not given out yet, none of them too long. Of a compressed file it is not told which are lost.
    pub(crate) fn read_ahead(&self) -> impl Iterator<Item = (Span, &[u8])> {
        let mut rest = self.buffer.get(self.kept.clone()).unwrap_or_default();
        let mut start = self.offset;
        std::iter::from_fn(move || {
            let (line, behind) = rest.split_at_checked(memchr::memchr(LF, rest)?)?;
            let end = start + line.len() as u64 + 1;
            let span = Span { start, end, terminated: true, too_long: false, lost: false };
            rest = behind.get(1..)?;
            start = end;
            (span.len() <= self.line_bytes_max).then_some((span, line))
        })
    }

    /// Drops what was read ahead: the file may hold other bytes by now.
    pub(crate) fn forget(&mut self) {
        self.kept = self.kept.start..self.kept.start;
    }

    /// Drops bytes that were read of a line whose LF was not: the file may have been cut since, and hold others in their place.
    pub(crate) fn forget_unfinished(&mut self) {
        if memchr::memchr(LF, self.buffer.get(self.kept.clone()).unwrap_or_default()).is_none() {
            self.forget();
        }
    }

    /// The bytes of the line given out last, without LF; none if it was too long.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.line.clone()).unwrap_or_default()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.line.clone()).unwrap_or_default()
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self, file: &File) -> io::Result<Option<Span>> {
        self.line = self.kept.start..self.kept.start;
        let mut searched = self.kept.start;
        loop {
            let fresh = self.buffer.get(searched..self.kept.end).unwrap_or_default();
            if let Some(at) = memchr::memchr(LF, fresh) {
                return Ok(Some(self.give(file, searched + at, true)));
            }
            let unfinished = self.kept.len();
            if unfinished as u64 >= self.line_bytes_max {
                return self.pass_over(file).map(Some);
            }
            let read = self.fill(file)?;
            // What is kept starts the buffer now.
            searched = unfinished;
            if read == 0 {
                return Ok((unfinished > 0).then(|| self.give(file, self.kept.end, false)));
            }
        }
    }

    /// Gives out the line that ends at `end` in the buffer.
    fn give(&mut self, file: &File, end: usize, terminated: bool) -> Span {
        self.line = self.kept.start..end;
        let past = end + usize::from(terminated);
        let start = self.offset;
        self.offset += (past - self.kept.start) as u64;
        self.kept.start = past;
        let too_long = self.offset - start > self.line_bytes_max;
        let lost = file.lost(&(start..self.offset)).is_some();
        if too_long || lost {
            self.line = past..past;
        }
        Span { start, end: self.offset, terminated, too_long, lost }
    }

    /// Reads on behind what is kept, making room first.
    fn fill(&mut self, file: &File) -> io::Result<usize> {
        if self.kept.start > 0 {
            self.buffer.copy_within(self.kept.clone(), 0);
            self.kept = 0..self.kept.len();
            self.line = 0..0;
        }
        if self.kept.end == self.buffer.len() {
            self.buffer.resize(self.chunk.max(2 * self.kept.end), 0);
        }
        let at = self.offset + self.kept.len() as u64;
        let wanted = usize::try_from(self.until.saturating_sub(at)).unwrap_or(usize::MAX);
        let room = self.buffer.get_mut(self.kept.end..).unwrap_or_default();
        let room = room.len().min(wanted).min(self.chunk.max(self.kept.end));
        let room = self.buffer.get_mut(self.kept.end..self.kept.end + room).unwrap_or_default();
        self.reads += 1;
        let read = uninterrupted(|| file.read_at(room, at))?;
        self.kept.end += read;
        Ok(read)
    }

    /// Looks for the end of a line without keeping its bytes.
    fn pass_over(&mut self, file: &File) -> io::Result<Span> {
        let start = self.offset;
        let mut seen = self.kept.len() as u64;
        loop {
            self.kept = 0..0;
            self.line = 0..0;
            self.offset = start + seen;
            let read = self.fill(file)?;
            let found = memchr::memchr(LF, self.buffer.get(..read).unwrap_or_default());
            if let Some(at) = found {
                self.kept = at + 1..read;
                self.offset = start + seen + at as u64 + 1;
            } else if read > 0 {
                seen += read as u64;
                continue;
            }
            let lost = file.lost(&(start..self.offset)).is_some();
            return Ok(Span { start, end: self.offset, terminated: found.is_some(), too_long: true, lost });
        }
    }
}

/// The bytes asked for in the first read backwards.
const FIRST_CHUNK_BYTES: usize = 4 << 10;

/// Walks a file backwards, line by line, from a boundary.
#[derive(Debug)]
pub(crate) struct Backward {
    /// The bytes of the file from `from` on; those before `at` are still to be given out.
    buffer: Vec<u8>,
    from: u64,
    /// The boundary at which the next line ends.
    at: u64,
    line: Range<usize>,
    line_bytes_max: u64,
}

impl Backward {
    pub(crate) fn new(boundary: u64, line_bytes_max: u64) -> Backward {
        Backward { buffer: Vec::new(), from: boundary, at: boundary, line: 0..0, line_bytes_max }
    }

    /// The bytes of the line given out last, without LF; none if it was too long.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.line.clone()).unwrap_or_default()
    }

    /// The line that ends where the last one started; `None` at the start of the file, or behind a byte order mark that is alone in it.
    pub(crate) fn next(&mut self, file: &File) -> io::Result<Option<Span>> {
        let Some(lf) = self.at.checked_sub(1) else { return Ok(None) };
        let end = self.at;
        let mut searched = lf;
        let start = loop {
            let unsearched = self.buffer.get(..in_memory(searched.saturating_sub(self.from))).unwrap_or_default();
            if let Some(at) = memchr::memrchr(LF, unsearched) {
                break self.from + at as u64 + 1;
            }
            searched = self.from.min(lf);
            if self.from == 0 {
                break 0;
            }
            if end - self.from > self.line_bytes_max {
                let start = boundary_before(file, self.from)?;
                self.buffer.clear();
                self.from = start;
                break start;
            }
            self.extend(file)?;
        };
        let too_long = end - start > self.line_bytes_max;
        if !too_long && self.buffer.get(in_memory(lf - self.from)) != Some(&LF) {
            return Ok(None);
        }
        self.at = start;
        let lost = file.lost(&(start..end)).is_some();
        self.line = if too_long || lost { 0..0 } else { in_memory(start - self.from)..in_memory(lf - self.from) };
        Ok(Some(Span { start, end, terminated: true, too_long, lost }))
    }

    /// Reads the bytes in front of the buffer: few at first, since the last line is often all that is wanted, then as many as there are, so that
    /// the copying stays linear.
    fn extend(&mut self, file: &File) -> io::Result<()> {
        let kept = in_memory(self.at - self.from);
        self.buffer.truncate(kept);
        let wanted = in_memory(self.from.min(FIRST_CHUNK_BYTES.max(kept) as u64));
        let from = self.from - wanted as u64;
        let mut buffer = vec![0; wanted];
        if file.read_full_at(&mut buffer, from)? < wanted {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        self.from = from;
        Ok(())
    }
}

/// The number of bytes between two offsets that are in memory at the same time.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The last boundary at or before `end`: 0, or just past an LF. Reads backwards, keeps nothing.
pub(crate) fn boundary_before(file: &File, end: u64) -> io::Result<u64> {
    if is_boundary(file, end)? {
        return Ok(end);
    }
    let mut block = vec![0; in_memory(end.min(CHUNK_BYTES as u64))];
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
        let wanted = block.get_mut(..in_memory(end - start)).unwrap_or_default();
        let read = file.read_full_at(wanted, start)?;
        if let Some(at) = memchr::memrchr(LF, wanted.get(..read).unwrap_or_default()) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Offset 0, or just past an LF.
pub(crate) fn is_boundary(file: &File, offset: u64) -> io::Result<bool> {
    let Some(before) = offset.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    let read = file.read_full_at(&mut byte, before)?;
    Ok(read == 1 && byte == [LF])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that fails should say where")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::Disk;

    const LIMIT: u64 = 12;

    /// The lines of a file, and their bytes.
    type Lines = Vec<(Span, Vec<u8>)>;

    fn with_file<T>(bytes: &[u8], read: impl FnOnce(&File) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        std::fs::write(&path, bytes).unwrap();
        read(&Disk::default().open_read(&path).unwrap())
    }

    fn forward(file: &File, chunk: usize) -> Lines {
        let mut lines = Scanner::with_chunk(0, u64::MAX, LIMIT, chunk);
        std::iter::from_fn(|| lines.next(file).unwrap().map(|span| (span, lines.bytes().to_vec()))).collect()
    }

    fn backward(file: &File, boundary: u64) -> Lines {
        let mut lines = Backward::new(boundary, LIMIT);
        let mut found: Lines = std::iter::from_fn(|| lines.next(file).unwrap().map(|span| (span, lines.bytes().to_vec()))).collect();
        found.reverse();
        found
    }

    /// What the lines are by definition.
    fn model(bytes: &[u8]) -> Lines {
        let mut start = 0;
        let pieces = bytes.split_inclusive(|byte| *byte == LF);
        pieces
            .map(|piece| {
                let end = start + piece.len() as u64;
                let terminated = piece.ends_with(&[LF]);
                let too_long = piece.len() as u64 > LIMIT || (!terminated && piece.len() as u64 == LIMIT);
                let span = Span { start, end, terminated, too_long, lost: false };
                start = end;
                let text = piece.strip_suffix(&[LF]).unwrap_or(piece);
                (span, if too_long { Vec::new() } else { text.to_vec() })
            })
            .collect()
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop_oneof![1 => Just(LF), 4 => Just(b'x'), 1 => Just(0)], 0..200)
    }

    #[test]
    fn the_buffer_holds_no_more_than_a_chunk_of_short_lines_however_long_the_file() {
        with_file(&b"lines\n".repeat(1000), |file| {
            let mut lines = Scanner::with_chunk(0, u64::MAX, LIMIT, 16);
            while lines.next(file).unwrap().is_some() {
                assert!(lines.buffer.len() <= 32, "{} bytes at byte {}", lines.buffer.len(), lines.offset);
            }
        });
    }

    #[test]
    fn a_line_of_many_chunks_takes_few_reads() {
        with_file(&[b'x'; 4096], |file| {
            let mut lines = Scanner::with_chunk(0, u64::MAX, 8192, 16);
            assert_eq!(lines.next(file).unwrap().map(|span| span.end), Some(4096));
            assert!(lines.reads() < 16, "{} reads", lines.reads());
        });
    }

    #[test]
    fn walking_back_takes_no_more_memory_than_a_few_chunks_however_long_the_file() {
        let short_lines = b"lines\n".repeat(20_000);
        let one_line = [&b"lines\n".repeat(1000)[..], &[b'x'; 1 << 20], b"\n"].concat();
        for bytes in [short_lines, one_line] {
            with_file(&bytes, |file| {
                let mut lines = Backward::new(bytes.len() as u64, LIMIT);
                while lines.next(file).unwrap().is_some() {
                    assert!(lines.buffer.capacity() <= 4 * FIRST_CHUNK_BYTES, "{} bytes at byte {}", lines.buffer.capacity(), lines.at);
                }
            });
        }
    }

    /// Reads end where lines do, and a line may be as long as it may.
    #[test]
    fn walking_back_meets_lines_that_are_as_long_as_a_read() {
        let len = FIRST_CHUNK_BYTES as u64;
        let line = [&[b'x'; FIRST_CHUNK_BYTES - 1][..], b"\n"].concat();
        with_file(&line.repeat(3), |file| {
            let mut lines = Backward::new(3 * len, len);
            for start in [2 * len, len, 0] {
                assert_eq!(lines.next(file).unwrap(), Some(Span { start, end: start + len, terminated: true, too_long: false, lost: false }));
                assert_eq!(lines.bytes(), &line[..FIRST_CHUNK_BYTES - 1]);
            }
            assert_eq!(lines.next(file).unwrap(), None);
        });
    }

    /// Or the bytes that are no longer there would be taken for NULs.
    #[test]
    fn a_file_that_was_cut_is_not_walked_back_from_where_it_ended() {
        with_file(b"{\"id\":1}\n", |file| {
            assert_eq!(Backward::new(100, 100).next(file).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    proptest! {
        /// However the reads fall, the lines are those between the LFs.
        #[test]
        fn any_chunking_gives_the_same_lines(bytes in bytes(), chunk in 1usize..40) {
            prop_assert_eq!(with_file(&bytes, |file| forward(file, chunk)), model(&bytes));
        }

        #[test]
        fn walking_back_from_any_boundary_meets_the_lines_before_it(bytes in bytes()) {
            let lines = model(&bytes);
            with_file(&bytes, |file| {
                for (count, boundary) in lines.iter().filter(|(line, _)| line.terminated).map(|(line, _)| line.end).enumerate() {
                    prop_assert_eq!(backward(file, boundary), &lines[..=count]);
                }
                Ok(())
            })?;
        }

        /// What was read already is not lost, and what was not is read.
        #[test]
        fn a_walk_goes_on_at_any_boundary(bytes in bytes(), chunk in 1usize..40, steps in 0usize..10) {
            let lines = model(&bytes);
            with_file(&bytes, |file| {
                for (at, (line, _)) in lines.iter().enumerate() {
                    let mut walk = Scanner::with_chunk(0, u64::MAX, LIMIT, chunk);
                    for _ in 0..steps {
                        walk.next(file).unwrap();
                    }
                    walk.seek(line.start);
                    let rest: Lines = std::iter::from_fn(|| walk.next(file).unwrap().map(|span| (span, walk.bytes().to_vec()))).collect();
                    prop_assert_eq!(rest, &lines[at..]);
                }
                Ok(())
            })?;
        }
    }
}
