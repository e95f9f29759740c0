//! The bytes after the last LF of a file: a whole record that lacks only its LF, or a torn one, and what a power cut left behind it.

use memchr::memchr;

use super::{
    BOM,
    json::{self, Kind},
    line::Framed,
    verdict::Judged,
};

/// The bytes after the last LF, told apart: first `rest`, then the longest suffix of NULs and white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail<'a> {
    /// Ends in neither NUL nor white space. Begins with the byte order mark if the file does.
    pub(crate) rest: &'a [u8],
    /// After a power cut a file may have grown by NULs, from any byte to its end.
    pub(crate) suffix: &'a [u8],
    pub(crate) kind: TailKind,
}

/// What the tail is without its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailKind {
    /// Nothing but, perhaps, a byte order mark.
    Empty,
    /// One whole record, which lacks only its LF.
    Whole(Judged),
    /// A whole object or array, and more behind it.
    Glued,
    /// A good CRC over seal members that this version does not know.
    Newer,
    /// No whole record.
    Torn,
}

impl<'a> Tail<'a> {
    /// Judges all bytes after the last LF; `starts_file` if there is no LF at all.
    pub(crate) fn new(bytes: &'a [u8], starts_file: bool) -> Tail<'a> {
        let kept = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ' | b'\t' | b'\r')).map_or(0, |last| last + 1);
        let (rest, suffix) = bytes.split_at_checked(kept).unwrap_or((bytes, &[]));
        Tail { rest, suffix, kind: TailKind::of(rest, starts_file) }
    }

    /// Where in the tail the first NUL of the suffix stands.
    pub(crate) fn first_nul(&self) -> Option<usize> {
        memchr(0, self.suffix).map(|at| self.rest.len() + at)
    }
}

impl TailKind {
    fn of(rest: &[u8], starts_file: bool) -> TailKind {
        if rest.is_empty() || starts_file && rest == BOM {
            return TailKind::Empty;
        }
        let framed = Framed::new(rest, starts_file);
        match Judged::of(&framed) {
            whole @ Judged::Sealed(_) => TailKind::Whole(whole),
            // A bare number or literal could be the beginning of a longer one.
            whole @ Judged::Plain(valid) if matches!(valid.kind, Kind::Object | Kind::Array | Kind::String) => TailKind::Whole(whole),
            Judged::Newer => TailKind::Newer,
            Judged::CrcMismatch | Judged::NotJson(_) => match json::first_value(framed.payload()) {
                Ok((first, end)) if matches!(first.kind, Kind::Object | Kind::Array) && end < framed.payload().len() => TailKind::Glued,
                _ => TailKind::Torn,
            },
            Judged::Plain(_) | Judged::Blank => TailKind::Torn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> TailKind {
        Tail::new(bytes, false).kind
    }

    /// C5, X-01: a whole record without its LF is no torn one, nor are two of them.
    #[test]
    fn whole_records_are_told_from_torn_ones() {
        for whole in [&b"{\"a\":1}"[..], b"[1]", b"\"text\"", b"  {\"_seq\":46,\"_crc\":\"db7ea1eb\"}", b"{\"_seq\":46,\"_crc\":\"db7ea1eb\"} \0\0"] {
            assert!(matches!(kind(whole), TailKind::Whole(_)), "{whole:?}");
        }
        for glued in [&b"{\"a\":1}{\"b\":2}"[..], b"{\"a\":1}{\"b", b"[1] x", b"{}\0{}\0"] {
            assert_eq!(kind(glued), TailKind::Glued, "{glued:?}");
        }
        for torn in [&b"{\"a\":1"[..], b"12", b"true", b"\"te", b"\"a\"\"b\"", b"{\"_seq\":46,\"_crc\":\"db7ea1ec\"}", b"{\"a\":\"\xE6\x87"] {
            assert_eq!(kind(torn), TailKind::Torn, "{torn:?}");
        }
    }

    /// X-02, C8, C10: NULs and white space at the end belong to no record.
    #[test]
    fn the_suffix_of_nuls_and_white_space_is_split_off() {
        let tail = Tail::new(b"{\"a\":1} \0\0\t\0", false);
        assert_eq!((tail.rest, tail.suffix, tail.first_nul()), (&b"{\"a\":1}"[..], &b" \0\0\t\0"[..], Some(8)));
        assert_eq!(kind(b"\0\0\0"), TailKind::Empty);
        assert_eq!(kind(b""), TailKind::Empty);
        assert_eq!(Tail::new(b"{\"a\":1} ", false).first_nul(), None);
    }

    /// C18: a byte order mark at the start of a file is no part of a line.
    #[test]
    fn a_file_of_a_byte_order_mark_is_empty() {
        assert_eq!(Tail::new(BOM, true).kind, TailKind::Empty);
        assert_eq!(Tail::new(BOM, false).kind, TailKind::Torn);
    }
}
