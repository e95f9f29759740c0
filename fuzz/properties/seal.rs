//! A seal gives the payload back, and tells of any byte that changed.

use serde_json::Value;
use untorn::{Reader, Writer, sim::SimDisk};

use super::{PATH, disk_with};

/// A payload comes back as it was given; and once any byte of its line is another, no reader takes anything there for a record.
pub fn seal(bytes: &[u8]) {
    let [place, other, payload @ ..] = bytes else { return };
    let disk = SimDisk::new();
    let mut writer = Writer::options().disk(&disk).open(PATH).unwrap();
    if writer.append_json(payload).is_err() {
        assert!(std::str::from_utf8(payload).is_err() || serde_json::from_slice::<Value>(payload).is_err(), "refused: {}", payload.escape_ascii());
        return;
    }
    let records = records(&disk);
    let payload = payload.trim_ascii();
    if payload.contains(&b'\n') || payload.contains(&b'\r') {
        assert_eq!(json(&records[0]), json(payload));
    } else {
        assert_eq!(records, [payload]);
    }
    let mut line = disk.read_file(PATH).unwrap();
    // What stands for the LF is no part of what the seal covers.
    let place = usize::from(*place) * 7 % (line.len() - 1);
    if line[place] != *other {
        line[place] = *other;
        assert_eq!(self::records(&disk_with(&line)), [b""; 0], "byte {place} is now {other}");
    }
}

fn records(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut reader = Reader::options().disk(disk).open(PATH).unwrap();
    let mut records = Vec::new();
    while let Some(mut line) = reader.next_line().unwrap() {
        records.extend(line.payload().map(<[u8]>::to_vec));
    }
    records
}

/// `None` for nesting that serde refuses.
fn json(payload: &[u8]) -> Option<Value> {
    serde_json::from_slice(payload).ok()
}
