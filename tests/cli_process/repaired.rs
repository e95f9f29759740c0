//! Repair from end to end: the damage is named, the plan shown and done, the rest verified, and the original had back byte for byte.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
    process::Stdio,
    time::Instant,
};

use serde_json::Value;

use crate::support::{Place, append, assert_clean, cat, run, signal, untorn};

/// A damaged file, and what is to be said and kept of it.
struct Case {
    row: &'static str,
    bytes: Vec<u8>,
    /// What `verify` finds first: code, line, byte.
    found: (&'static str, u64, u64),
    /// The records that survive.
    left: &'static str,
}

fn case(row: &'static str, parts: &[&[u8]], found: (&'static str, u64, u64), left: &'static str) -> Case {
    Case { row, bytes: parts.concat(), found, left }
}

const TWO: &[u8] = b"{\"type\":\"a\",\"n\":1}\n{\"type\":\"b\",\"n\":2}\n";
const THREE: &[u8] = b"{\"type\":\"c\",\"n\":3}\n";
const ALL: &str = "{\"type\":\"a\",\"n\":1}\n{\"type\":\"b\",\"n\":2}\n{\"type\":\"c\",\"n\":3}\n";
const FIRST_TWO: &str = "{\"type\":\"a\",\"n\":1}\n{\"type\":\"b\",\"n\":2}\n";

/// Where the third line starts.
const AT: u64 = TWO.len() as u64;

/// Each row of the damage that is met in the wild and that a repair has something to do with.
fn cases() -> Vec<Case> {
    let nuls = [0; 300];
    let many_nuls = vec![0; 9000];
    vec![
        case("C1", &[TWO, b"{\"type\":\"x\",\"te", THREE], ("spliced", 3, AT + 15), ALL),
        case("C2", &[TWO, b"{\"type\":\"c\",\"n", THREE], ("spliced", 3, AT + 14), ALL),
        case("C3", &[b"{\"type\":\"a\",\"n\":1}{\"type\":\"b\",\"n\":2}\n", THREE], ("glued", 1, 18), ALL),
        case("C4", &[TWO, b"{\"type\":\"c\",\"te"], ("torn-tail", 3, AT), FIRST_TWO),
        case("C5", &[TWO, b"{\"type\":\"c\",\"n\":3}"], ("unterminated", 3, AT), ALL),
        case("C6", &[TWO, b"{\"type\":\"x\",\"te\n", THREE], ("not-json", 3, AT + 15), ALL),
        case("C7 with LF", &[TWO, &nuls, b"\n", THREE], ("nul-run", 3, AT), ALL),
        case("C7 at the end", &[TWO, &nuls], ("torn-tail", 3, AT), FIRST_TWO),
        case("C8", &[TWO, b"{\"type\":\"c\",\"n\":3}", &many_nuls, b"\n"], ("nul-run", 3, AT + 18), ALL),
        case("C9", &[TWO, &nuls, THREE], ("nul-run", 3, AT), ALL),
        case("C11", &[TWO, b"{\"type\":\"x\",\"text\":\"aaaa", b"{\"type\":\"y\",\"n\":9}", b"bbbb\"}\n", THREE], ("not-json", 3, AT + 26), ALL),
        case("C14", &[TWO, b"{\"type\":\"\xff\xfe\"}\n", THREE], ("not-utf8", 3, AT + 9), ALL),
        case("C31 with LF", &[b"{\"type\":\"hea\n", TWO, THREE], ("not-json", 1, 12), ALL),
        case("C31 without", &[b"{\"type\":\"hea"], ("torn-tail", 1, 0), ""),
    ]
}

fn verify(path: &Path) -> (Option<i32>, Value) {
    let ran = run(untorn().args(["verify", "--json"]).arg(path), b"");
    (ran.code, serde_json::from_slice(&ran.stdout).unwrap())
}

fn repair(arguments: &[&str], path: &Path) -> (Option<i32>, Value) {
    let ran = run(untorn().args(["repair", "--json"]).args(arguments).arg(path), b"");
    assert_eq!(ran.stderr, "", "{}", path.display());
    (ran.code, serde_json::from_slice(&ran.stdout).unwrap())
}

