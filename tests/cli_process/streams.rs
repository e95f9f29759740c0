//! Streams that end, fill up or were never there, and ^C.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Read,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

use crate::support::{Appender, Place, Ran, append, assert_clean, cat, run, signal, untorn};

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn records(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(200))).collect::<String>().into_bytes()
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end() {
    let place = Place::new();
    append(&place.path(), &records(5000));
    for arguments in [&["cat"][..], &["cat", "--json"], &["tail", "-n", "5000"]] {
        let mut child = untorn().args(arguments).arg(place.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments:?}");
    }
}

#[test]
fn acknowledgements_that_nobody_reads_drop_no_record() {
    let place = Place::new();
    let mut appender = Appender::start(&place.path(), &[]);
    appender.feed("{\"n\":0}");
    assert_eq!(appender.acknowledged(), Some(1));
    let Appender { mut child, mut stdin, acknowledgements } = appender;
    drop(acknowledgements);
    for n in 1..100 {
        std::io::Write::write_all(&mut stdin, format!("{{\"n\":{n}}}\n").as_bytes()).unwrap();
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(cat(&place.path()).split(|byte| *byte == b'\n').count(), 101);
}

#[test]
fn a_full_stdout_is_told_and_fails() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":1}\n");
    std::fs::write(place.join("torn.jsonl"), "{\"n\"").unwrap();
    for arguments in
        [&["cat", "session.jsonl"][..], &["tail", "session.jsonl"], &["verify", "--json", "session.jsonl"], &["verify", "-l", "torn.jsonl"]]
    {
        let output = untorn().args(arguments).current_dir(place.join("")).stdout(full()).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert_eq!(words, "untorn: cannot write to stdout: No space left on device (os error 28)\n", "{arguments:?}");
    }
}

/// `untorn --help > FILE` on a full disk left half a page, or none, and told a success.
#[test]
fn help_that_cannot_be_written_is_told_and_fails() {
    for arguments in [&["--help"][..], &["--version"], &["verify", "--help"], &["man"], &["completions", "bash"]] {
        let output = untorn().args(arguments).stdout(full()).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert_eq!(words, "untorn: cannot write to stdout: No space left on device (os error 28)\n", "{arguments:?}");
    }
}

/// Acknowledgements that cannot be written end it like a journal that cannot: with an account of what is in the file.
#[test]
fn a_full_stdout_leaves_an_account_of_what_was_appended() {
    let place = Place::new();
    let mut child =
        untorn().args(["append", "--json"]).arg(place.path()).stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"{\"n\":1}\n{\"n\":2}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    let there = cat(&place.path()).iter().filter(|byte| **byte == b'\n').count();
    let (records, next) = if there == 1 { ("1 record", 2) } else { ("2 records", 3) };
    let told =
        format!("untorn: cannot write to stdout: No space left on device (os error 28)\nuntorn: {records} appended; nothing from line {next} on\n");
    assert_eq!((output.status.code(), words), (Some(2), told));
}

#[test]
fn streams_that_are_closed_harm_nothing() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":1}\n");
    std::fs::write(place.join("torn.jsonl"), "{\"n\"").unwrap();
    for (line, code) in [
        ("\"$0\" cat session.jsonl >&-", 0),
        ("echo '{\"n\":2}' | \"$0\" append --json session.jsonl >&-", 0),
        ("\"$0\" append session.jsonl <&-", 0),
        ("\"$0\" verify torn.jsonl 2>&-", 1),
        ("\"$0\" verify torn.jsonl 2>/dev/full", 1),
        ("\"$0\" cat torn.jsonl <&- >&- 2>&-", 1),
    ] {
        let ran = run(Command::new("sh").args(["-c", line, env!("CARGO_BIN_EXE_untorn")]).current_dir(place.join("")), b"");
        assert_eq!((ran.code, &*ran.stderr), (Some(code), ""), "{line}");
    }
    assert_eq!(cat(&place.path()), b"{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn a_path_need_not_be_text() {
    let place = Place::new();
    let path = place.join(OsStr::from_bytes(b"caf\xe9 \x1b[31m.jsonl"));
    let ran = append(&path, b"{\"n\":1}\n{\"n\":\n");
    assert_eq!(ran.code, Some(1));
    assert_eq!(cat(&path), b"{\"n\":1}\n");
    let ran = run(untorn().arg("verify").arg(&path), b"");
    assert_eq!(ran.code, Some(0));
    assert!(!ran.stderr.contains('\x1b'), "a name must not reach the terminal as it is");
    std::fs::write(&path, "torn").unwrap();
    let ran = run(untorn().args(["verify", "-r0"]).arg(place.join("")), b"");
    assert_eq!(ran.stdout.strip_suffix(b"\0"), Some(path.as_os_str().as_bytes()));
}

