//! How a journal is followed.

use std::{path::Path, time::Duration};

use super::{Follower, pursuit::Pursuit};
use crate::{error::Result, format::LINE_BYTES_MAX_DEFAULT, reader::Start, sys::Disk};

/// How often the file is looked at by default.
pub(crate) const POLL_EVERY_DEFAULT: Duration = Duration::from_millis(100);

/// How a journal is followed. Made by [`Follower::options`].
#[derive(Clone, Debug)]
pub struct FollowOptions {
    disk: Disk,
    start: Start,
    poll_every: Duration,
    line_bytes_max: u64,
}

impl Default for FollowOptions {
    fn default() -> FollowOptions {
        FollowOptions { disk: Disk::default(), start: Start::Beginning, poll_every: POLL_EVERY_DEFAULT, line_bytes_max: LINE_BYTES_MAX_DEFAULT }
    }
}

impl FollowOptions {
    /// Where to start. Default: [`Start::Beginning`].
    pub fn from(&mut self, start: Start) -> &mut FollowOptions {
        self.start = start;
        self
    }

    /// How often the file is looked at while nothing happens. Default: 100 ms.
    ///
    /// It bounds how late a record may be given. Each look costs a few system calls. With the feature `notify` the system wakes the follower
    /// sooner, where it can.
    pub fn poll_every(&mut self, interval: Duration) -> &mut FollowOptions {
        self.poll_every = interval;
        self
    }

    /// How long a line, or the lines of one batch, may be in bytes, LF included. Default: 64 MiB.
    ///
    /// It bounds the follower's memory. A longer line is passed over and told as damage; a longer batch is withheld.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut FollowOptions {
        self.line_bytes_max = max;
        self
    }

    /// Follows a journal on an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut FollowOptions {
        self.disk = Disk { sim: Some(disk.clone()) };
        self
    }

    /// Opens the journal at `path`. Takes no lock and writes nothing.
    ///
    /// # Errors
    ///
    /// If there is no such journal, the path is no regular file, or the system fails; and as told for each [`Start`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Follower> {
        let pursuit = Pursuit::open(&self.disk, path.as_ref(), &self.start, self.line_bytes_max)?;
        Ok(Follower::new(pursuit, self.poll_every))
    }
}
