//! Following gives each whole record once, in order, whatever happens to the file.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use untorn::{
    Batch, Code, FollowEvent, Followed, Follower, Options, Start, Writer, plan_repair,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use crate::support::TestJournal;

const PATH: &str = "dir/j.jsonl";

/// What a follower has told, as short texts: payloads as they are, events in brackets.
fn drain(follower: &mut Follower) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(followed) = follower.next(Duration::ZERO).expect("following does not fail") {
        told.push(match followed {
            Followed::Record(record) => String::from_utf8(record.value.as_bytes().to_vec()).expect("UTF-8"),
            Followed::Event(event) => match event {
                FollowEvent::Corrupt(finding) => format!("[{} {} {}]", finding.code, finding.offset, finding.len),
                FollowEvent::Rotated { segment, .. } => format!("[rotated {segment}]"),
                FollowEvent::Replaced { resumed, .. } => format!("[replaced {resumed}]"),
                FollowEvent::Truncated { from, .. } => format!("[truncated {from}]"),
                FollowEvent::Pruned { segment, .. } => format!("[pruned {segment}]"),
                FollowEvent::Deleted => "[deleted]".to_owned(),
                other => panic!("{other:?}"),
            },
        });
    }
    told
}

fn follow(disk: &SimDisk, start: Start) -> Follower {
    Follower::options().from(start).disk(disk).open(PATH).expect("the journal opens")
}

fn options(disk: &SimDisk) -> Options {
    let mut options = Writer::options();
    options.durability(untorn::Durability::Os).disk(disk);
    options
}

