//! Repair loses nothing and invents nothing, whatever the file holds.

use base64::Engine as _;
use serde::de::IgnoredAny;
use untorn::{ErrorKind, RepairOptions, Undone, Unterminated, VerifyOptions, sim::SimDisk};

use super::{PATH, disk_with, file_of};

const QUARANTINE: &str = "/j/session.jsonl.quarantine";
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What the quarantine says of its newest repair.
#[derive(Default)]
struct Kept {
    /// Ascending; offsets are those of the file before.
    ranges: Vec<Range>,
    added: Vec<usize>,
}

struct Range {
    start: usize,
    bytes: Vec<u8>,
    reason: String,
}

impl Range {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// Healthy lines stay byte for byte; every salvaged record is a contiguous range of the file; every other byte is in quarantine at its offset; nothing
/// else is in the repaired file. That is clean, a second repair finds nothing to do, and undoing the first gives the original.
pub fn repair(bytes: &[u8]) {
    let [manner, bytes @ ..] = bytes else { return };
    let before = file_of(bytes);
    let disk = disk_with(&before);
    let line_bytes_max = if manner & 8 == 0 { 1 << 20 } else { 60 };
    let options = options(&disk, *manner, line_bytes_max);
    let plan = match options.plan(PATH) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::NewerFormat | ErrorKind::Compressed), "{error}");
            assert_eq!((disk.read_file(PATH), disk.files().len()), (Some(before), 1));
            return;
        }
    };
    let (is_empty, removed_bytes) = (plan.is_empty(), plan.removed_bytes());
    let repaired = plan.apply().unwrap();
    let after = disk.read_file(PATH).unwrap();
    let kept = newest_repair(&disk);
    assert_eq!((repaired.changed, repaired.removed_bytes, repaired.remaining), (!is_empty, removed_bytes, 0));
    assert_eq!(kept.ranges.iter().map(|range| range.bytes.len() as u64).sum::<u64>(), removed_bytes);

    let joints = conserved(&before, &after, &kept);
    for joint in joints {
        let (left, right) = after.split_at(joint);
        let is_apart = left.is_empty() || left.ends_with(b"\n") || left == BOM || right.is_empty() || right.starts_with(b"\n");
        assert!(is_apart, "a line was put together from two pieces, at byte {joint} of {}", after.escape_ascii());
    }
    healthy_lines_stay(&before, &kept, line_bytes_max as usize);
    for line in after.strip_prefix(BOM).unwrap_or(&after).split(|byte| *byte == b'\n') {
        assert!(may_stay(line), "left behind: {}", line.escape_ascii());
    }

    let report = VerifyOptions::new().disk(&disk).line_bytes_max(line_bytes_max).threads(1).run(PATH, &mut |_| std::ops::ControlFlow::Continue(()));
    assert!(report.unwrap().is_clean());
    assert!(options.plan(PATH).unwrap().is_empty(), "the second time there is something to do");
    assert_eq!(disk.read_file(PATH).unwrap(), after);
    if is_empty {
        assert_eq!((&after, disk.files().len()), (&before, 1));
    } else {
        assert!(matches!(options.undo(PATH).unwrap(), Undone::Restored { .. }));
        assert_eq!(disk.read_file(PATH).unwrap(), before, "the original is not rebuilt");
    }
}

fn options(disk: &SimDisk, manner: u8, line_bytes_max: u64) -> RepairOptions {
    let mut options = RepairOptions::new();
    options.disk(disk).line_bytes_max(line_bytes_max);
    if manner & 1 != 0 {
        options.without_salvage();
    }
    if manner & 2 != 0 {
        options.unterminated(Unterminated::Quarantine);
    }
    if manner & 4 != 0 {
        options.without_backup();
    }
    options
}

