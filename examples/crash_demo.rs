//! A session recorder that is killed in the middle of a session, and resumes it.
//!
//! `cargo run --release --example crash_demo` starts itself a second time as the recorder, hands it the records of a real session one by one,
//! and kills it with `SIGKILL`. A process that dies tears nothing that it wrote in one call, so the last line is then cut in its middle, as a
//! power cut would. A second recorder resumes the journal and takes the rest.
//!
//! [`record`] is the part to copy.
#![allow(clippy::print_stdout, reason = "showing is what a demonstration does")]

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::de::IgnoredAny;
use untorn::{Durability, Reader, Resumed, Writer};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The recorder syncs after so many records; until then a power cut may take them.
const SYNC_EVERY: usize = 10;

/// So many records are appended when the recorder is killed: some since the last sync, and the last one long.
const KILLED_AFTER: usize = 33;

/// The word that makes this program the recorder.
const RECORDER: &str = "recorder";

fn main() -> Outcome {
    let mut arguments = env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(word), Some(journal)) if word == RECORDER => record(Path::new(&journal)),
        (directory, _) => demonstrate(&directory.map_or("target/crash_demo".into(), PathBuf::from)),
    }
}

/// The recorder: resumes the journal, then appends each line of its input and says how far it is.
fn record(journal: &Path) -> Outcome {
    let Resumed { repair, reader, mut writer, .. } = Writer::options().durability(Durability::Os).resume(journal)?;
    let mut count = 0_usize;
    for record in reader.records::<IgnoredAny>() {
        record?;
        count += 1;
    }
    println!("resumed {count} {repair}");
    for line in io::stdin().lines() {
        writer.append_json(line?.as_bytes())?;
        count += 1;
        println!("appended {count}");
        if count.is_multiple_of(SYNC_EVERY) {
            writer.sync()?;
            println!("durable {count}");
        }
    }
    writer.close()?;
    println!("durable {count}");
    Ok(())
}

/// A recorder in a process of its own, and what it said last.
struct Recorder {
    process: Child,
    input: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
    appended: usize,
    /// Acknowledged for good. Never greater than `appended`.
    durable: usize,
    repair: String,
}

impl Recorder {
    fn start(journal: &Path) -> Outcome<Recorder> {
        let mut command = Command::new(env::current_exe()?);
        let mut process = command.arg(RECORDER).arg(journal).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or("the recorder has no input")?;
        let words = BufReader::new(process.stdout.take().ok_or("the recorder says nothing")?).lines();
        let mut recorder = Recorder { process, input, words, appended: 0, durable: 0, repair: String::new() };
        recorder.listen()?.then_some(recorder).ok_or("the recorder did not resume".into())
    }

    /// Takes in one word; `false` if there will be no more.
    fn listen(&mut self) -> Outcome<bool> {
        let Some(word) = self.words.next().transpose()? else { return Ok(false) };
        let (word, rest) = word.split_once(' ').ok_or("a word without a number")?;
        let (count, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let count = count.parse()?;
        match word {
            "resumed" => (self.appended, self.durable, self.repair) = (count, count, rest.to_owned()),
            "appended" => self.appended = count,
            _ => self.durable = count,
        }
        Ok(true)
    }

    fn append(&mut self, record: &str) -> Outcome {
        writeln!(self.input, "{record}")?;
        let before = self.appended;
        while self.appended == before {
            self.listen()?.then_some(()).ok_or("the recorder died")?;
        }
        Ok(())
    }

    /// As the system kills: at once, with no word to the recorder. What it still said is heard.
    fn kill(mut self) -> Outcome<Recorder> {
        self.process.kill()?;
        self.process.wait()?;
        while self.listen()? {}
        Ok(self)
    }

    /// Ends the input, and waits until the recorder has closed its journal.
    fn finish(self) -> Outcome<usize> {
        let Recorder { mut process, input, mut words, mut durable, .. } = self;
        drop(input);
        while let Some(word) = words.next().transpose()? {
            if let Some(count) = word.strip_prefix("durable ") {
                durable = count.parse()?;
            }
        }
        process.wait()?.success().then_some(durable).ok_or("the recorder failed".into())
    }
}

fn demonstrate(directory: &Path) -> Outcome {
    let session = Path::new("examples/data/session.jsonl");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(session))?;
    let records: Vec<&str> = text.lines().collect();
    let journal = directory.join("session.jsonl");
    let quarantine = directory.join("session.jsonl.quarantine");
    fs::create_dir_all(directory)?;
    for left_over in [&journal, &quarantine] {
        fs::remove_file(left_over).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    }
    println!("A recorder is killed in the middle of a session, and resumes it.");
    let what = format!("{}: {} records, {} bytes", session.display(), records.len(), grouped(text.len()));
    tell("session", [what, format!("into {}", journal.display())]);

