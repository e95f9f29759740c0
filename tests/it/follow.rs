//! Following gives each whole record once, in order, whatever happens to the file.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use untorn::{
    Batch, Code, FollowEvent, Followed, Follower, Options, Start, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use crate::support::TestJournal;

mod replaced;

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

fn rotate_by_hand(disk: &SimDisk, number: u64) {
    disk.rename(PATH, format!("dir/j.{number:06}.jsonl")).unwrap();
    disk.write_file(PATH, "").unwrap();
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
