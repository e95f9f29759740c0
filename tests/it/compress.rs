//! Compressing archived segments: nothing that is read changes, and the plain file goes last.

use std::{fs, path::PathBuf, time::Duration};

use untorn::{Before, ErrorKind, Lock, LockWait, Mark, Reader, Snapshot, Start};

use crate::support::TestJournal;

fn segment(journal: &TestJournal, number: u64, ending: &str) -> PathBuf {
    journal.dir().join(format!("j.{number:06}.jsonl{ending}"))
}

/// Three archived segments, and one record that is not archived. Gives the marks of all.
fn archived() -> (TestJournal, Vec<Mark>) {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    for n in 1..=3000_u64 {
        writer.append(&n).unwrap();
        if n % 1000 == 0 {
            writer.archive(Before::Seq(n)).unwrap();
        }
    }
    let marks = marks(&journal);
    (journal, marks)
}

fn marks(journal: &TestJournal) -> Vec<Mark> {
    Reader::open(&journal.path).unwrap().records::<u64>().map(|record| record.unwrap().mark).collect()
}

/// S3-19: what is archived stays readable, compressed too, under the same positions.
#[test]
fn compressed_segments_are_read_under_the_same_marks() {
    let (journal, before) = archived();
    let done = untorn::compress_archived(&journal.path).unwrap();
    assert_eq!(done.iter().map(|done| done.segment).collect::<Vec<_>>(), [1, 2, 3]);
    for done in &done {
        assert_eq!(done.path, segment(&journal, done.segment, ".zst"));
        assert!(done.bytes < done.bytes_before && !segment(&journal, done.segment, "").exists());
    }
    assert!(marks(&journal) == before);
    for mark in before.iter().step_by(97) {
        let reader = Reader::options().from(Start::After(*mark)).open(&journal.path).unwrap();
        assert_eq!(reader.records::<u64>().next().map(|record| record.unwrap().value), mark.seq.map(|seq| seq + 1));
    }
    assert_eq!(untorn::compress_archived(&journal.path).unwrap(), []);
    let mut writer = journal.open();
    assert_eq!(writer.append(&3001).unwrap().seq(), Some(3001));
    writer.archive(Before::Last(1)).unwrap();
    let pruned = writer.prune(&untorn::Keep::new(untorn::Consumers::None).records(1)).unwrap();
    assert_eq!(pruned.segments.len(), 3);
    assert_eq!(marks(&journal).len(), 2);
}

/// F48: twins that a crash left are compared, and the plain one goes only if they are equal.
#[test]
fn the_plain_segment_goes_only_if_its_twin_has_the_same_bytes() {
    let (journal, before) = archived();
    let plain = fs::read(segment(&journal, 1, "")).unwrap();
    untorn::compress_archived(&journal.path).unwrap();
    fs::write(segment(&journal, 1, ""), &plain).unwrap();
    fs::write(journal.dir().join("j.000001.jsonl.untorn-tmp-1"), "stale").unwrap();
    assert_eq!(untorn::compress_archived(&journal.path).unwrap().len(), 1);
    assert!(marks(&journal) == before);
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 4, "the stale temporary file is gone");

    fs::write(segment(&journal, 1, ""), &plain).unwrap();
    let mut twin = fs::read(segment(&journal, 1, ".zst")).unwrap();
    let middle = twin.len() / 2;
    twin[middle] ^= 1;
    fs::write(segment(&journal, 1, ".zst"), &twin).unwrap();
    let error = untorn::compress_archived(&journal.path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!(fs::read(segment(&journal, 1, "")).unwrap(), plain);
    assert!(marks(&journal) == before);
}

/// What a crash inside `archive` left is told by the end of the newest archived segment, so that one is left alone until then.
#[test]
fn a_segment_that_tells_duplicates_is_compressed_later() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    (1..=10_u64).for_each(|n| _ = writer.append(&n).unwrap());
    let all = journal.bytes();
    writer.archive(Before::Seq(6)).unwrap();
    fs::write(&journal.path, &all).unwrap();
    assert_eq!(untorn::compress_archived(&journal.path).unwrap(), []);
    untorn::archive(&journal.path, Before::Seq(6)).unwrap();
    assert_eq!(untorn::compress_archived(&journal.path).unwrap().len(), 1);
    assert_eq!(marks(&journal).len(), 10);
}

#[test]
fn a_segment_that_a_stranger_writes_is_not_compressed() {
    let (journal, before) = archived();
    let stranger = fs::OpenOptions::new().append(true).open(segment(&journal, 1, "")).unwrap();
    assert_eq!(untorn::compress_archived(&journal.path).unwrap_err().kind(), ErrorKind::Stranger);
    drop(stranger);
    assert_eq!(untorn::compress_archived(&journal.path).unwrap().len(), 3);
    assert!(marks(&journal) == before);
}

/// A snapshot could not be saved, nor a checkpoint, once the segment with the record that it covers was compressed.
#[test]
fn a_snapshot_covers_a_record_in_a_compressed_segment() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let through = writer.append(&1).unwrap().mark();
    writer.rotate().unwrap();
    untorn::compress_archived(&journal.path).unwrap();
    let mut snapshot = Snapshot::<u64>::open(journal.dir().join("sum.snapshot"), &journal.path).unwrap();
    snapshot.save(&1, through).unwrap();
    let restored = snapshot.restore().unwrap().unwrap();
    assert!(restored.is_proved && restored.state == 1);
}

/// A writer that had not seen a rotation yet could not append while the archived segment was compressed: it waited for the lock of that one.
#[test]
fn a_writer_that_was_idle_appends_while_its_old_segment_is_compressed() {
    for wait in [LockWait::Never, LockWait::For(Duration::from_secs(10)), LockWait::Forever] {
        let journal = TestJournal::missing();
        let mut idle = journal.open_with(|options| _ = options.lock(Lock::PerAppend, wait));
        idle.append(&1).unwrap();
        journal.open().rotate().unwrap();
        let compressing = fs::File::open(segment(&journal, 1, "")).unwrap();
        fs2::FileExt::lock_exclusive(&compressing).unwrap();
        let appended = idle.append(&2).unwrap();
        assert_eq!((appended.seq(), appended.mark().start.segment), (Some(2), 2));
        assert_eq!(marks(&journal).len(), 2);
    }
}
