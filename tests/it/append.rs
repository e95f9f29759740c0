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

/// Whoever holds the lock looks at the path only now and then; who asks for a sync wants the records where others find them.
#[test]
fn a_sync_by_who_holds_the_lock_finds_that_the_file_was_replaced() {
    for scope in [Lock::PerAppend, Lock::Held] {
        let journal = TestJournal::missing();
        let open = |scope| {
            let mut options = untorn::Writer::options();
            options.lock(scope, LockWait::Never).durability(untorn::Durability::Os).open(&journal.path)
        };
        let mut writer = open(scope).unwrap();
        writer.append(&json!({"in": "old"})).unwrap();
        std::fs::rename(&journal.path, journal.dir().join("moved")).unwrap();
        writer.sync().unwrap();
        assert_eq!(journal.path.exists(), scope == Lock::Held);
        // A sync takes no lock, and leaves none.
        let other = open(Lock::PerAppend).map_err(|error| error.kind());
        assert_eq!(other.err(), (scope == Lock::Held).then_some(ErrorKind::Locked), "{scope:?}");
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

/// What others had written in the place of cut bytes passed for what the writer had left there, and their numbers were given again.
#[test]
fn a_file_that_was_cut_and_has_grown_again_is_looked_at_anew() {
    let line = |n: u64, seq: u64| {
        let open = format!("{{\"n\":{n},\"_seq\":{seq}");
        format!("{open},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(open.as_bytes()))
    };
    // Where the writer's line ended there is the end of another one of the same length, or the middle of one.
    for (appends, grown, next) in [(true, line(1, 7), 8), (true, line(1, 500), 501), (false, line(0, 500), 501)] {
        let journal = TestJournal::with_bytes(if appends { String::new() } else { line(0, 1) });
        let mut writer = journal.open();
        if appends {
            writer.append(&json!({"n": 1})).unwrap();
        }
        std::fs::write(&journal.path, format!("{grown}{{}}\n")).unwrap();
        assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(next), "{grown}");
    }
}

/// What an append says of where its records are, though a process without the lock writes at the same time.
#[cfg(feature = "sim")]
mod among_strangers {
    use untorn::{
        Rollback, Writer,
        sim::{Fault, How, OpKind, OpMatch, SimDisk},
    };

    use super::*;

    const PATH: &str = "/j/session.jsonl";
    const BEFORE: &str = "{\"n\":0}\n";
    const RECORD: &str = "{\"n\":1,\"_seq\":1,\"_crc\":\"24c82b73\"}\n";

    fn open(rollback: Rollback) -> (SimDisk, Writer) {
        let disk = SimDisk::new();
        disk.write_file(PATH, BEFORE).unwrap();
        let mut options = Writer::options();
        options.disk(&disk).format(Format::Sealed).durability(untorn::Durability::Os).rollback(rollback);
        let writer = options.open(PATH).unwrap();
        (disk, writer)
    }

    fn count(disk: &SimDisk, kind: OpKind) -> usize {
        disk.log().iter().filter(|op| op.kind == kind).count()
    }

    /// A stranger writes right before the next write.
    fn interfere(disk: &SimDisk, words: &'static str) {
        disk.before(OpMatch::nth_of(OpKind::Write, count(disk, OpKind::Write)), move |disk| disk.append_raw(PATH, words).unwrap());
    }

    /// The bytes that a mark names.
    fn line_at(disk: &SimDisk, mark: untorn::Mark) -> String {
        let bytes = disk.read_file(PATH).unwrap();
        String::from_utf8_lossy(&bytes[mark.start.offset as usize..mark.end.offset as usize]).into_owned()
    }

    #[test]
    fn a_mark_names_the_record_wherever_it_has_landed() {
        for (words, rollback) in [("{}\n", Rollback::Cut), ("{\"torn", Rollback::Cut), ("{}\n", Rollback::Fence), ("{\"torn", Rollback::Fence)] {
            let (disk, mut writer) = open(rollback);
            interfere(&disk, words);
            let appended = writer.append(&json!({"n": 1})).unwrap();
            assert_eq!(line_at(&disk, appended.mark()), RECORD, "{words} {rollback:?}");
            // Only who never cuts leaves a first try there, on the line that the stranger had begun.
            let begun = (BEFORE.len() + words.len()) as u64;
            let fragment = appended.fragment().map(|range| (range.start.offset, range.end.offset));
            let expected = (words == "{\"torn" && rollback == Rollback::Fence).then_some((begun, begun + RECORD.len() as u64));
            assert_eq!(fragment, expected, "{words} {rollback:?}");
        }
    }

    /// A batch whose first line landed on a stranger's half line, and which lacked only its last LF, was given out without that first record.
    #[test]
    fn no_part_of_a_batch_is_given_out_that_landed_behind_a_fragment_and_stopped() {
        let mut batch = Batch::new();
        batch.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap().add(&json!({"n": 3})).unwrap();
        let len = {
            let (disk, mut writer) = open(Rollback::Fence);
            writer.append_batch(&batch).unwrap();
            disk.read_file(PATH).unwrap().len() - BEFORE.len()
        };
        for short in 1..len {
            let (disk, mut writer) = open(Rollback::Fence);
            interfere(&disk, "{\"torn");
            let write = count(&disk, OpKind::Write);
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, write), how: How::Short(short) });
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, write + 1), how: How::Errno(28) });
            writer.append_batch(&batch).unwrap_err();
            drop(writer);
            let mut options = Writer::options();
            drop(options.disk(&disk).rollback(Rollback::Fence).open(PATH).unwrap());
            let read = untorn::Reader::options().disk(&disk).open(PATH).unwrap().records::<serde_json::Value>();
            let numbers: Vec<_> = read.map(|record| record.unwrap().value["n"].as_u64()).collect();
            assert_eq!(numbers, [Some(0)], "{short} of {len} bytes");
        }
    }

    /// Where nothing may be cut, what a batch left behind a stranger's half line is read, and then all of it: with the numbers that it had, which tells.
    #[test]
    fn a_batch_that_is_written_again_behind_a_fragment_has_the_same_numbers() {
        let mut batch = Batch::new();
        batch.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap().add(&json!({"n": 3})).unwrap();
        for (rollback, expected) in [(Rollback::Cut, &[1, 2, 3][..]), (Rollback::Fence, &[2, 3, 1, 2, 3])] {
            let (disk, mut writer) = open(rollback);
            interfere(&disk, "{\"torn");
            let appended = writer.append_batch(&batch).unwrap();
            assert_eq!(appended.fragment().is_some(), rollback == Rollback::Fence);
            let read = untorn::Reader::options().disk(&disk).open(PATH).unwrap().records::<serde_json::Value>();
            let read: Vec<_> =
                read.map(|record| record.unwrap()).filter_map(|record| Some((record.mark.seq?, record.value["n"].as_u64()?))).collect();
            assert_eq!(read, expected.iter().map(|n| (*n, *n)).collect::<Vec<_>>(), "{rollback:?}");
        }
    }

    #[test]
    fn of_a_group_that_failed_too_the_marks_name_the_records_that_are_there() {
        let (disk, mut writer) = open(Rollback::Cut);
        interfere(&disk, "{}\n");
        disk.fail(Fault {
            at: OpMatch::nth_of(OpKind::Write, count(&disk, OpKind::Write)),
            how: How::ErrorAfter { bytes: RECORD.len() + 4, errno: 28 },
        });
        let mut records = Batch::new();
        records.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap();
        let (appended, result) = writer.append_all(&records);
        assert_eq!((appended.len(), result.is_err()), (1, true));
        assert_eq!(line_at(&disk, appended[0].mark()), RECORD);
    }

    /// The range that a stranger had spoilt was said to stand in front of records that are whole, and it began with them.
    #[test]
    fn what_is_spoilt_behind_a_record_is_not_said_to_stand_in_front_of_it() {
        let (disk, mut writer) = open(Rollback::Cut);
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, count(&disk, OpKind::Write)), how: How::Short(RECORD.len() + 4) });
        // The size is asked once before the write, and again behind its first piece.
        let size = count(&disk, OpKind::Size) + 1;
        disk.before(OpMatch::nth_of(OpKind::Size, size), |disk| disk.append_raw(PATH, "{}\n").unwrap());
        let mut records = Batch::new();
        records.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap();
        let (appended, result) = writer.append_all(&records);
        assert_eq!((appended.len(), result.unwrap_err().left()), (1, &Left::Unknown));
        assert_eq!((line_at(&disk, appended[0].mark()), appended[0].fragment()), (RECORD.to_owned(), None));
    }
}
