//! Repair loses nothing and invents nothing: what is taken out is in quarantine, what can be trusted stays, and what was shown is what is done.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::Engine as _;
use serde_json::Value;
use untorn::{
    Code, ErrorKind, RepairMethod, RepairOptions, Repaired, Unterminated, What, plan_repair,
    sim::{OpKind, SimDisk},
    undo_repair,
};

use crate::support::TestJournal;

mod batches;
mod conservation;
mod others;

/// A sealed line without its LF; `open` is an object without its `}`.
fn sealed(open: &str, seq: u64, more: u64) -> String {
    let more = if more > 0 { format!(",\"_more\":{more}") } else { String::new() };
    let covered = format!("{open},\"_seq\":{seq}{more}");
    format!("{covered},\"_crc\":\"{:08x}\"}}", crc32fast::hash(covered.as_bytes()))
}

fn repair(journal: &TestJournal) -> Repaired {
    plan_repair(&journal.path).expect("the file can be planned for").apply().expect("the plan can be applied")
}

/// What the newest repair in the quarantine says it did: ranges with their bytes, and offsets of added LFs.
struct Kept {
    ranges: Vec<(usize, Vec<u8>, String)>,
    added: Vec<usize>,
}

fn newest_repair(journal: &TestJournal) -> Kept {
    let text = journal.quarantine().unwrap_or_default();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("the quarantine is JSON Lines")).collect();
    let Some(newest) = entries.iter().rev().find(|entry| entry.get("before_len").is_some()) else {
        return Kept { ranges: Vec::new(), added: Vec::new() };
    };
    let mut kept = Kept { ranges: Vec::new(), added: Vec::new() };
    for entry in entries.iter().filter(|entry| entry["repair"] == newest["repair"]) {
        let Some(offset) = entry.get("offset").map(|offset| offset.as_u64().unwrap() as usize) else { continue };
        let bytes = match (entry.get("text"), entry.get("base64"), entry.get("nul")) {
            (Some(text), ..) => text.as_str().unwrap().as_bytes().to_vec(),
            (_, Some(base64), _) => base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap(),
            (.., Some(_)) => vec![0; entry["len"].as_u64().unwrap() as usize],
            _ => {
                kept.added.push(offset);
                continue;
            }
        };
        assert_eq!(entry["len"], bytes.len());
        assert_eq!(entry["crc"], format!("{:08x}", crc32fast::hash(&bytes)));
        kept.ranges.push((offset, bytes, entry["reason"].as_str().unwrap().to_owned()));
    }
    kept.ranges.sort();
    kept
}

impl Kept {
    /// What `before` is without the ranges and with the LFs. Each range must hold what `before` holds there.
    fn applied_to(&self, before: &[u8]) -> Vec<u8> {
        let mut after = Vec::new();
        let mut added = self.added.clone();
        added.sort();
        let mut added = added.into_iter().peekable();
        let mut ranges = self.ranges.iter().peekable();
        let mut at = 0;
        while at <= before.len() {
            if added.next_if_eq(&at).is_some() {
                after.push(b'\n');
            }
            if let Some((offset, bytes, _)) = ranges.next_if(|(offset, ..)| *offset == at) {
                assert_eq!(before.get(*offset..offset + bytes.len()), Some(&bytes[..]), "the quarantine has other bytes at {offset}");
                at += bytes.len();
                if bytes.is_empty() {
                    break;
                }
                continue;
            }
            after.extend(before.get(at));
            at += 1;
        }
        after
    }
}

