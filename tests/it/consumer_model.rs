//! S0-46: whatever happens in whatever order, no record is lost, order is kept, and the checkpoint is never ahead.
//!
//! A random run of what users, writers, administrators and crashes do is held against what every consumer may rely on: of the records that are still
//! kept, each was acknowledged or comes again; records of one file come in its order; and what the checkpoint covers was acknowledged and is durable.
//! Each run is made in one of the two forms. What a checkpoint covers is what a reader that takes it up leaves out.

use std::{collections::BTreeSet, time::Duration};

use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};
use untorn::{
    Batch, Consumer, Delivery, FollowEvent, Format, Reader, Restored, Start, Ticket, Writer,
    sim::{Bounds, SimDisk},
};

/// The name that the journal has first.
const PATH: &str = "dir/j.jsonl";

#[derive(Clone, Debug)]
enum Act {
    Append,
    AppendBatch,
    /// A torn tail, which the next writer takes out.
    Tear,
    Sync,
    Poll(usize),
    Ack(usize),
    Reject(usize),
    Release(usize),
    Hold(usize),
    Save,
    /// The consumer dies; its disk does not.
    Restart,
    /// The power fails.
    Crash(usize),
    Rotate,
    /// The file is put in its place again as a copy, with one more damaged line in front of a record: as a repair does, the other way round.
    Replace,
    /// Somebody cuts the file, anywhere.
    Truncate(usize),
    /// The file has another name for a moment, in which the consumer looks.
    RenameAndBack,
    /// The journal gets another name for good, segment by segment, which none has had.
    Rename,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Append),
        2 => Just(Act::AppendBatch),
        1 => Just(Act::Tear),
        1 => Just(Act::Sync),
        6 => (1usize..6).prop_map(Act::Poll),
        6 => (0usize..8).prop_map(Act::Ack),
        1 => (0usize..8).prop_map(Act::Reject),
        1 => (0usize..8).prop_map(Act::Release),
        1 => (0usize..8).prop_map(Act::Hold),
        2 => Just(Act::Save),
        1 => Just(Act::Restart),
        1 => (0usize..100).prop_map(Act::Crash),
        1 => Just(Act::Rotate),
        1 => Just(Act::Replace),
        1 => (0usize..1000).prop_map(Act::Truncate),
        1 => Just(Act::RenameAndBack),
        1 => Just(Act::Rename),
    ]
}

struct World {
    disk: SimDisk,
    path: String,
    renames: u32,
    consumer: Consumer,
    next: u64,
    /// Delivered and not settled, with the era in which that was.
    open: Vec<(u64, u64, Ticket)>,
    /// A new one begins when the consumer has told that records may come again. Then those of an earlier one may, settled or not.
    era: u64,
    settled: BTreeSet<u64>,
    /// Of those, the ones that were settled since the consumer was opened.
    settled_now: BTreeSet<u64>,
    segments: u64,
    is_away: bool,
    /// It was cut, and the consumer has not looked at all of it since.
    is_cut: bool,
    /// It was renamed, and the same.
    is_renamed: bool,
    is_replaced: bool,
    format: Format,
}

fn open(disk: &SimDisk) -> Consumer {
    Consumer::options("model", "state")
        .directory("dir", &[".jsonl"])
        .disk(disk)
        .save_every(Duration::from_secs(3600))
        .poll_every(Duration::ZERO)
        .open()
        .unwrap()
}

impl World {
    fn new(format: Format) -> World {
        let disk = SimDisk::new();
        let (settled, settled_now) = (BTreeSet::new(), BTreeSet::new());
        World {
            consumer: open(&disk),
            path: PATH.to_owned(),
            renames: 0,
            disk,
            next: 0,
            open: Vec::new(),
            era: 0,
            settled,
            settled_now,
            segments: 0,
            is_away: false,
            is_cut: false,
            is_renamed: false,
            is_replaced: false,
            format,
        }
    }

    fn writer(&self) -> Writer {
        let mut options = Writer::options();
        options.durability(untorn::Durability::Os).format(self.format).disk(&self.disk).open(&self.path).unwrap()
    }

    fn append(&mut self) {
        self.next += 1;
        self.writer().append(&record(self.next)).unwrap();
    }

