//! The command at bad moments: files that are none, that may not be read, or that are being written; ^C, and 10,000 files.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
    sync::mpsc::{self, TryRecvError},
    time::Duration,
};

use crate::support::{Place, Ran, append, assert_clean, is_installed, run, signal, skipped, untorn};

/// What takes a file, each with what it needs.
const COMMANDS: [&[&str]; 12] = [
    &["cat"],
    &["tail"],
    &["verify"],
    &["verify", "--json"],
    &["repair"],
    &["repair", "--write"],
    &["stat"],
    &["rotate"],
    &["archive", "--keep-last", "1"],
    &["prune", "--keep-records", "1", "--no-consumers"],
    &["snapshot", "show"],
    &["append"],
];

/// None of these may be waited for, read from without end, or written to.
#[test]
fn what_is_no_file_is_refused_at_once() {
    let place = Place::new();
    fs::create_dir(place.join("dir.jsonl")).unwrap();
    symlink("loop.jsonl", place.join("loop.jsonl")).unwrap();
    symlink("nothing.jsonl", place.join("dangling.jsonl")).unwrap();
    let is_made = Command::new("mkfifo").arg(place.join("fifo.jsonl")).status().is_ok_and(|made| made.success());
    for arguments in COMMANDS {
        for path in ["dir.jsonl", "loop.jsonl", "dangling.jsonl", "no/such/file.jsonl", "/dev/null", "/dev/zero", "", "fifo.jsonl"] {
            if path == "fifo.jsonl" && !is_made {
                skipped("what_is_no_file_is_refused_at_once", "there is no mkfifo");
                continue;
            }
            let ran = run(untorn().args(arguments).arg(path).current_dir(place.join("")), b"{\"n\":1}\n");
            let words = ran.stderr.lines().next().unwrap_or_default();
            assert_eq!(ran.code, Some(2), "{arguments:?} {path}: {words}");
            assert_eq!(ran.stdout, b"", "{arguments:?} {path}");
            assert!(words.starts_with("untorn: cannot ") || words.starts_with("error: "), "{arguments:?} {path}: {words}");
        }
        assert!(!place.join("nothing.jsonl").exists(), "{arguments:?}");
    }
    // What is found in a directory is no argument: what is no file there is left out.
    let ran = run(untorn().args(["verify", "-r"]).arg(place.join("")), b"");
    assert_eq!((ran.code, ran.stderr.contains("0 journals")), (Some(0), true), "{}", ran.stderr);
}

/// Somebody typed ten records, and was told then that the journal is a directory.
#[test]
fn a_directory_is_refused_before_anything_is_typed() {
    let place = Place::new();
    for arguments in [&["append", "."][..], &["append", "--batch", "."], &["rotate", "."]] {
        let mut command = untorn();
        command.args(arguments).current_dir(place.join("")).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Nothing comes, and it is not closed.
        let stdin = child.stdin.take();
        let (ended, has_ended) = mpsc::channel();
        let pid = child.id();
        std::thread::spawn(move || ended.send(Ran::from(child.wait_with_output().unwrap())));
        let ran = has_ended.recv_timeout(Duration::from_secs(60));
        let ran = ran.unwrap_or_else(|_| panic!("{arguments:?} waits, as process {pid}"));
        drop(stdin);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert_eq!(ran.stderr, "untorn: cannot append to `.`: it is a directory\nhint: name a journal in it; `untorn verify -r .` finds them\n");
    }
}

/// A file that may not be read is told with the reason, and the others are dealt with all the same.
#[test]
fn what_may_not_be_read_is_told_and_hides_nothing() {
    let is_root = fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"));
    if is_root && !is_installed("setpriv") {
        return skipped("what_may_not_be_read_is_told_and_hides_nothing", "root may read anything, and there is no setpriv");
    }
    let place = Place::new();
    fs::write(place.join("torn.jsonl"), "{\"n\"").unwrap();
    fs::write(place.join("secret.jsonl"), "{\"n\":1}\n").unwrap();
    fs::create_dir(place.join("closed")).unwrap();
    for (name, mode) in [("", 0o755), ("torn.jsonl", 0o644), ("secret.jsonl", 0), ("closed", 0)] {
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    // The command itself may be where only root comes.
    let program = place.join("untorn");
    fs::copy(env!("CARGO_BIN_EXE_untorn"), &program).unwrap();
    for (arguments, code) in [
        (&["verify", "secret.jsonl", "torn.jsonl"][..], 2),
        (&["verify", "-r", "."], 2),
        (&["repair", "-r", "."], 2),
        (&["cat", "secret.jsonl", "torn.jsonl"], 2),
        (&["stat", "secret.jsonl", "torn.jsonl"], 2),
        (&["append", "secret.jsonl"], 2),
        (&["repair", "--write", "torn.jsonl"], 2),
        (&["rotate", "torn.jsonl"], 2),
    ] {
        let mut command = if is_root { Command::new("setpriv") } else { Command::new(&program) };
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        }
        let ran = run(command.args(arguments).current_dir(place.join("")), b"{\"n\":1}\n");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("ermission denied"), "{arguments:?}: {}", ran.stderr);
        if arguments.contains(&"torn.jsonl") || arguments.contains(&"-r") {
            assert!(ran.stderr.contains("torn.jsonl"), "{arguments:?}: {}", ran.stderr);
        }
    }
    assert_eq!(fs::read(place.join("torn.jsonl")).unwrap(), b"{\"n\"");
    fs::set_permissions(place.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// So many files are dealt with one after the other, so that few are open at a time.
#[test]
fn ten_thousand_files_are_dealt_with_one_after_the_other() {
    const FILES: usize = 10_000;
    let place = Place::new();
    for n in 0..FILES {
        if n % 100 == 0 {
            fs::create_dir(place.join(format!("{}", n / 100))).unwrap();
        }
        let torn = if n % 100 == 7 { "{\"torn" } else { "" };
        fs::write(place.join(format!("{}/{n}.jsonl", n / 100)), format!("{{\"n\":{n}}}\n{{\"n\":{n}}}\n{torn}")).unwrap();
    }
    let names: Vec<_> = (0..FILES).map(|n| format!("{}/{n}.jsonl", n / 100)).collect();
    for (arguments, files, code, lines) in [
        (&["verify", "-r", "--json", "."][..], &[][..], 1, FILES),
        (&["repair", "-r", "--json", "."], &[], 1, FILES),
        (&["stat", "--json"], &names, 1, FILES),
        (&["cat"], &names, 1, 2 * FILES),
    ] {
        let limited = ["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_untorn")];
        let ran = run(Command::new("sh").args(limited).args(arguments).args(files).current_dir(place.join("")), b"");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr.lines().last().unwrap_or_default());
        assert_eq!(ran.stdout.iter().filter(|byte| **byte == b'\n').count(), lines, "{arguments:?}");
    }
}

