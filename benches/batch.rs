//! How fast are many records appended in one call?
//!
//! Held against a serialiser into one buffer and one `write`, and against a copy into one buffer and one `write`.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench that fails should say where, and it talks to whoever runs it"
)]

#[allow(dead_code, reason = "each bench uses what it needs")]
mod common;

use std::time::Duration;

use common::{
    Bench, floors,
    ratio::{Goal, Row, Unit, timed},
    records::Records,
    scratch::{Scratch, held},
};
use untorn::{Batch, Durability, Writer};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    for records in [Records::small(), Records::large()] {
        let size = records.size;
        for count in [16, 256, 4096] {
            let goal = |least| if size == "300B" && count == 256 { Goal::Ratio(least) } else { Goal::Shown };
            bench.row(
                Row::new(format!("batch/{size}/{count}/os/typed"), Unit::Records, count, typed(&scratch, &records, count, Durability::Os)).against(
                    "serde_json into one buffer + write",
                    goal(0.90),
                    floors::batch_serialise_write(&scratch, &records, count),
                ),
            );
            // Two million records a second on a machine where the floor makes 4.9.
            bench.row(Row::new(format!("batch/{size}/{count}/os/json"), Unit::Records, count, json(&scratch, &records, count)).against(
                "copy into one buffer + write",
                goal(2.0 / 4.9),
                floors::batch_write(&scratch, &records, count),
            ));
            bench.row(Row::new(format!("batch/{size}/{count}/os/append_all"), Unit::Records, count, append_all(&scratch, &records, count)).against(
                "serde_json into one buffer + write",
                Goal::Shown,
                floors::batch_serialise_write(&scratch, &records, count),
            ));
        }
    }
    let records = Records::small();
    bench.row(Row::new("batch/300B/256/sync/typed", Unit::Records, 256, typed(&scratch, &records, 256, Durability::Sync)).against(
        "copy into one buffer + write + fdatasync",
        Goal::Shown,
        floors::batch_write_sync(&scratch, &records, 256),
    ));
    bench.end();
}

/// Batches that stand or fall as one, of typed records.
fn typed<'a>(scratch: &'a Scratch, records: &'a Records, count: u64, durability: Durability) -> impl FnMut(u64) -> Duration + 'a {
    turns(scratch, durability, move |writer, first| {
        let mut batch = Batch::new();
        for number in first..first + count {
            batch.add(records.typed(number)).unwrap();
        }
        writer.append_batch(&batch).unwrap();
    })
}

/// Batches that stand or fall as one, of records that are JSON already.
fn json<'a>(scratch: &'a Scratch, records: &'a Records, count: u64) -> impl FnMut(u64) -> Duration + 'a {
    turns(scratch, Durability::Os, move |writer, first| {
        let mut batch = Batch::new();
        for number in first..first + count {
            batch.add_json(records.json(number)).unwrap();
        }
        writer.append_batch(&batch).unwrap();
    })
}

/// Records that are written together and stand each on its own.
fn append_all<'a>(scratch: &'a Scratch, records: &'a Records, count: u64) -> impl FnMut(u64) -> Duration + 'a {
    turns(scratch, Durability::Os, move |writer, first| {
        let mut batch = Batch::new();
        for number in first..first + count {
            batch.add(records.typed(number)).unwrap();
        }
        writer.append_all(&batch).1.unwrap();
    })
}

/// A new journal for each turn; opening it and its first batch are not timed.
fn turns<'a>(scratch: &'a Scratch, durability: Durability, mut append: impl FnMut(&mut Writer, u64) + 'a) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        let path = scratch.fresh();
        let mut writer = held(durability).open(&path).unwrap();
        append(&mut writer, 0);
        let took = timed(|| (1..=count).for_each(|number| append(&mut writer, number)));
        drop(writer);
        std::fs::remove_file(&path).unwrap();
        took
    }
}
