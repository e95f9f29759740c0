//! The calls of the library, and what must hold of any file whatever.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use serde::de::IgnoredAny;
use untorn::{ErrorKind, Lock, LockWait, OnCorrupt, Position, Reader, Start, Undone, VerifyOptions, Writer, plan_repair, undo_repair, verify};

use crate::{
    cases::{Case, Cases},
    directory, memory, mutations, within_reason,
};

/// S2, P1, P4, P5: what the library does with any file, and undoes.
#[test]
fn the_library_stands_any_file() {
    let cases = Cases::new("the library", mutations());
    let (bases, mut files, mut bytes, mut found, mut most) = (cases.bases(), 0_u64, 0, Found::default(), 0);
    let is_measured = memory::forget_peak();
    if !is_measured {
        println!("skipped: the memory of the library: the system does not tell it");
    }
    for case in cases {
        files += 1;
        if files % 1000 == 0 {
            println!("the library: {files} files so far");
        }
        bytes += case.bytes.len() as u64;
        let given = case.clone();
        memory::forget_peak();
        let before = memory::now();
        match within_reason(std::process::id(), move || try_all(&given)) {
            Some(Ok(one)) => found.add(&one),
            Some(Err(_)) => panic!("{} panicked; it is kept as {}", case.name, case.keep().display()),
            None => panic!("{} hangs; it is kept as {}", case.name, case.keep().display()),
        }
        let taken = memory::peak().zip(before).filter(|_| is_measured).map_or(0, |(peak, before)| peak.saturating_sub(before));
        most = most.max(taken);
        let allowed = memory::allowed(case.longest_line);
        assert!(taken <= allowed, "{}: {taken} bytes were taken, and {allowed} are allowed; it is kept as {}", case.name, case.keep().display());
    }
    println!(
        "the library: {files} files ({bases} as they were), {} MB; {} records read, {} files damaged, {} repaired and taken back, {} refused to append; at most {} KiB of memory",
        bytes / 1_000_000,
        found.records,
        found.damaged,
        found.repaired,
        found.refused,
        most >> 10
    );
    assert!(found.damaged * 3 > files, "too little was damaged to say anything");
}

/// What the files had in them.
#[derive(Default)]
struct Found {
    records: u64,
    damaged: u64,
    repaired: u64,
    refused: u64,
}

impl Found {
    fn add(&mut self, other: &Found) {
        self.records += other.records;
        self.damaged += other.damaged;
        self.repaired += other.repaired;
        self.refused += other.refused;
    }
}

fn try_all(case: &Case) -> Found {
    let dir = directory();
    let path = dir.path().join("hostile.jsonl");
    fs::write(&path, &case.bytes).unwrap();
    let records = read(&path, case);
    let mut found = Found { records: records.len() as u64, ..Found::default() };
    let report = verify(&path).unwrap();
    let strict = VerifyOptions::new().strict().run(&path, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(report.is_clean() || !strict.is_clean(), "{}: clean only to a strict eye", case.name);
    found.damaged = u64::from(!report.is_clean());
    assert_eq!(fs::read(&path).unwrap(), case.bytes, "{}: reading wrote", case.name);
    if !is_compressed(&case.bytes) {
        found.repaired = u64::from(repair(&path, case));
    }
    found.refused = u64::from(!append(&path, &records, case));
    found
}

fn is_compressed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") || bytes.get(1..4) == Some(b"\x2a\x4d\x18")
}

/// What stands for a record.
fn print_of(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

/// The records from a start on, each by its print; nothing if reading from there is refused.
fn records_from(path: &Path, start: Start) -> Option<Vec<u64>> {
    let mut reader = Reader::options().from(start).on_corrupt(OnCorrupt::Skip).open(path).ok()?;
    let mut records = Vec::new();
    while let Some(mut line) = reader.next_line().unwrap() {
        records.extend(line.payload().map(print_of));
    }
    Some(records)
}

fn read(path: &Path, case: &Case) -> Vec<u64> {
    let name = &case.name;
    let records = records_from(path, Start::Beginning).unwrap();
    let mut reader = Reader::open(path).unwrap();
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    while let Some(mut line) = reader.next_line().unwrap() {
        lines += 1;
        bytes += line.bytes().len() as u64;
    }
    if !is_compressed(&case.bytes) {
        assert!(bytes <= case.bytes.len() as u64 && lines <= case.bytes.len() as u64, "{name}: {lines} lines of {bytes} bytes were read");
    }
    let typed = Reader::open(path).unwrap().records::<IgnoredAny>().count();
    assert!(typed <= records.len(), "{name}: {typed} typed records of {}", records.len());
    for last in [0, 1, 3, u64::MAX] {
        let tail = records_from(path, Start::Last(last)).unwrap();
        assert!(records.ends_with(&tail), "{name}: the last {last} are not the last");
        assert_eq!(tail.len() as u64, last.min(records.len() as u64), "{name}: the last {last}");
    }
    for start in [
        Start::End,
        Start::Seq(0),
        Start::Seq(2),
        Start::Seq(u64::MAX),
        Start::Position(Position { segment: 1, offset: case.bytes.len() as u64 / 2 }),
        Start::Position(Position { segment: u64::MAX, offset: u64::MAX }),
    ] {
        let _ = records_from(path, start);
    }
    records
}

/// Plans, repairs, verifies and takes it back; whether there was anything to do.
fn repair(path: &Path, case: &Case) -> bool {
    let name = &case.name;
    let plan = match plan_repair(path) {
        Err(error) if error.kind() == ErrorKind::NewerFormat => return false,
        plan => plan.unwrap(),
    };
    if plan.is_empty() {
        assert!(plan.apply().is_ok_and(|done| !done.changed), "{name}: nothing was to be done");
        return false;
    }
    let removed = plan.removed_bytes();
    let done = plan.apply().unwrap();
    assert_eq!((done.removed_bytes, done.remaining), (removed, 0), "{name}");
    let left = plan_repair(path).unwrap();
    assert!(left.is_empty(), "{name}: a second repair would do {:?}", left.actions().first());
    let taken_back = undo_repair(path).unwrap();
    assert!(matches!(taken_back, Undone::Restored { .. }), "{name}: {taken_back:?}");
    assert!(fs::read(path).unwrap() == case.bytes, "{name}: what was taken back is not what was there");
    true
}

/// Opens it to append: the record is the last one, and those before it are as they were. Whether it was taken.
fn append(path: &Path, records: &[u64], case: &Case) -> bool {
    let name = &case.name;
    let mut options = Writer::options();
    options.durability(untorn::Durability::Os).lock(Lock::Held, LockWait::Never);
    let mut writer = match options.open(path) {
        Ok(writer) => writer,
        Err(error) => {
            assert!(fs::read(path).unwrap() == case.bytes, "{name}: refused with {error}, and changed");
            return false;
        }
    };
    match writer.append_json(b"{\"hostile\":true}") {
        Ok(_) => {}
        // The numbers have come to their end.
        Err(error) => {
            assert!(!matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::DurabilityUnknown), "{name}: {error}");
            return false;
        }
    }
    drop(writer);
    let now = records_from(path, Start::Beginning).unwrap();
    assert_eq!(now.last(), Some(&print_of(b"{\"hostile\":true}")), "{name}: the record is not the last");
    assert!(now.starts_with(records), "{name}: appending hides {} records", records.len());
    assert_eq!(now.len(), records.len() + 1, "{name}");
    true
}
