//! Reading: what is given out, what is counted, and where it starts.

use std::{collections::HashMap, fs};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use untorn::{Batch, Code, ErrorKind, Mark, OnCorrupt, Position, ReadOptions, Reader, Result, Start, Verdict};

use crate::support::TestJournal;

/// The examples of the format's page.
const SEALED: &str = r#"{"type":"message","text":"hi","_seq":42,"_crc":"79097342"}
{"type":"tool_call","id":7,"_seq":43,"_more":1,"_crc":"755ff12e"}
{"type":"tool_result","id":7,"_seq":44,"_crc":"27a5cdbb"}
{"_value":[1,2],"_seq":45,"_crc":"2b42d842"}
{"_seq":46,"_crc":"db7ea1eb"}
"#;

#[derive(Debug, Deserialize)]
struct N {
    n: u64,
}

impl TestJournal {
    fn reader(&self) -> Reader {
        Reader::open(&self.path).expect("the journal opens")
    }

    fn reader_from(&self, start: Start) -> Result<Reader> {
        Reader::options().from(start).open(&self.path)
    }

    /// Every line: its verdict and its payload.
    fn lines(&self) -> Vec<(Verdict, Option<String>)> {
        lines(self.reader())
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.lines().into_iter().map(|(verdict, _)| verdict).collect()
    }

    /// The `n` of every record.
    fn numbers(&self) -> Vec<u64> {
        numbers(self.reader())
    }

    fn numbers_from(&self, start: Start) -> Vec<u64> {
        numbers(self.reader_from(start).expect("the start is found"))
    }

    fn marks(&self) -> Vec<Mark> {
        self.reader().records::<serde_json::Value>().map(|record| record.expect("a record").mark).collect()
    }

    /// Takes the active file's place as an archived segment.
    fn rotate(&self, number: u64) {
        fs::rename(&self.path, self.segment(number)).expect("it can be renamed");
    }

    fn segment(&self, number: u64) -> std::path::PathBuf {
        self.path.with_file_name(format!("j.{number:06}.jsonl"))
    }

    fn append(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut writer = self.open();
        for n in numbers {
            writer.append(&serde_json::json!({ "n": n })).expect("it appends");
        }
    }

    fn append_batch(&self, numbers: std::ops::RangeInclusive<u64>) {
        let mut batch = Batch::new();
        for n in numbers {
            batch.add(&serde_json::json!({ "n": n })).expect("it encodes");
        }
        self.open().append_batch(&batch).expect("it appends");
    }
}

fn lines(mut reader: Reader) -> Vec<(Verdict, Option<String>)> {
    let mut lines = Vec::new();
    while let Some(mut line) = reader.next_line().expect("the system works") {
        let payload = line.payload().map(|payload| String::from_utf8(payload.to_vec()).expect("a payload is UTF-8"));
        lines.push((line.verdict(), payload));
    }
    lines
}

fn numbers(reader: Reader) -> Vec<u64> {
    values::<N>(reader).into_iter().map(|record| record.n).collect()
}

fn values<T: DeserializeOwned>(reader: Reader) -> Vec<T> {
    reader.records::<T>().map(|record| record.expect("a record of this type").value).collect()
}

fn sealed(n: u64) -> String {
    let journal = TestJournal::missing();
    journal.append(1..=n);
    format!("{}\n", journal.text().lines().last().expect("a line"))
}

