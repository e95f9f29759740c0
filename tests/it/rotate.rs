//! Rotation: by call, size and age; numbers, form, mode and positions go on; and what is refused.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use serde_json::json;
use untorn::{Durability, ErrorKind, Format, Lock, LockWait, Mark, Position, Reader, Record, Start, Writer};

use crate::support::TestJournal;

fn values(journal: &TestJournal) -> Vec<u64> {
    from(journal, Start::Beginning).into_iter().map(|record| record.value).collect()
}

fn from(journal: &TestJournal, start: Start) -> Vec<Record<u64>> {
    let reader = Reader::options().from(start).open(&journal.path).expect("the journal opens");
    let mut records = reader.records::<u64>();
    let found = records.by_ref().map(|record| record.expect("it is a number")).collect();
    assert!(records.damage().is_empty(), "{}", records.damage());
    found
}

fn segment(journal: &TestJournal, number: u64) -> PathBuf {
    journal.dir().join(format!("j.{number:06}.jsonl"))
}

fn append(writer: &mut Writer, numbers: impl IntoIterator<Item = u64>) -> Vec<Mark> {
    numbers.into_iter().map(|number| writer.append(&number).expect("there is room").mark()).collect()
}

#[test]
fn numbers_positions_and_marks_go_on_across_a_rotation() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let mut marks = append(&mut writer, 1..=3);
    let before = fs::read(&journal.path).unwrap();
    let rotated = writer.rotate().unwrap();
    assert_eq!(rotated.archived, Some(segment(&journal, 1)));
    assert_eq!((rotated.segment, rotated.first_seq, rotated.last_seq, rotated.bytes), (1, Some(1), Some(3), before.len() as u64));
    assert_eq!(fs::read(segment(&journal, 1)).unwrap(), before, "not a byte is different");
    assert_eq!(journal.bytes(), b"");
    marks.extend(append(&mut writer, 4..=5));
    writer.rotate().unwrap();
    marks.extend(append(&mut writer, 6..=6));
    assert_eq!(values(&journal), [1, 2, 3, 4, 5, 6]);
    assert_eq!(marks.iter().map(|mark| mark.start.segment).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 3]);
    for (behind, mark) in marks.iter().enumerate() {
        assert_eq!(mark.seq, Some(behind as u64 + 1));
        for start in [Start::After(*mark), Start::Position(mark.end)] {
            let values: Vec<u64> = from(&journal, start).into_iter().map(|record| record.value).collect();
            assert_eq!(values, (behind as u64 + 2..=6).collect::<Vec<_>>(), "behind {mark:?}");
        }
    }
    let read = from(&journal, Start::Beginning);
    assert_eq!(read.iter().map(|record| record.mark).collect::<Vec<_>>(), marks, "a reader gives the same marks as the writer");
    assert!(untorn::verify(&journal.path).unwrap().is_clean());
}

#[test]
fn an_empty_segment_is_not_rotated() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    for segment in 1..=2 {
        let rotated = writer.rotate().unwrap();
        assert_eq!((rotated.archived, rotated.segment, rotated.bytes), (None, segment, 0));
        append(&mut writer, [segment]);
        assert!(writer.rotate().unwrap().archived.is_some());
    }
    assert_eq!(untorn::rotate(&journal.path).unwrap().archived, None);
    assert_eq!(values(&journal), [1, 2]);
}

#[test]
fn a_plain_journal_rotates_and_stays_plain() {
    let journal = TestJournal::with_bytes("1\n{\"a\":2}\n");
    let rotated = untorn::rotate(&journal.path).unwrap();
    assert_eq!((rotated.first_seq, rotated.last_seq, rotated.bytes), (None, None, 10));
    let mut writer = journal.open();
    assert_eq!(writer.append(&3).unwrap().mark().start, Position { segment: 2, offset: 0 });
    assert_eq!(journal.text(), "3\n");
    assert_eq!(Reader::open(&journal.path).unwrap().records::<serde_json::Value>().count(), 3);
}

