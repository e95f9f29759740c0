//! Hostile input: files that others wrote, damaged in every way that comes to mind, through the library's calls and through the commands.
//!
//! No panic, no hang, memory that does not grow with the file, and nothing that could touch a terminal. The bounded lane takes some hundred
//! mutations; with `UNTORN_LONG` set it is 10,000, and `UNTORN_CORPUS` may name a directory with more files to start from. The seed is printed, and
//! `UNTORN_SEED` sets it. The file that a failure is about stays in the directory that the failure names.
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
mod mutations;

use std::{sync::mpsc, time::Duration};

/// Longer than anything here takes on a busy machine; a file of some MB takes some ms.
const HANG: Duration = Duration::from_secs(60);

/// What any process may take beside the longest line.
const MEMORY_BYTES: u64 = 64 << 20;

fn mutations() -> usize {
    if std::env::var_os("UNTORN_LONG").is_some() { 10_000 } else { 300 }
}

/// Does a step on a thread of its own; `None` if it has not ended when anything sensible would have.
fn within_reason<T: Send + 'static>(step: impl FnOnce() -> T + Send + 'static) -> Option<std::thread::Result<T>> {
    let (done, wait) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let result = step();
        // Nobody waits any more if it took too long.
        let _ = done.send(());
        result
    });
    match wait.recv_timeout(HANG) {
        Err(mpsc::RecvTimeoutError::Timeout) => None,
        _ => Some(worker.join()),
    }
}
