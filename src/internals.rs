//! What the fuzz targets hold to its word below the public types, as plain values. **Outside SemVer.**

use std::{io, ops::Range, path::Path};

#[cfg(feature = "zstd")]
use crate::compressor::Compressor;
use crate::{
    Report, VerifyOptions,
    format::seal::{self, Opening},
    salvage::{self, Context, FirstKeys},
    scan::{Backward, Scanner, Span},
    sim::SimDisk,
    sys::{Disk, File},
};

/// One line as its LF alone says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedLine {
    /// In the file, LF included.
    pub range: Range<u64>,
    /// Ends in an LF.
    pub terminated: bool,
    /// Longer than the limit, so its bytes were passed over.
    pub too_long: bool,
    /// Without LF.
    pub bytes: Vec<u8>,
}

impl ScannedLine {
    fn new(span: Span, bytes: &[u8]) -> ScannedLine {
        ScannedLine { range: span.start..span.end, terminated: span.terminated, too_long: span.too_long, bytes: bytes.to_vec() }
    }
}

/// The lines of a file, read in chunks of so many bytes.
pub fn lines_forward(disk: &SimDisk, path: &Path, line_bytes_max: u64, chunk: usize) -> io::Result<Vec<ScannedLine>> {
    let file = open(disk, path)?;
    let mut scanner = Scanner::with_chunk(0, u64::MAX, line_bytes_max, chunk);
    std::iter::from_fn(|| scanner.next(&file).map(|span| span.map(|span| ScannedLine::new(span, scanner.bytes()))).transpose()).collect()
}

/// The lines in front of a boundary, the last one first.
pub fn lines_backward(disk: &SimDisk, path: &Path, boundary: u64, line_bytes_max: u64) -> io::Result<Vec<ScannedLine>> {
    let file = open(disk, path)?;
    let mut walk = Backward::new(boundary, line_bytes_max);
    std::iter::from_fn(|| walk.next(&file).map(|span| span.map(|span| ScannedLine::new(span, walk.bytes()))).transpose()).collect()
}

fn open(disk: &SimDisk, path: &Path) -> io::Result<File> {
    Disk { sim: Some(disk.clone()) }.open_read(path)
}

/// The sealed line, LF included, of a payload that is one JSON value on one line.
pub fn sealed(payload: &[u8], seq: u64, more: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let opening = Opening::of(payload);
    seal::write(&mut line, payload, opening, opening.crc(payload), seq, more);
    line
}

/// Where the whole records inside a corrupt line are, and the numbers of the sealed ones. `healthy` are lines of the same journal; `after` and
/// `before` the numbers of the sealed lines around it.
pub fn salvage(line: &[u8], healthy: &[&[u8]], after: Option<u64>, before: Option<u64>) -> Vec<(Range<usize>, Option<u64>)> {
    let mut first_keys = FirstKeys::default();
    healthy.iter().for_each(|line| first_keys.learn(line));
    let found = salvage::salvage(line, &Context { first_keys: &first_keys, after, before });
    found.records.into_iter().map(|record| (record.range, record.seq)).collect()
}

/// What the file of one consumer holds.
pub fn saved_state(bytes: &[u8]) -> crate::Result<crate::ConsumerState> {
    crate::checkpoint::store::decode(Path::new("checkpoint.jsonl"), bytes)
}

/// Saves the state of a consumer, and gives the bytes of its file.
pub fn save_state(disk: &SimDisk, checkpoints: &Path, name: &str, sources: &[crate::SourceState]) -> crate::Result<Vec<u8>> {
    let (mut store, _) = crate::checkpoint::store::Store::open(&Disk { sim: Some(disk.clone()) }, checkpoints, name)?;
    store.save(sources)?;
    Ok(disk.read_file(checkpoints.join(name).join("checkpoint.jsonl")).unwrap_or_default())
}

/// Verifies a file that is given to the threads in chunks of so many bytes.
pub fn verify_in_chunks(options: &mut VerifyOptions, path: &Path, chunk_bytes: u64) -> crate::Result<Report> {
    options.chunk_bytes(chunk_bytes).run(path, &mut |_| std::ops::ControlFlow::Continue(()))
}

/// Writes a new file that holds `bytes` as an archived segment that is compressed does, and gives its length.
#[cfg(feature = "zstd")]
pub fn compress(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let file = Disk::default().create_append(path, 0o600)?;
    let mut compressor = Compressor::new(&file)?;
    compressor.write(bytes)?;
    compressor.finish()
}