#[test]
fn a_segment_outgrows_its_limit_by_less_than_one_append() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.rotate_at(200));
    append(&mut writer, 1..=40);
    assert_eq!(values(&journal), (1..=40).collect::<Vec<_>>());
    let last = writer.append(&41).unwrap().mark();
    for number in 1..last.start.segment {
        let len = fs::metadata(segment(&journal, number)).unwrap().len();
        assert!((200..200 + 60).contains(&len), "segment {number} has {len} bytes");
    }
    assert!(last.start.segment > 5);
}

#[test]
fn a_segment_is_rotated_when_its_first_record_is_old() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.rotate_after(Duration::ZERO));
    let marks = append(&mut writer, 1..=4);
    assert_eq!(marks.iter().map(|mark| mark.start.segment).collect::<Vec<_>>(), [1, 2, 3, 4]);
    drop(writer);
    let mut writer = journal.open_with(|options| _ = options.rotate_after(Duration::from_secs(1_000_000)));
    assert!(append(&mut writer, 5..=8).iter().all(|mark| mark.start.segment == 4));
    drop(writer);
    // What the file system tells of the file's age counts for a writer that has just come.
    let mut writer = journal.open_with(|options| _ = options.rotate_after(Duration::from_nanos(1)));
    assert_eq!(append(&mut writer, [9])[0].start.segment, 5);
    assert_eq!(values(&journal), (1..=9).collect::<Vec<_>>());
}

/// Neither the time in which the file was empty counts, nor that of an append that was refused; but that before the writer came does.
///
/// Where the machine was slower than the age, that two appends came quickly says nothing, and it is tried anew.
#[test]
fn a_segment_is_as_old_as_its_first_record() {
    let age = Duration::from_millis(100);
    for _ in 0..20 {
        let open = |journal: &TestJournal| journal.open_with(|options| _ = options.rotate_after(age).line_bytes_max(100));
        let [empty, begun, left] = [(); 3].map(|()| TestJournal::missing());
        let (mut after_refusal, mut at_work) = (open(&empty), open(&begun));
        after_refusal.append(&"x".repeat(100)).unwrap_err();
        append(&mut at_work, [1]);
        append(&mut open(&left), [1]);
        std::thread::sleep(age);
        let now = std::time::Instant::now();
        let marks = append(&mut after_refusal, [1, 2]);
        let is_quick = now.elapsed() < age;
        assert_eq!(append(&mut at_work, [2])[0].start.segment, 2);
        // Not every file system tells when a file was created.
        let is_told = left.path.metadata().unwrap().created().is_ok();
        assert_eq!(append(&mut open(&left), [2])[0].start.segment, if is_told { 2 } else { 1 });
        if is_quick {
            assert!(marks.iter().all(|mark| mark.start.segment == 1));
            return;
        }
    }
}

#[test]
fn other_writers_go_on_in_the_new_file() {
    let journal = TestJournal::missing();
    let (mut one, mut other) = (journal.open(), journal.open());
    append(&mut one, [1]);
    append(&mut other, [2]);
    one.rotate().unwrap();
    append(&mut other, [3]);
    other.rotate().unwrap();
    untorn::rotate(&journal.path).unwrap();
    append(&mut one, [4]);
    append(&mut other, [5]);
    assert_eq!(values(&journal), [1, 2, 3, 4, 5]);
    assert_eq!(other.sync().unwrap(), Position { segment: 3, offset: journal.bytes().len() as u64 });
}

#[test]
fn a_held_lock_is_held_on_the_new_file_too() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.lock(Lock::Held, LockWait::Never));
    append(&mut writer, [1]);
    writer.rotate().unwrap();
    let mut options = Writer::options();
    let error = options.lock(Lock::PerAppend, LockWait::Never).open(&journal.path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    append(&mut writer, [2]);
    writer.close().unwrap();
    assert_eq!(values(&journal), [1, 2]);
}

