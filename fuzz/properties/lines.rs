//! Lines are found by their LFs alone, however a file is read.

use std::path::Path;

use untorn::internals::{ScannedLine, lines_backward, lines_forward};

use super::{PATH, disk_with};

/// In chunks of any size, with any limit, the lines are those that splitting at LFs gives.
pub fn forward(bytes: &[u8]) {
    let [chunk, limit, file @ ..] = bytes else { return };
    let (chunk, limit) = (1 + usize::from(*chunk), 1 + u64::from(*limit));
    let found = lines_forward(&disk_with(file), Path::new(PATH), limit, chunk).unwrap();
    assert_eq!(found, split(file, limit), "in chunks of {chunk} bytes");
}

/// Backwards from any boundary, the lines are those in front of it, the last one first.
pub fn backward(bytes: &[u8]) {
    let [limit, skipped, file @ ..] = bytes else { return };
    let limit = 1 + u64::from(*limit);
    let mut expected = split(file, limit);
    expected.retain(|line| line.terminated);
    expected.truncate(expected.len().saturating_sub(usize::from(*skipped)));
    expected.reverse();
    let boundary = expected.first().map_or(0, |last| last.range.end);
    let found = lines_backward(&disk_with(file), Path::new(PATH), boundary, limit).unwrap();
    assert_eq!(found, expected, "from byte {boundary}");
}

/// The slow and simple way.
fn split(file: &[u8], limit: u64) -> Vec<ScannedLine> {
    let mut start = 0;
    let line = |piece: &[u8]| {
        let range = start..start + piece.len() as u64;
        start = range.end;
        let bytes = piece.strip_suffix(b"\n").unwrap_or(piece);
        let too_long = bytes.len() as u64 + 1 > limit;
        let kept = if too_long { &[] } else { bytes };
        ScannedLine { range, terminated: piece.ends_with(b"\n"), too_long, bytes: kept.to_vec() }
    };
    file.split_inclusive(|byte| *byte == b'\n').map(line).collect()
}