#[test]
fn sealed_lines_come_back_as_their_payloads() {
    let payloads: Vec<_> = TestJournal::with_bytes(SEALED).lines().into_iter().filter_map(|(_, payload)| payload).collect();
    assert_eq!(payloads, [r#"{"type":"message","text":"hi"}"#, r#"{"type":"tool_call","id":7}"#, r#"{"type":"tool_result","id":7}"#, "[1,2]", "{}"]);
}

#[test]
fn the_bytes_of_a_line_are_those_in_the_file_whatever_was_asked_before() {
    let journal = TestJournal::with_bytes(SEALED);
    let mut reader = journal.reader();
    let mut bytes = Vec::new();
    while let Some(mut line) = reader.next_line().unwrap() {
        let payload = line.payload().unwrap().to_vec();
        assert_eq!(line.payload().unwrap(), payload);
        bytes.extend_from_slice(line.bytes());
        bytes.push(b'\n');
        assert_eq!(line.payload().unwrap(), payload);
    }
    assert_eq!(bytes, SEALED.as_bytes());
}

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

/// S2-32: a type that refuses members it does not know, collects them, or keeps the raw text never meets the seal.
#[test]
fn a_typed_decoder_sees_the_payload_and_never_the_seal() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        n: u64,
    }
    #[derive(Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: HashMap<String, serde_json::Value>,
    }
    let journal = TestJournal::missing();
    journal.append_batch(1..=3);
    assert_eq!(values::<Strict>(journal.reader()).iter().map(|record| record.n).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(values::<Flat>(journal.reader()).iter().all(|record| record.rest.keys().eq(["n"])));
    let raw = values::<Box<RawValue>>(journal.reader());
    assert_eq!(raw.iter().map(|raw| raw.get()).collect::<Vec<_>>(), [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

/// S2-32, C15, C25: what the type rejects is one error with the place of the record, no damage, and reading goes on.
#[test]
fn a_record_that_the_type_rejects_is_one_error_and_no_damage() {
    let journal = TestJournal::with_bytes("{\"n\":1}\n[\"\"]\n{\"n\":\"\\ud800\"}\n7\n{\"n\":2}\n");
    let mut records = journal.reader().records::<N>();
    let found: Vec<_> = records.by_ref().map(|record| record.map(|record| record.value.n)).collect();
    let numbers: Vec<_> = found.iter().flatten().copied().collect();
    let errors: Vec<_> = found.iter().filter_map(|record| record.as_ref().err()).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Decode));
    let offsets: Vec<_> = errors.iter().map(|error| (error.offset(), error.mark().map(|mark| mark.end.offset))).collect();
    assert_eq!(offsets, [(Some(8), Some(13)), (Some(13), Some(28)), (Some(28), Some(30))]);
    assert!(records.damage().is_empty());
}

/// S2-35: reading needs no lock.
#[test]
fn a_reader_reads_while_a_writer_holds_the_lock() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| {
        options.lock(untorn::Lock::Held, untorn::LockWait::Never);
    });
    writer.append(&serde_json::json!({ "n": 1 })).unwrap();
    assert_eq!(journal.numbers(), [1]);
    writer.append(&serde_json::json!({ "n": 2 })).unwrap();
    assert_eq!(journal.numbers(), [1, 2]);
}

