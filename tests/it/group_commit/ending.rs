//! How a writer ends: closed, discarded, dropped, or left by its runtime.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use untorn::{Durability, ErrorKind, Left, sim::SimDisk};

use super::{PATH, behind_a_stalled_write, current_thread, eventually, open, options, poll_once, records};
use crate::support::{TestJournal, sealed_payloads};

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