/// C1 to C9, C11, C14, C31: from damage to a clean file and back.
#[test]
fn what_is_damaged_is_named_repaired_and_can_be_had_back() {
    for case in cases() {
        let Case { row, bytes, found: (code, line, byte), left } = case;
        let place = Place::new();
        let path = place.path();
        fs::write(&path, &bytes).unwrap();

        let (exit, report) = verify(&path);
        let finding = &report["findings"][0];
        assert_eq!((&finding["code"], &finding["line"], &finding["offset"]), (&code.into(), &line.into(), &byte.into()), "{row}");
        assert_eq!(exit, Some(if code == "unterminated" { 0 } else { 1 }), "{row}");

        let (exit, plan) = repair(&[], &path);
        assert_eq!((exit, &plan["changed"]), (Some(1), &false.into()), "{row}");
        assert!(fs::read(&path).unwrap() == bytes, "{row}: planning changed the file");

        let (exit, done) = repair(&["--write"], &path);
        assert_eq!((exit, &done["verified"], &done["remaining"]), (Some(0), &true.into(), &0.into()), "{row}");
        for member in ["kept", "salvaged", "terminated", "removed_bytes"] {
            assert_eq!(done[member], plan[member], "{row}: {member} is not as planned");
        }
        assert_clean(&path);
        assert_eq!(String::from_utf8(fs::read(&path).unwrap()).unwrap(), left, "{row}");
        assert_eq!(repair(&["--write"], &path).1["changed"], false, "{row}");

        let (exit, undone) = repair(&["--undo"], &path);
        assert_eq!((exit, &undone["bytes"]), (Some(0), &bytes.len().into()), "{row}");
        assert!(fs::read(&path).unwrap() == bytes, "{row}: not the original");
    }
}

/// C18 to C20: what is legal is told and left as it is.
#[test]
fn what_is_legal_is_told_and_left_alone() {
    for (row, bytes, code, line, byte) in [
        ("C18", &b"\xEF\xBB\xBF{\"n\":1}\n{\"n\":2}\n"[..], "bom", 1, 0),
        ("C19", b"{\"n\":1}\r\n{\"n\":2}\r\n", "crlf", 1, 0),
        ("C20", b"{\"n\":1}\n\n \t\n{\"n\":2}\n", "blank", 2, 8),
    ] {
        let place = Place::new();
        let path = place.path();
        fs::write(&path, bytes).unwrap();
        let (exit, report) = verify(&path);
        let finding = &report["findings"][0];
        assert_eq!((&finding["code"], &finding["line"], &finding["offset"]), (&code.into(), &line.into(), &byte.into()), "{row}");
        assert_eq!((exit, &finding["severity"]), (Some(0), &"notice".into()), "{row}");
        let (exit, done) = repair(&["--write"], &path);
        assert_eq!((exit, &done["changed"]), (Some(0), &false.into()), "{row}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{row}");
        assert_eq!(cat(&path), b"{\"n\":1}\n{\"n\":2}\n", "{row}");
    }
}

/// Several repairs are taken back one by one, newest first.
#[test]
fn repairs_are_taken_back_newest_first() {
    let place = Place::new();
    let path = place.path();
    let mut before = Vec::new();
    fs::write(&path, TWO).unwrap();
    for damage in [&b"{\"n\":3}{\"n\":4}\n"[..], b"{\"type\":\"c\",\"te", b"\0\0\0\0\n"] {
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(damage);
        fs::write(&path, &bytes).unwrap();
        before.push(bytes);
        assert_eq!(repair(&["--write"], &path).0, Some(0));
    }
    assert_eq!(repair(&["--undo"], &path).0, Some(0));
    assert!(fs::read(&path).unwrap() == before[2]);
    // It has grown since the repair before, so what it was then becomes a file of its own.
    let (exit, undone) = repair(&["--undo"], &path);
    assert_eq!((exit, &undone["changed"]), (Some(0), &false.into()));
    assert!(fs::read(undone["original"].as_str().unwrap()).unwrap() == before[1]);
    assert!(fs::read(&path).unwrap() == before[2]);
}

