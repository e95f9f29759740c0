//! Prune: what each rule keeps, and what no rule can delete.

use std::{fs, time::Duration};

use untorn::{Consumer, Consumers, Delivery, ErrorKind, Keep, Reader, Snapshot, Writer};

use crate::support::TestJournal;

/// Segments of ten records each, the last of them in the active one.
fn segmented(segments: u64) -> (TestJournal, Writer) {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    for segment in 0..segments {
        if segment > 0 {
            writer.rotate().unwrap();
        }
        (1..=10).for_each(|n| _ = writer.append(&(segment * 10 + n)).unwrap());
    }
    (journal, writer)
}

fn first_kept(journal: &TestJournal) -> u64 {
    let values: Vec<u64> = Reader::open(&journal.path).unwrap().records().map(|record| record.unwrap().value).collect();
    assert!(values.windows(2).all(|pair| pair[0] + 1 == pair[1]), "there is no hole");
    values[0]
}

fn keep() -> Keep {
    Keep::new(Consumers::None)
}

/// S3-12: the unit is said: records, bytes, a time, a number; what is kept is that much or more, and never less than two segments.
#[test]
fn each_rule_keeps_at_least_what_it_says() {
    let bytes = |journal: &TestJournal, number: u64| fs::metadata(journal.dir().join(format!("j.{number:06}.jsonl"))).unwrap().len();
    let table: [(fn() -> Keep, u64); 12] = [
        (keep, 1),
        (|| keep().records(60), 1),
        (|| keep().records(51), 1),
        (|| keep().records(50), 11),
        (|| keep().records(41), 11),
        (|| keep().records(40), 21),
        (|| keep().records(0), 41),
        (|| keep().since(11), 11),
        (|| keep().since(30), 21),
        (|| keep().since(u64::MAX), 41),
        (|| keep().age(Duration::from_secs(3600)), 1),
        (|| keep().records(0).since(21), 21),
    ];
    for (index, (keep, first)) in table.into_iter().enumerate() {
        let (journal, mut writer) = segmented(6);
        let planned = untorn::prune(&journal.path, &keep().dry_run()).unwrap();
        assert_eq!(first_kept(&journal), 1, "a dry run deletes nothing");
        let pruned = writer.prune(&keep()).unwrap();
        assert_eq!((pruned.segments.clone(), pruned.bytes, planned.is_dry_run), (planned.segments, planned.bytes, true));
        assert_eq!(first_kept(&journal), first, "row {index}");
        assert_eq!(pruned.first_seq, Some(first));
        assert_eq!(pruned.records.unwrap_or_default(), first - 1);
        assert_eq!(pruned.segments.len() as u64, (first - 1) / 10);
        assert_eq!(writer.prune(&keep()).unwrap().segments, [], "a second time there is nothing to do");
        assert_eq!(writer.append(&61).unwrap().seq(), Some(61));
    }
    let (journal, mut writer) = segmented(6);
    let newest = journal.bytes().len() as u64;
    let two = newest + bytes(&journal, 5);
    let three = two + bytes(&journal, 4);
    for (kept, first) in [(u64::MAX, 1), (three + 1, 21), (three, 31), (two + 1, 31), (two, 41), (0, 41)] {
        writer.prune(&keep().bytes(kept)).unwrap();
        assert_eq!(first_kept(&journal), if kept == three + 1 { 21 } else { first }, "{kept} bytes");
    }
    let (journal, mut writer) = segmented(4);
    writer.prune(&keep().age(Duration::ZERO)).unwrap();
    assert_eq!(first_kept(&journal), 21);
}

/// S3-13: neither the active segment nor the newest archived one goes, whatever is asked.
#[test]
fn the_newest_two_segments_always_stay() {
    for segments in 1..=3 {
        let (journal, mut writer) = segmented(segments);
        writer.prune(&keep().records(0).bytes(0).since(u64::MAX).age(Duration::ZERO)).unwrap();
        assert_eq!(first_kept(&journal), if segments == 3 { 11 } else { 1 });
    }
}

/// S3-13: what a consumer has not acknowledged stays, and so does the segment with the last record that it has.
#[test]
fn what_a_consumer_has_not_acknowledged_stays() {
    let (journal, mut writer) = segmented(6);
    let checkpoints = journal.dir().join("checkpoints");
    let keep = || Keep::new(Consumers::In(vec![checkpoints.clone()])).records(0);
    for (through, first) in [(15, 11), (20, 11), (21, 21), (60, 41)] {
        let mut consumer = Consumer::options("indexer", &checkpoints).file(&journal.path).open().unwrap();
        let mut acknowledged = 0;
        while acknowledged < through {
            match consumer.next(Duration::from_secs(10)).unwrap() {
                Some(Delivery::Record(_, record, ticket)) => {
                    acknowledged = record.mark.seq.unwrap();
                    ticket.ack();
                }
                Some(_) => {}
                None => panic!("there are more records"),
            }
        }
        consumer.close().unwrap();
        let planned = untorn::prune(&journal.path, &keep().dry_run()).unwrap();
        let pruned = writer.prune(&keep()).unwrap();
        assert_eq!((first_kept(&journal), &pruned.held_by), (first, &planned.held_by), "acknowledged through {through}");
        assert_eq!(pruned.held_by.as_deref(), (through < 41).then_some("indexer"));
    }
}

