//! Several processes at one journal, and some of them killed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Appender, Place, append, assert_clean, numbered};

/// S2-09, S2-11: several processes append to one journal, and every record is there once, in order per writer, numbered without a gap.
#[test]
fn six_processes_share_one_journal() {
    const RECORDS: u64 = 200;
    let place = Place::new();
    thread::scope(|scope| {
        for writer in 0..6 {
            let path = place.path();
            scope.spawn(move || {
                let mut appender = Appender::start(&path, &[]);
                // One at a time, so that the writers take turns.
                for n in 0..RECORDS {
                    appender.feed(&json!({"writer": writer, "n": n}).to_string());
                    assert!(appender.acknowledged().is_some());
                }
                assert_eq!(appender.finish(), Some(0));
            });
        }
    });
    let records = numbered(&place.path());
    assert!(records.iter().map(|(seq, _)| *seq).eq(1..=6 * RECORDS));
    for writer in 0..6 {
        let own = records.iter().filter(|(_, record)| record["writer"] == writer).map(|(_, record)| record["n"].as_u64().unwrap());
        assert!(own.eq(0..RECORDS), "writer {writer}");
    }
    assert_clean(&place.path());
}

/// What one writer was told, or may have done without being told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<u64, Value>,
}

/// Feeds records to an appender and kills it in the middle; or lets it finish.
fn append_some(path: &Path, writer: &str, records: std::ops::Range<u64>, kill_after: Option<u64>, told: &mut Told) {
    let mut appender = Appender::start(path, &[]);
    let record = |n: u64| json!({"writer": writer, "n": n, "text": "x".repeat((n * 7919 % 9000) as usize)});
    let mut acknowledged = records.clone();
    for n in records.clone() {
        appender.feed(&record(n).to_string());
        if n == records.start && kill_after.is_some_and(|after| after % 2 == 1) {
            // Half of them are killed as soon as they can be, the others when they are at work.
            let seq = appender.acknowledged().unwrap();
            told.acknowledged.insert(seq, record(n));
            acknowledged.next();
        }
        if n % 4 == 3 {
            // Groups of several lines come in while the last ones are being synced.
            continue;
        }
        if kill_after.is_some_and(|after| n - records.start >= after) {
            appender.child.kill().unwrap();
            break;
        }
    }
    if kill_after.is_none() {
        let Appender { mut child, stdin, acknowledgements } = appender;
        drop(stdin);
        read_all(acknowledgements, &mut acknowledged, record, told);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(acknowledged.next(), None, "{writer} was not told of all its records");
    } else {
        let Appender { mut child, acknowledgements, .. } = appender;
        read_all(acknowledgements, &mut acknowledged, record, told);
        child.wait().unwrap();
    }
}

fn read_all(acknowledgements: impl std::io::BufRead, records: &mut std::ops::Range<u64>, record: impl Fn(u64) -> Value, told: &mut Told) {
    for line in acknowledgements.lines() {
        // A kill may cut the last acknowledgement short; it was not given then.
        let Ok(object) = serde_json::from_str::<Value>(&line.unwrap()) else { return };
        let n = records.next().expect("one acknowledgement for each record");
        told.acknowledged.insert(object["seq"].as_u64().unwrap(), record(n));
    }
}

/// P1, P2, S2-36: whatever is killed, every acknowledged record is there under its number, and nothing is glued.
#[test]
fn whatever_is_killed_every_acknowledged_record_is_there() {
    let place = Place::new();
    let path = place.path();
    let over = AtomicBool::new(false);
    let (killed, beside) = thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut told = Told::default();
            let mut next = 0;
            while !over.load(Ordering::Relaxed) {
                append_some(&path, "beside", next..next + 20, None, &mut told);
                next += 20;
            }
            told
        });
        let mut told = Told::default();
        for round in 0..25 {
            append_some(&path, "killed", round * 100..round * 100 + 100, Some(round * 31 % 90), &mut told);
        }
        over.store(true, Ordering::Relaxed);
        (told, beside.join().unwrap())
    });
    assert!(append(&path, b"{\"last\":true}\n").code == Some(0));
    let found: BTreeMap<u64, Value> = numbered(&path).into_iter().collect();
    for (seq, record) in killed.acknowledged.iter().chain(&beside.acknowledged) {
        assert_eq!(found.get(seq), Some(record), "#{seq}");
    }
    assert!(!killed.acknowledged.is_empty());
    assert_clean(&path);
}
