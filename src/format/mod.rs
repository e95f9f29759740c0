#![doc = include_str!("FORMAT.md")]

pub(crate) mod compression;
pub(crate) mod json;
pub(crate) mod line;
pub(crate) mod name;
pub(crate) mod seal;
#[cfg(feature = "zstd")]
pub(crate) mod seek_table;
pub(crate) mod tail;
pub(crate) mod verdict;

/// The version of the format that this page describes.
pub const FORMAT_VERSION: u32 = 1;

/// Every line ends in this byte, and is found by it alone.
pub(crate) const LF: u8 = b'\n';

/// Accepted, and reported, at offset 0 of a file; never written.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The key of a record's number.
pub(crate) const SEQ_KEY: &[u8] = b"\"_seq\":";

/// The comma and the key of the count of records that follow in the same batch.
pub(crate) const MORE_KEY: &[u8] = b",\"_more\":";

/// What stands between the bytes that the CRC covers and its digits.
pub(crate) const CRC_PREFIX: &[u8] = b",\"_crc\":\"";

/// Lower-case hexadecimal.
pub(crate) const CRC_HEX_DIGITS: usize = 8;

/// The end of every sealed line.
pub(crate) const CRC_SUFFIX: &[u8] = b"\"}";

/// `,"_crc":"hhhhhhhh"}` ends every sealed line, so a cut that loses any byte of the object loses the proof too.
pub(crate) const CRC_TAIL_BYTES: usize = CRC_PREFIX.len() + CRC_HEX_DIGITS + CRC_SUFFIX.len();
const _: () = assert!(CRC_TAIL_BYTES == 19 && LINE_BYTES_MAX_DEFAULT > CRC_TAIL_BYTES as u64);

/// What a payload that is no object, or that could be mistaken for a wrapped or sealed one, is wrapped in.
pub(crate) const VALUE_PREFIX: &[u8] = b"{\"_value\":";

/// The last number a record can have: the largest that every JSON reader with 64-bit integers takes.
pub(crate) const SEQ_MAX: u64 = (1 << 63) - 1;
const _: () = assert!(SEQ_MAX == i64::MAX.cast_unsigned());

/// The digits of [`SEQ_MAX`].
pub(crate) const SEQ_DIGITS_MAX: usize = 19;

/// The most that a seal can add to a payload, LF and wrapping included.
pub(crate) const SEAL_BYTES_MAX: usize =
    VALUE_PREFIX.len() + 1 + SEQ_KEY.len() + SEQ_DIGITS_MAX + MORE_KEY.len() + SEQ_DIGITS_MAX + CRC_TAIL_BYTES + 1;
const _: () = assert!(SEAL_BYTES_MAX == 85);

/// How long a line may be by default, LF included.
pub const LINE_BYTES_MAX_DEFAULT: u64 = 64 << 20;

/// How much of the end of a file is verified on opening by default.
pub const WINDOW_BYTES_DEFAULT: u64 = 1 << 20;

/// The most bytes that one line of a quarantine file keeps.
pub(crate) const QUARANTINE_RANGE_BYTES_MAX: usize = 1 << 20;

/// A run of NULs at least this long gets a line of its own in a quarantine file.
pub(crate) const QUARANTINE_NUL_RUN_BYTES: usize = 64;

/// How much of the end of a file proves that it is what a repair in place left: see `end_crc`.
pub(crate) const QUARANTINE_END_BYTES: u64 = 64 << 10;

// The documentation gives these as 64 MiB, 1 MiB, 1 MiB and 64 KiB.
const _: () = assert!(LINE_BYTES_MAX_DEFAULT == 67_108_864 && WINDOW_BYTES_DEFAULT == 1_048_576);
const _: () = assert!(QUARANTINE_RANGE_BYTES_MAX == 1_048_576 && QUARANTINE_END_BYTES == 65_536);

/// A frame of a compressed segment holds as many whole lines as fit into this, or one longer line.
#[cfg(feature = "zstd")]
pub(crate) const COMPRESSED_FRAME_BYTES: usize = 4 << 20;
#[cfg(feature = "zstd")]
const _: () = assert!(COMPRESSED_FRAME_BYTES == 4_194_304);