/// A path names the whole journal: damage in an archived segment is repaired there.
#[test]
fn archived_segments_are_repaired_too() {
    let place = Place::new();
    let archived = place.join("session.000001.jsonl");
    fs::write(&archived, b"{\"n\":1}{\"n\":2}\n").unwrap();
    fs::write(place.path(), b"{\"n\":3}\n{\"n\":").unwrap();
    let ran = run(untorn().args(["repair", "--write"]).arg(place.path()), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(cat(&place.path()), b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let ran = run(untorn().args(["repair", "--undo"]).arg(place.path()), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(fs::read(&archived).unwrap(), b"{\"n\":1}{\"n\":2}\n");
    assert_eq!(fs::read(place.path()).unwrap(), b"{\"n\":3}\n{\"n\":");
}

/// P3: a process that writes without the lock is named, and its file is left as it is.
#[test]
fn a_stranger_is_named_and_its_file_left_alone() {
    let place = Place::new();
    let path = place.path();
    fs::write(&path, [TWO, b"{\"n\":3}{\"n\":4}\n"].concat()).unwrap();
    let stranger = OpenOptions::new().append(true).open(&path).unwrap();
    let pid = std::process::id();

    let plan = run(untorn().arg("repair").arg(&path), b"");
    assert_eq!(plan.code, Some(1));
    assert!(plan.stderr.contains(&format!("process {pid} (")), "{}", plan.stderr);
    let refused = run(untorn().args(["repair", "--write"]).arg(&path), b"");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains(&format!("process {pid} (")), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("--force"), "{}", refused.stderr);
    let skipped = run(untorn().args(["repair", "-r", "--write"]).arg(place.join("")), b"");
    assert_eq!(skipped.code, Some(1));
    assert!(skipped.stderr.contains(&format!("skipped: process {pid} (")), "{}", skipped.stderr);
    assert_eq!(fs::read(&path).unwrap(), [TWO, b"{\"n\":3}{\"n\":4}\n"].concat());

    drop(stranger);
    assert_eq!(repair(&["--write"], &path).0, Some(0));
}

/// F01: that stdout is full is told, for every command that prints there.
#[test]
fn a_full_stdout_is_told() {
    let place = Place::new();
    let path = place.path();
    append(&path, b"{\"n\":1}\n");
    let file = path.to_str().unwrap();
    for arguments in [&["repair", "--json", file][..], &["stat", "--json", file], &["man"], &["completions", "bash"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = untorn().args(arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("cannot write to stdout: No space left on device"), "{arguments:?}: {stderr}");
    }
}

/// ^C, whenever it comes, leaves each file as it was or repaired, and nothing else beside it.
#[test]
fn an_interrupted_repair_leaves_nothing_half_done() {
    const FILES: usize = 12;
    const MOMENTS: u32 = 20;
    let mut before = TWO.repeat(2000);
    before.extend_from_slice(b"{\"n\":3}{\"n\":4}\n");
    before.extend_from_slice(&TWO.repeat(2000));
    let start = || {
        let place = Place::new();
        let paths: Vec<_> = (0..FILES).map(|n| place.join(format!("{n}.jsonl"))).collect();
        paths.iter().for_each(|path| fs::write(path, &before).unwrap());
        let mut command = untorn();
        command.args(["repair", "--write", "--no-backup"]).args(&paths).stderr(Stdio::null());
        (command.spawn().unwrap(), place, paths)
    };
    let begun = Instant::now();
    assert_eq!(start().0.wait().unwrap().code(), Some(0));
    let whole = begun.elapsed();
    let mut interrupted = 0;
    // Spread over the time that all of it took. Should a machine that was busy then be idle now, they all come late, and the next round is sooner.
    for moment in (1..10).flat_map(|round| (0..MOMENTS).map(move |part| whole / MOMENTS * part / round)) {
        if moment.is_zero() && interrupted > 0 {
            break;
        }
        let (mut child, place, paths) = start();
        // The moment is what the test is about, not something to wait for.
        std::thread::sleep(moment);
        signal(&child, "INT");
        interrupted += u32::from(child.wait().unwrap().code() == Some(130));
        for path in &paths {
            let bytes = fs::read(path).unwrap();
            let quarantine = path.with_extension("jsonl.quarantine");
            let is_repaired = bytes.len() == before.len() + 1 && quarantine.exists();
            assert!(is_repaired || (bytes == before && !quarantine.exists()), "after {moment:?}: {}", path.display());
        }
        for entry in fs::read_dir(place.join("")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name.ends_with(".jsonl") || name.ends_with(".jsonl.quarantine"), "after {moment:?}: {name} is left");
        }
    }
    assert!(interrupted > 0);
}

/// A sealed copy that is interrupted, or cannot be finished, is not there at all.
#[test]
fn an_interrupted_copy_is_not_there() {
    let place = Place::new();
    let path = place.path();
    fs::write(&path, TWO.repeat(200_000)).unwrap();
    let out = place.join("out.jsonl");
    let mut child = untorn().arg("seal").arg(&path).arg(&out).stderr(Stdio::null()).spawn().unwrap();
    loop {
        // Asked first: a command that is through by the second look may have been at work in between.
        let ended = child.try_wait().unwrap();
        if fs::read_dir(place.join("")).unwrap().count() == 2 {
            break;
        }
        assert_eq!(ended, None);
    }
    signal(&child, "INT");
    let code = child.wait().unwrap().code();
    let names = fs::read_dir(place.join("")).unwrap().count();
    assert!((code == Some(130) && names == 1) || (code == Some(0) && names == 2), "{code:?} with {names} files");
}
