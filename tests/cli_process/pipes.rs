//! The command between other commands: `jq`, `head`, `xargs`, `find -exec`, as scripts have them.
//!
//! What the guide shows of it is tried by the test of that page; here is what a page would be too long for.

use std::{env, fs, path::Path, process::Command};

use crate::support::{Place, Ran, append, assert_clean, is_installed, run, skipped, untorn};

/// Gives a line to a shell in which a failure anywhere in a pipe is the pipe's.
fn shell(line: &str, dir: &Path) -> Ran {
    let untorn = Path::new(env!("CARGO_BIN_EXE_untorn")).parent().unwrap();
    let path = env::join_paths([untorn.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    run(Command::new("bash").args(["-o", "pipefail", "-c", line]).current_dir(dir).env("PATH", path), b"")
}

/// Whether the tools are there; if not, the test is skipped by its name.
fn has(test: &str, tools: &[&str]) -> bool {
    let missing = tools.iter().find(|tool| !is_installed(tool));
    missing.inspect(|tool| skipped(test, &format!("there is no {tool}"))).is_none()
}

/// Numbers that jq would change if it were asked to keep them come out of the journal as they went in; what jq makes is taken in.
#[test]
fn jq_reads_what_is_printed_and_its_output_is_appended() {
    if !has("jq_reads_what_is_printed_and_its_output_is_appended", &["bash", "jq"]) {
        return;
    }
    let place = Place::new();
    append(&place.path(), b"{\"n\":1,\"text\":\"\\u0000 \xc3\xa4\"}\n[2]\n{\"n\":1e400}\n");
    let ran = shell("untorn cat session.jsonl | jq -c . | untorn append again.jsonl && untorn cat --json again.jsonl | jq .seq", &place.join(""));
    assert_eq!((ran.code, &*ran.stdout), (Some(0), &b"1\n2\n3\n"[..]), "{}", ran.stderr);
    // The status of a journal with damage is that of the pipe, and its good records are there.
    fs::write(place.join("torn.jsonl"), "{\"n\":1}\n{\"n\":2}{\"n\":3}\n{\"n\":4}\n").unwrap();
    let ran = shell("untorn cat torn.jsonl | jq .n", &place.join(""));
    assert_eq!((ran.code, &*ran.stdout), (Some(1), &b"1\n4\n"[..]), "{}", ran.stderr);
    for json in ["verify --json", "repair --json", "stat --json", "cat --json", "tail --json"] {
        let ran = shell(&format!("untorn {json} torn.jsonl | jq -r .schema | grep -vc '^untorn\\.'"), &place.join(""));
        assert_eq!(ran.stdout, b"0\n", "{json}: {}", ran.stderr);
    }
}

/// A reader that has had enough is no failure, and nothing is said; a writer before us that is still at work ends too.
#[test]
fn head_takes_what_it_wants_and_nobody_complains() {
    if !has("head_takes_what_it_wants_and_nobody_complains", &["bash", "head"]) {
        return;
    }
    let place = Place::new();
    append(&place.path(), &b"{\"text\":\"some words that fill a pipe\"}\n".repeat(50_000));
    for command in ["cat", "cat --json", "cat --sealed", "tail -n 50000", "tail -f -n 50000"] {
        let ran = shell(&format!("untorn {command} session.jsonl | head -n 2"), &place.join(""));
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{command}");
        assert_eq!(ran.stdout.iter().filter(|byte| **byte == b'\n').count(), 2, "{command}");
    }
    let ran = shell("head -n 3 session.jsonl | untorn cat - | head -c 5", &place.join(""));
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(0), &b"{\"tex"[..], ""));
    let ran = shell(
        "untorn cat session.jsonl | head -n 1000 | untorn append --json some.jsonl | head -n 1 > /dev/null; untorn cat some.jsonl | wc -l",
        &place.join(""),
    );
    assert_eq!(String::from_utf8(ran.stdout).unwrap().trim(), "1000", "{}", ran.stderr);
}

/// Whatever is in the names, the damaged files are repaired and no other is touched.
#[test]
fn xargs_repairs_what_verify_names() {
    if !has("xargs_repairs_what_verify_names", &["bash", "xargs"]) {
        return;
    }
    let place = Place::new();
    let damaged = ["a b.jsonl", "--write.jsonl", "it's \"two\"\nlines.jsonl", "$(touch x).jsonl", "\u{e4}.jsonl"];
    for name in damaged {
        fs::write(place.join(name), "{\"n\":1}\n{\"n\"").unwrap();
    }
    fs::write(place.join("good.jsonl"), "{\"n\":1}\n").unwrap();
    let ran = shell("untorn verify -rl0 . | xargs -0 -n 1 untorn repair --write", &place.join(""));
    // That of `verify`, whose names were the reason for the rest.
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for name in damaged {
        assert_eq!(fs::read(place.join(name)).unwrap(), b"{\"n\":1}\n", "{name:?}");
    }
    assert!(!place.join("good.jsonl.quarantine").exists());
    assert_eq!(fs::read_dir(place.join("")).unwrap().count(), 2 * damaged.len() + 1);
    let ran = shell("untorn verify -rl0 . | xargs -0 -r untorn repair --write", &place.join(""));
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    // Where one of several runs fails, xargs says so.
    let ran = shell("printf 'good.jsonl\\0missing.jsonl\\0' | xargs -0 -n 1 untorn stat > /dev/null", &place.join(""));
    assert_eq!(ran.code, Some(123), "{}", ran.stderr);
    // Several at a time may append to one journal.
    let ran = shell("seq 40 | xargs -P 4 -I N sh -c 'echo \"{\\\"n\\\":N}\" | untorn append shared.jsonl'", &place.join(""));
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let ran = run(untorn().args(["verify", "--json"]).arg(place.join("shared.jsonl")), b"");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("\"records\":40,"), "{}", String::from_utf8_lossy(&ran.stdout));
}

/// One run for each file, or one for many: the worst of them is what `find` ends with.
#[test]
fn find_runs_it_on_what_it_chooses() {
    if !has("find_runs_it_on_what_it_chooses", &["bash", "find"]) {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.join("dir")).unwrap();
    for (name, text) in [("a.jsonl", "{\"n\":1}\n"), ("dir/b c.jsonl", "{\"n\":2}\n{\"n\":3}\n"), ("dir/torn.jsonl", "{\"n\":4}\n{\"n\"")] {
        fs::write(place.join(name), text).unwrap();
    }
    let ran = shell("find . -name '*.jsonl' -exec untorn verify -q {} +", &place.join(""));
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (Some(1), &b""[..], ""));
    let ran = shell("find . -name '*.jsonl' ! -name 'torn*' -exec untorn verify -q {} +", &place.join(""));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // `-exec … \;` takes the exit status for true or false.
    let ran = shell("find . -name '*.jsonl' ! -exec untorn verify -q {} \\; -print", &place.join(""));
    assert_eq!((ran.code, &*ran.stdout), (Some(0), &b"./dir/torn.jsonl\n"[..]), "{}", ran.stderr);
    let ran = shell("find . -name '*.jsonl' -exec untorn cat {} \\; 2> /dev/null | sort", &place.join(""));
    assert_eq!(ran.stdout, b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n{\"n\":4}\n");
    let ran = shell("find . -name 'torn.jsonl' -exec untorn repair --write {} +", &place.join(""));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_clean(&place.join("dir/torn.jsonl"));
}
