//! Every example runs, and what it leaves is whole.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that fails should say where")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Where `cargo test` puts the examples that it builds.
fn built(name: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let example = own.parent()?.parent()?.join("examples").join(name);
    example.is_file().then_some(example)
}

/// Runs an example with a path in a directory of its own; what it printed, and the directory. `None`, and a word about it, if it was not built.
fn run(name: &str, file: Option<&str>) -> Option<(String, TempDir)> {
    let Some(example) = built(name) else {
        println!("skipped: example {name}: it was not built; `cargo test` without `--test` builds it");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(example).args(file.map(|file| dir.path().join(file))).current_dir(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Some((text, dir))
}

fn assert_clean(journal: &Path, records: u64) {
    let report = untorn::verify(journal).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.records(), records, "{}", journal.display());
}

#[test]
fn a_recorder_for_an_agent_records_and_resumes() {
    let Some((_, dir)) = run("session_recorder", Some("session.jsonl")) else { return };
    let first = untorn::verify(dir.path().join("session.jsonl")).unwrap();
    assert!(first.is_clean() && first.records() > 0);
}

#[test]
fn what_a_program_traces_goes_into_a_journal() {
    let Some((text, dir)) = run("tracing_journal", Some("events.jsonl")) else { return };
    assert!(text.starts_with("2 events"), "{text}");
    assert_clean(&dir.path().join("events.jsonl"), 2);
}

/// The second run has nothing to ship.
#[test]
fn a_consumer_ships_each_record_and_remembers_it() {
    let Some(example) = built("consumer") else { return println!("skipped: example consumer: it was not built") };
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("session.jsonl");
    let mut writer = untorn::Writer::open(&journal).unwrap();
    for expected in ["1 \"a\"\n", "2 \"b\"\n", ""] {
        if let Some(payload) = expected.split_ascii_whitespace().nth(1) {
            writer.append_json(payload.as_bytes()).unwrap();
        }
        let output = Command::new(&example).arg(&journal).arg(dir.path().join("checkpoints")).output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

#[test]
fn an_index_counts_each_record_once_over_several_runs() {
    let Some(example) = built("follow_index") else { return println!("skipped: example follow_index: it was not built") };
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("session.jsonl");
    let mut writer = untorn::Writer::open(&journal).unwrap();
    for run in 1..=3 {
        writer.append_json(b"{\"text\":1}").unwrap();
        let output = Command::new(&example).arg(&journal).arg(dir.path().join("index.json")).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{run:>8} text\n"), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_journal_is_repaired_and_had_back_from_code() {
    let Some(example) = built("repair") else { return println!("skipped: example repair: it was not built") };
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("session.jsonl");
    let damaged = "{\"n\":1}\n{\"n\":2}{\"n\":3}\n\0\0\0{\"n\":4}\n";
    std::fs::write(&journal, damaged).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(&example).args(arguments).arg(&journal).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    assert!(text.ends_with("\n1 records as they were, 3 saved from damaged lines, 3 bytes removed\n"), "{text}");
    assert_clean(&journal, 4);
    assert!(run(&["--undo"]).starts_with("as before repair "));
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), damaged);
    assert_eq!(run(&["--undo"]), "no repair to take back\n");
}
