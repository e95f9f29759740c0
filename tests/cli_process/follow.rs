//! `tail -f`: records as they come, across whatever happens to the files.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStdout, Stdio},
};

use crate::support::{Place, append, signal, untorn};

struct Tail {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Tail {
    fn start(options: &[&str], paths: &[&Path]) -> Tail {
        let mut command = untorn();
        command.args(["tail", "-f"]).args(options).args(paths);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Tail { child, stdout }
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends it by ^C; its exit status and what it said.
    fn interrupt(mut self) -> (Option<i32>, String) {
        signal(&self.child, "INT");
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

fn write(path: &Path, bytes: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes.as_bytes()).unwrap();
}

#[test]
fn records_are_printed_as_they_come_and_a_partial_line_only_when_it_is_whole() {
    let place = Place::new();
    assert_eq!(append(&place.path(), b"{\"n\":1}\n{\"n\":2}\n").code, Some(0));
    let mut tail = Tail::start(&["-n", "1"], &[&place.path()]);
    assert_eq!(tail.next(), "{\"n\":2}");
    write(&place.path(), "{\"n\":");
    write(&place.path(), "3}\n");
    assert_eq!(tail.next(), "{\"n\":3}");
    assert_eq!(append(&place.path(), b"{\"n\":4}\n").code, Some(0));
    assert_eq!(tail.next(), "{\"n\":4}");
    let (code, said) = tail.interrupt();
    assert_eq!(code, Some(130));
    assert_eq!(said, format!("untorn: {}: 3 records, last #3\n", place.path().display()));
}

#[test]
fn a_rotated_a_damaged_and_a_truncated_file_are_followed_and_told() {
    let place = Place::new();
    let path = place.path();
    assert_eq!(append(&path, b"1\n").code, Some(0));
    let mut tail = Tail::start(&[], &[&path]);
    assert_eq!(tail.next(), "1");
    fs::rename(&path, place.join("session.000001.jsonl")).unwrap();
    assert_eq!(append(&path, b"2\n").code, Some(0));
    assert_eq!(tail.next(), "2");
    write(&path, "\0\0\0\n3\n");
    assert_eq!(tail.next(), "3");
    let len = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&path, "4\n");
    assert_eq!(tail.next(), "4");
    let (code, said) = tail.interrupt();
    assert_eq!(code, Some(130));
    let name = path.display();
    let at = len - 2 - 4;
    let expected = [
        format!("untorn: {name}: rotated, reading on in the new file at #2"),
        format!("untorn: {name}:2:1: error[nul-run]: 4 bytes skipped (byte {at})"),
        format!("untorn: {name}: truncated, reading from its start"),
        format!("untorn: {name}: 4 records, last #2; 1 damaged line skipped"),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn several_journals_are_followed_at_once() {
    let place = Place::new();
    let paths = [place.join("a.jsonl"), place.join("b.jsonl"), place.join("missing.jsonl")];
    paths[..2].iter().for_each(|path| write(path, ""));
    let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    let mut tail = Tail::start(&["--json"], &paths);
    for (number, path) in [0, 1, 0, 1, 1].into_iter().map(|at| paths[at]).enumerate() {
        write(path, &format!("{number}\n"));
        let printed: serde_json::Value = serde_json::from_str(&tail.next()).unwrap();
        assert_eq!(printed["schema"], "untorn.record.v1");
        assert_eq!(printed["path"], path.to_str().unwrap());
        assert_eq!(printed["payload"], number);
    }
    let (code, said) = tail.interrupt();
    assert_eq!(code, Some(130));
    assert!(said.starts_with(&format!("untorn: cannot open `{}` for reading: No such file", paths[2].display())), "{said}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let place = Place::new();
    write(&place.path(), "1\n");
    let mut tail = Tail::start(&[], &[&place.path()]);
    assert_eq!(tail.next(), "1");
    let Tail { mut child, stdout } = tail;
    drop(stdout);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""));
}

#[test]
fn nothing_to_follow_is_a_failure() {
    let place = Place::new();
    let ran = crate::support::run(untorn().args(["tail", "-f"]).arg(place.path()), b"");
    assert_eq!(ran.code, Some(2));
    assert_eq!(crate::support::run(untorn().args(["tail", "-f", "-"]), b"").code, Some(2));
}
