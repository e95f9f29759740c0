//! What lines of stdin become.

use std::fs::File;

use crate::support::{Appender, Place, append, cat, numbered, run, untorn};

#[test]
fn a_line_that_has_come_in_waits_for_no_other() {
    let place = Place::new();
    let mut appender = Appender::start(&place.path(), &[]);
    for n in 1..=20 {
        appender.feed(&format!("{{\"n\":{n}}}"));
        assert_eq!(appender.acknowledged(), Some(n));
    }
    assert_eq!(appender.finish(), Some(0));
}

#[test]
fn a_line_over_the_limit_is_refused_and_the_next_one_is_not() {
    let place = Place::new();
    let mut stdin = b"{\"n\":1}\n\"".to_vec();
    stdin.resize(stdin.len() + (64 << 20), b'x');
    stdin.extend_from_slice(b"\"\n{\"n\":2}\n");
    let ran = run(untorn().args(["append", "--skip-invalid"]).arg(place.path()), &stdin);
    assert_eq!((ran.code, cat(&place.path())), (Some(1), b"{\"n\":1}\n{\"n\":2}\n".to_vec()));
    assert!(ran.stderr.starts_with("untorn: stdin:2:1: error[too-long]: longer than a line may be, 67,108,864 bytes (byte 8)"), "{}", ran.stderr);
}

#[test]
fn a_line_that_only_its_seal_makes_too_long_is_refused_alone() {
    let place = Place::new();
    let mut stdin = b"{\"n\":1}\n\"".to_vec();
    stdin.resize(stdin.len() + (64 << 20) - 10, b'x');
    stdin.extend_from_slice(b"\"\n{\"n\":2}\n");
    let ran = run(untorn().args(["append", "--skip-invalid"]).arg(place.path()), &stdin);
    assert_eq!((ran.code, cat(&place.path())), (Some(1), b"{\"n\":1}\n{\"n\":2}\n".to_vec()), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("untorn: stdin:2:1: error[too-long]"), "{}", ran.stderr);
}

#[test]
fn a_payload_that_looks_sealed_is_refused_alone_in_a_plain_journal() {
    let place = Place::new();
    let ran = run(
        untorn().args(["append", "--format", "plain", "--skip-invalid"]).arg(place.path()),
        b"{\"n\":1}\n{\"n\":2,\"_seq\":2,\"_crc\":\"00000000\"}\n{\"n\":3}\n",
    );
    assert_eq!((ran.code, cat(&place.path())), (Some(1), b"{\"n\":1}\n{\"n\":3}\n".to_vec()));
    assert!(ran.stderr.starts_with("untorn: stdin:2:1: error[sealed-payload]"), "{}", ran.stderr);
}

#[test]
fn hostile_lines_are_refused_with_their_place_and_hang_nothing() {
    let brackets = "[".repeat(100_000);
    let cases: [(&[u8], &str); 6] = [
        (brackets.as_bytes(), "stdin:2:100001: error[not-json]: the value ends early"),
        (b"\0\0\0\0", "stdin:2:1: error[not-json]"),
        (b"\"\xe6\x87\"", "stdin:2:2: error[not-json]: invalid utf-8"),
        (b"NaN", "stdin:2:1: error[not-json]: expected a value"),
        (b"{\"a\":1}{\"b\":2}", "stdin:2:8: error[not-json]: more bytes after the value"),
        (b"\xEF\xBB\xBF{}", "stdin:2:1: error[not-json]"),
    ];
    for (line, expected) in cases {
        let place = Place::new();
        let ran = append(&place.path(), &[b"{\"n\":1}\n", line, b"\n{\"n\":2}\n"].concat());
        assert_eq!((ran.code, cat(&place.path())), (Some(1), b"{\"n\":1}\n".to_vec()), "{expected}");
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        let columns = ran.stderr.lines().map(|line| line.chars().count()).max();
        assert!(columns <= Some(80), "{columns:?} columns: {}", ran.stderr);
    }
}

#[test]
fn a_byte_order_mark_and_crlf_are_no_part_of_records() {
    let place = Place::new();
    let ran = append(&place.path(), b"\xEF\xBB\xBF{\"n\":1}\r\n\r\n{\"n\":2}\r\n");
    assert_eq!((ran.code, cat(&place.path())), (Some(0), b"{\"n\":1}\n{\"n\":2}\n".to_vec()));
}

#[test]
fn a_batch_is_appended_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let ran = run(untorn().args(["append", "--batch"]).arg(place.path()), b"{\"n\":1}\n{\"n\":oops}\n");
    assert_eq!((ran.code, place.path().exists()), (Some(1), false));
    let ran = run(untorn().args(["append", "--batch"]).arg(place.path()), b"{\"n\":1}\n{\"n\":2}\n");
    assert_eq!((ran.code, numbered(&place.path()).len()), (Some(0), 2));
}

#[test]
fn a_journal_that_another_process_holds_is_told_with_a_way_out() {
    let place = Place::new();
    let file = File::create(place.path()).unwrap();
    fs2::FileExt::lock_exclusive(&file).unwrap();
    let ran = run(untorn().args(["append", "--lock-wait", "never"]).arg(place.path()), b"{\"n\":1}\n");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("locked"), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("hint: `--lock-wait forever` waits until the journal is free\n"), "{}", ran.stderr);
    let ran = run(untorn().arg("cat").arg(place.path()), b"");
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "S2-35: reading needs no lock");
}

