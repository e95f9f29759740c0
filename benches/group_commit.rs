//! What do many threads or tasks get out of one journal, and what does one task that waits for each record?
//!
//! Held against `write` and `fdatasync` for each record, and against the way that tasks usually write: `tokio::fs`.
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
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use common::{
    Bench,
    floors::{self, appendable},
    ratio::{Goal, Row, Unit, timed},
    records::Records,
    scratch::{Scratch, held},
};
use tokio::{
    io::AsyncWriteExt,
    runtime::{Builder, Runtime},
};
use untorn::{AsyncWriter, Durability, SharedWriter};

fn main() {
    let mut bench = Bench::from_args();
    let scratch = Scratch::new();
    let runtime = Builder::new_multi_thread().build().unwrap();
    let records = Arc::new(Records::small());
    let many = Many { scratch: &scratch, runtime: &runtime, records: &records };
    buffered(&mut bench, &many);
    durable(&mut bench, &many);
    bench.end();
}

/// Left to the system to write.
fn buffered(bench: &mut Bench, many: &Many<'_>) {
    let Many { scratch, records, .. } = *many;
    bench.row(
        Row::new("group_commit/os/1 task/append", Unit::Records, 1, many.tasks(1, Durability::Os))
            .against("tokio::fs write_all + flush", Goal::Ratio(3.0), many.tokio_fs(false))
            .against("write", Goal::Shown, floors::write(scratch, records)),
    );
    bench.row(
        Row::new("group_commit/os/1 task/enqueue", Unit::Records, 1, many.enqueuing())
            .against("tokio::fs write_all + flush", Goal::Ratio(10.0), many.tokio_fs(false))
            .against("write", Goal::Shown, floors::write(scratch, records)),
    );
    for tasks in [8, 64] {
        let goal = if tasks == 64 { Goal::Ratio(0.5) } else { Goal::Shown };
        bench.row(Row::new(format!("group_commit/os/{tasks} tasks/append"), Unit::Records, tasks, many.tasks(tasks, Durability::Os)).against_amount(
            "write",
            goal,
            1,
            floors::write(scratch, records),
        ));
    }
    for threads in [1, 8, 64] {
        bench.row(
            Row::new(format!("group_commit/os/{threads} threads/append"), Unit::Records, threads, many.threads(threads, Durability::Os))
                .against_amount("write", Goal::Shown, 1, floors::write(scratch, records)),
        );
    }
}

/// On the disk when it returns. What one task gets out of `write` and `fdatasync` is one record for each sync, so the ratio counts records per sync.
fn durable(bench: &mut Bench, many: &Many<'_>) {
    let Many { scratch, records, .. } = *many;
    let syncs = || floors::write_sync(scratch, records);
    bench.row(
        Row::new("group_commit/sync/1 task/append", Unit::Records, 1, many.tasks(1, Durability::Sync))
            .against("write + fdatasync", Goal::Ratio(0.90), syncs())
            .against("tokio::fs write_all + sync_data", Goal::Shown, many.tokio_fs(true)),
    );
    for tasks in [8, 64] {
        let goal = |least| if tasks == 64 { Goal::Ratio(least) } else { Goal::Shown };
        bench.row(
            Row::new(format!("group_commit/sync/{tasks} tasks/append"), Unit::Records, tasks, many.tasks(tasks, Durability::Sync))
                .against_amount("write + fdatasync", goal(24.0), 1, syncs())
                .against_amount("1 task of ours", goal(20.0), 1, many.tasks(1, Durability::Sync)),
        );
    }
    for threads in [1, 8, 64] {
        bench.row(
            Row::new(format!("group_commit/sync/{threads} threads/append"), Unit::Records, threads, many.threads(threads, Durability::Sync))
                .against_amount("write + fdatasync", Goal::Shown, 1, syncs()),
        );
    }
}

#[derive(Clone, Copy)]
struct Many<'a> {
    scratch: &'a Scratch,
    runtime: &'a Runtime,
    records: &'a Arc<Records>,
}

