//! When a record is safe, and what a failed sync means.

use std::time::{Duration, Instant};

use serde_json::json;
use untorn::{
    Appended, Batch, Durability, ErrorKind, Format, Left, Lock, LockWait, Options, Rollback, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

const PATH: &str = "/j/session.jsonl";

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.mkdir("/j").unwrap();
    disk
}

fn options(disk: &SimDisk, durability: Durability) -> Options {
    let mut options = Writer::options();
    options.disk(disk).durability(durability).lock(Lock::PerAppend, LockWait::Never);
    options
}

fn syncs(disk: &SimDisk) -> usize {
    disk.log().iter().filter(|op| op.kind == OpKind::SyncData).count()
}

fn durable_records(disk: &SimDisk) -> usize {
    disk.durable_file(PATH).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

/// durability can be chosen per record; by default a record is durable when its append returns.
#[test]
fn each_append_is_as_durable_as_asked() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    assert_eq!(durable_records(&disk), 1);
    writer.append_with(&json!({"n": 2}), Durability::Os).unwrap();
    assert_eq!(durable_records(&disk), 1);
    let through = writer.sync().unwrap();
    assert_eq!((durable_records(&disk), through.offset), (2, disk.read_file(PATH).unwrap().len() as u64));
    writer.append_with(&json!({"n": 3}), Durability::Os).unwrap();
    writer.close().unwrap();
    assert_eq!(durable_records(&disk), 3);
}

/// For a tenth of a second; where the machine made the appends slower than that, they say nothing, and it is tried anew.
#[test]
fn who_holds_the_lock_and_does_not_sync_trusts_the_path_for_a_while() {
    for _ in 0..20 {
        let (disk, begun) = (disk(), Instant::now());
        let mut writer = options(&disk, Durability::Os).lock(Lock::Held, LockWait::Never).open(PATH).unwrap();
        let opened = disk.ops();
        writer.append(&json!({"n": 1})).unwrap();
        writer.append(&json!({"n": 2})).unwrap();
        let looked = disk.log()[opened..].iter().filter(|op| op.kind == OpKind::IdOf).count();
        if begun.elapsed() < Duration::from_millis(100) {
            assert_eq!(looked, 0);
            return;
        }
    }
}

#[test]
fn an_interval_syncs_when_it_is_over_and_on_closing() {
    let disk = disk();
    let mut never = options(&disk, Durability::Interval(Duration::from_secs(3600))).open(PATH).unwrap();
    never.append(&json!({"n": 1})).unwrap();
    never.append(&json!({"n": 2})).unwrap();
    assert_eq!(durable_records(&disk), 0);
    never.close().unwrap();
    assert_eq!(durable_records(&disk), 2);
    let mut always = options(&disk, Durability::Interval(Duration::ZERO)).open(PATH).unwrap();
    always.append(&json!({"n": 3})).unwrap();
    assert_eq!(durable_records(&disk), 3);
}

#[test]
fn many_records_in_one_call_cost_one_write_and_one_sync() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    let before = syncs(&disk);
    let mut records = Batch::new();
    for n in 0..100 {
        records.add(&json!({"n": n})).unwrap();
    }
    let writes = |disk: &SimDisk| disk.log().iter().filter(|op| op.kind == OpKind::Write).count();
    let (appended, result) = writer.append_all(&records);
    result.unwrap();
    assert_eq!((appended.len(), writes(&disk), syncs(&disk) - before), (100, 1, 1));
    assert_eq!(appended[99].seq(), Some(100));
    assert!(appended.iter().all(|one| one.records() == 1));
}

/// F11, F12: a failed sync is never tried again, says that the record is whole, and refuses what comes after.
#[test]
fn a_failed_sync_poisons_the_writer() {
    for errno in [5, 28, 122] {
        let disk = disk();
        let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
        writer.append(&json!({"n": 1})).unwrap();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::Errno(errno) });
        let error = writer.append(&json!({"n": 2})).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::DurabilityUnknown, Some(errno)));
        assert!(matches!(error.left(), Left::Whole(appended) if appended.seq() == Some(2)));
        let synced = syncs(&disk);
        for _ in 0..3 {
            let error = writer.append(&json!({"n": 3})).unwrap_err();
            assert_eq!((error.kind(), error.left(), error.raw_os_error()), (ErrorKind::Poisoned, &Left::Nothing, Some(errno)));
            assert_eq!(writer.sync().unwrap_err().kind(), ErrorKind::Poisoned);
        }
        assert_eq!(syncs(&disk), synced, "a failed sync is not tried again");
        assert_eq!(
            writer.append(&json!({})).unwrap_err().to_string(),
            "cannot append to `/j/session.jsonl`: writer is poisoned by an earlier failed sync; reopen it"
        );
    }
}

