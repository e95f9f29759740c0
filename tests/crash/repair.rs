//! A repair is crashed before every call, the repair that follows is crashed too, and the third one finds nothing lost and nothing to do.

use std::{collections::HashMap, path::Path};

use base64::Engine as _;
use untorn::{
    ErrorKind, RepairOptions, Undone, Writer,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk, Tear},
};

use crate::{crashes, lane};

const JOURNAL: &str = "/j/s.jsonl";
const QUARANTINE: &str = "/j/s.jsonl.quarantine";

/// A damaged file and what a repair makes of it: rewritten, cut in place, and cut in place with an LF behind.
const FILES: [(&str, &str); 3] = [
    ("{\"id\":1}\nx\n{\"id\":2,\"te{\"id\":3}\n\0\0{\"id\":4}{\"id\":5}\n{\"id\":6,", "{\"id\":1}\n{\"id\":3}\n{\"id\":4}\n{\"id\":5}\n"),
    ("{\"id\":1}\nx\n\0\0\0\n{\"id\":2,\"te", "{\"id\":1}\n"),
    ("{\"id\":1}\n{\"id\":2}\0\0\0\0", "{\"id\":1}\n{\"id\":2}\n"),
];

fn damaged(before: &str) -> SimDisk {
    let disk = SimDisk::new();
    disk.write_file(JOURNAL, before).unwrap();
    disk
}

fn options(disk: &SimDisk) -> RepairOptions {
    let mut options = RepairOptions::new();
    options.disk(disk);
    options
}

fn repair(disk: &SimDisk) -> untorn::Result<untorn::Repaired> {
    options(disk).plan(JOURNAL)?.apply()
}

/// The ranges that the repairs in the quarantine keep, each with how often one repair keeps it. A power cut may undo the cut that a repair made before it
/// was killed, after the next repair has seen it; then a third one keeps the same bytes again.
fn kept(disk: &SimDisk) -> HashMap<(u64, Vec<u8>), usize> {
    let text = disk.read_file(QUARANTINE).unwrap_or_default();
    let mut kept: HashMap<(u64, Vec<u8>), HashMap<String, usize>> = HashMap::new();
    let mut repair = serde_json::Value::Null;
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(entry) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        if entry.get("before_len").is_some() {
            repair = entry["repair"].clone();
        }
        let (Some(offset), Some(len)) = (entry["offset"].as_u64(), entry["len"].as_u64()) else { continue };
        let bytes = match (entry.get("text"), entry.get("base64")) {
            (Some(text), _) => text.as_str().unwrap().as_bytes().to_vec(),
            (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap(),
            (None, None) => vec![0; len as usize],
        };
        if entry["repair"] == repair {
            *kept.entry((offset, bytes)).or_default().entry(repair.to_string()).or_default() += 1;
        }
    }
    kept.into_iter().map(|(range, by_repair)| (range, by_repair.into_values().max().unwrap_or(0))).collect()
}

/// How many temporary files there are.
fn leftovers(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|name| name.to_string_lossy().contains("untorn-tmp")).count()
}

/// What must hold after any crash: the journal is whole in one of its states, and what it no longer has is kept.
fn holds(disk: &SimDisk, before: &str, after: &str, kept_ranges: &[(u64, Vec<u8>)]) {
    let now = disk.read_file(JOURNAL).expect("there is always a journal");
    // In place, the LF may get onto the disk without the cut before it, or the cut without the LF.
    let is_half_cut = before.starts_with(after.trim_end()) && now.starts_with(after.trim_end().as_bytes());
    assert!(now == before.as_bytes() || now == after.as_bytes() || is_half_cut, "{:?}", String::from_utf8_lossy(&now));
    if now != before.as_bytes() {
        let kept = kept(disk);
        for range in kept_ranges {
            assert_eq!(
                kept.get(range),
                Some(&1),
                "{range:?} is lost or doubled in\n{}",
                String::from_utf8_lossy(&disk.read_file(QUARANTINE).unwrap_or_default())
            );
        }
    }
}

