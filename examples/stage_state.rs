//! A pipeline stage with state: it counts tool calls by name, saves what it has counted now and then, and after a crash goes on as if there had
//! been none.
//!
//! ```text
//! cargo run --example stage_state -- /tmp/stage
//! ```
//!
//! Run it again with the same directory: it restores the snapshot and replays only what came after it. Kill it, truncate its files or flip a byte in
//! the snapshot: it says so, and counts right all the same.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to its user")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use untorn::{Mark, Record, Result, Resumed, Snapshot, SnapshotObserver, Writer};

/// What goes through the stage, one record each.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Call {
    tool: String,
    millis: u64,
}

/// What the stage knows after them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Totals {
    calls: u64,
    by_tool: BTreeMap<String, Tool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tool {
    calls: u64,
    millis: u64,
}

impl Totals {
    /// The one way in which state changes, live and in a replay.
    fn apply(&mut self, call: &Call) {
        self.calls += 1;
        let tool = self.by_tool.entry(call.tool.clone()).or_default();
        tool.calls += 1;
        tool.millis += call.millis;
    }
}

/// Who supervises the pipeline can see whether a stage is saving, and how often it has.
#[derive(Clone, Default)]
struct Supervisor {
    started: Arc<AtomicU64>,
    completed: Arc<AtomicU64>,
}

impl SnapshotObserver for Supervisor {
    fn on_flush_start(&self, _stage: &str) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn on_flush_complete(&self, _stage: &str) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The stage. Its journal is the truth; its snapshot only makes starting cheap.
struct Stage {
    journal: Writer,
    snapshot: Snapshot<Totals>,
    totals: Totals,
    /// The last call, if it is not in a snapshot yet.
    unsaved: Option<Mark>,
    /// How many calls were replayed when the stage was opened.
    replayed: u64,
}

/// A snapshot is saved after so many calls.
const SAVE_EVERY: u64 = 4;

impl Stage {
    /// Takes the stage up where it ended, however it ended.
    fn open(dir: &Path, supervisor: &Supervisor) -> Result<Stage> {
        let journal = dir.join("calls.jsonl");
        let mut snapshot = Snapshot::open(dir.join("totals.snapshot"), &journal)?;
        snapshot.observer("count-tools", supervisor.clone());
        let mut resumed = untorn::resume(&journal)?;
        let (mut replayed, mut last) = (0, None);
        let totals = snapshot.recover(&mut resumed, |totals: &mut Totals, record: Result<Record<Call>>| {
            let record = record?;
            totals.apply(&record.value);
            last = Some(record.mark);
            replayed += 1;
            Ok(())
        })?;
        if let Some(why) = snapshot.refused() {
            eprintln!("{why}");
        }
        let Resumed { writer, .. } = resumed;
        Ok(Stage { journal: writer, snapshot, totals, unsaved: last, replayed })
    }

    /// One call: first into the journal, then into the state. When this returns, no crash takes it back.
    fn push(&mut self, call: &Call) -> Result<()> {
        self.unsaved = Some(self.journal.append(call)?.mark());
        self.totals.apply(call);
        if self.totals.calls.is_multiple_of(SAVE_EVERY) { self.save() } else { Ok(()) }
    }

    /// Saves what was counted. If it fails, nothing is lost: the journal has it, and the next save tries again.
    fn save(&mut self) -> Result<()> {
        if let Some(through) = self.unsaved {
            self.snapshot.save(&self.totals, through)?;
            self.unsaved = None;
        }
        Ok(())
    }
}

fn call(n: u64) -> Call {
    let tools = ["read", "write", "search"];
    let tool = tools.iter().cycle().nth(usize::try_from(n).unwrap_or_default()).copied().unwrap_or_default();
    Call { tool: tool.to_owned(), millis: n * 7 % 50 }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: stage_state DIRECTORY")?;
    std::fs::create_dir_all(&dir)?;
    let supervisor = Supervisor::default();
    let mut stage = Stage::open(Path::new(&dir), &supervisor)?;
    println!("{} calls so far, {} of them replayed", stage.totals.calls, stage.replayed);
    for _ in 0..10 {
        stage.push(&call(stage.totals.calls))?;
    }
    println!("{} calls now, saved {} times", stage.totals.calls, supervisor.completed.load(Ordering::Relaxed));
    for (tool, Tool { calls, millis }) in &stage.totals.by_tool {
        println!("  {tool:8} {calls:4} calls  {millis:6} ms");
    }
    // It ends here without a last save, as a crash would end it. The next run replays what is not in the snapshot.
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;

    fn totals_after(calls: u64) -> Totals {
        let mut totals = Totals::default();
        (0..calls).for_each(|n| totals.apply(&call(n)));
        totals
    }

    #[test]
    fn a_stage_that_is_stopped_after_any_call_goes_on_with_what_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::default();
        for n in 0..20 {
            let mut stage = Stage::open(dir.path(), &supervisor).unwrap();
            assert_eq!(stage.totals, totals_after(n));
            assert_eq!(stage.replayed, n % SAVE_EVERY, "only what is not in the snapshot");
            stage.push(&call(n)).unwrap();
        }
        let saves = [supervisor.started, supervisor.completed].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(saves, [20 / SAVE_EVERY; 2]);
    }

    #[test]
    fn a_damaged_snapshot_costs_a_longer_replay_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Stage::open(dir.path(), &Supervisor::default()).unwrap();
        (0..10).for_each(|n| stage.push(&call(n)).unwrap());
        drop(stage);
        for (name, replayed) in [("totals.snapshot", 6), ("totals.snapshot.previous", 10)] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
            let stage = Stage::open(dir.path(), &Supervisor::default()).unwrap();
            assert_eq!((stage.totals, stage.replayed), (totals_after(10), replayed));
            assert!(stage.snapshot.refused().is_some());
        }
    }

    #[test]
    fn a_journal_that_lost_its_end_takes_the_state_back_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Stage::open(dir.path(), &Supervisor::default()).unwrap();
        (0..9).for_each(|n| stage.push(&call(n)).unwrap());
        drop(stage);
        let journal = dir.path().join("calls.jsonl");
        let text = std::fs::read_to_string(&journal).unwrap();
        let kept: String = text.split_inclusive('\n').take(6).collect();
        std::fs::write(&journal, kept).unwrap();
        let stage = Stage::open(dir.path(), &Supervisor::default()).unwrap();
        assert_eq!((stage.totals, stage.replayed), (totals_after(6), 2));
    }
}
