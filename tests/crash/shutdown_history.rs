//! Power cuts on real file systems while journals are rotated, archived and pruned, snapshots saved and records consumed.
//!
//! What was told to be durable is remembered outside the mount. Afterwards every record is there once and in order, up to the last one that was
//! acknowledged; the snapshot and the checkpoint are the last ones that were saved, or later ones, and prove themselves.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use untorn::{Before, Consumer, Consumers, Delivery, Keep, Reader, Restored, Snapshot, Writer};

use crate::{
    chance::Chance,
    lane,
    mount::{Kind, Mount},
    shutdown::{KINDS, Power},
};

const THREADS: usize = 2;
const JOURNALS_PER_THREAD: usize = 10;

/// So many records a prune keeps.
const KEPT: u64 = 40;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    n: u64,
}

/// The sum of the numbers of all records.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum(u64);

impl Sum {
    fn through(n: u64) -> Sum {
        Sum(n * (n + 1) / 2)
    }
}

/// One journal, and what was told of it: numbers of records, 0 for none.
#[derive(Clone, Debug, Default)]
struct Told {
    number: usize,
    appended: u64,
    /// Through this one a snapshot was saved.
    saved: u64,
    /// Through this one all was acknowledged, and the checkpoint saved.
    consumed: u64,
    /// Through this one all was acknowledged.
    acknowledged: u64,
}

/// The files of one journal.
struct Places {
    journal: PathBuf,
    snapshot: PathBuf,
    checkpoints: PathBuf,
}

impl Places {
    fn of(dir: &Path, number: usize) -> Places {
        let at = |ending: &str| dir.join(format!("{number}{ending}"));
        Places { journal: at(".jsonl"), snapshot: at(".snapshot"), checkpoints: at(".checkpoints") }
    }

    fn consumer(&self) -> Result<Consumer, untorn::Error> {
        Consumer::options("rig", &self.checkpoints).file(&self.journal).save_every(Duration::from_secs(3600)).open()
    }

    fn keep(&self) -> Keep {
        let consumers = if self.checkpoints.exists() { Consumers::In(vec![self.checkpoints.clone()]) } else { Consumers::None };
        Keep::new(consumers).records(KEPT)
    }
}

/// Works on one journal until the power is gone or something fails.
fn work(dir: &Path, number: usize, chance: &mut Chance, power: &Power) -> Told {
    let mut told = Told { number, ..Told::default() };
    let _ = try_to_work(&Places::of(dir, number), chance, power, &mut told);
    told
}

