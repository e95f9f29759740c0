//! Where reading starts: at a number, a position, a mark, or the last so many records.

use std::fs;

use untorn::{ErrorKind, Position, Start};

use super::SEALED;
use crate::support::TestJournal;

#[test]
fn reading_starts_at_any_number_and_any_boundary() {
    let journal = TestJournal::missing();
    journal.append(1..=3);
    journal.append_batch(4..=6);
    journal.append(7..=9);
    let marks = journal.marks();
    for (from, mark) in (1..).zip(&marks) {
        let expected: Vec<_> = (from..=9).collect();
        assert_eq!(journal.numbers_from(Start::Seq(from)), expected);
        assert_eq!(journal.numbers_from(Start::Position(mark.start)), expected);
        assert_eq!(journal.numbers_from(Start::After(*mark)), expected[1..]);
        assert_eq!(journal.numbers_from(Start::Last(10 - from)), expected);
    }
    assert!(journal.numbers_from(Start::Seq(10)).is_empty());
    assert!(journal.numbers_from(Start::End).is_empty());
    assert!(journal.numbers_from(Start::Last(0)).is_empty());
    assert_eq!(journal.numbers_from(Start::Last(99)).len(), 9);
}

#[test]
fn a_position_inside_a_line_is_refused() {
    let journal = TestJournal::with_bytes(SEALED);
    let boundaries: Vec<_> = journal.marks().iter().map(|mark| mark.start.offset).chain([SEALED.len() as u64]).collect();
    for offset in 0..=SEALED.len() as u64 + 1 {
        let opened = journal.reader_from(Start::Position(Position { segment: 1, offset }));
        match opened {
            Ok(_) => assert!(boundaries.contains(&offset), "byte {offset}"),
            Err(error) => {
                assert!(!boundaries.contains(&offset), "byte {offset}: {error}");
                assert_eq!((error.kind(), error.offset()), (ErrorKind::Changed, Some(offset)));
            }
        }
    }
}

#[test]
fn a_mark_is_proved_by_number_and_crc_or_by_place_and_crc() {
    let journal = TestJournal::missing();
    journal.append(1..=5);
    let mark = journal.marks()[2];
    let lines = journal.text();
    // The line has moved: its number finds it.
    let moved = TestJournal::with_bytes(lines.split_once('\n').unwrap().1);
    assert_eq!(moved.numbers_from(Start::After(mark)), [4, 5]);
    // Its number was given again to another record.
    let other = TestJournal::missing();
    other.append(11..=15);
    assert_eq!(other.reader_from(Start::After(mark)).unwrap_err().kind(), ErrorKind::Changed);
    let plain = TestJournal::with_bytes("{\"n\":1}\n");
    assert_eq!(plain.reader_from(Start::After(mark)).unwrap_err().kind(), ErrorKind::Changed);
    // It is older than all that is kept.
    let pruned = TestJournal::with_bytes(lines.lines().skip(3).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(pruned.reader_from(Start::After(mark)).unwrap_err().kind(), ErrorKind::Pruned);

    let plain = TestJournal::with_bytes("{\"n\":1}\n{\"n\":2}\n");
    let mark = plain.marks()[0];
    assert_eq!(plain.numbers_from(Start::After(mark)), [2]);
    fs::write(&plain.path, "{\"n\":3}\n{\"n\":2}\n").unwrap();
    assert_eq!(plain.reader_from(Start::After(mark)).unwrap_err().kind(), ErrorKind::Changed);
}

/// A record read before it had its LF still names the place behind it afterwards.
#[test]
fn a_mark_of_a_record_without_lf_holds_when_the_lf_is_there() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n{\"n\":2}");
    let mark = journal.marks()[1];
    journal.append_as_stranger("\n{\"n\":3}\n");
    assert_eq!(journal.numbers_from(Start::After(mark)), [3]);
}

#[test]
fn a_plain_journal_has_no_numbers_to_start_at() {
    let plain = TestJournal::with_bytes("{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(plain.reader_from(Start::Seq(1)).unwrap_err().kind(), ErrorKind::NotSealed);
    assert!(TestJournal::with_bytes("").numbers_from(Start::Seq(1)).is_empty());
}

#[test]
fn the_last_records_are_counted_without_blank_lines_and_damage() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n\n{\"n\":\n{\"n\":2}\n?\n\n{\"n\":3}");
    for last in 0..=4 {
        let expected: Vec<_> = (1..=3).skip(3usize.saturating_sub(last)).collect();
        assert_eq!(journal.numbers_from(Start::Last(last as u64)), expected, "last {last}");
    }
}

#[test]
fn an_unfinished_batch_is_none_of_the_last_records() {
    let journal = TestJournal::missing();
    journal.append(1..=2);
    journal.append_batch(3..=5);
    let text = journal.text();
    let cut = text.trim_end().rfind('\n').unwrap();
    assert_eq!(TestJournal::with_bytes(&text[..=cut]).numbers_from(Start::Last(1)), [2]);
}

/// `Start::Last` gave the last record of a batch whose middle line was damaged, which reading from the start withholds. All such batches: each line
/// damaged in turn, with a stranger's line at each place.
#[test]
fn the_last_records_are_the_last_of_those_that_reading_from_the_start_gives() {
    let journal = TestJournal::missing();
    journal.append(1..=2);
    journal.append_batch(3..=6);
    journal.append(7..=7);
    let text = journal.text();
    let lines: Vec<_> = text.lines().collect();
    for end in 3..=lines.len() {
        for damaged in 0..=lines.len() {
            for stranger in 0..=lines.len() {
                let mut bytes = String::new();
                for (at, line) in lines.iter().take(end).enumerate() {
                    if at == stranger {
                        bytes += "{\"n\":99}\n";
                    }
                    bytes += if at == damaged { "{\"n\":" } else { line };
                    bytes.push('\n');
                }
                let journal = TestJournal::with_bytes(&bytes);
                let all = journal.numbers_from(Start::Beginning);
                for last in 0..=all.len() + 1 {
                    let expected = &all[all.len().saturating_sub(last)..];
                    assert_eq!(journal.numbers_from(Start::Last(last as u64)), expected, "the last {last} of:\n{bytes}");
                }
            }
        }
    }
}
