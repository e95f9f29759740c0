//! What fails, whom it concerns, and what becomes of the others' records.

use std::{sync::Mutex, thread};

use serde::Serialize;
use serde_json::{Value, json};
use untorn::{
    Batch, ErrorKind, Left, SharedWriter, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use super::{PATH, behind_a_stalled_write, count, current_thread, eventually, next, open, options, poll_once, records};
use crate::support::{TestJournal, sealed_payloads};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EBADF: i32 = 9;

fn fail_next(disk: &SimDisk, kind: OpKind, how: How) {
    disk.fail(Fault { at: next(disk, kind), how });
}

/// S2-29: the same failure is logged once, another one again.
#[test]
fn identical_failures_are_logged_once() {
    static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// Keeps the fields of warnings.
    struct Keep;

    struct Fields<'a>(&'a mut String);

    impl tracing::field::Visit for Fields<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }

        fn record_error(&mut self, _: &tracing::field::Field, error: &(dyn std::error::Error + 'static)) {
            self.0.push_str(&format!("{error}: {} ", error.source().map(ToString::to_string).unwrap_or_default()));
        }
    }

    impl tracing::Subscriber for Keep {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::WARN
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn event(&self, event: &tracing::Event<'_>) {
            let mut text = String::new();
            event.record(&mut Fields(&mut text));
            LOGGED.lock().unwrap().push(text);
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    tracing::subscriber::set_global_default(Keep).expect("no other test logs");
    let disk = SimDisk::new();
    let path = "/j/logged.jsonl";
    let writer = options(&disk).open_shared(path).unwrap();
    let logged = || LOGGED.lock().unwrap().iter().filter(|text| text.contains(path)).count();
    drop(writer.enqueue(&json!(1)).unwrap());
    disk.set_capacity(Some(0));
    drop(writer.enqueue(&json!(2)).unwrap());
    for _ in 0..5 {
        writer.append(&json!(3)).ok();
        assert_eq!(writer.flush().is_err(), writer.state().queued_records > 0);
    }
    eventually("the full disk is logged", || logged() == 1);
    disk.fail(Fault { at: OpMatch::every(OpKind::Write), how: How::Errno(EIO) });
    for _ in 0..5 {
        writer.flush().unwrap_err();
    }
    eventually("the other failure is logged", || logged() == 2);
    disk.heal();
    disk.set_capacity(None);
    writer.flush().unwrap();
    disk.set_capacity(Some(0));
    writer.append(&json!(4)).unwrap_err();
    eventually("after a success the full disk is news again", || logged() == 3);
}

/// a full disk is told, heals when there is room, and what was told to have failed never appears.
#[test]
fn a_full_disk_is_told_and_heals_without_loss_or_duplicates() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    writer.append(&json!("before")).unwrap();
    let before = disk.read_file(PATH);
    disk.set_capacity(before.as_ref().map(|bytes| bytes.len() + 10));
    for record in ["a", "b"] {
        let error = writer.append(&json!(record)).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error(), error.left()), (ErrorKind::NoSpace, Some(ENOSPC), &Left::Nothing));
    }
    let kept = writer.enqueue(&json!("kept")).unwrap();
    let error = writer.append(&json!("c")).unwrap_err();
    assert_eq!((error.kind(), error.left()), (ErrorKind::NoSpace, &Left::Nothing));
    assert_eq!(writer.state().error.unwrap().kind(), ErrorKind::NoSpace);
    assert_eq!(disk.read_file(PATH), before);
    disk.set_capacity(None);
    writer.append(&json!("b")).unwrap();
    assert_eq!(kept.wait().unwrap().seq(), Some(2));
    assert_eq!(records(&disk), [json!("before"), json!("kept"), json!("b")]);
    assert!(writer.state().error.is_none());
}