#[test]
fn one_byte_is_told_as_one() {
    let place = Place::new();
    std::fs::write(place.path(), "{\"n\":1}\n{").unwrap();
    let ran = append(&place.path(), b"{\"n\":2}\n");
    assert!(ran.stderr.contains(": 1 byte from byte 8 on moved to quarantine"), "{}", ran.stderr);
}

/// Whose end is repaired must be a journal: a slip of the completion names other files.
#[test]
fn a_file_that_is_plainly_no_journal_is_refused_untouched() {
    let program = std::fs::read("/proc/self/exe").unwrap();
    let cases: [(&str, &[u8], &str); 5] = [
        ("old.jsonl.gz", b"", "compressed"),
        ("old.jsonl", b"\x28\xb5\x2f\xfd\0\0", "compressed"),
        ("old.ndjson", b"\x1f\x8b\x08\0\n{\"n\":1}\n", "compressed"),
        ("notes.txt", b"# Notes\n\n- buy milk", "no JSON Lines file"),
        ("program", &program, "no JSON Lines file"),
    ];
    for (name, bytes, why) in cases {
        let place = Place::new();
        std::fs::write(place.join(name), bytes).unwrap();
        let ran = append(&place.join(name), b"{\"n\":1}\n");
        assert_eq!(ran.code, Some(2), "{name}");
        assert!(ran.stderr.contains(why), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("\nhint: name another file"), "{name}: {}", ran.stderr);
        assert!(std::fs::read(place.join(name)).unwrap() == bytes, "{name} was touched");
        assert_eq!(std::fs::read_dir(place.join("")).unwrap().count(), 1, "beside {name}");
    }
}

#[test]
fn a_part_of_a_journal_is_not_appended_to() {
    let place = Place::new();
    append(&place.path(), b"{\"n\":1}\n");
    let parts =
        ["session.000001.jsonl", "session.jsonl.quarantine", "session.jsonl.bak-20261121T040201Z", "session.jsonl.original-20261121T040201Z-2"];
    for name in parts {
        for bytes in [None, Some("{\"n\":1}\n")] {
            if let Some(bytes) = bytes {
                std::fs::write(place.join(name), bytes).unwrap();
            }
            let ran = append(&place.join(name), b"{\"n\":2}\n");
            assert_eq!(ran.code, Some(2), "{name}");
            assert!(ran.stderr.contains("it belongs to `"), "{}", ran.stderr);
            assert!(ran.stderr.contains("\nhint: `untorn append "), "{}", ran.stderr);
            assert_eq!(std::fs::read(place.join(name)).ok().as_deref(), bytes.map(str::as_bytes), "{name}");
        }
    }
    assert_eq!(append(&place.join("other.000001.jsonl"), b"{\"n\":2}\n").code, Some(0), "there is no other.jsonl");
}

#[test]
fn a_damaged_journal_is_still_one() {
    for bytes in [&b""[..], b"\xEF\xBB\xBF", &[0; 5000], b"{\"n\":", b"[1,", b"{\"n\":1}\n\0\0\0", b"\0\0{\"n\":1}\n"] {
        let place = Place::new();
        std::fs::write(place.path(), bytes).unwrap();
        let ran = append(&place.path(), b"{\"n\":1}\n");
        assert_eq!(ran.code, Some(0), "{}: {}", bytes.escape_ascii(), ran.stderr);
    }
}

#[test]
fn without_a_record_nothing_is_repaired() {
    for stdin in [&b""[..], b"\n\n", b"oops\n{\"n\":1}\n"] {
        let place = Place::new();
        std::fs::write(place.path(), "{\"n\":").unwrap();
        append(&place.path(), stdin);
        assert_eq!(std::fs::read(place.path()).unwrap(), b"{\"n\":", "{}", stdin.escape_ascii());
    }
}

#[test]
fn of_many_refused_lines_the_first_are_told_and_the_others_counted() {
    let place = Place::new();
    let stdin = format!("{}{{\"n\":1}}\n", "\x1b[31m\u{9b}2J oops\n".repeat(2010));
    let ran = run(untorn().args(["append", "--skip-invalid"]).arg(place.path()), stdin.as_bytes());
    assert_eq!((ran.code, cat(&place.path())), (Some(1), b"{\"n\":1}\n".to_vec()));
    assert_eq!(ran.stderr.matches("error[not-json]").count(), 10, "{}", ran.stderr);
    assert!(ran.stderr.ends_with("untorn: 2,000 more lines refused\n"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(|c: char| c.is_control() && c != '\n'), "{}", ran.stderr.escape_debug());
}

/// A file of nothing but damage was called empty.
#[test]
fn what_has_bytes_and_no_whole_record_is_not_called_empty() {
    let place = Place::new();
    std::fs::write(place.path(), "{\"n\":1}{\"n\":2}\n").unwrap();
    for command in ["verify", "stat"] {
        let ran = run(untorn().args([command, "session.jsonl"]).current_dir(place.join("")), b"");
        assert!(ran.stderr.contains("session.jsonl: no whole record, 15 "), "{command}: {}", ran.stderr);
    }
}
