//! The command, its acknowledgements, and a directory to work in.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn untorn() -> Command {
    Command::new(env!("CARGO_BIN_EXE_untorn"))
}

/// A directory with room for one journal.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("session.jsonl")
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// What a finished command left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// Runs a command on the given stdin, whose rest it may leave unread.
pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = pipe.write_all(stdin);
        });
        child.wait_with_output().unwrap().into()
    })
}

pub(crate) fn append(path: &Path, stdin: &[u8]) -> Ran {
    run(untorn().arg("append").arg(path), stdin)
}

/// The records of a journal that is expected to be clean.
pub(crate) fn cat(path: &Path) -> Vec<u8> {
    let ran = run(untorn().arg("cat").arg(path), b"");
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    ran.stdout
}

/// The numbers and records of a journal that is expected to be clean.
pub(crate) fn numbered(path: &Path) -> Vec<(u64, Value)> {
    let ran = run(untorn().args(["cat", "--json"]).arg(path), b"");
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let lines = ran.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut object: Value = serde_json::from_slice(line).unwrap();
            (object["seq"].as_u64().unwrap(), object["payload"].take())
        })
        .collect()
}

pub(crate) fn assert_clean(path: &Path) {
    let ran = run(untorn().arg("verify").arg(path), b"");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// A running `append --json`.
pub(crate) struct Appender {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    pub(crate) acknowledgements: BufReader<ChildStdout>,
}

impl Appender {
    pub(crate) fn start(path: &Path, options: &[&str]) -> Appender {
        let mut command = untorn();
        command.args(["append", "--json"]).args(options).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let acknowledgements = BufReader::new(child.stdout.take().unwrap());
        Appender { child, stdin, acknowledgements }
    }

    pub(crate) fn feed(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.write_all(b"\n")).unwrap();
    }

    /// The number of the next record that is acknowledged; `None` when no more will be.
    pub(crate) fn acknowledged(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.acknowledgements.read_line(&mut line).unwrap();
        // A kill may cut an acknowledgement short; it was not given then.
        let whole = line.strip_suffix('\n')?;
        serde_json::from_str::<Value>(whole).unwrap()["seq"].as_u64()
    }

    pub(crate) fn interrupt(&self) {
        signal(&self.child, "INT");
    }

    /// Closes its stdin and waits for its exit status.
    pub(crate) fn finish(self) -> Option<i32> {
        let Appender { mut child, stdin, .. } = self;
        drop(stdin);
        child.wait().unwrap().code()
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Says that a test could not run, and why.
pub(crate) fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
}

pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
