//! Archive: the bound and what it leaves, beside appends, across crashes; and what is refused.

use std::{fs, path::PathBuf};

use untorn::{Batch, Before, Durability, ErrorKind, Lock, LockWait, Mark, Position, Reader, Start, Writer};

use crate::support::{Log, TestJournal, sealed_payloads};

fn segment(journal: &TestJournal, number: u64) -> PathBuf {
    journal.dir().join(format!("j.{number:06}.jsonl"))
}

/// A journal with the records 1 to `n`, each its own number.
fn numbered(n: u64) -> (TestJournal, Writer, Vec<Mark>) {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let marks = (1..=n).map(|number| writer.append(&number).unwrap().mark()).collect();
    (journal, writer, marks)
}

fn values(journal: &TestJournal) -> Vec<u64> {
    let mut records = Reader::open(&journal.path).unwrap().records::<u64>();
    let values = records.by_ref().map(|record| record.unwrap().value).collect();
    assert!(records.damage().is_empty(), "{}", records.damage());
    values
}

fn numbers(path: &PathBuf) -> Vec<u64> {
    sealed_payloads(&fs::read_to_string(path).unwrap()).into_iter().map(|(seq, _)| seq).collect()
}

/// S3-01, S3-02, S3-04, S3-05, S3-06: before 0, 1, 2, 99, 100, 101 and 102, of 101 records: what is before the bound moves, the bound stays.
#[test]
fn what_is_before_the_bound_moves_and_the_bound_stays() {
    for (before, moved) in [(0, 0), (1, 0), (2, 1), (99, 98), (100, 99), (101, 100), (102, 101), (u64::MAX, 101)] {
        let (journal, mut writer, _) = numbered(101);
        let all = journal.bytes();
        let told = writer.archive(Before::Seq(before)).unwrap();
        assert_eq!(told.records.unwrap_or_default(), moved, "before {before}");
        let active = numbers(&journal.path);
        assert_eq!(active, (moved + 1..=101).collect::<Vec<_>>());
        let archived = if moved > 0 { fs::read(segment(&journal, 1)).unwrap() } else { Vec::new() };
        assert_eq!(told.archived, (moved > 0).then(|| segment(&journal, 1)));
        assert_eq!([archived, journal.bytes()].concat(), all, "byte for byte");
        assert_eq!((told.bytes + told.bytes_left, told.bytes_left), (all.len() as u64, journal.bytes().len() as u64));
        assert_eq!(values(&journal), (1..=101).collect::<Vec<_>>());
        assert_eq!(writer.archive(Before::Seq(before)).unwrap().bytes, 0, "a second time moves nothing");
        assert_eq!(writer.append(&102).unwrap().seq(), Some(102));
        assert_eq!(values(&journal), (1..=102).collect::<Vec<_>>());
    }
}

