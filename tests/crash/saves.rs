//! A consumer's checkpoint and a snapshot are saved, and the power is cut before every call of that. What each crash left is gone on with, the next
//! try is crashed too, and nothing that was saved is ahead of the journal, behind what was saved before, or half of both.

use std::time::Duration;

use untorn::{
    Consumer, Delivery, Durability, Mark, Reader, Restored, Snapshot, Writer,
    sim::{Bounds, SimDisk, Tear},
};

use crate::{crashes, lane};

const JOURNAL: &str = "/j/s.jsonl";
const SNAPSHOT: &str = "/j/s.snapshot";
const CHECKPOINTS: &str = "/c";

/// What was saved before, and is durable.
const SAVED: u64 = 2;
/// The records there are; those behind the rotation are in the cache only.
const RECORDS: u64 = 7;

fn append(disk: &SimDisk, numbers: std::ops::RangeInclusive<u64>) {
    let mut options = Writer::options();
    let mut writer = options.disk(disk).durability(Durability::Os).open(JOURNAL).unwrap();
    for n in numbers {
        writer.append(&n).unwrap();
        if n == 4 {
            writer.rotate().unwrap();
        }
    }
}

/// A journal in two segments, with what was saved when it had two records.
fn prepared() -> SimDisk {
    let disk = SimDisk::new();
    append(&disk, 1..=SAVED);
    save(&disk).unwrap();
    disk.sync();
    append(&disk, SAVED + 1..=RECORDS);
    disk
}

fn consumer(disk: &SimDisk) -> untorn::Result<Consumer> {
    let mut options = Consumer::options("indexer", CHECKPOINTS);
    options.disk(disk).file(JOURNAL).save_every(Duration::from_secs(3600)).poll_every(Duration::ZERO).open()
}

/// How the consumer found its place, and what it is given; all of it is acknowledged.
fn consume(consumer: &mut Consumer) -> untorn::Result<(Option<Restored>, Vec<u64>)> {
    let (mut restored, mut given) = (None, Vec::new());
    while let Some(delivery) = consumer.next(Duration::ZERO)? {
        match delivery {
            Delivery::Restored(_, how) => restored = Some(how),
            Delivery::Record(_, record, ticket) => {
                given.push(record.value.decode().unwrap());
                ticket.ack();
            }
            Delivery::SaveFailed(error) => return Err(error),
            _ => {}
        }
    }
    Ok((restored, given))
}

fn snapshot(disk: &SimDisk) -> untorn::Result<Snapshot<Vec<u64>>> {
    Snapshot::open_on(disk, SNAPSHOT, JOURNAL)
}

/// The records there are, with their marks.
fn records(disk: &SimDisk) -> Vec<(u64, Mark)> {
    let records = Reader::options().disk(disk).open(JOURNAL).unwrap().records::<u64>();
    records.map(|record| record.map(|record| (record.value, record.mark)).unwrap()).collect()
}

/// Saves both through the last record, as a program does that has just been started.
fn save(disk: &SimDisk) -> untorn::Result<()> {
    drop(Writer::options().disk(disk).open(JOURNAL)?);
    let mut consumer = consumer(disk)?;
    consume(&mut consumer)?;
    consumer.save()?;
    let records = records(disk);
    let state = records.iter().map(|(n, _)| *n).collect();
    match records.last() {
        Some((_, mark)) => snapshot(disk)?.save(&state, *mark),
        None => Ok(()),
    }
}

/// Each is the one saved before or the newer one, what comes behind it is there, and the next save leads to the same end.
fn holds(image: &SimDisk) {
    let say = || format!("{:?}\n{:?}", image.origin().map(ToString::to_string), image.files());
    let disk = image.kill();
    // Whoever opens the journal takes away what is torn.
    drop(Writer::options().disk(&disk).open(JOURNAL).unwrap_or_else(|error| panic!("cannot open: {error:?} {}", say())));
    let there: Vec<u64> = records(&disk).into_iter().map(|(n, _)| n).collect();
    // Of those that were not durable, a later one may be there without an earlier one.
    let in_order = there.windows(2).all(|pair| pair[0] < pair[1]) && there.last() <= Some(&RECORDS);
    assert!(in_order && there.starts_with(&[1, 2]), "{there:?} {}", say());
    let mut again = consumer(&disk.kill()).unwrap_or_else(|error| panic!("cannot consume: {error:?} {}", say()));
    let (restored, given) = consume(&mut again).unwrap();
    assert_eq!(restored, Some(Restored::Resumed), "a checkpoint is ahead of its journal {}", say());
    // A save that found a record without its LF is through the one before it.
    assert!(there[SAVED as usize..].ends_with(&given), "{given:?} of {there:?} {}", say());

    let saved = snapshot(&disk).unwrap().restore().unwrap().unwrap_or_else(|| panic!("no snapshot is left {}", say()));
    assert!(saved.state.len() as u64 >= SAVED && there.starts_with(&saved.state), "{:?} of {there:?} {}", saved.state, say());
    let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
    let fold = |state: &mut Vec<u64>, record: untorn::Result<untorn::Record<u64>>| {
        state.push(record?.value);
        Ok(())
    };
    assert_eq!(snapshot(&disk).unwrap().recover(&mut resumed, fold).unwrap(), there, "{}", say());
    drop(resumed);

    save(&disk).unwrap_or_else(|error| panic!("the next save fails: {error:?} {}", say()));
    let end = disk.crash_now();
    assert_eq!(consume(&mut consumer(&end).unwrap()).unwrap(), (Some(Restored::Resumed), vec![]), "what is saved is durable {}", say());
    assert_eq!(snapshot(&end).unwrap().restore().unwrap().map(|saved| saved.state), Some(there), "{}", say());
}

/// F32, F38, F39, S0-47, S1-14: a save that crashes twice anywhere leaves a checkpoint and a snapshot that go with the journal.
#[test]
fn a_save_that_crashes_twice_anywhere_is_the_old_one_or_the_new_one() {
    let first = Bounds::every(lane::pick(61, 7));
    let second = Bounds { stride: 997, tears: vec![Tear::Cut, Tear::Stale], ..Bounds::default() };
    let step = lane::pick(if cfg!(debug_assertions) { 199 } else { 17 }, 1);
    let states = crashes::twice(
        &prepared(),
        &[first, second],
        step,
        |disk| drop(save(disk)),
        |image| {
            holds(image);
            true
        },
    );
    println!("crashed saves of checkpoints and snapshots: {states} states");
}