/// X-04: a file and a directory that may only be read are read, and left as they are.
#[test]
fn reading_changes_nothing_and_works_on_read_only_files() {
    use std::os::unix::fs::PermissionsExt;
    let journal = TestJournal::with_bytes("{\"n\":1}\n{\"n\":2}\n{\"n\":");
    let (bytes, modified) = (journal.bytes(), fs::metadata(&journal.path).unwrap().modified().unwrap());
    fs::set_permissions(&journal.path, fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(journal.dir(), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(journal.numbers(), [1, 2]);
    fs::set_permissions(journal.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((journal.bytes(), fs::metadata(&journal.path).unwrap().modified().unwrap()), (bytes, modified));
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 1);
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

/// C16: lines are split on LF alone.
#[test]
fn unicode_line_separators_split_nothing() {
    let journal = TestJournal::with_bytes("{\"t\":\"\u{2028}\u{2029}\u{85}\"}\n");
    assert_eq!(journal.lines(), [(Verdict::Plain, Some("{\"t\":\"\u{2028}\u{2029}\u{85}\"}".to_owned()))]);
}

/// C18, C19, C20: a byte order mark, CRs and blank lines are accepted, and every offset is that of the byte in the file.
#[test]
fn what_surrounds_records_shifts_no_offset() {
    for line in [r#"{"n":1}"#.to_owned(), sealed(1).trim_end().to_owned()] {
        let journal = TestJournal::with_bytes(format!("\u{feff}{line}\r\n \t\r\n\n{line}\r\n"));
        let len = line.len() as u64;
        let offsets: Vec<_> = journal.marks().iter().map(|mark| (mark.start.offset, mark.end.offset)).collect();
        assert_eq!(offsets, [(0, 3 + len + 2), (len + 10, 2 * len + 12)]);
        assert_eq!(journal.numbers(), [1, 1]);
        let mut reader = journal.reader();
        while reader.next_line().unwrap().is_some() {}
        assert_eq!((reader.damage().blank(), reader.damage().is_empty()), (2, true));
    }
}

#[test]
fn a_file_of_nothing_holds_no_record_and_no_damage() {
    for bytes in ["", "\u{feff}", "\n", " \t"] {
        let mut records = TestJournal::with_bytes(bytes).reader().records::<N>();
        assert!(records.next().is_none() && records.damage().is_empty(), "{bytes:?}");
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

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
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

#[test]
fn a_batch_is_given_whole_or_not_at_all_wherever_it_ends() {
    let journal = TestJournal::missing();
    journal.append(1..=1);
    let before = journal.bytes().len();
    journal.append_batch(2..=4);
    let whole = journal.bytes();
    for cut in before..=whole.len() {
        let journal = TestJournal::with_bytes(&whole[..cut]);
        // The last LF of a line whose seal holds is not needed.
        let expected: &[u64] = if cut >= whole.len() - 1 { &[1, 2, 3, 4] } else { &[1] };
        assert_eq!(journal.numbers(), expected, "cut at byte {cut}");
    }
}

#[test]
fn lines_of_strangers_among_those_of_a_batch_do_not_break_it() {
    let journal = TestJournal::missing();
    journal.append_batch(1..=3);
    let mixed = journal.text().replace("}\n", "}\n{\"n\":9}\n\n{\"n\":\n");
    assert_eq!(TestJournal::with_bytes(mixed).numbers(), [1, 9, 2, 9, 3, 9]);
}

#[test]
fn a_batch_that_lost_a_line_is_withheld_and_what_follows_is_read() {
    let journal = TestJournal::missing();
    journal.append_batch(1..=3);
    journal.append(4..=4);
    let text = journal.text();
    for lost in 1..3 {
        let damaged: String = text.lines().enumerate().filter(|(at, _)| *at != lost).map(|(_, line)| format!("{line}\n")).collect();
        let mut records = TestJournal::with_bytes(damaged).reader().records::<N>();
        assert_eq!(records.by_ref().map(|record| record.unwrap().value.n).collect::<Vec<_>>(), [4], "line {lost} lost");
        assert_eq!(records.damage().count(Code::OpenBatch), 2);
    }
}

#[test]
fn a_batch_tried_again_with_the_same_numbers_is_given_once() {
    let journal = TestJournal::missing();
    journal.append_batch(1..=3);
    let text = journal.text();
    let first_two: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
    assert_eq!(TestJournal::with_bytes(first_two + "{\"n\":\n" + &text).numbers(), [1, 2, 3]);
}

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

/// Three archived segments and an active one, ten records each.
fn four_segments() -> TestJournal {
    let journal = TestJournal::missing();
    for segment in 0..4 {
        journal.append(segment * 10 + 1..=segment * 10 + 10);
        if segment < 3 {
            journal.rotate(segment + 1);
        }
    }
    journal
}

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

#[test]
fn what_is_no_journal_is_refused() {
    let journal = TestJournal::missing();
    let refused = |path: &std::path::Path| Reader::open(path).unwrap_err();
    assert_eq!(refused(journal.dir()).kind(), ErrorKind::NotAFile);
    assert_eq!(std::io::Error::from(refused(&journal.path)).kind(), std::io::ErrorKind::NotFound);
    std::os::unix::fs::symlink(&journal.path, journal.dir().join("link.jsonl")).unwrap();
    journal.append(1..=2);
    assert_eq!(numbers(Reader::open(journal.dir().join("link.jsonl")).unwrap()), [1, 2]);
}

#[test]
fn readers_and_options_can_be_sent_and_kept() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Reader>();
    is_send::<untorn::Records<N>>();
    is_send::<ReadOptions>();
}

/// Every call that can fail, failed once.
#[cfg(feature = "sim")]
mod faults {
    use untorn::sim::{Fault, How, OpKind, OpMatch, SimDisk};

    use super::{ErrorKind, N, ReadOptions, Reader, four_segments};

    const EIO: i32 = 5;
    const EINTR: i32 = 4;

    /// Forty records in four segments, on a disk of their own.
    fn disk() -> SimDisk {
        let journal = four_segments();
        let disk = SimDisk::new();
        for entry in std::fs::read_dir(journal.dir()).unwrap() {
            let entry = entry.unwrap();
            disk.write_file(std::path::Path::new("/").join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
        disk
    }

    fn options(disk: &SimDisk) -> ReadOptions {
        let mut options = Reader::options();
        options.disk(disk);
        options
    }

    fn calls() -> usize {
        let disk = disk();
        let before = disk.ops();
        assert_eq!(options(&disk).open("/j.jsonl").unwrap().records::<N>().count(), 40);
        disk.ops() - before
    }

    #[test]
    fn a_failing_call_is_one_error_after_the_records_before_it() {
        for call in 0..calls() {
            let disk = disk();
            disk.fail(Fault { at: OpMatch::nth(disk.ops() + call), how: How::Errno(EIO) });
            let Ok(reader) = options(&disk).open("/j.jsonl").inspect_err(|error| assert_eq!(error.raw_os_error(), Some(EIO))) else { continue };
            let mut found: Vec<_> = reader.records::<N>().collect();
            let error = found.pop().unwrap().expect_err("the call failed");
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Io, Some(EIO)), "call {call}");
            let given = found.len() as u64;
            assert!(found.into_iter().map(|record| record.unwrap().value.n).eq(1..=given), "call {call}");
        }
    }

    #[test]
    fn reading_lines_goes_on_after_a_failing_call() {
        for call in 0..calls() {
            let disk = disk();
            let fault = Fault { at: OpMatch::nth(disk.ops() + call), how: How::Errno(EIO) };
            disk.fail(fault);
            let Ok(mut reader) = options(&disk).open("/j.jsonl") else { continue };
            let mut seqs = Vec::new();
            loop {
                match reader.next_line() {
                    Ok(Some(line)) => seqs.extend(line.mark().seq),
                    Ok(None) => break,
                    Err(error) => assert_eq!(error.raw_os_error(), Some(EIO)),
                }
            }
            assert!(seqs.into_iter().eq(1..=40), "call {call}");
        }
    }

    #[test]
    fn short_and_interrupted_reads_change_nothing() {
        for how in [How::Short(1), How::Errno(EINTR)] {
            for call in 0..calls() {
                let disk = disk();
                disk.fail(Fault { at: OpMatch::nth_of(OpKind::ReadAt, call), how });
                let found = options(&disk).open("/j.jsonl").unwrap().records::<N>().map(|record| record.unwrap().value.n);
                assert!(found.eq(1..=40), "{how:?} in read {call}");
            }
        }
    }

    /// Whenever the active file is rotated while the journal is opened, all that was there is read once and in order.
    #[test]
    fn a_rotation_while_the_journal_is_opened_loses_and_doubles_nothing() {
        for call in 0..calls() {
            let disk = disk();
            disk.before(OpMatch::nth(disk.ops() + call), |disk| {
                disk.rename("/j.jsonl", "/j.000004.jsonl").unwrap();
                disk.write_file("/j.jsonl", "").unwrap();
            });
            let found = options(&disk).open("/j.jsonl").unwrap().records::<N>().map(|record| record.unwrap().value.n);
            assert!(found.eq(1..=40), "rotated before call {call}");
        }
    }
}
