//! Snapshots: what is saved, what is given back, and what no failure takes away.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use untorn::{
    Error, ErrorKind, Lock, LockWait, Mark, Record, Result, Resumed, Snapshot, SnapshotObserver, Writer, internals,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk},
};

const JOURNAL: &str = "/j/session.jsonl";
const PATH: &str = "/j/session.snapshot";
const PREVIOUS: &str = "/j/session.snapshot.previous";

/// A state with a number, and something nested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    records: u64,
    by_kind: BTreeMap<String, Vec<u64>>,
}

impl State {
    /// What folding the first `records` records of [`journal`] gives.
    fn after(records: u64) -> State {
        let mut state = State::default();
        (1..=records).for_each(|n| state.add(n));
        state
    }

    fn add(&mut self, n: u64) {
        self.records += 1;
        self.by_kind.entry(if n.is_multiple_of(2) { "even" } else { "odd" }.to_owned()).or_default().push(n);
    }
}

fn fold(state: &mut State, record: Result<Record<u64>>) -> Result<()> {
    state.add(record?.value);
    Ok(())
}

fn append(disk: &SimDisk, numbers: std::ops::RangeInclusive<u64>) -> Vec<Mark> {
    let mut writer = Writer::options().disk(disk).open(JOURNAL).unwrap();
    numbers.map(|n| writer.append(&n).unwrap().mark()).collect()
}

/// A journal of so many records, 1, 2, 3…, all durable, and their marks.
fn journal(records: u64) -> (SimDisk, Vec<Mark>) {
    let disk = SimDisk::new();
    let marks = append(&disk, 1..=records);
    (disk, marks)
}

/// A journal of six records with two generations: through records 2 and 4.
fn saved_twice() -> (SimDisk, Vec<Mark>) {
    let (disk, marks) = journal(6);
    let mut snapshot = snapshot(&disk);
    snapshot.save(&State::after(2), marks[1]).unwrap();
    snapshot.save(&State::after(4), marks[3]).unwrap();
    disk.sync();
    (disk, marks)
}

fn snapshot<S: Serialize + DeserializeOwned>(disk: &SimDisk) -> Snapshot<S> {
    Snapshot::open_on(disk, PATH, JOURNAL).unwrap()
}

/// The state restored, and whether it is the newest generation.
fn restored(disk: &SimDisk) -> Result<Option<(State, bool)>> {
    Ok(snapshot(disk).restore()?.map(|restored| (restored.state, restored.fell_back.is_none())))
}

fn recovered(disk: &SimDisk) -> Result<State> {
    let mut resumed = Writer::options().disk(disk).resume(JOURNAL)?;
    snapshot(disk).recover(&mut resumed, fold)
}

/// S1-01, S1-22: what was saved comes back, small and nested, with the record that it covers.
#[test]
fn a_saved_state_comes_back() {
    let (disk, marks) = journal(3);
    let mut small = snapshot(&disk);
    small.save(&7_u8, marks[0]).unwrap();
    let restored = Snapshot::<u8>::open_on(&disk, PATH, JOURNAL).unwrap().restore().unwrap().unwrap();
    assert_eq!((restored.state, restored.through, restored.is_proved, restored.fell_back.is_none()), (7, marks[0], true, true));
    let mut nested = Snapshot::open_on(&disk, "/j/nested", JOURNAL).unwrap();
    nested.save(&State::after(3), marks[2]).unwrap();
    assert_eq!(nested.restore().unwrap().unwrap().state, State::after(3));
    let mut nothing = Snapshot::<Option<()>>::open_on(&disk, "/j/nothing", JOURNAL).unwrap();
    nothing.save(&None, marks[0]).unwrap();
    assert_eq!(nothing.restore().unwrap().unwrap().state, None);
}