/// A name that begins with `-` would be an option of whatever the names are given to, and one with an LF two names.
#[test]
fn a_hostile_name_is_neither_an_option_nor_two_lines() {
    let place = Place::new();
    std::fs::write(place.join("--write.jsonl"), "torn").unwrap();
    std::fs::write(place.join("a\nb\u{9b}.jsonl"), "torn").unwrap();
    let ran = run(untorn().args(["verify", "-r0", "."]).current_dir(place.join("")), b"");
    assert_eq!(ran.stdout, "./--write.jsonl\0a\nb\u{9b}.jsonl\0".as_bytes());
    let ran = run(untorn().args(["cat", "--", "--write.jsonl", "a\nb\u{9b}.jsonl"]).current_dir(place.join("")), b"");
    assert!(ran.stderr.contains("hint: `untorn verify ./--write.jsonl` "), "{}", ran.stderr);
    assert!(ran.stderr.contains("untorn: a\\nb\\u{9b}.jsonl:1:1: error"), "{}", ran.stderr);
    assert!(ran.stderr.contains(r"hint: `untorn verify $'a\012b\302\233.jsonl'` "), "{}", ran.stderr);
}

#[test]
fn stdin_is_read_as_a_journal() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":1}\n{\"n\":2}\n");
    let mut bytes = std::fs::read(place.path()).unwrap();
    assert_eq!(run(untorn().args(["tail", "-n", "1", "-"]), &bytes).stdout, b"{\"n\":2}\n");
    bytes.extend_from_slice(b"{\"n\":");
    let ran = run(untorn().args(["verify", "-"]), &bytes);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("stdin:3:1: error[torn-tail]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("the file ends here"), "{}", ran.stderr);
}

/// A CRC proves no honesty: a payload that is no JSON would end the object around it, and add one of its own.
#[test]
fn a_sealed_payload_that_is_no_json_is_told_and_passed_over() {
    let place = Place::new();
    let sealed = |payload: &[u8], seq: u32| {
        let open = [payload.strip_suffix(b"}").unwrap(), format!(",\"_seq\":{seq}").as_bytes()].concat();
        let crc = crc32fast::hash(&open);
        [&open[..], format!(",\"_crc\":\"{crc:08x}\"}}\n").as_bytes()].concat()
    };
    let forged: [&[u8]; 3] = [b"{\"n\":1},\"path\":\"other\"}", b"{\"n\":oops}", b"{\"n\":\"\xff\"}"];
    for forged in forged {
        let lines = [sealed(b"{\"n\":1}", 1), sealed(forged, 2), sealed(b"{\"n\":3}", 3)].concat();
        std::fs::write(place.path(), lines).unwrap();
        for arguments in [&["cat"][..], &["cat", "--json"], &["tail"], &["tail", "--json"]] {
            let ran = run(untorn().args(arguments).arg(place.path()), b"");
            assert_eq!(ran.code, Some(1), "{arguments:?}: {}", ran.stderr);
            assert_eq!(ran.stderr.matches("error[not-json]").count(), 1, "{}", ran.stderr);
            let records = ran.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let numbers = records.map(|record| {
                let record: serde_json::Value = serde_json::from_slice(record).unwrap();
                record.get("payload").unwrap_or(&record)["n"].as_u64()
            });
            assert!(numbers.eq([Some(1), Some(3)]), "{arguments:?}");
        }
    }
}

