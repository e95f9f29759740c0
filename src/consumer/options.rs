//! Which sources a consumer has, how much may be in flight, and how often it saves.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Consumer, core::Core};
use crate::{error::Result, follow::POLL_EVERY_DEFAULT, format::LINE_BYTES_MAX_DEFAULT, sys::Disk};

const SAVE_EVERY_DEFAULT: Duration = Duration::from_secs(5);
const RECORDS_MAX_DEFAULT: usize = 10_000;
const BYTES_MAX_DEFAULT: usize = 64 << 20;

/// How a consumer works. Made by [`Consumer::options`].
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    pub(super) disk: Disk,
    pub(super) name: String,
    pub(super) checkpoints: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) directories: Vec<(PathBuf, Vec<String>)>,
    pub(super) save_every: Duration,
    pub(super) poll_every: Duration,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) records_max_each: usize,
    pub(super) bytes_max_each: usize,
    pub(super) line_bytes_max: u64,
}

impl ConsumerOptions {
    pub(super) fn new(name: &str, checkpoints: &Path) -> ConsumerOptions {
        ConsumerOptions {
            disk: Disk::default(),
            name: name.to_owned(),
            checkpoints: checkpoints.to_owned(),
            files: Vec::new(),
            directories: Vec::new(),
            save_every: SAVE_EVERY_DEFAULT,
            poll_every: POLL_EVERY_DEFAULT,
            records_max: RECORDS_MAX_DEFAULT,
            bytes_max: BYTES_MAX_DEFAULT,
            records_max_each: usize::MAX,
            bytes_max_each: usize::MAX,
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
        }
    }

    /// Consumes this journal too. It need not be there yet.
    pub fn file(&mut self, path: impl AsRef<Path>) -> &mut ConsumerOptions {
        self.files.push(path.as_ref().to_owned());
        self
    }

    /// Consumes each journal in this directory whose name ends in one of the suffixes, such as `.jsonl`; also those that appear later.
    pub fn directory(&mut self, path: impl AsRef<Path>, suffixes: &[&str]) -> &mut ConsumerOptions {
        self.directories.push((path.as_ref().to_owned(), suffixes.iter().map(|suffix| (*suffix).to_owned()).collect()));
        self
    }

    /// How often the checkpoint is saved while records are acknowledged. Default: 5 s. Saving more often costs more syncs; after a crash fewer
    /// records come again.
    pub fn save_every(&mut self, every: Duration) -> &mut ConsumerOptions {
        self.save_every = every;
        self
    }

    /// How often the sources are looked at while nothing happens. Default: 100 ms.
    ///
    /// Of those that had nothing new lately, more than 128, at most 200 are looked at each time, so that waiting costs the same however many there
    /// are: of ten thousand each is looked at every five seconds.
    pub fn poll_every(&mut self, interval: Duration) -> &mut ConsumerOptions {
        self.poll_every = interval;
        self
    }

    /// How many records may be unsettled, and how many bytes. Default: 10,000 and 64 MiB. One record is delivered in any case.
    pub fn in_flight_max(&mut self, records: usize, bytes: usize) -> &mut ConsumerOptions {
        self.records_max = records;
        self.bytes_max = bytes;
        self
    }

    /// How many records of one source may be unsettled, and how many bytes. Default: as many as of all together. A source that has so many is not
    /// read on until one is settled, and the others are: with a bound here, one whose records cannot be settled stops no other.
    pub fn in_flight_max_each(&mut self, records: usize, bytes: usize) -> &mut ConsumerOptions {
        self.records_max_each = records;
        self.bytes_max_each = bytes;
        self
    }

    /// How long a line, or the lines of one batch, may be in bytes, LF included. Default: 64 MiB.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut ConsumerOptions {
        self.line_bytes_max = max;
        self
    }

    /// Works on an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut ConsumerOptions {
        self.disk = Disk { sim: Some(disk.clone()) };
        self
    }

    /// Takes up where the consumer of this name left off. Nothing is created: the checkpoint directory is made when there is something to save.
    ///
    /// # Errors
    ///
    /// [`NameInUse`](crate::ErrorKind::NameInUse) if another process uses the name; [`NewerFormat`](crate::ErrorKind::NewerFormat) if its checkpoint
    /// is of a newer version; or the system failed. A damaged checkpoint and a missing journal are no errors: the first is told by what is
    /// delivered, the second is awaited.
    pub fn open(&self) -> Result<Consumer> {
        Ok(Consumer::new(Core::open(self.clone())?))
    }
}
