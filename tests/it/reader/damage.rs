//! Damage is told, and hides no record.

use untorn::{Code, ErrorKind, OnCorrupt, Reader, Start, Verdict};

use super::{N, SEALED, crc32, sealed};
use crate::support::TestJournal;

/// S2-30, X-05, C6: damage in the middle is told with its kind and byte range, and what follows is read.
#[test]
fn damage_in_the_middle_hides_no_record_and_is_told() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n{\"n\":\n\n{\"n\":2}\nnot\n{\"n\":3}\n");
    let mut records = journal.reader().records::<N>();
    let numbers: Vec<_> = records.by_ref().map(|record| record.unwrap().value.n).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let damage = records.damage();
    assert_eq!((damage.lines(), damage.bytes(), damage.blank(), damage.count(Code::NotJson)), (2, 10, 1, 2));
    let places: Vec<_> = damage.into_iter().map(|place| (place.position.offset, place.len)).collect();
    assert_eq!(places, [(8, 6), (23, 4)]);
    assert_eq!(damage.to_string(), "2 damaged lines, 10 bytes: 2 not-json; first at byte 8 of segment 1");
}

#[test]
fn only_the_first_places_of_damage_are_remembered_and_all_are_counted() {
    let mut reader = TestJournal::with_bytes("?\n".repeat(1000)).reader().records::<N>();
    assert!(reader.next().is_none());
    assert_eq!((reader.damage().lines(), reader.damage().places().len()), (1000, 16));
}

/// S2-31, C14: bytes that are no UTF-8 cost one line.
#[test]
fn invalid_utf8_leaves_the_rest_readable() {
    let journal = TestJournal::with_bytes(b"{\"n\":1}\n\xe6\x87\n{\"n\":\"\xe6\x87\"}\n{\"n\":2}\n");
    let corrupt = Verdict::Corrupt(Code::NotUtf8);
    assert_eq!(journal.verdicts(), [Verdict::Plain, corrupt, corrupt, Verdict::Plain]);
    assert_eq!(journal.numbers(), [1, 2]);
}

/// X-20: a record that was not finished is read from where it starts once it is.
#[test]
fn an_incomplete_last_record_is_read_when_it_is_completed() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n{\"n\":");
    let mut records = journal.reader().records::<N>();
    assert_eq!(records.by_ref().count(), 1);
    let torn = records.into_reader().position();
    assert_eq!(torn.offset, 8);
    journal.append_as_stranger("2}\n");
    assert_eq!(journal.numbers_from(Start::Position(torn)), [2]);
}

/// C1 to C9, C21: each kind of damaged line has its code.
#[test]
fn each_kind_of_damage_has_its_name() {
    let nuls = "\0".repeat(300);
    let cases = [
        ("C1", "{\"n\":1}\n{\"n\":2,\"te{\"n\":3}\n".to_owned(), Code::Spliced),
        ("C2", "{\"n\":1}\n{\"n\":2,\"text\":\"a{\"n\":2,\"text\":\"ab\"}\n".to_owned(), Code::Spliced),
        ("C3", "{\"n\":1}\n{\"n\":2}{\"n\":3}\n".to_owned(), Code::Glued),
        ("C6", "{\"n\":1}\n{\"n\":2,\"te\n".to_owned(), Code::NotJson),
        ("C7", format!("{{\"n\":1}}\n{nuls}\n"), Code::NulRun),
        ("C9", format!("{{\"n\":1}}\n{nuls}{{\"n\":2}}\n"), Code::NulRun),
        ("sealed", SEALED.replace("hi", "ho"), Code::CrcMismatch),
        ("C4", "{\"n\":1}\n{\"n\":2,\"te".to_owned(), Code::TornTail),
    ];
    for (case, bytes, code) in cases {
        let mut records = TestJournal::with_bytes(bytes).reader().records::<serde_json::Value>();
        assert!(records.by_ref().all(|record| record.is_ok()), "{case}");
        let counts: Vec<_> = records.damage().counts().collect();
        assert_eq!(counts, [(code, 1)], "{case}");
    }
}

