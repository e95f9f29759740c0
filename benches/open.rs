//! How long does it take to open a journal?
//!
//! Opening looks at the end of the file, so what counts is the window and the tail, not the size. Files beyond 64 MiB are a hole but for their last
//! lines. Held against opening the file, finding its size, and reading 64 KiB for the last LF by hand.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench that fails should say where, and it talks to whoever runs it"
)]

#[allow(dead_code, reason = "each bench uses what it needs")]
mod common;

use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use common::{
    Bench,
    ratio::{Goal, Row, Unit, timed},
    records::Records,
    scratch::{Scratch, with_lock},
};
use untorn::{Durability, Format, Lock, Options, Reader};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    let records = Records::small();
    let largest = bench.settings.largest_bytes;
    let mut sizes = vec![1 << 20, 64 << 20, largest];
    sizes.dedup();
    for bytes in sizes {
        let path = scratch.long_journal(Format::Sealed, bytes, 4 << 20, &records);
        let size = size_of(bytes);
        let goal = if bytes == largest { Goal::AtMost(Duration::from_micros(200)) } else { Goal::Shown };
        bench.row(Row::new(format!("open/{size}/window 64KiB"), Unit::Each, 1, opening(&path, 64 << 10)).against(
            "open + lseek + pread 64 KiB + memrchr",
            goal,
            by_hand(&path),
        ));
        bench.row(Row::new(format!("open/{size}/window 1MiB"), Unit::Each, 1, opening(&path, 1 << 20)).against(
            "open + lseek + pread 64 KiB + memrchr",
            Goal::Shown,
            by_hand(&path),
        ));
        bench.row(Row::new(format!("open/{size}/to read the last 10"), Unit::Each, 1, reading_last(&path)).against(
            "open + lseek + pread 64 KiB + memrchr",
            Goal::Shown,
            by_hand(&path),
        ));
        std::fs::remove_file(&path).unwrap();
    }
    let path = scratch.journal(Format::Sealed, 4 << 20, &records);
    bench.row(Row::new("open/4MiB/torn tail", Unit::Each, 1, repairing(&path, &records)).against(
        "two files' write + fdatasync",
        Goal::Shown,
        two_syncs(&scratch),
    ));
    bench.end();
}

fn size_of(bytes: u64) -> String {
    if bytes >= 1 << 30 { format!("{}GiB", bytes >> 30) } else { format!("{}MiB", bytes >> 20) }
}

fn options(window_bytes: u64) -> Options {
    let mut options = with_lock(Durability::Os, Lock::Held);
    options.window_bytes(window_bytes);
    options
}

fn opening(path: &Path, window_bytes: u64) -> impl FnMut(u64) -> Duration {
    let options = options(window_bytes);
    move |count| timed(|| (0..count).for_each(|_| drop(options.open(path).unwrap())))
}

fn reading_last(path: &Path) -> impl FnMut(u64) -> Duration {
    move |count| {
        timed(|| {
            for _ in 0..count {
                let reader = Reader::options().from(untorn::Start::Last(10)).open(path).unwrap();
                assert_eq!(reader.records::<serde::de::IgnoredAny>().filter_map(Result::ok).count(), 10);
            }
        })
    }
}

/// The tail is torn before each opening, which is not timed, and moved to quarantine by it.
fn repairing(path: &Path, records: &Records) -> impl FnMut(u64) -> Duration {
    move |count| {
        let mut took = Duration::ZERO;
        for number in 0..count {
            let line = records.line(number);
            OpenOptions::new().append(true).open(path).unwrap().write_all(&line[..line.len() / 2]).unwrap();
            let start = Instant::now();
            let writer = options(64 << 10).open(path).unwrap();
            took += start.elapsed();
            assert!(!writer.tail_repair().is_clean());
        }
        took
    }
}

fn by_hand(path: &Path) -> impl FnMut(u64) -> Duration {
    let mut tail = vec![0; 64 << 10];
    move |count| {
        timed(|| {
            for _ in 0..count {
                let mut file = OpenOptions::new().read(true).append(true).open(path).unwrap();
                let end = file.seek(SeekFrom::End(0)).unwrap();
                file.read_exact_at(&mut tail, end - (64 << 10)).unwrap();
                assert_eq!(memchr::memrchr(b'\n', &tail), Some((64 << 10) - 1));
            }
        })
    }
}

/// What keeping bytes aside and cutting them off takes at least.
fn two_syncs(scratch: &Scratch) -> impl FnMut(u64) -> Duration {
    let files = [scratch.fresh(), scratch.fresh()];
    move |count| {
        timed(|| {
            for _ in 0..count {
                for path in &files {
                    let mut file = File::options().append(true).create(true).open(path).unwrap();
                    file.write_all(b"removed\n").unwrap();
                    file.sync_data().unwrap();
                }
            }
        })
    }
}
