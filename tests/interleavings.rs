//! The queue of a shared writer under a scheduler that tries many interleavings of its threads: no wake-up is lost, no thread waits for ever, and
//! every record has one fate, the one that its owner was told.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test --release --features sim --test interleavings
//! ```
#![cfg(shuttle)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test that fails should say where")]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use shuttle::{check_random, thread};
use untorn::{
    Durability, ErrorKind, Left, Lock, LockWait, SharedWriter, Writer,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

const PATH: &str = "/j/session.jsonl";
const TRIES: usize = 10_000;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn open(disk: &SimDisk, records_max: usize) -> SharedWriter {
    let mut options = Writer::options();
    options.disk(disk).lock(Lock::Held, LockWait::Never).queue_max(records_max, 1 << 20);
    options.open_shared(PATH).expect("the journal opens")
}

/// The records in the active segment: each is a number, on a sealed line.
fn records(disk: &SimDisk) -> Vec<u64> {
    records_in(disk, PATH)
}

fn records_in(disk: &SimDisk, path: &str) -> Vec<u64> {
    let text = String::from_utf8(disk.read_file(path).unwrap()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text}");
    let record = |line: &str| line.strip_prefix("{\"_value\":").and_then(|rest| rest.split(',').next()).and_then(|digits| digits.parse().ok());
    text.lines().map(|line| record(line).unwrap_or_else(|| panic!("not sealed: {line}"))).collect()
}

fn times(records: &[u64], record: u64) -> usize {
    records.iter().filter(|found| **found == record).count()
}

/// Whoever is told that its record is there finds it there once; whoever is told that it is not, does not; each thread's records are in its order.
#[test]
fn every_record_has_the_fate_that_its_owner_was_told() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 3);
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 1), how: How::Short(50) });
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 2), how: How::Errno(ENOSPC) });
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let writer = writer.clone();
                    thread::spawn(move || {
                        let durability = if thread == 0 { Durability::Os } else { Durability::Sync };
                        let queued = writer.enqueue(&(10 * thread));
                        let appended = writer.append_with(&(10 * thread + 1), durability);
                        (queued.and_then(|queued| queued.wait()), appended)
                    })
                })
                .collect();
            let told: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            writer.close().expect("the disk works again");
            let found = records(&disk);
            for (thread, (queued, appended)) in told.into_iter().enumerate() {
                let first = 10 * thread as u64;
                // A queue that is full on a disk that fails may refuse a record; one that was queued is written.
                assert_eq!(times(&found, first), usize::from(queued.is_ok()), "{found:?}: {queued:?}");
                assert_eq!(times(&found, first + 1), usize::from(appended.is_ok()), "{found:?}: {appended:?}");
                for error in [queued.err(), appended.err()].into_iter().flatten() {
                    assert_eq!((error.kind(), error.left()), (ErrorKind::NoSpace, &Left::Nothing));
                }
                let own: Vec<_> = found.iter().filter(|record| **record / 10 == thread as u64).collect();
                assert!(own.is_sorted(), "{found:?}");
            }
        },
        TRIES,
    );
}

/// After a failed sync nothing is written twice, and what was queued later is there after a reopening.
#[test]
fn a_failed_sync_duplicates_nothing() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 100);
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, 1), how: How::SyncFailsAndDrops(EIO) });
            let threads: Vec<_> = (0..3)
                .map(|thread| {
                    let writer = writer.clone();
                    thread::spawn(move || (thread, writer.append(&thread), writer.enqueue(&(10 + thread)).unwrap()))
                })
                .collect();
            let told: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            writer.reopen().unwrap();
            if writer.close().is_err() {
                // The sync that fails was that of the records queued last, or the close's own.
                writer.reopen().unwrap();
                writer.close().unwrap();
            }
            let found = records(&disk);
            for (thread, appended, queued) in told {
                let in_file = match &appended {
                    Ok(_) => 1,
                    Err(error) => match error.left() {
                        Left::Whole(_) => 1,
                        Left::Nothing => 0,
                        left => panic!("{left:?}"),
                    },
                };
                assert_eq!(times(&found, thread), in_file, "{found:?}: {appended:?}");
                let queued = queued.wait();
                assert!(queued.as_ref().is_ok() || queued.as_ref().is_err_and(|error| matches!(error.left(), Left::Whole(_))), "{queued:?}");
                assert_eq!(times(&found, 10 + thread), 1, "{found:?}");
            }
        },
        TRIES,
    );
}

