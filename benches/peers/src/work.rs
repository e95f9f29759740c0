//! The work, whoever does it.

use std::{
    io::Write,
    path::Path,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, sync::Mutex};
use untorn::Durability;

use crate::{
    Bed,
    common::{
        floors::appendable,
        ratio::timed,
        records::{Message, Records},
        scratch::held,
    },
};

/// When a record counts as appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With the operating system, or on its way there without being lost while the process lives.
    Buffered,
    /// On the disk.
    Durable,
}

/// What is appended to.
pub trait Log: Sync {
    /// Appends one record; in [`Mode::Durable`] it is on the disk when this returns.
    fn append(&self, number: u64, record: &Message);

    /// Appends records so that all are on the disk when this returns.
    fn append_batch(&self, _first: u64, _records: &[&Message]) {
        unreachable!("it has no batches, and is not asked for any")
    }

    /// Waits for what is on its way; nothing is appended after that.
    fn finish(&self) {}
}

/// How a log is opened in an empty directory.
pub type Open = fn(&Path, Mode) -> Box<dyn Log>;

/// Calls with a record as JSON, in a buffer that is used again.
pub fn with_json<T>(record: &Message, then: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        serde_json::to_writer(&mut *buffer, record).unwrap();
        then(buffer)
    })
}

/// A new log in a directory of its own; what is left is removed, and none of that is timed.
fn with_log(bed: &Bed, mode: Mode, open: Open, run: impl FnOnce(&dyn Log) -> Duration) -> Duration {
    let dir = tempfile::tempdir_in(bed.scratch.path()).unwrap();
    let log = open(dir.path(), mode);
    log.append(0, bed.records.typed(0));
    run(&*log)
}

/// One producer; an operation is one record.
pub fn one_by_one<'a>(bed: &'a Bed, mode: Mode, open: Open) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        with_log(bed, mode, open, |log| {
            timed(|| {
                for number in 1..=count {
                    log.append(number, bed.records.typed(number));
                }
                log.finish();
            })
        })
    }
}

/// Threads that each wait for each of their records; an operation is one record of each.
pub fn by_many<'a>(bed: &'a Bed, producers: u64, open: Open) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        with_log(bed, Mode::Durable, open, |log| {
            let ready = Barrier::new(producers as usize + 1);
            std::thread::scope(|scope| {
                let one = |producer: u64| {
                    ready.wait();
                    for number in 0..count {
                        let number = 1 + number * producers + producer;
                        log.append(number, bed.records.typed(number));
                    }
                };
                let all: Vec<_> = (0..producers).map(|producer| scope.spawn(move || one(producer))).collect();
                ready.wait();
                timed(|| all.into_iter().for_each(|thread| thread.join().unwrap()))
            })
        })
    }
}

/// One producer; an operation is one batch.
pub fn batches<'a>(bed: &'a Bed, batch: u64, open: Open) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        with_log(bed, Mode::Durable, open, |log| {
            timed(|| {
                for first in (1..).step_by(batch as usize).take(count as usize) {
                    let records: Vec<&Message> = (first..first + batch).map(|number| bed.records.typed(number)).collect();
                    log.append_batch(first, &records);
                }
            })
        })
    }
}

/// Batches serialised into one buffer, written at once, and synced.
pub fn batch_by_hand<'a>(bed: &'a Bed, batch: u64) -> impl FnMut(u64) -> Duration + 'a {
    let mut buffer = Vec::new();
    crate::common::floors::appends(&bed.scratch, move |file, first, _| {
        buffer.clear();
        for number in first..first + batch {
            serde_json::to_writer(&mut buffer, bed.records.typed(number)).unwrap();
            buffer.push(b'\n');
        }
        file.write_all(&buffer).unwrap();
        file.sync_data().unwrap();
    })
}

fn durability(mode: Mode) -> Durability {
    match mode {
        Mode::Buffered => Durability::Os,
        Mode::Durable => Durability::Sync,
    }
}

/// Tasks that each wait for each of their records; an operation is one record of each.
pub fn untorn_tasks<'a>(bed: &'a Bed, tasks: u64, mode: Mode) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        let path = bed.scratch.fresh();
        let writer = held(durability(mode)).open(&path).unwrap().into_async();
        let one = |task: u64| {
            let (writer, records) = (writer.clone(), Arc::clone(&bed.records));
            async move {
                for number in 0..count {
                    writer.append(records.typed(number + task)).await.unwrap();
                }
            }
        };
        let took = bed.runtime.block_on(async {
            let start = Instant::now();
            let tasks: Vec<_> = (0..tasks).map(|task| tokio::spawn(one(task))).collect();
            for task in tasks {
                task.await.unwrap();
            }
            start.elapsed()
        });
        bed.runtime.block_on(writer.close()).unwrap();
        std::fs::remove_file(&path).unwrap();
        took
    }
}

/// One task that queues record after record, and waits for all at the end.
pub fn enqueuing(bed: &Bed) -> impl FnMut(u64) -> Duration + '_ {
    move |count| {
        let path = bed.scratch.fresh();
        let writer = held(Durability::Os).open(&path).unwrap().into_async();
        let (queue, records) = (writer.clone(), Arc::clone(&bed.records));
        let all = async move {
            let start = Instant::now();
            for number in 0..count {
                drop(queue.enqueue(records.typed(number)).await.unwrap());
            }
            queue.flush().await.unwrap();
            start.elapsed()
        };
        let took = bed.runtime.block_on(async { tokio::spawn(all).await.unwrap() });
        bed.runtime.block_on(writer.close()).unwrap();
        std::fs::remove_file(&path).unwrap();
        took
    }
}

/// Tasks that share one `tokio::fs::File`; an operation is one record of each.
pub fn tokio_fs<'a>(bed: &'a Bed, tasks: u64, mode: Mode) -> impl FnMut(u64) -> Duration + 'a {
    async fn append(file: &Mutex<tokio::fs::File>, line: &mut Vec<u8>, records: &Records, number: u64, mode: Mode) {
        line.clear();
        serde_json::to_writer(&mut *line, records.typed(number)).unwrap();
        line.push(b'\n');
        let mut file = file.lock().await;
        file.write_all(line).await.unwrap();
        match mode {
            Mode::Buffered => file.flush().await.unwrap(),
            Mode::Durable => file.sync_data().await.unwrap(),
        }
    }
    move |count| {
        let path = bed.scratch.fresh();
        let file = Arc::new(Mutex::new(tokio::fs::File::from_std(appendable(&path))));
        let one = |task: u64| {
            let (file, records) = (Arc::clone(&file), Arc::clone(&bed.records));
            async move {
                let mut line = Vec::new();
                for number in 0..count {
                    append(&file, &mut line, &records, number + task, mode).await;
                }
            }
        };
        let took = bed.runtime.block_on(async {
            let start = Instant::now();
            let tasks: Vec<_> = (0..tasks).map(|task| tokio::spawn(one(task))).collect();
            for task in tasks {
                task.await.unwrap();
            }
            start.elapsed()
        });
        std::fs::remove_file(&path).unwrap();
        took
    }
}
