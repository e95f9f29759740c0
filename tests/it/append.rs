//! What an append leaves in the file.

use serde_json::{Value, json};
use untorn::{Batch, ErrorKind, Format, Left, Lock, LockWait};

use crate::support::{Log, TestJournal, sealed_payloads};

/// The lines of the format page, which another implementation of CRC-32 computed.
#[test]
fn lines_are_the_ones_that_the_format_page_shows() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    for _ in 1..42 {
        writer.append(&json!(0)).unwrap();
    }
    let before = journal.bytes().len();
    writer.append_json(br#"{"type":"message","text":"hi"}"#).unwrap();
    let mut batch = Batch::new();
    batch.add_json(br#"{"type":"tool_call","id":7}"#).unwrap().add_json(br#"{"type":"tool_result","id":7}"#).unwrap();
    let appended = writer.append_batch(&batch).unwrap();
    assert_eq!((appended.seq(), appended.records()), (Some(44), 2));
    writer.append(&[1, 2]).unwrap();
    writer.append(&json!({})).unwrap();
    let expected = r#"{"type":"message","text":"hi","_seq":42,"_crc":"79097342"}
{"type":"tool_call","id":7,"_seq":43,"_more":1,"_crc":"755ff12e"}
{"type":"tool_result","id":7,"_seq":44,"_crc":"27a5cdbb"}
{"_value":[1,2],"_seq":45,"_crc":"2b42d842"}
{"_seq":46,"_crc":"db7ea1eb"}
"#;
    assert_eq!(&journal.text()[before..], expected);
}

/// S2-18, X-10: a missing and an empty file take a record without a stray LF before it.
#[test]
fn a_missing_and_an_empty_file_start_with_the_record() {
    for journal in [TestJournal::missing(), TestJournal::with_bytes("")] {
        journal.open().append(&json!({"a": 1})).unwrap();
        assert!(journal.text().starts_with(r#"{"a":1,"_seq":1,"#));
    }
}

/// S2-07, S2-08, S2-09, S2-17, C12: two handles take turns, and each sees what the other appended.
#[test]
fn two_handles_of_one_process_number_on_after_each_other() {
    let journal = TestJournal::missing();
    let mut one = journal.open();
    let mut two = journal.open();
    for round in 0..200u64 {
        let first = one.append(&json!({"by": 1, "round": round})).unwrap();
        let second = two.append(&json!({"by": 2, "round": round})).unwrap();
        assert_eq!((first.seq(), second.seq()), (Some(2 * round + 1), Some(2 * round + 2)));
        assert_eq!(second.bytes_by_others(), first.len());
    }
    let found = sealed_payloads(&journal.text());
    assert_eq!(found.len(), 400);
    for (at, (seq, record)) in found.iter().enumerate() {
        assert_eq!((*seq, record), (at as u64 + 1, &json!({"by": at % 2 + 1, "round": at / 2})));
    }
}

/// S2-33: where one holds the lock, the second writer is told who.
#[test]
fn a_second_writer_is_refused_while_one_holds_the_lock() {
    let journal = TestJournal::missing();
    let held = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    let mut options = untorn::Writer::options();
    options.lock(Lock::PerAppend, LockWait::Never);
    let error = options.open(&journal.path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&format!("locked by process {}", std::process::id())), "{error}");
    drop(held);
    // Another test may be between fork and exec just now; then its child still has a copy of the descriptor.
    options.lock(Lock::PerAppend, LockWait::For(std::time::Duration::from_secs(10)));
    drop(options.open(&journal.path).unwrap());
}

/// S2-26: no number is given after the last, and the file stays as it was.
#[test]
fn the_last_number_is_the_last() {
    let open = format!(r#"{{"_seq":{}"#, u64::MAX >> 1);
    let line = format!("{open},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(open.as_bytes()));
    let journal = TestJournal::with_bytes(&line);
    let error = journal.open().append(&json!({})).unwrap_err();
    assert_eq!((error.kind(), error.left()), (ErrorKind::SeqExhausted, &Left::Nothing));
    assert_eq!(journal.text(), line);
}

/// S2-27: a one-shot append to a journal that nobody has open takes the next number.
#[test]
fn each_opening_numbers_on() {
    let journal = TestJournal::missing();
    for seq in 1..10 {
        assert_eq!(journal.open().append(&json!({})).unwrap().seq(), Some(seq));
    }
}

#[test]
fn plain_form_refuses_what_needs_numbers_and_what_looks_sealed() {
    let journal = TestJournal::with_bytes("{\"a\":1}\n");
    let mut writer = journal.open();
    assert_eq!(writer.append(&json!({"b": 2})).unwrap().seq(), None);
    let mut batch = Batch::new();
    batch.add(&1).unwrap();
    assert_eq!(writer.append_batch(&batch).unwrap_err().kind(), ErrorKind::NotSealed);
    let sealed = br#"{"_seq":46,"_crc":"db7ea1eb"}"#;
    assert_eq!(writer.append_json(sealed).unwrap_err().kind(), ErrorKind::SealedPayload);
    assert_eq!(journal.text(), "{\"a\":1}\n{\"b\":2}\n");
}

#[test]
fn payloads_are_put_on_one_line_and_otherwise_left_alone() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| {
        options.format(Format::Plain);
    });
    writer.append_json(b" {\n \"a\" : 1.0e+2,\r\n \"b\\n\": [ ] } \n").unwrap();
    writer.append_json(b"\t{ \"z\" : 1, \"a\" : 1 }").unwrap();
    assert_eq!(journal.text(), "{\"a\":1.0e+2,\"b\\n\":[]}\n{ \"z\" : 1, \"a\" : 1 }\n");
    let error = writer.append_json(b"{\"a\":NaN}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotJson);
    let invalid = error.invalid_json().expect("it says where and why");
    assert_eq!(invalid.to_string(), "byte 5 of the payload: expected a value");
}

#[test]
fn a_record_over_the_line_limit_is_refused_and_nothing_is_written() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| {
        options.line_bytes_max(100);
    });
    let error = writer.append(&Value::from("x".repeat(100))).unwrap_err();
    assert_eq!((error.kind(), error.left()), (ErrorKind::TooLong, &Left::Nothing));
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(1));
}

