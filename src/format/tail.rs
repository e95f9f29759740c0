//! What the bytes after the last LF of a file are: a whole record that lacks only its LF, or a torn one.

use super::{
    json::{self, Kind},
    line::Framed,
    verdict::Judged,
};

/// The bytes after the last LF, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
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

impl Tail {
    /// Whether a power cut may leave `byte` behind the last one that was written, or it means nothing there.
    pub(crate) fn is_filling(byte: u8) -> bool {
        matches!(byte, 0 | b' ' | b'\t' | b'\r')
    }

    /// Judges what follows the last LF, without byte order mark, up to the last byte that is no filling.
    pub(crate) fn of(rest: &[u8]) -> Tail {
        let framed = Framed::new(rest, false);
        match Judged::of(&framed) {
            whole @ Judged::Sealed(_) => Tail::Whole(whole),
            // A bare number or literal could be the beginning of a longer one.
            whole @ Judged::Plain(valid) if matches!(valid.kind, Kind::Object | Kind::Array | Kind::String) => Tail::Whole(whole),
            Judged::Newer => Tail::Newer,
            Judged::Blank => Tail::Empty,
            Judged::CrcMismatch | Judged::NotJson(_) => match json::first_value(framed.payload()) {
                Ok((first, end)) if matches!(first.kind, Kind::Object | Kind::Array) && end < framed.payload().len() => Tail::Glued,
                _ => Tail::Torn,
            },
            Judged::Plain(_) => Tail::Torn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C5, X-01: a whole record without its LF is no torn one, nor are two of them.
    #[test]
    fn whole_records_are_told_from_torn_ones() {
        for whole in [&b"{\"a\":1}"[..], b"[1]", b"\"text\"", b"  {\"_seq\":46,\"_crc\":\"db7ea1eb\"}"] {
            assert!(matches!(Tail::of(whole), Tail::Whole(_)), "{whole:?}");
        }
        for glued in [&b"{\"a\":1}{\"b\":2}"[..], b"{\"a\":1}{\"b", b"[1] x", b"{}\0{}"] {
            assert_eq!(Tail::of(glued), Tail::Glued, "{glued:?}");
        }
        for torn in [&b"{\"a\":1"[..], b"12", b"true", b"\"te", b"\"a\"\"b\"", b"{\"_seq\":46,\"_crc\":\"db7ea1ec\"}", b"{\"a\":\"\xE6\x87"] {
            assert_eq!(Tail::of(torn), Tail::Torn, "{torn:?}");
        }
        assert_eq!(Tail::of(b""), Tail::Empty);
    }
}
