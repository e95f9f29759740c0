//! The commands, as processes: their exit status, their words, their JSON, and the most memory that they took.
//!
//! The system tells the memory of all children of a process together, and counts for each what its parent had. So the files are dealt with in
//! shares, each by a process that does nothing else.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::{
    HANG,
    cases::{Case, Cases},
    chance::Chance,
    directory, memory, mutations, within_reason,
};

/// Which share of the files a process is to deal with, of how many, and the seed for all: `1/2 4711`.
const SHARE: &str = "UNTORN_HOSTILE_SHARE";

/// So many files are given to a command at a time.
const FILES: usize = 20;

/// What takes many files and writes none.
const READERS: [&[&str]; 14] = [
    &["cat"],
    &["cat", "--json"],
    &["cat", "--sealed", "--last", "5"],
    &["cat", "--from-seq", "2"],
    &["tail"],
    &["tail", "--json", "-n", "3"],
    &["verify"],
    &["verify", "--strict", "--json"],
    &["repair"],
    &["repair", "--no-salvage", "--json"],
    &["stat"],
    &["stat", "--json"],
    &["archive", "--dry-run", "--keep-last", "2", "--json"],
    &["prune", "--dry-run", "--keep-records", "2", "--no-consumers", "--json"],
];

/// What takes one file; `OUT` is a file that is not there yet. Each writes, if it does, into a copy.
const SINGLES: [&[&str]; 14] = [
    &["repair", "--json", "--output", "OUT", "FILE"],
    &["repair", "--write", "FILE"],
    &["repair", "--write", "--json", "--no-backup", "--drop-unterminated", "FILE"],
    &["seal", "--skip-damage", "--json", "FILE", "OUT"],
    &["seal", "FILE", "OUT"],
    &["unseal", "--skip-damage", "FILE", "OUT"],
    &["append", "--json", "FILE"],
    &["append", "--batch", "FILE"],
    &["rotate", "--json", "FILE"],
    &["archive", "--keep-last", "2", "--zstd", "FILE"],
    &["snapshot", "show", "--json", "FILE"],
    &["checkpoint", "show", "--json", "."],
    &["verify", "-"],
    &["cat", "--json", "-"],
];

/// S0-48: whatever is in the files, each command ends soon, with an exit status of its own, in little memory, and without a byte that could touch a terminal.
#[test]
fn every_command_stands_any_file() {
    let shares = thread::available_parallelism().map_or(1, usize::from).min(8);
    let seed = Chance::new("the commands").seed();
    let started: Vec<_> = (0..shares)
        .map(|share| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "commands::a_share_of_the_files", "--ignored", "--nocapture"]);
            command.env(SHARE, format!("{share}/{shares}")).env("UNTORN_SEED", seed.to_string()).spawn().unwrap()
        })
        .collect();
    // All of them end before any is judged, so that none is left behind.
    let ended: Vec<_> = started.into_iter().map(|mut share| share.wait().unwrap()).collect();
    assert!(ended.iter().all(std::process::ExitStatus::success), "what failed is told above");
}

/// Runs every command on one of several shares of the files; on all of them, if nothing says which.
#[test]
#[ignore = "it is a part of `every_command_stands_any_file`"]
fn a_share_of_the_files() {
    let given = std::env::var(SHARE).ok();
    let (share, shares) = given.as_deref().and_then(|given| given.split_once('/')).unwrap_or(("0", "1"));
    let (share, shares): (usize, usize) = (share.parse().unwrap(), shares.parse().unwrap());
    let mut run = Runs::default();
    let mut cases = Cases::new("the commands", mutations()).enumerate().filter_map(|(at, case)| (at / FILES % shares == share).then_some(case));
    let mut files = 0;
    loop {
        let some: Vec<_> = cases.by_ref().take(FILES).collect();
        if some.is_empty() {
            break;
        }
        for reader in READERS {
            if let Err(wrong) = run.readers(reader, &some) {
                // Which of them it was.
                let alone = some.iter().find_map(|case| run.readers(reader, std::slice::from_ref(case)).err().map(|wrong| (case, wrong)));
                let (case, wrong) = alone.unwrap_or((&some[0], wrong));
                panic!("untorn {}: {}: {wrong}; it is kept as {}", reader.join(" "), case.name, case.keep().display());
            }
        }
        for (at, case) in some.iter().enumerate() {
            for single in [SINGLES[(files + at) % SINGLES.len()], SINGLES[(files + at + 5) % SINGLES.len()]] {
                if let Err(wrong) = run.single(single, case) {
                    panic!("untorn {}: {}: {wrong}; it is kept as {}", single.join(" "), case.name, case.keep().display());
                }
            }
        }
        files += some.len();
        if files % 1000 < FILES {
            println!("the commands, share {share}: {files} files so far");
        }
    }
    let own = memory::peak().unwrap_or_default();
    assert!(own < memory::allowed(0), "this process had {own} bytes itself, so it cannot tell what its children had");
    println!(
        "the commands, share {share}: {files} files, {} runs ({} ended with 0, {} with 1, {} with 2), {} JSON objects, at most {} KiB of memory",
        run.codes.iter().sum::<u64>(),
        run.codes[0],
        run.codes[1],
        run.codes[2],
        run.objects,
        memory::most_of_children() >> 10
    );
}