    let mut recorder = Recorder::start(&journal)?;
    for record in records.iter().take(KILLED_AFTER) {
        recorder.append(record)?;
    }
    let killed = recorder.kill()?;
    let sure = format!("{} records are synced, {} more are only written", killed.durable, killed.appended - killed.durable);
    tell("record", [bar(killed.durable, killed.appended, records.len()), sure]);
    let found = untorn::verify(&journal)?.records();
    tell("kill -9", [format!("{found} of {} records are in the file: what a process wrote outlives it", killed.appended)]);

    let (torn, whole) = tear(&journal)?;
    let cut = format!("line {found} stops after {} of its {} bytes:", grouped(torn.len()), grouped(whole));
    let end = torn.len().saturating_sub(60);
    tell("power cut", [cut, format!("…{}", String::from_utf8_lossy(torn.get(end..).unwrap_or_default()).trim_end())]);
    let report = untorn::verify(&journal)?;
    tell("verify", report.findings().iter().map(|found| format!("line {}, byte {}: {} ({})", found.line, found.offset, found.message, found.code)));

    let mut recorder = Recorder::start(&journal)?;
    let resumed = recorder.appended;
    let next = format!("{resumed} records read back, record {} is next", resumed + 1);
    tell("resume", [recorder.repair.clone(), next]);
    for record in records.iter().skip(resumed) {
        recorder.append(record)?;
    }
    let durable = recorder.finish()?;
    tell("record", [bar(durable, durable, records.len())]);

    compare(&journal, &records)?;
    let report = untorn::verify(&journal)?;
    report.is_clean().then_some(()).ok_or("the journal is damaged")?;
    let whole = format!("clean: {} records, byte for byte those of the session", report.records());
    tell("verify", [whole, format!("all {} that were synced before the crash are there, once", killed.durable)]);
    println!("\nLook: jq -c '[._seq, ._crc, .type, .timestamp]' {}", journal.display());
    println!("      jq . {}", quarantine.display());
    Ok(())
}

/// Cuts the last line of the file in its middle, and returns what is left of it and how long it was.
fn tear(journal: &Path) -> Outcome<(Vec<u8>, usize)> {
    let bytes = fs::read(journal)?;
    let last = bytes.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let (kept, lost) = last.split_at(last.len() / 2);
    fs::OpenOptions::new().write(true).open(journal)?.set_len((bytes.len() - lost.len()) as u64)?;
    Ok((kept.to_vec(), last.len()))
}

/// Every record is there, once, in order, with its number, and nothing else is.
fn compare(journal: &Path, records: &[&str]) -> Outcome {
    let mut reader = Reader::open(journal)?;
    let mut expected = records.iter().zip(1..);
    while let Some(mut line) = reader.next_line()? {
        let number = line.mark().seq;
        let same = expected.next().is_some_and(|(record, seq)| number == Some(seq) && line.payload() == Some(record.as_bytes()));
        same.then_some(()).ok_or_else(|| format!("line {number:?} is not the record that it should be"))?;
    }
    expected.next().is_none().then_some(()).ok_or("records are missing")?;
    Ok(())
}

/// One step: its name, and what there is to say of it.
fn tell(step: &str, lines: impl IntoIterator<Item = String>) {
    println!();
    for (at, line) in lines.into_iter().enumerate() {
        println!("{:<11}{line}", if at == 0 { step } else { "" });
    }
}

/// One cell per record: durable, only written, still to come.
fn bar(durable: usize, written: usize, all: usize) -> String {
    format!("{}{}{} {written} of {all}", "█".repeat(durable), "▒".repeat(written - durable), "·".repeat(all - written))
}

/// `125342` as `125,342`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}
