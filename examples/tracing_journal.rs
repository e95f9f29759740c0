//! Lets `tracing` write its events into a journal, as JSON: each is one record, in a file that survives a kill, a full disk and a second process.
//!
//! ```sh
//! cargo run --example tracing_journal -- /tmp/events.jsonl
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to whoever runs it")]

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
};

use tracing_subscriber::fmt::MakeWriter;
use untorn::{Durability, SharedWriter, Writer};

/// Gives the subscriber a writer for each event.
struct Journal(SharedWriter);

/// Gathers one event: the subscriber formats it first and then writes it, ended by an LF.
struct Event<'a> {
    journal: &'a SharedWriter,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { journal: &self.0, bytes: Vec::new() }
    }
}

impl Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // It waits only if the queue is full. What cannot be written stays queued and is tried again; `close` says what became of it.
        let event = serde_json::from_slice::<&serde_json::value::RawValue>(&self.bytes);
        if let Err(error) = event.map_err(io::Error::from).and_then(|event| Ok(self.journal.enqueue(event)?)) {
            eprintln!("an event is not in the journal: {error}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: tracing_journal FILE")?;
    let journal = Writer::options().durability(Durability::Os).open(&path)?.into_shared();
    let subscriber = tracing_subscriber::fmt().json().with_writer(Journal(journal.clone())).finish();
    tracing::subscriber::set_global_default(subscriber)?;

    let span = tracing::info_span!("request", id = 7);
    span.in_scope(|| {
        tracing::info!(user = "ada", "signed in");
        tracing::warn!(attempts = 3, "slow disk");
    });

    // Everything that was logged is on the disk when this returns.
    journal.close()?;
    println!("{} events in {}", untorn::verify(&path)?.records(), path.display());
    Ok(())
}
