//! What went wrong once: each test's first line says what it meant for the user.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use serde_json::{Value, json};
use untorn::{
    Batch, Durability, ErrorKind, Format, Left, Lock, LockWait, Options, Reader, Rollback, Unterminated, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

const PATH: &str = "/j/session.jsonl";
const FIRST: &str = "{\"n\":0,\"_seq\":1,\"_crc\":\"cb0a404d\"}\n";

fn options(disk: &SimDisk, durability: Durability) -> Options {
    let mut options = Writer::options();
    options.disk(disk).durability(durability).lock(Lock::PerAppend, LockWait::Never);
    options
}

fn count(disk: &SimDisk, kind: OpKind) -> usize {
    disk.log().iter().filter(|op| op.kind == kind).count()
}

/// The member `n` of every record that a reader gives.
fn numbers(disk: &SimDisk) -> Vec<Value> {
    let records = Reader::options().disk(disk).open(PATH).unwrap().records::<Value>();
    records.map(|record| record.map_or(Value::Null, |record| record.value["n"].clone())).collect()
}

/// A record was acknowledged though it stood on a stranger's fragment, because the write was short and then failed. P1, P2.
#[test]
fn a_short_write_behind_a_strangers_fragment_is_no_success() {
    for records in [1usize, 2] {
        let disk = SimDisk::new();
        disk.write_file(PATH, FIRST).unwrap();
        let stranger = disk.open_raw(PATH).unwrap();
        let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
        let mut batch = Batch::new();
        (1..=records).for_each(|n| drop(batch.add(&json!({"n": n}))));
        let len = 35 * records;
        let writes = count(&disk, OpKind::Write);
        disk.before(OpMatch::nth_of(OpKind::Write, writes), move |_| stranger.append("{\"by\":\"a str").unwrap());
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, writes), how: How::Short(len - 1) });
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, writes + 1), how: How::Errno(28) });
        let (appended, result) = writer.append_all(&batch);
        assert!(result.is_err());
        let acknowledged: Vec<Value> = (1..=appended.len()).map(Value::from).collect();
        assert_eq!(numbers(&disk)[1..], acknowledged, "{}", String::from_utf8_lossy(&disk.read_file(PATH).unwrap()));
    }
}

/// Reopening said that all was durable though the record was gone, because another process had written in its place. P2.
#[test]
fn reopening_proves_the_writers_own_lines_and_no_others() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, count(&disk, OpKind::SyncData)), how: How::SyncFailsAndDrops(5) });
    let error = writer.append(&json!({"n": 1})).unwrap_err();
    assert!(matches!(error.left(), Left::Whole(_)));
    disk.drop_caches();
    let mut other = options(&disk, Durability::Sync).open(PATH).unwrap();
    assert!(other.tail_repair().removed_bytes() > 0);
    other.append(&json!({"n": "other"})).unwrap();
    let error = writer.reopen().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Poisoned, Some(FIRST.len() as u64)));
}

/// Records were never synced, because reopening a healthy writer forgot that there were any. P2.
#[test]
fn reopening_forgets_no_unsynced_record() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    writer.reopen().unwrap();
    writer.close().unwrap();
    assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
}

/// A corrupt line was acknowledged, because a record before it had panicked while it was encoded. P2.
#[test]
fn a_panic_while_encoding_leaves_nothing_behind() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(None)?;
            list.serialize_element(&1)?;
            panic!("in the middle of a record")
        }
    }
    let disk = SimDisk::new();
    disk.mkdir("/j").unwrap();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    let mut batch = Batch::new();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(batch.add(&Panics)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| writer.append(&Panics))).is_err());
    batch.add(&json!({"n": 1})).unwrap();
    writer.append_all(&batch).1.unwrap();
    writer.append(&json!({"n": 2})).unwrap();
    assert_eq!(numbers(&disk), [1, 2]);
}

/// `12` became a record, though only `1234` was ever appended, because the file could not be read back. P4.
#[test]
fn a_piece_of_a_number_never_becomes_a_record() {
    let disk = SimDisk::new();
    disk.mkdir("/j").unwrap();
    let mut writer = options(&disk, Durability::Os).format(Format::Plain).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how: How::Short(2) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 1), how: How::Errno(28) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::ReadAt, count(&disk, OpKind::ReadAt)), how: How::Errno(5) });
    assert_eq!(writer.append(&1234).unwrap_err().left(), &Left::Unknown);
    writer.append(&5).unwrap();
    assert_eq!(disk.read_file(PATH).unwrap(), b"12#\n5\n");
}

