//! Repairs a journal from code: what is wrong, what would be done, and the way back.
//!
//! ```sh
//! cargo run --example repair -- session.jsonl
//! cargo run --example repair -- --undo session.jsonl
//! ```
//!
//! A program that opens the journal to append repairs its tail by itself. This is for damage further up, which opening leaves alone.

#![allow(clippy::print_stdout, reason = "a program that talks to its user")]

use std::path::PathBuf;

use untorn::{ErrorKind, Undone, What, plan_repair, undo_repair, verify};

fn main() -> Result<(), untorn::Error> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let is_undo = arguments.next_if(|first| first == "--undo").is_some();
    let path = PathBuf::from(arguments.next().unwrap_or("session.jsonl".into()));
    if is_undo {
        match undo_repair(&path)? {
            Undone::Beside { original, .. } => println!("it has grown since; the old file is {}", original.display()),
            Undone::Restored { repair, .. } => println!("as before repair {repair}"),
            _ => println!("no repair to take back"),
        }
        return Ok(());
    }

    for finding in verify(&path)?.findings() {
        println!("{finding}");
    }
    loop {
        // The plan takes no lock. What it found is proved again when it is applied.
        let plan = plan_repair(&path)?;
        for action in plan.actions().iter().filter(|action| action.what == What::Remove) {
            println!("line {}: {} bytes go to {} ({})", action.line, action.len, plan.quarantine().display(), action.reason);
        }
        match plan.apply() {
            // Somebody was writing meanwhile.
            Err(error) if error.kind() == ErrorKind::Changed => println!("it has changed; once more"),
            done => {
                let done = done?;
                println!("{} records as they were, {} saved from damaged lines, {} bytes removed", done.kept, done.salvaged, done.removed_bytes);
                return Ok(());
            }
        }
    }
}
