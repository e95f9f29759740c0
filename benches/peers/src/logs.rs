//! Binary logs. The record goes in as JSON.

use std::{path::Path, sync::Mutex};

use raft_engine::{Config, Engine, LogBatch, ReadableSize};

use crate::{
    common::records::Message,
    work::{Log, Mode, with_json},
};

struct WalDb(wal_db::Wal, Mode);

pub fn wal_db(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(WalDb(wal_db::Wal::open(dir.join("wal")).unwrap(), mode))
}

impl Log for WalDb {
    fn append(&self, _: u64, record: &Message) {
        let _ = with_json(record, |json| match self.1 {
            Mode::Buffered => self.0.append(json).unwrap(),
            Mode::Durable => self.0.append_and_sync(json).unwrap(),
        });
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        for record in records {
            let _ = with_json(record, |json| self.0.append(json).unwrap());
        }
        self.0.sync().unwrap();
    }
}

struct OpenWal(Mutex<open_wal::Wal>);

pub fn open_wal(dir: &Path, _: Mode) -> Box<dyn Log> {
    Box::new(OpenWal(Mutex::new(open_wal::Wal::open(&dir.join("wal"), open_wal::WalConfig::default()).unwrap().0)))
}

impl Log for OpenWal {
    fn append(&self, number: u64, record: &Message) {
        self.append_batch(number, &[record]);
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        let mut wal = self.0.lock().unwrap();
        for record in records {
            with_json(record, |json| wal.append(json).unwrap());
        }
        wal.commit().unwrap();
    }
}

struct OkayWal(okaywal::WriteAheadLog);

pub fn okaywal(dir: &Path, _: Mode) -> Box<dyn Log> {
    Box::new(OkayWal(okaywal::WriteAheadLog::recover(dir.join("wal"), okaywal::LogVoid).unwrap()))
}

impl Log for OkayWal {
    fn append(&self, number: u64, record: &Message) {
        self.append_batch(number, &[record]);
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        let mut entry = self.0.begin_entry().unwrap();
        for record in records {
            with_json(record, |json| entry.write_chunk(json).unwrap());
        }
        entry.commit().unwrap();
    }
}

struct RaftEngine(Engine, Mode);

pub fn raft_engine(dir: &Path, mode: Mode) -> Box<dyn Log> {
    let config = Config { dir: dir.join("raft").display().to_string(), batch_compression_threshold: ReadableSize::kb(0), ..Config::default() };
    Box::new(RaftEngine(Engine::open(config).unwrap(), mode))
}

impl Log for RaftEngine {
    fn append(&self, number: u64, record: &Message) {
        self.append_batch(number, &[record]);
    }

    fn append_batch(&self, first: u64, records: &[&Message]) {
        let mut batch = LogBatch::default();
        for (number, record) in (first..).zip(records) {
            batch.put(1, number.to_be_bytes().to_vec(), with_json(record, <[u8]>::to_vec)).unwrap();
        }
        self.0.write(&mut batch, self.1 == Mode::Durable).unwrap();
    }
}
