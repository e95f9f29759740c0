//! The seal: the members at the end of a line that carry the record's number and its CRC.
//!
//! A seal is found from the end of the line, without parsing JSON. The shape decides whether a line is sealed; the CRC decides whether it is
//! whole. A line whose end differs from the shape in one byte counts as sealed and damaged, so that no flipped bit can turn a sealed line into
//! a plain one.

use std::sync::LazyLock;

use crc32fast::Hasher;
use memchr::memmem::{self, Finder};

use super::{CRC_HEX_DIGITS, CRC_PREFIX, CRC_SUFFIX, CRC_TAIL_BYTES, MORE_KEY, SEQ_DIGITS_MAX, SEQ_KEY, SEQ_MAX, VALUE_PREFIX};

/// The seal of one line, as found by its shape; whether the CRC holds is asked separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// From 1 to [`SEQ_MAX`].
    pub(crate) seq: u64,
    /// How many records of the same batch follow; 0 outside a batch and for the last record of one.
    pub(crate) more: u64,
    /// What the seal says; it covers the line's first `covered` bytes.
    pub(crate) crc: u32,
    pub(crate) covered: usize,
    /// Where the payload's own `}` stood, never greater than `covered`; a byte of the seal stands there now.
    pub(crate) close: usize,
}

impl Seal {
    /// The CRC that the bytes of `line` give.
    pub(crate) fn computed(&self, line: &[u8]) -> u32 {
        crc32fast::hash(line.get(..self.covered).unwrap_or(line))
    }

    pub(crate) fn holds(&self, line: &[u8]) -> bool {
        self.computed(line) == self.crc
    }

    /// The number of the last record of the batch, which all its lines agree on.
    pub(crate) fn batch_end(&self) -> u64 {
        self.seq.saturating_add(self.more)
    }
}

/// What the end of a line says about its seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The seal's shape, letter by letter.
    Sealed(Seal),
    /// One byte differs from the shape: a sealed line that was damaged in its seal.
    Near,
    /// A good CRC over members that this version does not know.
    Newer,
    /// No seal: a plain line.
    Plain,
}

/// Looks for a seal at the end of `line`, which has no LF and no white space after it, nor a byte order mark before.
pub(crate) fn shape(line: &[u8]) -> Shape {
    let Some(tail) = Tail::of(line) else {
        return if is_near(line) { Shape::Near } else { Shape::Plain };
    };
    if let Some((seq, more, close)) = numbers(tail.covered) {
        return Shape::Sealed(Seal { seq, more, crc: tail.crc, covered: tail.covered.len(), close });
    }
    if memmem::find(tail.covered, SEQ_KEY).is_some() && crc32fast::hash(tail.covered) == tail.crc {
        return Shape::Newer;
    }
    if is_near(line) { Shape::Near } else { Shape::Plain }
}

/// `,"_crc":"hhhhhhhh"}`, taken off the end of a line.
struct Tail<'a> {
    covered: &'a [u8],
    crc: u32,
}

impl Tail<'_> {
    fn of(line: &[u8]) -> Option<Tail<'_>> {
        let rest = line.strip_suffix(CRC_SUFFIX)?;
        let (rest, digits) = rest.split_last_chunk::<CRC_HEX_DIGITS>()?;
        let covered = rest.strip_suffix(CRC_PREFIX)?;
        Some(Tail { covered, crc: parse_hex(digits)? })
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The number that eight digits spell. Digits of a CRC are as good as random, and a branch on one would be mispredicted half the time, so all eight
/// are worked out at once, one in each byte of a word, and then judged together.
fn parse_hex(digits: &[u8; CRC_HEX_DIGITS]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_be_bytes(*digits);
    let letters = digits >> 6 & ONES;
    let values = (digits & (0x0f * ONES)) + 9 * letters;
    let spelt = values + u64::from(b'0') * ONES + LETTERS_BEHIND * letters;
    // A byte that stands for 10 or more is a letter, and no other byte is.
    let are_hex = (spelt == digits) & (values & (0xf0 * ONES) == 0) & (((values + 6 * ONES) >> 4) & ONES == letters);
    let pairs = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let quarters = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    let number = (quarters | quarters >> 16) & u64::from(u32::MAX);
    u32::try_from(number).ok().filter(|_| are_hex)
}