/// S1-04: opening writes nothing, and what changes in memory stays there until it is saved.
#[test]
fn nothing_is_written_before_a_save() {
    let (disk, marks) = journal(2);
    let mut snapshot = snapshot(&disk);
    assert!(snapshot.restore().unwrap().is_none());
    assert_eq!(disk.read_file(PATH), None);
    let mut state = State::after(1);
    snapshot.save(&state, marks[0]).unwrap();
    let before = disk.read_file(PATH);
    state.add(2);
    assert_eq!(disk.read_file(PATH), before);
    assert_eq!(restored(&disk).unwrap(), Some((State::after(1), true)));
}

/// S1-19, S1-21: a save is durable when it returns, the journal that it covers too, and the generation before it is kept.
#[test]
fn a_save_is_durable_with_what_it_covers() {
    let disk = SimDisk::new();
    let mut options = Writer::options();
    options.disk(&disk).durability(untorn::Durability::Os);
    let mut writer = options.open(JOURNAL).unwrap();
    let marks: Vec<Mark> = (1..=4_u64).map(|n| writer.append(&n).unwrap().mark()).collect();
    snapshot(&disk).save(&State::after(2), marks[1]).unwrap();
    let first = disk.crash_now();
    assert_eq!(restored(&first).unwrap(), Some((State::after(2), true)));
    snapshot(&disk).save(&State::after(4), marks[3]).unwrap();
    let second = disk.crash_now();
    assert_eq!(restored(&second).unwrap(), Some((State::after(4), true)));
    assert_eq!(disk.durable_file(PREVIOUS), first.read_file(PATH));
}

/// S1-02, S1-03, S1-15 to S1-17, S1-20: whatever is wrong with the newest generation, the error names it, and the one before is used.
#[test]
fn a_hostile_snapshot_is_named_and_the_one_before_is_used() {
    let (disk, _) = saved_twice();
    let good = disk.read_file(PATH).unwrap();
    let end = good.iter().position(|byte| *byte == b'\n').unwrap();
    let mut line: serde_json::Value = serde_json::from_slice(&good[..end]).unwrap();
    let generation = line["_seq"].as_u64().unwrap();
    ["_seq", "_crc"].iter().for_each(|member| drop(line.as_object_mut().unwrap().remove(*member)));
    let state = &good[end + 1..];
    let with = |member: &str, value: serde_json::Value| {
        let mut header = line.clone();
        header[member] = value;
        [internals::sealed(header.to_string().as_bytes(), generation, 0), state.to_vec()].concat()
    };
    let there = state.len();
    let long = format!("the header says {} bytes of state, and {there} are there", u64::MAX);
    let too_long = format!("the header says {there} bytes of state, and {there} are there");
    let cases: Vec<(Vec<u8>, ErrorKind, &str)> = vec![
        (with("length", u64::MAX.into()), ErrorKind::Corrupt, &long),
        (with("length", there.into()), ErrorKind::Corrupt, &too_long),
        (with("length", 0.into()), ErrorKind::Corrupt, "bytes stand behind the state"),
        (with("length", (-1).into()), ErrorKind::Corrupt, "its first line is no header"),
        (with("untorn", "checkpoint".into()), ErrorKind::Corrupt, "its magic is \"checkpoint\", not \"snapshot\""),
        (with("version", 2.into()), ErrorKind::NewerFormat, "it has version 2"),
        (with("version", u64::MAX.into()), ErrorKind::NewerFormat, "it has version 18446744073709551615"),
        (with("crc", "00000000".into()), ErrorKind::Corrupt, "the header says CRC 00000000"),
        (with("crc", "x".into()), ErrorKind::Corrupt, "the header's CRC is no number"),
        (with("through", 1.into()), ErrorKind::Corrupt, "its first line is no header"),
        ([&good[..], b"x"].concat(), ErrorKind::Corrupt, "1 bytes stand behind the state"),
        ([&good[..], b"{}\n"].concat(), ErrorKind::Corrupt, "3 bytes stand behind the state"),
        (b"SQLite format 3\0".to_vec(), ErrorKind::Corrupt, "its first line has no end"),
        (b"{\"a\":1}\n".to_vec(), ErrorKind::Corrupt, "its first line is no sealed header"),
        (internals::sealed(b"{\"a\":1}", 1, 0), ErrorKind::Corrupt, "its first line is no header"),
        (Vec::new(), ErrorKind::Corrupt, "it is empty"),
        (vec![0; 1 << 20], ErrorKind::Corrupt, "its first line has no end"),
    ];
    for (bytes, kind, why) in cases {
        disk.write_file(PATH, bytes).unwrap();
        let mut snapshot = snapshot::<State>(&disk);
        let found = snapshot.restore().unwrap().unwrap();
        let error = found.fell_back.unwrap();
        assert!(error.kind() == kind && error.to_string().contains(why), "{error} instead of {why}");
        assert_eq!((found.state, snapshot.refused().map(ToString::to_string)), (State::after(2), Some(error.to_string())));
        // A newer version's snapshot stays; of anything else the next save gets rid, and the one before is kept.
        let saved = snapshot.save(&State::after(2), found.through);
        if kind == ErrorKind::NewerFormat {
            assert_eq!(saved.unwrap_err().kind(), kind);
        } else {
            saved.unwrap();
            assert_eq!(restored(&disk).unwrap(), Some((State::after(2), true)));
        }
        // Without the one before, the error is all there is.
        disk.write_file(PATH, with("length", u64::MAX.into())).unwrap();
        disk.write_file(PREVIOUS, "").unwrap();
        assert!(restored(&disk).unwrap_err().to_string().contains(&long));
        let (fresh, _) = saved_twice();
        disk.write_file(PREVIOUS, fresh.read_file(PREVIOUS).unwrap()).unwrap();
    }
}