fn try_to_work(places: &Places, chance: &mut Chance, power: &Power, told: &mut Told) -> Result<(), untorn::Error> {
    let mut writer = Writer::open(&places.journal)?;
    let mut snapshot = Snapshot::<Sum>::open(&places.snapshot, &places.journal)?;
    let mut consumer = places.consumer()?;
    while !power.gone.load(Ordering::SeqCst) {
        let n = writer.next_seq().unwrap();
        let mark = writer.append(&Record { n })?.mark();
        if !power.is_going() {
            told.appended = n;
        }
        match chance.within(0..40) {
            0 => drop(writer.rotate()?),
            1 => drop(writer.archive(Before::Last(chance.within(0..20)))?),
            2 => drop(writer.prune(&places.keep())?),
            3..6 => {
                snapshot.save(&Sum::through(n), mark)?;
                if !power.is_going() {
                    told.saved = n;
                }
            }
            6..9 => {
                while let Some(delivery) = consumer.next(Duration::ZERO)? {
                    if let Delivery::Record(_, record, ticket) = delivery {
                        ticket.ack();
                        told.acknowledged = record.mark.seq.unwrap();
                    }
                }
                consumer.save()?;
                if !power.is_going() {
                    told.consumed = told.acknowledged;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was seen on one kind of file system.
#[derive(Default)]
struct Seen {
    journals: usize,
    records: u64,
    segments: usize,
    snapshots: usize,
    checkpoints: usize,
}

fn check(dir: &Path, told: &Told, seen: &mut Seen) -> Result<(), String> {
    let places = Places::of(dir, told.number);
    let failed = |error: untorn::Error| format!("{error:?}");
    if told.appended == 0 && !places.journal.exists() {
        return Ok(());
    }
    let last = check_records(&places, told).map_err(failed)??;
    check_snapshot(&places, told, last, seen).map_err(failed)??;
    check_checkpoint(&places, told, last, seen).map_err(failed)??;

    // It goes on, and what was begun is ended.
    let mut writer = Writer::open(&places.journal).map_err(failed)?;
    let next = writer.next_seq().unwrap();
    writer.append(&Record { n: next }).map_err(failed)?;
    writer.archive(Before::Last(1)).map_err(failed)?;
    writer.rotate().map_err(failed)?;
    writer.prune(&places.keep()).map_err(failed)?;
    drop(writer);
    let told = Told { appended: next, ..told.clone() };
    check_records(&places, &told).map_err(failed)??;
    let report = untorn::verify(&places.journal).map_err(failed)?;
    seen.journals += 1;
    seen.records += told.appended;
    seen.segments += std::fs::read_dir(dir).unwrap().flatten().filter(|file| is_segment(&file.file_name().to_string_lossy(), told.number)).count();
    if report.is_clean() { Ok(()) } else { Err(format!("not clean: {:?}", report.findings())) }
}

fn is_segment(name: &str, number: usize) -> bool {
    name.starts_with(&format!("{number}.0")) && name.ends_with(".jsonl")
}

/// Every record once, in order, as it was appended, through the last acknowledged one and from no later than a prune may have begun at. Gives the
/// last number.
fn check_records(places: &Places, told: &Told) -> Result<Result<u64, String>, untorn::Error> {
    let mut records = Reader::open(&places.journal)?.records::<Record>();
    let mut numbers = Vec::new();
    for record in records.by_ref() {
        let record = record?;
        if record.mark.seq != Some(record.value.n) {
            return Ok(Err(format!("record {:?} says {}", record.mark.seq, record.value.n)));
        }
        numbers.push(record.value.n);
    }
    let is_in_order = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let (first, last) = (numbers.first().copied().unwrap_or(1), numbers.last().copied().unwrap_or(0));
    let first_kept = (last + 1).saturating_sub(KEPT).max(1);
    Ok(if !is_in_order {
        Err(format!("not in order: {numbers:?}"))
    } else if last < told.appended {
        Err(format!("{} was acknowledged, and {last} is the last", told.appended))
    } else if first > first_kept && first > 1 {
        Err(format!("{first} is the first, and {first_kept} had to be kept"))
    } else {
        Ok(last)
    })
}

fn check_snapshot(places: &Places, told: &Told, last: u64, seen: &mut Seen) -> Result<Result<(), String>, untorn::Error> {
    let restored = Snapshot::<Sum>::open(&places.snapshot, &places.journal)?.restore()?;
    let through = restored.as_ref().and_then(|restored| restored.through.seq).unwrap_or(0);
    seen.snapshots += usize::from(restored.is_some());
    Ok(if through < told.saved || through > last {
        Err(format!("a snapshot through {} was saved, {through} is restored, and {last} is the last record", told.saved))
    } else if restored.is_some_and(|restored| restored.state != Sum::through(through)) {
        Err(format!("the snapshot through {through} has another state"))
    } else {
        Ok(())
    })
}

fn check_checkpoint(places: &Places, told: &Told, last: u64, seen: &mut Seen) -> Result<Result<(), String>, untorn::Error> {
    let mut consumer = places.consumer()?;
    let mut restored = None;
    let mut first = None;
    while let Some(delivery) = consumer.next(Duration::ZERO)? {
        match delivery {
            Delivery::Restored(_, how) => restored = Some(how),
            Delivery::Record(_, record, _) if first.is_none() => first = record.mark.seq,
            _ => {}
        }
    }
    let consumed = first.map_or(last, |first| first - 1);
    let is_proved = restored == Some(Restored::Resumed);
    seen.checkpoints += usize::from(is_proved);
    Ok(match restored {
        _ if is_proved && (consumed < told.consumed || consumed > told.acknowledged) => {
            Err(format!("the checkpoint is {consumed}, {} was saved, and {} acknowledged", told.consumed, told.acknowledged))
        }
        _ if is_proved => Ok(()),
        Some(Restored::New) | None if told.consumed == 0 => Ok(()),
        other => Err(format!("{} was consumed, and now: {other:?}", told.consumed)),
    })
}

fn cut_once(kind: &Kind, chance: &mut Chance, seen: &mut Seen) -> Result<(), String> {
    let room = Mount::tmpfs(kind.mib + 16)?;
    let image = kind.image_in(room.path())?;
    let disk = Mount::image(&image, kind.options)?;
    let power = Power::default();
    let work_on = |numbers: Range<usize>, chance: &mut Chance| -> Vec<Told> {
        thread::scope(|scope| {
            let works: Vec<_> = numbers
                .map(|number| {
                    let (mut chance, power, dir) = (chance.fork(), &power, disk.path());
                    scope.spawn(move || work(dir, number, &mut chance, power))
                })
                .collect();
            works.into_iter().map(|work| work.join().unwrap()).collect()
        })
    };
    let (cut, told) = thread::scope(|scope| {
        let mut fork = chance.fork();
        let working = scope.spawn(move || work_on(0..THREADS * JOURNALS_PER_THREAD, &mut fork));
        thread::sleep(Duration::from_millis(chance.within(200..900)));
        let cut = power.cut(disk.path(), 1 + chance.within(0..4).min(1));
        (cut, working.join().unwrap())
    });
    cut?;
    disk.replace(&image, kind.options)?;
    for told in &told {
        if let Err(why) = check(disk.path(), told, seen) {
            panic!("journal {} on {}: {why}\n{told:?}", told.number, kind.name);
        }
    }
    Ok(())
}

/// F32, F38, F46, F48, S0-27, S0-47, S1-14, S3-08: the power is cut while history is moved and state is saved, and all that was told to be durable
/// is there.
#[test]
fn a_power_cut_while_history_is_kept_small_loses_nothing_that_was_kept() {
    let mut chance = Chance::new("power cuts of history");
    for kind in KINDS {
        let mut seen = Seen::default();
        let cuts = lane::pick(3, 60);
        if let Err(why) = (0..cuts).try_for_each(|_| cut_once(&kind, &mut chance, &mut seen)) {
            lane::skip(&format!("power cuts of history on {}", kind.name), &why);
            continue;
        }
        println!(
            "power cuts of history on {}: {cuts} cuts, {} journals of {} records in {} segments, {} snapshots, {} checkpoints, all there",
            kind.name, seen.journals, seen.records, seen.segments, seen.snapshots, seen.checkpoints
        );
    }
}