/// From what would follow `9` to `a`.
const LETTERS_BEHIND: u64 = (b'a' - b'9' - 1) as u64;

/// The numbers at the end of what a seal covers, and where the payload's object was closed.
fn numbers(covered: &[u8]) -> Option<(u64, u64, usize)> {
    let (rest, last) = split_number(covered)?;
    let (before, seq, more) = match rest.strip_suffix(SEQ_KEY) {
        Some(before) => (before, last, 0),
        None => {
            let (rest, seq) = split_number(rest.strip_suffix(MORE_KEY)?)?;
            (rest.strip_suffix(SEQ_KEY)?, seq, last)
        }
    };
    let members = before.strip_prefix(b"{")?;
    let close = match members.split_last() {
        Some((b',', _)) => before.len() - 1,
        _ if members.iter().all(|byte| is_space(*byte)) => before.len(),
        _ => return None,
    };
    (seq <= SEQ_MAX && more <= SEQ_MAX).then_some((seq, more, close))
}

/// Takes a decimal number of at least 1, without leading zero, off the end of `text`. Of more digits than a number has, some stay behind, and no
/// key ends in one.
fn split_number(text: &[u8]) -> Option<(&[u8], u64)> {
    let digits = text.iter().rev().take(SEQ_DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = text.split_at_checked(text.len() - digits)?;
    if digits.first().is_none_or(|first| *first == b'0') {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some((rest, number))
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// Whether some change of one byte gives `line` the shape of a seal.
///
/// The seal's parts have fixed texts but for the digits, so every way to lay 1 to 19 digits out is tried and the bytes that do not fit
/// are counted. The comma before `"_seq"` costs at most one byte whatever stands there.
fn is_near(line: &[u8]) -> bool {
    let Some((covered, tail)) = line.split_at_checked(line.len().saturating_sub(CRC_TAIL_BYTES)) else { return false };
    if !begins_nearly(tail, CRC_PREFIX) {
        return false;
    }
    let in_tail = Misfits::of_tail(tail);
    if !in_tail.at_most_one() {
        return false;
    }
    (1..=SEQ_DIGITS_MAX).any(|digits| {
        let Some((rest, misfits)) = in_tail.take_digits(covered, digits) else { return false };
        if misfits.take_key(rest, SEQ_KEY).is_some_and(Misfits::fits_before) {
            return true;
        }
        let Some((rest, misfits)) = misfits.take_text(rest, MORE_KEY) else { return false };
        (1..=SEQ_DIGITS_MAX).any(|digits| {
            let seq = misfits.take_digits(rest, digits);
            seq.and_then(|(rest, misfits)| misfits.take_key(rest, SEQ_KEY)).is_some_and(Misfits::fits_before)
        })
    })
}

/// Whether of the first eight bytes all but at most one are the same. It rules nearly every plain line out at once.
fn begins_nearly(found: &[u8], expected: &[u8]) -> bool {
    let (Some(found), Some(expected)) = (found.first_chunk(), expected.first_chunk()) else { return true };
    let apart = u64::from_le_bytes(*found) ^ u64::from_le_bytes(*expected);
    // What is left from the lowest byte that differs on.
    let first = apart.trailing_zeros() & !7;
    apart.checked_shr(first).unwrap_or_default() <= u64::from(u8::MAX)
}

/// How many bytes of a line, taken off its end part by part, do not fit the shape of a seal. More than one is as good as a hundred.
#[derive(Clone, Copy)]
struct Misfits(usize);

impl Misfits {
    fn of_tail(tail: &[u8]) -> Misfits {
        let shape = CRC_PREFIX.iter().map(Some).chain(std::iter::repeat_n(None, CRC_HEX_DIGITS)).chain(CRC_SUFFIX.iter().map(Some));
        let wrong = tail.iter().zip(shape).filter(|(byte, expected)| match expected {
            Some(expected) => byte != expected,
            None => !HEX.contains(byte),
        });
        Misfits(wrong.count() + CRC_TAIL_BYTES.abs_diff(tail.len()))
    }

    fn at_most_one(self) -> bool {
        self.0 <= 1
    }

    fn take_digits(self, text: &[u8], count: usize) -> Option<(&[u8], Misfits)> {
        let (rest, digits) = text.split_at_checked(text.len().checked_sub(count)?)?;
        let leading = usize::from(digits.first() == Some(&b'0'));
        let wrong = digits.iter().filter(|byte| !byte.is_ascii_digit()).count();
        let misfits = Misfits(self.0 + wrong + leading);
        misfits.at_most_one().then_some((rest, misfits))
    }

    fn take_text<'a>(self, text: &'a [u8], expected: &[u8]) -> Option<(&'a [u8], Misfits)> {
        let (rest, found) = text.split_at_checked(text.len().checked_sub(expected.len())?)?;
        let misfits = Misfits(self.0 + found.iter().zip(expected).filter(|(a, b)| a != b).count());
        misfits.at_most_one().then_some((rest, misfits))
    }

    /// Takes the key, and counts what is wrong in what stands before it: `{`, then members and a comma, or only white space.
    fn take_key(self, text: &[u8], key: &[u8]) -> Option<Misfits> {
        let (before, misfits) = self.take_text(text, key)?;
        let (open, members) = before.split_first()?;
        let comma = match members.split_last() {
            Some((b',', _)) => 0,
            _ if members.iter().all(|byte| is_space(*byte)) => 0,
            _ => 1,
        };
        Some(Misfits(misfits.0 + usize::from(*open != b'{') + comma))
    }

    fn fits_before(self) -> bool {
        self.at_most_one()
    }
}

/// The last bytes of a line that is sealed with this CRC.
pub(crate) fn tail_of(crc: u32) -> Vec<u8> {
    let mut tail = Vec::with_capacity(CRC_TAIL_BYTES);
    push_tail(&mut tail, crc);
    tail
}

fn push_tail(line: &mut Vec<u8>, crc: u32) {
    let digits: [u8; CRC_HEX_DIGITS] = std::array::from_fn(|at| {
        let shift = 4 * (CRC_HEX_DIGITS - 1 - at);
        HEX.get((crc >> shift & 0xf) as usize).copied().unwrap_or(b'0')
    });
    line.extend_from_slice(CRC_PREFIX);
    line.extend_from_slice(&digits);
    line.extend_from_slice(CRC_SUFFIX);
}

/// How a payload becomes the open part of a sealed line: everything before the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// An object with members: its `}` makes way for `,` and the seal.
    Members,
    /// An object without members: its `}` makes way for the seal.
    Empty,
    /// Anything else, and what could be mistaken for a seal or a wrapped value: `{"_value":` goes before it.
    Wrapped,
}

impl Opening {
    /// Decides for a payload that is one JSON value without white space around it.
    pub(crate) fn of(payload: &[u8]) -> Opening {
        let Some(members) = payload.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")) else { return Opening::Wrapped };
        if payload.starts_with(VALUE_PREFIX) || names_a_seal(payload) {
            return Opening::Wrapped;
        }
        if members.iter().all(|byte| is_space(*byte)) { Opening::Empty } else { Opening::Members }
    }

    /// Whether the payload keeps its last byte, or gives its `}` up to the seal.
    fn kept(self, payload: &[u8]) -> &[u8] {
        match self {
            Opening::Wrapped => payload,
            Opening::Members | Opening::Empty => payload.split_last().map_or(payload, |(_, kept)| kept),
        }
    }

    /// The CRC of the open part up to the seal's first byte.
    pub(crate) fn crc(self, payload: &[u8]) -> u32 {
        let mut crc = Hasher::new();
        if self == Opening::Wrapped {
            crc.update(VALUE_PREFIX);
        }
        crc.update(self.kept(payload));
        crc.finalize()
    }
}

/// One search for the bytes that all three keys begin with, then a look at each place: a false hit only costs a wrapping.
fn names_a_seal(payload: &[u8]) -> bool {
    // Preparing the search costs more than searching one payload.
    static SEARCH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"_"));
    let keys: [&[u8]; 3] = [b"seq\"", b"more\"", b"crc\""];
    SEARCH.find_iter(payload).any(|at| {
        let name = payload.get(at + 2..).unwrap_or_default();
        keys.iter().any(|key| name.starts_with(key))
    })
}