/// what waits is tried again without being asked.
#[test]
fn a_queue_is_tried_again_after_a_pause() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    disk.set_capacity(Some(0));
    let queued = writer.enqueue(&json!(1)).unwrap();
    eventually("the write fails", || writer.state().error.is_some());
    disk.set_capacity(None);
    assert_eq!(queued.wait().unwrap().seq(), Some(1));
}

/// S2-20: where the journal cannot be opened, that is told, nothing is created, and what is queued is written in its order once it can be.
#[test]
fn what_cannot_be_opened_yet_is_written_later_in_order() {
    let journal = TestJournal::missing();
    std::fs::create_dir(&journal.path).unwrap();
    let writer = Writer::options().create_lazily().open_shared(&journal.path).unwrap();
    for record in 0..3 {
        drop(writer.enqueue(&json!(record)).unwrap());
    }
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::NotAFile);
    assert_eq!(writer.state().queued_records, 3);
    assert_eq!(std::fs::read_dir(journal.dir()).unwrap().count(), 1);
    std::fs::remove_dir(&journal.path).unwrap();
    writer.flush().unwrap();
    assert_eq!(sealed_payloads(&journal.text()), [(1, json!(0)), (2, json!(1)), (3, json!(2))]);
    assert!(writer.state().error.is_none());
}

/// S2-21: where the handle turned unwritable, that is told and the queue kept; after reopening, a flush writes it before it says so.
#[test]
fn an_unwritable_handle_keeps_the_queue_until_it_is_reopened() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    writer.append(&json!("before")).unwrap();
    disk.fail(Fault { at: next(&disk, OpKind::Write).and_later(), how: How::Errno(EBADF) });
    drop(writer.enqueue(&json!("kept")).unwrap());
    drop(writer.enqueue(&json!("too")).unwrap());
    let error = writer.flush().unwrap_err();
    assert_eq!((error.raw_os_error(), error.left()), (Some(EBADF), &Left::Nothing));
    assert_eq!(writer.state().queued_records, 2);
    disk.heal();
    writer.reopen().unwrap();
    writer.flush().unwrap();
    assert_eq!(records(&disk), [json!("before"), json!("kept"), json!("too")]);
}

/// an append behind a failed one does not succeed by landing on a fragment's line.
#[test]
fn nothing_is_glued_to_what_a_failed_append_left() {
    for short in 1..40 {
        let disk = SimDisk::new();
        let writer = open(&disk);
        fail_next(&disk, OpKind::Write, How::Short(short));
        let second = OpMatch::nth_of(OpKind::Write, count(&disk, OpKind::Write) + 1);
        disk.fail(Fault { at: second, how: How::Errno(ENOSPC) });
        let error = writer.append(&json!("fails")).unwrap_err();
        assert_eq!((error.kind(), error.left()), (ErrorKind::NoSpace, &Left::Nothing), "{short} bytes written");
        let appended = writer.append(&json!("next")).unwrap();
        assert_eq!((appended.seq(), appended.mark().start.offset), (Some(1), 0));
        assert_eq!(records(&disk), [json!("next")]);
    }
}

/// F51: of a group that is written in part, the whole units stay and are acknowledged; the torn one goes, a batch as one, and its owner is told.
#[test]
fn a_group_written_in_part_keeps_its_whole_units() {
    // With the lines that the group has, learnt on a disk that works.
    let whole = group_with_a_batch(None);
    let bytes = whole.disk.read_file(PATH).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let ends: Vec<_> = (first..=bytes.len()).filter(|end| bytes[end - 1] == b'\n').map(|end| end - first).collect();
    for short in 1..bytes.len() - first {
        let group = group_with_a_batch(Some(short));
        // The units are: a record, a batch of three lines, a record. With only its LF missing, a unit is whole.
        let in_file = [1, 4, 5].iter().filter(|last| ends[**last] <= short + 1).count();
        for (unit, verdict) in group.verdicts.iter().enumerate() {
            match verdict {
                Ok(appended) => {
                    assert!(unit < in_file, "{short}: unit {unit} is not in the file");
                    assert_eq!(appended.seq(), Some([2, 5, 6][unit]));
                }
                Err(error) => {
                    assert!(unit >= in_file, "{short}: unit {unit} is in the file");
                    assert_eq!((error.kind(), error.left()), (ErrorKind::NoSpace, &Left::Nothing), "{short}");
                }
            }
        }
        let expected = [1, 2, 5, 6][in_file];
        assert_eq!(records(&group.disk).len(), expected, "{short}");
        assert_eq!(group.disk.durable_file(PATH), group.disk.read_file(PATH), "{short}");
    }
}

