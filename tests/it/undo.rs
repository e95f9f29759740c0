//! The way back from a repair: the original, byte for byte.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use untorn::{ErrorKind, RepairOptions, Undone, Unterminated, plan_repair, undo_repair};

use crate::support::TestJournal;

fn repair(journal: &TestJournal) {
    plan_repair(&journal.path).unwrap().apply().unwrap();
}

fn restored(undone: &Undone) -> bool {
    matches!(undone, Undone::Restored { .. })
}

#[test]
fn without_a_repair_there_is_nothing_to_undo() {
    let journal = TestJournal::with_bytes("{\"id\":1}\n");
    assert_eq!(undo_repair(&journal.path).unwrap(), Undone::Nothing);
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 1);
}

/// P4: several repairs are taken back one by one, newest first, tail repairs on opening included.
#[test]
fn repairs_are_undone_newest_first() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\n");
    let mut states = vec![journal.bytes()];
    repair(&journal);
    journal.append_as_stranger("{\"id\":3}{\"id\":4}\n\0\0\0\n{\"id\":5}\n");
    states.push(journal.bytes());
    repair(&journal);
    journal.append_as_stranger("{\"id\":6,\"to");
    states.push(journal.bytes());
    drop(journal.open());
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n{\"id\":5}\n");
    assert!(restored(&undo_repair(&journal.path).unwrap()));
    assert_eq!(journal.bytes(), states[2]);
    // Before the repairs further back the journal had gone on, so their originals are files of their own.
    for state in states[..2].iter().rev() {
        let Undone::Beside { original, .. } = undo_repair(&journal.path).unwrap() else { panic!("it had gone on") };
        assert_eq!(&fs::read(&original).unwrap(), state);
        fs::rename(original, &journal.path).unwrap();
    }
    assert_eq!(undo_repair(&journal.path).unwrap(), Undone::Nothing);
}

#[test]
fn a_journal_that_has_gone_on_stays_and_the_original_is_written_beside_it() {
    let before = "{\"id\":1}\nx\n{\"id\":2}\n";
    let journal = TestJournal::with_bytes(before);
    repair(&journal);
    journal.open().append(&json!({"id": 3})).unwrap();
    let now = journal.text();
    for round in 0..2 {
        let Undone::Beside { original, len, repair, .. } = undo_repair(&journal.path).unwrap() else { panic!("it has gone on") };
        assert_eq!((fs::read_to_string(&original).unwrap().as_str(), len as usize), (before, before.len()));
        let name = format!("j.jsonl.original-{repair}{}", if round == 0 { "" } else { "-2" });
        assert_eq!(original.file_name().unwrap().to_str(), Some(name.as_str()));
        assert_eq!(journal.text(), now);
    }
}

#[test]
fn an_undone_repair_can_be_done_again() {
    let before = "{\"id\":1}\nx\n{\"id\":2}\n";
    let journal = TestJournal::with_bytes(before);
    repair(&journal);
    let quarantine = journal.quarantine();
    for _ in 0..3 {
        assert!(restored(&undo_repair(&journal.path).unwrap()));
        assert_eq!(journal.text(), before);
        repair(&journal);
        assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
        assert_eq!(journal.quarantine(), quarantine, "the same bytes are not kept twice");
    }
}

#[test]
fn a_damaged_quarantine_is_refused() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nxyz\n{\"id\":2}\n");
    repair(&journal);
    let quarantine = journal.dir().join("j.jsonl.quarantine");
    let text = fs::read_to_string(&quarantine).unwrap();
    fs::write(&quarantine, text.replace("\"base64\":\"eHl6Cg==\"", "\"base64\":\"eHl5Cg==\"")).unwrap();
    assert_ne!(fs::read_to_string(&quarantine).unwrap(), text);
    assert_eq!(undo_repair(&journal.path).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 3, "nothing is left behind");
}

