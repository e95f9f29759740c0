#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should say where")]

use std::path::PathBuf;

use super::{
    assign::assign,
    needed::{Need, Needed, needed},
    store::{Store, Stored},
    *,
};
use crate::{
    ErrorKind, Reader, Record, Start, Writer,
    format::LINE_BYTES_MAX_DEFAULT as LIMIT,
    segment::Segments,
    sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk},
    sys::names::Names,
};

const DIR: &str = "/checkpoints";

fn on(disk: &SimDisk) -> Disk {
    Disk { sim: Some(disk.clone()) }
}

fn disk_with(files: &[(&str, &str)]) -> SimDisk {
    let disk = SimDisk::new();
    files.iter().for_each(|(path, bytes)| disk.write_file(path, *bytes).unwrap());
    disk
}

fn records(disk: &SimDisk, path: &str) -> Vec<Record<serde_json::Value>> {
    Reader::options().disk(disk).open(path).unwrap().records().map(Result::unwrap).collect()
}

/// The checkpoint behind the nth record.
fn checkpoint(disk: &SimDisk, path: &str, nth: usize) -> Checkpoint {
    Checkpoint::on(&on(disk), Path::new(path), &records(disk, path)[nth].mark).unwrap()
}

/// What a reader makes of a checkpoint: the outcome, and the records that it gives.
fn restored(disk: &SimDisk, path: &str, checkpoint: &Checkpoint) -> (Restored, Vec<u64>) {
    let reader = Reader::options().disk(disk).from(Start::Checkpoint(checkpoint.clone())).open(path).unwrap();
    let outcome = reader.restored().cloned().unwrap();
    (outcome, reader.records::<serde_json::Value>().map(|record| record.unwrap().value["n"].as_u64().unwrap()).collect())
}