/// S1-15: any flipped bit and any cut shows.
#[test]
fn any_flipped_bit_and_any_cut_falls_back() {
    let (disk, _) = saved_twice();
    let good = disk.read_file(PATH).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.write_file(PATH, bytes).unwrap();
        assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "bit {bit}");
    }
    for len in 0..good.len() {
        disk.write_file(PATH, &good[..len]).unwrap();
        assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "{len} bytes");
    }
    disk.remove(PATH).unwrap();
    assert_eq!(restored(&disk).unwrap(), Some((State::after(2), false)), "missing");
}

/// S1-16: what the header says is compared with the size of the file before memory is taken for it: so few bytes are read.
#[test]
fn a_hostile_length_is_not_believed() {
    let (disk, _) = saved_twice();
    let mut bytes = disk.read_file(PATH).unwrap();
    bytes.extend(vec![b' '; 8 << 20]);
    disk.write_file(PATH, bytes).unwrap();
    let before = disk.ops();
    restored(&disk).unwrap();
    let reads: u64 = disk.log()[before..].iter().filter(|op| op.path.starts_with(PATH)).filter_map(|op| op.len).max().unwrap();
    assert!(reads <= 64 << 10, "{reads} bytes at once");
}

/// S1-13: a state that is too long is refused before a byte is written.
#[test]
fn a_state_that_is_too_long_leaves_the_last_one_alone() {
    let (disk, marks) = saved_twice();
    let (files, before) = (disk.files(), disk.read_file(PATH));
    let mut small = snapshot(&disk);
    small.bytes_max(200);
    let from = disk.ops();
    let error = small.save(&vec!["x".repeat(90); 3], marks[5]).unwrap_err();
    assert_eq!((error.kind(), error.path().unwrap().to_str()), (ErrorKind::TooLong, Some(PATH)));
    assert!(disk.log()[from..].iter().all(|op| op.kind != OpKind::Write), "{:?}", &disk.log()[from..]);
    assert_eq!((disk.files(), disk.read_file(PATH)), (files, before));
    small.save(&vec!["x".repeat(90); 2], marks[5]).unwrap();
    assert_eq!(small.restore().unwrap().unwrap().state.len(), 2);
    let mut smaller = Snapshot::<Vec<String>>::open_on(&disk, PATH, JOURNAL).unwrap();
    assert_eq!(smaller.bytes_max(100).restore().unwrap_err().kind(), ErrorKind::Decode, "the one before is another type's");
}

