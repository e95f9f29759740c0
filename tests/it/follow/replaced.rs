//! The file that is followed is rotated, repaired, cut, filled again, replaced or deleted.

use std::time::Duration;

use untorn::{Batch, Followed, Follower, Start, plan_repair, sim::SimDisk};

use super::{PATH, append_numbers, drain, follow, options, rotate_by_hand};
use crate::support::TestJournal;

/// S0-41: what the old file still held is given before the new one is read, also what is written between the rename and the new file.
#[test]
fn a_rotation_is_told_and_loses_nothing() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "1\n").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), ["1"]);
    disk.append_raw(PATH, "2\n").unwrap();
    disk.rename(PATH, "dir/j.000001.jsonl").unwrap();
    assert_eq!(drain(&mut follower), ["2"]);
    disk.append_raw("dir/j.000001.jsonl", "3\n").unwrap();
    disk.write_file(PATH, "4\n").unwrap();
    assert_eq!(drain(&mut follower), ["3", "[rotated 2]", "4"]);
    rotate_by_hand(&disk, 2);
    disk.append_raw(PATH, "5\n").unwrap();
    rotate_by_hand(&disk, 3);
    disk.append_raw(PATH, "6\n").unwrap();
    assert_eq!(drain(&mut follower), ["[rotated 3]", "5", "6"]);
}

#[test]
fn archived_segments_come_first_and_records_that_a_crash_left_twice_come_once() {
    let disk = SimDisk::new();
    let mut writer = options(&disk).open(PATH).unwrap();
    for number in 1..=3 {
        writer.append(&number).unwrap();
    }
    let bytes = disk.read_file(PATH).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let third = second + bytes[second..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    disk.write_file("dir/j.000001.jsonl", &bytes[..third]).unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), ["1", "2", "3"]);
    writer.append(&4).unwrap();
    assert_eq!(drain(&mut follower), ["4"]);
}

/// C28: a repair puts another file in the journal's place, and following goes on behind the last record.
#[test]
fn a_repair_that_replaces_the_file_repeats_and_loses_nothing() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    writer.append(&1).unwrap();
    journal.append_as_stranger("{\"torn\n");
    writer.append(&2).unwrap();
    let mut follower = Follower::open(&journal.path, Start::Beginning).unwrap();
    let told = drain(&mut follower);
    assert_eq!((told.len(), &*told[0], &*told[2]), (3, "1", "2"));
    assert!(told[1].starts_with("[not-json"));
    writer.append(&3).unwrap();
    plan_repair(&journal.path).unwrap().apply().unwrap();
    writer.append(&4).unwrap();
    assert_eq!(drain(&mut follower), ["3", "[replaced true]", "4"]);
}

/// C28: of a file with other content nothing is skipped.
#[test]
fn a_file_with_other_content_is_read_from_its_first_record() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "1\n2\n").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), ["1", "2"]);
    disk.write_file("dir/new", "8\n9\n").unwrap();
    disk.rename("dir/new", PATH).unwrap();
    assert_eq!(drain(&mut follower), ["[replaced false]", "8", "9"]);
    disk.write_file("dir/new", "8\n9\n10\n").unwrap();
    disk.rename("dir/new", PATH).unwrap();
    assert_eq!(drain(&mut follower), ["[replaced true]", "10"]);
}

/// S0-35, C28: a file that was cut is told, however long it has become since, and the partial line is dropped.
#[test]
fn a_truncation_is_told_and_the_new_content_read_from_its_start() {
    for (cut, next) in [(0, "7\n"), (0, ""), (0, "7\n8\n9\n10\n11\n12\n"), (2, "7\n8\n9\n"), (2, "")] {
        let disk = SimDisk::new();
        disk.write_file(PATH, "1\n2\n3\n{\"par").unwrap();
        let mut follower = follow(&disk, Start::Beginning);
        assert_eq!(drain(&mut follower), ["1", "2", "3"]);
        disk.truncate(PATH, cut).unwrap();
        disk.append_raw(PATH, next).unwrap();
        let mut expected = vec!["[truncated 0]"];
        expected.extend(if cut == 2 { Some("1") } else { None });
        expected.extend(next.lines());
        assert_eq!(drain(&mut follower), expected, "cut at {cut}, then {next:?}");
    }
}

/// S0-36: who begins again, at the start or anywhere, takes no half line along.
#[test]
fn beginning_again_forgets_what_was_pending() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "1\n2\n{\"par").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), ["1", "2"]);
    assert!(follower.pending() > 0);
    let mark = follower.mark().unwrap();
    for (start, given) in [(Start::Beginning, &["1", "2"][..]), (Start::After(mark), &[])] {
        let mut again = follow(&disk, start);
        assert_eq!(drain(&mut again), given);
        disk.append_raw(PATH, "t\":1}\n").unwrap();
        assert_eq!(drain(&mut again), ["{\"part\":1}"]);
        disk.truncate(PATH, 9).unwrap();
    }
}

