//! A snapshot that is damaged, hostile or ahead of its journal is named, and what is good is used.

use serde_json::json;
use untorn::{Error, ErrorKind, Lock, LockWait, Mark, Record, Result, Resumed, Snapshot, Writer, internals, sim::SimDisk};

use super::{JOURNAL, PATH, PREVIOUS, State, append, fold, journal, recovered, restored, saved_twice, snapshot};

/// S1-02, S1-03, S1-15 to S1-17, S1-20: whatever is wrong with the newest generation, the error names it, and the one before is used.
#[test]
fn a_hostile_snapshot_is_named_and_the_one_before_is_used() {
    let (disk, _) = saved_twice();
    let good = disk.read_file(PATH).unwrap();
    let end = good.iter().position(|byte| *byte == b'\n').unwrap();
    let mut line: serde_json::Value = serde_json::from_slice(&good[..end]).unwrap();
    let generation = line["_seq"].as_u64().unwrap();
    ["_seq", "_crc"].iter().for_each(|member| drop(line.as_object_mut().unwrap().remove(*member)));
    let state = &good[end + 1..];
    let with = |member: &str, value: serde_json::Value| {
        let mut header = line.clone();
        header[member] = value;
        [internals::sealed(header.to_string().as_bytes(), generation, 0), state.to_vec()].concat()
    };
    let there = state.len();
    let long = format!("the header says {} bytes of state, and {there} are there", u64::MAX);
    let too_long = format!("the header says {there} bytes of state, and {there} are there");
    let cases: Vec<(Vec<u8>, ErrorKind, &str)> = vec![
        (with("length", u64::MAX.into()), ErrorKind::Corrupt, &long),
        (with("length", there.into()), ErrorKind::Corrupt, &too_long),
        (with("length", 0.into()), ErrorKind::Corrupt, "bytes stand behind the state"),
        (with("length", (-1).into()), ErrorKind::Corrupt, "its first line is no header"),
        (with("untorn", "checkpoint".into()), ErrorKind::Corrupt, "its magic is \"checkpoint\", not \"snapshot\""),
        (with("version", 2.into()), ErrorKind::NewerFormat, "it has version 2"),
        (with("version", u64::MAX.into()), ErrorKind::NewerFormat, "it has version 18446744073709551615"),
        (with("crc", "00000000".into()), ErrorKind::Corrupt, "the header says CRC 00000000"),
        (with("crc", "x".into()), ErrorKind::Corrupt, "the header's CRC is no number"),
        (with("through", 1.into()), ErrorKind::Corrupt, "its first line is no header"),
        ([&good[..], b"x"].concat(), ErrorKind::Corrupt, "1 bytes stand behind the state"),
        ([&good[..], b"{}\n"].concat(), ErrorKind::Corrupt, "3 bytes stand behind the state"),
        (b"SQLite format 3\0".to_vec(), ErrorKind::Corrupt, "its first line has no end"),
        (b"{\"a\":1}\n".to_vec(), ErrorKind::Corrupt, "its first line is no sealed header"),
        (internals::sealed(b"{\"a\":1}", 1, 0), ErrorKind::Corrupt, "its first line is no header"),
        (Vec::new(), ErrorKind::Corrupt, "it is empty"),
        (vec![0; 1 << 20], ErrorKind::Corrupt, "its first line has no end"),
    ];
    for (bytes, kind, why) in cases {
        disk.write_file(PATH, bytes).unwrap();
        let mut snapshot = snapshot::<State>(&disk);
        let found = snapshot.restore().unwrap().unwrap();
        let error = found.fell_back.unwrap();
        assert!(error.kind() == kind && error.to_string().contains(why), "{error} instead of {why}");
        assert_eq!((found.state, snapshot.refused().map(ToString::to_string)), (State::after(2), Some(error.to_string())));
        // A newer version's snapshot stays; of anything else the next save gets rid, and the one before is kept.
        let saved = snapshot.save(&State::after(2), found.through);
        if kind == ErrorKind::NewerFormat {
            assert_eq!(saved.unwrap_err().kind(), kind);
        } else {
            saved.unwrap();
            assert_eq!(restored(&disk).unwrap(), Some((State::after(2), true)));
        }
        // Without the one before, the error is all there is.
        disk.write_file(PATH, with("length", u64::MAX.into())).unwrap();
        disk.write_file(PREVIOUS, "").unwrap();
        assert!(restored(&disk).unwrap_err().to_string().contains(&long));
        let (fresh, _) = saved_twice();
        disk.write_file(PREVIOUS, fresh.read_file(PREVIOUS).unwrap()).unwrap();
    }
}