/// F35, P4: crash inside a repair at every op, again inside the next one, and the third one is clean.
#[test]
fn a_repair_that_crashes_twice_anywhere_loses_no_byte() {
    let tears = vec![Tear::Cut, Tear::SizeBeforeData, Tear::Stale];
    let second = Bounds { stride: lane::pick(997, 61), tears, names_exhaustive_max: 2, names_sampled: 2, ..Bounds::default() };
    let mut states = 0;
    for (before, after) in FILES {
        // Noise in place of an LF makes the record before it doubtful, so that one goes to quarantine: no byte is lost, but the result is another.
        let adds_lf = before.starts_with(after.trim_end()) && !before.starts_with(after);
        let tears = Tear::ALL.iter().copied().filter(|tear| *tear != Tear::Garbage || !adds_lf).collect();
        let first = Bounds { stride: lane::pick(61, 1), tears, ..Bounds::default() };
        let disk = damaged(before);
        let plain = disk.kill();
        repair(&plain).unwrap();
        assert_eq!(plain.read_file(JOURNAL).unwrap(), after.as_bytes());
        let ranges: Vec<_> = kept(&plain).into_keys().collect();
        let bounds = [first, second.clone()];
        states += crashes::twice(
            &disk,
            &bounds,
            lane::pick(29, 1),
            |disk| drop(repair(disk)),
            |image| {
                holds(image, before, after, &ranges);
                finish(image, before, after, &ranges);
                image.read_file(JOURNAL).unwrap() != after.as_bytes()
            },
        );
    }
    println!("crashed repairs: {states} states");
}

/// Repairs what a crash left: the journal is as it should be, each removed byte is kept once, and no temporary file is left.
fn finish(image: &SimDisk, before: &str, after: &str, ranges: &[(u64, Vec<u8>)]) {
    let disk = image.kill();
    let was_done = disk.read_file(JOURNAL).unwrap() == after.as_bytes();
    repair(&disk).expect("a crash does not hinder the next repair");
    assert_eq!(String::from_utf8_lossy(&disk.read_file(JOURNAL).unwrap()), after);
    assert!(options(&disk).plan(JOURNAL).unwrap().is_empty(), "the third run is clean");
    holds(&disk, before, after, ranges);
    assert!(was_done || leftovers(&disk) == 0, "{:?}", disk.files());
    let backups = disk.files().into_iter().filter(|name| name.to_string_lossy().contains(".bak-"));
    assert!(backups.into_iter().all(|backup| disk.read_file(backup).unwrap() == before.as_bytes()), "{:?}", disk.files());
}

/// F35: an undo that crashes leaves the repaired journal or the original one, and can be done again.
#[test]
fn an_undo_that_crashes_leaves_one_of_the_two() {
    let bounds = Bounds::every(61);
    for (before, after) in FILES {
        let disk = damaged(before);
        repair(&disk).unwrap();
        disk.sync();
        let undo = |disk: &SimDisk| drop(options(disk).undo(JOURNAL));
        for index in 0..crashes::ops_of(&disk, undo) {
            for image in crashes::crashed_before(index, &disk, &bounds, undo) {
                let now = image.read_file(JOURNAL).unwrap();
                assert!(now == before.as_bytes() || now == after.as_bytes());
                let disk = image.kill();
                let undone = options(&disk).undo(JOURNAL).unwrap();
                assert_eq!(undone == Undone::Nothing, now == before.as_bytes());
                assert_eq!(disk.read_file(JOURNAL).unwrap(), before.as_bytes());
            }
        }
    }
}