fn plain(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

fn sealed(numbers: std::ops::RangeInclusive<u64>) -> String {
    sealed_from(*numbers.start(), numbers)
}

/// Records whose numbers start at `seq`.
fn sealed_from(seq: u64, values: std::ops::RangeInclusive<u64>) -> String {
    let line = |(at, n): (u64, u64)| String::from_utf8(crate::internals::sealed(format!("{{\"n\":{n}}}").as_bytes(), seq + at, 0)).unwrap();
    (0..).zip(values).map(line).collect()
}

/// a clean boundary neither skips its record nor gives one twice, in both forms and at every record.
#[test]
fn behind_every_record_reading_goes_on_with_the_next() {
    for file in [plain(1..=5), sealed(1..=5)] {
        let disk = disk_with(&[("/a.jsonl", &file)]);
        for nth in 0..5 {
            let found = restored(&disk, "/a.jsonl", &checkpoint(&disk, "/a.jsonl", nth));
            assert_eq!(found, (Restored::Resumed, (nth as u64 + 2..=5).collect()));
        }
    }
}

/// X-18, F42: an offset in the middle of a line is taken for that line; a place with another line proves nothing. Whatever the offset, reading
/// starts on a boundary.
#[test]
fn an_offset_inside_a_line_is_aligned_or_refused() {
    let file = plain(1..=5);
    let disk = disk_with(&[("/a.jsonl", &file)]);
    let good = checkpoint(&disk, "/a.jsonl", 2);
    let mark = good.mark().unwrap();
    for start in 0..=file.len() as u64 + 3 {
        for end in [start, start + 1, mark.end.offset] {
            let moved = Mark { start: Position::new(1, start), end: Position::new(1, end), ..mark };
            let expected = match start {
                _ if (mark.start.offset..mark.end.offset).contains(&start) => (Restored::Resumed, vec![4, 5]),
                _ if start > file.len() as u64 => (Restored::Shorter, vec![1, 2, 3, 4, 5]),
                _ => (Restored::ProofFailed, vec![1, 2, 3, 4, 5]),
            };
            let found = restored(&disk, "/a.jsonl", &Checkpoint { mark: Some(moved), ..good.clone() });
            let is_cut_off = found.0 == Restored::Shorter && end > file.len() as u64;
            assert!(found == expected || is_cut_off, "{found:?} from {start} to {end}");
        }
    }
}

/// F39, S0-12: a journal that lost its end says so, in both forms and wherever it was cut; reading never starts behind its end.
#[test]
fn a_journal_that_lost_the_record_is_shorter() {
    for file in [plain(1..=5), sealed(1..=5)] {
        let disk = disk_with(&[("/a.jsonl", &file)]);
        let known = checkpoint(&disk, "/a.jsonl", 3);
        let end = known.mark().unwrap().end;
        let lines = file.match_indices('\n').map(|(at, _)| at as u64 + 1).collect::<Vec<_>>();
        for len in 0..=file.len() as u64 {
            disk.truncate("/a.jsonl", len).unwrap();
            let (outcome, numbers) = restored(&disk, "/a.jsonl", &known);
            let case = format!("{len} of {} bytes", file.len());
            if len + 1 >= end.offset {
                // A record is there too when only its LF is missing.
                assert_eq!(outcome, Restored::Resumed, "{case}");
            } else {
                assert_eq!(outcome, Restored::Shorter, "{case}");
                let whole = lines.iter().filter(|end| **end <= len + 1).count() as u64;
                assert_eq!(numbers, (1..=whole).collect::<Vec<_>>(), "{case}: everything kept comes again");
            }
            disk.write_file("/a.jsonl", file.as_str()).unwrap();
        }
    }
}

/// S0-16, S0-18: a record with the same number or place, but other bytes, proves nothing.
#[test]
fn another_record_in_its_place_fails_the_proof() {
    for (file, other) in [(plain(1..=5), plain(2..=6)), (sealed(1..=5), sealed_from(1, 2..=6))] {
        let disk = disk_with(&[("/a.jsonl", &file)]);
        let known = checkpoint(&disk, "/a.jsonl", 2);
        disk.write_file("/a.jsonl", other).unwrap();
        assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::ProofFailed, vec![2, 3, 4, 5, 6]));
    }
    // The same last line, but another first one: an inode that was given to another file.
    let disk = disk_with(&[("/a.jsonl", "{\"n\":1}\n{\"n\":2}\n")]);
    let known = checkpoint(&disk, "/a.jsonl", 1);
    disk.write_file("/a.jsonl", "{\"n\":7}\n{\"n\":2}\n").unwrap();
    assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::ProofFailed, vec![7, 2]));
}

/// A journal that was rotated, archived or repaired: the place is only a hint.
#[test]
fn a_sealed_record_is_found_wherever_it_is_by_now() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=9))]);
    let known = checkpoint(&disk, "/a.jsonl", 4);
    disk.write_file("/a.000001.jsonl", sealed(1..=3)).unwrap();
    disk.write_file("/a.000002.jsonl", sealed(4..=6)).unwrap();
    disk.write_file("/a.jsonl", sealed(7..=9)).unwrap();
    assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::Resumed, vec![6, 7, 8, 9]));
}

#[test]
fn a_rotated_plain_journal_is_gone_on_with_in_the_archived_segment() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    let known = checkpoint(&disk, "/a.jsonl", 2);
    disk.rename("/a.jsonl", "/a.000001.jsonl").unwrap();
    disk.write_file("/a.jsonl", plain(6..=7)).unwrap();
    assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::Resumed, vec![4, 5, 6, 7]));
}

#[test]
fn a_pruned_record_tells_how_many_more_are_missing() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=9))]);
    let known = checkpoint(&disk, "/a.jsonl", 2);
    for first in 4..=9 {
        disk.write_file("/a.jsonl", sealed(first..=9)).unwrap();
        let expected = Restored::Pruned { missing: Some(first - 4) };
        assert_eq!(restored(&disk, "/a.jsonl", &known), (expected, (first..=9).collect()));
    }
    let disk = disk_with(&[("/a.000001.jsonl", &plain(1..=3)), ("/a.jsonl", &plain(4..=5))]);
    let known = checkpoint(&disk, "/a.jsonl", 1);
    disk.rename("/a.000001.jsonl", "/gone").unwrap();
    disk.write_file("/a.000002.jsonl", plain(3..=3)).unwrap();
    assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::Pruned { missing: None }, vec![3, 4, 5]));
}