/// C5, C8: a whole last record that lacks its LF is given; NULs behind it are damage.
#[test]
fn a_whole_last_record_without_its_lf_is_a_record() {
    let sealed_line = sealed(2);
    let sealed_line = sealed_line.trim_end();
    for last in [r#"{"n":2}"#, sealed_line] {
        for (behind, torn) in [("", 0), ("  ", 0), ("\0\0\0\0", 4), (" \0\0 ", 4)] {
            let journal = TestJournal::with_bytes(format!("{{\"n\":1}}\n{last}{behind}"));
            let mut records = journal.reader().records::<N>();
            let found: Vec<_> = records.by_ref().map(|record| record.unwrap()).map(|record| (record.value.n, record.mark.end.offset)).collect();
            assert_eq!(found, [(1, 8), (2, 8 + last.len() as u64)], "{last}{behind:?}");
            assert_eq!((records.damage().bytes(), records.damage().count(Code::TornTail)), (torn, torn / 4), "{last}{behind:?}");
        }
    }
}

#[test]
fn a_last_number_or_literal_without_its_lf_may_be_the_beginning_of_another() {
    for last in ["1", "true", "-1.5", "null"] {
        assert_eq!(TestJournal::with_bytes(format!("{{\"n\":1}}\n{last}")).verdicts(), [Verdict::Plain, Verdict::Torn], "{last}");
    }
    for last in ["[1]", "\"a\"", "{}"] {
        assert_eq!(TestJournal::with_bytes(format!("{{\"n\":1}}\n{last}")).verdicts(), [Verdict::Plain, Verdict::Plain], "{last}");
    }
}

/// C21: a line over the limit is passed over, and told.
#[test]
fn a_line_over_the_limit_is_counted_and_passed_over() {
    let journal = TestJournal::with_bytes(format!("{{\"n\":1}}\n{{\"t\":\"{}\"}}\n{{\"n\":2}}\n", "x".repeat(300_000)));
    let mut records = Reader::options().line_bytes_max(1000).open(&journal.path).unwrap().records::<N>();
    assert_eq!(records.by_ref().map(|record| record.unwrap().value.n).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((records.damage().count(Code::TooLong), records.damage().bytes()), (1, 300_009));
}

/// C31: a first line that is damaged hides nothing behind it.
#[test]
fn a_damaged_header_hides_no_record() {
    assert_eq!(TestJournal::with_bytes("{\"header\":\n{\"n\":1}\n").numbers(), [1]);
}

#[test]
fn a_line_of_a_newer_format_is_told_as_such() {
    let covered = r#"{"n":1,"_seq":1,"_new":7"#;
    let line = format!("{covered},\"_crc\":\"{:08x}\"}}\n", crc32(covered.as_bytes()));
    assert_eq!(TestJournal::with_bytes(line).verdicts(), [Verdict::Corrupt(Code::NewerFormat)]);
}

#[test]
fn stopping_at_a_corrupt_line_says_where_and_why() {
    let journal = TestJournal::with_bytes(SEALED.replacen("tool_call", "tool_cell", 1));
    let mut options = Reader::options();
    let mut records = options.on_corrupt(OnCorrupt::Stop).open(&journal.path).unwrap().records::<serde_json::Value>();
    assert!(records.next().unwrap().is_ok());
    let error = records.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(59)));
    let path = journal.path.display();
    let start = format!("cannot read `{path}` at byte 59: line 2 is corrupt (crc-mismatch): seal says 755ff12e, bytes give ");
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(records.next().is_none());
}

#[test]
fn corrupt_lines_that_are_asked_for_come_as_errors_and_reading_goes_on() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n{\"n\"\n{\"n\":2}\n");
    let records = Reader::options().on_corrupt(OnCorrupt::Yield).open(&journal.path).unwrap().records::<N>();
    let found: Vec<_> = records.map(|record| record.map(|record| record.value.n).map_err(|error| error.kind())).collect();
    assert_eq!(found, [Ok(1), Err(ErrorKind::Corrupt), Ok(2)]);
}