/// The bytes of a sealed journal with these payloads, a batch of two, and one more record; and what is to be given once how many bytes are there.
fn sealed() -> (Vec<u8>, Vec<(usize, Vec<&'static str>)>) {
    let disk = SimDisk::new();
    let mut writer = options(&disk).open(PATH).unwrap();
    let len = || disk.read_file(PATH).unwrap().len();
    let mut given = Vec::new();
    writer.append_json(b"{\"a\":1}").unwrap();
    given.push((len(), vec!["{\"a\":1}"]));
    writer.append_json(b"[\"wrapped\"]").unwrap();
    given.push((len(), vec!["[\"wrapped\"]"]));
    let mut batch = Batch::new();
    batch.add_json(b"{\"b\":1}").unwrap().add_json(b"{\"b\":2}").unwrap().add_json(b"7").unwrap();
    writer.append_batch(&batch).unwrap();
    given.push((len(), vec!["{\"b\":1}", "{\"b\":2}", "7"]));
    writer.append_json(b"{}").unwrap();
    given.push((len(), vec!["{}"]));
    (disk.read_file(PATH).unwrap(), given)
}

fn given_by(given: &[(usize, Vec<&'static str>)], len: usize) -> Vec<&'static str> {
    given.iter().take_while(|(end, _)| *end <= len).flat_map(|(_, records)| records.clone()).collect()
}

/// X-20, S0-39, F44: bytes that come one at a time are given as whole records, each once, as soon as its LF is there; a batch with its last LF.
#[test]
fn every_prefix_of_a_journal_gives_the_whole_records_in_it_and_nothing_more() {
    let plain = "{\"a\":1}\n[1,2]\n\n7\n\"x\"\n".to_owned();
    let of_plain = vec![(8, vec!["{\"a\":1}"]), (14, vec!["[1,2]"]), (17, vec!["7"]), (21, vec!["\"x\""])];
    for (bytes, given) in [sealed(), (plain.into_bytes(), of_plain)] {
        let disk = SimDisk::new();
        disk.write_file(PATH, "").unwrap();
        let mut follower = follow(&disk, Start::Beginning);
        let mut told = Vec::new();
        for at in 0..bytes.len() {
            disk.append_raw(PATH, &bytes[at..=at]).unwrap();
            told.extend(drain(&mut follower));
            assert_eq!(told, given_by(&given, at + 1), "after byte {at}");
        }
    }
}

/// S0-04, S0-05: whoever begins anew behind the last record given gets the rest, the line that was partial then included.
#[test]
fn a_follower_that_begins_anew_at_any_byte_repeats_and_misses_nothing() {
    let (bytes, given) = sealed();
    for cut in 0..=bytes.len() {
        let disk = SimDisk::new();
        disk.write_file(PATH, &bytes[..cut]).unwrap();
        let mut first = follow(&disk, Start::Beginning);
        let mut told = drain(&mut first);
        let start = first.mark().map_or(Start::Beginning, Start::After);
        disk.append_raw(PATH, &bytes[cut..]).unwrap();
        told.extend(drain(&mut follow(&disk, start)));
        assert_eq!(told, given_by(&given, bytes.len()), "begun anew at byte {cut}");
    }
}

/// S0-35: bytes that were seen as unfinished and then cut are never given, whatever comes in their place, of any length.
#[test]
fn a_partial_line_that_is_rolled_back_is_never_given() {
    let lost = b"{\"lost\":\"0123456789\"}";
    for seen in 1..=lost.len() {
        for padding in 0..24 {
            let disk = SimDisk::new();
            disk.write_file(PATH, "{\"a\":1}\n").unwrap();
            let mut follower = follow(&disk, Start::Beginning);
            assert_eq!(drain(&mut follower), ["{\"a\":1}"]);
            disk.append_raw(PATH, &lost[..seen]).unwrap();
            assert_eq!(drain(&mut follower), [""; 0]);
            assert_eq!(follower.pending(), seen as u64);
            disk.truncate(PATH, 8).unwrap();
            let next = format!("{{\"b\":{padding}}}{}", " ".repeat(padding));
            disk.append_raw(PATH, format!("{next}\n")).unwrap();
            assert_eq!(drain(&mut follower), [next.trim_end()], "{seen} bytes were pending");
        }
    }
}

/// The lines of an unfinished batch are not given, also if others of the same number and length come in their place.
#[test]
fn a_batch_that_is_cut_before_its_end_is_never_given() {
    let batch_of = |disk: &SimDisk, text: &str| {
        let mut writer = options(disk).open(PATH).unwrap();
        let mut batch = Batch::new();
        batch.add(text).unwrap().add(text).unwrap();
        writer.append_batch(&batch).unwrap();
    };
    let disk = SimDisk::new();
    options(&disk).open(PATH).unwrap().append_json(b"{}").unwrap();
    let start = disk.read_file(PATH).unwrap().len();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), ["{}"]);
    batch_of(&disk, "old");
    let len = disk.read_file(PATH).unwrap().len();
    for cut in (start..len).rev() {
        disk.truncate(PATH, cut as u64).unwrap();
        if cut == len - 1 {
            assert_eq!(drain(&mut follower), [""; 0], "cut at byte {cut}");
        }
    }
    disk.truncate(PATH, start as u64).unwrap();
    batch_of(&disk, "new");
    assert_eq!(drain(&mut follower), ["\"new\"", "\"new\""]);
}

/// F45: whatever fails in a writer, and whenever it is looked at, what a follower was given stays in the journal, in that order.
#[test]
fn nothing_that_was_given_is_ever_taken_back() {
    const KINDS: [OpKind; 4] = [OpKind::Write, OpKind::Cut, OpKind::SyncData, OpKind::Unlock];
    let how = |kind: usize| [How::Errno(28), How::Errno(5), How::Short(5), How::Short(90)][kind % 4];
    for failing in 0..160 {
        let disk = SimDisk::new();
        let mut writer = options(&disk).open(PATH).unwrap();
        let follower = Arc::new(Mutex::new((follow(&disk, Start::Beginning), Vec::new())));
        let look = |follower: &Mutex<(Follower, Vec<String>)>| {
            let mut follower = follower.lock().unwrap();
            let told = drain(&mut follower.0);
            follower.1.extend(told);
        };
        disk.fail(Fault { at: OpMatch::nth_of(KINDS[failing % 2], failing / 8), how: how(failing / 2) });
        disk.fail(Fault { at: OpMatch::nth_of(KINDS[(failing / 40) % 4], failing % 5), how: How::Errno(5) });
        for (kind, nth) in KINDS.into_iter().flat_map(|kind| (0..16).map(move |nth| (kind, nth))) {
            let follower = Arc::clone(&follower);
            disk.before(OpMatch::nth_of(kind, nth), move |_| look(&follower));
        }
        for number in 0..6 {
            let _ = if number % 2 == 0 {
                writer.append(&number).map(drop)
            } else {
                let mut batch = Batch::new();
                batch.add(&number).unwrap().add(&number).unwrap();
                writer.append_batch(&batch).map(drop)
            };
        }
        drop(writer);
        disk.heal();
        look(&follower);
        let kept = untorn::Reader::options().disk(&disk).open(PATH).unwrap().records::<u64>();
        let kept: Vec<String> = kept.map(|record| record.unwrap().value.to_string()).collect();
        assert_eq!(follower.lock().unwrap().1, kept, "fault {failing}");
    }
}

fn rotate_by_hand(disk: &SimDisk, number: u64) {
    disk.rename(PATH, format!("dir/j.{number:06}.jsonl")).unwrap();
    disk.write_file(PATH, "").unwrap();
}

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

/// S0-37: a line over the limit is told once, however slowly it comes, and its end is no record.
#[test]
fn a_line_over_the_limit_is_passed_over_and_told() {
    for limit in [10, 200_000] {
        let disk = SimDisk::new();
        disk.write_file(PATH, "1\n").unwrap();
        let mut follower = Follower::options().line_bytes_max(limit).disk(&disk).open(PATH).unwrap();
        assert_eq!(drain(&mut follower), ["1"]);
        disk.append_raw(PATH, "[").unwrap();
        for _ in 0..5 {
            disk.append_raw(PATH, "1,".repeat(50_000)).unwrap();
            assert_eq!(drain(&mut follower), [""; 0]);
        }
        disk.append_raw(PATH, "2\n3\n").unwrap();
        assert_eq!(drain(&mut follower), ["[too-long 2 500003]", "3"], "limit {limit}");
    }
}

/// A line that is long but within the limit is given once, also if what was pending of it was rolled back.
#[test]
fn a_long_line_that_comes_slowly_and_is_rolled_back_is_given_as_it_ended() {
    for len in [1_000, 69_999, 70_000, 70_001, 300_000] {
        let disk = SimDisk::new();
        disk.write_file(PATH, "1\n").unwrap();
        let mut follower = follow(&disk, Start::End);
        for _ in 0..3 {
            disk.append_raw(PATH, format!("\"{}", "x".repeat(69_999))).unwrap();
            assert_eq!(drain(&mut follower), [""; 0]);
        }
        disk.truncate(PATH, 2).unwrap();
        let line = format!("\"{}\"", "y".repeat(len - 2));
        disk.append_raw(PATH, format!("{line}\n")).unwrap();
        let told = drain(&mut follower);
        assert!(told == [&*line], "a line of {len} bytes");
    }
}

#[test]
fn damage_is_told_and_hides_no_record_behind_it() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "1\n{\"a\":\n\0\0\0{\"b\":1}\n2\n").unwrap();
    assert_eq!(drain(&mut follow(&disk, Start::Beginning)), ["1", "[not-json 2 6]", "[nul-run 8 11]", "2"]);
}