/// S0-15: of an empty file nothing is known, and of nothing acknowledged reading starts anew.
#[test]
fn without_an_acknowledged_record_everything_is_new() {
    let disk = disk_with(&[("/a.jsonl", ""), ("/b.jsonl", "")]);
    let segments = Segments::open(&on(&disk), Path::new("/a.jsonl"), true).unwrap();
    let identity = Identity::of(&segments, &segments.newest().unwrap()).unwrap();
    assert_eq!(identity.fingerprint, None);
    let known = Checkpoint::of(&identity, None, 0);
    disk.write_file("/a.jsonl", plain(1..=2)).unwrap();
    assert_eq!(restored(&disk, "/a.jsonl", &known), (Restored::New, vec![1, 2]));
    assert_eq!(assigned(&disk, &[&known], &["/b.jsonl"]), [None]);
}

fn assigned(disk: &SimDisk, stored: &[&Checkpoint], journals: &[&str]) -> Vec<Option<usize>> {
    let journals: Vec<PathBuf> = journals.iter().map(PathBuf::from).collect();
    assign(&on(disk), &Names::default(), stored, &journals, LIMIT)
}

/// S0-14: equal files keep checkpoints of their own, and a copy does not inherit one.
#[test]
fn equal_files_keep_their_own_checkpoints() {
    for file in [plain(1..=5), sealed(1..=5)] {
        let disk = disk_with(&[("/a.jsonl", &file), ("/b.jsonl", &file), ("/copy.jsonl", &file)]);
        let (a, b) = (checkpoint(&disk, "/a.jsonl", 1), checkpoint(&disk, "/b.jsonl", 3));
        assert_eq!(assigned(&disk, &[&b, &a], &["/a.jsonl", "/b.jsonl", "/copy.jsonl"]), [Some(1), Some(0), None]);
        assert_eq!(assigned(&disk, &[&b, &a], &["/copy.jsonl", "/b.jsonl"]), [None, Some(0)], "the old path has it still");
    }
}

/// S0-16: a rename keeps the place, two files may change names, and an inode alone is worth nothing.
#[test]
fn a_renamed_file_keeps_its_checkpoint() {
    for (file, other) in [(plain(1..=5), plain(6..=9)), (sealed(1..=5), sealed_from(1, 6..=9))] {
        let disk = disk_with(&[("/a.jsonl", &file), ("/b.jsonl", &other)]);
        let (a, b) = (checkpoint(&disk, "/a.jsonl", 1), checkpoint(&disk, "/b.jsonl", 2));
        disk.rename("/a.jsonl", "/x.jsonl").unwrap();
        disk.rename("/b.jsonl", "/a.jsonl").unwrap();
        disk.rename("/x.jsonl", "/b.jsonl").unwrap();
        assert_eq!(assigned(&disk, &[&a, &b], &["/a.jsonl", "/b.jsonl"]), [Some(1), Some(0)]);
        assert_eq!(restored(&disk, "/b.jsonl", &a), (Restored::Renamed { from: "/a.jsonl".into() }, vec![3, 4, 5]));
        // Now an inode that was given to another file: neither its inode nor its path proves anything.
        disk.write_file("/b.jsonl", plain(20..=30)).unwrap();
        assert_eq!(assigned(&disk, &[&a], &["/b.jsonl"]), [None]);
    }
}

/// A file that was moved to another file system has another inode.
#[test]
fn a_copy_inherits_when_the_original_is_gone() {
    let file = plain(1..=5);
    let disk = disk_with(&[("/a.jsonl", &file), ("/b.jsonl", &file)]);
    let a = checkpoint(&disk, "/a.jsonl", 1);
    disk.remove("/a.jsonl").unwrap();
    assert_eq!(assigned(&disk, &[&a], &["/b.jsonl"]), [Some(0)]);
    // Copied and truncated, as log rotation does: the copy has the record, the original has it no more.
    let disk = disk_with(&[("/a.jsonl", &file), ("/b.jsonl", &file)]);
    let a = checkpoint(&disk, "/a.jsonl", 1);
    disk.truncate("/a.jsonl", 0).unwrap();
    assert_eq!(assigned(&disk, &[&a], &["/a.jsonl", "/b.jsonl"]), [None, Some(0)]);
}