/// The damage of the wild, and what is left of it: C1 to C11, C14 to C21, C25, C31, S2-31, X-01, X-02, X-05.
#[test]
fn each_damage_of_the_wild_is_repaired_to_the_records_that_can_be_trusted() {
    let nul = "\0".repeat(700);
    let big = "x".repeat(9000);
    let s = |seq| sealed(&format!("{{\"id\":{seq}"), seq, 0);
    let (s1, s2, s3, s4) = (s(1), s(2), s(3), s(4));
    let cases: Vec<(&str, Vec<u8>, String, &[Code])> = vec![
        ("C1", b"{\"id\":1}\n{\"id\":2,\"te{\"id\":3}\n".to_vec(), "{\"id\":1}\n{\"id\":3}\n".into(), &[Code::Spliced]),
        ("C2", b"{\"id\":1}\n{\"id\":2,\"te{\"id\":2,\"text\":1}\n".to_vec(), "{\"id\":1}\n{\"id\":2,\"text\":1}\n".into(), &[Code::Spliced]),
        ("C3", b"{\"id\":1}{\"id\":2}\n{\"id\":3}\n".to_vec(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n".into(), &[Code::Glued]),
        ("C3", b"{\"id\":1}{\"id\":2}{\"id\":3,\"te\n".to_vec(), "{\"id\":1}\n{\"id\":2}\n".into(), &[Code::Glued]),
        ("C4", b"{\"id\":1}\n{\"id\":2,\"te".to_vec(), "{\"id\":1}\n".into(), &[Code::TornTail]),
        ("C5", b"{\"id\":1}\n{\"id\":2}".to_vec(), "{\"id\":1}\n{\"id\":2}\n".into(), &[Code::Unterminated]),
        ("C6", b"{\"id\":1}\n{\"id\":2,\"te\n{\"id\":3}\n".to_vec(), "{\"id\":1}\n{\"id\":3}\n".into(), &[Code::NotJson]),
        ("C7", format!("{{\"id\":1}}\n{nul}\n{{\"id\":3}}\n").into(), "{\"id\":1}\n{\"id\":3}\n".into(), &[Code::NulRun]),
        ("C7", format!("{{\"id\":1}}\n{nul}").into(), "{\"id\":1}\n".into(), &[Code::NulRun]),
        (
            "C8",
            format!("{{\"id\":1}}{nul}\n{{\"id\":2}}{nul}").into(),
            "{\"id\":1}\n{\"id\":2}\n".into(),
            &[Code::NulRun, Code::Unterminated, Code::NulRun],
        ),
        ("C9", format!("{nul}{{\"id\":1}}\n").into(), "{\"id\":1}\n".into(), &[Code::NulRun]),
        ("C10", nul.clone().into(), String::new(), &[Code::NulRun]),
        ("C11", format!("{s1}\n{{\"id\":2,\"{big}{s3}{big}\"}}\n{s4}\n").into(), format!("{s1}\n{s3}\n{s4}\n"), &[Code::Spliced]),
        ("C14", b"{\"id\":1}\n\xE6\x87\n{\"id\":2}\n".to_vec(), "{\"id\":1}\n{\"id\":2}\n".into(), &[Code::NotUtf8]),
        ("C15", b"{\"id\":\"\\ud800\"}\nx\n".to_vec(), "{\"id\":\"\\ud800\"}\n".into(), &[Code::NotJson]),
        ("C16", "{\"id\":\"\u{2028}\u{85}\"}\nx\n".into(), "{\"id\":\"\u{2028}\u{85}\"}\n".into(), &[Code::NotJson]),
        ("C17", b"{\"a\":1,\"b\":\"x\ny\"}\n".to_vec(), String::new(), &[Code::NotJson]),
        ("C18", b"\xEF\xBB\xBF{\"id\":1}\nx\n".to_vec(), "\u{feff}{\"id\":1}\n".into(), &[Code::NotJson]),
        ("C18", b"\xEF\xBB\xBF{\"id\":1}{\"id\":2}\n".to_vec(), "{\"id\":1}\n{\"id\":2}\n".into(), &[Code::Glued]),
        ("C18", b"\xEF\xBB\xBFx{\"id\":1}\n{\"id\":2}\n".to_vec(), "{\"id\":1}\n{\"id\":2}\n".into(), &[Code::Spliced]),
        (
            "C19",
            b"{\"id\":1}\r\nx\r\n{\"id\":2}{\"id\":3}\r\n".to_vec(),
            "{\"id\":1}\r\n{\"id\":2}\n{\"id\":3}\r\n".into(),
            &[Code::NotJson, Code::Glued],
        ),
        ("C20", b"\n{\"id\":1}\n \t\nx\n\n".to_vec(), "\n{\"id\":1}\n \t\n\n".into(), &[Code::NotJson]),
        ("C25", b"[1]\n2\n\"x\"\nnull\nx\n".to_vec(), "[1]\n2\n\"x\"\nnull\n".into(), &[Code::NotJson]),
        ("C31", b"{\"header\":\n{\"id\":1}\n".to_vec(), "{\"id\":1}\n".into(), &[Code::NotJson]),
        ("X-01", b"{\"id\":1}\n{\"id\":2}{\"id\":3}".to_vec(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n".into(), &[Code::Glued]),
        ("X-02", b"{\"id\":1}\n{\"id\":2,\"te \0\0 \0".to_vec(), "{\"id\":1}\n".into(), &[Code::TornTail]),
        ("crc", format!("{s1}\n{}\n{s3}\n", s2.replace("id", "ie")).into(), format!("{s1}\n{s3}\n"), &[Code::CrcMismatch]),
        ("torn before a whole last record", b"{\"id\":1}\n{\"id\":2,\"te{\"id\":3}".to_vec(), "{\"id\":1}\n{\"id\":3}\n".into(), &[Code::Spliced]),
        ("two places", format!("{s1}\n\0{s2}\n{s3}\n\0{s4}\n{}\n", s(5)).into(), format!("{s1}\n{s2}\n{s3}\n{s4}\n{}\n", s(5)), &[Code::NulRun]),
        ("a bare literal may go on", b"{\"id\":1}\ntrue".to_vec(), "{\"id\":1}\n".into(), &[Code::TornTail]),
    ];
    for (row, before, after, codes) in cases {
        let journal = TestJournal::with_bytes(&before);
        let plan = plan_repair(&journal.path).unwrap();
        let mut found: Vec<Code> = plan.actions().iter().map(|action| action.reason).collect();
        found.dedup();
        assert_eq!(found, codes, "{row}");
        let repaired = plan.apply().unwrap();
        assert_eq!(journal.text(), after, "{row}");
        assert_eq!((repaired.remaining, repaired.len_after as usize), (0, after.len()), "{row}");
        assert_eq!(newest_repair(&journal).applied_to(&before), after.as_bytes(), "{row}");
        assert!(plan_repair(&journal.path).unwrap().is_empty(), "{row}: a second run has something to do");
        undo_repair(&journal.path).unwrap();
        assert_eq!(journal.bytes(), before, "{row}: undone");
    }
}

/// X-05, S2-30: damage in the middle is told with line, byte and length, and what follows it stays.
#[test]
fn the_plan_names_each_damaged_place() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\ny\n{\"id\":2,\"te{\"id\":3}\n{\"id\":4}\n{\"id\":5,");
    let plan = plan_repair(&journal.path).unwrap();
    let actions: Vec<_> =
        plan.actions().iter().map(|action| (action.what, action.reason, action.line, action.lines, action.offset, action.len)).collect();
    assert_eq!(
        actions,
        [
            (What::Remove, Code::NotJson, 2, 2, 9, 4),
            (What::Remove, Code::Spliced, 4, 1, 13, 11),
            (What::Salvage, Code::Spliced, 4, 1, 24, 8),
            (What::Remove, Code::TornTail, 6, 1, 42, 8),
        ]
    );
    assert_eq!((plan.kept(), plan.salvaged(), plan.removed_bytes()), (2, 1, 23));
    assert_eq!((plan.how(), plan.len_before(), plan.len_after()), (RepairMethod::Rewrite, 50, 27));
    assert!(plan.space().needed >= 27);
    let repaired = plan.apply().unwrap();
    assert_eq!((repaired.kept, repaired.salvaged, repaired.removed_bytes), (2, 1, 23));
}

/// S2-19: a single torn record goes to quarantine before the file becomes empty.
#[test]
fn a_single_torn_record_is_kept_in_quarantine() {
    let journal = TestJournal::with_bytes("{\"only\":");
    let repaired = repair(&journal);
    assert_eq!((journal.text().as_str(), repaired.removed_bytes), ("", 8));
    assert_eq!(newest_repair(&journal).ranges, [(0, b"{\"only\":".to_vec(), "torn-tail".to_owned())]);
}

/// X-11: a rewrite keeps the old file under a second name, and the removed bytes in quarantine.
#[test]
fn a_rewrite_keeps_backup_owner_and_mode() {
    let before = "{\"id\":1}\nx\n{\"id\":2}\n";
    let journal = TestJournal::with_bytes(before);
    fs::set_permissions(&journal.path, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(&journal.path).unwrap().ino();
    let plan = plan_repair(&journal.path).unwrap();
    assert!(plan.backs_up());
    let repaired = plan.apply().unwrap();
    let backup = repaired.backup.expect("there is a backup");
    assert_eq!((fs::read_to_string(&backup).unwrap().as_str(), fs::metadata(&backup).unwrap().ino()), (before, inode));
    let name = backup.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("j.jsonl.bak-{}", repaired.repair.unwrap()));
    for path in [&journal.path, &repaired.quarantine.unwrap()] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
    }
    assert_eq!(fs::read_dir(journal.dir()).unwrap().count(), 3, "no temporary file is left");
}

/// What another user's repair, or one under a narrow umask, kept was closed to the journal's own writers, and they could not open it when it was torn
/// again.
#[test]
fn the_quarantine_belongs_to_whom_the_journal_belongs_to() {
    let journal = TestJournal::with_bytes("{\"id\":1}\n{\"id\":2,\"te");
    // Only root gives a file away; for anybody else there is the mode to look at.
    let _ = std::os::unix::fs::chown(&journal.path, Some(4321), Some(4321));
    fs::set_permissions(&journal.path, fs::Permissions::from_mode(0o666)).unwrap();
    let quarantine = repair(&journal).quarantine.expect("something was removed");
    let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid(), file.mode() & 0o7777)).unwrap();
    assert_eq!(owner(&quarantine), owner(&journal.path));
}