    /// The records that a reader gives from there on, and how it took up a checkpoint.
    fn read(&self, from: Start) -> (Vec<u64>, Option<Restored>) {
        let Ok(reader) = Reader::options().from(from).disk(&self.disk).open(&self.path) else { return (Vec::new(), None) };
        let restored = reader.restored().cloned();
        (reader.records::<Value>().filter_map(Result::ok).map(|record| number(&record.value)).collect(), restored)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append => self.append(),
            Act::AppendBatch if self.format == Format::Plain => (0..2).for_each(|_| self.append()),
            Act::AppendBatch => {
                let mut batch = Batch::new();
                batch.add(&record(self.next + 1)).unwrap().add(&record(self.next + 2)).unwrap();
                self.next += 2;
                self.writer().append_batch(&batch).unwrap();
            }
            Act::Tear => self.disk.append_raw(&self.path, "{\"torn").unwrap(),
            Act::Sync => self.disk.sync(),
            Act::Poll(times) => {
                for _ in 0..times {
                    self.poll();
                }
            }
            Act::Ack(at) => self.settle(at, true, Ticket::ack),
            Act::Reject(at) => self.settle(at, true, Ticket::reject),
            Act::Release(at) => self.settle(at, false, Ticket::release),
            Act::Hold(at) => self.settle(at, false, Ticket::hold),
            Act::Save => self.consumer.save().unwrap(),
            Act::Restart => self.restart(self.disk.kill()),
            Act::Crash(which) => {
                let mut images: Vec<SimDisk> = self.disk.crash_images(&Bounds::default()).collect();
                let which = which % images.len();
                let image = images.swap_remove(which);
                self.restart(image);
            }
            // Neither its name nor the file would be what it was: it may be any copy.
            Act::Rename if self.is_replaced => {}
            Act::Rename => {
                self.renames += 1;
                let to = format!("dir/j{}.jsonl", self.renames);
                let stem = |path: &str| path.trim_end_matches("jsonl").to_owned();
                for file in self.disk.files() {
                    let file = file.to_str().unwrap();
                    if let Some(rest) = file.strip_prefix(&stem(&self.path)) {
                        self.disk.rename(file, stem(&to) + rest).unwrap();
                    }
                }
                self.path = to;
                self.is_renamed = true;
                self.disk.sync();
            }
            Act::Rotate if self.disk.read_file(&self.path).is_some_and(|bytes| bytes.ends_with(b"\n")) => {
                self.segments += 1;
                self.disk.rename(&self.path, self.path.replace(".jsonl", &format!(".{:06}.jsonl", self.segments))).unwrap();
                self.disk.sync();
            }
            Act::Rotate => {}
            Act::Replace if self.is_renamed => {}
            Act::Replace => {
                self.is_replaced = true;
                let Some(bytes) = self.disk.read_file(&self.path) else { return };
                let mut changed = b"{\"damaged\n".to_vec();
                changed.extend(bytes);
                self.disk.write_file("dir/new", changed).unwrap();
                self.disk.rename("dir/new", &self.path).unwrap();
                self.disk.sync();
            }
            Act::Truncate(at) => {
                let Some(bytes) = self.disk.read_file(&self.path).filter(|bytes| !bytes.is_empty()) else { return };
                self.is_cut = true;
                self.disk.truncate(&self.path, (at % bytes.len()) as u64).unwrap();
            }
            // The parts of a journal that come into sight one after another are not known for what they were.
            Act::RenameAndBack if self.is_renamed => {}
            Act::RenameAndBack => {
                if self.disk.rename(&self.path, "dir/away").is_ok() {
                    self.is_away = true;
                    self.poll();
                    self.poll();
                    self.is_away = false;
                    self.disk.rename("dir/away", &self.path).unwrap();
                    self.disk.sync();
                }
            }
        }
    }

    /// What the checkpoint covers is settled and durable.
    fn check_checkpoint(&self) {
        let Some(saved) = self.disk.read_file("state/model/checkpoint.jsonl") else { return };
        let state = untorn::internals::saved_state(&saved).unwrap();
        let mut checkpoints = state.sources.into_iter().map(|source| source.checkpoint);
        let Some(checkpoint) = checkpoints.find(|checkpoint| checkpoint.path().is_some_and(|path| path.ends_with(&self.path))) else { return };
        let Some(mark) = checkpoint.mark() else { return };
        // If its record was cut off since, it proves nothing, and that is told.
        let (behind, Some(Restored::Resumed)) = self.read(Start::Checkpoint(checkpoint)) else { return };
        let (kept, _) = self.read(Start::Beginning);
        let covered: Vec<u64> = kept.into_iter().filter(|record| !behind.contains(record)).collect();
        for record in &covered {
            assert!(self.settled.contains(record), "{record} is covered by a checkpoint at {mark:?} and was not settled");
        }
        // A batch that was cut counts for nothing.
        let Some(last) = covered.last() else { return };
        let line = mark.seq.map_or(record(*last).to_string(), |_| format!(",\"_crc\":\"{:08x}\"}}", mark.crc));
        let durable = self.disk.files().into_iter().filter(|path| path.starts_with("dir")).filter_map(|path| self.disk.durable_file(path));
        let is_durable = durable.into_iter().any(|bytes| bytes.windows(line.len()).any(|found| found == line.as_bytes()));
        assert!(is_durable, "record {last} is covered by a checkpoint and not durable");
    }

    fn settle(&mut self, at: usize, is_settled: bool, how: impl FnOnce(Ticket)) {
        if self.open.is_empty() {
            return;
        }
        let (record, era, ticket) = self.open.remove(at % self.open.len());
        how(ticket);
        if is_settled {
            self.settled.insert(record);
        }
        if is_settled && era == self.era {
            self.settled_now.insert(record);
        }
    }

    fn poll(&mut self) -> Option<u64> {
        loop {
            let delivery = match self.consumer.next(Duration::ZERO) {
                // A record that was released is read again, which cannot be while its file has another name.
                Err(_) if self.is_away => return None,
                delivery => delivery.unwrap(),
            };
            let Some(delivery) = delivery else {
                // In the middle of a rotation there is nothing to look at either.
                if !self.is_away && self.disk.read_file(&self.path).is_some() {
                    (self.is_cut, self.is_renamed, self.is_replaced) = (false, false, false);
                }
                return None;
            };
            match delivery {
                Delivery::Record(_, record, ticket) => {
                    let record = number(&record.value.decode().unwrap());
                    assert!(!self.settled_now.contains(&record), "{record} was settled and came again");
                    self.open.push((record, self.era, ticket));
                    return Some(record);
                }
                Delivery::Event(_, FollowEvent::Replaced { resumed: true, .. }) => {}
                // The record that was read last may have been cut off.
                Delivery::Event(_, FollowEvent::Replaced { .. } | FollowEvent::Truncated { .. }) => {
                    self.era += 1;
                    self.settled_now.clear();
                }
                // A file that was cut before it was renamed may not prove that it is the same.
                Delivery::Restored(_, Restored::New) if self.is_cut => {
                    self.era += 1;
                    self.settled_now.clear();
                }
                Delivery::SaveFailed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }

    fn restart(&mut self, disk: SimDisk) {
        self.disk = disk;
        self.open.clear();
        self.settled_now.clear();
        self.consumer = open(&self.disk);
    }

    /// In the end, all that was not settled comes, in order.
    fn finish(mut self) {
        // A torn tail may be all that there is of the active file.
        self.append();
        self.restart(self.disk.kill());
        let mut given = Vec::new();
        while let Some(record) = self.poll() {
            given.push(record);
        }
        let kept = self.read(Start::Beginning).0;
        // Of a plain file, a power cut may leave another order than that of appending.
        assert!(kept.iter().filter(|record| given.contains(record)).eq(&given), "{given:?} of {kept:?}");
        let lost: Vec<u64> = kept.into_iter().filter(|record| !self.settled.contains(record) && !given.contains(record)).collect();
        assert!(lost.is_empty(), "{lost:?} were neither settled nor given");
    }
}

/// Cut anywhere, it is no record.
fn record(number: u64) -> Value {
    json!({ "n": number })
}

fn number(record: &Value) -> u64 {
    record["n"].as_u64().unwrap()
}

/// The same three hundred runs each time; with `UNTORN_LONG`, thirty thousand others.
fn config() -> ProptestConfig {
    match std::env::var_os("UNTORN_LONG") {
        Some(_) => ProptestConfig { cases: 30_000, ..ProptestConfig::default() },
        None => ProptestConfig { cases: 300, rng_seed: RngSeed::Fixed(46), ..ProptestConfig::default() },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_record_is_lost_and_no_checkpoint_is_ahead(is_plain: bool, acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new(if is_plain { Format::Plain } else { Format::Sealed });
        for act in acts {
            world.act(act);
            world.check_checkpoint();
        }
        world.finish();
    }
}
