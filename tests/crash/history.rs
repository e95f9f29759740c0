//! Rotation, archive and prune are crashed before every call, what each crash left is read and gone on with, and the next try is crashed too.
//! Then each call fails, in every way.

use crate::{crashes, lane};

use untorn::{
    Before, Consumers, Durability, ErrorKind, Keep, Lock, LockWait, Options, Reader, Writer,
    sim::{Bounds, Fault, How, OpMatch, SimDisk, Tear},
};

const JOURNAL: &str = "/j/s.jsonl";

/// What is done to a journal; every one of them may be done again.
struct Deed {
    name: &'static str,
    run: fn(&mut Writer) -> untorn::Result<()>,
}

const DEEDS: [Deed; 4] = [
    Deed { name: "rotate", run: |writer| writer.rotate().map(drop) },
    Deed { name: "archive before the last record", run: |writer| writer.archive(Before::Seq(6)).map(drop) },
    Deed { name: "archive everything", run: |writer| writer.archive(Before::Last(0)).map(drop) },
    Deed { name: "prune", run: |writer| writer.prune(&Keep::new(Consumers::None).records(1)).map(drop) },
];

fn options(disk: &SimDisk) -> Options {
    let mut options = Writer::options();
    options.disk(disk).lock(Lock::PerAppend, LockWait::Never).durability(Durability::Os);
    options
}

fn record(n: u64) -> String {
    format!("{{\"n\":{n},\"text\":\"dix été ☃\"}}")
}

/// A journal with three archived segments, and records in the active one.
fn journal() -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file("/j/other", "").unwrap();
    let mut writer = options(&disk).open(JOURNAL).unwrap();
    for n in 1..=3 {
        writer.append_json(record(n).as_bytes()).unwrap();
        writer.rotate().unwrap();
    }
    for n in 4..=6 {
        writer.append_json(record(n).as_bytes()).unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    disk.sync();
    disk
}

fn run(disk: &SimDisk, deed: &Deed) -> untorn::Result<()> {
    (deed.run)(&mut options(disk).open(JOURNAL)?)
}

/// The numbers that are read, and that there is no damage.
fn numbers(disk: &SimDisk) -> Vec<u64> {
    let reader = Reader::options().disk(disk).open(JOURNAL).unwrap_or_else(|error| panic!("cannot read: {error:?}"));
    let mut records = reader.records::<serde_json::Value>();
    let found = records.by_ref().map(|record| record.unwrap()).map(|record| {
        assert_eq!(Some(record.value["n"].as_u64().unwrap()), record.mark.seq, "the number belongs to the record");
        record.mark.seq.unwrap()
    });
    let found = found.collect();
    assert!(records.damage().is_empty(), "{}", records.damage());
    found
}

/// The journal reads as it should, before it is opened for appending and after; its numbers go on, and the deed leads to its end.
fn holds(image: &SimDisk, deed: &Deed, expected: &[Vec<u64>], end: &Vec<(String, Vec<u8>)>) {
    let say = || format!("{} {:?}\n{:?}", deed.name, image.origin(), image.files());
    let first = numbers(image);
    assert!(expected.contains(&first), "{first:?} {}", say());
    let disk = image.kill();
    let mut writer = options(&disk).open(JOURNAL).unwrap_or_else(|error| panic!("cannot open: {error:?} {}", say()));
    let last = first.last().copied().unwrap_or_default();
    let appended = writer.append_json(record(last + 1).as_bytes()).unwrap_or_else(|error| panic!("cannot append: {error:?} {}", say()));
    assert_eq!(appended.seq(), Some(last + 1), "{}", say());
    writer.sync().unwrap();
    drop(writer);
    let more: Vec<u64> = first.iter().copied().chain([last + 1]).collect();
    // A segment whose deletion is not durable may come back.
    let kept = numbers(&disk.crash_now());
    assert!(kept.ends_with(&more) && kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{kept:?} after {more:?} {}", say());
    let disk = image.kill();
    run(&disk, deed).unwrap_or_else(|error| panic!("the next try fails: {error:?} {}", say()));
    let _ = run(&disk, deed);
    assert_eq!(&files(&disk), end, "{}", say());
    assert_eq!(&files(&disk.crash_now()), end, "what is done is durable {}", say());
}

/// The files of the journal, but for what a crash may leave beside it.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let of = |path: std::path::PathBuf| (path.to_string_lossy().into_owned(), disk.read_file(&path).unwrap_or_default());
    disk.files().into_iter().map(of).filter(|(path, _)| !path.contains("untorn-tmp")).collect()
}

