//! One file that grows, read line by line up to its last LF.
//!
//! Three things are kept of what was read: where the last whole line ended, the few bytes in front of that place (the *seam*), and how far the
//! unfinished bytes behind it have been seen. Unfinished bytes themselves are never kept, since a rollback may cut them: when their LF is there
//! they are read again as one line. The seam tells a file that was cut and has grown again from one that has only grown: after each read of the
//! file it is compared, and what was read counts only if it is still there. So bytes of two contents are never joined. Only a file that has the
//! very same bytes there once more is not told from one that was never cut.

use std::io;

use crate::{format::LF, judge::Found, reader::walk::Walk, scan, segment::Segment, sys::File};

/// The bytes in front of the place that was read to: those of a sealed line hold its number and CRC.
const SEAM_BYTES: usize = 64;

/// So many unfinished bytes are looked at again each time; of more only those that are new.
const SMALL_BYTES: u64 = 64 << 10;

/// How many bytes are searched for an LF in one step.
const SEARCH_BYTES_MAX: u64 = 4 << 20;

/// What a look at the file's end has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing that could be read.
    Same,
    /// There may be a whole line.
    Grown,
    /// It takes longer than one step to find out.
    Searching,
    /// The file ends before the place that was read to, or its bytes there are others.
    Cut,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) walk: Walk,
    seam: Seam,
    /// Where the file ended when it was last looked at. Never less than `walk.offset`.
    seen: u64,
    search: Search,
    /// Where the file ended when reading what is behind `walk.offset` was last tried in vain: a batch lacks its end.
    tried: Option<u64>,
    /// Whether there may be whole lines in front of `seen`.
    is_readable: bool,
    /// Nothing will be appended any more: what is unfinished is taken as it is.
    is_final: bool,
    /// What was read of the file is not there any more.
    is_cut: bool,
    /// Read, while the seam could not be compared.
    unproved: Option<Read>,
}

#[derive(Debug)]
struct Read {
    found: Option<Found>,
    /// Where it begins.
    offset: u64,
    /// The file was read for it.
    is_fresh: bool,
}

/// The search for an LF in unfinished bytes.
#[derive(Debug)]
struct Search {
    /// Between `walk.offset` and here there is none. Never more than `seen`.
    searched: u64,
    is_under_way: bool,
    /// Whether the search began at `walk.offset`. Else bytes that were searched earlier may be others by now.
    is_whole: bool,
    /// The CRC of the unfinished bytes, if they are few.
    crc: Option<u32>,
}

impl Live {
    /// Starts at a boundary of the segment, with nothing seen yet.
    pub(super) fn new(segment: Segment, offset: u64, line_bytes_max: u64) -> io::Result<Live> {
        let seam = Seam::before(&segment.file, offset)?;
        let search = Search { searched: offset, is_under_way: false, is_whole: true, crc: None };
        let walk = Walk::new(Segment { end: offset, ..segment }, offset, line_bytes_max);
        Ok(Live { walk, seam, seen: offset, search, tried: None, is_readable: false, is_final: false, is_cut: false, unproved: None })
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.walk.segment
    }

    /// Bytes behind the last whole line that was read.
    pub(super) fn pending(&self) -> u64 {
        self.seen.saturating_sub(self.walk.offset)
    }

    /// Where the file ended when it was last looked at.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// From now on what is unfinished is given as it is: nothing will be appended any more.
    pub(super) fn finish(&mut self) {
        self.is_final = true;
        self.is_readable = true;
        self.walk.extend_to(self.seen);
    }

    pub(super) fn is_final(&self) -> bool {
        self.is_final
    }