/// Reopening proves every line since the last good sync and makes it durable, though the kernel took the pages for clean.
#[test]
fn reopening_after_a_failed_sync_makes_the_records_durable() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::SyncFailsAndDrops(5) });
    writer.append(&json!({"n": 2})).unwrap_err();
    writer.reopen().unwrap();
    disk.drop_caches();
    assert_eq!(writer.append(&json!({"n": 3})).unwrap().seq(), Some(3));
    let text = String::from_utf8(disk.durable_file(PATH).unwrap()).unwrap();
    let numbers: Vec<_> = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

/// A record that reopening had called durable was NULs after a restart: ext4 synced it into a block that it took for never written.
#[test]
fn reopening_believes_the_disk_and_not_the_sync() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    let first = writer.append(&json!({"n": 1})).unwrap();
    let sync = syncs(&disk);
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, sync), how: How::SyncFailsAndDrops(28) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, sync + 1), how: How::SyncDrops });
    writer.append(&json!({"n": 2})).unwrap_err();
    let error = writer.reopen().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Poisoned, Some(first.len())));
    assert_eq!(writer.append(&json!({})).unwrap_err().kind(), ErrorKind::Poisoned);
}

/// F13: what the kernel dropped cannot be proved: the writer stays poisoned and says where.
#[test]
fn reopening_refuses_what_it_cannot_prove() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    let first = writer.append(&json!({"n": 1})).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::SyncFailsAndDrops(5) });
    writer.append(&json!({"n": 2})).unwrap_err();
    disk.drop_caches();
    let before = disk.read_file(PATH);
    for _ in 0..2 {
        let error = writer.reopen().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Poisoned, Some(first.len())));
        assert_eq!(writer.append(&json!({})).unwrap_err().kind(), ErrorKind::Poisoned);
    }
    assert_eq!(disk.read_file(PATH), before);
}

/// A good seal in the right place is no proof of a line that another writer's line stands behind: it must be the seal that was written.
#[test]
fn reopening_tells_its_own_lines_from_others_between_theirs() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    let mut other = options(&disk.as_process(2, "other"), Durability::Os).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    other.append(&json!({"n": 2})).unwrap();
    writer.append(&json!({"n": 3})).unwrap();
    drop(other);
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::Errno(5) });
    writer.sync().unwrap_err();
    let text = String::from_utf8(disk.read_file(PATH).unwrap()).unwrap();
    let open = "{\"n\":9,\"_seq\":1";
    let forged = format!("{open},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(open.as_bytes()));
    disk.write_file(PATH, forged.clone() + &text[forged.len()..]).unwrap();
    let error = writer.reopen().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Poisoned, Some(0)), "{error}");
    disk.write_file(PATH, text).unwrap();
    writer.reopen().unwrap();
}

/// Lines were written again over what another writer was at.
#[test]
fn reopening_writes_nothing_while_another_writer_has_the_lock() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::SyncFailsAndDrops(5) });
    writer.append(&json!({"n": 1})).unwrap_err();
    let holder = options(&disk.as_process(2, "other"), Durability::Os).lock(Lock::Held, LockWait::Never).open(PATH).unwrap();
    assert_eq!(writer.reopen().unwrap_err().kind(), ErrorKind::Locked);
    assert!(disk.log().iter().all(|op| op.kind != OpKind::WriteAt));
    drop(holder);
    writer.reopen().unwrap();
    assert!(disk.log().iter().any(|op| op.kind == OpKind::WriteAt));
}

/// The rest of a line that is written again in two pieces went to another place, over the line before it.
#[test]
fn reopening_writes_a_line_again_in_as_many_pieces_as_the_system_takes() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::SyncFailsAndDrops(5) });
    writer.append(&json!({"n": 2})).unwrap_err();
    let before = disk.read_file(PATH);
    disk.fail(Fault { at: OpMatch::every(OpKind::WriteAt), how: How::Short(5) });
    writer.reopen().unwrap();
    assert_eq!((disk.read_file(PATH), disk.durable_file(PATH)), (before.clone(), before));
}

#[test]
fn plain_lines_carry_no_proof_so_a_plain_journal_stays_poisoned() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Sync).format(Format::Plain).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs(&disk)), how: How::Errno(5) });
    writer.append(&json!({"n": 1})).unwrap_err();
    assert_eq!(writer.reopen().unwrap_err().kind(), ErrorKind::Poisoned);
}

