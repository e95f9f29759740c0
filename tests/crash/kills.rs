//! Several processes append to one journal and are killed at random, in the middle of what they do. On tmpfs a kill tears a large write in two.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use crate::{
    appender::{Appender, feed},
    chance::Chance,
    lane,
    mount::{Kind, Mount},
    promises::{self, Line},
};

const PROCESSES: usize = 4;

/// How many are killed before the journal is looked at and another one begun.
const KILLS_PER_JOURNAL: usize = 120;

const EXT4: Kind = Kind { name: "ext4", mkfs: &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1"], options: "rw", mib: 1024 };

/// What was acknowledged of one journal: each record under its number, by its CRC.
type Ledger = Mutex<HashMap<u64, u32>>;

#[derive(Default)]
struct Seen {
    kills: usize,
    records: usize,
    acknowledged: usize,
    repairs: usize,
}

/// A record that no other is equal to: mostly short, some over a page, a few of up to 300 KB.
fn record(name: &str, n: u64, chance: &mut Chance) -> String {
    let len = match chance.within(0..40) {
        0 => chance.within(70_000..300_000),
        1..8 => chance.within(4_000..70_000),
        _ => chance.within(1..1000),
    };
    format!("{{\"id\":\"{name}-{n}\",\"text\":\"{}\"}}", "x".repeat(len as usize))
}

/// Starts an appender, feeds it as fast as it reads, and kills it after a few milliseconds.
fn append_and_be_killed(journal: &Path, name: &str, chance: &mut Chance, ledger: &Ledger) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_untorn"));
    let appender = Appender::spawn(command.args(["append", "--json"]).arg(journal));
    let Appender { mut child, mut records, acknowledgements, .. } = appender;
    let (mut fed, life) = (chance.fork(), Duration::from_micros(chance.within(500..20_000)));
    thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            let mut crcs = Vec::new();
            loop {
                let record = record(name, crcs.len() as u64, &mut fed);
                crcs.push(crc32fast::hash(record.as_bytes()));
                if !feed(&mut records, &record) {
                    return crcs;
                }
            }
        });
        let hearing = scope.spawn(|| acknowledgements.collect::<Vec<u64>>());
        thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = hearing.join().unwrap();
        let mut ledger = ledger.lock().unwrap();
        for (seq, crc) in acknowledged.into_iter().zip(feeding.join().unwrap()) {
            assert_eq!(ledger.insert(seq, crc), None, "#{seq} was given twice");
        }
    });
}

/// Every acknowledged record is there under its number, no record twice, no number twice, and none on a line with another.
fn check(bytes: &[u8], ledger: &HashMap<u64, u32>, seen: &mut Seen) -> Result<(), String> {
    let (mut found, mut payloads) = (HashMap::new(), HashSet::new());
    let mut last = 0;
    for line in promises::lines(bytes) {
        match line {
            Line::Sealed { seq, payload, .. } => {
                let crc = crc32fast::hash(payload.as_bytes());
                if seq <= last {
                    return Err(format!("#{seq} behind #{last}"));
                }
                last = seq;
                if !payloads.insert(payload) {
                    return Err(format!("#{seq} is there a second time"));
                }
                found.insert(seq, crc);
            }
            Line::Other(bytes) if memchr::memmem::find_iter(&bytes, "{\"id\":").count() > 1 => return Err("two records share a line".to_owned()),
            Line::Other(_) => {}
        }
    }
    seen.records += found.len();
    seen.acknowledged += ledger.len();
    match ledger.iter().find(|(seq, crc)| found.get(seq) != Some(crc)) {
        Some((seq, _)) => Err(format!("#{seq} was acknowledged, and {:?} is there", found.get(seq))),
        None => Ok(()),
    }
}

/// Kills processes at journals in `dir`, one journal after the other, for so long.
fn soak(dir: &Path, time: Duration, chance: &mut Chance) -> Seen {
    let mut seen = Seen::default();
    let until = Instant::now() + time;
    let journal = dir.join("session.jsonl");
    let quarantine = dir.join("session.jsonl.quarantine");
    while Instant::now() < until {
        let ledger = Ledger::default();
        thread::scope(|scope| {
            for process in 0..PROCESSES {
                let (mut chance, journal, ledger) = (chance.fork(), &journal, &ledger);
                scope.spawn(move || {
                    for life in 0..KILLS_PER_JOURNAL / PROCESSES {
                        append_and_be_killed(journal, &format!("{process}-{life}"), &mut chance, ledger);
                    }
                });
            }
        });
        seen.kills += KILLS_PER_JOURNAL;
        // On a machine so slow that none of them came to create it there is no file.
        let bytes = fs::read(&journal).unwrap_or_default();
        check(&bytes, &ledger.into_inner().unwrap(), &mut seen).unwrap_or_else(|why| panic!("{why}"));
        seen.repairs += fs::read_to_string(&quarantine).unwrap_or_default().matches("\"before_len\"").count();
        let _ = fs::remove_file(&journal);
        let _ = fs::remove_file(&quarantine);
    }
    seen
}

/// The file system, behind the one that its image is in.
fn ext4() -> Result<(Option<Mount>, Mount), String> {
    let room = Mount::tmpfs(EXT4.mib + 64)?;
    let image = EXT4.image_in(room.path())?;
    Mount::image(&image, EXT4.options).map(|disk| (Some(room), disk))
}

