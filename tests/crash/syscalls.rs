//! The command as it ships, under `strace`: each system call that it makes to a journal, to its directory and to its quarantine fails in every way
//! that it can, once and for good; and the process is killed at the entry of each.
//!
//! The calls are those of a recorded run, so that a new one joins by itself.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tempfile::TempDir;

use crate::{
    appender::Appender,
    lane,
    promises::{self, Line, Told},
};

/// What the journal holds at first. The fragment has no character that a quarantine would escape.
const EARLIER: &str = "{\"n\":0,\"_seq\":1,\"_crc\":\"cb0a404d\"}\n";
const FRAGMENT: &str = "[1,[2,[3,";

const RECORDS: [&str; 3] = ["{\"n\":1,\"text\":\"dix été ☃\"}", "{\"n\":2,\"text\":\"some words\"}", "{\"n\":3,\"text\":\"and some more\"}"];
const NEXT: &str = "{\"n\":4,\"text\":\"after all\"}";

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// There is no file.
    Nothing,
    /// A record, and a torn tail that goes to quarantine.
    Torn,
}

/// One call of the recorded run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    /// Of those with its name, from 1.
    nth: usize,
}

/// The errors that can come out of a call; the first that is no interruption is also tried for good.
fn errnos(call: &str) -> &'static [&'static str] {
    match call {
        "write" | "pwrite64" => &["EINTR", "EIO", "ENOSPC", "EDQUOT", "EFBIG", "EROFS"],
        "fdatasync" | "fsync" => &["EIO", "ENOSPC", "EDQUOT", "EROFS"],
        "flock" | "fcntl" => &["EINTR", "ENOLCK", "EOPNOTSUPP"],
        "openat" => &["EMFILE", "ENFILE", "ENOMEM", "EACCES", "ENOSPC"],
        "ftruncate" => &["EINTR", "EIO", "EPERM"],
        "pread64" | "read" => &["EINTR", "EIO"],
        _ => &["EIO", "ENOMEM"],
    }
}

/// A journal of its own, what became of it, and what was acknowledged.
struct Run {
    dir: TempDir,
    ledger: Vec<(String, Told)>,
    log: String,
    said: String,
}

impl Run {
    fn new(before: Before, inject: Option<&str>) -> Run {
        let mut run = Run { dir: tempfile::tempdir().unwrap(), ledger: Vec::new(), log: String::new(), said: String::new() };
        if before == Before::Torn {
            fs::write(run.journal(), [EARLIER, FRAGMENT].concat()).unwrap();
            run.ledger.push(("{\"n\":0}".to_owned(), Told::There { durable: true }));
        }
        let log = run.dir.path().join("log");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log);
        for path in [run.dir.path(), &run.journal(), &run.quarantine()] {
            strace.arg("-P").arg(path);
        }
        strace.args(inject.iter().flat_map(|inject| ["-e".to_owned(), format!("inject={inject}")]));
        run.append(strace.arg(env!("CARGO_BIN_EXE_untorn")), &RECORDS);
        run.log = fs::read_to_string(&log).unwrap_or_default();
        run
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("session.jsonl")
    }

    fn quarantine(&self) -> PathBuf {
        self.dir.path().join("session.jsonl.quarantine")
    }

    /// Appends the records one by one, up to the first that is not acknowledged.
    fn append(&mut self, command: &mut Command, records: &[&str]) {
        let first = self.ledger.len();
        let mut appender = Appender::spawn(command.args(["append", "--json"]).arg(self.journal()));
        for record in records {
            let told = appender.append(record).map_or(Told::Unknown, |_| Told::There { durable: true });
            self.ledger.push(((*record).to_owned(), told));
            if told == Told::Unknown {
                break;
            }
        }
        self.said = appender.finish();
        if let Some(line) = nothing_from_line(&self.said) {
            self.ledger[first + line - 1].1 = Told::NotThere;
        }
    }

    fn check(&self) -> Result<(), String> {
        let bytes = fs::read(self.journal()).unwrap_or_default();
        promises::check(&bytes, &self.ledger, false)?;
        let is_glued = |line: &Line| matches!(line, Line::Other(bytes) if memchr::memmem::find_iter(bytes, "{\"n\":").count() > 1);
        if promises::lines(&bytes).iter().any(is_glued) {
            return Err("two records share a line".to_owned());
        }
        let is_kept = |path: &Path| memchr::memmem::find(&fs::read(path).unwrap_or_default(), FRAGMENT.as_bytes()).is_some();
        if self.ledger.first().is_some_and(|(first, _)| first == "{\"n\":0}") && !is_kept(&self.journal()) && !is_kept(&self.quarantine()) {
            return Err("the torn tail is neither in the journal nor in quarantine".to_owned());
        }
        Ok(())
    }

    /// Nothing fails any more: what is appended next is acknowledged and there.
    fn check_and_go_on(&mut self) -> Result<(), String> {
        self.check()?;
        let said = self.said.clone();
        self.append(&mut Command::new(env!("CARGO_BIN_EXE_untorn")), &[NEXT]);
        if self.ledger.last().is_none_or(|(_, told)| *told != Told::There { durable: true }) {
            return Err(format!("all is well again, and yet: {}", self.said));
        }
        self.check().map_err(|why| format!("after the next append: {why}; it said before: {said}"))
    }
}

