//! A checkpoint is taken up or refused, whatever it says, and never skips a record.

use std::path::Path;

use serde_json::{Value, json};
use untorn::{Checkpoint, ErrorKind, Mark, Reader, Restored, Start, internals, sim::SimDisk};

use super::{Choices, PATH, disk_with, file_of, is_compressed};

/// A saved state is read back as it was saved, and any other bytes are damage. A checkpoint of a record that is there goes on behind it; of any
/// other that it names, everything is given again.
pub fn checkpoint(bytes: &[u8]) {
    decoded(bytes);
    let [choices @ .., _, _, _, _, _, _, _, _] = bytes else { return };
    let mut choices = Choices(bytes[choices.len()..].iter());
    let file = file_of(&bytes[..bytes.len() - 8]);
    if !is_compressed(&file) {
        restored(&mut choices, &file);
    }
}

fn decoded(bytes: &[u8]) {
    match internals::saved_state(bytes) {
        Ok(state) => {
            let again = internals::save_state(&SimDisk::new(), Path::new("/c"), "consumer", &state.sources).unwrap();
            assert_eq!(internals::saved_state(&again).unwrap().sources, state.sources);
        }
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "{error}"),
    }
}

fn restored(choices: &mut Choices<'_>, file: &[u8]) {
    let disk = disk_with(file);
    let all = marks(&disk, Start::Beginning);
    let start = choices.below(file.len() + 2);
    let made_up = json!({"seq": choices.below(9), "crc": "00000000", "segment": 1, "start": start, "end": file.len()});
    let mut last = all.get(choices.below(all.len() + 1)).map_or(made_up, written);
    for member in ["seq", "crc", "segment", "start", "end"] {
        match choices.below(8) {
            0 | 1 => {}
            2 => last[member] = json!(u64::MAX),
            3 if member == "seq" => last[member] = Value::Null,
            4 if member == "crc" => last[member] = json!("deadbeef"),
            moved if member != "crc" => last[member] = json!(last[member].as_u64().unwrap_or(0).wrapping_add(moved as u64)),
            _ => {}
        }
    }
    let known = json!({"path": null, "file": null, "fingerprint": null, "generation": 0, "last": last});
    let Ok(known) = serde_json::from_value::<Checkpoint>(known) else { return };
    let reader = Reader::options().disk(&disk).from(Start::Checkpoint(known.clone())).open(PATH).unwrap();
    let outcome = reader.restored().cloned().unwrap();
    let given = marks(&disk, Start::Checkpoint(known.clone()));
    match outcome {
        Restored::Resumed => {
            let mark = known.mark().unwrap();
            let proof = |found: &Mark| (found.seq, found.crc) == (mark.seq, mark.crc);
            let (known, more): (Vec<Mark>, Vec<Mark>) = given.iter().partition(|found| all.contains(found));
            assert!(all.ends_with(&known), "{all:?} ends otherwise than {given:?}");
            assert!(more.iter().all(|found| is_in_batch_before(file, &given[0], found)), "{more:?} of {given:?} was never there");
            // A line may be there twice; what is behind the last of them is never left out.
            let behind = all.iter().rev().take_while(|found| !proof(found)).count();
            assert!(behind == all.len() || given.len() >= behind, "{mark:?}: {given:?} of {all:?}");
        }
        _ => assert_eq!(given, all, "{outcome:?}"),
    }
}

/// Whoever starts to read inside a batch takes what is left of it for the batch, also if the lines before the first that is read make it one that
/// is not whole.
fn is_in_batch_before(file: &[u8], first: &Mark, found: &Mark) -> bool {
    let end = usize::try_from(first.start.offset).map_or(file.len(), |start| start.min(file.len()));
    let numbers = |line: &[u8]| {
        let line: Value = serde_json::from_slice(line).ok()?;
        Some((line["_seq"].as_u64()?, line["_more"].as_u64()?))
    };
    file[..end]
        .split(|byte| *byte == b'\n')
        .filter_map(numbers)
        .any(|(seq, more)| found.seq.is_some_and(|found| (seq + 1..=seq + more).contains(&found)))
}

fn written(mark: &Mark) -> Value {
    json!({"seq": mark.seq, "crc": format!("{:08x}", mark.crc), "segment": 1, "start": mark.start.offset, "end": mark.end.offset})
}

/// The marks of the records that a reader gives.
fn marks(disk: &SimDisk, start: Start) -> Vec<Mark> {
    let mut reader = Reader::options().disk(disk).from(start).open(PATH).unwrap();
    let mut marks = Vec::new();
    while let Some(mut line) = reader.next_line().unwrap() {
        let mark = line.mark();
        marks.extend(line.payload().map(|_| mark));
    }
    marks
}
