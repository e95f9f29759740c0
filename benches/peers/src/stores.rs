//! Stores with keys. A record's number is its key, and its JSON is the value.

use std::{path::Path, sync::Mutex};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};
use rusqlite::Connection;

use crate::{
    common::records::Message,
    work::{Log, Mode, with_json},
};

struct Fjall {
    database: Database,
    records: Keyspace,
    mode: Mode,
}

pub fn fjall(dir: &Path, mode: Mode) -> Box<dyn Log> {
    let database = Database::builder(dir.join("fjall")).open().unwrap();
    let records = database.keyspace("records", KeyspaceCreateOptions::default).unwrap();
    Box::new(Fjall { database, records, mode })
}

impl Log for Fjall {
    fn append(&self, number: u64, record: &Message) {
        with_json(record, |json| self.records.insert(number.to_be_bytes(), json).unwrap());
        if self.mode == Mode::Durable {
            self.database.persist(PersistMode::SyncData).unwrap();
        }
    }

    fn append_batch(&self, first: u64, records: &[&Message]) {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (number, record) in (first..).zip(records) {
            with_json(record, |json| batch.insert(&self.records, number.to_be_bytes(), json));
        }
        batch.commit().unwrap();
    }
}

struct Redb(redb::Database, Mode);

const REDB_RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

pub fn redb(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(Redb(redb::Database::create(dir.join("redb")).unwrap(), mode))
}

impl Log for Redb {
    fn append(&self, number: u64, record: &Message) {
        self.append_batch(number, &[record]);
    }

    fn append_batch(&self, first: u64, records: &[&Message]) {
        let mut transaction = self.0.begin_write().unwrap();
        transaction.set_durability(if self.1 == Mode::Durable { Durability::Immediate } else { Durability::None }).unwrap();
        {
            let mut table = transaction.open_table(REDB_RECORDS).unwrap();
            for (number, record) in (first..).zip(records) {
                with_json(record, |json| drop(table.insert(number, json).unwrap()));
            }
        }
        transaction.commit().unwrap();
    }
}

struct Sqlite(Mutex<Connection>);

pub fn sqlite_off(dir: &Path, _: Mode) -> Box<dyn Log> {
    sqlite(dir, "OFF")
}

pub fn sqlite_normal(dir: &Path, _: Mode) -> Box<dyn Log> {
    sqlite(dir, "NORMAL")
}

pub fn sqlite_full(dir: &Path, _: Mode) -> Box<dyn Log> {
    sqlite(dir, "FULL")
}

fn sqlite(dir: &Path, synchronous: &str) -> Box<dyn Log> {
    let connection = Connection::open(dir.join("sqlite")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", synchronous).unwrap();
    connection.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, json BLOB NOT NULL)", ()).unwrap();
    Box::new(Sqlite(Mutex::new(connection)))
}

const SQLITE_INSERT: &str = "INSERT INTO records VALUES (?1, ?2)";

impl Log for Sqlite {
    fn append(&self, number: u64, record: &Message) {
        let connection = self.0.lock().unwrap();
        with_json(record, |json| connection.prepare_cached(SQLITE_INSERT).unwrap().execute((number as i64, json)).unwrap());
    }

    fn append_batch(&self, first: u64, records: &[&Message]) {
        let mut connection = self.0.lock().unwrap();
        let transaction = connection.transaction().unwrap();
        for (number, record) in (first..).zip(records) {
            with_json(record, |json| transaction.prepare_cached(SQLITE_INSERT).unwrap().execute((number as i64, json)).unwrap());
        }
        transaction.commit().unwrap();
    }
}
