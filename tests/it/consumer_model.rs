//! S0-46: whatever happens in whatever order, no record is lost, order is kept, and the checkpoint is never ahead.
//!
//! A random run of what users, writers, administrators and crashes do is held against what every consumer may rely on: of the records that are still
//! kept, each was acknowledged or comes again; records of one file come in its order; and what the checkpoint covers was acknowledged and is durable.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use untorn::{
    Batch, Consumer, Delivery, FollowEvent, Ticket, Writer,
    sim::{Bounds, SimDisk},
};

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
    ]
}

struct World {
    disk: SimDisk,
    consumer: Consumer,
    next: u64,
    /// Delivered and not settled.
    open: Vec<(u64, Ticket)>,
    settled: BTreeSet<u64>,
    /// Of those, the ones that were settled since the consumer was opened.
    settled_now: BTreeSet<u64>,
    segments: u64,
}

fn open(disk: &SimDisk) -> Consumer {
    Consumer::options("model", "state").file(PATH).disk(disk).save_every(Duration::from_secs(3600)).poll_every(Duration::ZERO).open().unwrap()
}

impl World {
    fn new() -> World {
        let disk = SimDisk::new();
        World { consumer: open(&disk), disk, next: 0, open: Vec::new(), settled: BTreeSet::new(), settled_now: BTreeSet::new(), segments: 0 }
    }

    fn writer(&self) -> Writer {
        let mut options = Writer::options();
        options.durability(untorn::Durability::Os).disk(&self.disk).open(PATH).unwrap()
    }

    fn kept(&self) -> Vec<u64> {
        kept(&self.disk)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Append => {
                self.next += 1;
                self.writer().append(&self.next).unwrap();
            }
            Act::AppendBatch => {
                let mut batch = Batch::new();
                batch.add(&(self.next + 1)).unwrap().add(&(self.next + 2)).unwrap();
                self.next += 2;
                self.writer().append_batch(&batch).unwrap();
            }
            Act::Tear => self.disk.append_raw(PATH, "{\"torn").unwrap(),
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
                // What was settled and is lost with the journal's end may be appended again under the same number.
                let kept: BTreeSet<u64> = kept(&image).into_iter().collect();
                self.settled.retain(|record| kept.contains(record));
                self.restart(image);
            }
            Act::Rotate if self.disk.read_file(PATH).is_some_and(|bytes| bytes.ends_with(b"\n")) => {
                self.segments += 1;
                self.disk.rename(PATH, format!("dir/j.{:06}.jsonl", self.segments)).unwrap();
                self.disk.sync();
            }
            Act::Rotate => {}
            Act::Replace => {
                let Some(bytes) = self.disk.read_file(PATH) else { return };
                let mut changed = b"{\"damaged\n".to_vec();
                changed.extend(bytes);
                self.disk.write_file("dir/new", changed).unwrap();
                self.disk.rename("dir/new", PATH).unwrap();
                self.disk.sync();
            }
        }
    }

    fn settle(&mut self, at: usize, is_settled: bool, how: impl FnOnce(Ticket)) {
        if self.open.is_empty() {
            return;
        }
        let (record, ticket) = self.open.remove(at % self.open.len());
        how(ticket);
        if is_settled {
            self.settled.insert(record);
            self.settled_now.insert(record);
        }
    }

    fn poll(&mut self) -> Option<u64> {
        loop {
            match self.consumer.next(Duration::ZERO).unwrap()? {
                Delivery::Record(_, record, ticket) => {
                    let record = record.value.decode().unwrap();
                    assert!(!self.settled_now.contains(&record), "{record} was settled and came again");
                    self.open.push((record, ticket));
                    return Some(record);
                }
                Delivery::Event(_, FollowEvent::Replaced { resumed, .. }) => assert!(resumed, "sealed records are found wherever they are"),
                Delivery::Event(_, FollowEvent::Truncated { .. }) => panic!("nothing was truncated"),
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
        self.next += 1;
        self.writer().append(&self.next).unwrap();
        self.restart(self.disk.kill());
        let mut given = Vec::new();
        while let Some(record) = self.poll() {
            given.push(record);
        }
        assert!(given.is_sorted_by(|before, after| before < after), "{given:?}");
        let lost: Vec<u64> = self.kept().into_iter().filter(|record| !self.settled.contains(record) && !given.contains(record)).collect();
        assert!(lost.is_empty(), "{lost:?} were neither settled nor given");
    }
}

fn kept(disk: &SimDisk) -> Vec<u64> {
    let reader = untorn::Reader::options().disk(disk).open(PATH);
    reader.map(|reader| reader.records().filter_map(Result::ok).map(|record| record.value).collect()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_record_is_lost_and_no_checkpoint_is_ahead(acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        world.finish();
    }
}
