//! A line's verdict is what the format page says, told here without the library's own parsers.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use untorn::{Code, Reader, Verdict};

use super::{PATH, disk_with, file_of, is_compressed};

/// Any bytes are read to their end without an error, and each terminated line gets the verdict that its bytes give.
pub fn verdict(bytes: &[u8]) {
    let file = file_of(bytes);
    if is_compressed(&file) {
        return;
    }
    // The numbers of the records that end a batch.
    let mut batches = HashSet::new();
    let mut reader = Reader::options().disk(&disk_with(&file)).open(PATH).unwrap();
    for (index, piece) in file.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let verdict = reader.next_line().unwrap().expect("a line with a verdict for each line there is").verdict();
        let Some(line) = piece.strip_suffix(b"\n") else { continue };
        let line = if index == 0 { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        let (expected, numbers) = judge(line);
        if let Some((seq, more)) = numbers
            && more > 0
        {
            batches.insert(seq + more);
        }
        let agrees = match (verdict, expected) {
            // Which kind of damage it is, is for salvage to say.
            (Verdict::Corrupt(found), Verdict::Corrupt(code)) => (found == Code::NewerFormat) == (code == Code::NewerFormat),
            // The lines of a batch are torn where its end is missing.
            (Verdict::Torn, Verdict::Sealed) => numbers.is_some_and(|(seq, more)| batches.contains(&(seq + more))),
            _ => verdict == expected,
        };
        assert!(agrees, "{verdict:?}, not {expected:?}: {}", line.escape_ascii());
    }
    assert!(reader.next_line().unwrap().is_none());
}

/// The verdict, and of a sealed line its number and how many follow.
fn judge(line: &[u8]) -> (Verdict, Option<(u64, u64)>) {
    let text = trim_end(line);
    let (covered, says) = split_crc(text).unwrap_or((text, 0));
    let crc_holds = covered.len() < text.len() && crc32fast::hash(covered) == says;
    let verdict = match numbers(text) {
        Some(numbers) if crc_holds => return (Verdict::Sealed, Some(numbers)),
        Some(_) => Verdict::Corrupt(Code::CrcMismatch),
        None if crc_holds && contains(covered, b"\"_seq\":") => Verdict::Corrupt(Code::NewerFormat),
        None if is_near(text) => Verdict::Corrupt(Code::CrcMismatch),
        None if text.is_empty() => Verdict::Blank,
        None if is_json(text) => Verdict::Plain,
        None => Verdict::Corrupt(Code::NotJson),
    };
    (verdict, None)
}

fn trim_end(line: &[u8]) -> &[u8] {
    let kept = line.iter().rposition(|byte| !b" \t\r".contains(byte)).map_or(0, |last| last + 1);
    &line[..kept]
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Serde passes strings over without looking at their UTF-8, and never recurses.
fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// What the CRC covers, and what it says.
fn split_crc(text: &[u8]) -> Option<(&[u8], u32)> {
    let (covered, tail) = text.split_at_checked(text.len().checked_sub(19)?)?;
    let digits = std::str::from_utf8(tail).ok()?.strip_prefix(",\"_crc\":\"")?.strip_suffix("\"}")?;
    let is_lower_hex = digits.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
    is_lower_hex.then(|| (covered, u32::from_str_radix(digits, 16).unwrap()))
}

/// If the line has the shape of a seal: its number, and how many follow.
fn numbers(text: &[u8]) -> Option<(u64, u64)> {
    let (rest, number) = split_number(split_crc(text)?.0)?;
    let (rest, seq, more) = match rest.strip_suffix(b",\"_more\":") {
        Some(rest) => split_number(rest).map(|(rest, seq)| (rest, seq, number))?,
        None => (rest, number, 0),
    };
    let members = rest.strip_suffix(b"\"_seq\":")?.strip_prefix(b"{")?;
    let is_open = members.ends_with(b",") || trim_end(members).is_empty();
    (is_open && seq < 1 << 63 && more < 1 << 63).then_some((seq, more))
}

/// A number of at least 1 without leading zeros, taken off the end.
fn split_number(text: &[u8]) -> Option<(&[u8], u64)> {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = text.split_at(text.len() - digits);
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (!digits.starts_with(b"0")).then_some((rest, number))
}

/// Whether some other byte in some place gives the line the shape of a seal: all are tried.
fn is_near(text: &[u8]) -> bool {
    const TAIL: &[u8] = b",\"_crc\":\"hhhhhhhh\"}";
    let Some(tail) = text.len().checked_sub(TAIL.len()).map(|start| &text[start..]) else { return false };
    if tail.iter().zip(TAIL).filter(|(byte, shape)| **shape != b'h' && byte != shape).count() > 1 {
        return false;
    }
    let mut changed = text.to_vec();
    (0..text.len()).any(|place| {
        let finds = b"{},:\"_seqmorc1".iter().any(|byte| {
            changed[place] = *byte;
            numbers(&changed).is_some()
        });
        changed[place] = text[place];
        finds
    })
}
