//! A session recorder, as an agent would embed it: streamed events, a file that is there only if something was said, resuming, and a clean end.
//!
//! ```text
//! cargo run --example session_recorder -- /tmp/session.jsonl
//! ```
//!
//! Run it again with the same path to resume the session.
#![allow(clippy::expect_used, clippy::print_stderr, clippy::print_stdout, reason = "a program that talks to its user")]

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use untorn::{AsyncWriter, Durability, Lock, LockWait, Queued, Result, Resumed, Writer, WriterState};

/// What a session file holds, one record per line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    /// The first record of every session.
    Header { session: String, version: u32 },
    /// Something a person said.
    Prompt { text: String },
    /// A piece of an answer while it streams in. The whole answer follows, so losing one to a power cut is no loss.
    Delta { text: String },
    /// A whole answer.
    Answer { text: String },
    /// What becomes known of the session later on.
    Metadata { title: String },
}

/// Records one session. Clones record into the same file.
#[derive(Clone)]
struct Recorder {
    writer: AsyncWriter,
}

impl Recorder {
    /// Starts a session. The file appears with the first item, its header before it, so sessions in which nothing is said leave no trace.
    async fn create(path: &Path, session: &str) -> Result<Recorder> {
        let header = Item::Header { session: session.to_owned(), version: 1 };
        let writer = Writer::options()
            .create_lazily()
            .first_record(&header)
            .lock(Lock::Held, LockWait::Never)
            .queue_max(4096, 4 << 20)
            .open_async(path)
            .await?;
        Ok(Recorder { writer })
    }

    /// Takes a session up again: gives what it holds, and a recorder that goes on behind it. A line that a crash has cut short is moved to
    /// quarantine first.
    async fn resume(path: &Path) -> Result<(Vec<Item>, Recorder)> {
        let Resumed { repair, reader, writer, .. } = Writer::options().resume_async(path).await?;
        if !repair.is_clean() {
            eprintln!("{}: {} bytes of a torn record were moved to quarantine", path.display(), repair.removed_bytes());
        }
        // Reading waits for the disk, so a runtime that does other things reads on a thread that may wait.
        let read = tokio::task::spawn_blocking(move || {
            let mut records = reader.records::<Item>();
            let items = records.by_ref().filter_map(|record| record.ok().map(|record| record.value)).collect();
            (items, records.damage().to_string())
        });
        let (items, damage) = read.await.expect("reading does not panic");
        eprintln!("{}: {damage}", path.display());
        Ok((items, Recorder { writer: writer.into_async() }))
    }

    /// Records an item without waiting for the disk; only a queue that is full makes this wait. What becomes of it, `flush` tells.
    async fn record(&self, item: &Item) -> Result<()> {
        self.writer.enqueue(item).await.map(drop)
    }

    /// Records an item and waits until it survives a power cut.
    async fn record_durably(&self, item: &Item) -> Result<()> {
        self.writer.append_with(item, Durability::Sync).await.map(drop)
    }

    /// Records an item that need not survive a power cut, only the death of the process.
    async fn record_written(&self, item: &Item) -> Result<()> {
        self.writer.append_with(item, Durability::Os).await.map(drop)
    }

    /// Waits until everything recorded before is in the file. After an error what is not is still queued, and a later flush may succeed.
    async fn flush(&self) -> Result<()> {
        self.writer.flush().await
    }

    /// What a status line shows.
    fn state(&self) -> WriterState {
        self.writer.state()
    }

    /// Ends the session. A disk that is full may have room again in a moment; if it has not, what could not be written comes back.
    async fn shut_down(self) -> Option<untorn::Batch> {
        for _ in 0..3 {
            match self.writer.close().await {
                Ok(()) => return None,
                Err(error) => eprintln!("not closed yet: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.writer.discard().await.ok()
    }
}

/// Leaves a last word in the session when the program panics. It never waits, and the queue is never locked while a record is being encoded.
fn record_panics(recorder: &Recorder) {
    let writer = recorder.writer.clone();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let last_word = Item::Metadata { title: format!("died: {panic}") };
        let queued = writer.try_enqueue(&last_word);
        // The hook runs on the thread that panics, which may wait for the disk now.
        queued.and_then(Queued::wait).map(drop).unwrap_or_else(|error| eprintln!("{error}"));
        before(panic);
    }));
}

async fn converse(recorder: &Recorder) -> Result<()> {
    recorder.record_durably(&Item::Prompt { text: "What is a journal?".to_owned() }).await?;
    let words = ["A file ", "to which ", "one only ", "appends."];
    for word in words {
        recorder.record(&Item::Delta { text: word.to_owned() }).await?;
    }
    recorder.record_durably(&Item::Answer { text: words.concat() }).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: session_recorder FILE")?;
    let path = Path::new(&path);
    let recorder = if path.exists() {
        let (items, recorder) = Recorder::resume(path).await?;
        println!("resumed after {} items, the last of which is {:?}", items.len(), items.last());
        recorder
    } else {
        Recorder::create(path, "0198c2a4").await?
    };
    record_panics(&recorder);

    // Another part of the program gives the session a title meanwhile, through a handle of its own.
    let titling = recorder.clone();
    let title = tokio::spawn(async move { titling.record_written(&Item::Metadata { title: "Journals".to_owned() }).await });
    converse(&recorder).await?;
    title.await??;

    recorder.flush().await?;
    let state = recorder.state();
    println!("{} records queued, durable up to byte {}", state.queued_records, state.durable.offset);
    if let Some(left) = recorder.shut_down().await {
        eprintln!("{} records could not be written", left.len());
    }
    Ok(())
}
