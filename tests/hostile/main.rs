//! Hostile input: files that others wrote, damaged in every way that comes to mind, through the library's calls and through the commands.
//!
//! No panic, no hang, memory that does not grow with the file, and nothing that could touch a terminal. The bounded lane takes some hundred
//! mutations; with `UNTORN_LONG` set it is 10,000, and `UNTORN_CORPUS` may name a directory with more files to start from. The seed is printed, and
//! `UNTORN_SEED` sets it. The file that a failure is about stays in the directory that the failure names.
//!
//! The library runs in this process, the commands each in their own. What they write goes to memory where there is `/dev/shm`: it is not the disk
//! that is tried here, and syncing it would take most of the time.
#![cfg(unix)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails should say where"
)]

mod cases;
#[path = "../crash/chance.rs"]
mod chance;
mod commands;
mod library;
mod memory;
mod mutations;

use std::{path::Path, sync::mpsc, time::Duration};

use tempfile::TempDir;

/// Longer than anything here works; a file of some MB takes some ms. It is time on a processor: how busy the machine is, is not the file's doing.
const HANG: Duration = Duration::from_secs(10);

/// What has not ended after so many looks waits for something that does not come.
const LOOKS_MAX: u32 = 1800;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What any process may take beside the longest line.
const MEMORY_BYTES: u64 = 64 << 20;

fn mutations() -> usize {
    if std::env::var_os("UNTORN_LONG").is_some() { 10_000 } else { 300 }
}

/// Does a step on a thread of its own; `None` if process `pid`, which is at work on it, has not come to an end when anything sensible would have.
fn within_reason<T: Send + 'static>(pid: u32, step: impl FnOnce() -> T + Send + 'static) -> Option<std::thread::Result<T>> {
    let (done, wait) = mpsc::channel();
    let before = worked(pid);
    let worker = std::thread::spawn(move || {
        let result = step();
        // Nobody waits any more if it took too long.
        let _ = done.send(());
        result
    });
    for _ in 0..LOOKS_MAX {
        if wait.recv_timeout(LOOK_EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
            return Some(worker.join());
        }
        if worked(pid).zip(before).is_some_and(|(now, before)| now.saturating_sub(before) > HANG) {
            break;
        }
    }
    None
}

/// How long a process was on a processor. See proc_pid_stat(5): times are in hundredths of a second.
fn worked(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let times = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|time| time.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * 10))
}

/// A directory that costs nothing to sync.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
