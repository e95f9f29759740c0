//! Size does not matter: opening reads the tail and one window, and memory stays flat, whatever the journal grows to.
//!
//! The journal is 256 MiB, or 4 GiB if `UNTORN_LONG` is set. The binary of its own keeps the memory of other tests out of what is measured.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::unwrap_used, reason = "a test that fails should say where")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use untorn::{Batch, Durability, Lock, LockWait, Options, Writer};

const WINDOW_BYTES: u64 = 1 << 20;

fn options() -> Options {
    let mut options = Writer::options();
    options.durability(Durability::Os).lock(Lock::Held, LockWait::Never);
    options
}

/// A sealed journal of at least so many bytes, in records of 4 KB.
fn grow(path: &Path, bytes: u64) {
    let mut batch = Batch::new();
    for n in 0..1000 {
        batch.add(&json!({"n": n, "text": "x".repeat(4000)})).unwrap();
    }
    let mut writer = options().open(path).unwrap();
    let mut end = 0;
    while end < bytes {
        let (appended, result) = writer.append_all(&batch);
        result.unwrap();
        end = appended.last().unwrap().mark().end.offset;
    }
}

/// Bytes that this process has read so far, from caches too.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// The most memory that any child had so far, in KiB.
fn children_kib() -> i64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

/// C22, P8, S0-43: neither time nor memory grows with the journal.
#[test]
fn neither_opening_nor_reading_grows_with_the_journal() {
    let large: u64 = if std::env::var_os("UNTORN_LONG").is_some() { 4 << 30 } else { 256 << 20 };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jsonl");
    grow(&path, large);
    for torn in ["", "{\"torn"] {
        fs::OpenOptions::new().append(true).open(&path).and_then(|mut file| std::io::Write::write_all(&mut file, torn.as_bytes())).unwrap();
        let before = bytes_read();
        let mut writer = options().open(&path).unwrap();
        let opening = bytes_read() - before;
        writer.append(&json!({"n": 1})).unwrap();
        println!("opening {large} bytes, {} of them torn, read {opening}", torn.len());
        assert!(opening < WINDOW_BYTES + (512 << 10), "opening read {opening} bytes");
    }
    for command in [&["verify"][..], &["cat"], &["cat", "--last", "3"]] {
        let ran = Command::new(env!("CARGO_BIN_EXE_untorn")).args(command).arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(ran.success(), "{command:?}");
        println!("{command:?}: at most {} KiB", children_kib());
        assert!(children_kib() < 32 << 10, "{command:?} took {} KiB", children_kib());
    }
}
