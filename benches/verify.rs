//! How fast is a journal checked?
//!
//! A sealed one against reading the file and against finding its LFs on as many threads; a plain one against `serde_json`, which passes over each
//! line's value, and against `jq`.
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

use std::{
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{
    Bench, floors,
    ratio::{Goal, Row, Unit, timed},
    records::Records,
    scratch::Scratch,
};
use serde::de::IgnoredAny;
use untorn::{Format, VerifyOptions};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    let bytes = bench.settings.pass_bytes();
    for records in [Records::small(), Records::large()] {
        let size = records.size;
        let goal = |least| if size == "300B" { Goal::Ratio(least) } else { Goal::Shown };
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());

        let sealed = scratch.journal(Format::Sealed, bytes, &records);
        let amount = std::fs::metadata(&sealed).unwrap().len();
        bench.row(
            Row::new(format!("verify/{size}/sealed/1 thread"), Unit::Bytes, amount, verify(&sealed, 1))
                .against("aligned read", goal(0.20), floors::read(&sealed))
                .against("read + memchr", Goal::Shown, floors::memchr(&sealed, 1)),
        );
        bench.row(
            Row::new(format!("verify/{size}/sealed/{threads} threads"), Unit::Bytes, amount, verify(&sealed, threads))
                .against(&format!("read + memchr on {threads} threads"), goal(0.30), floors::memchr(&sealed, threads as u64))
                .against("1 thread of ours", goal(1.6), verify(&sealed, 1)),
        );
        bench.row(Row::new(format!("verify/{size}/sealed/strict/1 thread"), Unit::Bytes, amount, strict(&sealed)).against(
            "serde_json IgnoredAny for each line",
            Goal::Shown,
            ignored(&sealed),
        ));
        std::fs::remove_file(&sealed).unwrap();

        let plain = scratch.journal(Format::Plain, bytes, &records);
        let amount = std::fs::metadata(&plain).unwrap().len();
        bench.row(Row::new(format!("verify/{size}/plain/1 thread"), Unit::Bytes, amount, verify(&plain, 1)).against(
            "serde_json IgnoredAny for each line",
            goal(1.5),
            ignored(&plain),
        ));
        bench.row(Row::new(format!("verify/{size}/plain/{threads} threads"), Unit::Bytes, amount, verify(&plain, threads)).against(
            "1 thread of ours",
            goal(1.6),
            verify(&plain, 1),
        ));
        std::fs::remove_file(&plain).unwrap();
        if size == "300B" {
            jq(&mut bench, &scratch, &records, threads);
        }
    }
    bench.end();
}

/// `jq` is given a smaller file, so that its turn is not a minute long.
fn jq(bench: &mut Bench, scratch: &Scratch, records: &Records, threads: usize) {
    let name = "verify/300B/plain/beside jq";
    if Command::new("jq").arg("--version").stdout(Stdio::null()).status().is_err() {
        return bench.skip(name, "there is no jq here");
    }
    let ours = scratch.journal(Format::Plain, bench.settings.pass_bytes(), records);
    let its = scratch.journal(Format::Plain, bench.settings.pass_bytes() / 16, records);
    let amount = |path| std::fs::metadata(path).unwrap().len();
    bench.row(Row::new(name, Unit::Bytes, amount(&ours), verify(&ours, threads)).against_amount(
        "jq -c .",
        Goal::Ratio(10.0),
        amount(&its),
        |count| {
            timed(|| {
                for _ in 0..count {
                    assert!(Command::new("jq").args(["-c", "."]).arg(&its).stdout(Stdio::null()).status().unwrap().success());
                }
            })
        },
    ));
}

fn verify(path: &Path, threads: usize) -> impl FnMut(u64) -> Duration {
    run(path, VerifyOptions::new().threads(threads).clone())
}

/// Sealed lines parsed as JSON too.
fn strict(path: &Path) -> impl FnMut(u64) -> Duration {
    run(path, VerifyOptions::new().threads(1).strict().clone())
}

fn run(path: &Path, options: VerifyOptions) -> impl FnMut(u64) -> Duration {
    move |count| {
        timed(|| {
            for _ in 0..count {
                assert!(options.run(path, &mut |_| ControlFlow::Continue(())).unwrap().is_clean());
            }
        })
    }
}

fn ignored(path: &Path) -> impl FnMut(u64) -> Duration {
    floors::lines(path, |line| {
        let _: IgnoredAny = serde_json::from_slice(line).unwrap();
    })
}
