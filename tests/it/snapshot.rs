//! Snapshots: what is saved, what is given back, and what no failure takes away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use untorn::{
    ErrorKind, Mark, Record, Result, Snapshot, SnapshotObserver, Writer,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk},
};

mod damaged;
mod observers;

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

const ONCE: [&str; 2] = ["start stage", "complete stage"];

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