/// After a journal was moved to another file system, a prune deleted records that a consumer had not acknowledged.
///
/// S3-13: a consumer that would go on in the moved journal keeps what it needs there.
#[test]
fn what_a_consumer_has_not_acknowledged_stays_in_a_moved_journal() {
    let (journal, writer) = segmented(6);
    drop(writer);
    let checkpoints = journal.dir().join("checkpoints");
    let mut consumer = Consumer::options("indexer", &checkpoints).file(&journal.path).open().unwrap();
    loop {
        if let Delivery::Record(_, _, ticket) = consumer.next(Duration::from_secs(10)).unwrap().unwrap() {
            ticket.ack();
            break;
        }
    }
    consumer.close().unwrap();
    let moved = TestJournal::missing();
    for file in fs::read_dir(journal.dir()).unwrap().map(Result::unwrap).filter(|file| file.path().is_file()) {
        fs::copy(file.path(), moved.dir().join(file.file_name())).unwrap();
    }
    let keep = Keep::new(Consumers::In(vec![checkpoints])).records(0).dry_run();
    // A copy is none of the consumer's.
    assert_eq!(untorn::prune(&moved.path, &keep).unwrap().held_by, None);
    fs::remove_file(&journal.path).unwrap();
    (1..=5).for_each(|n| fs::remove_file(journal.dir().join(format!("j.{n:06}.jsonl"))).unwrap());
    let pruned = untorn::prune(&moved.path, &keep).unwrap();
    assert_eq!((pruned.held_by.as_deref(), pruned.segments.len()), (Some("indexer"), 0));
}

/// S3-13: what a snapshot does not cover stays, and what only the newer of two covers.
#[test]
fn what_a_snapshot_does_not_cover_stays() {
    let (journal, mut writer) = segmented(6);
    let path = journal.dir().join("state.snapshot");
    let keep = || keep().records(0).snapshot(&path);
    writer.prune(&keep()).expect_err("there is no snapshot");
    let marks: Vec<_> = Reader::open(&journal.path).unwrap().records::<u64>().map(|record| record.unwrap().mark).collect();
    let mut snapshot = Snapshot::<u64>::open(&path, &journal.path).unwrap();
    for (through, first) in [(9, 1), (10, 1), (19, 1), (20, 11), (45, 11), (45, 41)] {
        snapshot.save(&0, marks[through - 1]).unwrap();
        let pruned = writer.prune(&keep()).unwrap();
        assert_eq!(first_kept(&journal), first, "through {through}");
        assert_eq!(pruned.held_by.is_some(), first < 41);
    }
    for file in fs::read_dir(journal.dir()).unwrap().map(|file| file.unwrap().path()) {
        if file.to_string_lossy().contains("state.snapshot") {
            fs::write(file, "no snapshot").unwrap();
        }
    }
    writer.prune(&keep()).expect_err("what cannot be read blocks a prune");
}

/// S3-13: a directory of checkpoints that cannot be read keeps everything.
#[test]
fn checkpoints_that_cannot_be_read_block_a_prune() {
    let (journal, mut writer) = segmented(4);
    let missing = journal.dir().join("checkpoints");
    let damaged = journal.dir().join("damaged");
    fs::write(&damaged, "no directory").unwrap();
    for dir in [missing, damaged] {
        let keep = Keep::new(Consumers::In(vec![dir])).records(0);
        if let Ok(pruned) = writer.prune(&keep) {
            panic!("{pruned:?}");
        }
        assert_eq!(first_kept(&journal), 1);
    }
}

#[test]
fn a_plain_journal_is_pruned_by_bytes_or_age() {
    let journal = TestJournal::with_bytes("1\n");
    for n in 2..=4 {
        untorn::rotate(&journal.path).unwrap();
        journal.open().append(&n).unwrap();
    }
    for keep in [keep().records(1), keep().since(2)] {
        assert_eq!(untorn::prune(&journal.path, &keep).unwrap_err().kind(), ErrorKind::NotSealed);
    }
    let pruned = untorn::prune(&journal.path, &keep().bytes(5)).unwrap();
    assert_eq!((pruned.segments.len(), pruned.bytes, pruned.records, pruned.first_seq), (1, 2, None, None));
    assert_eq!(first_kept(&journal), 2);
}

/// A position in a deleted segment is told to be pruned, and one behind it goes on.
#[test]
fn positions_behind_what_was_pruned_stay_valid() {
    let (journal, mut writer) = segmented(4);
    let marks: Vec<_> = Reader::open(&journal.path).unwrap().records::<u64>().map(|record| record.unwrap().mark).collect();
    writer.prune(&keep().since(11)).unwrap();
    for mark in marks {
        let seq = mark.seq.unwrap();
        match Reader::options().from(untorn::Start::Position(mark.end)).open(&journal.path) {
            Ok(reader) => assert_eq!(reader.records::<u64>().count() as u64, 40 - seq),
            Err(error) => assert!(error.kind() == ErrorKind::Pruned && seq <= 10, "{error}"),
        }
    }
}
