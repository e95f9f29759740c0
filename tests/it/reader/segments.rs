//! Archived segments and the active file are read as one journal.

use std::fs;

use untorn::{ErrorKind, Position, Reader, Result, Start};

use super::{N, four_segments, numbers};
use crate::support::TestJournal;

#[test]
fn segments_are_read_as_one_journal_from_any_start() {
    let journal = four_segments();
    let marks = journal.marks();
    assert_eq!(marks.iter().filter_map(|mark| mark.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    for (from, mark) in (1..=40).zip(&marks) {
        let expected: Vec<_> = (from..=40).collect();
        assert_eq!(journal.numbers_from(Start::Seq(from)), expected);
        assert_eq!(journal.numbers_from(Start::Position(mark.start)), expected);
        assert_eq!(journal.numbers_from(Start::After(*mark)), expected[1..]);
        assert_eq!(journal.numbers_from(Start::Last(41 - from)), expected);
        // The same byte, as a position in the first segment.
        let before: u64 = (1..mark.start.segment).map(|number| fs::metadata(journal.segment(number)).unwrap().len()).sum();
        let position = Position { segment: 1, offset: before + mark.start.offset };
        assert_eq!(journal.numbers_from(Start::Position(position)), expected);
    }
    let active: Vec<_> = (31..=40).collect();
    assert_eq!(numbers(Reader::options().active_only().open(&journal.path).unwrap()), active);
}

#[test]
fn pruned_segments_are_missed_only_by_who_asks_for_them() {
    let journal = four_segments();
    let mark = journal.marks()[4];
    fs::remove_file(journal.segment(1)).unwrap();
    assert_eq!(journal.numbers(), (11..=40).collect::<Vec<_>>());
    assert_eq!(journal.numbers_from(Start::Seq(3)), (11..=40).collect::<Vec<_>>());
    assert_eq!(journal.reader_from(Start::After(mark)).unwrap_err().kind(), ErrorKind::Pruned);
    assert_eq!(journal.reader_from(Start::Position(mark.start)).unwrap_err().kind(), ErrorKind::Pruned);
}

/// A crash in the middle of a rotation leaves no active file.
#[test]
fn a_journal_without_its_active_file_is_read() {
    let journal = four_segments();
    journal.rotate(4);
    assert_eq!(journal.numbers(), (1..=40).collect::<Vec<_>>());
    assert_eq!(journal.numbers_from(Start::Last(2)), [39, 40]);
    let missing = Reader::options().active_only().open(&journal.path).unwrap_err();
    assert_eq!(missing.raw_os_error().or(Some(2)), Some(2));
}

/// A crash inside `archive` leaves the archived records at the head of the active segment too.
#[test]
fn records_that_an_archive_left_twice_are_read_once_at_the_same_positions() {
    let journal = TestJournal::missing();
    journal.append(1..=20);
    let text = journal.text();
    let lines: Vec<_> = text.lines().collect();
    for archived in 1..=20 {
        let head = lines[..archived].join("\n") + "\n";
        fs::write(journal.segment(1), &head).unwrap();
        fs::write(&journal.path, &text).unwrap();
        let twice = journal.marks();
        assert_eq!(journal.numbers(), (1..=20).collect::<Vec<_>>(), "{archived} archived");
        assert_eq!(journal.numbers_from(Start::Last(20)).len(), 20);
        fs::write(&journal.path, &text[head.len()..]).unwrap();
        assert_eq!(journal.marks(), twice, "{archived} archived");
        fs::remove_file(journal.segment(1)).unwrap();
    }
}

/// C29: of a plain and a compressed twin the plain one is read. How a file is compressed is told by its bytes, so one that is only named so is read
/// as it is.
#[test]
fn a_compressed_segment_is_asked_for_only_if_there_is_no_plain_one() {
    let journal = four_segments();
    let compressed = journal.dir().join("j.000002.jsonl.zst");
    fs::write(&compressed, "no zstd\n").unwrap();
    assert_eq!(journal.numbers().len(), 40);
    fs::remove_file(journal.segment(2)).unwrap();
    let mut records = journal.reader().records::<N>();
    assert_eq!(records.by_ref().filter_map(Result::ok).count(), 30);
    assert_eq!(records.damage().count(untorn::Code::NotJson), 1);
    assert_eq!(numbers(Reader::options().active_only().open(&journal.path).unwrap()).len(), 10);
}

/// A compressed file that a build cannot read is refused with the feature that it lacks, and never taken for damage.
#[cfg(not(all(feature = "zstd", feature = "gzip")))]
#[test]
fn a_compressed_file_is_refused_with_the_feature_that_is_missing() {
    for (magic, feature, is_there) in
        [(&b"\x28\xB5\x2F\xFD\x04\0"[..], "zstd", cfg!(feature = "zstd")), (b"\x1F\x8B\x08\0", "gzip", cfg!(feature = "gzip"))]
    {
        let journal = TestJournal::with_bytes(magic);
        if !is_there {
            for error in [Reader::open(&journal.path).unwrap_err(), untorn::verify(&journal.path).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Compressed);
                assert!(error.to_string().ends_with(&format!("this build lacks the feature `{feature}`")), "{error}");
            }
        }
    }
}