#[derive(Default)]
struct Runs {
    codes: [u64; 3],
    objects: u64,
}

impl Runs {
    fn readers(&mut self, arguments: &[&str], cases: &[Case]) -> Result<(), String> {
        let dir = directory();
        let files: Vec<_> = cases.iter().enumerate().map(|(at, case)| write(dir.path(), &format!("{at}.jsonl"), case)).collect();
        let mut command = untorn(dir.path());
        command.args(arguments).args(&files).stdin(Stdio::null());
        let longest_line = cases.iter().map(|case| case.longest_line).max().unwrap_or(0);
        self.run(command, arguments.contains(&"--json"), longest_line)?;
        for (file, case) in files.iter().zip(cases) {
            if fs::read(file).unwrap() != case.bytes {
                return Err("it changed the file".to_owned());
            }
        }
        Ok(())
    }

    fn single(&mut self, arguments: &[&str], case: &Case) -> Result<(), String> {
        let dir = directory();
        let file = write(dir.path(), "a.jsonl", case);
        let mut command = untorn(dir.path());
        let is_input = arguments.contains(&"-") || arguments[0] == "append";
        command.stdin(if is_input { fs::File::open(write(dir.path(), "stdin", case)).unwrap().into() } else { Stdio::null() });
        for argument in arguments {
            match *argument {
                "FILE" => command.arg(&file),
                "OUT" => command.arg(dir.path().join("out.jsonl")),
                other => command.arg(other),
            };
        }
        self.run(command, arguments.contains(&"--json"), case.longest_line)
    }

    fn run(&mut self, mut command: Command, is_json: bool, longest_line: u64) -> Result<(), String> {
        let before = memory::most_of_children();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let reading = within_reason(child.id(), move || {
            let words = std::thread::spawn(move || words(stderr));
            let objects = objects(stdout, is_json);
            (objects, words.join().unwrap())
        });
        if reading.is_none() {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let (objects, words) =
            reading.ok_or_else(|| format!("it did not end, though it had {} s of work, or waits for something", HANG.as_secs()))?.unwrap();
        words?;
        self.objects += objects?;
        let Some(code @ 0..=2) = status.code() else { return Err(format!("it ended with {status}")) };
        self.codes[code as usize] += 1;
        let (after, allowed) = (memory::most_of_children(), memory::allowed(longest_line));
        // As much as this may an earlier one have been allowed: then it is only seen to have taken no more than that.
        if after > before && after > allowed { Err(format!("it took {after} bytes, and {allowed} are allowed")) } else { Ok(()) }
    }
}

fn untorn(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_untorn"));
    command.current_dir(dir).env("TMPDIR", dir);
    command
}

fn write(dir: &Path, name: &str, case: &Case) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, &case.bytes).unwrap();
    path
}

/// How many objects went to stdout, each of them JSON with a schema.
fn objects(stdout: impl Read, is_json: bool) -> Result<u64, String> {
    let mut stdout = BufReader::new(stdout);
    if !is_json {
        std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        return Ok(0);
    }
    #[derive(serde::Deserialize)]
    struct Object {
        schema: String,
    }
    let (mut objects, mut line, mut wrong) = (0, Vec::new(), None);
    while stdout.read_until(b'\n', &mut line).unwrap() > 0 {
        objects += 1;
        // A payload may be nested more deeply than this reader goes.
        let is_deep = line.windows(200).any(|bytes| bytes.iter().filter(|byte| b"[{".contains(byte)).count() > 30);
        match serde_json::from_slice::<Object>(&line) {
            Ok(object) if object.schema.starts_with("untorn.") => {}
            _ if is_deep => {}
            other => {
                let start = String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned();
                wrong = wrong.or_else(|| Some(format!("it printed {start}: {:?}", other.err())));
            }
        }
        line.clear();
    }
    wrong.map_or(Ok(objects), Err)
}

/// That nothing on stderr can touch a terminal, and that nothing panicked.
fn words(mut stderr: impl Read) -> Result<(), String> {
    let mut text = Vec::new();
    stderr.read_to_end(&mut text).unwrap();
    let Ok(text) = String::from_utf8(text) else { return Err("its words are no UTF-8".to_owned()) };
    if text.contains("panicked") {
        return Err(text);
    }
    match text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        Some(c) => Err(format!("{c:?} is among its words")),
        None => Ok(()),
    }
}