/// S1-15: any flipped bit and any cut shows.
#[test]
fn any_flipped_bit_and_any_cut_falls_back() {
    let (disk, _) = saved_twice();
    let good = disk.read_file(PATH).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.write_file(PATH, bytes).unwrap();
        assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "bit {bit}");
    }
    for len in 0..good.len() {
        disk.write_file(PATH, &good[..len]).unwrap();
        assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "{len} bytes");
    }
    disk.remove(PATH).unwrap();
    assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "missing");
}

/// S1-16: what the header says is compared with the size of the file before memory is taken for it: so few bytes are read.
#[test]
fn a_hostile_length_is_not_believed() {
    let (disk, _) = saved_twice();
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes.extend(vec![b' '; 8 << 20]);
    disk.write_file(PATH, bytes).unwrap();
    let before = disk.ops();
    restored(&disk).unwrap();
    let reads: u64 = disk.log()[before..].iter().filter(|op| op.path.starts_with(PATH)).filter_map(|op| op.len).max().unwrap();
    assert!(reads <= 64 << 10, "{reads} bytes at once");
}

/// S1-23, F39: a snapshot that covers what the journal lost, or what is another record by now, is refused, told, and the one before is used.
#[test]
fn a_snapshot_ahead_of_the_journal_is_refused() {
    let (disk, marks) = saved_twice();
    let journal = disk.read_file(JOURNAL).unwrap();
    for len in 0..journal.len() as u64 {
        disk.write_file(JOURNAL, &journal[..len as usize]).unwrap();
        let kept = marks.iter().filter(|mark| mark.end.offset <= len + 1).count() as u64;
        let mut snapshot = snapshot::<State>(&disk);
        match snapshot.restore() {
            Ok(found) => {
                let found = found.unwrap();
                let expected = if kept >= 4 { 4 } else { 2 };
                assert!(kept >= expected && found.state == State::after(expected), "{len} bytes");
                assert_eq!(found.fell_back.is_some(), expected == 2);
            }
            Err(error) => {
                assert!(kept < 2 && error.kind() == ErrorKind::Changed, "{error}");
                assert!(error.to_string().ends_with("and the journal ends before that"), "{error}");
            }
        }
        assert_eq!(recovered(&disk).unwrap(), State::after(kept), "{len} bytes: it is as if it had never been saved");
    }
    // After a power cut the numbers are given again.
    disk.write_file(JOURNAL, &journal[..marks[2].end.offset as usize]).unwrap();
    append(&disk, 40..=42);
    let mut snapshot = snapshot::<State>(&disk);
    let found = snapshot.restore().unwrap().unwrap();
    assert!(found.fell_back.unwrap().to_string().ends_with("and the journal has another one in its place"));
    let mut expected = State::after(3);
    (40..=42).for_each(|n| expected.add(n));
    let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
    assert_eq!(snapshot.recover(&mut resumed, fold).unwrap(), expected);
    assert!(snapshot.refused().is_some());
    // A refused snapshot does not push out the good one.
    drop(resumed);
    let good = disk.read_file(PREVIOUS);
    snapshot.save(&State::after(3), marks[2]).unwrap();
    assert_eq!(disk.read_file(PREVIOUS), good);
    disk.remove(JOURNAL).unwrap();
    assert_eq!(restored(&disk).unwrap_err().kind(), ErrorKind::Changed);
}

