//! ^C in the middle of a command that writes: the file at hand is finished and told, no other is begun, and nothing else is left behind.
//!
//! Where a lock decides how far a command has come, the signal comes exactly then. Where nothing does, it comes at some moment, and whatever that
//! turns out to be, what is there is whole.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::{Place, append, assert_clean, cat, run, signal, untorn};

const TWO: &[u8] = b"{\"n\":1}\n{\"n\":2}\n";

/// The names in a directory.
fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(place.join("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether a process has a file open for writing. See proc_pid_fdinfo(5).
fn writes(child: &Child, path: &Path) -> bool {
    let of = |what: &str| format!("/proc/{}/{what}", child.id());
    let Ok(descriptors) = fs::read_dir(of("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let info = fs::read_to_string(of("fdinfo/") + descriptor.file_name().to_str().unwrap()).unwrap_or_default();
        let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        fs::read_link(descriptor.path()).is_ok_and(|target| target == path) && flags.is_some_and(|flags| flags & 0b11 != 0)
    })
}

/// Runs a command on a.jsonl, b.jsonl and c.jsonl, and interrupts it when it waits for the lock of the second; what it said from then on.
#[cfg(target_os = "linux")]
fn interrupted_at_the_second(place: &Place, arguments: &[&str]) -> String {
    let dir = fs::canonicalize(place.join("")).unwrap();
    let second = dir.join("b.jsonl");
    let lock = File::options().append(true).open(&second).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let mut command = untorn();
    command.args(arguments).args(["a.jsonl", "b.jsonl", "c.jsonl"]).current_dir(&dir).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut words = BufReader::new(child.stderr.take().unwrap());
    while !writes(&child, &second) {
        assert_eq!(child.try_wait().unwrap(), None, "{arguments:?}");
        std::thread::yield_now();
    }
    signal(&child, "INT");
    let mut said = String::new();
    while !said.contains("finishing the file at hand") {
        assert!(words.read_line(&mut said).unwrap() > 0, "{arguments:?}: {said}");
    }
    // A repair looks for strangers when it has the lock, and this descriptor would be one's.
    drop(lock);
    words.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{arguments:?}: {said}");
    said
}

/// A command that writes finishes the file that it is at, and begins no other.
#[cfg(target_os = "linux")]
#[test]
fn the_file_at_hand_is_finished_and_no_other_begun() {
    type Done = fn(&Place, &str) -> bool;
    let is_repaired: Done = |place, name| fs::read(place.join(format!("{name}.jsonl"))).unwrap() == [TWO, b"{\"n\":3}\n{\"n\":4}\n"].concat();
    let has_segment: Done = |place, name| place.join(format!("{name}.000001.jsonl")).exists();
    let is_pruned: Done = |place, name| !place.join(format!("{name}.000001.jsonl")).exists();
    let glued = [TWO, b"{\"n\":3}{\"n\":4}\n"].concat();
    let cases: [(&[&str], Done); 5] = [
        (&["repair", "--write"], is_repaired),
        (&["repair", "--write", "--no-backup", "--force"], is_repaired),
        (&["rotate"], has_segment),
        (&["archive", "--keep-last", "1"], has_segment),
        (&["prune", "--keep-records", "0", "--no-consumers"], is_pruned),
    ];
    for (arguments, is_done) in cases {
        let place = Place::new();
        for name in ["a", "b", "c"] {
            let path = place.join(format!("{name}.jsonl"));
            match arguments[0] {
                "repair" => fs::write(&path, &glued).unwrap(),
                _ => drop(append(&path, TWO)),
            }
            if arguments[0] == "prune" {
                for _ in 0..2 {
                    assert_eq!(run(untorn().arg("rotate").arg(&path), b"").code, Some(0));
                    append(&path, b"{\"n\":3}\n");
                }
            }
        }
        let said = interrupted_at_the_second(&place, arguments);
        assert_eq!(["a", "b", "c"].map(|name| is_done(&place, name)), [true, true, false], "{arguments:?}: {said}");
        assert!(said.contains("b.jsonl: ") && !said.contains("c.jsonl"), "what was done is told: {said}");
        let left = names(&place);
        assert!(!left.iter().any(|name| name.contains("tmp") || name.starts_with('.')), "{arguments:?}: {left:?}");
        assert_clean(&place.join("b.jsonl"));
    }
}

/// The report of a rotation that had been done was lost when ^C came while whoever reads it was busy.
#[test]
fn what_was_rotated_is_told_also_when_its_reader_is_slow() {
    let place = Place::new();
    append(&place.join("a.jsonl"), TWO);
    // The pipe is full before the command begins: it holds 64 KiB.
    let full = "head -c 65536 /dev/zero; exec \"$0\" rotate --json a.jsonl b.jsonl";
    let mut command = Command::new("sh");
    command.args(["-c", full]).arg(untorn().get_program()).current_dir(place.join("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    while !place.join("a.000001.jsonl").exists() || !place.join("a.jsonl").exists() {
        std::thread::yield_now();
    }
    // Whoever gets the lock knows that the rotation is over.
    let rotated = File::open(place.join("a.jsonl")).unwrap();
    fs2::FileExt::lock_exclusive(&rotated).unwrap();
    signal(&child, "INT");
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let mut told = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.iter().filter(|byte| **byte == b'\n').count()), (Some(130), 1), "{said}");
}

/// Waits until there is a second file, or the process has ended; whether it had not, when that was looked at.
fn has_begun(child: &mut Child, place: &Place) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if names(place).len() > 1 {
            return true;
        }
    }
}