/// What an observer was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Observer {
    told: Told,
    panics: bool,
}

impl Observer {
    fn tell(&self, what: &str, id: &str) {
        self.told.0.lock().unwrap().push(format!("{what} {id}"));
        if self.panics {
            std::panic::resume_unwind(Box::new("the observer panics"));
        }
    }
}

impl SnapshotObserver for Observer {
    fn on_flush_start(&self, id: &str) {
        self.tell("start", id);
    }

    fn on_flush_complete(&self, id: &str) {
        self.tell("complete", id);
    }
}

/// A state that does what a test wants when it is serialised.
struct Acts(fn());

impl Serialize for Acts {
    fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        (self.0)();
        Err(serde::ser::Error::custom("it cannot be serialised"))
    }
}

impl<'de> Deserialize<'de> for Acts {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Acts, D::Error> {
        Ok(Acts(|| {}))
    }
}

const ONCE: [&str; 2] = ["start stage", "complete stage"];

/// S1-05, S1-06, S1-07, S1-11, S1-18: the observer is told of every save, start first and end last, once each; nobody is told without one, and
/// restoring does not forget it.
#[test]
fn an_observer_brackets_every_save() {
    let (disk, marks) = journal(3);
    let mut snapshot = snapshot(&disk);
    snapshot.save(&State::after(1), marks[0]).unwrap();
    let told = Told::default();
    snapshot.observer("stage", Observer { told: told.clone(), panics: false });
    assert_eq!(told.take(), [""; 0]);
    let seen = told.clone();
    let count = move |_: &SimDisk| seen.0.lock().unwrap().push("writes".to_owned());
    disk.before(OpMatch::nth_of(OpKind::CreateAppend, disk.log().iter().filter(|op| op.kind == OpKind::CreateAppend).count()), count);
    snapshot.save(&State::after(2), marks[1]).unwrap();
    assert_eq!(told.take(), ["start stage", "writes", "complete stage"]);
    snapshot.restore().unwrap().unwrap();
    assert_eq!(told.take(), [""; 0], "restoring is no save");
    snapshot.save(&State::after(3), marks[2]).unwrap();
    assert_eq!(told.take(), ONCE);
}