/// P7: whichever call fails, the journal is whole in one of its states, and the next repair finishes the work.
#[test]
fn a_repair_survives_the_failure_of_any_one_call() {
    for (before, after) in FILES {
        let plain = damaged(before);
        repair(&plain).unwrap();
        let ranges: Vec<_> = kept(&plain).into_keys().collect();
        for (index, op) in plain.log().iter().enumerate() {
            for how in
                [How::Errno(5), How::Errno(28), How::Errno(1), How::Short(1), How::ErrorAfter { bytes: 3, errno: 5 }, How::SyncFailsAndDrops(5)]
            {
                let disk = damaged(before);
                disk.fail(Fault { at: OpMatch::nth(index), how });
                let result = repair(&disk);
                disk.heal();
                holds(&disk, before, after, &ranges);
                finish(&disk, before, after, &ranges);
                assert!(result.is_err() || leftovers(&disk) == 0 || op.kind == OpKind::Remove, "{op} {how:?}");
            }
        }
    }
}

/// F36: without room for the quarantine or the new file nothing is touched, and the error says so.
#[test]
fn a_full_disk_refuses_a_repair() {
    for (before, after) in FILES {
        for room in [0, 40, 200] {
            let disk = damaged(before);
            disk.set_capacity(Some(before.len() + room));
            let error = repair(&disk).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert_eq!(disk.read_file(JOURNAL).unwrap(), before.as_bytes());
            disk.set_capacity(None);
            repair(&disk).unwrap();
            assert_eq!(disk.read_file(JOURNAL).unwrap(), after.as_bytes());
        }
    }
}

/// F37: in a directory that may only be read a repair can be planned and not done.
#[test]
fn a_read_only_directory_refuses_a_repair() {
    for (before, _) in FILES {
        let disk = SimDisk::new();
        disk.mkdir("/j").unwrap();
        disk.write_file(JOURNAL, before).unwrap();
        disk.set_mode("/j", 0o555).unwrap();
        let plan = options(&disk).plan(JOURNAL).unwrap();
        assert!(!plan.is_empty());
        assert_eq!(plan.apply().unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!((disk.read_file(JOURNAL).unwrap(), disk.read_file(QUARANTINE)), (before.as_bytes().to_vec(), None));
    }
}

/// What a stranger writes into the old file while it is replaced is taken over: whole lines into the journal, anything else into quarantine.
#[test]
fn bytes_that_arrive_during_a_forced_swap_are_kept() {
    let (before, after) = ("{\"id\":1}\nx\n{\"id\":2}\n", "{\"id\":1}\n{\"id\":2}\n");
    for (late, in_journal) in [("{\"id\":3}\n", true), ("{\"id\":3}\n\n{\"id\":4}\n", true), ("{\"id\":3}\n{\"to", false), ("z\n", false)] {
        let disk = damaged(before);
        let stranger = disk.as_process(7, "logger").open_raw(JOURNAL).unwrap();
        let plan = options(&disk).plan(JOURNAL).unwrap();
        let error = plan.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stranger);
        assert!(error.to_string().contains("process 7 (logger)"), "{error}");
        disk.before(OpMatch::nth_of(OpKind::Rename, 0), move |_| stranger.append(late).unwrap());
        let repaired = options(&disk).force().plan(JOURNAL).unwrap().apply().unwrap();
        assert_eq!((repaired.late_bytes, repaired.remaining), (late.len() as u64, 0));
        let journal = String::from_utf8(disk.read_file(JOURNAL).unwrap()).unwrap();
        assert_eq!(journal, if in_journal { format!("{after}{late}") } else { after.to_owned() });
        let quarantined = kept(&disk).contains_key(&(after.len() as u64, late.as_bytes().to_vec()));
        assert_eq!(quarantined, !in_journal);
        assert!(disk.read_file(Path::new(&repaired.backup.unwrap())).unwrap().ends_with(late.as_bytes()));
    }
}

/// What a process without the lock appended while a repair was taken back went away with the replaced file, and what it appended while a torn end was
/// moved to quarantine was cut off with that.
#[test]
fn what_a_stranger_appends_before_any_call_is_kept() {
    let open = |disk: &SimDisk| Writer::options().disk(disk).open(JOURNAL).map(drop);
    let undo = |disk: &SimDisk| options(disk).undo(JOURNAL).map(drop);
    for (before, _) in FILES {
        appended_before_any_call(&damaged(before), |disk| repair(disk).map(drop));
        appended_before_any_call(&damaged(before), open);
        let repaired = damaged(before);
        repair(&repaired).unwrap();
        appended_before_any_call(&repaired, undo);
    }
}