/// A new file is there whole, or there is nothing of it; and what it is made from is as it was.
#[test]
fn a_new_file_is_whole_or_not_there() {
    let sealed = Place::new();
    append(&sealed.path(), &TWO.repeat(20_000));
    let sealed = fs::read(sealed.path()).unwrap();
    let plain = TWO.repeat(20_000);
    let damaged = [&plain[..], b"{\"n\":1}{\"n\":2}\n"].concat();
    for (arguments, bytes, records) in [
        (&["seal", "in.jsonl", "out.jsonl"][..], &plain, 40_000),
        (&["unseal", "in.jsonl", "out.jsonl"], &sealed, 40_000),
        (&["repair", "--output", "out.jsonl", "in.jsonl"], &damaged, 40_002),
    ] {
        for moment in 0..12_u32 {
            let place = Place::new();
            fs::write(place.join("in.jsonl"), bytes).unwrap();
            let mut command = untorn();
            command.args(arguments).current_dir(place.join("")).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            // At once; or when it has begun to write; or a little later, whatever that means on this machine.
            if moment % 3 == 0 || has_begun(&mut child, &place) {
                (0..moment * 20_000).for_each(|_| std::hint::spin_loop());
                signal(&child, "INT");
            }
            // Without a code, the signal came before there was anything to be said about it.
            let code = child.wait().unwrap().code();
            match names(&place).iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["in.jsonl"] => assert!(matches!(code, Some(130) | None), "{arguments:?}: {code:?}"),
                ["in.jsonl", "out.jsonl"] => {
                    assert!(matches!(code, Some(0 | 130)), "{arguments:?}: {code:?}");
                    assert_clean(&place.join("out.jsonl"));
                    assert_eq!(cat(&place.join("out.jsonl")).iter().filter(|byte| **byte == b'\n').count(), records, "{arguments:?}");
                }
                ref other => panic!("{arguments:?}: {code:?}, and {other:?} are left"),
            }
            assert!(fs::read(place.join("in.jsonl")).unwrap() == *bytes, "{arguments:?}");
        }
    }
}

/// At whatever moment it comes, each journal reads as before, from wherever its records are by now.
#[test]
fn records_that_are_moved_are_read_once_whenever_the_signal_comes() {
    let lines: Vec<u8> = (0..3000).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
    for arguments in [&["rotate"][..], &["archive", "--keep-last", "100"], &["archive", "--keep-last", "0", "--zstd"]] {
        for moment in 0..10_u32 {
            let place = Place::new();
            append(&place.path(), &lines);
            let mut command = untorn();
            command.args(arguments).arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            if moment == 0 || has_begun(&mut child, &place) {
                (0..moment * 5000).for_each(|_| std::hint::spin_loop());
                signal(&child, "INT");
            }
            let code = child.wait().unwrap().code();
            assert!(matches!(code, Some(0 | 130) | None), "{arguments:?}: {code:?}");
            assert!(cat(&place.path()) == lines, "{arguments:?}, {code:?}: {:?}", names(&place));
            assert_clean(&place.path());
            let left = names(&place);
            assert!(left.iter().all(|name| name.ends_with(".jsonl") || name.ends_with(".jsonl.zst")), "{arguments:?}: {left:?}");
        }
    }
}

/// A state that is reset is the new one or the old one, and its consumer goes on from it.
#[test]
fn a_checkpoint_is_reset_or_not() {
    for moment in 0..10_u32 {
        let place = Place::new();
        append(&place.path(), TWO);
        let consume = || {
            let mut command = untorn();
            command.args(["consume", "--once", "--name", "reader", "--checkpoints", "checkpoints", "session.jsonl", "--", "cat"]);
            run(command.current_dir(place.join("")), b"")
        };
        assert_eq!(consume().stdout, TWO);
        let mut command = untorn();
        command.args(["checkpoint", "reset", "checkpoints", "--name", "reader"]).current_dir(place.join(""));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        (0..moment * 20_000).for_each(|_| std::hint::spin_loop());
        signal(&child, "INT");
        let code = child.wait().unwrap().code();
        let again = consume();
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        match code {
            Some(0) => assert_eq!(again.stdout, TWO),
            _ => assert!(again.stdout.is_empty() || again.stdout == TWO, "{code:?}"),
        }
        let left = fs::read_dir(place.join("checkpoints/reader")).unwrap().count();
        assert!(left <= 3, "{code:?}: {left} files");
    }
}

/// What only reads is ended at once by a signal that comes while it is at work: nothing is to be finished.
#[test]
fn what_only_reads_leaves_nothing() {
    let place = Place::new();
    append(&place.path(), &TWO.repeat(5000));
    let before = names(&place);
    for arguments in
        [&["verify"][..], &["repair"], &["stat"], &["snapshot", "show"], &["rotate", "--dry-run"], &["archive", "--dry-run", "--keep-last", "1"]]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_untorn"));
        child.args(arguments).arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        signal(&child, "INT");
        child.wait().unwrap();
        assert_eq!(names(&place), before, "{arguments:?}");
    }
}