/// F46: the number, the form and the mode come from the newest archived segment, through a link too.
#[test]
fn a_missing_active_segment_is_made_like_the_newest_archived_one() {
    for (bytes, form) in [("{\"text\":\"hi\",\"_seq\":1,\"_crc\":\"72ce66d0\"}\n", Format::Sealed), ("{\"text\":\"hi\"}\n", Format::Plain)] {
        for through_link in [false, true] {
            let journal = TestJournal::with_bytes(bytes);
            fs::set_permissions(&journal.path, fs::Permissions::from_mode(0o640)).unwrap();
            untorn::rotate(&journal.path).unwrap();
            let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&journal.path), 0o640, "a rotation keeps the mode");
            fs::remove_file(&journal.path).unwrap();
            assert_eq!(Reader::open(&journal.path).unwrap().records::<serde_json::Value>().count(), 1);
            let link = journal.dir().join("link.jsonl");
            std::os::unix::fs::symlink("j.jsonl", &link).unwrap();
            let path = if through_link { &link } else { &journal.path };
            assert_eq!(Reader::open(path).unwrap().records::<serde_json::Value>().count(), 1);
            let appended = Writer::open(path).unwrap().append(&json!({})).unwrap();
            assert_eq!(appended.mark().start, Position { segment: 2, offset: 0 });
            assert_eq!(appended.seq(), (form == Format::Sealed).then_some(2));
            assert_eq!(mode(&journal.path), 0o640);
        }
    }
}

#[test]
fn a_journal_that_is_missing_is_not_made_by_a_rotation() {
    let journal = TestJournal::missing();
    assert_eq!(untorn::rotate(&journal.path).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 0);
}

#[test]
fn a_second_hard_link_refuses_a_rotation_and_not_an_append() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.rotate_at(1));
    append(&mut writer, [1]);
    fs::hard_link(&journal.path, journal.dir().join("second")).unwrap();
    assert_eq!(writer.rotate().unwrap_err().kind(), ErrorKind::HardLinked);
    append(&mut writer, 2..=3);
    assert_eq!(writer.rotation_failure().map(untorn::Error::kind), Some(ErrorKind::HardLinked));
    fs::remove_file(journal.dir().join("second")).unwrap();
    assert_eq!(writer.rotate().unwrap().last_seq, Some(3));
    append(&mut writer, [4]);
    assert_eq!(values(&journal), [1, 2, 3, 4]);
}

/// Within a second; where the machine made the two appends slower than that, they say nothing, and it is tried anew.
#[test]
fn a_rotation_that_failed_is_not_tried_again_at_once() {
    for _ in 0..20 {
        let journal = TestJournal::missing();
        let mut writer = journal.open_with(|options| _ = options.rotate_at(1));
        append(&mut writer, [1]);
        let second = journal.dir().join("second");
        fs::hard_link(&journal.path, &second).unwrap();
        let begun = std::time::Instant::now();
        append(&mut writer, [2]);
        fs::remove_file(second).unwrap();
        append(&mut writer, [3]);
        let is_tried_again = writer.rotation_failure().is_none();
        if begun.elapsed() < Duration::from_secs(1) {
            assert!(!is_tried_again);
            return;
        }
    }
}

/// F49: nothing is replaced that has the next name, whatever it is.
#[test]
fn a_name_that_is_taken_is_never_replaced() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    append(&mut writer, [1]);
    fs::create_dir(segment(&journal, 1)).unwrap();
    let error = writer.rotate().unwrap_err();
    assert!(error.to_string().contains("j.000001.jsonl"), "{error}");
    append(&mut writer, [2]);
    assert!(segment(&journal, 1).is_dir());
    fs::remove_dir(segment(&journal, 1)).unwrap();
    writer.rotate().unwrap();
    // Numbers go on from the highest that is there, whatever is missing below.
    fs::rename(segment(&journal, 1), segment(&journal, 41)).unwrap();
    append(&mut writer, [3]);
    assert_eq!(writer.rotate().unwrap().segment, 42);
    append(&mut writer, [4]);
    assert_eq!(values(&journal), [1, 2, 3, 4]);
}