/// S0-18: what matches nothing but a path is not dropped silently: it is restored there, and the outcome told.
#[test]
fn a_checkpoint_without_proof_goes_to_its_path() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    let a = checkpoint(&disk, "/a.jsonl", 1);
    disk.write_file("/a.jsonl", plain(7..=9)).unwrap();
    assert_eq!(assigned(&disk, &[&a], &["/a.jsonl"]), [Some(0)]);
    assert_eq!(restored(&disk, "/a.jsonl", &a), (Restored::ProofFailed, vec![7, 8, 9]));
}

/// S0-17: by a link or a second name a file is the same, and its old name is no rename.
#[test]
fn a_second_path_is_the_same_file() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    disk.symlink("/a.jsonl", "/link.jsonl").unwrap();
    let a = checkpoint(&disk, "/link.jsonl", 1);
    assert_eq!(a.path(), Some(Path::new("/a.jsonl")));
    assert_eq!(assigned(&disk, &[&a], &["/link.jsonl"]), [Some(0)]);
    disk.link("/a.jsonl", "/second.jsonl").unwrap();
    assert_eq!(restored(&disk, "/second.jsonl", &a).0, Restored::Resumed);
}

/// S0-10, S0-11, S0-19: a checkpoint goes back only to a source that was declared to be another one, and never loses what it knows.
#[test]
fn a_checkpoint_never_goes_back_and_never_gets_poorer() {
    for file in [plain(1..=5), sealed(1..=5)] {
        let disk = disk_with(&[("/a.jsonl", &file)]);
        let at = |nth| checkpoint(&disk, "/a.jsonl", nth);
        let after = |mut old: Checkpoint, next: Checkpoint| {
            old.advance(next);
            old
        };
        assert_eq!(after(at(1), at(3)), at(3));
        assert_eq!(after(at(3), at(1)), at(3));
        assert_eq!(after(at(3), Checkpoint { mark: None, ..at(3) }), at(3));
        let nameless = |nth| Checkpoint { path: None, fingerprint: None, ..at(nth) };
        assert_eq!(after(at(1), nameless(3)), at(3));
        assert_eq!(after(nameless(1), at(3)), at(3));
        assert_eq!(restored(&disk, "/a.jsonl", &nameless(3)), (Restored::Resumed, vec![5]));
        let declared = Checkpoint { generation: 1, ..at(0) };
        assert_eq!(after(at(3), declared.clone()), declared);
        assert_eq!(after(declared.clone(), at(3)), declared, "what was read before the truncation does not count");
        assert_eq!(after(at(3), at(3).reset()), at(3).reset());
    }
}

fn state(disk: &SimDisk, nth: usize) -> Vec<SourceState> {
    vec![SourceState::new(checkpoint(disk, "/a.jsonl", nth), 7)]
}

fn open(disk: &SimDisk, name: &str) -> Result<(Store, Stored)> {
    Store::open(&on(disk), Path::new(DIR), name)
}

fn sources(disk: &SimDisk) -> Vec<SourceState> {
    open(disk, "indexer").unwrap().1.sources().to_vec()
}

/// S0-01: what is saved is found again, and is one line that any JSON reader reads.
#[test]
fn a_saved_state_is_found_again() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=5))]);
    let (mut store, stored) = open(&disk, "indexer").unwrap();
    assert!(matches!(stored, Stored::New));
    store.save(&state(&disk, 1)).unwrap();
    store.save(&state(&disk, 3)).unwrap();
    drop(store);
    assert_eq!(sources(&disk), state(&disk, 3));
    let text = disk.read_file(format!("{DIR}/indexer/checkpoint.jsonl")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&value["_seq"], &value["checkpoint"]), (&2.into(), &"indexer".into()));
    assert_eq!(value["sources"][0]["checkpoint"]["last"]["seq"], 4);
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
}

