//! The files to start from, and what chance makes of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use untorn::{Durability, Format, Lock, LockWait, Writer};

use crate::{chance::Chance, directory, mutations};

/// A mutated file is cut to this.
const BYTES_MAX: usize = 2 << 20;

/// One hostile file.
#[derive(Clone)]
pub(crate) struct Case {
    /// What it was made from, and how.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The longest line that it had, before it was compressed too.
    pub(crate) longest_line: u64,
}

impl Case {
    /// Keeps the file for whoever looks into a failure.
    pub(crate) fn keep(&self) -> PathBuf {
        let path = directory().keep().join("case.jsonl");
        fs::write(&path, &self.bytes).unwrap();
        path
    }

    fn new(name: String, bytes: Vec<u8>) -> Case {
        let longest_line = longest_line(&bytes);
        Case { name, bytes, longest_line }
    }
}

/// Every file as it is, every file sealed, and then mutations of both.
pub(crate) struct Cases {
    bases: Vec<Case>,
    chance: Chance,
    at: usize,
    mutations: usize,
}

impl Cases {
    pub(crate) fn new(what: &str, mutations: usize) -> Cases {
        let mut bases = Vec::new();
        for path in corpus() {
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            bases.push(Case::new(format!("{name}, sealed"), sealed(&bytes)));
            bases.push(Case::new(name, bytes));
        }
        Cases { bases, chance: Chance::new(what), at: 0, mutations }
    }

    pub(crate) fn bases(&self) -> usize {
        self.bases.len()
    }
}

impl Iterator for Cases {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        let at = self.at;
        self.at += 1;
        if let Some(base) = self.bases.get(at) {
            return Some(base.clone());
        }
        if at >= self.bases.len() + self.mutations {
            return None;
        }
        let mut chance = self.chance.fork();
        let any = |chance: &mut Chance| &self.bases[chance.within(0..self.bases.len() as u64) as usize];
        let mut case = any(&mut chance).clone();
        for _ in 0..chance.within(1..4) {
            let other = any(&mut chance).bytes.clone();
            let how = mutations::mutate(&mut case.bytes, &other, &mut chance);
            case.name += ", ";
            case.name += how;
            case.bytes.truncate(BYTES_MAX);
            case.longest_line = case.longest_line.max(longest_line(&case.bytes));
            if matches!(how, "gzip" | "zstd") {
                // What is compressed by now is damaged no further: a hundred times as much may come out of it, and the test is to end.
                break;
            }
        }
        case.name = format!("#{}: {}", at - self.bases.len(), case.name);
        Some(case)
    }
}

fn corpus() -> Vec<PathBuf> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus")];
    dirs.extend(std::env::var_os("UNTORN_CORPUS").map(PathBuf::from));
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    assert!(files.len() > 80);
    files
}

/// A sealed journal of the records in a file.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let dir = directory();
    let path = dir.path().join("sealed.jsonl");
    let mut options = Writer::options();
    let mut writer = options.durability(Durability::Os).format(Format::Sealed).lock(Lock::Held, LockWait::Never).open(&path).unwrap();
    let mut batch = untorn::Batch::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let _ = batch.add_json(line);
        if at % 7 == 3 && batch.len() > 1 {
            writer.append_batch(&batch).unwrap();
            batch = untorn::Batch::new();
        }
    }
    let _ = writer.append_all(&batch);
    fs::read(&path).unwrap()
}

fn longest_line(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0) as u64
}