#[test]
fn damage_at_the_end_is_cut_in_place() {
    let journal = TestJournal::with_bytes("{\"id\":1}\nx\n{\"id\":2,");
    let inode = fs::metadata(&journal.path).unwrap().ino();
    let plan = plan_repair(&journal.path).unwrap();
    assert_eq!((plan.how(), plan.backs_up()), (RepairMethod::InPlace, false));
    let repaired = plan.apply().unwrap();
    assert_eq!((repaired.backup, fs::metadata(&journal.path).unwrap().ino()), (None, inode));
    assert_eq!(journal.text(), "{\"id\":1}\n");
}

/// A cut, be it to the length that the file has, takes what others append at that moment.
#[test]
fn a_repair_that_only_adds_an_lf_cuts_nothing() {
    let disk = SimDisk::new();
    disk.write_file("/j.jsonl", "{\"id\":1}\n{\"id\":2}").unwrap();
    RepairOptions::new().disk(&disk).plan("/j.jsonl").unwrap().apply().unwrap();
    assert_eq!(disk.read_file("/j.jsonl").unwrap(), b"{\"id\":1}\n{\"id\":2}\n");
    assert!(disk.log().iter().all(|op| op.kind != OpKind::Cut));
}

#[test]
fn options_say_what_stays() {
    let before = "{\"id\":1}\n{\"id\":2}{\"id\":3}\n{\"id\":4}";
    let with = |change: fn(&mut RepairOptions)| {
        let journal = TestJournal::with_bytes(before);
        let mut options = RepairOptions::new();
        change(&mut options);
        let repaired = options.plan(&journal.path).unwrap().apply().unwrap();
        (journal.text(), repaired.backup.is_some(), repaired.quarantine.unwrap())
    };
    let (text, ..) = with(|options| {
        options.without_salvage();
    });
    assert_eq!(text, "{\"id\":1}\n{\"id\":4}\n");
    let (text, ..) = with(|options| {
        options.unterminated(Unterminated::Quarantine);
    });
    assert_eq!(text, "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    let (_, has_backup, _) = with(|options| {
        options.without_backup();
    });
    assert!(!has_backup);
    let (_, _, quarantine) = with(|options| {
        options.quarantine(std::env::temp_dir().join(format!("untorn-quarantine-{}", std::process::id())));
    });
    assert!(quarantine.exists());
    fs::remove_file(quarantine).unwrap();
}

