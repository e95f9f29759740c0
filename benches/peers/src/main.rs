//! The same work on `untorn` and on others, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [FILTER] [--quick] [--markdown FILE] [--svg FILE]
//! ```
//!
//! All take turns, and each turn stands between two of the bare machine doing the same work by hand: the ratio to those is what can be compared.
//! `README.md` says what each one promises for it.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    dead_code,
    reason = "what is measured must work, and the shared files have more than is needed here"
)]

mod files;
mod logs;
mod read;
mod stores;
mod table;
mod work;

#[path = "../../common"]
mod common {
    pub mod floors;
    pub mod ratio;
    pub mod records;
    pub mod scratch;
    pub mod svg;
}

use std::sync::Arc;

use common::{
    ratio::{Settings, Unit},
    records::Records,
    scratch::Scratch,
};
use table::{Measured, Table, Versus};
use tokio::runtime::{Builder, Runtime};
use work::{Mode, by_many, one_by_one};

/// What all of the work needs.
pub struct Bed {
    scratch: Scratch,
    records: Arc<Records>,
    runtime: Runtime,
}

fn main() {
    let (settings, files) = table::options();
    let bed =
        Bed { scratch: Scratch::new(), records: Arc::new(Records::small()), runtime: Builder::new_multi_thread().enable_all().build().unwrap() };
    let mut all = All { settings: &settings, tables: Vec::new() };
    all.measure("buffered append, one record for each call", Unit::Records, |table| buffered(table, &bed));
    all.measure("durable append, one producer", Unit::Records, |table| durable(table, &bed));
    all.measure("durable append, 64 producers", Unit::Records, |table| many(table, &bed));
    all.measure("durable batches of 256", Unit::Records, |table| batches(table, &bed));
    all.measure("read typed", Unit::Bytes, |table| read::add(table, &bed, settings.pass_bytes() / 8));
    let tables = all.tables;

    table::say_goals(
        &tables,
        &[
            Versus { table: "durable append, 64 producers", ours: "untorn AsyncWriter", theirs: None, least: 1.3 },
            Versus { table: "read typed", ours: "untorn", theirs: Some("serde-jsonlines"), least: 1.10 },
        ],
    );
    files.write(&tables);
}

/// All tables that are asked for.
struct All<'s> {
    settings: &'s Settings,
    tables: Vec<Measured>,
}

impl All<'_> {
    fn measure<'a>(&mut self, name: &str, unit: Unit, fill: impl FnOnce(&mut Table<'a>)) {
        if self.settings.filter.as_ref().is_none_or(|filter| name.contains(filter)) {
            let mut table = Table::new(name, unit);
            fill(&mut table);
            let measured = table.measure(self.settings);
            measured.print();
            self.tables.push(measured);
        }
    }
}

fn buffered<'a>(table: &mut Table<'a>, bed: &'a Bed) {
    table.machine("write", 1, common::floors::write(&bed.scratch, &bed.records));
    table.add("untorn", 1, one_by_one(bed, Mode::Buffered, files::untorn));
    table.add("untorn, lock per append", 1, one_by_one(bed, Mode::Buffered, files::untorn_per_append));
    table.add("untorn AsyncWriter, enqueue", 1, work::enqueuing(bed));
    table.add("untorn AsyncWriter, append", 1, work::untorn_tasks(bed, 1, Mode::Buffered));
    table.add("serde-jsonlines", 1, one_by_one(bed, Mode::Buffered, files::serde_jsonlines));
    table.add("tracing-appender, lossless", 1, one_by_one(bed, Mode::Buffered, files::tracing_appender));
    table.add("emit_file, flush each 4096", 4096, work::batches(bed, 4096, files::emit_file));
    table.add("tokio::fs write_all + flush", 1, work::tokio_fs(bed, 1, Mode::Buffered));
    table.add("wal-db", 1, one_by_one(bed, Mode::Buffered, logs::wal_db));
    table.add("raft-engine", 1, one_by_one(bed, Mode::Buffered, logs::raft_engine));
    table.add("fjall", 1, one_by_one(bed, Mode::Buffered, stores::fjall));
    table.add("redb, Durability::None", 1, one_by_one(bed, Mode::Buffered, stores::redb));
    table.add("SQLite WAL, OFF", 1, one_by_one(bed, Mode::Buffered, stores::sqlite_off));
    table.add("SQLite WAL, NORMAL", 1, one_by_one(bed, Mode::Buffered, stores::sqlite_normal));
}