/// A record that was to be taken for torn became a good one, because a stranger had the file open. P4.
#[test]
fn a_tail_that_counts_as_torn_never_becomes_a_record() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "{\"n\":0}\n{\"n\":1}").unwrap();
    let _stranger = disk.open_raw(PATH).unwrap();
    let writer = options(&disk, Durability::Os).unterminated(Unterminated::Quarantine).open(PATH).unwrap();
    assert!(writer.tail_repair().fenced());
    assert_eq!(numbers(&disk), [0]);
}

/// A record was acknowledged though it stood on a stranger's fragment, which had arrived while the tail of the file was repaired. P1.
#[test]
fn what_arrives_while_the_tail_is_repaired_is_looked_at_before_the_next_append() {
    for tail in ["{\"torn", "{\"n\":1}", "{\"n\":1}\0\0", "{\"n\":1,\"_seq\":2,\"_more\":1,\"_crc\":\"00000000\"}"] {
        for stays_open in [false, true] {
            let prepare = || {
                let disk = SimDisk::new();
                disk.write_file(PATH, format!("{FIRST}{tail}")).unwrap();
                let stranger = stays_open.then(|| disk.as_process(7, "stranger").open_raw(PATH).unwrap());
                (disk, stranger)
            };
            let open = |disk: &SimDisk| options(disk, Durability::Os).open(PATH).unwrap();
            let ops = {
                let (disk, _stranger) = prepare();
                drop(open(&disk));
                disk.ops()
            };
            for index in 0..ops {
                let (disk, _stranger) = prepare();
                disk.before(OpMatch::nth(index), |disk| disk.append_raw(PATH, "{\"by\":\"a str").unwrap());
                let seq = open(&disk).append(&json!({"n": "ours"})).unwrap().seq().unwrap();
                let text = String::from_utf8(disk.read_file(PATH).unwrap()).unwrap();
                let ours = format!("{{\"n\":\"ours\",\"_seq\":{seq},");
                assert!(text.lines().any(|line| line.starts_with(&ours)), "a stranger before {}: {text}", disk.log()[index]);
            }
        }
    }
}

/// One writer gave a number twice, because the file had been deleted, or cut and grown again.
#[test]
fn a_number_is_given_once_whatever_becomes_of_the_file() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    for _ in 0..4 {
        writer.append(&json!({})).unwrap();
    }
    let end = disk.read_file(PATH).unwrap().len();
    disk.truncate(PATH, FIRST.len() as u64).unwrap();
    disk.append_raw(PATH, format!("{}\n\n", "{}\n".repeat(end / 3))).unwrap();
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(6), "cut and grown again");
    disk.remove(PATH).unwrap();
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(7), "deleted");
}

/// A sealed journal got a gap as long as the plain file that it replaced, because records without numbers had been counted as numbers.
#[test]
fn records_without_numbers_use_up_none() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "{\"n\":0}\n").unwrap();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    for _ in 0..9 {
        assert_eq!(writer.append(&json!({})).unwrap().seq(), None);
    }
    disk.write_file("/j/sealed", FIRST).unwrap();
    disk.rename("/j/sealed", PATH).unwrap();
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(2));
}

/// A header was missing, because the file held nothing but half a batch, which was taken out. C30, C31.
#[test]
fn the_first_record_is_decided_on_after_the_repair() {
    let half = "{\"type\":\"tool_call\",\"id\":7,\"_seq\":43,\"_more\":1,\"_crc\":\"755ff12e\"}\n";
    let disk = SimDisk::new();
    disk.write_file(PATH, half).unwrap();
    let writer = options(&disk, Durability::Os).first_record(&json!({"n": "header"})).open(PATH).unwrap();
    assert!(writer.tail_repair().removed_bytes() > 0);
    assert_eq!(numbers(&disk), ["header"]);
}

/// Appending hung for ever with the lock held, because signals kept interrupting the call. F04.
#[test]
fn a_call_that_is_always_interrupted_fails_in_the_end() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::Write), how: How::Errno(4) });
    assert_eq!(writer.append(&json!({"n": 1})).unwrap_err().raw_os_error(), Some(4));
    disk.heal();
    writer.append(&json!({"n": 1})).unwrap();
    assert_eq!(numbers(&disk), [0, 1]);
}

