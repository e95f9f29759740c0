//! Of a snapshot that is not what was saved, nothing is believed.

use std::sync::LazyLock;

use untorn::{Snapshot, Writer, sim::SimDisk};

use super::{Choices, PATH};

const SNAPSHOT: &str = "/j/state.snapshot";

/// A journal and two generations: the current one with the state "new", and the one before with "old".
static SAVED: LazyLock<SimDisk> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let mut writer = Writer::options().disk(&disk).open(PATH).unwrap();
    for state in ["old", "new"] {
        let through = writer.append(&state).unwrap().mark();
        snapshot_on(&disk).save(&state.to_owned(), through).unwrap();
    }
    disk
});

fn snapshot_on(disk: &SimDisk) -> Snapshot<String> {
    Snapshot::open_on(disk, SNAPSHOT, PATH).unwrap()
}

/// Any other bytes, and any change of those that were saved, give the state before, and say why.
pub fn snapshot(bytes: &[u8]) {
    let good = SAVED.read_file(SNAPSHOT).unwrap();
    for file in [bytes.to_vec(), changed(&good, bytes)] {
        let disk = SAVED.kill();
        disk.write_file(SNAPSHOT, file.as_slice()).unwrap();
        let restored = snapshot_on(&disk).restore().unwrap().unwrap();
        if file == good {
            assert!(restored.state == "new" && restored.fell_back.is_none());
        } else {
            let why = restored.fell_back.unwrap();
            assert!(restored.state == "old" && why.path().is_some(), "{why}");
        }
    }
}

/// The file with some bytes changed, cut, added or moved, as `choices` say.
fn changed(good: &[u8], choices: &[u8]) -> Vec<u8> {
    let mut file = good.to_vec();
    let mut choices = Choices(choices.iter());
    while choices.are_left() {
        let kind = choices.below(5);
        let at = (choices.below(256) * 256 + choices.below(256)) % (file.len() + 1);
        match kind {
            0 => file.truncate(at),
            1 => file.insert(at, b"0123456789\n\0\"{}e-"[choices.below(17)]),
            2 => file.extend_from_slice(&good[at.min(good.len())..]),
            3 => drop(file.drain(at..(at + choices.below(20)).min(file.len()))),
            _ => {
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= 1 << choices.below(8);
                }
            }
        }
    }
    file
}