/// S0-32, S0-33: nothing is created before something is saved, and where nothing can be created the error says so.
#[test]
fn nothing_is_created_before_there_is_something_to_save() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    let (mut store, _) = open(&disk, "indexer").unwrap();
    assert_eq!(on(&disk).kind(Path::new(DIR)).unwrap(), None);
    disk.fail(Fault { at: OpMatch::every(OpKind::CreateDir), how: How::Errno(30) });
    let error = store.save(&state(&disk, 1)).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ReadOnly, Some(30)));
    assert_eq!(error.to_string(), "cannot use the checkpoints in `/checkpoints/indexer`");
    disk.heal();
    store.save(&state(&disk, 1)).unwrap();
    assert!(on(&disk.crash_now()).kind(Path::new(DIR)).unwrap().is_some());
}

/// S0-25, F43: the second process with a name is refused and told who has it, also if both came before there was a directory.
#[test]
fn a_name_belongs_to_one_process() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    let other = disk.as_process(77, "other");
    let (mut first, _) = open(&disk, "indexer").unwrap();
    let (mut second, _) = open(&other, "indexer").unwrap();
    first.save(&state(&disk, 1)).unwrap();
    for error in [second.save(&state(&disk, 2)).unwrap_err(), open(&other, "indexer").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NameInUse);
        let pid = std::process::id();
        assert_eq!(error.to_string(), format!("cannot use the checkpoints in `/checkpoints/indexer`: process {pid} uses it"));
    }
    drop(first);
    assert_eq!(second.save(&state(&disk, 2)).unwrap_err().kind(), ErrorKind::NameInUse, "the other has saved since");
    assert_eq!(sources(&other), state(&disk, 1));
}

/// S0-24: consumers of one directory keep apart, and no name leads out of it.
#[test]
fn consumers_of_one_directory_keep_apart() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    for (name, nth) in [("indexer", 1), ("shipper", 2), ("\u{e4} b%", 3)] {
        open(&disk, name).unwrap().0.save(&state(&disk, nth)).unwrap();
    }
    for (name, nth) in [("indexer", 1), ("shipper", 2), ("\u{e4} b%", 3)] {
        assert_eq!(open(&disk, name).unwrap().1.sources(), state(&disk, nth));
    }
    for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", "a\0", &"x".repeat(129)] {
        let error = open(&disk, name).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with("a consumer"), "{name}");
    }
}

/// S0-31, F41: a damaged state falls back to the one before; without one, opening succeeds and tells.
#[test]
fn a_damaged_state_is_told_and_the_one_before_is_used() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=5))]);
    let (mut store, _) = open(&disk, "indexer").unwrap();
    store.save(&state(&disk, 1)).unwrap();
    store.save(&state(&disk, 2)).unwrap();
    drop(store);
    let path = format!("{DIR}/indexer/checkpoint.jsonl");
    let good = disk.read_file(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.write_file(&path, bytes).unwrap();
        let (store, stored) = open(&disk, "indexer").unwrap();
        let Stored::Previous(found, why) = stored else { panic!("bit {bit}: {stored:?}") };
        assert_eq!((found.sources, why.kind()), (state(&disk, 1), ErrorKind::Corrupt), "bit {bit}");
        drop(store);
    }
    for len in 0..good.len() {
        disk.write_file(&path, &good[..len]).unwrap();
        assert!(matches!(open(&disk, "indexer").unwrap().1, Stored::Previous(..)), "cut to {len} bytes");
    }
    disk.write_file(name_of_previous(&path), "").unwrap();
    let (mut store, stored) = open(&disk, "indexer").unwrap();
    assert!(matches!(stored, Stored::Damaged));
    store.save(&state(&disk, 3)).unwrap();
    drop(store);
    assert_eq!(sources(&disk), state(&disk, 3));
}

fn name_of_previous(path: &str) -> String {
    format!("{path}.previous")
}