/// P4: a crash spoilt what the quarantine kept, and left what it says of it. The next repair keeps it again, and undoing finds it.
#[test]
fn what_a_crash_spoilt_in_the_quarantine_is_kept_again() {
    let torn = "{\"id\":1}\n{\"id\":2,\"te";
    let journal = TestJournal::with_bytes(torn);
    drop(journal.open());
    let quarantine = journal.dir().join("j.jsonl.quarantine");
    let spoilt = fs::read_to_string(&quarantine).unwrap().replace("{\\\"id\\\":2,", "{\\\"id\\\":7,");
    assert_eq!(spoilt.matches(":7,").count(), 1);
    fs::write(&quarantine, &spoilt).unwrap();
    fs::write(&journal.path, torn).unwrap();
    drop(journal.open());
    assert!(fs::read_to_string(&quarantine).unwrap().starts_with(&spoilt));
    assert!(restored(&undo_repair(&journal.path).unwrap()));
    assert_eq!(journal.text(), torn);
}

/// P4: with another option the same bytes were cut into other pieces, and kept as if they were of the same repair. Undoing was refused then, because
/// its ranges overlapped.
#[test]
fn the_same_cut_in_other_pieces_is_another_repair() {
    let sealed = |covered: &str| format!("{covered},\"_crc\":\"{:08x}\"}}", crc32fast::hash(covered.as_bytes()));
    let lines = [sealed("{\"id\":1,\"_seq\":1"), sealed("{\"id\":2,\"_seq\":2,\"_more\":2"), sealed("{\"id\":4,\"_seq\":4")];
    let journal = TestJournal::with_bytes(lines.join("\n"));
    let mut options = RepairOptions::new();
    for how in [Unterminated::Quarantine, Unterminated::Keep, Unterminated::Quarantine] {
        options.unterminated(how).plan(&journal.path).unwrap().apply().unwrap();
        assert_eq!(journal.text(), format!("{}\n", lines[0]));
        assert!(restored(&undo_repair(&journal.path).unwrap()), "{how:?}");
        assert_eq!(journal.text(), lines.join("\n"));
    }
}

/// A repair was not found, nor what it took out, where the file was as long as another one that an earlier repair had added an LF to.
#[test]
fn a_length_alone_does_not_tell_which_repair_is_in_force() {
    let journal = TestJournal::with_bytes("{\"id\":1}");
    repair(&journal);
    let other = "x\n{\"i\":2}\n";
    fs::write(&journal.path, other).unwrap();
    repair(&journal);
    assert_eq!(journal.text(), "{\"i\":2}\n");
    assert!(restored(&undo_repair(&journal.path).unwrap()));
    assert_eq!(journal.text(), other);
}

#[test]
fn a_stranger_stops_an_undo_unless_forced() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2}\n");
    repair(&journal);
    let _stranger = fs::OpenOptions::new().append(true).open(&journal.path).unwrap();
    assert_eq!(undo_repair(&journal.path).unwrap_err().kind(), ErrorKind::Stranger);
    assert!(restored(&RepairOptions::new().force().undo(&journal.path).unwrap()));
    assert_eq!(journal.text(), "{\"id\":1}\nx\n{\"id\":2}\n");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// P4: whatever is damaged and repaired, over and over, each original comes back.
    #[test]
    fn each_of_several_repairs_gives_its_original_back(rounds in prop::collection::vec(prop::collection::vec(prop::sample::select(&["{\"id\":1}", "{\"id\":2,\"te", "x", "\0\0", "\n", "\n", "[1]", " "]), 1..8), 1..5)) {
        let journal = TestJournal::with_bytes("");
        let mut states = Vec::new();
        for (round, parts) in rounds.iter().enumerate() {
            journal.append_as_stranger(format!("{{\"round\":{round}}}\n{}", parts.concat()));
            let before = journal.bytes();
            if plan_repair(&journal.path).unwrap().apply().unwrap().changed {
                states.push(before);
            }
        }
        for before in states.iter().rev() {
            match undo_repair(&journal.path).unwrap() {
                Undone::Restored { .. } => {}
                Undone::Beside { original, .. } => fs::rename(original, &journal.path).unwrap(),
                other => panic!("{other:?}"),
            }
            prop_assert_eq!(&journal.bytes(), before);
        }
        prop_assert_eq!(undo_repair(&journal.path).unwrap(), Undone::Nothing);
    }
}