/// S3-06: the last so many records, and positions, bound in the same way.
#[test]
fn every_kind_of_bound_is_half_open() {
    for kept in 0..=12 {
        let (journal, mut writer, marks) = numbered(10);
        writer.archive(Before::Last(kept)).unwrap();
        assert_eq!(numbers(&journal.path).len() as u64, kept.min(10), "the last {kept}");
        assert_eq!(values(&journal).len(), 10);
        drop(writer);
        for mark in &marks {
            let (journal, mut writer, _) = numbered(10);
            writer.archive(Before::Position(mark.start)).unwrap();
            assert_eq!(numbers(&journal.path), (mark.seq.unwrap()..=10).collect::<Vec<_>>(), "{mark:?}");
        }
    }
    let (_journal, mut writer, marks) = numbered(3);
    let inside = Position { offset: marks[1].start.offset + 1, ..marks[1].start };
    assert_eq!(writer.archive(Before::Position(inside)).unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn a_bound_inside_a_batch_is_lowered_to_its_first_record() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    writer.append(&1).unwrap();
    let mut batch = Batch::new();
    (2..=5).for_each(|n| _ = batch.add(&n).unwrap());
    writer.append_batch(&batch).unwrap();
    writer.append(&6).unwrap();
    for before in 3..=5 {
        assert_eq!(writer.archive(Before::Seq(before)).unwrap().segment, if before == 3 { 1 } else { 2 });
        assert_eq!(numbers(&journal.path), [2, 3, 4, 5, 6], "before {before}");
    }
    writer.archive(Before::Seq(6)).unwrap();
    assert_eq!(numbers(&journal.path), [6]);
    assert_eq!(values(&journal), [1, 2, 3, 4, 5, 6]);
}

/// S3-18: every position and mark that was given out leads to the same record afterwards, whatever was archived and rotated.
#[test]
fn positions_and_marks_stay_valid_and_replay_is_the_same() {
    let (journal, mut writer, mut marks) = numbered(20);
    for step in 0..6 {
        match step {
            0 => drop(writer.archive(Before::Seq(4)).unwrap()),
            1 => drop(writer.archive(Before::Seq(9)).unwrap()),
            2 => drop(writer.archive(Before::Last(5)).unwrap()),
            3 => drop(writer.rotate().unwrap()),
            4 => drop(writer.archive(Before::Last(1)).unwrap()),
            _ => drop(writer.archive(Before::Last(0)).unwrap()),
        }
        marks.push(writer.append(&(marks.len() as u64 + 1)).unwrap().mark());
        for mark in &marks {
            for start in [Start::After(*mark), Start::Position(mark.end)] {
                let reader = Reader::options().from(start).open(&journal.path).unwrap();
                let read: Vec<u64> = reader.records().map(|record| record.unwrap().value).collect();
                assert_eq!(read, (mark.seq.unwrap() + 1..=marks.len() as u64).collect::<Vec<_>>(), "step {step}, behind {mark:?}");
            }
        }
    }
    let read: Vec<Mark> = Reader::open(&journal.path).unwrap().records::<u64>().map(|record| record.unwrap().mark).collect();
    assert_eq!(read.last(), marks.last(), "writer and reader count positions in the same way");
    assert!(untorn::verify(&journal.path).unwrap().is_clean());
}

/// S3-07, S3-09: a crash between copy and swap leaves duplicates. They are skipped at once, by the writer's positions too; a retry removes them, with
/// whatever bound.
#[test]
fn duplicates_that_a_crash_left_are_skipped_and_removed_by_the_next_try() {
    for retry in 0..4 {
        let (journal, mut writer, _) = numbered(10);
        let all = journal.bytes();
        writer.archive(Before::Seq(6)).unwrap();
        drop(writer);
        fs::write(&journal.path, &all).unwrap();
        assert_eq!(values(&journal), (1..=10).collect::<Vec<_>>());
        let mut writer = journal.open();
        let appended = writer.append(&11).unwrap().mark();
        let read = Reader::open(&journal.path).unwrap().records::<u64>().last().unwrap().unwrap().mark;
        assert_eq!(appended, read);
        assert_eq!(writer.sync().unwrap(), appended.end);
        match retry {
            3 => assert_eq!(writer.rotate().unwrap().first_seq, Some(6)),
            _ => assert!(writer.archive(Before::Seq([6, 3, 9][retry])).unwrap().duplicate_bytes > 0),
        }
        let first = [6, 6, 9, 12][retry];
        assert_eq!(numbers(&journal.path), (first..=11).collect::<Vec<_>>());
        assert_eq!(values(&journal), (1..=11).collect::<Vec<_>>());
        let after = Reader::options().from(Start::After(appended)).open(&journal.path).unwrap();
        assert_eq!(after.records::<u64>().count(), 0);
        writer.append(&12).unwrap();
        let after = Reader::options().from(Start::Position(appended.end)).open(&journal.path).unwrap();
        assert_eq!(after.records::<u64>().map(|record| record.unwrap().value).collect::<Vec<_>>(), [12]);
    }
}

/// After a crash inside `archive`, records were read twice if their numbers did not rise, or if more than a window of plain lines stood before the
/// first sealed one.
///
/// S3-07: whatever the lines are, those in both segments are read once.
#[test]
fn duplicates_are_told_whatever_lines_they_are() {
    let lines = |numbers: std::ops::RangeInclusive<u64>| {
        let journal = TestJournal::missing();
        let mut writer = journal.open();
        numbers.for_each(|n| _ = writer.append(&n).unwrap());
        journal.bytes()
    };
    let put_together = [lines(1..=3), lines(11..=14)].concat();
    let adopted = [b"{\"plain\":true}\n".repeat(100_000), lines(1..=10)].concat();
    for bytes in [put_together, adopted] {
        let journal = TestJournal::with_bytes(&bytes);
        let count = || Reader::open(&journal.path).unwrap().records::<serde_json::Value>().map(Result::unwrap).count();
        let all = count();
        let archived = journal.open().archive(Before::Last(2)).unwrap();
        assert!(archived.archived.is_some() && count() == all);
        fs::write(&journal.path, &bytes).unwrap();
        assert_eq!(count(), all, "as a crash before the swap leaves it");
        let planned = untorn::plan_archive(&journal.path, Before::Last(2)).unwrap();
        let again = journal.open().archive(Before::Last(2)).unwrap();
        assert_eq!((again.duplicate_bytes, again.bytes), (archived.bytes, 0));
        assert_eq!((planned.duplicate_bytes, planned.bytes), (archived.bytes, 0));
        assert_eq!(count(), all);
    }
}

/// S3-03, S3-14: appends of the next iteration go on while the one before is archived, in two journals at once.
#[test]
fn what_is_appended_meanwhile_is_neither_moved_nor_lost() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (journal, mut archiving, _) = numbered(50);
                std::thread::scope(|scope| {
                    let appending = scope.spawn(|| {
                        let mut writer = journal.open();
                        (51..=400).for_each(|n| _ = writer.append(&n).unwrap());
                    });
                    for before in [10, 30, 51, 51] {
                        archiving.archive(Before::Seq(before)).unwrap();
                    }
                    appending.join().unwrap();
                });
                assert_eq!(numbers(&journal.path), (51..=400).collect::<Vec<_>>());
                assert_eq!(values(&journal), (1..=400).collect::<Vec<_>>());
            });
        }
    });
}