#[test]
fn a_batch_that_can_not_become_whole_is_told_when_the_next_record_is_there() {
    let disk = SimDisk::new();
    let mut writer = options(&disk).open(PATH).unwrap();
    let mut batch = Batch::new();
    batch.add(&1).unwrap().add(&2).unwrap();
    writer.append_batch(&batch).unwrap();
    drop(writer);
    let bytes = disk.read_file(PATH).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    disk.truncate(PATH, first as u64).unwrap();
    disk.append_raw(PATH, "{\"stranger\":1}\n").unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    assert_eq!(drain(&mut follower), [""; 0]);
    options(&disk).open(PATH).unwrap().append(&3).unwrap();
    assert_eq!(drain(&mut follower), [&*format!("[open-batch 0 {first}]"), "{\"stranger\":1}", "3"]);
}

#[test]
fn a_number_that_is_still_to_come_is_awaited() {
    let disk = SimDisk::new();
    let mut writer = options(&disk).open(PATH).unwrap();
    writer.append(&1).unwrap();
    let mut follower = follow(&disk, Start::Seq(3));
    for number in 2..=4 {
        writer.append(&number).unwrap();
    }
    assert_eq!(drain(&mut follower), ["3", "4"]);
}

/// An I/O error is told, and the next call goes on where the last one failed.
#[test]
fn after_any_failed_call_following_goes_on_and_misses_nothing() {
    let (bytes, given) = sealed();
    let ops = {
        let disk = SimDisk::new();
        followed_through(&disk, &bytes);
        disk.ops()
    };
    for failing in 0..ops {
        let disk = SimDisk::new();
        disk.fail(Fault { at: OpMatch::nth(failing), how: How::Errno(5) });
        assert_eq!(followed_through(&disk, &bytes), given_by(&given, bytes.len()), "op {failing} failed");
    }
}

