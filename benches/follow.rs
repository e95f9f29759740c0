//! How soon does a follower have what was appended, what does waiting cost, and what do ten thousand files?
//!
//! Nothing here is held against a floor: the goals are times. Latency is measured from the return of `append` in one thread to that of `next` in
//! another; waiting by the processor time of the whole process.
#![allow(
    clippy::cast_precision_loss,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that fails should say where, and it talks to whoever runs it"
)]

use std::{
    fs,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use untorn::{Consumer, Delivery, Durability, Follower, Start, Writer};

/// Nobody waits longer for anything here.
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let (samples, idle, files) = if is_quick { (50, Duration::from_secs(1), 1_000) } else { (500, Duration::from_secs(5), 10_000) };
    let dir = tempfile::tempdir().unwrap();
    latency(dir.path(), samples);
    waiting(dir.path(), idle);
    many_files(dir.path(), files, idle);
    backlog(dir.path(), if is_quick { 64 << 20 } else { 1 << 30 });
}

fn tell(name: &str, seen: String, goal: &str) {
    println!("{name:<44} {seen:>16}   {goal}");
}

fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()].iter().map(|time| Duration::from_secs_f64(time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)).sum()
}

/// The share of one processor that the process takes while nothing happens.
fn share(idle: Duration, mut wait: impl FnMut(Duration)) -> f64 {
    let (begun, before) = (Instant::now(), processor_time());
    wait(idle);
    (processor_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

fn latency(dir: &Path, samples: u32) {
    let path = dir.join("latency.jsonl");
    let mut writer = Writer::options().durability(Durability::Os).open(&path).unwrap();
    let mut follower = Follower::open(&path, Start::End).unwrap();
    let (told, seen) = mpsc::channel();
    let reading = thread::spawn(move || while told.send(follower.next(LIMIT).unwrap().map(|_| Instant::now())).is_ok() {});
    let mut latencies: Vec<Duration> = (0..samples)
        .map(|number| {
            // Between two appends the follower has fallen asleep again, at another moment of its interval each time.
            thread::sleep(Duration::from_micros(2_000 + u64::from(number) * 7_919 % 9_000));
            writer.append(&number).unwrap();
            let appended = Instant::now();
            seen.recv().unwrap().unwrap().saturating_duration_since(appended)
        })
        .collect();
    drop(seen);
    writer.append("the last one").unwrap();
    reading.join().unwrap();
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    let goal = if cfg!(feature = "notify") { "< 5 ms, with `notify`" } else { "< 100 ms, by polling" };
    tell("follow/latency, median", format!("{:.3} ms", at(50).as_secs_f64() * 1e3), goal);
    tell("follow/latency, 99 of 100", format!("{:.3} ms", at(99).as_secs_f64() * 1e3), "");
}

fn waiting(dir: &Path, idle: Duration) {
    let path = dir.join("idle.jsonl");
    Writer::open(&path).unwrap().append("one").unwrap();
    let mut follower = Follower::open(&path, Start::End).unwrap();
    let share = share(idle, |idle| assert!(follower.next(idle).unwrap().is_none()));
    tell("follow/one idle file, share of a core", format!("{:.3} %", share * 100.0), "<= 1 %");
}

/// Takes what comes, until nothing has come for a moment. How many records there were.
fn drain(consumer: &mut Consumer) -> u64 {
    let mut records = 0;
    while let Some(delivery) = consumer.next(Duration::from_millis(300)).unwrap() {
        if let Delivery::Record(_, _, ticket) = delivery {
            ticket.ack();
            records += 1;
        }
    }
    records
}

fn many_files(dir: &Path, files: u32, idle: Duration) {
    let many = dir.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..files {
        fs::write(many.join(format!("{number}.jsonl")), format!("{{\"n\":{number}}}\n")).unwrap();
    }
    let open = || Consumer::options("bench", dir.join("checkpoints")).directory(&many, &[".jsonl"]).open().unwrap();
    for what in ["first start", "restart"] {
        let begun = Instant::now();
        let mut consumer = open();
        let records = drain(&mut consumer);
        let seen = begun.elapsed();
        let told = format!("{:.2} s", seen.as_secs_f64());
        tell(&format!("consume/{files} files, {what}, {records} records"), told, "");
        if what == "restart" {
            let share = share(idle, |idle| assert!(consumer.next(idle).unwrap().is_none()));
            tell(&format!("consume/{files} idle files, share of a core"), format!("{:.2} %", share * 100.0), "");
        }
        let begun = Instant::now();
        consumer.close().unwrap();
        tell(&format!("consume/{files} files, saving"), format!("{:.2} s", begun.elapsed().as_secs_f64()), "");
    }
}

/// A record in a small file beside a long one.
fn backlog(dir: &Path, bytes: usize) {
    let beside = dir.join("beside");
    fs::create_dir(&beside).unwrap();
    let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1_000));
    let mut long = fs::File::create(beside.join("long.jsonl")).unwrap();
    for _ in 0..bytes / line.len() {
        std::io::Write::write_all(&mut long, line.as_bytes()).unwrap();
    }
    fs::write(beside.join("small.jsonl"), "{\"here\":true}\n").unwrap();
    let mut consumer = Consumer::options("backlog", dir.join("checkpoints")).directory(&beside, &[".jsonl"]).open().unwrap();
    let begun = Instant::now();
    loop {
        if let Delivery::Record(source, _, ticket) = consumer.next(LIMIT).unwrap().unwrap() {
            ticket.ack();
            if source.path().ends_with("small.jsonl") {
                break;
            }
        }
    }
    tell(&format!("consume/beside {} MiB, first record of the other", bytes >> 20), format!("{:.3} ms", begun.elapsed().as_secs_f64() * 1e3), "");
    let begun = Instant::now();
    let rest = drain(&mut consumer);
    let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    tell(&format!("consume/{} MiB, {rest} records", bytes >> 20), format!("{rate:.0} MB/s"), "");
}