/// Opening a plain journal, and each append behind another process's, read all of it. P8.
#[test]
fn opening_a_plain_journal_reads_its_end_and_no_more() {
    let disk = SimDisk::new();
    disk.write_file(PATH, "{\"n\":1,\"text\":\"some words\"}\n".repeat(200_000)).unwrap();
    let read = |disk: &SimDisk| {
        disk.log().iter().filter(|op| op.kind == OpKind::ReadAt).filter_map(|op| op.moved.clone()).map(|range| range.end - range.start).sum::<u64>()
    };
    let mut one = options(&disk, Durability::Os).open(PATH).unwrap();
    assert!(read(&disk) < 3 << 20, "opening read {} bytes", read(&disk));
    let mut two = options(&disk, Durability::Os).open(PATH).unwrap();
    let before = read(&disk);
    for _ in 0..10 {
        one.append(&json!({})).unwrap();
        two.append(&json!({})).unwrap();
    }
    assert!(read(&disk) - before < 1 << 20, "20 appends read {} bytes", read(&disk) - before);
}

/// Opening panicked, or cut behind the end, if a stranger completed a byte order mark while it was looked at.
#[test]
fn a_byte_order_mark_that_a_stranger_completes_does_no_harm() {
    for (begun, read) in [1, 2].into_iter().flat_map(|begun| (0..8).map(move |read| (begun, read))) {
        let disk = SimDisk::new();
        disk.mkdir("/j").unwrap();
        disk.write_file(PATH, &b"\xEF\xBB\xBF"[..begun]).unwrap();
        disk.before(OpMatch::nth_of(OpKind::ReadAt, read), move |disk| disk.append_raw(PATH, &b"\xEF\xBB\xBF"[begun..]).unwrap());
        let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
        writer.append("after").unwrap();
        let text = disk.read_file(PATH).unwrap();
        assert!(text.ends_with(b"}\n") && !text.contains(&0), "{begun}, {read}: {}", text.escape_ascii());
    }
}

/// What another process appended while a torn tail was being synced into quarantine was cut off with it, and kept nowhere. P3, P4.
#[test]
fn what_is_appended_while_a_tail_is_being_kept_is_not_cut_off() {
    for (torn, more) in [("{\"n\":", "1}\n{\"n\":2}\n"), ("{\"n\":1}  ", "\n{\"n\":2}\n")] {
        let disk = SimDisk::new();
        disk.write_file(PATH, format!("{FIRST}{torn}")).unwrap();
        let keeping = OpMatch::nth_of(OpKind::SyncData, 0).on(format!("{PATH}.quarantine"));
        disk.before(keeping, move |disk| disk.append_raw(PATH, more).unwrap());
        let writer = options(&disk, Durability::Sync).open(PATH).unwrap();
        assert!(writer.tail_repair().is_clean(), "{}", writer.tail_repair());
        assert_eq!(numbers(&disk), [0, 1, 2]);
    }
}

/// Opening went on for ever, or cut off what another process kept appending to a torn tail. P3.
#[test]
fn a_tail_that_others_go_on_with_again_and_again_is_fenced() {
    let disk = SimDisk::new();
    disk.write_file(PATH, format!("{FIRST}{{\"by\":\"")).unwrap();
    for sync in 0..100 {
        let keeping = OpMatch::nth_of(OpKind::SyncData, sync).on(format!("{PATH}.quarantine"));
        disk.before(keeping, move |disk| disk.append_raw(PATH, "x").unwrap());
    }
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    assert!(writer.tail_repair().fenced());
    writer.append(&json!({"n": 1})).unwrap();
    assert_eq!(numbers(&disk), [0, 1]);
}

/// A durable record was no record after a power cut: the LF in front of it, which ends a torn tail, was not on the disk, as its sync had failed. P2.
#[test]
fn the_lf_behind_a_torn_tail_is_durable_before_what_follows_it() {
    for (rollback, torn) in [(Rollback::Fence, "{\"by\":"), (Rollback::Cut, "{\"n\":9}")] {
        let disk = SimDisk::new();
        disk.write_file(PATH, format!("{FIRST}{torn}")).unwrap();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, 0).on(PATH), how: How::SyncFailsAndDrops(5) });
        let mut options = options(&disk, Durability::Sync);
        assert_eq!(options.rollback(rollback).open(PATH).unwrap_err().raw_os_error(), Some(5));
        options.open(PATH).unwrap().append(&json!({"n": 1})).unwrap();
        assert_eq!(numbers(&disk.crash_now()).last(), Some(&json!(1)), "{rollback:?}");
    }
}

/// Records were called durable though the sync had failed, because it was the one that follows the repair of a stranger's tail. P2, P7.
#[test]
fn a_failed_sync_of_a_strangers_tail_poisons_who_has_unsynced_records() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Os).rollback(Rollback::Fence).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    disk.append_raw(PATH, "{\"by\":").unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, count(&disk, OpKind::SyncData)), how: How::SyncFailsAndDrops(5) });
    let error = writer.append(&json!({"n": 2})).unwrap_err();
    assert_eq!((error.kind(), error.left(), error.raw_os_error()), (ErrorKind::Poisoned, &Left::Nothing, Some(5)));
    assert_eq!(writer.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(writer.reopen().unwrap_err().kind(), ErrorKind::Poisoned);
}