/// Damage and lines of strangers move as they are.
#[test]
fn damage_moves_byte_for_byte() {
    let (journal, mut writer, _) = numbered(3);
    journal.append_as_stranger("x y\n\n{\"torn\n\0\0\0\n{\"plain\":1}\n");
    (0..3).for_each(|n| _ = writer.append(&n).unwrap());
    let all = journal.bytes();
    let verified = untorn::verify(&journal.path).unwrap().findings().len();
    writer.archive(Before::Last(1)).unwrap();
    assert_eq!([fs::read(segment(&journal, 1)).unwrap(), journal.bytes()].concat(), all);
    assert_eq!(untorn::verify(&journal.path).unwrap().findings().len(), verified);
}

/// S3-16: a number from beyond the bound that stands before it, in a file that somebody put together, stops the archive.
#[test]
fn a_record_that_does_not_belong_to_the_range_stops_it() {
    let (journal, writer, _) = numbered(400);
    drop(writer);
    let mut lines: Vec<&str> = Vec::new();
    let text = journal.text();
    lines.extend(text.lines());
    let strange = lines[398];
    lines.insert(3, strange);
    fs::write(&journal.path, lines.join("\n") + "\n").unwrap();
    let before = journal.bytes();
    let outcome = untorn::archive(&journal.path, Before::Seq(300));
    match outcome {
        Err(error) => assert_eq!((error.kind(), error.offset().is_some()), (ErrorKind::Corrupt, true)),
        // Searched from the start, the bound is met where the strange line is.
        Ok(told) => assert_eq!(told.last_seq, Some(3)),
    }
    let after = [fs::read(segment(&journal, 1)).unwrap_or_default(), journal.bytes()].concat();
    assert_eq!(after, before);
}

