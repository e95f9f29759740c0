//! A consumer that ships records somewhere: each at least once, whatever is killed.
//!
//! ```sh
//! cargo run --example consumer -- session.jsonl checkpoints
//! ```
//!
//! Run it twice: the second time it has nothing to do, until something is appended. It ends when nothing has come for a second.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to its user")]

use std::{error::Error, path::PathBuf, time::Duration};

use untorn::{Consumer, Delivery, FollowEvent};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let journal = arguments.next().unwrap_or("session.jsonl".into());
    let checkpoints = arguments.next().unwrap_or("checkpoints".into());

    let mut options = Consumer::options("shipper", checkpoints);
    let mut consumer = options.file(&journal).open()?;
    let mut shipped = 0;
    while let Some(delivery) = consumer.next(Duration::from_secs(1))? {
        match delivery {
            Delivery::Record(_, record, ticket) => {
                // Whoever receives it knows by the number whether it had it before.
                println!("{} {}", record.mark.seq.unwrap_or_default(), String::from_utf8_lossy(record.value.as_bytes()));
                shipped += 1;
                // Only now, with the record shipped, it need not come again.
                ticket.ack();
            }
            Delivery::Restored(source, restored) => eprintln!("{}: {restored}", source.path().display()),
            Delivery::Event(source, FollowEvent::Corrupt(finding)) => eprintln!("{}: {finding}", source.path().display()),
            Delivery::Event(source, event) => eprintln!("{}: {event}", source.path().display()),
            Delivery::SaveFailed(error) => eprintln!("the checkpoint is not saved, records may come again: {error}"),
            _ => {}
        }
    }
    consumer.close()?;
    eprintln!("{shipped} records shipped");
    Ok(())
}