/// A stray file with a number of seven digits that begins with 0 made the journal unreadable, and one with the largest number hid what it had.
#[test]
fn a_name_that_is_not_quite_a_segments_is_none() {
    let journal = TestJournal::missing();
    append(&mut journal.open(), [1]);
    for name in ["j.0000001.jsonl", "j.18446744073709551615.jsonl"] {
        fs::write(journal.dir().join(name), "5\n").unwrap();
    }
    journal.open().rotate().unwrap();
    append(&mut journal.open(), [2]);
    assert_eq!(values(&journal), [1, 2]);
}

/// Whoever writes without the lock goes on in the file that he has open, and what he writes is read.
#[test]
fn what_a_stranger_appends_to_an_archived_segment_is_read() {
    use std::io::Write as _;
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    append(&mut writer, [1]);
    let mut stranger = fs::OpenOptions::new().append(true).open(&journal.path).unwrap();
    let rotated = writer.rotate().unwrap();
    assert_eq!(rotated.strangers.first().map(|stranger| stranger.pid), Some(std::process::id()));
    append(&mut writer, [3]);
    stranger.write_all(b"2\n").unwrap();
    assert_eq!(values(&journal), [1, 2, 3]);
}

#[test]
fn the_first_record_is_not_written_again_in_a_new_segment() {
    let journal = TestJournal::missing();
    let open = || journal.open_with(|options| _ = options.first_record(&json!("header")).rotate_at(1));
    let mut writer = open();
    writer.append(&json!(1)).unwrap();
    writer.rotate().unwrap();
    drop(writer);
    drop(open());
    fs::remove_file(&journal.path).unwrap();
    open().append(&json!(2)).unwrap();
    let read: Vec<_> = Reader::open(&journal.path).unwrap().records::<serde_json::Value>().map(|record| record.unwrap().value).collect();
    assert_eq!(read, [json!("header"), json!(1), json!(2)]);
}

#[test]
fn a_reader_that_was_opened_before_reads_what_was_there() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    append(&mut writer, 1..=3);
    let reader = Reader::open(&journal.path).unwrap();
    writer.rotate().unwrap();
    append(&mut writer, [4]);
    assert_eq!(reader.records::<u64>().map(|record| record.unwrap().value).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_torn_tail_is_repaired_before_it_is_archived() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    append(&mut writer, 1..=2);
    journal.append_as_stranger("{\"torn");
    assert_eq!(writer.rotate().unwrap().last_seq, Some(2));
    append(&mut writer, [3]);
    assert_eq!(values(&journal), [1, 2, 3]);
    assert!(journal.quarantine().is_some_and(|kept| kept.contains("torn")));
}

#[test]
fn a_shared_writer_rotates_between_groups() {
    let journal = TestJournal::missing();
    let shared = journal.open_with(|options| _ = options.rotate_at(2000).durability(Durability::Os)).into_shared();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shared = shared.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    shared.append(&(thread * 1000 + n)).unwrap();
                    if n % 40 == 39 {
                        shared.rotate().unwrap();
                    }
                }
            });
        }
    });
    let queued: Vec<_> = (5000..5010).map(|n| shared.enqueue(&n).unwrap()).collect();
    let rotated = shared.rotate().unwrap();
    assert_eq!(rotated.last_seq, Some(410), "what was queued before is in it");
    assert!(queued.into_iter().all(|queued| queued.wait().unwrap().mark().start.segment <= rotated.segment));
    shared.close().unwrap();
    assert_eq!(shared.rotate().unwrap_err().kind(), ErrorKind::Closed);
    let records = from(&journal, Start::Beginning);
    assert!(records.iter().map(|record| record.mark.seq).eq((1..=410).map(Some)));
    for thread in 0..4 {
        let own = records.iter().map(|record| record.value).filter(|value| value / 1000 == thread && *value < 4000);
        assert!(own.eq((0..100).map(|n| thread * 1000 + n)));
    }
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn tasks_rotate_through_the_same_queue() {
    let journal = TestJournal::missing();
    let writer = journal.open().into_async();
    let queued = writer.enqueue(&1).await.unwrap();
    assert_eq!(writer.rotate().await.unwrap().last_seq, Some(1));
    let first = queued.await.unwrap();
    let second = writer.append(&2).await.unwrap();
    assert_eq!((first.mark().start.segment, second.mark().start.segment), (1, 2));
    writer.durable_through(first.mark().end).await.unwrap();
    drop(writer.rotate());
    assert_eq!(writer.rotate().await.unwrap().segment, 2, "one that was never awaited does nothing");
    writer.close().await.unwrap();
    assert_eq!(values(&journal), [1, 2]);
}