#[test]
fn a_state_of_a_newer_version_is_neither_read_nor_replaced() {
    let disk = disk_with(&[("/a.jsonl", &plain(1..=5))]);
    let line = crate::internals::sealed(b"{\"checkpoint\":\"indexer\",\"version\":2,\"more\":[]}", 4, 0);
    disk.write_file(format!("{DIR}/indexer/checkpoint.jsonl"), line).unwrap();
    let error = open(&disk, "indexer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewerFormat);
    assert!(error.to_string().ends_with("it has version 2"), "{error}");
}

/// S0-22, S0-27, F40: whatever call fails, the state in place is the old or the new one, the error is the caller's to see, and the next save
/// succeeds.
#[test]
fn a_failed_save_can_be_tried_again() {
    let before = disk_with(&[("/a.jsonl", &sealed(1..=5))]);
    let (mut store, _) = open(&before, "indexer").unwrap();
    store.save(&state(&before, 0)).unwrap();
    drop(store);
    let prepared = |disk: &SimDisk| (open(disk, "indexer").unwrap().0, [state(disk, 1), state(disk, 2)]);
    let disk = before.kill();
    let (mut store, [first, _]) = prepared(&disk);
    let from = disk.ops();
    store.save(&first).unwrap();
    let until = disk.ops();
    assert!(until - from > 6);
    drop(store);
    for op in from..until {
        let disk = before.kill();
        let (mut store, [first, second]) = prepared(&disk);
        disk.fail(Fault { at: OpMatch::nth(op), how: How::Errno(5) });
        let saved = store.save(&first);
        disk.heal();
        let generation = store.generation();
        let is_in_place = saved.is_ok() || saved.is_err_and(|error| error.kind() == ErrorKind::DurabilityUnknown);
        assert_eq!(generation, if is_in_place { 2 } else { 1 }, "op {op}");
        store.save(&second).unwrap();
        drop(store);
        for image in disk.crash_images(&Bounds::every(64)) {
            assert_eq!(sources(&image), second, "op {op}");
        }
    }
}

/// Ten thousand sources are one save.
#[test]
fn ten_thousand_sources_are_saved_as_one() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=5))]);
    let one = state(&disk, 1).pop().unwrap();
    let path = |at: usize| Some(format!("/sessions/2026/11/21/rollout-{at:05}.jsonl").into());
    let many: Vec<_> =
        (0..10_000).map(|at| SourceState { checkpoint: Checkpoint { path: path(at), ..one.checkpoint.clone() }, ..one.clone() }).collect();
    open(&disk, "indexer").unwrap().0.save(&many).unwrap();
    assert_eq!(sources(&disk), many);
    let bytes = disk.read_file(format!("{DIR}/indexer/checkpoint.jsonl")).unwrap().len();
    assert!(bytes < 10_000 * 300, "{bytes} bytes");
}

fn needs(disk: &SimDisk, path: &str) -> Result<Vec<Need>> {
    needed(&Segments::open(&on(disk), Path::new(path), true)?, Path::new(DIR), LIMIT)
}

/// A consumer that had claimed its name, and died before it saved anything, did not keep its records from being pruned.
#[test]
fn a_consumer_that_has_saved_nothing_needs_everything() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=3))]);
    open(&disk, "new").unwrap().0.claim().unwrap();
    let everything = [Need { consumer: "new".to_owned(), from: Needed::Everything }];
    assert_eq!(needs(&disk, "/a.jsonl").unwrap(), everything);
    let segments = Segments::open(&on(&disk), Path::new("/a.jsonl"), true).unwrap();
    assert_eq!(needed(&segments, Path::new("/checkpoints/new"), LIMIT).unwrap(), everything);
}