/// A record was there twice, or was told as not there and appended again, because a stranger had written white space in front of it or behind it. P2.
#[test]
fn a_record_with_a_strangers_white_space_beside_it_is_not_written_again() {
    let fails = How::ErrorAfter { bytes: usize::MAX, errno: 28 };
    let lacks_lf = How::Short("{\"n\":1}".len());
    for (stands, blank, before, how) in [
        ("{\"n\":0}\n", " ", 0, How::Short(usize::MAX)),
        ("", "\u{feff}", 0, How::Short(usize::MAX)),
        ("{\"n\":0}\n", "\t", 0, fails),
        ("{\"n\":0}\n", "\r\n", 1, lacks_lf),
        ("{\"n\":0}\n", " ", 1, lacks_lf),
    ] {
        let disk = SimDisk::new();
        disk.write_file(PATH, stands).unwrap();
        let mut options = options(&disk, Durability::Os);
        let mut writer = options.format(Format::Plain).rollback(Rollback::Fence).open(PATH).unwrap();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how });
        let at = if before == 0 { OpKind::Write } else { OpKind::Position };
        let nth = count(&disk, at);
        disk.before(OpMatch::nth_of(at, nth), move |disk| disk.append_raw(PATH, blank).unwrap());
        let error = writer.append_json(b"{\"n\":1}").unwrap_err();
        assert_eq!(error.left(), &Left::Unknown, "{stands:?}, {blank:?}, {how:?}");
        drop(writer);
        drop(options.open(PATH).unwrap());
        assert_eq!(numbers(&disk).iter().filter(|n| **n == 1).count(), 1, "{stands:?}, {blank:?}, {how:?}");
    }
}

/// A record was there twice, or was told as not there, because it could not be read whether a stranger's white space stood beside it. P2, P7.
#[test]
fn a_record_is_written_again_only_if_it_is_known_not_to_be_read() {
    for how in [How::Short(usize::MAX), How::ErrorAfter { bytes: usize::MAX, errno: 28 }] {
        for read in 0..8 {
            let disk = SimDisk::new();
            disk.write_file(PATH, "{\"n\":0}\n").unwrap();
            let mut options = options(&disk, Durability::Os);
            let mut writer = options.format(Format::Plain).rollback(Rollback::Fence).open(PATH).unwrap();
            disk.before(OpMatch::nth_of(OpKind::Write, 0), |disk| disk.append_raw(PATH, " ").unwrap());
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how });
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::ReadAt, count(&disk, OpKind::ReadAt) + read), how: How::Errno(5) });
            let error = writer.append_json(b"{\"n\":1}").unwrap_err();
            assert_eq!(error.left(), &Left::Unknown, "{how:?}, read {read}");
            disk.heal();
            assert_eq!(numbers(&disk).iter().filter(|n| **n == 1).count(), 1, "{how:?}, read {read}");
        }
    }
}

/// Reopening said that all was durable, and the first record was none: the LF in front of it, of another process, had been lost with the sync. P2.
#[test]
fn reopening_proves_that_the_first_line_begins_one() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    disk.append_raw(PATH, "{\"n\":1}\n").unwrap();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, count(&disk, OpKind::SyncData)), how: How::SyncFailsAndDrops(5) });
    assert!(matches!(writer.append(&json!({"n": 2})).unwrap_err().left(), Left::Whole(_)));
    writer.reopen().unwrap();
    assert_eq!(numbers(&disk.crash_now()).last(), Some(&json!(2)));
}

/// A batch was told as a fragment, so it was appended again, though its later records were in the file behind a stranger's fragment. P2, P7.
#[test]
fn nobody_knows_of_a_batch_that_landed_glued_and_could_not_be_written_again() {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let mut writer = options(&disk, Durability::Os).rollback(Rollback::Fence).open(PATH).unwrap();
    let mut batch = Batch::new();
    (1..=3).for_each(|n| drop(batch.add(&json!({"n": n}))));
    disk.before(OpMatch::nth_of(OpKind::Write, 0), |disk| disk.append_raw(PATH, "{").unwrap());
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 1), how: How::ErrorAfter { bytes: 10, errno: 28 } });
    assert_eq!(writer.append_batch(&batch).unwrap_err().left(), &Left::Unknown);
}