/// Appends the sealed line of `payload`, LF included, and returns the CRC in its seal. `crc` is what [`Opening::crc`] gave for the payload.
pub(crate) fn write(line: &mut Vec<u8>, payload: &[u8], opening: Opening, crc: u32, seq: u64, more: u64) -> u32 {
    let start = line.len();
    if opening == Opening::Wrapped {
        line.extend_from_slice(VALUE_PREFIX);
    }
    line.extend_from_slice(opening.kept(payload));
    let seal = line.len();
    if opening != Opening::Empty {
        line.push(b',');
    }
    line.extend_from_slice(SEQ_KEY);
    line.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
    if more > 0 {
        line.extend_from_slice(MORE_KEY);
        line.extend_from_slice(itoa::Buffer::new().format(more).as_bytes());
    }
    let mut hasher = Hasher::new_with_initial(crc);
    hasher.update(line.get(seal..).unwrap_or_default());
    let crc = hasher.finalize();
    push_tail(line, crc);
    debug_assert!(
        matches!(shape(line.get(start..).unwrap_or_default()), Shape::Sealed(seal) if seal.seq == seq && seal.more == more && seal.crc == crc),
        "a line is sealed just before it is written"
    );
    line.push(super::LF);
    crc
}

/// The payload of a sealed line, byte for byte as it was appended: the byte where the object was closed is put back in `line`.
pub(crate) fn payload<'a>(line: &'a mut [u8], seal: &Seal) -> &'a [u8] {
    if line.starts_with(VALUE_PREFIX) {
        return line.get(VALUE_PREFIX.len()..seal.close).unwrap_or_default();
    }
    if let Some(close) = line.get_mut(seal.close) {
        *close = b'}';
    }
    line.get(..=seal.close).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sealed line without its LF.
    fn sealed(payload: &str, seq: u64, more: u64) -> Vec<u8> {
        let opening = Opening::of(payload.as_bytes());
        let mut line = Vec::new();
        write(&mut line, payload.as_bytes(), opening, opening.crc(payload.as_bytes()), seq, more);
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    const PAYLOADS: [&str; 12] = [
        r#"{"type":"message","text":"hi"}"#,
        "{}",
        "{ }",
        "[1,2]",
        r#""text""#,
        "null",
        "-1.5e3",
        r#"{"a":{"_seq":1}}"#,
        r#"{"_value":1}"#,
        r#"{ "_value":1}"#,
        r#"{"_crc":"00000000"}"#,
        "{\"\u{e9}\":\"\u{1f980}\"}",
    ];

    /// The CRC is the one that zlib computes: its check value, and that of the four bytes of one known word.
    /// Every byte at every place: sixteen are digits, and each is worth its place in the alphabet.
    #[test]
    fn hexadecimal_digits_are_those_sixteen() {
        for place in 0..CRC_HEX_DIGITS {
            for byte in 0..=u8::MAX {
                let mut digits = *b"00000000";
                digits[place] = byte;
                let worth = (0u32..).zip(HEX).find(|(_, digit)| **digit == byte).map(|(worth, _)| worth << (4 * (CRC_HEX_DIGITS - 1 - place)));
                assert_eq!(parse_hex(&digits), worth, "byte {byte:#x} at {place}");
            }
        }
        assert_eq!(parse_hex(b"cbf43926"), Some(0xcbf4_3926));
    }

    #[test]
    fn the_crc_is_ieee() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32fast::hash(b""), 0);
        assert_eq!(crc32fast::hash(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }

    #[test]
    fn every_payload_comes_back_byte_for_byte() {
        for payload in PAYLOADS {
            for (seq, more) in [(1, 0), (9, 1), (10, 25), (SEQ_MAX, 0), (SEQ_MAX - 3, 3)] {
                let mut line = sealed(payload, seq, more);
                let Shape::Sealed(seal) = shape(&line) else { panic!("{payload}: no seal in {}", String::from_utf8_lossy(&line)) };
                assert_eq!((seal.seq, seal.more), (seq, more), "{payload}");
                assert!(seal.holds(&line), "{payload}");
                serde_json::from_slice::<serde_json::Value>(&line).expect("a sealed line is JSON");
                assert_eq!(super::payload(&mut line, &seal), payload.as_bytes());
            }
        }
    }

    /// A key that stood in one object twice would mean another thing to each reader.
    #[test]
    fn what_names_a_key_of_the_seal_is_wrapped() {
        for key in ["_seq", "_more", "_crc"] {
            for payload in [format!("{{\"{key}\":1}}"), format!("{{\"long\":1,\"{key}\":1}}")] {
                assert_eq!(Opening::of(payload.as_bytes()), Opening::Wrapped, "{payload}");
            }
        }
        assert_eq!(Opening::of(br#"{"_sequence":1}"#), Opening::Members);
    }

    /// C16, F58: every single flipped bit of a sealed line is found.
    #[test]
    fn no_flipped_bit_leaves_a_good_or_a_plain_line() {
        for payload in PAYLOADS {
            for (seq, more) in [(1, 0), (42, 0), (8, 7), (SEQ_MAX, 0)] {
                let line = sealed(payload, seq, more);
                for bit in 0..line.len() * 8 {
                    let mut flipped = line.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    match shape(&flipped) {
                        Shape::Sealed(seal) => assert!(!seal.holds(&flipped), "{payload}: bit {bit} went unseen"),
                        Shape::Near => {}
                        other => panic!("{payload}: bit {bit} gave {other:?}"),
                    }
                }
            }
        }
    }

    /// X-12: a good CRC over members that this version does not know is a newer format, not damage.
    #[test]
    fn unknown_members_under_a_good_crc_are_newer() {
        let open = r#"{"a":1,"_seq":1,"_key":"k""#;
        let line = format!(r#"{open},"_crc":"{:08x}"}}"#, crc32fast::hash(open.as_bytes()));
        assert_eq!(shape(line.as_bytes()), Shape::Newer);
        let foreign = r#"{"a":1"#;
        let line = format!(r#"{foreign},"_crc":"{:08x}"}}"#, crc32fast::hash(foreign.as_bytes()));
        assert_eq!(shape(line.as_bytes()), Shape::Plain, "a checksum of somebody else's");
    }

    #[test]
    fn only_the_whole_shape_is_a_seal() {
        for plain in [
            "",
            "{}",
            r#"{"a":1}"#,
            r#"{"_crc":"00000000"}"#,
            r#"{"a":1,"_crc":"79097342"}"#,
            r#"{"_seq":1}"#,
            // A checksum of somebody else's behind a number of theirs.
            r#"{"count":1,"_crc":"79097342"}"#,
            r#"{"a":1,"count":12,"_crc":"79097342"}"#,
            r#"{"a":1,"count":1,"total":2,"_crc":"79097342"}"#,
        ] {
            assert_eq!(shape(plain.as_bytes()), Shape::Plain, "{plain}");
        }
        for two_bytes_off in [r#"{"a":1,"_seq":7,"_crc":"db7eaGGG"}"#, r#"{"a":1,"_seq":1xx,"_crc":"db7ea1eb"}"#, r#"{"_seq":xx,"_crc":"db7ea1eb"}"#]
        {
            assert_eq!(shape(two_bytes_off.as_bytes()), Shape::Plain, "{two_bytes_off}");
        }
        for near in [
            r#"{"_seq":0,"_crc":"db7ea1eb"}"#,
            r#"{"_seq":07,"_crc":"db7ea1eb"}"#,
            r#"{"_seq":7,"_crc":"DB7ea1eb"}"#.replace('D', "d").replace('B', "G").as_str(),
            r#"{"_seq":9223372036854775808,"_crc":"db7ea1eb"}"#,
            r#"{"a":1 "_seq":7,"_crc":"db7ea1eb"}"#,
            r#"["_seq":7,"_crc":"db7ea1eb"}"#,
            r#"{"_seq":7,"_more":0,"_crc":"db7ea1eb"}"#,
        ] {
            assert_eq!(shape(near.as_bytes()), Shape::Near, "{near}");
        }
        for digits in ["12345678901234567890", "01234567890123456789", "112345678901234567890"] {
            for members in [format!("\"_seq\":{digits}"), format!("\"_seq\":{digits},\"_more\":1"), format!("\"_seq\":1,\"_more\":{digits}")] {
                let line = format!("{{{members},\"_crc\":\"{:08x}\"}}", 7);
                assert_eq!(shape(line.as_bytes()), Shape::Plain, "{line}");
            }
        }
    }
}