/// S0-35: a batch that was read ahead was cut, and a record written in its place was given as what follows; the one in front of it was skipped. Of a
/// batch that was read to its end, the records are given as they were.
#[test]
fn what_was_read_ahead_of_a_cut_is_not_joined_with_what_came_in_its_place() {
    const READ_BYTES: usize = 64 << 10;
    let (mut whole, mut half) = (0, 0);
    for len in (READ_BYTES - 512..READ_BYTES).step_by(8) {
        let text = |digit: char| digit.to_string().repeat(len);
        let disk = SimDisk::new();
        let mut writer = options(&disk).open(PATH).unwrap();
        let batch = |first: u64| {
            let mut batch = Batch::new();
            batch.add(&first).unwrap().add(&(first + 1)).unwrap();
            batch
        };
        writer.append_batch(&batch(1)).unwrap();
        let kept = disk.read_file(PATH).unwrap().len();
        writer.append(&text('3')).unwrap();
        writer.append_batch(&batch(4)).unwrap();
        drop(writer);
        let mut follower = follow(&disk, Start::Beginning);
        for expected in [b"1", b"2"] {
            let next = follower.next(Duration::ZERO).unwrap();
            assert!(matches!(next, Some(Followed::Record(record)) if record.value.as_bytes() == expected));
        }
        disk.truncate(PATH, kept as u64).unwrap();
        // Of the same length, so each stands where a line stood before.
        let mut writer = options(&disk).open(PATH).unwrap();
        writer.append(&text('7')).unwrap();
        writer.append(&8).unwrap();
        let given: Vec<String> = drain(&mut follower).into_iter().map(|given| given.replace(&text('3'), "3").replace(&text('7'), "7")).collect();
        let given: Vec<&str> = given.iter().map(|given| given.trim_matches('"')).collect();
        match given[..] {
            ["3", "4", "5", "[truncated 0]", "1", "2", "7", "8"] => whole += 1,
            ["3", "[truncated 0]", "1", "2", "7", "8"] => half += 1,
            // The line of the 3 was not read to its end.
            ["7", "8"] => {}
            _ => panic!("{given:?}, {len}"),
        }
    }
    assert!(whole > 0 && half > 0, "{whole}, {half}");
}

/// What was written into a file after it was cut was skipped if the file was archived before the follower looked.
#[test]
fn a_file_that_is_cut_filled_and_archived_between_two_looks_is_read() {
    for refilled in ["", "7\n", "7\n8\n9\n"] {
        let disk = SimDisk::new();
        disk.write_file(PATH, "1\n").unwrap();
        let mut follower = follow(&disk, Start::Beginning);
        assert_eq!(drain(&mut follower), ["1"]);
        disk.truncate(PATH, 0).unwrap();
        disk.append_raw(PATH, refilled).unwrap();
        disk.rename(PATH, "dir/j.000001.jsonl").unwrap();
        disk.write_file(PATH, "10\n").unwrap();
        let given = drain(&mut follower);
        let records: Vec<_> = given.iter().filter(|given| !given.starts_with('[')).map(String::as_str).collect();
        assert_eq!(records, refilled.lines().chain(["10"]).collect::<Vec<_>>(), "{given:?}");
        assert!(given.iter().any(|given| given.starts_with("[truncated")), "{given:?}");
    }
}

/// S0-41: a file that is deleted is read to its end, and one that appears in its place is read.
#[test]
fn a_deleted_file_is_drained_and_a_new_one_awaited() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "1\n").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    disk.append_raw(PATH, "2\n{\"whole\":1}").unwrap();
    disk.remove(PATH).unwrap();
    assert_eq!(drain(&mut follower), ["1", "2", "[deleted]"]);
    disk.write_file(PATH, "3\n").unwrap();
    assert_eq!(drain(&mut follower), ["{\"whole\":1}", "[replaced false]", "3"]);
}

#[test]
fn a_link_that_leads_elsewhere_is_followed_there() {
    let journal = TestJournal::missing();
    let at = |name: &str| journal.dir().join(name);
    std::fs::write(at("one"), "1\n").unwrap();
    std::fs::write(at("two"), "2\n").unwrap();
    std::os::unix::fs::symlink("one", &journal.path).unwrap();
    let mut follower = Follower::open(&journal.path, Start::Beginning).unwrap();
    assert_eq!(drain(&mut follower), ["1"]);
    std::os::unix::fs::symlink("two", at("link")).unwrap();
    std::fs::rename(at("link"), &journal.path).unwrap();
    assert_eq!(drain(&mut follower), ["[replaced false]", "2"]);
}

/// The first records of a plain file that took another's place were skipped if a later line stood where the same one had stood before.
#[test]
fn a_plain_file_that_begins_with_another_line_is_another_file() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "{\"id\":1}\n{\"end\":true}\n").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower).len(), 2);
    disk.write_file("new", "{\"id\":2}\n{\"end\":true}\n").unwrap();
    disk.rename("new", PATH).unwrap();
    assert_eq!(drain(&mut follower), ["[replaced false]", "{\"id\":2}", "{\"end\":true}"]);
}

/// A follower stayed with the old file when the directory that it is in was renamed and made anew.
#[test]
fn a_directory_that_is_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (sessions, path) = (dir.path().join("sessions"), dir.path().join("sessions/a.jsonl"));
    std::fs::create_dir(&sessions).unwrap();
    append_numbers(&path, 1);
    let mut follower = Follower::open(&path, Start::Beginning).unwrap();
    drain(&mut follower);
    std::fs::rename(&sessions, dir.path().join("old")).unwrap();
    std::fs::create_dir(&sessions).unwrap();
    append_numbers(&path, 3);
    assert_eq!(drain(&mut follower), ["[replaced true]", "1", "2"]);
}
