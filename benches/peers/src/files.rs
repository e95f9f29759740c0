//! JSON Lines, by `untorn` and by others.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use emit::Emitter;
use serde_jsonlines::JsonLinesWriter;
use untorn::{Batch, Durability, Lock, SharedWriter, Writer};

use crate::{
    common::{
        floors::appendable,
        records::Message,
        scratch::{held, with_lock},
    },
    work::{Log, Mode, with_json},
};

fn durability(mode: Mode) -> Durability {
    match mode {
        Mode::Buffered => Durability::Os,
        Mode::Durable => Durability::Sync,
    }
}

struct Untorn(Mutex<Writer>);

pub fn untorn(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(Untorn(Mutex::new(held(durability(mode)).open(dir.join("j.jsonl")).unwrap())))
}

pub fn untorn_per_append(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(Untorn(Mutex::new(with_lock(durability(mode), Lock::PerAppend).open(dir.join("j.jsonl")).unwrap())))
}

impl Log for Untorn {
    fn append(&self, _: u64, record: &Message) {
        self.0.lock().unwrap().append(record).unwrap();
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        let mut batch = Batch::new();
        for record in records {
            batch.add(record).unwrap();
        }
        self.0.lock().unwrap().append_batch(&batch).unwrap();
    }
}

struct Shared(SharedWriter);

pub fn untorn_shared(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(Shared(held(durability(mode)).open(dir.join("j.jsonl")).unwrap().into_shared()))
}

impl Log for Shared {
    fn append(&self, _: u64, record: &Message) {
        self.0.append(record).unwrap();
    }
}

struct SerdeJsonLines(Mutex<JsonLinesWriter<BufWriter<std::fs::File>>>, Mode);

pub fn serde_jsonlines(dir: &Path, mode: Mode) -> Box<dyn Log> {
    Box::new(SerdeJsonLines(Mutex::new(JsonLinesWriter::new(BufWriter::new(appendable(&dir.join("j.jsonl"))))), mode))
}

impl SerdeJsonLines {
    fn settle(&self, writer: &mut JsonLinesWriter<BufWriter<std::fs::File>>) {
        writer.flush().unwrap();
        if self.1 == Mode::Durable {
            writer.get_ref().get_ref().sync_data().unwrap();
        }
    }
}

impl Log for SerdeJsonLines {
    fn append(&self, _: u64, record: &Message) {
        let mut writer = self.0.lock().unwrap();
        writer.write(record).unwrap();
        self.settle(&mut writer);
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        let mut writer = self.0.lock().unwrap();
        writer.write_all(records).unwrap();
        self.settle(&mut writer);
    }
}

struct TracingAppender(Mutex<Option<(tracing_appender::non_blocking::NonBlocking, tracing_appender::non_blocking::WorkerGuard)>>);

/// Told to wait where it would drop lines by default.
pub fn tracing_appender(dir: &Path, _: Mode) -> Box<dyn Log> {
    let file = OpenOptions::new().append(true).create(true).open(dir.join("j.jsonl")).unwrap();
    Box::new(TracingAppender(Mutex::new(Some(tracing_appender::non_blocking::NonBlockingBuilder::default().lossy(false).finish(file)))))
}

impl Log for TracingAppender {
    fn append(&self, _: u64, record: &Message) {
        with_json(record, |json| {
            if let Some((writer, _)) = &mut *self.0.lock().unwrap() {
                json_line(json, |line| writer.write_all(line).unwrap());
            }
        });
    }
    fn finish(&self) {
        // Its worker writes what is on its way when the guard goes.
        self.0.lock().unwrap().take();
    }
}

/// The same with an LF, in one piece.
fn json_line(json: &[u8], then: impl FnOnce(&[u8])) {
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend_from_slice(json);
    line.push(b'\n');
    then(&line);
}

struct EmitFile(emit_file::FileSet);

const EMIT_FILE_WAIT: Duration = Duration::from_secs(30);

pub fn emit_file(dir: &Path, _: Mode) -> Box<dyn Log> {
    // The record comes in as JSON, so that the line is the same as everybody's.
    let writer = |buffer: &mut emit_file::FileBuf, event: &emit::Event<&dyn emit::props::ErasedProps>| {
        if let Some(json) = emit::Props::pull::<emit::Str<'_>, _>(event.props(), "json") {
            buffer.extend_from_slice(json.get().as_bytes());
        }
        Ok(())
    };
    Box::new(EmitFile(emit_file::set_with_writer(dir.join("j.jsonl"), writer, b"\n").spawn()))
}

impl Log for EmitFile {
    fn append(&self, number: u64, record: &Message) {
        self.append_batch(number, &[record]);
    }

    fn append_batch(&self, _: u64, records: &[&Message]) {
        for record in records {
            with_json(record, |json| {
                let json = str::from_utf8(json).unwrap();
                self.0.emit(emit::Event::new(emit::path!("bench"), emit::Template::literal("record"), emit::Empty, ("json", json)));
            });
        }
        assert!(self.0.blocking_flush(EMIT_FILE_WAIT));
    }
}
