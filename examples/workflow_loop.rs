//! A loop engine: each iteration writes its events while those of the iterations before it are archived, and only the last 100 iterations are kept.
//!
//! ```text
//! cargo run --example workflow_loop -- /tmp/loop.jsonl 250
//! ```
//!
//! Run it again, or kill it and run it again: it goes on in the iteration, and at the step, where it was.
#![allow(clippy::print_stdout, reason = "a program that talks to its user")]

use std::path::Path;

use serde::{Deserialize, Serialize};
use untorn::{Consumers, Result, Resumed, Scopes, Writer};

/// How many finished iterations are kept.
pub const KEPT: usize = 100;

/// How many steps an iteration has.
pub const STEPS: u64 = 3;

/// What the journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// An iteration begins: always its first record.
    Begin {
        /// Counted from 0.
        iteration: u64,
    },
    /// One step of it is done.
    Step {
        /// The iteration that it is a step of.
        iteration: u64,
        /// Counted from 0.
        step: u64,
    },
}

/// A loop that can be taken up again wherever it stopped.
#[derive(Debug)]
pub struct Engine {
    writer: Writer,
    /// At which numbers the kept iterations began. Rebuilt from the journal; an engine with a snapshot would keep it there.
    scopes: Scopes,
    /// The iteration under way and the steps that it has done.
    current: Option<(u64, u64)>,
}

impl Engine {
    /// Takes up what the journal holds: a torn event of a crash goes to quarantine first, and then every event is there once.
    ///
    /// # Errors
    ///
    /// If the journal cannot be opened, or another engine has it.
    pub fn resume(path: &Path, kept: usize) -> Result<Engine> {
        let Resumed { reader, writer, .. } = untorn::resume(path)?;
        let mut engine = Engine { writer, scopes: Scopes::keep(kept), current: None };
        for record in reader.records::<Event>() {
            let record = record?;
            match record.value {
                Event::Begin { iteration } => {
                    engine.scopes.begin(record.mark.seq.unwrap_or_default());
                    engine.current = Some((iteration, 0));
                }
                Event::Step { iteration, step } => engine.current = Some((iteration, step + 1)),
            }
        }
        // A crash may have come between the first event of an iteration and this.
        engine.tidy()?;
        Ok(engine)
    }

    /// Does one thing: begins an iteration, or does one step of the current one. Returns the iteration.
    ///
    /// # Errors
    ///
    /// If the event cannot be appended, or what is old cannot be archived or pruned.
    pub fn advance(&mut self) -> Result<u64> {
        match self.current {
            Some((iteration, step)) if step < STEPS => {
                // The step's work would be done here; the event says that it is.
                self.writer.append(&Event::Step { iteration, step })?;
                self.current = Some((iteration, step + 1));
                Ok(iteration)
            }
            _ => self.begin(),
        }
    }

    fn begin(&mut self) -> Result<u64> {
        let iteration = self.current.map_or(0, |(iteration, _)| iteration + 1);
        let begun = self.writer.append(&Event::Begin { iteration })?;
        self.scopes.begin(begun.seq().unwrap_or_default());
        self.current = Some((iteration, 0));
        self.tidy()?;
        Ok(iteration)
    }

    /// Archives what the iterations before the current one wrote, and deletes what is too old. Both may be done again after any crash.
    fn tidy(&mut self) -> Result<()> {
        if let Some(before) = self.scopes.archive_before() {
            self.writer.archive(before)?;
        }
        if let Some(keep) = self.scopes.prune_keep(Consumers::None) {
            self.writer.prune(&keep)?;
        }
        Ok(())
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().ok_or("usage: workflow_loop FILE [ITERATIONS]")?;
    let iterations: u64 = arguments.next().map_or(Ok(250), |n| n.to_string_lossy().parse())?;
    let mut engine = Engine::resume(Path::new(&path), KEPT)?;
    let mut done = 0;
    while done < iterations * (STEPS + 1) {
        engine.advance()?;
        done += 1;
    }
    if let Some((iteration, step)) = engine.current {
        println!("iteration {iteration} has done {step} of {STEPS} steps; the {KEPT} iterations before it are kept");
    }
    Ok(())
}