/// S3-21: damage in what was archived is told, and hinders neither the journal it is in nor another one.
#[test]
fn damaged_history_does_not_stop_what_comes_after_it() {
    let (journal, mut writer, _) = numbered(30);
    let (other, mut others, _) = numbered(30);
    writer.archive(Before::Seq(11)).unwrap();
    let mut bytes = fs::read(segment(&journal, 1)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(segment(&journal, 1), bytes).unwrap();
    drop(writer);
    for (journal, writer) in [(&journal, &mut journal.open()), (&other, &mut others)] {
        writer.archive(Before::Seq(21)).unwrap();
        assert_eq!(writer.append(&31).unwrap().seq(), Some(31));
        assert_eq!(numbers(&journal.path), (21..=31).collect::<Vec<_>>());
    }
    let mut records = Reader::open(&journal.path).unwrap().records::<u64>();
    assert_eq!(records.by_ref().filter_map(Result::ok).count(), 30);
    assert_eq!(records.damage().lines(), 1);
    assert_eq!(values(&other), (1..=31).collect::<Vec<_>>());
}

#[test]
fn a_plain_journal_is_archived_at_the_end_of_a_segment_only() {
    let journal = TestJournal::with_bytes("1\n{\"a\":2}\n");
    for before in [Before::Seq(2), Before::Last(1), Before::Position(Position { segment: 1, offset: 2 })] {
        let error = untorn::archive(&journal.path, before).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSealed);
        assert!(error.to_string().contains("rotate"), "{error}");
    }
    for before in [Before::Last(2), Before::Last(9), Before::Position(Position { segment: 1, offset: 0 })] {
        assert_eq!(untorn::archive(&journal.path, before).unwrap().bytes, 0);
    }
    let told = untorn::archive(&journal.path, Before::Last(0)).unwrap();
    assert_eq!((told.archived, told.records, told.bytes), (Some(segment(&journal, 1)), None, 10));
    assert_eq!(untorn::archive(&journal.path, Before::Position(Position { segment: 1, offset: 10 })).unwrap().bytes, 0);
}

#[test]
fn whoever_does_not_take_the_lock_refuses_an_archive() {
    let (journal, mut writer, _) = numbered(3);
    let stranger = fs::OpenOptions::new().append(true).open(&journal.path).unwrap();
    assert_eq!(writer.archive(Before::Seq(2)).unwrap_err().kind(), ErrorKind::Stranger);
    drop(stranger);
    fs::hard_link(&journal.path, journal.dir().join("second")).unwrap();
    assert_eq!(writer.archive(Before::Seq(2)).unwrap_err().kind(), ErrorKind::HardLinked);
    fs::remove_file(journal.dir().join("second")).unwrap();
    writer.archive(Before::Seq(2)).unwrap();
    assert_eq!(values(&journal), [1, 2, 3]);
}

#[test]
fn a_held_lock_stays_held() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| _ = options.lock(Lock::Held, LockWait::Never));
    (1..=3).for_each(|n| _ = writer.append(&n).unwrap());
    writer.archive(Before::Seq(3)).unwrap();
    let mut options = Writer::options();
    assert_eq!(options.lock(Lock::PerAppend, LockWait::Never).open(&journal.path).unwrap_err().kind(), ErrorKind::Locked);
    writer.append(&4).unwrap();
    assert_eq!(values(&journal), [1, 2, 3, 4]);
}

