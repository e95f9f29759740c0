//! An index that is kept beside its own checkpoint: each record is counted exactly once.
//!
//! ```sh
//! cargo run --example follow_index -- session.jsonl index.json
//! ```
//!
//! The index and the checkpoint are replaced together, so they can never tell two stories. It ends when nothing has come for a second.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to its user")]

use std::{collections::BTreeMap, error::Error, fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use untorn::{Checkpoint, Followed, Follower, Start};

#[derive(Default, Serialize, Deserialize)]
struct Index {
    /// How many records have which member first.
    counts: BTreeMap<String, u64>,
    /// Up to where they were counted.
    checkpoint: Option<Checkpoint>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let journal = arguments.next().unwrap_or("session.jsonl".into());
    let stored = arguments.next().unwrap_or("index.json".into());

    let mut index: Index = fs::read(&stored).ok().map(|bytes| serde_json::from_slice(&bytes)).transpose()?.unwrap_or_default();
    let start = index.checkpoint.take().map_or(Start::Beginning, Start::Checkpoint);
    let mut follower = Follower::open(&journal, start)?;
    if let Some(restored) = follower.restored().filter(|restored| !restored.is_proved()) {
        eprintln!("counting anew: {restored}");
        index = Index::default();
    }
    while let Some(followed) = follower.next(Duration::from_secs(1))? {
        match followed {
            Followed::Record(record) => {
                let members: serde_json::Map<String, serde_json::Value> = record.value.decode().unwrap_or_default();
                let first = members.keys().next().cloned().unwrap_or_default();
                *index.counts.entry(first).or_default() += 1;
            }
            Followed::Event(event) => eprintln!("{event}"),
        }
    }
    index.checkpoint = Some(follower.checkpoint()?);
    // Replaced as a whole: a database would do both in one transaction.
    let temporary = stored.with_extension("tmp");
    fs::write(&temporary, serde_json::to_vec(&index)?)?;
    fs::rename(&temporary, &stored)?;
    for (member, count) in &index.counts {
        println!("{count:>8} {member}");
    }
    Ok(())
}
