//! Many appends, one write, one sync: what each appender is told, and what is in the file.

use std::{
    future::Future,
    pin::pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use untorn::{
    Durability, ErrorKind, Lock, LockWait, Options, SharedWriter, Writer,
    sim::{OpKind, OpMatch, SimDisk},
};

use crate::support::{TestJournal, sealed_payloads};

mod ending;
mod failures;
mod waiting;

const PATH: &str = "/j/session.jsonl";

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
