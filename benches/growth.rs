//! Does anything slow down, or take more memory, as the journal grows?
//!
//! Each operation on a larger journal is held against the same one on a journal of 1 MiB. `--svg FILE` draws it. Appending, opening and following
//! look at the end of the file only, so for them files are a hole but for their first line and their last 4 MiB; what is verified is written in full.
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

use std::{ops::ControlFlow, path::Path, time::Duration};

use common::{
    Bench,
    ratio::{Goal, Row, Unit, timed},
    records::Records,
    scratch::{Scratch, held},
    svg::{self, Curve},
};
use untorn::{Durability, Follower, Format, Start, VerifyOptions};

/// What all others are held against.
const SMALLEST: u64 = 1 << 20;

/// Up to here files are written in full, and verified.
const VERIFIED_MAX: u64 = 1 << 30;

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    let records = Records::small();
    let largest = bench.settings.largest_bytes;
    let verified_max = VERIFIED_MAX.min(4 * bench.settings.pass_bytes());
    let sizes: Vec<u64> = [16 << 20, 256 << 20, 1 << 30, 10 << 30].into_iter().filter(|size| *size < largest).chain([largest]).collect();
    let verified_last = sizes.iter().copied().filter(|size| *size <= verified_max).max();
    let small = scratch.journal(Format::Sealed, SMALLEST, &records);

    let [mut append, mut open, mut follow, mut verify, mut memory] =
        ["append", "open", "follow", "verify, by byte", "verify, memory"].map(Curve::new);
    for &bytes in &sizes {
        let size = size_of(bytes);
        let goal = |is_last| if is_last { Goal::Ratio(0.9) } else { Goal::Shown };
        let long = scratch.long_journal(Format::Sealed, bytes, 4 << 20, &records);
        append.add(bench.row(Row::new(format!("growth/append/{size}"), Unit::Records, 1, appending(&long, &records)).against(
            "to 1 MiB",
            goal(bytes == largest),
            appending(&small, &records),
        )));
        open.add(bench.row(Row::new(format!("growth/open/{size}"), Unit::Each, 1, opening(&long)).against(
            "of 1 MiB",
            goal(bytes == largest),
            opening(&small),
        )));
        follow.add(bench.row(Row::new(format!("growth/follow/{size}"), Unit::Records, 1, following(&long, &records)).against(
            "at the end of 1 MiB",
            goal(bytes == largest),
            following(&small, &records),
        )));
        std::fs::remove_file(&long).unwrap();

        if bytes <= verified_max {
            let goal = goal(Some(bytes) == verified_last);
            let full = scratch.journal(Format::Sealed, bytes, &records);
            let [amount, amount_small] = [&full, &small].map(|path| std::fs::metadata(path).unwrap().len());
            verify.add(bench.row(Row::new(format!("growth/verify/{size}"), Unit::Bytes, amount, verifying(&full)).against_amount(
                "of 1 MiB",
                goal,
                amount_small,
                verifying(&small),
            )));
            memory.add(bench.peak(&format!("growth/verify/{size}/memory"), "of 1 MiB", goal, verifying(&full), verifying(&small)));
            std::fs::remove_file(&full).unwrap();
        }
    }
    if let Some(file) = &bench.settings.svg {
        let places: Vec<String> = std::iter::once(SMALLEST).chain(sizes).map(size_of).collect();
        std::fs::write(
            file,
            svg::curves("Time and memory as a journal grows; those at 1 MiB are 1", &places, &[append, open, follow, verify, memory]),
        )
        .unwrap();
    }
    bench.end();
}

fn size_of(bytes: u64) -> String {
    if bytes >= 1 << 30 { format!("{}GiB", bytes >> 30) } else { format!("{}MiB", bytes >> 20) }
}

/// Appends behind what is there. The writer is opened for each turn, which is not timed.
fn appending<'a>(path: &'a Path, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        let mut writer = held(Durability::Os).open(path).unwrap();
        writer.append(records.typed(0)).unwrap();
        timed(|| {
            for number in 1..=count {
                writer.append(records.typed(number)).unwrap();
            }
        })
    }
}

/// Appends a record and has it given to a follower, one after the other. Both are opened for each turn, which is not timed.
fn following<'a>(path: &'a Path, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        let mut writer = held(Durability::Os).open(path).unwrap();
        let mut follower = Follower::open(path, Start::End).unwrap();
        let mut follow = |number| {
            writer.append(records.typed(number)).unwrap();
            assert!(follower.next(Duration::from_secs(60)).unwrap().is_some());
        };
        follow(0);
        timed(|| (1..=count).for_each(follow))
    }
}

fn opening(path: &Path) -> impl FnMut(u64) -> Duration {
    let mut options = held(Durability::Os);
    options.window_bytes(64 << 10);
    move |count| timed(|| (0..count).for_each(|_| drop(options.open(path).unwrap())))
}

fn verifying(path: &Path) -> impl FnMut(u64) -> Duration {
    move |count| {
        timed(|| {
            for _ in 0..count {
                let report = VerifyOptions::new().threads(1).run(path, &mut |_| ControlFlow::Continue(())).unwrap();
                assert!(report.is_clean());
            }
        })
    }
}