impl<'a> Many<'a> {
    /// So many tasks append and wait for each record; an operation is one record of each.
    fn tasks(self, tasks: u64, durability: Durability) -> impl FnMut(u64) -> Duration + 'a {
        self.with_writer(durability, move |many, writer, count| {
            let one = |task: u64| {
                let (writer, records) = (writer.clone(), Arc::clone(many.records));
                async move {
                    for number in 0..count {
                        writer.append(records.typed(number + task)).await.unwrap();
                    }
                }
            };
            many.runtime.block_on(async {
                let start = Instant::now();
                let tasks: Vec<_> = (0..tasks).map(|task| tokio::spawn(one(task))).collect();
                for task in tasks {
                    task.await.unwrap();
                }
                start.elapsed()
            })
        })
    }

    /// One task queues record after record, and then waits for all of them.
    fn enqueuing(self) -> impl FnMut(u64) -> Duration + 'a {
        self.with_writer(Durability::Os, |many, writer, count| {
            let (writer, records) = (writer.clone(), Arc::clone(many.records));
            let all = async move {
                let start = Instant::now();
                for number in 0..count {
                    drop(writer.enqueue(records.typed(number)).await.unwrap());
                }
                writer.flush().await.unwrap();
                start.elapsed()
            };
            many.runtime.block_on(async { tokio::spawn(all).await.unwrap() })
        })
    }

    fn with_writer(self, durability: Durability, run: impl Fn(Many<'a>, &AsyncWriter, u64) -> Duration + 'a) -> impl FnMut(u64) -> Duration + 'a {
        move |count| {
            let path = self.scratch.fresh();
            let writer = held(durability).open(&path).unwrap().into_async();
            self.runtime.block_on(writer.append(self.records.typed(0))).unwrap();
            let took = run(self, &writer, count);
            self.runtime.block_on(writer.close()).unwrap();
            std::fs::remove_file(&path).unwrap();
            took
        }
    }

    /// So many threads append and wait for each record; an operation is one record of each.
    fn threads(self, threads: u64, durability: Durability) -> impl FnMut(u64) -> Duration + 'a {
        move |count| {
            let path = self.scratch.fresh();
            let writer = held(durability).open(&path).unwrap().into_shared();
            writer.append(self.records.typed(0)).unwrap();
            let ready = Barrier::new(threads as usize + 1);
            let one = |writer: SharedWriter, thread: u64| {
                ready.wait();
                for number in 0..count {
                    writer.append(self.records.typed(number + thread)).unwrap();
                }
            };
            let took = std::thread::scope(|scope| {
                let all: Vec<_> = (0..threads)
                    .map(|thread| {
                        scope.spawn({
                            let writer = writer.clone();
                            move || one(writer, thread)
                        })
                    })
                    .collect();
                ready.wait();
                timed(|| all.into_iter().for_each(|thread| thread.join().unwrap()))
            });
            writer.close().unwrap();
            std::fs::remove_file(&path).unwrap();
            took
        }
    }

    /// One task writes each record as tasks usually do.
    fn tokio_fs(self, syncs: bool) -> impl FnMut(u64) -> Duration + 'a {
        move |count| {
            let path = self.scratch.fresh();
            let mut file = tokio::fs::File::from_std(appendable(&path));
            let records = Arc::clone(self.records);
            let all = async move {
                let mut line = Vec::new();
                let start = Instant::now();
                for number in 0..count {
                    line.clear();
                    serde_json::to_writer(&mut line, records.typed(number)).unwrap();
                    line.push(b'\n');
                    file.write_all(&line).await.unwrap();
                    if syncs {
                        file.sync_data().await.unwrap();
                    } else {
                        file.flush().await.unwrap();
                    }
                }
                start.elapsed()
            };
            let took = self.runtime.block_on(async { tokio::spawn(all).await.unwrap() });
            std::fs::remove_file(&path).unwrap();
            took
        }
    }
}