/// A lazily created journal has no file that could be rotated.
#[test]
fn a_journal_that_is_not_created_yet_is_not_made_by_a_shared_writer_either() {
    let journal = TestJournal::missing();
    let shared = Writer::options().create_lazily().open_shared(&journal.path).unwrap();
    assert_eq!(shared.rotate().unwrap_err().kind(), ErrorKind::Io);
    assert!(!journal.path.exists());
    shared.append(&1).unwrap();
    shared.rotate().unwrap();
    assert_eq!(values(&journal), [1]);
}

#[cfg(feature = "sim")]
mod sim {
    use untorn::sim::{Fault, How, OpKind, OpMatch, SimDisk};

    use super::*;

    /// Whatever durability they were appended with, and by whom.
    #[test]
    fn a_rotation_makes_every_record_of_the_segment_durable() {
        let disk = SimDisk::new();
        let open = || {
            let mut options = Writer::options();
            options.durability(Durability::Os).disk(&disk).open("j.jsonl").unwrap()
        };
        let (mut one, mut other) = (open(), open());
        append(&mut one, [1]);
        append(&mut other, [2]);
        one.rotate().unwrap();
        append(&mut one, [3]);
        let image = disk.crash_now();
        let records = Reader::options().disk(&image).open("j.jsonl").unwrap().records::<u64>();
        assert_eq!(records.map(|record| record.unwrap().value).collect::<Vec<_>>(), [1, 2]);
    }

    fn open(disk: &SimDisk, durability: Durability) -> Writer {
        let mut options = Writer::options();
        options.durability(durability).disk(disk).open("j.jsonl").unwrap()
    }

    fn fail_next_sync(disk: &SimDisk) {
        let syncs = disk.log().iter().filter(|op| op.kind == OpKind::SyncData).count();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs), how: How::SyncFailsAndDrops(5) });
    }

    fn after_a_power_cut(disk: &SimDisk) -> Vec<u64> {
        let image = disk.crash_now();
        let records = Reader::options().disk(&image).open("j.jsonl").unwrap().records::<u64>();
        records.map(|record| record.unwrap().value).collect()
    }

    /// A second try said that a segment was durable, although the sync of the first one had failed and the records of another writer were lost.
    ///
    /// F45: a failed sync is never tried again before the records were proved.
    #[test]
    fn a_rotation_whose_sync_fails_does_not_succeed_the_next_time() {
        let disk = SimDisk::new();
        let mut other = open(&disk, Durability::Os);
        append(&mut other, [1]);
        let mut writer = open(&disk, Durability::Os);
        append(&mut other, [2]);
        fail_next_sync(&disk);
        assert_eq!(writer.rotate().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(writer.rotate().unwrap_err().kind(), ErrorKind::Poisoned);
        writer.reopen().unwrap();
        writer.rotate().unwrap();
        append(&mut writer, [3]);
        writer.sync().unwrap();
        assert_eq!(after_a_power_cut(&disk), [1, 2, 3]);
    }

    /// A writer whose sync failed could never be reopened if another one rotated the file before.
    #[test]
    fn a_writer_whose_sync_failed_is_reopened_after_somebody_else_rotated() {
        let disk = SimDisk::new();
        let mut writer = open(&disk, Durability::Sync);
        append(&mut writer, [1]);
        fail_next_sync(&disk);
        assert_eq!(writer.append(&2).unwrap_err().kind(), ErrorKind::DurabilityUnknown);
        let mut other = open(&disk, Durability::Sync);
        other.rotate().unwrap();
        append(&mut other, [3]);
        writer.reopen().unwrap();
        append(&mut writer, [4]);
        assert_eq!(after_a_power_cut(&disk), [1, 2, 3, 4]);
    }
}
