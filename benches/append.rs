//! How fast do I append, and what do a sync, the lock and the type cost?
//!
//! Held against the bare `write`, against the serialiser and a `write`, and against the same system calls made by hand.
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
    scratch::{Scratch, with_lock},
};
use untorn::{Appended, Durability, Format, Lock, Options, Writer};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    for records in [Records::small(), Records::large()] {
        buffered(&mut bench, &scratch, &records);
        durable(&mut bench, &scratch, &records);
    }
    bench.skip(
        "append/os/per-append with a cheaper look at the path",
        "there is one way to see whether the file was replaced, and it is what is measured; an inotify queue takes milliseconds to close",
    );
    bench.end();
}

/// Left to the system to write.
fn buffered(bench: &mut Bench, scratch: &Scratch, records: &Records) {
    let size = records.size;
    let is_small = size == "300B";
    let goal = |least| if is_small { Goal::Ratio(least) } else { Goal::Shown };

    let held = with_lock(Durability::Os, Lock::Held);
    let per_append = with_lock(Durability::Os, Lock::PerAppend);
    let interval = with_lock(Durability::Interval(Duration::from_secs(1)), Lock::Held);
    let mut plain = held.clone();
    plain.format(Format::Plain);

    bench.row(
        Row::new(format!("append/{size}/os/held/typed"), Unit::Records, 1, typed(scratch, records, &held))
            .against("write", goal(0.52), floors::write(scratch, records))
            .against("serde_json + write", goal(0.90), floors::serialise_write(scratch, records)),
    );
    bench.row(Row::new(format!("append/{size}/os/held/json"), Unit::Records, 1, json(scratch, records, &held)).against(
        "write",
        Goal::Shown,
        floors::write(scratch, records),
    ));
    bench.row(
        Row::new(format!("append/{size}/os/per-append/typed"), Unit::Records, 1, typed(scratch, records, &per_append))
            .against("write", goal(0.28), floors::write(scratch, records))
            .against("flock + lseek + write", Goal::Shown, floors::flock_lseek_write(scratch, records))
            .against("the same calls by hand, sealed", goal(0.85), floors::locked_by_hand(scratch, records)),
    );
    bench.row(Row::new(format!("append/{size}/os/held/typed/plain"), Unit::Records, 1, typed(scratch, records, &plain)).against(
        "serde_json + write",
        Goal::Shown,
        floors::serialise_write(scratch, records),
    ));
    bench.row(Row::new(format!("append/{size}/interval 1s/held/typed"), Unit::Records, 1, typed(scratch, records, &interval)).against(
        "write",
        Goal::Shown,
        floors::write(scratch, records),
    ));
}

/// On the disk when it returns.
fn durable(bench: &mut Bench, scratch: &Scratch, records: &Records) {
    let size = records.size;
    let goal = if size == "300B" { Goal::Ratio(0.97) } else { Goal::Shown };
    for (name, lock, goal) in [("held", Lock::Held, goal), ("per-append", Lock::PerAppend, Goal::Shown)] {
        let options = with_lock(Durability::Sync, lock);
        bench.row(Row::new(format!("append/{size}/sync/{name}/typed"), Unit::Records, 1, typed(scratch, records, &options)).against(
            "write + fdatasync",
            goal,
            floors::write_sync(scratch, records),
        ));
    }
}

fn typed<'a>(scratch: &'a Scratch, records: &'a Records, options: &Options) -> impl FnMut(u64) -> Duration + 'a {
    turns(scratch, options, |writer, number| writer.append(records.typed(number)).unwrap())
}

fn json<'a>(scratch: &'a Scratch, records: &'a Records, options: &Options) -> impl FnMut(u64) -> Duration + 'a {
    turns(scratch, options, |writer, number| writer.append_json(records.json(number)).unwrap())
}

/// A new journal for each turn; opening it and its first append are not timed.
fn turns<'a>(scratch: &'a Scratch, options: &Options, mut append: impl FnMut(&mut Writer, u64) -> Appended + 'a) -> impl FnMut(u64) -> Duration + 'a {
    let options = options.clone();
    move |count| {
        let path = scratch.fresh();
        let mut writer = options.open(&path).unwrap();
        append(&mut writer, 0);
        let took = timed(|| {
            for number in 1..=count {
                append(&mut writer, number);
            }
        });
        drop(writer);
        std::fs::remove_file(&path).unwrap();
        took
    }
}
