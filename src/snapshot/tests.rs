#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should say where")]

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{running::hold_off, *};
use crate::{
    Writer,
    sim::{OpKind, OpMatch, SimDisk},
};

const JOURNAL: &str = "/j/session.jsonl";
const PATH: &str = "/j/session.snapshot";

fn journal() -> (SimDisk, Disk, Mark) {
    let disk = SimDisk::new();
    let through = Writer::options().disk(&disk).open(JOURNAL).unwrap().append(&1).unwrap().mark();
    let on = Disk { sim: Some(disk.clone()) };
    (disk, on, through)
}

/// Starts a save in another thread, which stops in the middle; it goes on when told to.
fn slow_save(disk: &SimDisk, path: &str, through: Mark) -> (Sender<()>, thread::JoinHandle<()>) {
    let ((begun, has_begun), (go_on, may_go_on)) = (channel(), channel::<()>());
    // The save looks at the generation in place once it is under way.
    let looks = disk.log().iter().filter(|op| op.kind == OpKind::OpenRead && op.path == Path::new(path)).count();
    disk.before(OpMatch::nth_of(OpKind::OpenRead, looks).on(path), move |_| {
        begun.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    let mut snapshot = Snapshot::open_on(disk, path, JOURNAL).unwrap();
    let save = thread::spawn(move || snapshot.save(&1, through).unwrap());
    has_begun.recv().unwrap();
    (go_on, save)
}

/// S1-24: rotation, archive and prune wait until a running save is over.
#[test]
fn whoever_moves_records_waits_for_a_running_save() {
    let (disk, on, through) = journal();
    let (go_on, save) = slow_save(&disk, PATH, through);
    let order = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&order);
    let (asked, is_asked) = channel();
    let rotation = thread::spawn(move || {
        asked.send(()).unwrap();
        let _held_off = hold_off(&on, Path::new(JOURNAL));
        told.lock().unwrap().push("rotated");
    });
    is_asked.recv().unwrap();
    // A rotation of another journal, or on another disk, does not wait.
    drop(hold_off(&Disk { sim: Some(disk.clone()) }, Path::new("/j/other.jsonl")));
    drop(hold_off(&Disk { sim: Some(SimDisk::new()) }, Path::new(JOURNAL)));
    order.lock().unwrap().push("saved");
    go_on.send(()).unwrap();
    save.join().unwrap();
    rotation.join().unwrap();
    assert_eq!(*order.lock().unwrap(), ["saved", "rotated"]);
}

/// S1-24: a save that begins meanwhile waits, and so does a second save of the same file.
#[test]
fn saves_wait_for_who_moves_records_and_for_each_other() {
    let (disk, on, through) = journal();
    let held_off = hold_off(&on, Path::new(JOURNAL));
    let again = hold_off(&on, Path::new(JOURNAL));
    let (saved, is_saved) = channel();
    let save = |state: u64| {
        let (disk, saved) = (disk.clone(), saved.clone());
        thread::spawn(move || {
            Snapshot::open_on(&disk, PATH, JOURNAL).unwrap().save(&state, through).unwrap();
            saved.send(()).unwrap();
        })
    };
    let first = save(1);
    drop(held_off);
    assert!(is_saved.try_recv().is_err(), "one of two still holds it off");
    drop(again);
    is_saved.recv().unwrap();
    first.join().unwrap();

    let (go_on, slow) = slow_save(&disk, PATH, through);
    let second = save(2);
    // Another file of the same journal need not wait.
    Snapshot::open_on(&disk, "/j/other.snapshot", JOURNAL).unwrap().save(&3, through).unwrap();
    assert!(is_saved.try_recv().is_err());
    go_on.send(()).unwrap();
    slow.join().unwrap();
    second.join().unwrap();
    let restored = Snapshot::<u64>::open_on(&disk, PATH, JOURNAL).unwrap().restore().unwrap().unwrap();
    assert_eq!(restored.state, 2);
}

/// S1-24: the writer's own operations wait for a save, and an append that would rotate goes on without.
#[test]
fn a_writer_rotates_when_the_save_is_over() {
    let (disk, _, through) = journal();
    let (go_on, save) = slow_save(&disk, PATH, through);
    let mut options = Writer::options();
    let mut writer = options.disk(&disk).rotate_at(1).open(JOURNAL).unwrap();
    writer.append(&2).unwrap();
    assert_eq!(disk.read_file("/j/session.000001.jsonl"), None, "an append does not wait");
    let (asked, is_asked) = channel();
    let rotation = thread::spawn(move || {
        asked.send(()).unwrap();
        let rotated = writer.rotate().unwrap();
        (writer, rotated)
    });
    is_asked.recv().unwrap();
    assert_eq!(disk.read_file("/j/session.000001.jsonl"), None);
    go_on.send(()).unwrap();
    save.join().unwrap();
    let (mut writer, rotated) = rotation.join().unwrap();
    assert!(rotated.archived.is_some());
    // Without a save, an append rotates.
    writer.append(&3).unwrap();
    writer.append(&4).unwrap();
    assert!(disk.read_file("/j/session.000002.jsonl").is_some());
}

/// A state may do with the journal what it likes while it is encoded, also what waits for the queue's worker: that one waited for the save, and the
/// save for it.
#[test]
fn a_state_may_wait_for_a_queue_that_rotates() {
    struct Rotates(crate::SharedWriter);
    impl Serialize for Rotates {
        fn serialize<T: serde::Serializer>(&self, serializer: T) -> std::result::Result<T::Ok, T::Error> {
            self.0.append(&2).unwrap();
            self.0.rotate().unwrap();
            serializer.serialize_u64(self.0.append(&3).unwrap().seq().unwrap())
        }
    }
    impl<'de> serde::Deserialize<'de> for Rotates {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Rotates, D::Error> {
            Err(serde::de::Error::custom("it is only saved"))
        }
    }
    let (disk, _, through) = journal();
    let queue = Writer::options().disk(&disk).open(JOURNAL).unwrap().into_shared();
    let mut snapshot = Snapshot::open_on(&disk, PATH, JOURNAL).unwrap();
    let (saved, is_saved) = channel();
    thread::spawn(move || saved.send(snapshot.save(&Rotates(queue), through)));
    is_saved.recv_timeout(Duration::from_secs(60)).expect("one of them waits for the other").unwrap();
    let restored = Snapshot::<u64>::open_on(&disk, PATH, JOURNAL).unwrap().restore().unwrap().unwrap();
    assert_eq!((restored.state, restored.through), (3, through));
}

/// Prune leaves what a snapshot, or the one before it, is recovered with.
#[test]
fn prune_respects_a_snapshot_and_the_one_before() {
    let disk = SimDisk::new();
    let mut writer = Writer::options().disk(&disk).open(JOURNAL).unwrap();
    let mut marks = Vec::new();
    for n in 1..=8_u64 {
        marks.push(writer.append(&n).unwrap().mark());
        writer.rotate().unwrap();
    }
    let keep = || crate::Keep::new(crate::Consumers::None).records(1).snapshot(PATH);
    assert_eq!(writer.prune(&keep()).unwrap_err().raw_os_error(), Some(2), "a snapshot that is not there blocks it");
    let mut snapshot = Snapshot::open_on(&disk, PATH, JOURNAL).unwrap();
    let oldest = |writer: &mut Writer| {
        let pruned = writer.prune(&keep()).unwrap();
        (pruned.held_by, pruned.first_seq)
    };
    for (through, expected) in [(2, 2), (4, 2), (6, 4), (7, 6)] {
        snapshot.save(&through, marks[through - 1]).unwrap();
        assert_eq!(oldest(&mut writer), (Some(PATH.to_owned()), Some(expected)), "saved through {through}");
    }
    for name in [PATH.to_owned(), format!("{PATH}.previous")] {
        disk.write_file(name, "x").unwrap();
    }
    assert_eq!(writer.prune(&keep()).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A save that fails or panics is over too.
#[test]
fn no_save_is_left_running() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<T: serde::Serializer>(&self, _: T) -> std::result::Result<T::Ok, T::Error> {
            std::panic::resume_unwind(Box::new("the state panics"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Panics, D::Error> {
            Ok(Panics)
        }
    }
    let (disk, on, through) = journal();
    let mut snapshot = Snapshot::open_on(&disk, PATH, JOURNAL).unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| snapshot.save(&Panics, through))).is_err());
    drop(hold_off(&on, Path::new(JOURNAL)));
}
