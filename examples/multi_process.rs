//! Several processes append to one journal, and none knows of the others.
//!
//! `cargo run --example multi_process` starts itself a few times. Each process opens the journal and appends its records; the lock is taken for
//! each append alone, so they take turns. Afterwards every record is there once, numbered without a gap, in the order of its process.
#![allow(clippy::print_stdout, reason = "showing is what a demonstration does")]

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use serde::{Deserialize, Serialize};
use untorn::{Durability, Reader, Writer};

const PROCESSES: u32 = 4;
const RECORDS: u32 = 250;

#[derive(Serialize, Deserialize)]
struct Event {
    process: u32,
    step: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(journal), Some(process)) => Ok(append(Path::new(&journal), process.parse()?)?),
        (directory, _) => start(&directory.map_or("target/multi_process".into(), PathBuf::from)),
    }
}

/// What each process does.
fn append(journal: &Path, process: u32) -> untorn::Result<()> {
    let mut writer = Writer::options().durability(Durability::Os).open(journal)?;
    for step in 1..=RECORDS {
        writer.append(&Event { process, step })?;
    }
    writer.close()
}

fn start(directory: &Path) -> Result<(), Box<dyn Error>> {
    let journal = directory.join("shared.jsonl");
    fs::create_dir_all(directory)?;
    fs::remove_file(&journal).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;

    let program = env::current_exe()?;
    let spawn = |process: u32| Command::new(&program).arg(&journal).arg(process.to_string()).spawn();
    let processes: Vec<Child> = (1..=PROCESSES).map(spawn).collect::<Result<_, _>>()?;
    for mut process in processes {
        process.wait()?.success().then_some(()).ok_or("a process failed")?;
    }

    let mut last_steps = BTreeMap::new();
    let mut turns = 0;
    let mut before = 0;
    for (record, seq) in Reader::open(&journal)?.records::<Event>().zip(1..) {
        let record = record?;
        let Event { process, step } = record.value;
        let last = last_steps.insert(process, step).unwrap_or(0);
        (record.mark.seq == Some(seq) && step == last + 1).then_some(()).ok_or_else(|| format!("record {seq} is out of order"))?;
        turns += u32::from(process != before);
        before = process;
    }
    let all = last_steps.len() == PROCESSES as usize && last_steps.values().all(|last| *last == RECORDS);
    all.then_some(()).ok_or("records are missing")?;
    untorn::verify(&journal)?.is_clean().then_some(()).ok_or("the journal is damaged")?;
    println!("{}: {PROCESSES} processes appended {} records in {turns} turns", journal.display(), PROCESSES * RECORDS);
    println!("every record is there once, in the order of its process, numbered 1 to {}", PROCESSES * RECORDS);
    Ok(())
}
