//! Many appends, one write, one sync: what each appender is told, and what is in the file.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};
use untorn::{
    AsyncWriter, Batch, Durability, ErrorKind, Left, Lock, LockWait, Options, SharedWriter, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use crate::support::{TestJournal, sealed_payloads};

const PATH: &str = "/j/session.jsonl";
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EBADF: i32 = 9;

/// A writer on a disk in memory, which holds its lock.
fn options(disk: &SimDisk) -> Options {
    let mut options = Writer::options();
    options.disk(disk).lock(Lock::Held, LockWait::Never);
    options
}

fn open(disk: &SimDisk) -> SharedWriter {
    options(disk).open_shared(PATH).expect("the journal opens")
}

/// The payloads of the journal, whose numbers must be 1, 2, 3 and so on, and whose every line must be whole.
fn records(disk: &SimDisk) -> Vec<Value> {
    let text = String::from_utf8(disk.read_file(PATH).unwrap_or_default()).expect("the journal is UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn: {text:?}");
    let lines = sealed_payloads(&text);
    for (at, (seq, _)) in lines.iter().enumerate() {
        assert_eq!(*seq, at as u64 + 1, "{text}");
    }
    lines.into_iter().map(|(_, payload)| payload).collect()
}

fn count(disk: &SimDisk, kind: OpKind) -> usize {
    disk.log().iter().filter(|op| op.kind == kind).count()
}

/// The next op of a kind.
fn next(disk: &SimDisk, kind: OpKind) -> OpMatch {
    OpMatch::nth_of(kind, count(disk, kind))
}

fn fail_next(disk: &SimDisk, kind: OpKind, how: How) {
    disk.fail(Fault { at: next(disk, kind), how });
}

/// An op that stands still until it is released.
struct Stalled {
    reached: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Stalled {
    fn at_next(disk: &SimDisk, kind: OpKind) -> Stalled {
        Stalled::at(disk, next(disk, kind))
    }

    fn at(disk: &SimDisk, op: OpMatch) -> Stalled {
        let (reach, reached) = mpsc::channel();
        let (release, released) = mpsc::channel();
        disk.before(op, move |_| {
            reach.send(()).ok();
            released.recv().ok();
        });
        Stalled { reached, release }
    }

    fn wait(self) -> Stalled {
        self.reached.recv_timeout(Duration::from_secs(10)).expect("the disk is asked");
        self
    }

    fn release(self) {
        self.release.send(()).expect("the disk waits");
    }
}

/// Waits for what other threads will bring about.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn current_thread<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

/// The write of the record 0, which stands still. What is queued behind it is written in one group after that.
fn behind_a_stalled_write(disk: &SimDisk, writer: &SharedWriter) -> Stalled {
    let stalled = Stalled::at_next(disk, OpKind::Write);
    drop(writer.enqueue(&json!(0)).unwrap());
    stalled.wait()
}

#[test]
fn appends_that_arrive_during_a_sync_share_the_next() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let syncs = count(&disk, OpKind::SyncData);
    let stalled = Stalled::at_next(&disk, OpKind::SyncData);
    let first = writer.enqueue(&json!(0)).unwrap();
    let stalled = stalled.wait();
    let others: Vec<_> = (1..64).map(|record| writer.enqueue(&json!(record)).unwrap()).collect();
    stalled.release();
    assert_eq!(first.wait().unwrap().seq(), Some(1));
    for (at, other) in others.into_iter().enumerate() {
        let appended = other.wait().unwrap();
        assert_eq!(appended.seq(), Some(at as u64 + 2));
        assert!(writer.state().durable >= appended.mark().end);
    }
    assert_eq!(count(&disk, OpKind::SyncData) - syncs, 2);
    assert_eq!(records(&disk), (0..64).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn threads_and_tasks_append_to_one_queue_and_every_mark_names_its_own_line() {
    let journal = TestJournal::missing();
    let shared = journal.open_with(|options| _ = options.durability(Durability::Sync)).into_shared();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let writer = shared.clone();
            thread::spawn(move || (0..50).map(|at| (json!([thread, at]), writer.append(&json!([thread, at])).unwrap())).collect::<Vec<_>>())
        })
        .collect();
    let tasks: Vec<_> = (4..20)
        .map(|task| {
            let writer = shared.to_async();
            runtime.spawn(async move {
                let mut appended = Vec::new();
                for at in 0..50 {
                    appended.push((json!([task, at]), writer.append(&json!([task, at])).await.unwrap()));
                }
                appended
            })
        })
        .collect();
    let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    for task in tasks {
        all.extend(runtime.block_on(task).unwrap());
    }
    shared.close().unwrap();
    let bytes = journal.bytes();
    for (record, appended) in &all {
        let mark = appended.mark();
        let line = &bytes[mark.start.offset as usize..mark.end.offset as usize];
        let found = sealed_payloads(std::str::from_utf8(line).unwrap());
        assert_eq!(found, [(mark.seq.unwrap(), record.clone())]);
        assert_eq!(appended.len(), line.len() as u64);
    }
    let mut seqs: Vec<_> = all.iter().map(|(_, appended)| appended.seq().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=1000).collect::<Vec<_>>());
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

/// S2-22: to flush, sync and close twice changes no byte.
#[test]
fn flushing_twice_changes_nothing() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    drop(writer.enqueue(&json!(1)).unwrap());
    writer.flush().unwrap();
    let bytes = disk.read_file(PATH);
    writer.flush().unwrap();
    assert_eq!(writer.sync().unwrap(), writer.sync().unwrap());
    writer.close().unwrap();
    writer.close().unwrap();
    assert_eq!(disk.read_file(PATH), bytes);
}