fn durable<'a>(table: &mut Table<'a>, bed: &'a Bed) {
    table.machine("write + fdatasync", 1, common::floors::write_sync(&bed.scratch, &bed.records));
    table.add("untorn", 1, one_by_one(bed, Mode::Durable, files::untorn));
    table.add("untorn AsyncWriter", 1, work::untorn_tasks(bed, 1, Mode::Durable));
    table.add("serde-jsonlines + fdatasync", 1, one_by_one(bed, Mode::Durable, files::serde_jsonlines));
    table.add("emit_file, flush each", 1, one_by_one(bed, Mode::Durable, files::emit_file));
    table.add("tokio::fs write_all + sync_data", 1, work::tokio_fs(bed, 1, Mode::Durable));
    table.add("wal-db", 1, one_by_one(bed, Mode::Durable, logs::wal_db));
    table.add("open-wal", 1, one_by_one(bed, Mode::Durable, logs::open_wal));
    table.add("okaywal", 1, one_by_one(bed, Mode::Durable, logs::okaywal));
    table.add("raft-engine", 1, one_by_one(bed, Mode::Durable, logs::raft_engine));
    table.add("fjall, SyncData", 1, one_by_one(bed, Mode::Durable, stores::fjall));
    table.add("redb, Immediate", 1, one_by_one(bed, Mode::Durable, stores::redb));
    table.add("SQLite WAL, FULL", 1, one_by_one(bed, Mode::Durable, stores::sqlite_full));
}

fn many<'a>(table: &mut Table<'a>, bed: &'a Bed) {
    const MANY: u64 = 64;
    table.machine("write + fdatasync, one producer", 1, common::floors::write_sync(&bed.scratch, &bed.records));
    table.add("untorn AsyncWriter", MANY, work::untorn_tasks(bed, MANY, Mode::Durable));
    table.add("untorn SharedWriter, threads", MANY, by_many(bed, MANY, files::untorn_shared));
    table.add("serde-jsonlines + fdatasync, mutex", MANY, by_many(bed, MANY, files::serde_jsonlines));
    table.add("emit_file, flush each", MANY, by_many(bed, MANY, files::emit_file));
    table.add("tokio::fs + sync_data, mutex", MANY, work::tokio_fs(bed, MANY, Mode::Durable));
    table.add("wal-db", MANY, by_many(bed, MANY, logs::wal_db));
    table.add("open-wal, mutex", MANY, by_many(bed, MANY, logs::open_wal));
    table.add("okaywal", MANY, by_many(bed, MANY, logs::okaywal));
    table.add("raft-engine", MANY, by_many(bed, MANY, logs::raft_engine));
    table.add("fjall, SyncData", MANY, by_many(bed, MANY, stores::fjall));
    table.add("redb, Immediate", MANY, by_many(bed, MANY, stores::redb));
    table.add("SQLite WAL, FULL, mutex", MANY, by_many(bed, MANY, stores::sqlite_full));
}

fn batches<'a>(table: &mut Table<'a>, bed: &'a Bed) {
    const BATCH: u64 = 256;
    let one = |open| work::batches(bed, BATCH, open);
    table.machine("serde_json, one write, fdatasync", BATCH, work::batch_by_hand(bed, BATCH));
    table.add("untorn", BATCH, one(files::untorn));
    table.add("serde-jsonlines + fdatasync", BATCH, one(files::serde_jsonlines));
    table.add("emit_file, flush each", BATCH, one(files::emit_file));
    table.add("wal-db", BATCH, one(logs::wal_db));
    table.add("open-wal", BATCH, one(logs::open_wal));
    table.add("okaywal", BATCH, one(logs::okaywal));
    table.add("raft-engine", BATCH, one(logs::raft_engine));
    table.add("fjall, SyncData", BATCH, one(stores::fjall));
    table.add("redb, Immediate", BATCH, one(stores::redb));
    table.add("SQLite WAL, FULL", BATCH, one(stores::sqlite_full));
}