/// S2-35: what a writer has not finished is no damage, to those that print as to those that verify.
#[test]
fn an_end_that_is_being_written_is_no_damage() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":1}\n");
    let mut file = OpenOptions::new().append(true).open(place.path()).unwrap();
    let open_batch = b"{\"n\":2,\"_seq\":2,\"_more\":1";
    let crc = crc32fast::hash(open_batch);
    std::io::Write::write_all(&mut file, &[open_batch, format!(",\"_crc\":\"{crc:08x}\"}}\n{{\"n\"").as_bytes()].concat()).unwrap();
    for arguments in [&["cat"][..], &["tail"]] {
        let ran = run(untorn().args(arguments).arg(place.path()), b"");
        assert_eq!((ran.code, ran.stderr.matches("error[").count()), (Some(1), 2), "nobody writes: {}", ran.stderr);
        fs2::FileExt::lock_exclusive(&file).unwrap();
        let ran = run(untorn().args(arguments).arg(place.path()), b"");
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), &b"{\"n\":1}\n"[..], ""), "a writer is at work");
        // `stat` told a torn tail and damage, and failed, whenever a writer was in the middle of a record.
        let ran = run(untorn().arg("stat").arg(place.path()), b"");
        assert_eq!((ran.code, ran.stderr.contains("damaged")), (Some(0), false), "{}", ran.stderr);
        assert!(ran.stderr.contains("a writer is at work"), "{}", ran.stderr);
        fs2::FileExt::unlock(&file).unwrap();
    }
}

/// What is kept of stdin has no name while anything can be waited for, so that no kill leaves it behind.
#[cfg(target_os = "linux")]
#[test]
fn a_kill_leaves_no_copy_of_stdin() {
    for (arguments, ends) in [(&["verify", "-"][..], false), (&["cat", "-"], false), (&["cat", "-"], true)] {
        let place = Place::new();
        let mut command = untorn();
        command.args(arguments).env("TMPDIR", place.join("")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &records(5000)).unwrap();
        if ends {
            drop(stdin);
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        }
        signal(&child, "KILL");
        child.wait().unwrap();
        assert_eq!(std::fs::read_dir(place.join("")).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn an_interrupt_leaves_nothing_half_done() {
    let place = Place::new();
    let mut appender = Appender::start(&place.path(), &["--sync", "1h"]);
    appender.feed("{\"n\":1}");
    assert_eq!(appender.acknowledged(), Some(1));
    appender.interrupt();
    assert_eq!(appender.child.wait().unwrap().code(), Some(130));
    assert_eq!(cat(&place.path()), b"{\"n\":1}\n");
    assert_clean(&place.path());
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_the_wait_for_a_lock() {
    let place = Place::new();
    let file = File::create(place.path()).unwrap();
    fs2::FileExt::lock_exclusive(&file).unwrap();
    let mut command = untorn();
    command.args(["append", "--lock-wait", "forever"]).arg(place.path()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"n\":1}\n").unwrap();
    // The file is open as soon as the wait for its lock can begin, and ^C is heard before.
    let opened = format!("/proc/{}/fd", child.id());
    while !std::fs::read_dir(&opened).unwrap().any(|fd| std::fs::read_link(fd.unwrap().path()).is_ok_and(|target| target == place.path())) {
        std::thread::yield_now();
    }
    signal(&child, "INT");
    let ended = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.stderr), (Some(130), "untorn: interrupted; 0 records appended\n"));
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let place = Place::new();
    std::fs::write(place.path(), "torn").unwrap();
    for (arguments, variables, coloured) in [
        (&["verify"][..], &[][..], false),
        (&["verify", "--color", "always"], &[], true),
        (&["--color", "never", "verify"], &[("CLICOLOR_FORCE", "1")], false),
        (&["verify"], &[("NO_COLOR", "1")], false),
    ] {
        let ran = run(untorn().args(arguments).envs(variables.iter().copied()).arg(place.path()), b"");
        assert_eq!((ran.code, ran.stderr.contains('\x1b')), (Some(1), coloured), "{arguments:?}");
    }
}
