//! Who may write, and how long others wait.

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use untorn::{ErrorKind, Lock, LockWait, Writer};

use crate::support::{TestJournal, sealed_payloads};

/// S2-33, F25: writers in many threads, each with a handle of its own, number on after each other; none sees a number twice.
#[test]
fn many_handles_append_at_once() {
    let journal = TestJournal::missing();
    std::thread::scope(|scope| {
        for by in 0..8 {
            let mut writer = journal.open();
            scope.spawn(move || {
                for n in 0..100 {
                    writer.append(&json!({"by": by, "n": n})).unwrap();
                }
            });
        }
    });
    let found = sealed_payloads(&journal.text());
    assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=800).collect::<Vec<_>>());
    for by in 0..8 {
        let numbers: Vec<_> = found.iter().filter(|(_, record)| record["by"] == by).map(|(_, record)| record["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "in order for writer {by}");
    }
}

#[test]
fn waiting_for_the_lock_ends_when_it_is_free_or_the_time_is_over() {
    let journal = TestJournal::missing();
    let held = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    let open = |wait| Writer::options().lock(Lock::PerAppend, wait).open(&journal.path).map(drop);
    let start = Instant::now();
    assert_eq!(open(LockWait::For(Duration::from_millis(30))).unwrap_err().kind(), ErrorKind::Locked);
    assert!(start.elapsed() >= Duration::from_millis(30));
    let waiting = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let forever = scope.spawn(|| {
            waiting.store(true, Ordering::SeqCst);
            open(LockWait::Forever)
        });
        let long = scope.spawn(|| open(LockWait::For(Duration::from_secs(60))));
        while !waiting.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(held);
        forever.join().unwrap().unwrap();
        long.join().unwrap().unwrap();
    });
}

/// S2-34: the lock belongs to the file, whatever path leads to it.
#[test]
fn every_path_to_a_file_leads_to_one_lock() {
    let journal = TestJournal::with_bytes("");
    let link = journal.dir().join("link");
    std::os::unix::fs::symlink(&journal.path, &link).unwrap();
    let second_name = journal.dir().join("second.jsonl");
    std::fs::hard_link(&journal.path, &second_name).unwrap();
    let _held = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    for path in [link, second_name] {
        let error = Writer::options().lock(Lock::Held, LockWait::Never).open(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
    }
}

/// S2-36, F23: the lock of a process that was killed is free.
#[test]
fn a_killed_holder_leaves_no_lock() {
    let journal = TestJournal::with_bytes("");
    let mut holder = Command::new("flock").arg("--exclusive").arg(&journal.path).args(["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(holder) = holder.as_mut() else { return println!("skipped: a_killed_holder_leaves_no_lock: there is no flock(1)") };
    // It echoes a line once it has the lock.
    std::io::Write::write_all(holder.stdin.as_mut().unwrap(), b"locked\n").unwrap();
    let mut word = [0; 7];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let open = || Writer::options().lock(Lock::PerAppend, LockWait::Never).open(&journal.path).map(drop);
    let error = open().unwrap_err();
    assert!(error.to_string().contains("locked by process"), "{error}");
    // flock(1) and the cat it started share the descriptor; when both are dead, the lock is free.
    drop(holder.stdin.take());
    holder.kill().unwrap();
    holder.wait().unwrap();
    Writer::options().lock(Lock::PerAppend, LockWait::For(Duration::from_secs(10))).open(&journal.path).map(drop).unwrap();
}

/// F24: a program that is started meanwhile gets neither the descriptor nor, with it, the lock.
#[test]
fn a_child_process_inherits_nothing() {
    let journal = TestJournal::missing();
    let held = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    let listed = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("j.jsonl"));
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    drop(held);
    // Another test may be between fork and exec just now; then its child still has a copy of every descriptor.
    Writer::options().lock(Lock::Held, LockWait::For(Duration::from_secs(10))).open(&journal.path).map(drop).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// S2-35: reading needs no lock.
#[test]
fn a_reader_reads_beside_the_holder_of_the_lock() {
    let journal = TestJournal::missing();
    let mut writer = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    for n in 1..=3 {
        writer.append(&json!({"n": n})).unwrap();
        assert_eq!(untorn::Reader::open(&journal.path).unwrap().records::<serde_json::Value>().count(), n);
        assert!(untorn::verify(&journal.path).unwrap().is_clean());
    }
}

/// A lock of a file that was replaced while it was waited for shuts nobody out.
#[cfg(feature = "sim")]
#[test]
fn the_lock_is_that_of_the_file_that_the_path_names() {
    use untorn::sim::{OpKind, OpMatch, SimDisk};
    let disk = SimDisk::new();
    disk.write_file("/j/a.jsonl", "{\"in\":\"old\"}\n").unwrap();
    disk.write_file("/j/repaired", "{\"in\":\"new\"}\n").unwrap();
    disk.before(OpMatch::nth_of(OpKind::TryLock, 0), |disk| disk.rename("/j/repaired", "/j/a.jsonl").unwrap());
    let open = |disk: &SimDisk| Writer::options().disk(disk).lock(Lock::Held, LockWait::Never).open("/j/a.jsonl");
    let _held = open(&disk).unwrap();
    assert_eq!(open(&disk.as_process(2, "other")).unwrap_err().kind(), ErrorKind::Locked);
}
