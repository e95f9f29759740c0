//! Files to work on, beside the program itself: on a disk, where the system's temporary directory may be in memory.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;
use untorn::{Durability, Format, Lock, LockWait, Options, Writer};

use super::records::Records;

/// A directory that is gone when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    next: AtomicU64,
}

impl Scratch {
    /// An empty directory.
    pub fn new() -> Scratch {
        let program = std::env::current_exe().unwrap();
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(program.parent().unwrap()).unwrap();
        Scratch { dir, next: AtomicU64::new(0) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path that nothing has.
    pub fn fresh(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("{number}.jsonl"))
    }

    /// A journal of at least so many bytes.
    pub fn journal(&self, format: Format, bytes: u64, records: &Records) -> PathBuf {
        let path = self.fresh();
        let mut writer = held(Durability::Os).format(format).open(&path).unwrap();
        let mut batch = untorn::Batch::new();
        for number in 0..1024 {
            batch.add_json(records.json(number)).unwrap();
        }
        while std::fs::metadata(&path).unwrap().len() < bytes {
            writer.append_all(&batch).1.unwrap();
        }
        writer.close().unwrap();
        path
    }

    /// A journal of so many bytes, of which only the first line and the last `tail` bytes are written. The rest is a hole in the file, which nothing
    /// that is timed on it reads.
    pub fn long_journal(&self, format: Format, bytes: u64, tail: u64, records: &Records) -> PathBuf {
        let path = self.journal(format, tail.min(bytes), records);
        let lines = std::fs::read(&path).unwrap();
        if let Some(hole) = bytes.checked_sub(lines.len() as u64).filter(|hole| *hole > 2) {
            let file = File::create(&path).unwrap();
            file.write_all_at(b"{}\n", 0).unwrap();
            file.write_all_at(b"\n", hole - 1).unwrap();
            file.write_all_at(&lines, hole).unwrap();
            file.sync_all().unwrap();
        }
        path
    }
}

/// A writer's options: the lock held from open to close.
pub fn held(durability: Durability) -> Options {
    with_lock(durability, Lock::Held)
}

/// A writer's options.
pub fn with_lock(durability: Durability, lock: Lock) -> Options {
    let mut options = Writer::options();
    options.durability(durability).lock(lock, LockWait::Never);
    options
}
