//! Who else has the file: writers that live, strangers, links, and what a crash left beside it.

use std::{fs, os::unix::fs::FileTypeExt, time::Duration};

use serde_json::json;
use untorn::{
    ErrorKind, Lock, LockWait, RepairMethod, RepairOptions, Writer, plan_repair,
    sim::{OpKind, OpMatch, SimDisk},
};

use super::{repair, sealed};
use crate::support::TestJournal;

/// a writer that holds the lock for its life is not repaired under its hands; one that does not goes on in the repaired file.
#[test]
fn live_writers_are_refused_or_go_on_in_the_repaired_file() {
    let before = "{\"id\":1}\nx\n{\"id\":2}\n";
    let journal = TestJournal::with_bytes(before);
    let held = journal.open_with(|options| {
        options.lock(Lock::Held, LockWait::Never);
    });
    let mut options = RepairOptions::new();
    options.lock_wait(LockWait::Never);
    let error = options.plan(&journal.path).unwrap().apply().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("process"), "{error}");
    assert_eq!(journal.text(), before);
    drop(held);

    let mut live = journal.open();
    live.append(&json!({"id": 3})).unwrap();
    let repaired = repair(&journal);
    assert_eq!(repaired.remaining, 0);
    live.append(&json!({"id": 4})).unwrap();
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n");
}

#[test]
fn a_repair_waits_for_the_lock_as_long_as_it_is_told() {
    for (wait, is_done) in [(LockWait::Never, false), (LockWait::For(Duration::from_secs(600)), true)] {
        let disk = SimDisk::new();
        disk.write_file("/j.jsonl", "{\"id\":1}\nx\n").unwrap();
        let writer = disk.as_process(7, "writer").open_raw("/j.jsonl").unwrap();
        assert!(writer.try_lock().unwrap());
        let tried = disk.log().iter().filter(|op| op.kind == OpKind::TryLock).count();
        // The writer goes away just before the lock is asked for once more.
        disk.before(OpMatch::nth_of(OpKind::TryLock, tried + 1), move |_| drop(writer));
        let plan = RepairOptions::new().disk(&disk).lock_wait(wait).plan("/j.jsonl").unwrap();
        let ended = plan.apply().map(|repaired| repaired.changed).map_err(|error| error.kind());
        assert_eq!(ended, if is_done { Ok(true) } else { Err(ErrorKind::Locked) }, "{wait:?}");
    }
}

/// What strangers write while a file is replaced is taken over where it is whole, and told of where it is damage.
#[test]
fn what_strangers_write_during_a_swap_is_told() {
    let disk = SimDisk::new();
    disk.write_file("/j.jsonl", "{\"id\":1}\nx\n{\"id\":2}\n").unwrap();
    let stranger = disk.as_process(7, "logger").open_raw("/j.jsonl").unwrap();
    disk.before(OpMatch::nth_of(OpKind::Rename, 0), move |_| stranger.append("{\"id\":5}\n").unwrap());
    // By then the name is that of the new file.
    disk.before(OpMatch::nth_of(OpKind::Remove, 0), |disk| disk.append_raw("/j.jsonl", "y\n{\"id\":3}{\"id\":4}\n").unwrap());
    let plan = || RepairOptions::new().disk(&disk).force().plan("/j.jsonl").unwrap();
    let repaired = plan().apply().unwrap();
    let now = String::from_utf8(disk.read_file("/j.jsonl").unwrap()).unwrap();
    assert_eq!(now, "{\"id\":1}\n{\"id\":2}\ny\n{\"id\":3}{\"id\":4}\n{\"id\":5}\n");
    assert_eq!((repaired.late_bytes, repaired.len_after), (9, now.len() as u64));
    assert_eq!((repaired.remaining, plan().actions().len()), (3, 3));
}