/// S3-22: with several records to a group, and a rotation in between, the bound is met exactly.
#[test]
fn a_shared_writer_archives_between_groups() {
    let journal = TestJournal::missing();
    let shared = journal.open_with(|options| _ = options.durability(Durability::Os)).into_shared();
    for iteration in 0..5_u64 {
        let queued: Vec<_> = (1..=20).map(|n| shared.enqueue(&(iteration * 20 + n)).unwrap()).collect();
        let told = shared.archive(Before::Seq(iteration * 20 + 1)).unwrap();
        assert_eq!(told.records.unwrap_or_default(), if iteration == 0 { 0 } else { 20 });
        queued.into_iter().for_each(|queued| _ = queued.wait().unwrap());
        assert_eq!(numbers(&journal.path), (iteration * 20 + 1..=iteration * 20 + 20).collect::<Vec<_>>());
    }
    shared.close().unwrap();
    assert_eq!(values(&journal), (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_plan_changes_nothing_and_says_what_would_be_done() {
    let (journal, mut writer, _) = numbered(10);
    for before in [Before::Seq(0), Before::Seq(4), Before::Last(2), Before::Last(0)] {
        let bytes = journal.bytes();
        let planned = untorn::plan_archive(&journal.path, before).unwrap();
        assert_eq!((journal.bytes(), fs::read_dir(journal.dir()).unwrap().count()), (bytes, planned.segment as usize));
        assert_eq!(writer.archive(before).unwrap(), planned);
    }
}

/// S3-19: the log of a debug build of a service tells where it was cut, and how much was moved and deleted.
#[test]
fn the_log_tells_cut_and_counts() {
    let wanted = ["archived", "segment=1 first=1 last=3 records=3", "segment=2 first=4 last=5 records=2", "pruned a segment"];
    let mut told = String::new();
    for _ in 0..10 {
        let log = Log::default();
        let (_journal, mut writer, _) = numbered(10);
        tracing::subscriber::with_default(log.clone(), || {
            writer.archive(Before::Seq(4)).unwrap();
            writer.archive(Before::Seq(6)).unwrap();
            writer.prune(&untorn::Keep::new(untorn::Consumers::None).since(4)).unwrap();
        });
        told = log.told();
        if wanted.iter().all(|wanted| told.contains(wanted)) {
            return;
        }
    }
    panic!("{told}");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn tasks_archive_and_prune_through_the_same_queue() {
    let journal = TestJournal::missing();
    let writer = journal.open().into_async();
    for n in 1..=6_u64 {
        writer.append(&n).await.unwrap();
        if n % 2 == 0 {
            writer.archive(Before::Seq(n)).await.unwrap();
        }
    }
    let pruned = writer.prune(&untorn::Keep::new(untorn::Consumers::None).since(4)).await.unwrap();
    assert_eq!((pruned.segments.len(), pruned.first_seq), (2, Some(4)));
    writer.close().await.unwrap();
    assert_eq!(values(&journal), [4, 5, 6]);
}

#[cfg(feature = "sim")]
mod sim {
    use untorn::sim::{OpKind, SimDisk};

    use super::*;

    fn filled(disk: &SimDisk) -> Writer {
        let mut options = Writer::options();
        let mut writer = options.durability(Durability::Os).disk(disk).open("j.jsonl").unwrap();
        (1..=200).for_each(|n| _ = writer.append(&serde_json::json!({"n": n, "text": "x".repeat(200)})).unwrap());
        writer
    }

    /// S3-10: without room nothing is touched.
    #[test]
    fn a_full_disk_refuses_an_archive() {
        let disk = SimDisk::new();
        let mut writer = filled(&disk);
        let before = disk.read_file("j.jsonl").unwrap();
        disk.set_capacity(Some(before.len() + 1000));
        assert_eq!(writer.archive(Before::Seq(100)).unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!((disk.read_file("j.jsonl"), disk.files().len()), (Some(before), 1));
        disk.set_capacity(None);
        assert_eq!(writer.archive(Before::Seq(100)).unwrap().records, Some(99));
    }

    /// S3-17: what was archived before is not read again, so the cost is that of the bytes that move and stay.
    #[test]
    fn an_archive_costs_what_moves_and_stays_not_the_history() {
        let disk = SimDisk::new();
        let mut writer = filled(&disk);
        writer.archive(Before::Last(10)).unwrap();
        let before = disk.ops();
        let told = writer.archive(Before::Last(5)).unwrap();
        let log = disk.log();
        let moved = |kind| {
            log[before..].iter().filter(|op| op.kind == kind).filter_map(|op| op.moved.clone()).map(|range| range.end - range.start).sum::<u64>()
        };
        assert_eq!(moved(OpKind::Write), told.bytes + told.bytes_left);
        assert!(moved(OpKind::ReadAt) < 20 * (told.bytes + told.bytes_left) + (256 << 10), "{} bytes read", moved(OpKind::ReadAt));
    }
}