/// C21: a line over the limit goes to quarantine whole, in pieces.
#[test]
fn a_line_over_the_limit_is_moved_whole() {
    let long = format!("{{\"long\":\"{}\"}}\n", "x".repeat(3 << 20));
    let before = format!("{{\"id\":1}}\n{long}{{\"id\":2}}\n");
    let journal = TestJournal::with_bytes(&before);
    let plan = RepairOptions::new().line_bytes_max(1 << 20).plan(&journal.path).unwrap();
    assert_eq!((plan.actions()[0].reason, plan.actions().len()), (Code::TooLong, 1));
    plan.apply().unwrap();
    assert_eq!(journal.text(), "{\"id\":1}\n{\"id\":2}\n");
    undo_repair(&journal.path).unwrap();
    assert_eq!(journal.text(), before);
}

#[test]
fn a_last_line_counts_without_its_lf_too() {
    assert_eq!(plan_repair(TestJournal::with_bytes("{\"id\":1}\n{\"id\":2}").path).unwrap().kept(), 2);
    let open_batch = format!("{}\n{}", sealed("{\"id\":2", 2, 2), sealed("{\"id\":3", 3, 1));
    let plan = plan_repair(TestJournal::with_bytes(format!("{}\n{open_batch}", sealed("{\"id\":1", 1, 0))).path).unwrap();
    assert_eq!(plan.actions().iter().map(|action| (action.line, action.lines)).collect::<Vec<_>>(), [(2, 2)]);
}