/// S2-23: there is no file, and no lock, before the first record; then the header comes first.
#[test]
fn a_lazy_journal_is_created_by_its_first_record_header_first() {
    let disk = SimDisk::new();
    let open = || {
        let mut options = options(&disk);
        options.create_lazily().first_record(&json!("header"));
        options.open_shared(PATH).unwrap()
    };
    let (writer, never_used) = (open(), open());
    writer.flush().unwrap();
    writer.sync().unwrap();
    writer.reopen().unwrap();
    assert_eq!(disk.files(), Vec::<std::path::PathBuf>::new());
    drop(writer.enqueue(&json!("first")).unwrap());
    assert_eq!(writer.append(&json!("second")).unwrap().seq(), Some(3));
    never_used.close().unwrap();
    assert_eq!(records(&disk), [json!("header"), json!("first"), json!("second")]);
    assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
}

/// S2-28: a close that fails leaves the writer open; a discard ends it, and no clone writes after that.
#[test]
fn a_failed_close_keeps_the_queue_and_a_discard_hands_it_back() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let clone = writer.to_async();
    disk.set_capacity(Some(0));
    let queued = writer.enqueue(&json!("a")).unwrap();
    drop(writer.enqueue(&json!("b")).unwrap());
    assert_eq!(writer.close().unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(writer.state().queued_records, 2);
    disk.set_capacity(None);
    writer.flush().unwrap();
    assert_eq!(queued.wait().unwrap().seq(), Some(1));

    disk.set_capacity(Some(0));
    let queued = writer.enqueue(&json!("c")).unwrap();
    drop(writer.enqueue(&json!("d")).unwrap());
    writer.flush().unwrap_err();
    let left = writer.discard();
    assert_eq!(left.len(), 2);
    assert_eq!(queued.wait().unwrap_err().kind(), ErrorKind::Closed);
    disk.set_capacity(None);
    for error in [writer.append(&json!("stale")).unwrap_err(), current_thread(clone.append(&json!("stale"))).unwrap_err()] {
        assert_eq!((error.kind(), error.left()), (ErrorKind::Closed, &Left::Nothing));
    }
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Closed);
    assert!(writer.discard().is_empty());
    writer.close().unwrap();
    assert_eq!(records(&disk), [json!("a"), json!("b")]);
    let (appended, result) = options(&disk).open(PATH).unwrap().append_all(&left);
    result.unwrap();
    assert_eq!(appended.len(), 2);
    assert_eq!(records(&disk), [json!("a"), json!("b"), json!("c"), json!("d")]);
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

