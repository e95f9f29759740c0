//! How fast is a journal read?
//!
//! Lines against a `read` and a `memchr`, typed records against `serde_json` alone. What other crates make of it is in `peers`.
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

use std::{hint::black_box, path::Path, time::Duration};

use common::{
    Bench, floors,
    ratio::{Goal, Row, Unit, timed},
    records::{Message, Records},
    scratch::Scratch,
};
use untorn::{Format, Reader};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    let bytes = bench.settings.pass_bytes();
    for records in [Records::small(), Records::large()] {
        for (form, format) in [("sealed", Format::Sealed), ("plain", Format::Plain)] {
            let size = records.size;
            let path = scratch.journal(format, bytes, &records);
            let amount = std::fs::metadata(&path).unwrap().len();
            bench.row(
                Row::new(format!("read/{size}/{form}/lines"), Unit::Bytes, amount, lines(&path))
                    .against("read + memchr for each line", Goal::Shown, floors::lines(&path, |line| _ = black_box(line.len())))
                    .against("aligned read", Goal::Shown, floors::read(&path)),
            );
            bench.row(Row::new(format!("read/{size}/{form}/typed"), Unit::Bytes, amount, typed(&path)).against(
                "serde_json from_slice for each line",
                Goal::Shown,
                decoded(&path),
            ));
            std::fs::remove_file(&path).unwrap();
        }
    }
    bench.end();
}

fn lines(path: &Path) -> impl FnMut(u64) -> Duration {
    move |count| {
        timed(|| {
            for _ in 0..count {
                let mut reader = Reader::open(path).unwrap();
                while let Some(mut line) = reader.next_line().unwrap() {
                    black_box(line.payload());
                }
                assert!(reader.damage().is_empty());
            }
        })
    }
}

fn typed(path: &Path) -> impl FnMut(u64) -> Duration {
    move |count| {
        timed(|| {
            for _ in 0..count {
                let mut records = Reader::open(path).unwrap().records::<Message>();
                records.by_ref().for_each(|record| drop(black_box(record.unwrap())));
                assert!(records.damage().is_empty());
            }
        })
    }
}

fn decoded(path: &Path) -> impl FnMut(u64) -> Duration {
    floors::lines(path, |line| drop(black_box(serde_json::from_slice::<Message>(line).unwrap())))
}