/// The quarantine says of NULs how many they are, and of anything else what it is.
#[test]
fn nuls_need_no_room_in_the_quarantine() {
    for (byte, is_kept) in [(b'x', true), (0, false)] {
        let plan = plan_repair(TestJournal::with_bytes(vec![byte; 1 << 20]).path).unwrap();
        assert_eq!(plan.removed_bytes(), 1 << 20);
        assert_eq!(plan.space().needed > 1 << 20, is_kept, "{:?}", plan.space());
    }
}

/// What is asked for is what will be taken: a repair is not refused for want of room that it has no need of.
#[test]
fn about_as_much_room_is_asked_for_as_is_taken() {
    let healthy = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1 << 20));
    for torn in [&b"{\"to"[..], &vec![0xFF; 1 << 20]] {
        let journal = TestJournal::with_bytes([healthy.as_bytes(), torn].concat());
        let plan = plan_repair(&journal.path).unwrap();
        let (how, needed) = (plan.how(), plan.space().needed as usize);
        plan.apply().unwrap();
        let taken = journal.quarantine().unwrap().len();
        assert_eq!(how, RepairMethod::InPlace);
        assert!(needed.abs_diff(taken) < 1024, "{needed} bytes are asked for, {taken} are taken");
    }
}

/// A repair that would run out of room halfway is not begun.
#[test]
fn without_room_nothing_is_written() {
    let disk = SimDisk::new();
    disk.write_file("/j.jsonl", "{\"id\":1}\n{\"to\n{\"id\":2}\n").unwrap();
    let used = disk.read_file("/j.jsonl").unwrap().len();
    let plan = || RepairOptions::new().disk(&disk).plan("/j.jsonl").unwrap();
    let needed = plan().space().needed as usize;
    disk.set_capacity(Some(used + needed - 1));
    let before = disk.ops();
    assert_eq!(plan().apply().unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(disk.log()[before..].iter().all(|op| op.kind != OpKind::Write));
    disk.set_capacity(Some(used + needed));
    assert_eq!(plan().apply().unwrap().removed_bytes, 5);
}

/// What follows on the first damage is read twice, and that is told as soon as it is known.
#[test]
fn progress_goes_forwards_to_an_end_that_is_known_from_the_first_damage_on() {
    let healthy = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1 << 20)).repeat(6);
    let (before, len) = (healthy.len() as u64, 2 * healthy.len() as u64 + 5);
    let journal = TestJournal::with_bytes(format!("{healthy}{{\"to\n{healthy}"));
    let mut told = Vec::new();
    let plan = RepairOptions::new().plan_with(&journal.path, &mut |progress| told.push((progress.bytes_done, progress.bytes_total)));
    assert_eq!(plan.unwrap().removed_bytes(), 5);
    assert!(told.is_sorted_by(|(one, _), (next, _)| one < next), "{told:?}");
    assert!(told.iter().all(|(done, total)| done <= total), "{told:?}");
    assert!(told.last().is_some_and(|(done, _)| *done > len), "the second walk is told of too: {told:?}");
    let mut totals: Vec<_> = told.into_iter().map(|(_, total)| total).collect();
    totals.dedup();
    assert_eq!(totals, [len, len + (len - before)]);
}

/// X-12: a journal of a newer format is refused, and not a byte is touched.
#[test]
fn a_newer_format_is_not_touched() {
    let open = r#"{"a":1,"_seq":1,"_key":"k""#;
    let newer = format!(r#"{open},"_crc":"{:08x}"}}"#, crc32fast::hash(open.as_bytes()));
    for before in [format!("x\n{newer}\n"), format!("x\n{newer}")] {
        let journal = TestJournal::with_bytes(&before);
        let error = plan_repair(&journal.path).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::NewerFormat, Some(2)));
        assert_eq!((journal.text(), journal.quarantine()), (before, None));
    }
}

