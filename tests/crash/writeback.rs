//! Errors of writeback on a real file system: an image that promises more room than the file system under it has, so that pages which were
//! written cannot be synced. The kernel says so once, and calls the pages clean.

use std::{fs, os::unix::fs::MetadataExt};

use untorn::{ErrorKind, Lock, LockWait, Writer, internals};

use crate::{
    lane,
    mount::{Kind, Mount},
    promises::{self, Told},
};

const KINDS: [Kind; 4] = [
    Kind {
        name: "ext4 without a journal",
        mkfs: &["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"],
        options: "rw",
        mib: 64,
    },
    Kind {
        name: "ext4",
        mkfs: &["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=1,nodiscard"],
        options: "rw",
        mib: 64,
    },
    Kind { name: "xfs", mkfs: &["mkfs.xfs", "-q", "-f", "-K"], options: "rw", mib: 320 },
    Kind { name: "btrfs", mkfs: &["mkfs.btrfs", "-q", "-f", "-K", "-m", "single"], options: "rw", mib: 320 },
];

const DURABLE: Told = Told::There { durable: true };

const BLOCK_BYTES: usize = 4096;

/// Room for records when the image was made.
const ROOM_BYTES: u64 = 6 << 20;

/// Appends until a sync fails. The error that it fails with, and what each record was told.
fn append_until_a_sync_fails(writer: &mut Writer) -> (untorn::Error, Vec<(String, Told)>) {
    let mut ledger = Vec::new();
    let failed = loop {
        let payload = record_of_one_block(ledger.len() as u64 + 1);
        match writer.append_json(payload.as_bytes()) {
            Ok(_) => ledger.push((payload, DURABLE)),
            Err(error) => {
                ledger.push((payload, Told::Unknown));
                break error;
            }
        }
    };
    assert_eq!(failed.kind(), ErrorKind::DurabilityUnknown, "{failed:?}");
    // Another sync would say yes.
    assert_eq!(writer.append_json(b"{}").unwrap_err().kind(), ErrorKind::Poisoned);
    (failed, ledger)
}

/// A loop device takes a short write for a whole one, and would lie about a record in two blocks of which one found room.
fn record_of_one_block(seq: u64) -> String {
    let record = |len: usize| format!("{{\"n\":{seq},\"text\":\"{}\"}}", "x".repeat(len));
    let others = internals::sealed(record(0).as_bytes(), seq, 0).len();
    record(BLOCK_BYTES - others)
}

/// Fills an image for which there is no room, makes room, and checks what a new mount shows.
fn fill(kind: &Kind) -> Result<String, String> {
    let room = Mount::tmpfs(kind.mib + 16)?;
    let image = kind.image_in(room.path())?;
    let disk = Mount::image(&image, kind.options)?;
    let taken = fs::metadata(&image).unwrap().blocks() * 512;
    room.remount(&format!("size={}", taken + ROOM_BYTES));
    let mut writer = Writer::options().lock(Lock::Held, LockWait::Never).open(disk.path().join("session.jsonl")).unwrap();
    // Each file system shows its locks in a way of its own.
    let held = Writer::options().lock(Lock::Held, LockWait::Never).open(disk.path().join("session.jsonl")).unwrap_err();
    assert!(held.to_string().contains(&format!("locked by process {}", std::process::id())), "{}: {held}", kind.name);
    let (failed, mut ledger) = append_until_a_sync_fails(&mut writer);
    room.remount(&format!("size={}m", kind.mib + 16));
    let reopened = writer.reopen();
    if reopened.is_ok() {
        // Success is proof that the record is durable after all.
        ledger.last_mut().unwrap().1 = DURABLE;
    }
    drop(writer);
    drop(disk);

    let disk = Mount::image(&image, kind.options)?;
    let path = disk.path().join("session.jsonl");
    let check = |ledger: &[_]| promises::check(&fs::read(&path).unwrap(), ledger, true).unwrap_or_else(|why| panic!("{}: {why}", kind.name));
    check(&ledger);
    let mut writer = Writer::open(&path).unwrap();
    writer.append_json(b"{\"after\":\"all\"}").unwrap();
    let durable = ledger.iter().filter(|(_, told)| *told == DURABLE).count();
    ledger.push(("{\"after\":\"all\"}".to_owned(), DURABLE));
    check(&ledger);
    let reopened = reopened.map_or_else(|error| format!("not reopened ({:?})", error.kind()), |()| "reopened".to_owned());
    Ok(format!("errno {}, then {reopened}; {durable} durable records, all there", failed.raw_os_error().unwrap()))
}

/// F09, F11, F12, P2: pages that were written cannot be synced; the writer is poisoned, and every record acknowledged before is there.
#[test]
fn a_failed_writeback_poisons_and_loses_no_acknowledged_record() {
    for kind in KINDS {
        match fill(&kind) {
            Ok(seen) => println!("writeback errors on {}: {seen}", kind.name),
            Err(why) => lane::skip(&format!("writeback errors on {}", kind.name), &why),
        }
    }
}