/// S2-14, F09, F14: when rollback and fence fail too, both errors reach the caller, nothing is appended, and reopening repairs the tail.
#[test]
fn a_failed_rollback_poisons_until_the_tail_is_repaired() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    let first = writer.append(&json!({"n": 1})).unwrap();
    let writes = disk.log().iter().filter(|op| op.kind == OpKind::Write).count();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, writes), how: How::Short(5) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, writes + 1), how: How::Errno(5) });
    disk.fail(Fault { at: OpMatch::every(OpKind::Write), how: How::Errno(30) });
    disk.fail(Fault { at: OpMatch::every(OpKind::Cut), how: How::Errno(30) });
    let error = writer.append(&json!({"n": 2})).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    assert_eq!(error.rollback_error().and_then(untorn::Error::raw_os_error), Some(30));
    let Left::Fragment(range) = error.left() else { panic!("{error:?}") };
    assert_eq!((range.start.offset, range.end.offset), (first.len(), first.len() + 5));
    assert_eq!(writer.append(&json!({"n": 3})).unwrap_err().kind(), ErrorKind::Poisoned);
    disk.heal();
    assert_eq!(writer.append(&json!({"n": 3})).unwrap_err().kind(), ErrorKind::Poisoned, "not before it is reopened");
    writer.reopen().unwrap();
    assert_eq!(writer.tail_repair().removed_bytes(), 5);
    assert_eq!(writer.append(&json!({"n": 3})).unwrap().seq(), Some(2));
}

/// `Rollback::Fence` never cuts: the fragment stays as a corrupt line of its own.
#[test]
fn a_writer_that_fences_never_cuts() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).rollback(Rollback::Fence).format(Format::Plain).open(PATH).unwrap();
    for (record, bytes, fence) in [(json!({"n": 1}), 3, "{\"n\n"), (json!(1234), 2, "12#\n"), (json!("text"), 3, "\"te\n")] {
        let before = disk.read_file(PATH).unwrap();
        let writes = disk.log().iter().filter(|op| op.kind == OpKind::Write).count();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, writes), how: How::ErrorAfter { bytes, errno: 28 } });
        let error = writer.append(&record).unwrap_err();
        assert!(matches!(error.left(), Left::Fragment(_)), "{error:?}");
        assert_eq!(disk.read_file(PATH).unwrap(), [before, fence.as_bytes().to_vec()].concat());
        disk.heal();
    }
    assert!(disk.log().iter().all(|op| op.kind != OpKind::Cut));
}

/// A record of which only the LF is missing is completed, a bare number too.
#[test]
fn only_the_lf_missing_is_no_failure() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).format(Format::Plain).open(PATH).unwrap();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how: How::ErrorAfter { bytes: 4, errno: 28 } });
    writer.append(&json!(1234)).unwrap();
    assert_eq!(disk.read_file(PATH).unwrap(), b"1234\n");
}

/// It is not written twice, and need not be read back where the system says that it is in its place.
#[test]
fn an_lf_that_was_missing_makes_the_record_whole_whatever_is_told_of_it() {
    // The rollback reads what landed, in two calls, writes the LF, and reads again if it has to.
    for (kind, later, how) in [(OpKind::Write, 1, How::ErrorAfter { bytes: 1, errno: 5 }), (OpKind::ReadAt, 2, How::Errno(5))] {
        let disk = disk();
        disk.write_file(PATH, "{}\n").unwrap();
        let mut writer = options(&disk, Durability::Os).format(Format::Plain).open(PATH).unwrap();
        let count = |kind| disk.log().iter().filter(|op| op.kind == kind).count();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, count(OpKind::Write)), how: How::ErrorAfter { bytes: 4, errno: 28 } });
        disk.fail(Fault { at: OpMatch::nth_of(kind, count(kind) + later), how });
        writer.append(&json!(1234)).unwrap();
        assert_eq!(disk.read_file(PATH).unwrap(), b"{}\n1234\n", "{kind:?}");
    }
}

/// An append that wrote nothing left a blank line, in a file that could not be read.
#[test]
fn where_nothing_was_taken_nothing_is_fenced_off() {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    let before = disk.read_file(PATH);
    let count = |kind| disk.log().iter().filter(|op| op.kind == kind).count();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, count(OpKind::Write)), how: How::Errno(28) });
    disk.fail(Fault { at: OpMatch::every(OpKind::ReadAt), how: How::Errno(5) });
    assert_eq!(writer.append(&json!({"n": 2})).unwrap_err().left(), &Left::Unknown);
    assert_eq!(disk.read_file(PATH), before);
    disk.heal();
    assert_eq!(writer.append(&json!({"n": 2})).unwrap().seq(), Some(2));
}