/// The first line of which the command says that nothing is in the file.
fn nothing_from_line(said: &str) -> Option<usize> {
    said.rsplit_once("nothing from line ")?.1.split_once(' ')?.0.parse().ok()
}

/// The calls that `strace` saw.
fn calls(log: &str) -> Vec<Call> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let names = log.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().split_once('(')?.0));
    names
        .map(|name| {
            let nth = seen.entry(name).or_default();
            *nth += 1;
            Call { name: name.to_owned(), nth: *nth }
        })
        .collect()
}

/// All that can be done to the calls.
fn injections(calls: &[Call]) -> Vec<String> {
    let injections = calls.iter().flat_map(|Call { name, nth }| {
        let once = errnos(name).iter().map(move |errno| format!("{name}:error={errno}:when={nth}"));
        // A call that is interrupted for ever is tried for ever.
        let for_good = errnos(name).iter().filter(|errno| **errno != "EINTR").take(1).map(move |errno| format!("{name}:error={errno}:when={nth}+"));
        once.chain(for_good).chain([format!("{name}:signal=SIGKILL:when={nth}")])
    });
    injections.collect()
}

fn can_trace() -> Result<(), String> {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("strace: {error}")),
    }
}

/// F01, F04 to F06, F08 to F12, F14, F20, F22, F23, F35, F36, F55 to F57: any system call of the command fails, or is its last.
#[test]
fn any_system_call_of_the_command_may_fail_or_be_its_last() {
    if let Err(why) = can_trace() {
        return lane::skip("system calls of the command", &why);
    }
    for before in [Before::Nothing, Before::Torn] {
        let mut recorded = Run::new(before, None);
        recorded.check_and_go_on().unwrap();
        let calls = calls(&recorded.log);
        let injections = injections(&calls);
        let next = AtomicUsize::new(0);
        let acknowledged = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(inject) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut run = Run::new(before, Some(inject));
                        assert!(run.log.contains("INJECTED") || inject.contains("SIGKILL"), "{inject} met no call");
                        run.check_and_go_on().unwrap_or_else(|why| panic!("{before:?}, {inject}: {why}\nledger {:#?}\n{}", run.ledger, run.log));
                        *acknowledged.lock().unwrap() += run.ledger.iter().filter(|(_, told)| matches!(told, Told::There { .. })).count();
                    }
                });
            }
        });
        let names: std::collections::BTreeSet<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        println!(
            "system calls, {before:?}: {} runs over {} calls of {}; {} records acknowledged, all there",
            injections.len(),
            calls.len(),
            names.into_iter().collect::<Vec<_>>().join(", "),
            acknowledged.lock().unwrap()
        );
        assert!(calls.len() > 25, "the recorded run is too short to be one");
    }
}
