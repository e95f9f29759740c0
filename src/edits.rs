//! What a repair changes in one file: the ranges it takes out and the LFs it puts in, all by their offsets before the repair.

use std::{io, iter, ops::Range};

use crc32fast::Hasher;

use crate::{
    format::{LF, QUARANTINE_END_BYTES, verdict::Code},
    sys::File,
};

/// The changes that turn a file into what a repair leaves. What they do not name stays, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    /// In order; they do not overlap.
    pub(crate) removed: Vec<Removed>,
    /// In order; none lies inside a removed range.
    pub(crate) added: Vec<u64>,
}

/// A range that is taken out, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) reason: Code,
}

/// A part of what a repair leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes of the file as it was.
    Kept(Range<u64>),
    Lf,
}

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    pub(crate) fn removed_bytes(&self) -> u64 {
        self.removed.iter().map(|range| range.end - range.start).sum()
    }

    /// The length of a file of `len` bytes after these changes.
    pub(crate) fn len_after(&self, len: u64) -> u64 {
        (len + self.added.len() as u64).saturating_sub(self.removed_bytes())
    }

    /// Where to cut a file of `len` bytes, if that and an LF behind it are all there is to do.
    pub(crate) fn cut_at(&self, len: u64) -> Option<u64> {
        let mut cut = len;
        for range in self.removed.iter().rev() {
            if range.end != cut {
                return None;
            }
            cut = range.start;
        }
        match self.added.as_slice() {
            [] => Some(cut),
            [lf] if *lf == cut => Some(cut),
            _ => None,
        }
    }

    /// The parts of what is left of a file of `len` bytes, in order.
    pub(crate) fn pieces(&self, len: u64) -> impl Iterator<Item = Piece> {
        let mut removed = self.removed.iter().peekable();
        let mut added = self.added.iter().copied().peekable();
        let mut at = 0;
        iter::from_fn(move || {
            loop {
                let cut = removed.peek().map_or(len, |range| range.start);
                let lf = added.peek().copied().filter(|lf| *lf <= cut);
                let stop = lf.unwrap_or(cut);
                if at < stop {
                    let kept = at..stop;
                    at = stop;
                    return Some(Piece::Kept(kept));
                }
                if lf.is_some() {
                    added.next();
                    return Some(Piece::Lf);
                }
                at = removed.next()?.end;
            }
        })
    }

    /// Writes what is left of the first `len` bytes of `source` behind the end of `out`.
    pub(crate) fn write(&self, source: &File, len: u64, out: &File) -> io::Result<Trace> {
        let mut before = Hasher::new();
        let mut after = Hasher::new();
        let mut at = 0;
        for piece in self.pieces(len) {
            match piece {
                Piece::Kept(range) => {
                    read_range(source, at..range.start, |bytes| {
                        before.update(bytes);
                        Ok(())
                    })?;
                    at = range.end;
                    read_range(source, range, |bytes| {
                        before.update(bytes);
                        after.update(bytes);
                        out.write_all(bytes)
                    })?;
                }
                Piece::Lf => {
                    after.update(&[LF]);
                    out.write_all(&[LF])?;
                }
            }
        }
        read_range(source, at..len, |bytes| {
            before.update(bytes);
            Ok(())
        })?;
        Ok(Trace::Whole { before: before.finalize(), after: after.finalize() })
    }

    /// The trace of these changes made in place, for a file that is to be cut at `cut`.
    pub(crate) fn trace_of_cut(&self, file: &File, cut: u64) -> io::Result<Trace> {
        let lfs = vec![LF; self.added.len()];
        let mut crc = Hasher::new();
        let after_len = cut + lfs.len() as u64;
        read_range(file, after_len.saturating_sub(QUARANTINE_END_BYTES).min(cut)..cut, |bytes| {
            crc.update(bytes);
            Ok(())
        })?;
        crc.update(&lfs);
        Ok(Trace::End(crc.finalize()))
    }
}

/// What proves later that a file is what a repair left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Of a rewrite, which reads everything: the CRC of the whole file.
    Whole { before: u32, after: u32 },
    /// Of a repair in place, which does not: the CRC of the last [`QUARANTINE_END_BYTES`] that it left, or of all if there are less.
    End(u32),
}

const COPY_BYTES: u64 = 1 << 20;

/// Gives a range of a file piece by piece. That the file ends before the range does is an error.
pub(crate) fn read_range(file: &File, range: Range<u64>, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from((range.end - at).min(COPY_BYTES)).unwrap_or_default();
        buffer.resize(wanted, 0);
        let read = file.read_full_at(&mut buffer, at)?;
        if read < wanted {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        take(&buffer)?;
        at += read as u64;
    }
    Ok(())
}

/// The CRC of a range of a file.
pub(crate) fn crc_of(file: &File, range: Range<u64>) -> io::Result<u32> {
    let mut crc = Hasher::new();
    read_range(file, range, |bytes| {
        crc.update(bytes);
        Ok(())
    })?;
    Ok(crc.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(removed: &[(u64, u64)], added: &[u64]) -> Edits {
        let removed = removed.iter().map(|(start, end)| Removed { start: *start, end: *end, reason: Code::NotJson }).collect();
        Edits { removed, added: added.to_vec() }
    }

    #[test]
    fn what_is_left_is_in_order_and_complete() {
        let both = edits(&[(0, 2), (5, 6)], &[4, 6, 10]);
        let pieces: Vec<Piece> = both.pieces(10).collect();
        assert_eq!(pieces, [Piece::Kept(2..4), Piece::Lf, Piece::Kept(4..5), Piece::Lf, Piece::Kept(6..10), Piece::Lf]);
        assert_eq!(both.len_after(10), 10);
        assert_eq!(edits(&[], &[]).pieces(0).count(), 0);
        assert_eq!(edits(&[(0, 3)], &[]).pieces(3).count(), 0);
    }

    #[test]
    fn only_changes_at_the_end_are_a_cut() {
        assert_eq!(edits(&[(7, 9), (9, 10)], &[7]).cut_at(10), Some(7));
        assert_eq!(edits(&[], &[10]).cut_at(10), Some(10));
        assert_eq!(edits(&[(7, 9)], &[]).cut_at(10), None);
        assert_eq!(edits(&[(7, 10)], &[8]).cut_at(10), None);
        assert_eq!(edits(&[(2, 3), (7, 10)], &[]).cut_at(10), None);
    }
}