/// Follows through a rotation at about half, whatever fails.
fn followed_through(disk: &SimDisk, bytes: &[u8]) -> Vec<String> {
    let half = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    disk.write_file(PATH, &bytes[..half]).unwrap();
    let mut follower = loop {
        if let Ok(follower) = Follower::options().disk(disk).open(PATH) {
            break follower;
        }
    };
    let mut told = Vec::new();
    let mut drain = || {
        for _ in 0..3 {
            while let Ok(Some(followed)) = follower.next(Duration::ZERO) {
                match followed {
                    Followed::Record(record) => told.push(String::from_utf8(record.value.as_bytes().to_vec()).unwrap()),
                    Followed::Event(FollowEvent::Rotated { .. }) => {}
                    Followed::Event(event) => panic!("{event}"),
                }
            }
        }
    };
    drain();
    rotate_by_hand(disk, 1);
    disk.append_raw(PATH, &bytes[half..]).unwrap();
    drain();
    told
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

#[test]
fn a_stopped_follower_gives_nothing_more_and_waits_for_nothing() {
    let journal = TestJournal::with_bytes("1\n");
    let mut follower = Follower::open(&journal.path, Start::End).unwrap();
    let stopper = follower.stopper();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| follower.next(Duration::MAX));
        stopper.stop();
        assert!(waiting.join().unwrap().unwrap().is_none());
    });
    assert!(stopper.is_stopped());
    journal.append_as_stranger("2\n");
    assert!(follower.next(Duration::MAX).unwrap().is_none());
}

#[test]
fn the_line_of_a_payload_is_what_is_on_disk() {
    let (bytes, _) = sealed();
    let disk = SimDisk::new();
    disk.write_file(PATH, bytes.clone()).unwrap();
    let mut follower = follow(&disk, Start::Beginning);
    let mut lines = Vec::new();
    while let Some(Followed::Record(record)) = follower.next(Duration::ZERO).unwrap() {
        lines.extend_from_slice(&record.value.line());
        lines.push(b'\n');
    }
    assert_eq!(lines, bytes);
}

/// A future that is dropped at any moment takes nothing with it.
#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_that_are_dropped_lose_and_repeat_nothing() {
    let journal = TestJournal::with_bytes("");
    let mut follower = Follower::options().poll_every(Duration::from_millis(1)).open(&journal.path).unwrap();
    let path = journal.path.clone();
    let writing = tokio::task::spawn_blocking(move || append_numbers(&path, 500));
    let mut told = Vec::new();
    let mut dropped = 0u64;
    while told.len() < 500 {
        let next = tokio::time::timeout(Duration::from_micros(dropped % 300), follower.next_async());
        match next.await {
            Ok(Ok(Followed::Record(record))) => told.push(record.value.decode::<u64>().unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(_) => dropped += 1,
        }
    }
    writing.await.unwrap();
    assert!(told.into_iter().eq(0..500));
    // What was read ahead for a task is there for who waits without one.
    journal.append_as_stranger("500\n");
    let next = follower.next(Duration::from_secs(60)).unwrap();
    assert!(matches!(next, Some(Followed::Record(record)) if record.value.as_bytes() == b"500"));
    follower.stopper().stop();
    assert_eq!(follower.next_async().await.unwrap_err().kind(), untorn::ErrorKind::Closed);
}

#[cfg(feature = "tokio")]
fn append_numbers(path: &Path, count: u64) {
    let mut options = Writer::options();
    options.durability(untorn::Durability::Os);
    let mut writer = options.open(path).unwrap();
    for number in 0..count {
        writer.append(&number).unwrap();
    }
}

#[test]
fn the_code_of_a_finding_says_what_was_passed_over() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "{\"a\":1}{\"a\":2}\n").unwrap();
    match follow(&disk, Start::Beginning).next(Duration::ZERO).unwrap() {
        Some(Followed::Event(FollowEvent::Corrupt(finding))) => {
            assert_eq!((finding.code, finding.line, finding.offset, finding.len), (Code::Glued, 1, 0, 15));
        }
        other => panic!("{other:?}"),
    }
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