struct GroupOfThree {
    disk: SimDisk,
    verdicts: Vec<untorn::Result<untorn::Appended>>,
}

/// A record, a batch of three and a record in one write, of which so many bytes get into the file before the disk is full.
fn group_with_a_batch(short: Option<usize>) -> GroupOfThree {
    let disk = SimDisk::new();
    let writer = open(&disk).to_async();
    let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
    let mut batch = Batch::new();
    batch.add(&json!("b1")).unwrap().add(&json!("b2")).unwrap().add(&json!("b3")).unwrap();
    let mut appends = [writer.append(&json!("a")), writer.append_batch(&batch), writer.append(&json!("c"))];
    for append in &mut appends {
        assert!(poll_once(append).is_pending());
    }
    if let Some(short) = short {
        let written = count(&disk, OpKind::Write);
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, written), how: How::Short(short) });
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, written + 1), how: How::Errno(ENOSPC) });
    }
    stalled.release();
    let verdicts = appends.into_iter().map(current_thread).collect();
    GroupOfThree { disk, verdicts }
}

/// F51: what stays queued of a group that was written in part is written later, once, in its order.
#[test]
fn what_a_short_write_left_in_the_queue_follows_later() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let stalled = behind_a_stalled_write(&disk, &writer);
    let queued: Vec<_> = (1..10).map(|record| writer.enqueue(&json!(record)).unwrap()).collect();
    let written = count(&disk, OpKind::Write);
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, written), how: How::Short(100) });
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, written + 1), how: How::Errno(ENOSPC) });
    stalled.release();
    for (at, queued) in queued.into_iter().enumerate() {
        assert_eq!(queued.wait().unwrap().seq(), Some(at as u64 + 2));
    }
    assert_eq!(records(&disk), (0..10).map(Value::from).collect::<Vec<_>>());
}

/// Of a write that failed, and whose bytes cannot be read back, each record may be in the file: none of them is written again.
#[test]
fn what_may_be_in_the_file_is_never_written_again() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let stalled = behind_a_stalled_write(&disk, &writer);
    let queued: Vec<_> = ["a", "b"].iter().map(|record| writer.enqueue(&json!(record)).unwrap()).collect();
    let written = count(&disk, OpKind::Write);
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, written), how: How::ErrorAfter { bytes: usize::MAX, errno: EIO } });
    fail_next(&disk, OpKind::ReadAt, How::Errno(EIO));
    stalled.release();
    for queued in queued {
        assert_eq!(queued.wait().unwrap_err().left(), &Left::Unknown);
    }
    assert_eq!(writer.append(&json!("c")).unwrap().seq(), Some(4));
    writer.close().unwrap();
    let text = String::from_utf8(disk.read_file(PATH).unwrap()).unwrap();
    for record in ["a", "b", "c"] {
        assert_eq!(text.matches(&format!("{record:?}")).count(), 1, "{text}");
    }
}

/// A record that is refused concerns nobody else in its group.
#[test]
fn a_refused_record_stops_nobody_else() {
    let disk = SimDisk::new();
    let writer = options(&disk).line_bytes_max(60).open_shared(PATH).unwrap();
    let stalled = behind_a_stalled_write(&disk, &writer);
    let queued: Vec<_> = ["a", &"x".repeat(60), "b"].iter().map(|record| writer.enqueue(&json!(record)).unwrap()).collect();
    stalled.release();
    let kinds: Vec<_> = queued.into_iter().map(|queued| queued.wait().map(|appended| appended.seq()).map_err(|error| error.kind())).collect();
    assert_eq!(kinds, [Ok(Some(2)), Err(ErrorKind::TooLong), Ok(Some(3))]);
    assert!(writer.state().error.is_none());
}