/// F19: after another file was put in its place, the writer goes on in that one.
#[test]
fn a_replaced_file_is_followed() {
    for scope in [Lock::PerAppend, Lock::Held] {
        let journal = TestJournal::missing();
        let mut writer = journal.open_with(|options| {
            options.lock(scope, LockWait::Never).durability(untorn::Durability::Sync);
        });
        writer.append(&json!({"in": "old"})).unwrap();
        std::fs::rename(&journal.path, journal.dir().join("moved")).unwrap();
        assert_eq!(writer.append(&json!({"in": "new"})).unwrap().seq(), Some(2), "a number is not given twice");
        assert!(journal.text().contains("new"), "{scope:?}");
    }
}

#[test]
fn the_log_tells_of_a_file_that_was_truncated_and_not_of_one_that_has_grown() {
    let mut told = 0;
    for _ in 0..10 {
        let (log, journal) = (Log::default(), TestJournal::missing());
        let (mut writer, mut other) = (journal.open(), journal.open());
        tracing::subscriber::with_default(log.clone(), || {
            writer.append(&json!({"n": 1})).unwrap();
            std::fs::OpenOptions::new().write(true).open(&journal.path).unwrap().set_len(0).unwrap();
            writer.append(&json!({"n": 2})).unwrap();
            other.append(&json!({"n": 3})).unwrap();
            writer.append(&json!({"n": 4})).unwrap();
        });
        told = log.told().matches("somebody truncated").count();
        if told > 0 {
            break;
        }
    }
    assert_eq!(told, 1);
}

/// S2-13, F18: a truncated file is never made longer again, numbers are not given twice, and the append says what is gone.
#[test]
fn a_truncated_file_goes_on_at_its_new_end() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    let first = writer.append(&json!({"n": 1})).unwrap();
    let second = writer.append(&json!({"n": 2})).unwrap();
    std::fs::OpenOptions::new().write(true).open(&journal.path).unwrap().set_len(first.len()).unwrap();
    let third = writer.append(&json!({"n": 3})).unwrap();
    assert_eq!((third.bytes_cut_by_others(), third.seq()), (second.len(), Some(3)));
    assert_eq!(sealed_payloads(&journal.text()), [(1, json!({"n": 1})), (3, json!({"n": 3}))]);
}