#[test]
fn a_compressed_file_is_refused_with_a_hint() {
    // The second and third begin with a frame that decompressors skip.
    let heads: [(&[u8], &str); 4] = [
        (b"\x28\xB5\x2F\xFD\x04\0", "zstd -d"),
        (b"\x50\x2A\x4D\x18\0", "zstd -d"),
        (b"\x5F\x2A\x4D\x18\0", "zstd -d"),
        (b"\x1F\x8B\x08\0", "gzip -d"),
    ];
    for (magic, tool) in heads {
        let error = plan_repair(&TestJournal::with_bytes(magic).path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compressed);
        assert!(error.to_string().contains(tool), "{error}");
    }
}

/// What a program tells its user is what happened.
#[test]
fn a_repair_tells_all_that_it_did() {
    let cases = [
        ("{\"id\":1}\n{\"id\":2,", "{\"id\":1}\n", (1, 0, false, 8)),
        ("{\"id\":1}\n{\"id\":2}", "{\"id\":1}\n{\"id\":2}\n", (2, 0, true, 0)),
        ("{\"id\":1}\nx\n{\"id\":2}{\"id\":3}\n{\"id\":4}", "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n", (2, 2, true, 2)),
    ];
    for (before, after, counts) in cases {
        let journal = TestJournal::with_bytes(before);
        let plan = plan_repair(&journal.path).unwrap();
        let (quarantine, backs_up) = (plan.quarantine(), plan.backs_up());
        let repaired = plan.apply().unwrap();
        assert_eq!(journal.text(), after);
        assert!(repaired.changed);
        assert_eq!((repaired.kept, repaired.salvaged, repaired.terminated, repaired.removed_bytes), counts, "{before}");
        assert_eq!((repaired.len_before, repaired.len_after), (before.len() as u64, after.len() as u64), "{before}");
        assert_eq!((repaired.late_bytes, repaired.remaining), (0, 0), "{before}");
        assert_eq!((repaired.backup.is_some(), &repaired.quarantine), (backs_up, &Some(quarantine)), "{before}");
        let kept: Value = serde_json::from_str(journal.quarantine().unwrap().lines().last().unwrap()).unwrap();
        assert_eq!(kept["repair"].as_str(), repaired.repair.as_deref(), "{before}");
    }
}

#[test]
fn what_a_repair_would_leave_can_be_written_elsewhere() {
    let before = "{\"id\":1}\nx\n{\"id\":2}{\"id\":3}\n";
    let journal = TestJournal::with_bytes(before);
    let out = journal.dir().join("out.jsonl");
    let repaired = plan_repair(&journal.path).unwrap().write_to(&out).unwrap();
    assert_eq!((repaired.changed, repaired.kept, repaired.salvaged), (true, 1, 2));
    assert_eq!(fs::read_to_string(&out).unwrap(), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    assert_eq!((journal.text().as_str(), journal.quarantine()), (before, None));
    assert!(plan_repair(&journal.path).unwrap().write_to(&out).is_err(), "a file that exists is not replaced");

    let plan = plan_repair(&journal.path).unwrap();
    fs::write(&journal.path, before.replace('x', "y")).unwrap();
    let other = journal.dir().join("other.jsonl");
    assert_eq!(plan.write_to(&other).unwrap_err().kind(), ErrorKind::Changed);
    assert!(!other.exists());
}

#[test]
fn nothing_to_do_changes_nothing() {
    for clean in ["", "\u{feff}", "{\"id\":1}\n", "\n \n{\"id\":1}\r\n"] {
        let journal = TestJournal::with_bytes(clean);
        let modified = fs::metadata(&journal.path).unwrap().modified().unwrap();
        let plan = plan_repair(&journal.path).unwrap();
        assert!(plan.is_empty());
        assert!(!plan.apply().unwrap().changed);
        assert_eq!((journal.text().as_str(), journal.quarantine()), (clean, None));
        assert_eq!(fs::metadata(&journal.path).unwrap().modified().unwrap(), modified);
    }
    assert_eq!(plan_repair(PathBuf::from("/nowhere/at/all.jsonl")).unwrap_err().kind(), ErrorKind::Io);
}