fn newest_repair(disk: &SimDisk) -> Kept {
    let Some(quarantine) = disk.durable_file(QUARANTINE) else { return Kept::default() };
    let entries = quarantine.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let entries: Vec<serde_json::Value> = entries.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let mut kept = Kept::default();
    for entry in entries.iter().filter(|entry| entry.get("before_len").is_none()) {
        let start = entry["offset"].as_u64().unwrap() as usize;
        if entry.get("added").is_some() {
            kept.added.push(start);
            continue;
        }
        let bytes = match (entry.get("text"), entry.get("base64")) {
            (Some(text), _) => text.as_str().unwrap().as_bytes().to_vec(),
            (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap(),
            (None, None) => vec![0; entry["len"].as_u64().unwrap() as usize],
        };
        kept.ranges.push(Range { start, bytes, reason: entry["reason"].as_str().unwrap().to_owned() });
    }
    kept.ranges.sort_by_key(|range| range.start);
    kept.added.sort_unstable();
    kept
}

/// The file before, without what is in quarantine and with the LFs that were added, is the file after. Gives the places of it where something was
/// taken out.
fn conserved(before: &[u8], after: &[u8], kept: &Kept) -> Vec<usize> {
    let mut rebuilt = Vec::new();
    let mut joints = Vec::new();
    let mut ranges = kept.ranges.iter().peekable();
    let mut added = kept.added.iter().peekable();
    let mut at = 0;
    loop {
        while added.next_if_eq(&&at).is_some() {
            rebuilt.push(b'\n');
        }
        if let Some(range) = ranges.next_if(|range| range.start == at) {
            assert_eq!(before.get(at..range.end()), Some(&range.bytes[..]), "the quarantine is wrong at byte {at}");
            joints.push(rebuilt.len());
            at = range.end();
        } else if let Some(byte) = before.get(at) {
            rebuilt.push(*byte);
            at += 1;
        } else {
            break;
        }
        assert!(ranges.peek().is_none_or(|range| range.start >= at), "ranges overlap");
    }
    assert!(added.peek().is_none() && ranges.peek().is_none());
    assert_eq!(rebuilt.escape_ascii().to_string(), after.escape_ascii().to_string());
    joints
}

/// But for those of a batch whose end is missing, and those that are too long.
fn healthy_lines_stay(before: &[u8], kept: &Kept, line_bytes_max: usize) {
    let mut start = 0;
    for line in before.split_inclusive(|byte| *byte == b'\n') {
        let range = start..start + line.len();
        start = range.end;
        let Some(text) = line.strip_suffix(b"\n") else { continue };
        let text = if range.start == 0 { text.strip_prefix(BOM).unwrap_or(text) } else { text };
        let is_touched = kept.ranges.iter().any(|taken| taken.start < range.end && range.start < taken.end() && taken.reason != "open-batch");
        let is_split = kept.added.iter().any(|offset| range.contains(offset) && *offset > range.start);
        assert!(!is_healthy(text) || line.len() > line_bytes_max || !(is_touched || is_split), "touched: {}", line.escape_ascii());
    }
}

/// Whether a line without its LF is healthy, told without the library. Of one that only looks as if it were sealed, nothing is said.
fn is_healthy(line: &[u8]) -> bool {
    let is_like_sealed = line.windows(4).any(|bytes| matches!(bytes, b"_seq" | b"_crc"));
    is_json_or_blank(line) && (!is_like_sealed || (is_sealed(line) && has_numbers(line)))
}

/// Whether what stands between `_seq` and `_crc` is what this version writes there.
fn has_numbers(line: &[u8]) -> bool {
    let number = |text: &str| text.parse::<i64>().is_ok_and(|number| number > 0 && number.to_string() == text);
    let Ok(text) = str::from_utf8(line) else { return false };
    let numbers = text.rsplit_once("\"_seq\":").and_then(|(_, rest)| rest.split_once(",\"_crc\":\""));
    numbers.is_some_and(|(numbers, _)| match numbers.split_once(",\"_more\":") {
        Some((seq, more)) => number(seq) && number(more),
        None => number(numbers),
    })
}

/// Whether a line may be in a repaired file.
fn may_stay(line: &[u8]) -> bool {
    is_sealed(line) || is_json_or_blank(line)
}

fn is_sealed(line: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(line) else { return false };
    let sealed = text.trim_end_matches([' ', '\t', '\r']).strip_suffix("\"}").and_then(|rest| rest.rsplit_once(",\"_crc\":\""));
    sealed.is_some_and(|(covered, crc)| text.starts_with('{') && crc == format!("{:08x}", crc32fast::hash(covered.as_bytes())))
}

fn is_json_or_blank(line: &[u8]) -> bool {
    let is_json = || str::from_utf8(line).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    line.iter().all(|byte| b" \t\r".contains(byte)) || is_json()
}