/// ^C ends what only reads with 130, wherever it is.
#[test]
fn an_interrupt_ends_reading_with_130() {
    let place = Place::new();
    append(&place.path(), &b"{\"text\":\"some words that fill a pipe\"}\n".repeat(20_000));
    for arguments in [&["cat", "session.jsonl"][..], &["cat", "--json", "session.jsonl"], &["tail", "-f", "-n", "20000", "session.jsonl"]] {
        let mut command = untorn();
        command.args(arguments).current_dir(place.join("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Its output has begun, and waits for a reader.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        signal(&child, "INT");
        let ended = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(130), "{arguments:?}: {}", ended.stderr);
    }
    for arguments in [&["verify", "-"][..], &["cat", "-"], &["tail", "-"], &["stat", "-"], &["repair", "-"]] {
        let mut command = untorn();
        command.args(arguments).current_dir(place.join("")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Kept open, or its end would race with the signal.
        let mut stdin = child.stdin.take().unwrap();
        // More than a pipe takes, so it has begun to read.
        stdin.write_all(&b"{\"n\":1}\n".repeat(50_000)).unwrap();
        signal(&child, "INT");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{arguments:?}");
    }
}

/// While somebody writes, readers see whole records, and nothing that is only unfinished counts as damage.
#[test]
fn a_file_that_is_being_written_is_read_without_a_complaint() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":0}\n");
    let mut writer = untorn();
    writer.args(["append", "--sync", "never"]).arg(place.path()).stdin(Stdio::piped());
    let mut child = writer.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        let (stop, is_over) = mpsc::channel::<()>();
        scope.spawn(move || {
            let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(3000));
            while is_over.try_recv() == Err(TryRecvError::Empty) && stdin.write_all(line.as_bytes()).is_ok() {}
        });
        for arguments in
            [&["verify"][..], &["verify", "--json"], &["cat"], &["tail"], &["stat"], &["stat", "--json"], &["cat", "--json", "--last", "3"]]
        {
            for _ in 0..3 {
                let ran = run(untorn().args(arguments).arg(place.path()), b"");
                assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
            }
        }
        drop(stop);
    });
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_clean(&place.path());
}

/// Opening moves a torn tail to quarantine: every command that opens a journal to write says so, also if it then does nothing else, or cannot.
#[test]
fn what_opening_did_to_a_torn_tail_is_told() {
    for (arguments, code) in [
        (&["append"][..], 0),
        (&["rotate"], 0),
        (&["rotate", "--json"], 0),
        (&["archive", "--keep-last", "1"], 0),
        (&["archive", "--keep-last", "100"], 0),
        (&["archive", "--keep-last", "1", "--json"], 0),
        (&["prune", "--keep-records", "1", "--no-consumers"], 0),
        (&["prune", "--keep-records", "1", "--checkpoints", "missing"], 2),
    ] {
        let place = Place::new();
        append(&place.path(), b"{\"n\":1}\n{\"n\":2}\n");
        let len = fs::metadata(place.path()).unwrap().len();
        fs::write(place.path(), [fs::read(place.path()).unwrap(), b"{\"torn".to_vec()].concat()).unwrap();
        let ran = run(untorn().args(arguments).arg("session.jsonl").current_dir(place.join("")), b"{\"n\":3}\n");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        let told = format!("untorn: session.jsonl: 6 bytes from byte {len} on moved to quarantine (torn-tail)\n");
        assert_eq!(ran.stderr.matches(&told).count(), 1, "{arguments:?}: {}", ran.stderr);
    }
}

/// S0-48: each `--help` names what the exit status says.
#[test]
fn every_help_names_the_exit_status() {
    let listed = run(untorn().arg("--help"), b"");
    let text = String::from_utf8(listed.stdout).unwrap();
    let commands: Vec<_> =
        text.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1).map_while(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 15, "{commands:?}");
    for command in commands.iter().chain([&"--color=auto"]) {
        let ran = run(untorn().args([*command, "--help"]), b"");
        let text = String::from_utf8(ran.stdout).unwrap();
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{command}");
        for code in ["Exit status:", "  0    ", "  1    ", "  2    ", "  130  "] {
            assert!(text.contains(code), "{command} --help lacks {code:?}");
        }
    }
}