/// Of several records written at once, one that lacked only its LF was said not to be in the file, and the LF that fenced it off made it whole.
#[test]
fn of_several_records_one_that_lacks_only_its_lf_is_there() {
    for rollback in [Rollback::Cut, Rollback::Fence] {
        let disk = disk();
        let mut writer = options(&disk, Durability::Os).rollback(rollback).open(PATH).unwrap();
        let mut records = Batch::new();
        records.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap();
        let bytes = "{\"n\":1,\"_seq\":1,\"_crc\":\"24c82b73\"}".len();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how: How::ErrorAfter { bytes, errno: 5 } });
        let (appended, result) = writer.append_all(&records);
        assert_eq!((appended.len(), result.unwrap_err().left()), (1, &Left::Nothing), "{rollback:?}");
        assert_eq!(disk.read_file(PATH).unwrap(), b"{\"n\":1,\"_seq\":1,\"_crc\":\"24c82b73\"}\n");
    }
}

/// A group of two records failed in the middle of the second one.
fn group_of_which_one_is_whole() -> (SimDisk, Writer, Vec<Appended>) {
    let disk = disk();
    let mut writer = options(&disk, Durability::Os).open(PATH).unwrap();
    let mut records = Batch::new();
    records.add(&json!({"n": 1})).unwrap().add(&json!({"n": 2})).unwrap();
    let bytes = "{\"n\":1,\"_seq\":1,\"_crc\":\"24c82b73\"}\n{\"n\"".len();
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how: How::Short(bytes) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 1), how: How::Errno(5) });
    let (appended, result) = writer.append_all(&records);
    assert_eq!((appended.len(), result.unwrap_err().left()), (1, &Left::Nothing));
    (disk, writer, appended)
}

/// P2: of a group that failed, the records that are whole in the file are made durable by the next sync, and numbers go on behind them.
#[test]
fn what_a_failed_group_left_whole_is_made_durable() {
    let (disk, mut writer, appended) = group_of_which_one_is_whole();
    let through = writer.sync().unwrap();
    assert_eq!((durable_records(&disk), disk.durable_file(PATH)), (1, disk.read_file(PATH)));
    assert_eq!(through.offset, appended[0].len(), "the watermark is behind the record that is there");
    assert_eq!(writer.append(&json!({"n": 3})).unwrap().seq(), Some(2));
}

#[test]
fn closing_makes_durable_what_a_failed_group_left_whole() {
    let (disk, writer, _) = group_of_which_one_is_whole();
    writer.close().unwrap();
    assert_eq!(durable_records(&disk), 1);
}

/// F36: without room for the quarantine nothing is cut, and the error says so.
#[test]
fn without_room_for_the_quarantine_nothing_is_cut() {
    let disk = disk();
    let torn = "{\"n\":1}\n{\"torn";
    disk.write_file(PATH, torn).unwrap();
    disk.set_capacity(Some(torn.len()));
    let error = options(&disk, Durability::Sync).open(PATH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("quarantine"), "{error}");
    assert_eq!(disk.read_file(PATH).unwrap(), torn.as_bytes());
    disk.set_capacity(None);
    let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
    assert_eq!(writer.tail_repair().removed_bytes(), 6);
    writer.append(&json!({})).unwrap();
}

/// X-16, F01, F02: a full disk is told, nothing is left torn, and appending heals when there is room again.
#[test]
fn a_full_disk_heals() {
    for room in 0..200 {
        let disk = disk();
        let mut writer = options(&disk, Durability::Sync).open(PATH).unwrap();
        writer.append(&json!({"n": 0})).unwrap();
        let full = disk.read_file(PATH).unwrap();
        disk.set_capacity(Some(full.len() + room));
        let record = json!({"n": 1, "text": "x".repeat(150)});
        for _ in 0..2 {
            match writer.append(&record) {
                Ok(_) => break,
                Err(error) => assert_eq!((error.kind(), error.left()), (ErrorKind::NoSpace, &Left::Nothing), "room for {room}"),
            }
            assert_eq!(disk.read_file(PATH).unwrap(), full, "room for {room}");
        }
        disk.set_capacity(None);
        writer.append(&json!({"n": 2})).unwrap();
    }
}