/// each record says how durable it is to be, and one sync serves all who ask for one.
#[test]
fn durability_is_chosen_per_record() {
    let disk = SimDisk::new();
    let mut options = options(&disk);
    let writer = options.durability(Durability::Os).open_shared(PATH).unwrap();
    let syncs = || count(&disk, OpKind::SyncData);
    let before = syncs();
    writer.append(&json!(1)).unwrap();
    writer.append_with(&json!(2), Durability::Interval(Duration::from_secs(3600))).unwrap();
    assert_eq!(syncs(), before);
    let appended = writer.append_with(&json!(3), Durability::Sync).unwrap();
    assert_eq!(syncs(), before + 1);
    assert_eq!(writer.state().durable, appended.mark().end);
    assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
}

#[test]
fn who_does_not_ask_for_a_sync_does_not_wait_for_one() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let stalled = behind_a_stalled_write(&disk, &writer);
    let synced = writer.enqueue(&json!("synced")).unwrap();
    let mut written = pin!(writer.to_async().append_with(&json!("written"), Durability::Os));
    assert!(written.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let first_sync = Stalled::at_next(&disk, OpKind::SyncData);
    stalled.release();
    let first_sync = first_sync.wait();
    let second_sync = Stalled::at_next(&disk, OpKind::SyncData);
    first_sync.release();
    let second_sync = second_sync.wait();
    assert_eq!(current_thread(written).unwrap().seq(), Some(3));
    second_sync.release();
    assert_eq!(synced.wait().unwrap().seq(), Some(2));
}

#[test]
fn an_interval_is_kept_when_nobody_appends_any_more() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let appended = writer.append_with(&json!(1), Durability::Interval(Duration::from_millis(5))).unwrap();
    eventually("the record is synced", || writer.state().durable >= appended.mark().end);
    assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
}