/// What prune has to know: the position and the number behind the last acknowledged record, of the consumers of this journal.
#[test]
fn what_consumers_still_need_of_a_journal_is_known() {
    let disk = disk_with(&[("/a.000001.jsonl", &sealed(1..=3)), ("/a.jsonl", &sealed(4..=9)), ("/b.jsonl", &sealed(1..=3))]);
    let save = |name, path, nth| open(&disk, name).unwrap().0.save(&[SourceState::new(checkpoint(&disk, path, nth), 0)]).unwrap();
    save("first", "/a.jsonl", 1);
    save("other", "/b.jsonl", 1);
    save("second", "/a.jsonl", 6);
    let mark = |nth: usize| records(&disk, "/a.jsonl")[nth].mark;
    let from = |nth: usize| Needed::From { position: mark(nth).end, seq: Some(nth as u64 + 2) };
    let need = |consumer: &str, from| Need { consumer: consumer.to_owned(), from };
    assert_eq!(needs(&disk, "/a.jsonl").unwrap(), [need("first", from(1)), need("second", from(6))]);
    assert!(from(1) < from(6) && Needed::Everything < from(1));

    // The directory of one consumer will do.
    let segments = Segments::open(&on(&disk), Path::new("/a.jsonl"), true).unwrap();
    assert_eq!(needed(&segments, Path::new("/checkpoints/second"), LIMIT).unwrap(), [need("second", from(6))]);

    // One that starts anew needs all, and so does one whose record is gone.
    let (mut store, stored) = open(&disk, "first").unwrap();
    let anew = SourceState::new(stored.sources()[0].checkpoint.reset(), 0);
    store.save(&[anew]).unwrap();
    drop(store);
    disk.write_file("/a.jsonl", sealed(4..=5)).unwrap();
    let all = [need("first", Needed::Everything), need("second", Needed::Everything)];
    assert_eq!(needs(&disk, "/a.jsonl").unwrap(), all);

    // A state that cannot be read may need anything.
    let path = format!("{DIR}/second/checkpoint.jsonl");
    disk.write_file(&path, "x").unwrap();
    disk.remove(name_of_previous(&path)).unwrap_or_default();
    assert_eq!(needs(&disk, "/a.jsonl").unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(needed(&segments, Path::new("/nowhere"), LIMIT).unwrap_err().kind(), ErrorKind::Io);
}

/// A journal that is rotated by its writer keeps its consumers: what they need is told in the archived segment.
#[test]
fn a_consumer_of_a_renamed_segment_is_one_of_the_journal() {
    let disk = SimDisk::new();
    let mut writer = Writer::options().disk(&disk).open("/a.jsonl").unwrap();
    for n in 1..=5 {
        writer.append(&serde_json::json!({ "n": n })).unwrap();
    }
    drop(writer);
    let known = checkpoint(&disk, "/a.jsonl", 2);
    open(&disk, "indexer").unwrap().0.save(&[SourceState::new(known, 0)]).unwrap();
    disk.rename("/a.jsonl", "/renamed.000001.jsonl").unwrap();
    disk.write_file("/renamed.jsonl", sealed(6..=7)).unwrap();
    let found = needs(&disk, "/renamed.jsonl").unwrap();
    assert!(matches!(found[..], [Need { from: Needed::From { seq: Some(4), position: Position { segment: 1, .. } }, .. }]), "{found:?}");
}

/// Any value that was stored elsewhere is taken up or refused, without a panic.
#[test]
fn no_stored_value_is_trusted() {
    let disk = disk_with(&[("/a.jsonl", &sealed(1..=5)), ("/b.jsonl", &plain(1..=5)), ("/c.jsonl", "")]);
    let good = serde_json::to_value(checkpoint(&disk, "/a.jsonl", 2)).unwrap();
    let numbers = [0, 1, 6, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX];
    for member in ["seq", "segment", "start", "end"] {
        for number in numbers {
            for seq in [serde_json::Value::Null, 3.into()] {
                let mut value = good.clone();
                value["last"]["seq"] = seq;
                value["last"][member] = number.into();
                let known: Checkpoint = serde_json::from_value(value).unwrap();
                for path in ["/a.jsonl", "/b.jsonl", "/c.jsonl"] {
                    let (outcome, numbers) = restored(&disk, path, &known);
                    assert!(outcome.is_proved() || numbers.len() == 5 || path == "/c.jsonl", "{outcome:?}");
                }
            }
        }
    }
    assert!(serde_json::from_str::<Checkpoint>("{}").is_err());
}