fn appended_before_any_call(disk: &SimDisk, change: impl Fn(&SimDisk) -> untorn::Result<()>) {
    for index in 0..crashes::ops_of(disk, |disk| change(disk).unwrap()) {
        for words in ["{\"late\":1}\n", "{\"late\":"] {
            let disk = disk.kill();
            disk.before(OpMatch::nth(index), move |disk| disk.append_raw(JOURNAL, words).unwrap());
            let result = change(&disk);
            assert!(result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Changed), "{result:?}");
            let has_them = |bytes: &[u8]| bytes.windows(words.len()).any(|bytes| bytes == words.as_bytes());
            let are_there = has_them(&disk.read_file(JOURNAL).unwrap()) || kept(&disk).keys().any(|(_, bytes)| has_them(bytes));
            // No system call cuts "only if the size is still n".
            assert!(are_there || disk.log()[index].kind == OpKind::Cut, "{words} before {} is gone", disk.log()[index]);
        }
    }
}

/// What a stranger appended to a journal that is torn again when its repair is taken back gets a line of its own.
#[test]
fn an_original_is_not_glued_to_what_arrived_meanwhile() {
    for (before, after) in FILES {
        let disk = damaged(before);
        repair(&disk).unwrap();
        let disk = disk.kill();
        disk.before(OpMatch::nth_of(OpKind::Rename, 0), |disk| disk.append_raw(JOURNAL, "{\"late\":1}\n").unwrap());
        let Undone::Restored { late_bytes, .. } = options(&disk).undo(JOURNAL).unwrap() else { panic!("it was {after} when it was looked at") };
        assert_eq!(late_bytes, 11);
        assert_eq!(String::from_utf8(disk.read_file(JOURNAL).unwrap()).unwrap(), format!("{before}\n{{\"late\":1}}\n"));
    }
}

/// A quarantine that had lost all that was cut off was told as one that names no repair; one bit of the offset of an added LF gave a file that never
/// was; and an offset that no file has ended in a panic.
#[test]
fn an_altered_quarantine_gives_the_original_or_is_refused() {
    for (before, after) in FILES {
        let disk = damaged(before);
        repair(&disk).unwrap();
        let quarantine = disk.read_file(QUARANTINE).unwrap();
        let name = quarantine.split_inclusive(|byte| *byte == b'\n').next().unwrap();
        for altered in alterations(&quarantine) {
            let disk = disk.kill();
            disk.write_file(QUARANTINE, altered.clone()).unwrap();
            let undone = options(&disk).undo(JOURNAL);
            let now = disk.read_file(JOURNAL).unwrap();
            let is_right = match &undone {
                Ok(Undone::Restored { .. }) => now == before.as_bytes(),
                // What the line that names the repair says proves all the others.
                Ok(Undone::Nothing) => !altered.starts_with(name) && now == after.as_bytes(),
                Ok(_) => false,
                Err(error) => error.kind() == ErrorKind::Corrupt && now == after.as_bytes(),
            };
            assert!(is_right, "{undone:?} with {}", altered.escape_ascii());
        }
    }
}

/// Each bit flipped, each number as large as can be, each line missing or doubled, and the end missing from each byte on.
fn alterations(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for at in 0..bytes.len() {
        all.push(bytes[..at].to_vec());
        all.extend((0..8).map(|bit| {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            flipped
        }));
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        all.push([&bytes[..at], b"18446744073709551615", &bytes[at + digits..]].concat());
    }
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        all.push([lines[..at].concat(), lines[at + 1..].concat()].concat());
        all.push([lines[..=at].concat(), lines[at..].concat()].concat());
    }
    all
}