/// S1-08, S1-12, S1-14: whatever call fails, the end is told once, the error is returned, and the state is the old one or the new one.
#[test]
fn any_call_may_fail_and_the_last_good_state_stays() {
    let (before, marks) = saved_twice();
    let save = |disk: &SimDisk, told: &Told| {
        let mut snapshot = snapshot(disk);
        snapshot.observer("stage", Observer { told: told.clone(), panics: false });
        let from = disk.ops();
        (snapshot.save(&State::after(6), marks[5]), from, snapshot)
    };
    let probe = before.kill();
    let (saved, from, _) = save(&probe, &Told::default());
    saved.unwrap();
    let mut refused = 0;
    for op in from..probe.ops() {
        for errno in [1, 5, 13, 24, 28, 30, 37] {
            for how in [How::Errno(errno), How::Short(3), How::ErrorAfter { bytes: 100, errno }] {
                let (disk, told) = (before.kill(), Told::default());
                disk.sync();
                disk.fail(Fault { at: OpMatch::nth(op), how });
                let (saved, _, mut snapshot) = save(&disk, &told);
                disk.heal();
                let case = format!("{how:?} of {}", disk.log()[op]);
                assert_eq!(told.take(), ONCE, "{case}");
                let found = restored(&disk).unwrap().unwrap().0.records;
                match saved {
                    Ok(()) => assert_eq!(found, 6, "{case}"),
                    Err(error) if error.kind() == ErrorKind::DurabilityUnknown => assert_eq!(found, 6, "{case}"),
                    Err(error) => {
                        refused += 1;
                        assert!(found == 4 || (found == 6 && matches!(how, How::ErrorAfter { .. })), "{found} after {case}");
                        assert!(error.raw_os_error().is_some() || error.kind() == ErrorKind::Changed, "{error:?} after {case}");
                    }
                }
                snapshot.save(&State::after(6), marks[5]).unwrap_or_else(|error| panic!("{error} after {case}"));
                assert_eq!(told.take(), ONCE);
                assert_eq!(restored(&disk.crash_now()).unwrap(), Some((State::after(6), true)), "{case}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// S1-08, S1-09, S1-18: the end is told once when the state cannot be serialised, is too long, or panics; and the observer stays.
#[test]
fn the_end_is_told_when_the_state_fails_or_panics() {
    let (disk, marks) = saved_twice();
    let told = Told::default();
    let mut snapshot = snapshot(&disk);
    snapshot.observer("stage", Observer { told: told.clone(), panics: false });
    assert_eq!(snapshot.save(&Acts(|| {}), marks[5]).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(told.take(), ONCE);
    let panics = || std::panic::resume_unwind(Box::new("the state panics"));
    let caught = catch_unwind(AssertUnwindSafe(|| snapshot.save(&Acts(panics), marks[5]))).unwrap_err();
    assert_eq!(caught.downcast_ref::<&str>(), Some(&"the state panics"));
    assert_eq!(told.take(), ONCE);
    assert_eq!(snapshot.save(&Acts(|| {}), marks[5]).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(told.take(), ONCE);
    assert_eq!(restored(&disk).unwrap(), Some((State::after(4), true)));
}

/// S1-10: an observer that panics changes nothing; a start that panicked has its end.
#[test]
fn an_observer_that_panics_changes_nothing() {
    let (disk, marks) = saved_twice();
    let told = Told::default();
    let mut good = snapshot(&disk);
    good.observer("stage", Observer { told: told.clone(), panics: true });
    good.save(&State::after(6), marks[5]).unwrap();
    assert_eq!((told.take(), restored(&disk).unwrap()), (ONCE.map(String::from).to_vec(), Some((State::after(6), true))));
    let mut failing = snapshot(&disk);
    failing.observer("stage", Observer { told: told.clone(), panics: true });
    let panics = || std::panic::resume_unwind(Box::new("the state panics"));
    let caught = catch_unwind(AssertUnwindSafe(|| failing.save(&Acts(panics), marks[5]))).unwrap_err();
    assert_eq!((caught.downcast_ref::<&str>(), told.take()), (Some(&"the state panics"), ONCE.map(String::from).to_vec()));
}

/// S1-14, S1-21, S1-22, F38: after a power cut at any moment the snapshot is the old one or the new one, and recovering gives what a full replay
/// gives.
#[test]
fn a_crash_at_any_step_of_a_save_leaves_a_state_to_go_on_from() {
    let prepared = || {
        let (disk, marks) = saved_twice();
        // What comes after is in the cache only, until the save syncs it.
        let mut options = Writer::options();
        options.disk(&disk).durability(untorn::Durability::Os);
        let mark = options.open(JOURNAL).unwrap().append(&7_u64).unwrap().mark();
        (disk, marks, mark)
    };
    let save = |disk: &SimDisk, mark| snapshot(disk).save(&State::after(7), mark);
    let (probe, _, mark) = prepared();
    let from = probe.ops();
    save(&probe, mark).unwrap();
    let images = Arc::new(Mutex::new(Vec::new()));
    for op in from..=probe.ops() {
        let (disk, _, mark) = prepared();
        let found = Arc::clone(&images);
        let look = move |disk: &SimDisk| found.lock().unwrap().extend(disk.crash_images(&Bounds::every(89)).chain([disk.kill()]));
        disk.before(OpMatch::nth(op), look.clone());
        save(&disk, mark).unwrap();
        if op == probe.ops() {
            look(&disk);
        }
    }
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 100, "{}", images.len());
    for image in images {
        let origin = image.origin().map(ToString::to_string);
        let (state, is_newest) = restored(&image).unwrap().unwrap();
        assert!(is_newest && (state == State::after(4) || state == State::after(7)), "{state:?}: {origin:?}");
        let full = recovered(&image).unwrap();
        assert!(full.records >= state.records && full == State::after(full.records), "{full:?}: {origin:?}");
        // The crash leaves nothing that a later save does not clear away.
        let through = append(&image, 8..=8)[0];
        snapshot(&image).save(&full, through).unwrap();
        assert!(image.files().iter().all(|path| !path.to_str().unwrap().contains("-tmp-")), "{:?}", image.files());
    }
}

/// S1-23, F39: a snapshot that covers what the journal lost, or what is another record by now, is refused, told, and the one before is used.
#[test]
fn a_snapshot_ahead_of_the_journal_is_refused() {
    let (disk, marks) = saved_twice();
    let journal = disk.read_file(JOURNAL).unwrap();
    for len in 0..journal.len() as u64 {
        disk.write_file(JOURNAL, &journal[..len as usize]).unwrap();
        let kept = marks.iter().filter(|mark| mark.end.offset <= len + 1).count() as u64;
        let mut snapshot = snapshot::<State>(&disk);
        match snapshot.restore() {
            Ok(found) => {
                let found = found.unwrap();
                let expected = if kept >= 4 { 4 } else { 2 };
                assert!(kept >= expected && found.state == State::after(expected), "{len} bytes");
                assert_eq!(found.fell_back.is_some(), expected == 2);
            }
            Err(error) => {
                assert!(kept < 2 && error.kind() == ErrorKind::Changed, "{error}");
                assert!(error.to_string().ends_with("and the journal ends before that"), "{error}");
            }
        }
        assert_eq!(recovered(&disk).unwrap(), State::after(kept), "{len} bytes: it is as if it had never been saved");
    }
    // After a power cut the numbers are given again.
    disk.write_file(JOURNAL, &journal[..marks[2].end.offset as usize]).unwrap();
    append(&disk, 40..=42);
    let mut snapshot = snapshot::<State>(&disk);
    let found = snapshot.restore().unwrap().unwrap();
    assert!(found.fell_back.unwrap().to_string().ends_with("and the journal has another one in its place"));
    let mut expected = State::after(3);
    (40..=42).for_each(|n| expected.add(n));
    let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
    assert_eq!(snapshot.recover(&mut resumed, fold).unwrap(), expected);
    assert!(snapshot.refused().is_some());
    // A refused snapshot does not push out the good one.
    drop(resumed);
    let good = disk.read_file(PREVIOUS);
    snapshot.save(&State::after(3), marks[2]).unwrap();
    assert_eq!(disk.read_file(PREVIOUS), good);
    disk.remove(JOURNAL).unwrap();
    assert_eq!(restored(&disk).unwrap_err().kind(), ErrorKind::Changed);
}

/// S1-12, S1-23: a save that names a record which is not there is refused.
#[test]
fn a_save_through_a_record_that_is_not_there_is_refused() {
    let (disk, marks) = journal(3);
    let (other, others) = (SimDisk::new(), [5, 6, 7]);
    let mut writer = Writer::options().disk(&other).open(JOURNAL).unwrap();
    let others: Vec<Mark> = others.iter().map(|n| writer.append(n).unwrap().mark()).collect();
    for mark in others {
        assert_eq!(snapshot(&disk).save(&State::default(), mark).unwrap_err().kind(), ErrorKind::Changed);
    }
    disk.truncate(JOURNAL, marks[1].end.offset).unwrap();
    assert_eq!(snapshot(&disk).save(&State::after(3), marks[2]).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(disk.read_file(PATH), None);
}

/// S1-22: the journal's own members of a rotation: where the covered record is does not matter, and what was pruned is told.
#[test]
fn a_pruned_record_is_unproved_and_a_gap_is_an_error() {
    let (disk, _) = saved_twice();
    let journal = disk.read_file(JOURNAL).unwrap();
    let lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    for cut in 0..6 {
        disk.write_file("/j/session.000001.jsonl", lines[..cut].concat()).unwrap();
        disk.write_file("/j/session.000002.jsonl", lines[cut..cut + 1].concat()).unwrap();
        disk.write_file(JOURNAL, lines[cut + 1..].concat()).unwrap();
        let found = snapshot::<State>(&disk).restore().unwrap().unwrap();
        assert_eq!((found.state, found.is_proved), (State::after(4), true));
        assert_eq!(recovered(&disk).unwrap(), State::after(6));
        disk.remove("/j/session.000001.jsonl").unwrap();
        let found = snapshot::<State>(&disk).restore().unwrap().unwrap();
        assert_eq!((found.state, found.is_proved), (State::after(4), cut < 4));
        match recovered(&disk) {
            Ok(state) => assert!(cut <= 4 && state == State::after(6), "{cut} lines pruned"),
            Err(error) => assert!(cut == 5 && error.kind() == ErrorKind::Pruned, "{error}"),
        }
        // Without any snapshot a journal that does not begin with record 1 gives no state.
        let mut none = Snapshot::<State>::open_on(&disk, "/j/none", JOURNAL).unwrap();
        let mut resumed = Writer::options().disk(&disk).lock(Lock::Held, LockWait::Never).resume(JOURNAL).unwrap();
        match none.recover(&mut resumed, fold) {
            Ok(state) => assert!(cut == 0 && state == State::after(6)),
            Err(error) => assert!(cut > 0 && error.kind() == ErrorKind::Pruned && error.to_string().contains("there is no snapshot"), "{error}"),
        }
        drop(resumed);
        disk.remove("/j/session.000002.jsonl").unwrap();
    }
}

/// A record that is no `T` is the fold's to judge; an error that it returns ends the recovery.
#[test]
fn a_record_that_does_not_decode_is_given_to_the_fold() {
    let (disk, marks) = saved_twice();
    let mut writer = Writer::options().disk(&disk).open(JOURNAL).unwrap();
    writer.append(&json!("seven")).unwrap();
    drop(writer);
    disk.append_raw(JOURNAL, "torn{\n").unwrap();
    append(&disk, 8..=8);
    let error = recovered(&disk).unwrap_err();
    assert_eq!((error.kind(), error.mark().and_then(|mark| mark.seq)), (ErrorKind::Decode, Some(7)));
    let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
    let mut undecoded = 0;
    let tolerant = |state: &mut State, record: Result<Record<u64>>| {
        match record {
            Ok(record) => state.add(record.value),
            Err(_) => undecoded += 1,
        }
        Ok(())
    };
    let state = snapshot(&disk).recover(&mut resumed, tolerant).unwrap();
    let mut expected = State::after(6);
    expected.add(8);
    assert_eq!((state, undecoded, resumed.reader.damage().lines()), (expected, 1, 1));
    assert!(resumed.reader.position() > marks[5].end);
    // The writer goes on.
    let Resumed { mut writer, .. } = resumed;
    assert!(writer.append(&9).unwrap().seq() > Some(8));
}

#[test]
fn a_state_of_another_type_is_no_damage() {
    let (disk, _) = saved_twice();
    let error: Error = Snapshot::<Vec<u8>>::open_on(&disk, PATH, JOURNAL).unwrap().restore().unwrap_err();
    assert_eq!((error.kind(), error.path().unwrap().to_str()), (ErrorKind::Decode, Some(PATH)));
}

/// Plain journals have no numbers; the place and the CRC prove the record.
#[test]
fn a_plain_journal_is_recovered_too() {
    let disk = SimDisk::new();
    disk.write_file(JOURNAL, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n").unwrap();
    let count = |state: &mut u64, record: Result<Record<serde_json::Value>>| {
        *state += record?.value["n"].as_u64().unwrap();
        Ok(())
    };
    let recover = |snapshot: &mut Snapshot<u64>| {
        let mut resumed = Writer::options().disk(&disk).resume(JOURNAL).unwrap();
        snapshot.recover(&mut resumed, count)
    };
    let mut snapshot = snapshot::<u64>(&disk);
    assert_eq!(recover(&mut snapshot).unwrap(), 6);
    let through = untorn::Reader::options().disk(&disk).open(JOURNAL).unwrap().records::<serde_json::Value>().nth(1).unwrap().unwrap().mark;
    snapshot.save(&3, through).unwrap();
    assert_eq!(recover(&mut snapshot).unwrap(), 6);
    disk.rename(JOURNAL, "/j/session.000001.jsonl").unwrap();
    disk.write_file(JOURNAL, "{\"n\":4}\n").unwrap();
    assert_eq!(recover(&mut snapshot).unwrap(), 10);
    disk.rename("/j/session.000001.jsonl", "/j/session.000002.jsonl").unwrap();
    assert_eq!(recover(&mut snapshot).unwrap_err().kind(), ErrorKind::Pruned);
}

/// A snapshot on the real disk, by its public door.
#[test]
fn a_snapshot_lives_on_the_real_disk() {
    let journal = crate::support::TestJournal::missing();
    let path = journal.dir().join("state.snapshot");
    let mut writer = journal.open();
    let mut snapshot = Snapshot::<State>::open(&path, &journal.path).unwrap();
    for n in 1..=5_u64 {
        let through = writer.append(&n).unwrap().mark();
        snapshot.save(&State::after(n), through).unwrap();
    }
    writer.append(&6_u64).unwrap();
    drop(writer);
    let info = untorn::inspect_snapshot(&path).unwrap();
    assert_eq!((info.generation, info.through.seq, info.journal), (5, Some(5), journal.path.canonicalize().unwrap()));
    assert_eq!(untorn::inspect_snapshot(journal.dir().join("state.snapshot.previous")).unwrap().generation, 4);
    let names = std::fs::read_dir(journal.dir()).unwrap().count();
    assert_eq!(names, 3, "nothing else is left");
    let mut resumed = untorn::resume(&journal.path).unwrap();
    assert_eq!(snapshot.recover(&mut resumed, fold).unwrap(), State::after(6));
    assert_eq!(untorn::inspect_snapshot(&journal.path).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(untorn::inspect_snapshot(journal.dir().join("none")).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(Snapshot::<State>::open("/", &journal.path).unwrap_err().kind(), ErrorKind::NotAFile);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S1-22: whatever is appended, saved, lost and restarted, recovering gives what a full replay gives.
    #[test]
    fn recovering_equals_a_full_replay(steps in prop::collection::vec(0..7_u8, 1..40), seed in 0..u64::MAX) {
        let mut disk = SimDisk::new();
        let mut options = Writer::options();
        options.durability(untorn::Durability::Os);
        let (mut next, mut marks, mut states) = (0, Vec::new(), vec![State::default()]);
        for (at, step) in steps.into_iter().enumerate() {
            options.disk(&disk);
            match step {
                0..=3 => {
                    next += 1;
                    marks.push(options.open(JOURNAL).unwrap().append(&next).unwrap().mark());
                    let mut state = states.last().unwrap().clone();
                    state.add(next);
                    states.push(state);
                }
                4 if !marks.is_empty() => {
                    // Not always the newest record: a pipeline saves what it has folded.
                    let through = usize::try_from(seed.rotate_left(at as u32) % marks.len() as u64).unwrap();
                    snapshot(&disk).save(&states[through + 1], marks[through]).unwrap();
                }
                _ => {
                    let images: Vec<SimDisk> = disk.crash_images(&Bounds { tears: Vec::new(), ..Bounds::every(64) }).collect();
                    disk = images[usize::try_from(seed.rotate_right(at as u32) % images.len() as u64).unwrap()].clone();
                    if disk.read_file(JOURNAL).is_none() {
                        disk.write_file(JOURNAL, "").unwrap();
                    }
                    let kept = untorn::Reader::options().disk(&disk).open(JOURNAL).unwrap().records::<u64>().count();
                    marks.truncate(kept);
                    states.truncate(kept + 1);
                }
            }
            if disk.read_file(JOURNAL).is_some() {
                prop_assert_eq!(&recovered(&disk).unwrap(), states.last().unwrap());
            }
        }
    }
}