/// Futures are dropped at any moment: the record is there once or not at all, and nobody else is left waiting.
#[test]
fn whoever_goes_away_leaves_nobody_waiting() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 1);
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let writer = writer.clone();
                    thread::spawn(move || {
                        if thread % 2 == 0 {
                            return writer.append(&thread).map(|_| true).unwrap();
                        }
                        let mut append = pin!(writer.to_async().append(&thread));
                        let mut cx = Context::from_waker(Waker::noop());
                        (0..thread).any(|_| {
                            let ready = append.as_mut().poll(&mut cx).is_ready();
                            thread::yield_now();
                            ready
                        })
                    })
                })
                .collect();
            let told: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            writer.close().unwrap();
            let found = records(&disk);
            for (thread, known) in told.into_iter().enumerate() {
                let times = times(&found, thread as u64);
                assert!(times == 1 || (times == 0 && !known), "{thread} is there {times} times: {found:?}");
            }
        },
        TRIES,
    );
}

/// A record that races with a discard is in the file, or handed back, or refused; never two of these, never none.
#[test]
fn a_discard_hands_back_what_was_never_written() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 2);
            let threads: Vec<_> = (0..3)
                .map(|thread: u64| {
                    let writer = writer.clone();
                    thread::spawn(move || writer.enqueue(&thread).ok().map(|queued| queued.wait()))
                })
                .collect();
            let left = writer.discard();
            let told: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let found = records(&disk);
            assert_eq!(writer.append(&9).unwrap_err().kind(), ErrorKind::Closed);
            let written = told.iter().filter(|told| matches!(told, Some(Ok(_)))).count();
            let handed_back = told.iter().filter(|told| matches!(told, Some(Err(_)))).count();
            assert_eq!((found.len(), left.len()), (written, handed_back), "{told:?}");
        },
        TRIES,
    );
}

/// F53: when the last handle goes, what is queued is written, and who waits is told.
#[test]
fn an_abandoned_queue_is_drained() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 10);
            let threads: Vec<_> = (0..3)
                .map(|thread: u64| {
                    let writer = writer.clone();
                    thread::spawn(move || writer.enqueue(&thread).unwrap())
                })
                .collect();
            drop(writer);
            for thread in threads {
                thread.join().unwrap().wait().unwrap();
            }
            let mut found = records(&disk);
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2]);
        },
        TRIES,
    );
}

/// F46: what was queued before a rotation is archived by it, and every record is in one segment.
#[test]
fn a_rotation_comes_between_two_groups() {
    check_random(
        || {
            let disk = SimDisk::new();
            let writer = open(&disk, 2);
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let writer = writer.clone();
                    thread::spawn(move || {
                        let queued = writer.enqueue(&(10 * thread)).unwrap();
                        let rotated = (thread > 0).then(|| writer.rotate().unwrap().segment);
                        let next = writer.append(&(10 * thread + 1)).unwrap();
                        let (first, next) = (queued.wait().unwrap().mark().start.segment, next.mark().start.segment);
                        assert!(rotated.is_none_or(|rotated| first <= rotated) && first <= next, "{first} {rotated:?} {next}");
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            writer.close().unwrap();
            let archived = (1..=2).map(|number| format!("/j/session.{number:06}.jsonl")).filter(|path| disk.read_file(path).is_some());
            let found: Vec<u64> = archived.chain([PATH.to_owned()]).flat_map(|path| records_in(&disk, &path)).collect();
            for thread in 0..3 {
                let own: Vec<_> = found.iter().copied().filter(|record| record / 10 == thread).collect();
                assert_eq!(own, [10 * thread, 10 * thread + 1], "{found:?}");
            }
        },
        TRIES,
    );
}