#[test]
fn durable_through_waits_for_the_sync_that_covers_a_record() {
    let disk = SimDisk::new();
    let writer = open(&disk).to_async();
    current_thread(async {
        let appended = writer.append_with(&json!(1), Durability::Os).await.unwrap();
        assert!(writer.state().durable < appended.mark().end);
        writer.durable_through(appended.mark().end).await.unwrap();
        assert_eq!(disk.durable_file(PATH), disk.read_file(PATH));
        let mut beyond = writer.durable_through(untorn::Position { segment: 9, offset: 0 });
        assert!(poll_once(&mut beyond).is_pending());
        writer.close().await.unwrap();
        assert_eq!(beyond.await.unwrap_err().kind(), ErrorKind::Closed);
    });
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

/// F52: wherever a future is dropped, its record is there once or not at all, nobody else notices, and the queue goes on.
#[test]
fn a_dropped_future_tears_and_removes_nothing() {
    let points: [fn(&AsyncWriter, &SimDisk, Stalled); 5] = [
        |writer, _, stalled| {
            drop(writer.append(&json!("never polled")));
            stalled.release();
        },
        |writer, _, stalled| {
            let mut append = writer.append(&json!("queued"));
            assert!(poll_once(&mut append).is_pending());
            drop(append);
            stalled.release();
        },
        |writer, disk, stalled| {
            let mut append = writer.append(&json!("being written"));
            assert!(poll_once(&mut append).is_pending());
            let sync = Stalled::at_next(disk, OpKind::SyncData);
            stalled.release();
            let sync = sync.wait();
            drop(append);
            sync.release();
        },
        |writer, _, stalled| {
            let mut append = writer.append(&json!("written"));
            assert!(poll_once(&mut append).is_pending());
            stalled.release();
            current_thread(writer.flush()).unwrap();
            drop(append);
        },
        |writer, _, stalled| {
            drop((writer.flush(), writer.sync(), writer.reopen(), writer.close(), writer.discard()));
            let mut barriers = (writer.flush(), writer.sync(), writer.durable_through(untorn::Position { segment: 1, offset: 1 }));
            assert!(poll_once(&mut barriers.0).is_pending() && poll_once(&mut barriers.1).is_pending() && poll_once(&mut barriers.2).is_pending());
            drop(barriers);
            stalled.release();
        },
    ];
    for (at, point) in points.iter().enumerate() {
        let disk = SimDisk::new();
        let writer = open(&disk).to_async();
        let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
        point(&writer, &disk, stalled);
        current_thread(writer.append(&json!("next"))).unwrap();
        current_thread(writer.close()).unwrap();
        let expected = match at {
            1 => vec![json!(0), json!("queued"), json!("next")],
            2 => vec![json!(0), json!("being written"), json!("next")],
            3 => vec![json!(0), json!("written"), json!("next")],
            _ => vec![json!(0), json!("next")],
        };
        assert_eq!(records(&disk), expected, "point {at}");
    }
}

/// F52: one who waits for room and goes away leaves its place to the next.
#[test]
fn who_gives_up_waiting_for_room_lets_the_next_in() {
    let disk = SimDisk::new();
    let writer = options(&disk).queue_max(1, 1000).open_async(PATH);
    let writer = current_thread(writer).unwrap();
    let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
    let (mut gives_up, mut stays) = (writer.enqueue(&json!("gives up")), writer.enqueue(&json!("stays")));
    assert!(poll_once(&mut gives_up).is_pending() && poll_once(&mut stays).is_pending());
    assert_eq!(writer.try_enqueue(&json!("full")).unwrap_err().kind(), ErrorKind::QueueFull);
    drop(gives_up);
    stalled.release();
    current_thread(async { stays.await.unwrap().await }).unwrap();
    assert_eq!(records(&disk), [json!(0), json!("stays")]);
}

/// F53: a runtime that is shut down takes no queued record with it, and nothing was acknowledged that is not there.
#[test]
fn a_runtime_shutdown_loses_nothing_that_was_queued() {
    let journal = TestJournal::missing();
    let writer = journal.open_with(|options| _ = options.durability(Durability::Sync)).into_async();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for task in 0..32 {
        let (writer, acknowledged) = (writer.clone(), Arc::clone(&acknowledged));
        runtime.spawn(async move {
            for at in 0.. {
                writer.append(&json!([task, at])).await.unwrap();
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    eventually("some are acknowledged", || acknowledged.load(Ordering::Relaxed) > 100);
    drop(runtime);
    let shared = writer.to_shared();
    drop(writer);
    shared.close().unwrap();
    let found = sealed_payloads(&journal.text());
    let (found, acknowledged) = (found.len(), acknowledged.load(Ordering::Relaxed));
    assert!(found >= acknowledged && found <= acknowledged + 32, "{found} found, {acknowledged} acknowledged");
}

/// F53: when the last handle is dropped, what is queued is written all the same, and the lock let go.
#[test]
fn dropping_the_last_handle_drains_the_queue() {
    let disk = SimDisk::new();
    let writer = open(&disk);
    let stalled = behind_a_stalled_write(&disk, &writer);
    let queued = writer.enqueue(&json!(1)).unwrap();
    drop(writer);
    stalled.release();
    assert_eq!(queued.wait().unwrap().seq(), Some(2));
    eventually("the lock is free", || options(&disk).open(PATH).is_ok());
    assert_eq!(records(&disk), [json!(0), json!(1)]);
}

/// F54: a lone append may listen for its verdict for a moment, right after another one had its own, but never for longer than that.
#[test]
fn a_lone_append_on_a_disk_that_stands_still_is_pending() {
    let disk = SimDisk::new();
    let writer = current_thread(options(&disk).durability(Durability::Os).open_async(PATH)).unwrap();
    current_thread(async {
        for pair in 0..200 {
            let (first, mut second) = (writer.append(&json!(2 * pair)), writer.append(&json!(2 * pair + 1)));
            let stalled = Stalled::at(&disk, OpMatch::nth_of(OpKind::Write, count(&disk, OpKind::Write) + 1));
            first.await.unwrap();
            assert!(poll_once(&mut second).is_pending());
            stalled.wait().release();
            second.await.unwrap();
        }
    });
    assert_eq!(records(&disk), (0..400).map(Value::from).collect::<Vec<_>>());
}

/// F54: while the disk stands still, tasks go on, memory stays at the bound, and whoever comes waits.
#[test]
fn a_disk_that_stands_still_stops_no_task_and_fills_no_memory() {
    let disk = SimDisk::new();
    let writer = current_thread(options(&disk).queue_max(100, 10_000).open_async(PATH)).unwrap();
    let stalled = Stalled::at_next(&disk, OpKind::SyncData);
    drop(writer.try_enqueue(&json!("stalls")).unwrap());
    let stalled = stalled.wait();
    current_thread(async {
        let ticks = Arc::new(AtomicUsize::new(0));
        let local = tokio::task::LocalSet::new();
        let ticking = Arc::clone(&ticks);
        local.spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticking.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut producers = Vec::new();
        for task in 0..500 {
            let writer = writer.clone();
            producers.push(local.spawn_local(async move { writer.append(&json!({"task": task, "text": "x".repeat(100)})).await.map(|_| ()) }));
        }
        let limited = writer.clone();
        local
            .run_until(async move {
                for _ in 0..50 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let state = limited.state();
                    assert!(state.queued_records <= 100, "{} records are queued", state.queued_records);
                    assert!(state.queued_bytes <= 10_000, "{} bytes are queued", state.queued_bytes);
                }
                assert!(limited.state().queued_records > 50);
                // Whoever stops waiting has learnt nothing.
                let waits = tokio::time::timeout(Duration::from_millis(5), limited.append(&json!("impatient"))).await;
                assert!(waits.is_err());
            })
            .await;
        assert!(ticks.load(Ordering::Relaxed) >= 25, "{ticks:?} ticks in 50 ms");
        stalled.release();
        local
            .run_until(async move {
                for producer in producers {
                    producer.await.unwrap().unwrap();
                }
            })
            .await;
    });
    current_thread(writer.close()).unwrap();
    assert_eq!(records(&disk).len(), 501);
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

#[test]
fn a_record_larger_than_the_queue_is_taken_alone() {
    let disk = SimDisk::new();
    let writer = options(&disk).queue_max(2, 10).open_shared(PATH).unwrap();
    for _ in 0..3 {
        writer.append(&json!("x".repeat(100))).unwrap();
    }
    assert_eq!(records(&disk).len(), 3);
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

/// Appends that come while the writer closes wait for what becomes of that.
#[test]
fn appends_wait_for_what_becomes_of_a_close() {
    for fails in [true, false] {
        let disk = SimDisk::new();
        let writer = open(&disk).to_async();
        let stalled = behind_a_stalled_write(&disk, &writer.to_shared());
        let mut close = writer.close();
        let mut append = writer.append(&json!("after"));
        assert!(poll_once(&mut close).is_pending() && poll_once(&mut append).is_pending());
        disk.set_capacity(fails.then_some(0));
        stalled.release();
        if fails {
            assert_eq!(current_thread(close).unwrap_err().kind(), ErrorKind::NoSpace);
            disk.set_capacity(None);
            assert_eq!(current_thread(append).unwrap().seq(), Some(2));
            assert_eq!(records(&disk), [json!(0), json!("after")]);
        } else {
            current_thread(close).unwrap();
            assert_eq!(current_thread(append).unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(records(&disk), [json!(0)]);
        }
    }
}

#[test]
fn a_closed_journal_can_be_opened_at_once() {
    let disk = SimDisk::new();
    for _ in 0..50 {
        let writer = open(&disk);
        drop(writer.enqueue(&json!(1)).unwrap());
        writer.close().unwrap();
    }
    assert_eq!(records(&disk).len(), 50);
}
