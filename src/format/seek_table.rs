//! The seek table behind the frames of a compressed segment: how long each frame is, compressed and not.
//!
//! It is a skippable frame, so decompressors pass over it: a header of two numbers (its magic, the bytes that follow), one entry for each frame, and
//! a footer. All numbers are little-endian. This is the seekable format of the `contrib` directory of zstd, which other tools read too. Entries
//! may carry a checksum, which is passed over here: each frame has one of its own.
//!
//! Nothing in a table is believed: who reads one proves each entry by its frame.

/// The first bytes of a zstd frame.
pub(crate) const FRAME_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

const HEADER_BYTES: usize = 8;

/// The number of frames, a descriptor, a magic.
pub(crate) const FOOTER_BYTES: usize = 9;

const ENTRY_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// In the descriptor: entries carry checksums; and the bits that must not be set.
const HAS_CHECKSUMS: u8 = 0x80;
const RESERVED: u8 = 0x7C;

/// So many frames of ours are a terabyte. A table of more is not used, so that what it takes in memory is bounded.
pub(crate) const FRAMES_MAX: usize = 1 << 18;

/// What a frame takes, and what it holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) compressed: u32,
    pub(crate) content: u32,
}

/// The table of a file of these frames.
pub(crate) fn encode(entries: &[Entry]) -> Option<Vec<u8>> {
    let frames = u32::try_from(entries.len()).ok()?;
    let following = u32::try_from(entries.len().checked_mul(ENTRY_BYTES)?.checked_add(FOOTER_BYTES)?).ok()?;
    let mut table = Vec::new();
    table.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
    table.extend_from_slice(&following.to_le_bytes());
    for entry in entries {
        table.extend_from_slice(&entry.compressed.to_le_bytes());
        table.extend_from_slice(&entry.content.to_le_bytes());
    }
    table.extend_from_slice(&frames.to_le_bytes());
    table.push(0);
    table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Some(table)
}

/// How a table is laid out, as the last bytes of the file say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) frames: usize,
    pub(crate) entry_bytes: usize,
}

impl Layout {
    /// Reads the last [`FOOTER_BYTES`] of a file; `None` if they end no table that can be used.
    pub(crate) fn of(footer: &[u8]) -> Option<Layout> {
        let frames = usize::try_from(number(footer)?).ok().filter(|frames| *frames <= FRAMES_MAX)?;
        let (descriptor, magic) = footer.get(4..)?.split_first()?;
        if number(magic)? != SEEKABLE_MAGIC || descriptor & RESERVED != 0 {
            return None;
        }
        let checksum = if descriptor & HAS_CHECKSUMS != 0 { CHECKSUM_BYTES } else { 0 };
        Some(Layout { frames, entry_bytes: ENTRY_BYTES + checksum })
    }

    /// The bytes of the whole table.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.frames * self.entry_bytes + FOOTER_BYTES
    }

    /// The entries of a table that has this layout, if it is one.
    pub(crate) fn entries<'a>(&self, table: &'a [u8]) -> Option<impl Iterator<Item = Entry> + use<'a>> {
        let (header, rest) = table.split_at_checked(HEADER_BYTES)?;
        let following = usize::try_from(number(header.get(4..)?)?).ok()?;
        if number(header)? != SKIPPABLE_MAGIC || following != rest.len() || table.len() != self.len() {
            return None;
        }
        let entries = rest.get(..self.frames * self.entry_bytes)?.chunks_exact(self.entry_bytes);
        Some(entries.filter_map(|entry| Some(Entry { compressed: number(entry)?, content: number(entry.get(4..)?)? })))
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(table: &[u8]) -> Option<Vec<Entry>> {
        let layout = Layout::of(&table[table.len().checked_sub(FOOTER_BYTES)?..])?;
        let start = table.len().checked_sub(layout.len())?;
        Some(layout.entries(&table[start..])?.collect())
    }

    #[test]
    fn a_table_is_read_back_as_written() {
        for count in [0, 1, 3] {
            let written: Vec<Entry> = (1..=count).map(|n| Entry { compressed: 10 * n, content: 100 * n }).collect();
            assert_eq!(entries(&encode(&written).unwrap()), Some(written));
        }
    }

    /// The bytes are those that other tools write and read.
    #[test]
    fn a_table_has_the_published_layout() {
        let table = encode(&[Entry { compressed: 0x0102, content: 0x0304 }]).unwrap();
        let published = b"\x5e\x2a\x4d\x18\x11\0\0\0\x02\x01\0\0\x04\x03\0\0\x01\0\0\0\0\xb1\xea\x92\x8f";
        assert_eq!(table, published);
        let with_checksum = b"\x5e\x2a\x4d\x18\x15\0\0\0\x02\x01\0\0\x04\x03\0\0AAAA\x01\0\0\0\x80\xb1\xea\x92\x8f";
        assert_eq!(entries(with_checksum), Some(vec![Entry { compressed: 0x0102, content: 0x0304 }]));
    }

    #[test]
    fn a_table_with_any_byte_of_its_frame_changed_is_none_or_another_one() {
        let table = encode(&[Entry { compressed: 7, content: 9 }]).unwrap();
        for at in (0..8).chain(16..table.len()) {
            let mut changed = table.clone();
            changed[at] ^= 0x41;
            assert_eq!(entries(&changed), None, "byte {at}");
        }
        for len in 0..table.len() {
            assert_eq!(entries(&table[..len]), None, "cut at {len}");
        }
    }
}
