//! Reading: what is given out, what is counted, and where it starts.

use std::{collections::HashMap, fs};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use untorn::{Batch, Code, ErrorKind, Mark, ReadOptions, Reader, Result, Start, Verdict};

use crate::support::TestJournal;

mod damage;
#[cfg(feature = "sim")]
mod faults;
mod segments;
mod starts;

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

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }))
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