    /// The next line of what was seen; its bytes are in the walk.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if !self.is_readable {
            return Ok(None);
        }
        let Read { found, offset, is_fresh } = match self.unproved.take() {
            Some(read) => read,
            None => self.read()?,
        };
        if is_fresh && !self.is_final {
            match self.seam.is_before(&self.walk.segment.file, offset) {
                Ok(true) => {}
                Ok(false) => {
                    self.walk.offset = offset;
                    self.is_readable = false;
                    self.is_cut = true;
                    return Ok(None);
                }
                Err(error) => {
                    self.unproved = Some(Read { found, offset, is_fresh });
                    return Err(error);
                }
            }
        }
        match &found {
            Some(found) => {
                self.search.crc = None;
                if found.span.terminated {
                    self.seam.push(self.walk.lines.bytes(), found.span.too_long);
                }
            }
            None => {
                self.is_readable = false;
                self.search.searched = self.seen;
                self.search.is_under_way = false;
                self.search.is_whole = true;
                // Else the file changed while it was read, and what is there now is looked at afresh.
                self.tried = self.walk.awaits_batch.then_some(self.seen);
                self.search.crc = self.search.crc.filter(|_| self.walk.awaits_batch);
            }
        }
        Ok(found)
    }

    fn read(&mut self) -> io::Result<Read> {
        let (offset, reads) = (self.walk.offset, self.walk.lines.reads());
        let found = if self.is_final { self.walk.next()? } else { self.walk.next_finished()? };
        Ok(Read { found, offset, is_fresh: self.walk.lines.reads() != reads })
    }

    /// Looks at the end of the file, once all that was readable is read.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let size = self.walk.segment.file.size()?;
        let offset = self.walk.offset;
        if self.is_cut || size < offset || !self.seam.is_before(&self.walk.segment.file, offset)? {
            return Ok(Look::Cut);
        }
        let before = std::mem::replace(&mut self.seen, size);
        match size - offset {
            0 => {
                self.search.searched = offset;
                Ok(Look::Same)
            }
            few @ ..=SMALL_BYTES => self.look_at_few(few, size == before),
            _ => self.look_at_many(size, size < before),
        }
    }

    /// Looks at all that is pending.
    fn look_at_few(&mut self, pending: u64, is_as_before: bool) -> io::Result<Look> {
        let offset = self.walk.offset;
        let mut bytes = vec![0; usize::try_from(pending).unwrap_or_default()];
        let read = self.walk.segment.file.read_full_at(&mut bytes, offset)?;
        let bytes = bytes.get(..read).unwrap_or_default();
        let crc = crc32fast::hash(bytes);
        let is_known = self.search.crc.replace(crc) == Some(crc) && is_as_before;
        self.search.searched = offset;
        self.search.is_under_way = false;
        if is_known || memchr::memchr(LF, bytes).is_none() {
            return Ok(Look::Same);
        }
        Ok(self.readable())
    }

    /// Looks at what is new of all that is pending; at the whole of it again when the file has come to rest.
    fn look_at_many(&mut self, size: u64, was_cut: bool) -> io::Result<Look> {
        let offset = self.walk.offset;
        self.search.crc = None;
        if was_cut {
            self.search = Search { searched: offset, is_under_way: false, is_whole: true, crc: None };
        }
        if self.search.searched == size {
            if self.search.is_whole {
                let is_finished = self.tried != Some(size) && scan::is_boundary(&self.walk.segment.file, size)?;
                return Ok(if is_finished { self.readable() } else { Look::Same });
            }
            self.search.searched = offset;
            self.search.is_under_way = false;
        }
        if !self.search.is_under_way {
            self.search.is_under_way = true;
            self.search.is_whole = self.search.searched <= offset;
        }
        self.search(size)
    }

    fn search(&mut self, size: u64) -> io::Result<Look> {
        let until = size.min(self.search.searched.saturating_add(SEARCH_BYTES_MAX));
        let mut block = vec![0; usize::try_from(SMALL_BYTES).unwrap_or_default()];
        while self.search.searched < until {
            let wanted = usize::try_from(until - self.search.searched).unwrap_or(usize::MAX).min(block.len());
            let block = block.get_mut(..wanted).unwrap_or_default();
            let read = self.walk.segment.file.read_full_at(block, self.search.searched)?;
            if memchr::memchr(LF, block.get(..read).unwrap_or_default()).is_some() {
                return Ok(self.readable());
            }
            if read == 0 {
                // Cut meanwhile: the next look sees it.
                return Ok(Look::Same);
            }
            self.search.searched += read as u64;
        }
        self.search.is_under_way = self.search.searched < size;
        Ok(if self.search.is_under_way { Look::Searching } else { Look::Same })
    }

    fn readable(&mut self) -> Look {
        self.is_readable = true;
        self.walk.extend_to(self.seen);
        Look::Grown
    }
}

/// The last bytes in front of the place that was read to.
#[derive(Debug, Default)]
struct Seam(Vec<u8>);

impl Seam {
    fn before(file: &File, offset: u64) -> io::Result<Seam> {
        let len = offset.min(SEAM_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let read = file.read_full_at(&mut bytes, offset - len)?;
        bytes.truncate(read);
        Ok(Seam(bytes))
    }

    /// Goes behind a line, whose bytes are not known if it was too long.
    fn push(&mut self, line: &[u8], too_long: bool) {
        if too_long || line.len() >= SEAM_BYTES {
            self.0.clear();
        }
        self.0.extend_from_slice(line.get(line.len().saturating_sub(SEAM_BYTES)..).unwrap_or_default());
        self.0.push(LF);
        self.0.drain(..self.0.len().saturating_sub(SEAM_BYTES));
    }

    /// Whether the file still has these bytes in front of `offset`.
    fn is_before(&self, file: &File, offset: u64) -> io::Result<bool> {
        let mut bytes = [0; SEAM_BYTES];
        let bytes = bytes.get_mut(..self.0.len()).unwrap_or_default();
        let read = file.read_full_at(bytes, offset.saturating_sub(self.0.len() as u64))?;
        Ok(read == self.0.len() && *bytes == self.0)
    }
}