/// A record that panics or fails while it is encoded leaves the queue as it was, and the writer usable from the panic hook.
#[test]
fn a_record_that_cannot_be_encoded_concerns_nobody_else() {
    struct Panics(SharedWriter);

    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            // A hook appends on the thread that panics; so may the record itself.
            self.0.append(&json!("from inside")).expect("the queue is not locked");
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("half", "written")?;
            panic!("on purpose");
        }
    }

    let disk = SimDisk::new();
    let writer = open(&disk);
    let panicking = writer.clone();
    thread::spawn(move || panicking.append(&Panics(panicking.clone()))).join().unwrap_err();
    let keys_no_strings = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert_eq!(writer.append(&keys_no_strings).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(current_thread(writer.to_async().append(&keys_no_strings)).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(writer.append(&json!("next")).unwrap().seq(), Some(2));
    assert_eq!(records(&disk), [json!("from inside"), json!("next")]);
}

/// A failed sync: each who asked for it learns that its record is in the file and perhaps not durable; it is not written again. Later records wait.
#[test]
fn after_a_failed_sync_nothing_is_written_twice_and_later_records_wait_for_reopen() {
    let disk = SimDisk::new();
    let writer = open(&disk).to_async();
    let shared = writer.to_shared();
    let stalled = behind_a_stalled_write(&disk, &shared);
    let mut group = [writer.append(&json!("a")), writer.append(&json!("b"))];
    for append in &mut group {
        assert!(poll_once(append).is_pending());
    }
    let syncs = count(&disk, OpKind::SyncData);
    disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, syncs + 1), how: How::SyncFailsAndDrops(EIO) });
    stalled.release();
    for (at, append) in group.into_iter().enumerate() {
        let error = current_thread(append).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::DurabilityUnknown, Some(EIO)));
        assert!(matches!(error.left(), Left::Whole(appended) if appended.seq() == Some(at as u64 + 2)), "{error:?}");
    }
    let state = shared.state();
    assert!(state.poisoned && state.error.is_some_and(|error| error.kind() == ErrorKind::DurabilityUnknown));
    let later = shared.enqueue(&json!("later")).unwrap();
    assert_eq!(shared.append(&json!("refused")).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(shared.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(shared.state().queued_records, 1);
    assert_eq!(records(&disk).len(), 3);
    shared.reopen().unwrap();
    assert_eq!(later.wait().unwrap().seq(), Some(4));
    disk.drop_caches();
    assert_eq!(records(&disk), [json!(0), json!("a"), json!("b"), json!("later")]);
    assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
}

/// A queue that is full because the disk is too tells whoever comes why, instead of letting them wait for ever.
#[test]
fn a_full_queue_on_a_full_disk_is_told() {
    let disk = SimDisk::new();
    let writer = options(&disk).queue_max(2, 1000).open_shared(PATH).unwrap();
    disk.set_capacity(Some(0));
    drop(writer.enqueue(&json!(1)).unwrap());
    drop(writer.enqueue(&json!(2)).unwrap());
    assert_eq!(writer.enqueue(&json!(3)).unwrap_err().kind(), ErrorKind::NoSpace);
    let full = writer.try_enqueue(&json!(3)).unwrap_err();
    assert_eq!((full.kind(), full.raw_os_error()), (ErrorKind::QueueFull, Some(ENOSPC)));
    assert_eq!(writer.append(&json!(3)).unwrap_err().kind(), ErrorKind::NoSpace);
    disk.set_capacity(None);
    writer.append(&json!(4)).unwrap();
    assert_eq!(records(&disk), [json!(1), json!(2), json!(4)]);
}