/// F46, S3-07, S3-08, S3-09: crash at every op, and again at every op of the next try: every record is read once, in order, and the end is the same.
#[test]
fn whatever_crashes_twice_anywhere_every_record_is_read_once() {
    let second = Bounds { stride: 997, tears: vec![Tear::Cut, Tear::Stale], ..Bounds::default() };
    let bounds = [Bounds::every(61), second];
    let mut states = 0;
    for deed in &DEEDS {
        let disk = journal();
        let before = numbers(&disk);
        let done = disk.kill();
        run(&done, deed).unwrap();
        // A prune that is interrupted has deleted the first segments, one after the other.
        let expected: Vec<Vec<u64>> = (0..=before.len() - numbers(&done).len()).map(|gone| before[gone..].to_vec()).collect();
        let end = files(&done);
        let step = lane::pick(if cfg!(debug_assertions) { 17 } else { 7 }, 1);
        states += crashes::twice(
            &disk,
            &bounds,
            step,
            |disk| drop(run(disk, deed)),
            |image| {
                holds(image, deed, &expected, &end);
                files(image) != end
            },
        );
    }
    println!("crashed rotations, archives and prunes: {states} states");
}

/// F46, F48, F50, S3-10: whichever call fails, every record is read once, the same writer appends when the disk is well, and the next try succeeds.
#[test]
fn whichever_call_fails_nothing_is_lost_and_the_next_try_succeeds() {
    for deed in &DEEDS {
        let plain = journal();
        let ops = plain.ops();
        run(&plain, deed).unwrap();
        let (end, after) = (files(&plain), numbers(&plain));
        let log = plain.log();
        for (index, op) in log.iter().enumerate().skip(ops) {
            for how in [
                How::Errno(5),
                How::Errno(28),
                How::Errno(18),
                How::Errno(1),
                How::Short(1),
                How::ErrorAfter { bytes: 3, errno: 5 },
                How::SyncFailsAndDrops(5),
            ] {
                let say = || format!("{}: {op} {how:?}", deed.name);
                let disk = journal();
                let before = numbers(&disk.kill());
                disk.fail(Fault { at: OpMatch::nth(index), how });
                let Ok(mut writer) = options(&disk).open(JOURNAL) else {
                    disk.heal();
                    assert_eq!(numbers(&disk), before, "{}", say());
                    continue;
                };
                let result = (deed.run)(&mut writer);
                disk.heal();
                let found = numbers(&disk);
                assert!(before.ends_with(&found) && found.ends_with(&after), "{found:?} {} {result:?}", say());
                // Only a failed sync poisons it.
                if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Poisoned) {
                    writer.reopen().unwrap_or_else(|error| panic!("{error:?} {}", say()));
                }
                let appended = writer.append_json(record(7).as_bytes()).unwrap_or_else(|error| panic!("{error:?} {} {result:?}", say()));
                assert_eq!(appended.seq(), Some(7), "{}", say());
                writer.sync().unwrap();
                let with_it: Vec<u64> = found.iter().copied().chain([7]).collect();
                let kept = numbers(&disk.crash_now());
                assert!(kept.ends_with(&with_it) && before.ends_with(&kept[..kept.len() - 1]), "{kept:?} {} {result:?}", say());
                (deed.run)(&mut writer).unwrap_or_else(|error| panic!("{error:?} {}", say()));
                drop(writer);
                if result.is_err() {
                    let again = journal();
                    again.fail(Fault { at: OpMatch::nth(index), how });
                    let _ = run(&again, deed);
                    again.heal();
                    run(&again, deed).unwrap();
                    let _ = run(&again, deed);
                    assert_eq!(files(&again), end, "{}", say());
                }
            }
        }
    }
}

/// P2, P7, F45: the same with records of the writer that are not synced yet. A failed sync poisons it, and reopening proves what it wrote.
#[test]
fn whichever_call_fails_records_that_were_not_synced_are_there_once() {
    for deed in &DEEDS {
        let plain = journal();
        let mut writer = options(&plain).open(JOURNAL).unwrap();
        writer.append_json(record(7).as_bytes()).unwrap();
        let begun = plain.ops();
        (deed.run)(&mut writer).unwrap();
        let ops = plain.ops();
        for index in begun..ops {
            for how in [How::Errno(5), How::Errno(28), How::Short(1), How::ErrorAfter { bytes: 3, errno: 5 }, How::SyncFailsAndDrops(5)] {
                let disk = journal();
                let mut writer = options(&disk).open(JOURNAL).unwrap();
                writer.append_json(record(7).as_bytes()).unwrap();
                disk.fail(Fault { at: OpMatch::nth(index), how });
                let result = (deed.run)(&mut writer);
                disk.heal();
                let say = || format!("{}: op {index} {how:?} {result:?}", deed.name);
                if writer.append_json(record(8).as_bytes()).is_err() {
                    writer.reopen().unwrap_or_else(|error| panic!("{error:?} {}", say()));
                    writer.append_json(record(8).as_bytes()).unwrap_or_else(|error| panic!("{error:?} {}", say()));
                }
                writer.sync().unwrap();
                for disk in [disk.kill(), disk.crash_now()] {
                    let found = numbers(&disk);
                    assert!((1..=8).collect::<Vec<_>>().ends_with(&found) && found.len() >= 3, "{found:?} {}", say());
                }
            }
        }
    }
}