/// S1-12, S1-23: a save that names a record which is not there is refused.
#[test]
fn a_save_through_a_record_that_is_not_there_is_refused() {
    let (disk, marks) = journal(3);
    let (other, others) = (SimDisk::new(), [5, 6, 7]);
    let mut writer = Writer::options().disk(&other).open(JOURNAL).unwrap();
    let others: Vec<Mark> = others.iter().map(|n| writer.append(n).unwrap().mark()).collect();
    for mark in others {
        assert_eq!(snapshot(&disk).save(&State::default(), mark).unwrap_err().kind(), ErrorKind::Changed);
    }
    disk.truncate(JOURNAL, marks[1].end.offset).unwrap();
    assert_eq!(snapshot(&disk).save(&State::after(3), marks[2]).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(disk.read_file(PATH), None);
}

/// S1-22: the journal's own members of a rotation: where the covered record is does not matter, and what was pruned is told.
#[test]
fn a_pruned_record_is_unproved_and_a_gap_is_an_error() {
    let (disk, _) = saved_twice();
    let journal = disk.read_file(JOURNAL).unwrap();
    let lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    for cut in 0..6 {
        disk.write_file("/j/session.000001.jsonl", lines[..cut].concat()).unwrap();
        disk.write_file("/j/session.000002.jsonl", lines[cut..cut + 1].concat()).unwrap();
        disk.write_file(JOURNAL, lines[cut + 1..].concat()).unwrap();
        let found = snapshot::<State>(&disk).restore().unwrap().unwrap();
        assert_eq!((found.state, found.is_proved), (State::after(4), true));
        assert_eq!(recovered(&disk).unwrap(), State::after(6));
        disk.remove("/j/session.000001.jsonl").unwrap();
        let found = snapshot::<State>(&disk).restore().unwrap().unwrap();
        assert_eq!((found.state, found.is_proved), (State::after(4), cut < 4));
        match recovered(&disk) {
            Ok(state) => assert!(cut <= 4 && state == State::after(6), "{cut} lines pruned"),
            Err(error) => assert!(cut == 5 && error.kind() == ErrorKind::Pruned, "{error}"),
        }
        // Without any snapshot a journal that does not begin with record 1 gives no state.
        let mut none = Snapshot::<State>::open_on(&disk, "/j/none", JOURNAL).unwrap();
        let mut resumed = Writer::options().disk(&disk).lock(Lock::Held, LockWait::Never).resume(JOURNAL).unwrap();
        match none.recover(&mut resumed, fold) {
            Ok(state) => assert!(cut == 0 && state == State::after(6)),
            Err(error) => assert!(cut > 0 && error.kind() == ErrorKind::Pruned && error.to_string().contains("there is no snapshot"), "{error}"),
        }
        drop(resumed);
        disk.remove("/j/session.000002.jsonl").unwrap();
    }
}

/// A record that is no `T` is the fold's to judge; an error that it returns ends the recovery.
#[test]
fn a_record_that_does_not_decode_is_given_to_the_fold() {
    let (disk, marks) = saved_twice();
    let mut writer = Writer::options().disk(&disk).open(JOURNAL).unwrap();
    writer.append(&json!("seven")).unwrap();
    drop(writer);
    disk.append_raw(JOURNAL, "torn{\n").unwrap();
    append(&disk, 8..=8);
    let error = recovered(&disk).unwrap_err();
    assert_eq!((error.kind(), error.mark().and_then(|mark| mark.seq)), (ErrorKind::Decode, Some(7)));
    let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
    let mut undecoded = 0;
    let tolerant = |state: &mut State, record: Result<Record<u64>>| {
        match record {
            Ok(record) => state.add(record.value),
            Err(_) => undecoded += 1,
        }
        Ok(())
    };
    let state = snapshot(&disk).recover(&mut resumed, tolerant).unwrap();
    let mut expected = State::after(6);
    expected.add(8);
    assert_eq!((state, undecoded, resumed.reader.damage().lines()), (expected, 1, 1));
    assert!(resumed.reader.position() > marks[5].end);
    // The writer goes on.
    let Resumed { mut writer, .. } = resumed;
    assert!(writer.append(&9).unwrap().seq() > Some(8));
}

#[test]
fn a_state_of_another_type_is_no_damage() {
    let (disk, _) = saved_twice();
    let error: Error = Snapshot::<Vec<u8>>::open_on(&disk, PATH, JOURNAL).unwrap().restore().unwrap_err();
    assert_eq!((error.kind(), error.path().unwrap().to_str()), (ErrorKind::Decode, Some(PATH)));
}
