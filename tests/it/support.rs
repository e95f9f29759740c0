//! Verbs over journals on the real disk.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use untorn::{Options, Writer};

/// A journal in a directory of its own.
pub struct TestJournal {
    dir: TempDir,
    pub path: PathBuf,
}

impl TestJournal {
    /// Not there yet.
    pub fn missing() -> TestJournal {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("j.jsonl");
        TestJournal { dir, path }
    }

    pub fn with_bytes(bytes: impl AsRef<[u8]>) -> TestJournal {
        let journal = TestJournal::missing();
        fs::write(&journal.path, bytes).expect("the journal can be written");
        journal
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).expect("the journal can be read")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("the journal is UTF-8")
    }

    /// Opens for appending, synced by nobody, which is faster.
    pub fn open(&self) -> Writer {
        self.open_with(|_| {})
    }

    pub fn open_with(&self, change: impl FnOnce(&mut Options)) -> Writer {
        let mut options = Writer::options();
        options.durability(untorn::Durability::Os);
        change(&mut options);
        options.open(&self.path).expect("the journal opens")
    }

    /// Appends as a process would that knows nothing of locks, and closes again.
    pub fn append_as_stranger(&self, bytes: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).open(&self.path).expect("the journal opens");
        file.write_all(bytes.as_ref()).expect("the stranger can write");
    }

    pub fn quarantine(&self) -> Option<String> {
        let mut path = self.path.clone().into_os_string();
        path.push(".quarantine");
        fs::read_to_string(path).ok()
    }
}

/// The payload of each sealed line, and the numbers, as any JSON reader sees them.
pub fn sealed_payloads(text: &str) -> Vec<(u64, serde_json::Value)> {
    text.lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let members = value.as_object_mut().expect("a sealed line is an object");
            let seq = members.remove("_seq").and_then(|seq| seq.as_u64()).expect("it has a number");
            members.remove("_more");
            members.remove("_crc").expect("it has a CRC");
            (seq, members.remove("_value").unwrap_or(value))
        })
        .collect()
}

/// What is logged, for [`tracing::subscriber::with_default`].
///
/// Another test may be just the first to pass a place in the code, and then what is logged there goes nowhere; the next time it comes here.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn told(&self) -> String {
        self.0.lock().expect("no test died while it logged").join("\n")
    }
}

struct Fields<'a>(&'a mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        self.0.lock().expect("no test died while it logged").push(text);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
