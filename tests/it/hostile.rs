//! Bytes that nobody meant well with: no panic, no hang, no more memory than a line may have, and nothing good lost.

use serde_json::{Value, json};
use untorn::{Code, Durability, ErrorKind, Reader, VerifyOptions, Writer};

use crate::support::TestJournal;

const LIMIT: u64 = 1 << 20;

/// One line each, between two good records.
fn lines() -> Vec<(&'static str, Vec<u8>, Code)> {
    vec![
        ("a line over the limit", vec![b'x'; 3 * LIMIT as usize], Code::TooLong),
        ("a record over the limit", format!("\"{}\"", "x".repeat(3 * LIMIT as usize)).into_bytes(), Code::TooLong),
        ("100,000 open brackets", vec![b'['; 100_000], Code::NotJson),
        ("100,000 open objects", b"{\"a\":".repeat(100_000), Code::NotJson),
        ("quotes", vec![b'"'; 100_001], Code::NotJson),
        ("NULs", vec![0; 100_000], Code::NulRun),
        ("invalid UTF-8", b"{\"a\":\"\xe6\x87\"}".to_vec(), Code::NotUtf8),
        ("NaN", b"{\"a\":NaN}".to_vec(), Code::NotJson),
        ("a seal that does not hold", br#"{"a":1,"_seq":1,"_crc":"00000000"}"#.to_vec(), Code::CrcMismatch),
        ("a number beyond all numbers", br#"{"_seq":9223372036854775808,"_crc":"00000000"}"#.to_vec(), Code::CrcMismatch),
    ]
}

/// F60, C21, S2-31: whatever stands on a line, the records around it are read, the line is told, and appending goes on.
#[test]
fn a_hostile_line_hides_nothing() {
    for (what, line, code) in lines() {
        let bytes = [b"{\"n\":1}\n", &line[..], b"\n{\"n\":2}\n"].concat();
        let journal = TestJournal::with_bytes(&bytes);
        let report = VerifyOptions::new().line_bytes_max(LIMIT).run(&journal.path, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!((report.count(code), report.records()), (1, 2), "{what}");
        let mut records = Reader::options().line_bytes_max(LIMIT).open(&journal.path).unwrap().records::<Value>();
        let numbers: Vec<_> = records.by_ref().map(|record| record.unwrap().value["n"].clone()).collect();
        assert_eq!(numbers, [1, 2], "{what}");
        assert_eq!((records.damage().lines(), records.damage().count(code)), (1, 1), "{what}");
        let mut writer = journal.open_with(|options| {
            options.line_bytes_max(LIMIT);
        });
        assert_eq!(writer.tail_repair().damage().count(code), 1, "{what}");
        writer.append(&json!({"n": 3})).unwrap();
        assert!(journal.bytes().starts_with(&bytes), "{what}");
    }
}

/// F60: the same without an LF behind it: nothing whole is lost, all bytes are kept somewhere, and the next record is on a line of its own.
#[test]
fn a_hostile_tail_loses_nothing() {
    for (what, tail, _) in lines() {
        let journal = TestJournal::with_bytes([b"{\"n\":1}\n", &tail[..]].concat());
        let mut writer = journal.open_with(|options| {
            options.line_bytes_max(LIMIT);
        });
        let kept = writer.tail_repair().removed_bytes() + journal.bytes().len() as u64 - 8;
        assert!(kept >= tail.len() as u64, "{what}");
        writer.append(&json!({"n": 2})).unwrap();
        let records = Reader::open(&journal.path).unwrap().records::<Value>().filter_map(Result::ok);
        assert!(records.map(|record| record.value["n"].clone()).eq([json!(1), json!(2)]), "{what}");
    }
}

/// Nesting is as deep as anybody likes: it is no reason to refuse a record, and needs no stack.
#[test]
fn depth_is_no_reason_to_refuse_a_record() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    writer.append_json(&deep).unwrap();
    let mut reader = Reader::open(&journal.path).unwrap();
    assert_eq!(reader.next_line().unwrap().unwrap().payload(), Some(&deep[..]));
    // The typed decoder has a limit of its own; to framing the line is whole.
    let mut records = Reader::open(&journal.path).unwrap().records::<Value>();
    assert_eq!(records.next().unwrap().unwrap_err().kind(), ErrorKind::Decode);
    assert!(records.damage().is_empty());
}

/// A payload may spell anything that a seal is made of, and comes back as it was.
#[test]
fn a_payload_cannot_pass_for_a_seal() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| {
        options.durability(Durability::Os);
    });
    let payloads = [
        r#"{"_seq":1}"#,
        r#"{"a":1,"_seq":7,"_crc":"00000000"}"#,
        r#"{"_seq":46,"_crc":"db7ea1eb"}"#,
        r#"{"_value":{"_value":1}}"#,
        r#"{"a":"\u005fseq","_more":2}"#,
        r#""{\"_seq\":1,\"_crc\":\"00000000\"}""#,
        r#"{"\u005fseq":1,"\u005fcrc":"00000000"}"#,
    ];
    for payload in payloads {
        writer.append_json(payload.as_bytes()).unwrap();
    }
    let mut reader = Reader::open(&journal.path).unwrap();
    for payload in payloads {
        assert_eq!(reader.next_line().unwrap().unwrap().payload(), Some(payload.as_bytes()));
    }
}

/// F37: a file that may only be read can be read, and is refused for appending, untouched.
#[test]
fn a_file_that_may_only_be_read_is_read() {
    let disk = untorn::sim::SimDisk::new();
    disk.write_file("/j/a.jsonl", "{\"n\":1}\n{\"torn").unwrap();
    disk.set_mode("/j/a.jsonl", 0o444).unwrap();
    let error = Writer::options().disk(&disk).open("/j/a.jsonl").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(Reader::options().disk(&disk).open("/j/a.jsonl").unwrap().records::<Value>().count(), 1);
    assert_eq!(disk.read_file("/j/a.jsonl").unwrap(), b"{\"n\":1}\n{\"torn");
}