/// F20, F21, F22, F23, F45, P1, P2: whatever is killed, each acknowledged record is there once, under its number, on a line of its own.
#[test]
fn whoever_is_killed_every_acknowledged_record_is_there_once() {
    let mut chance = Chance::new("kills");
    let disks = [("tmpfs", Mount::tmpfs(1024).map(|disk| (None, disk))), ("ext4", ext4())];
    for (name, disk) in disks {
        match disk {
            Ok((_room, disk)) => {
                let seen = soak(disk.path(), Duration::from_secs(lane::pick(20, 300)), &mut chance);
                let Seen { kills, records, acknowledged, repairs } = seen;
                println!("kills on {name}: {kills} kills, {records} records, {acknowledged} acknowledged, all there; {repairs} torn tails repaired");
            }
            Err(why) => lane::skip(&format!("kills on {name}"), &why),
        }
    }
}

/// Does one random thing to the history of the journal, and is perhaps killed in the middle of it. Returns whether it was done.
fn tidy_and_be_killed(journal: &Path, chance: &mut Chance) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_untorn"));
    match chance.within(0..6) {
        0 | 1 => command.arg("rotate"),
        2 | 3 => command.args(["archive", "--keep-last", &chance.within(1..20).to_string()]),
        4 => command.args(["archive", "--zstd", "--keep-last", "5"]),
        _ => command.args(["prune", "--no-consumers", "--keep-records", "150"]),
    };
    let mut child = command.arg(journal).stderr(std::process::Stdio::null()).spawn().unwrap();
    if chance.within(0..3) > 0 {
        thread::sleep(Duration::from_micros(chance.within(500..30_000)));
        child.kill().unwrap();
    }
    child.wait().unwrap().success()
}

/// Every acknowledged record that is still kept is read once, under its number and in order, however the segments were moved about.
fn check_whole(journal: &Path, ledger: &HashMap<u64, u32>, seen: &mut Seen) -> Result<u64, String> {
    let mut records = untorn::Reader::open(journal).map_err(|error| format!("{error:?}"))?.records::<Box<serde_json::value::RawValue>>();
    let (mut found, mut payloads, mut last) = (HashMap::new(), HashSet::new(), 0);
    for record in records.by_ref() {
        let record = record.map_err(|error| format!("{error:?}"))?;
        let seq = record.mark.seq.ok_or("a plain record")?;
        if seq <= last {
            return Err(format!("#{seq} behind #{last}"));
        }
        last = seq;
        found.insert(seq, crc32fast::hash(record.value.get().as_bytes()));
        if !payloads.insert(record.value.get().to_owned()) {
            return Err(format!("#{seq} is there a second time"));
        }
    }
    let first = found.keys().min().copied().unwrap_or(u64::MAX);
    seen.records += found.len();
    seen.acknowledged += ledger.len();
    match ledger.iter().find(|(seq, crc)| **seq >= first && found.get(seq) != Some(crc)) {
        Some((seq, _)) => Err(format!("#{seq} was acknowledged, and {:?} is there; kept from #{first}", found.get(seq))),
        None => Ok(first),
    }
}

/// S3-03, S3-08, S3-09, F46, F47, F48: three processes append while another one rotates, archives, compresses and prunes, and all are killed at random.
#[test]
fn whatever_is_rotated_archived_and_pruned_meanwhile_every_record_is_read_once() {
    let mut chance = Chance::new("history");
    let disk = match Mount::tmpfs(1024) {
        Ok(disk) => disk,
        Err(why) => return lane::skip("kills beside rotation, archive and prune", &why),
    };
    let until = Instant::now() + Duration::from_secs(lane::pick(20, 300));
    let (mut seen, mut done, mut tries, mut pruned, mut journals) = (Seen::default(), 0, 0, 0, 0);
    while Instant::now() < until {
        let dir = tempfile::tempdir_in(disk.path()).unwrap();
        let journal = dir.path().join("session.jsonl");
        let ledger = Ledger::default();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let appending: Vec<_> = (0..3)
                .map(|process| {
                    let (mut chance, journal, ledger) = (chance.fork(), &journal, &ledger);
                    scope.spawn(move || {
                        (0..25).for_each(|life| append_and_be_killed(journal, &format!("{process}-{life}"), &mut chance, ledger));
                    })
                })
                .collect();
            let (mut chance, journal, is_over) = (chance.fork(), &journal, &is_over);
            let tidying = scope.spawn(move || {
                let (mut done, mut tries) = (0, 0);
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    tries += 1;
                    done += usize::from(tidy_and_be_killed(journal, &mut chance));
                }
                (done, tries)
            });
            appending.into_iter().for_each(|appending| appending.join().unwrap());
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            let (did, tried) = tidying.join().unwrap();
            done += did;
            tries += tried;
        });
        seen.kills += 75;
        journals += 1;
        let ledger = ledger.into_inner().unwrap();
        // On a machine so slow that none of them came to create it there is nothing to check.
        if ledger.is_empty() && !journal.exists() {
            continue;
        }
        let first = check_whole(&journal, &ledger, &mut seen).unwrap_or_else(|why| panic!("{why}"));
        pruned += usize::from(first > 1);
        // Whoever comes next finishes what was begun, and nothing of it changes what is read.
        untorn::archive(&journal, untorn::Before::Last(3)).unwrap();
        assert_eq!(check_whole(&journal, &ledger, &mut Seen::default()), Ok(first));
    }
    let Seen { kills, records, acknowledged, .. } = seen;
    println!(
        "kills beside rotation, archive and prune: {journals} journals, {kills} appenders killed, {done} of {tries} tidying processes were through, {pruned} journals \
         pruned; {acknowledged} records acknowledged, {records} kept, each read once"
    );
}
