//! What must hold of any bytes: one property each, run by a fuzz target on what it invents and by `cargo test` on the seeds.
//!
//! No property needs a disk: files live on a [`SimDisk`].
#![allow(
    dead_code,
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a property that fails should say where, and a part of the crash rig is borrowed"
)]

mod checkpoint;
mod faults;
mod lines;
mod open;
mod repair;
mod salvage;
mod seal;
mod snapshot;
mod verdict;
mod verify;

#[path = "../../tests/crash/promises.rs"]
mod promises;
#[path = "../../tests/crash/quarantine.rs"]
mod quarantine;
#[path = "../../tests/crash/script.rs"]
mod script;

use untorn::{internals, sim::SimDisk};

pub use self::{
    checkpoint::checkpoint,
    faults::faults,
    lines::{backward, forward},
    open::open,
    repair::repair,
    salvage::salvage,
    seal::seal,
    snapshot::snapshot,
    verdict::verdict,
    verify::verify,
};

type Property = fn(&[u8]);

/// Each property, by the name of its target and of its seeds' directory.
pub const ALL: [(&str, Property); 11] = [
    ("backward", backward),
    ("checkpoint", checkpoint),
    ("faults", faults),
    ("forward", forward),
    ("open", open),
    ("repair", repair),
    ("salvage", salvage),
    ("seal", seal),
    ("snapshot", snapshot),
    ("verdict", verdict),
    ("verify", verify),
];

const PATH: &str = "/j/session.jsonl";

fn disk_with(file: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file(PATH, file).unwrap();
    disk
}

/// The file that `bytes` stand for: themselves, but for three bytes that UTF-8 never has. 0xF5 and the two bytes behind it are a sealed line with
/// that number and that many to follow, 0xF6 the same without its LF; mutation alone would never hit upon a CRC. 0xF7 is a byte order mark.
fn file_of(bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0xF5 | 0xF6 => {
                let mut number = || u64::from(bytes.next().copied().unwrap_or(0));
                let line = internals::sealed(b"{\"k\":1}", number() + 1, number() % 4);
                let kept = line.len() - usize::from(*byte == 0xF6);
                file.extend_from_slice(&line[..kept]);
            }
            0xF7 => file.extend_from_slice(b"\xEF\xBB\xBF"),
            byte => file.push(*byte),
        }
    }
    file
}

/// Whether it begins as a file of zstd or gzip does. No line of JSON does, and what is not compressed otherwise is then refused: `open` and `repair` see
/// to that.
fn is_compressed(file: &[u8]) -> bool {
    matches!(file, [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] | [0x1F, 0x8B, ..])
}

/// Bytes taken as choices, one after the other; the first choice for ever when there are none left.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |byte| usize::from(*byte) % count)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn are_left(&self) -> bool {
        !self.0.as_slice().is_empty()
    }
}
