//! How a file is compressed: told by its first bytes, never by its name.

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Compression {
    /// What the first bytes of a file tell; [`HEAD_BYTES`](Compression::HEAD_BYTES) of them are enough. No line of JSON begins like this.
    pub(crate) fn of(head: &[u8]) -> Option<Compression> {
        match head {
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Compression::Zstd),
            // A skippable frame may come first, and is all that there is of an empty segment.
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Compression::Zstd),
            [0x1F, 0x8B, ..] => Some(Compression::Gzip),
            _ => None,
        }
    }

    pub(crate) const HEAD_BYTES: usize = 4;

    /// What a person is told of a file that must not be compressed.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Compression::Zstd => "it is compressed; decompress it first, as with `zstd -d`",
            Compression::Gzip => "it is compressed; decompress it first, as with `gzip -d`",
        }
    }

    /// What a person is told whose build cannot decompress it.
    #[cfg(not(all(feature = "zstd", feature = "gzip")))]
    pub(crate) fn unsupported(self) -> &'static str {
        match self {
            Compression::Zstd => "it is compressed, and this build lacks the feature `zstd`",
            Compression::Gzip => "it is compressed, and this build lacks the feature `gzip`",
        }
    }
}