/// a write in progress is no corruption: what a plan saw of it is looked at again.
#[test]
fn a_line_that_was_being_written_is_not_cut() {
    let journal = TestJournal::with_bytes("{\"id\":1}\n{\"id\":2");
    let plan = plan_repair(&journal.path).unwrap();
    journal.append_as_stranger("}\n");
    assert_eq!(plan.apply().unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");

    let journal = TestJournal::with_bytes(format!("x\n{}\n", sealed("{\"id\":1", 1, 1)));
    let plan = plan_repair(&journal.path).unwrap();
    journal.append_as_stranger(sealed("{\"id\":2", 2, 0) + "\n");
    assert_eq!(plan.apply().unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn whole_lines_appended_since_the_plan_are_kept() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\ny\n");
    let plan = plan_repair(&journal.path).unwrap();
    journal.append_as_stranger("{\"id\":3}\n\n{\"id\":4}\n");
    let repaired = plan.apply().unwrap();
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n\n{\"id\":4}\n");
    assert_eq!((repaired.kept, repaired.remaining), (4, 0));
    // What was to be cut in place is no longer at the end.
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n");
    let plan = plan_repair(&journal.path).unwrap();
    assert_eq!(plan.how(), RepairMethod::InPlace);
    journal.append_as_stranger("{\"id\":2}\n");
    plan.apply().unwrap();
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
}

#[test]
fn a_file_that_changed_since_the_plan_is_left_alone() {
    let before = "{\"id\":1}\nx\n{\"id\":2}\n";
    type Change = fn(&TestJournal);
    let changes: [(&str, Change); 5] = [
        ("another file", |journal| {
            let other = journal.path.with_extension("other");
            fs::copy(&journal.path, &other).unwrap();
            fs::rename(&other, &journal.path).unwrap();
        }),
        ("other damage", |journal| fs::write(&journal.path, "{\"id\":1}\ny\n{\"id\":2}\n").unwrap()),
        ("shorter", |journal| fs::write(&journal.path, "{\"id\":1}\nx\n").unwrap()),
        ("torn since", |journal| journal.append_as_stranger("{\"id\":")),
        ("corrupt since", |journal| journal.append_as_stranger("z\n")),
    ];
    for (what, change) in changes {
        let journal = TestJournal::with_bytes(before);
        let plan = plan_repair(&journal.path).unwrap();
        change(&journal);
        let now = journal.bytes();
        assert_eq!(plan.apply().unwrap_err().kind(), ErrorKind::Changed, "{what}");
        assert_eq!((journal.bytes(), journal.quarantine()), (now, None), "{what}");
        assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn a_stranger_stops_a_repair_unless_forced() {
    for before in ["{\"id\":1}\nx\n{\"id\":2}\n", "{\"id\":1}\nx\n"] {
        let journal = TestJournal::with_bytes(before);
        let stranger = fs::OpenOptions::new().append(true).open(&journal.path).unwrap();
        let error = plan_repair(&journal.path).unwrap().apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stranger);
        assert!(error.to_string().contains(&format!("process {} (", std::process::id())), "{error}");
        assert_eq!((journal.text().as_str(), journal.quarantine()), (before, None));
        let repaired = RepairOptions::new().force().plan(&journal.path).unwrap().apply().unwrap();
        assert_eq!(journal.text(), before.replace("x\n", ""));
        assert!(repaired.backup.is_some(), "what the stranger goes on writing is in the backup");
        drop(stranger);
    }
}

/// what is no regular file is refused, a link is followed once, and a second hard link refuses a rewrite, not a cut.
#[test]
fn links_and_special_files() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\n");
    let second = journal.dir().join("second");
    fs::hard_link(&journal.path, &second).unwrap();
    assert_eq!(plan_repair(&journal.path).unwrap().apply().unwrap_err().kind(), ErrorKind::HardLinked);
    assert_eq!((journal.text().as_str(), journal.quarantine()), ("{\"id\":1}\nx\n{\"id\":2}\n", None));
    fs::remove_file(second).unwrap();

    let link = journal.dir().join("link.jsonl");
    std::os::unix::fs::symlink(&journal.path, &link).unwrap();
    let plan = plan_repair(&link).unwrap();
    assert_eq!(plan.path(), journal.path);
    plan.apply().unwrap();
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

    assert_eq!(plan_repair(journal.dir()).unwrap_err().kind(), ErrorKind::NotAFile);
    let fifo = journal.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(plan_repair(&fifo).unwrap_err().kind(), ErrorKind::NotAFile);
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());

    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n");
    fs::hard_link(&journal.path, journal.dir().join("second")).unwrap();
    repair(&journal);
    assert_eq!(journal.text(), "{\"id\":1}\n");
}

/// The quarantine is never written through a link.
#[test]
fn a_quarantine_that_is_a_link_is_refused() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\n");
    let target = journal.dir().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, journal.dir().join("j.jsonl.quarantine")).unwrap();
    assert!(plan_repair(&journal.path).unwrap().apply().is_err());
    assert_eq!((journal.text().as_str(), fs::read_to_string(target).unwrap().as_str()), ("{\"id\":1}\nx\n{\"id\":2}\n", ""));
}

/// What a crash between link and rename leaves is removed by the next opener, and by the next repair.
#[test]
fn a_backup_that_is_still_the_journal_is_removed() {
    for name in ["j.jsonl.bak-20261121T040201Z", "j.jsonl.bak-20261121T040201Z-2"] {
        let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\n");
        let leftover = journal.dir().join(name);
        fs::hard_link(&journal.path, &leftover).unwrap();
        let writer = Writer::open(&journal.path).unwrap();
        assert!(!leftover.exists());
        drop(writer);
        fs::hard_link(&journal.path, &leftover).unwrap();
        let stale = journal.dir().join("j.jsonl.untorn-tmp-1");
        fs::write(&stale, "half").unwrap();
        let older = journal.dir().join("j.jsonl.bak-20200101T000000Z");
        fs::write(&older, "an older backup").unwrap();
        repair(&journal);
        assert!(!leftover.exists() && !stale.exists() && older.exists());
        assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
    }
}
