//! Following: the records of a journal as they appear, and what happens to its files meanwhile.
//!
//! A record is given once it is whole and has its LF, a batch once its last line is there. Whatever is unfinished stays pending, and is forgotten
//! if a rollback takes it back. No lock is taken and nothing is written. Looking at the size of the file is what following rests on; with the
//! feature `notify` the system only says when to look sooner.

pub(crate) mod event;
pub(crate) mod live;
#[cfg(feature = "notify")]
pub(crate) mod notice;
pub(crate) mod options;
#[cfg(feature = "tokio")]
pub(crate) mod pump;
pub(crate) mod pursuit;
pub(crate) mod stop;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "tokio")]
use self::pump::Pump;
pub use self::{
    event::{FollowEvent, Followed, Payload},
    options::FollowOptions,
    stop::Stopper,
};
use self::{
    pursuit::{Pursuit, Step},
    stop::Bell,
};
use crate::{
    checkpoint::{Checkpoint, Identity, Restored},
    error::Result,
    position::Mark,
    reader::Start,
    segment::Segments,
    sys::Disk,
};
pub(crate) use options::POLL_EVERY_DEFAULT;

/// Gives the records of a journal as they appear, archived segments first.
///
/// [`next`](Follower::next) waits on the thread, `next_async` does not. Neither skips a record, gives one in part, or goes over to another file
/// without an [event](FollowEvent).
///
/// ```
/// use std::time::Duration;
/// use untorn::{Followed, Follower, Start, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// let mut writer = Writer::open(&path)?;
/// let mut follower = Follower::open(&path, Start::End)?;
/// assert!(follower.next(Duration::ZERO)?.is_none());
///
/// writer.append("hi")?;
/// let Some(Followed::Record(record)) = follower.next(Duration::from_secs(5))? else { panic!("nothing has come") };
/// assert_eq!(record.value.decode::<&str>()?, "hi");
/// assert_eq!(record.mark.seq, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Follower {
    /// Until a pump has it.
    pursuit: Option<Pursuit>,
    #[cfg(feature = "tokio")]
    pump: Option<Pump<Followed>>,
    bell: Arc<Bell>,
    poll_every: Duration,
    given: Option<Mark>,
    restored: Option<Restored>,
    disk: Disk,
    path: PathBuf,
    #[cfg(feature = "notify")]
    _notice: Option<notice::Notice>,
}

impl Follower {
    /// The options to follow a journal with.
    pub fn options() -> FollowOptions {
        FollowOptions::default()
    }

    /// Follows the journal at `path` from `start` on.
    ///
    /// # Errors
    ///
    /// As [`FollowOptions::open`].
    pub fn open(path: impl AsRef<Path>, start: Start) -> Result<Follower> {
        Follower::options().from(start).open(path)
    }

    fn new(pursuit: Pursuit, poll_every: Duration) -> Follower {
        let bell = Arc::new(Bell::default());
        Follower {
            #[cfg(feature = "notify")]
            _notice: notice::Notice::of(pursuit.disk(), pursuit.path(), &bell),
            given: pursuit.last(),
            restored: pursuit.restored().cloned(),
            disk: pursuit.disk().clone(),
            path: pursuit.path().to_owned(),
            pursuit: Some(pursuit),
            #[cfg(feature = "tokio")]
            pump: None,
            bell,
            poll_every,
        }
    }

    /// The next record or event; `None` if there is none after so long a wait, or the follower was stopped.
    ///
    /// # Errors
    ///
    /// If the system fails. Calling again tries the same again; nothing is lost by it.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Followed>> {
        #[cfg(feature = "tokio")]
        if let Some(pump) = &self.pump {
            let followed = pump.take(wait).transpose()?;
            return Ok(self.giving(followed));
        }
        let Some(pursuit) = &mut self.pursuit else { return Ok(None) };
        let followed = follow(pursuit, &self.bell, self.poll_every, wait)?;
        Ok(self.giving(followed))
    }

    /// The next record or event.
    ///
    /// The disk is read on a thread of the follower's own, which starts with the first call and reads a little ahead: up to 64 records or 1 MiB.
    ///
    /// # Errors
    ///
    /// If the system fails; the next call tries again. [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the follower was stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses and skips nothing: what was read stays with the follower, for the next call of this or of
    /// [`next`](Follower::next).
    #[cfg(feature = "tokio")]
    pub async fn next_async(&mut self) -> Result<Followed> {
        use crate::error::{Attempt, Error, ErrorKind};

        if let Some(mut pursuit) = self.pursuit.take() {
            let (bell, poll_every) = (Arc::clone(&self.bell), self.poll_every);
            let path = pursuit.path().to_owned();
            let next = move || {
                let followed = follow(&mut pursuit, &bell, poll_every, Duration::MAX).transpose()?;
                let bytes = match &followed {
                    Ok(Followed::Record(record)) => record.value.bytes_kept(),
                    _ => 0,
                };
                Some((followed, bytes))
            };
            let pump = Pump::start(Arc::clone(&self.bell), next).map_err(|error| Error::io(Attempt::Follow, &path, error))?;
            self.pump = Some(pump);
        }
        let stopped = || Error::new(ErrorKind::Closed, Attempt::Follow).detail("it was stopped");
        let Some(pump) = &self.pump else { return Err(stopped()) };
        let followed = std::future::poll_fn(|cx| pump.poll(cx)).await.ok_or_else(stopped)??;
        self.giving(Some(followed)).ok_or_else(stopped)
    }

    /// Ends the waiting, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.bell))
    }

    /// The line of the record given last, or of the one before the place where following began: [`Start::After`] goes on behind it.
    pub fn mark(&self) -> Option<Mark> {
        self.given
    }

    /// A value to take following up with, after a restart too: behind the record given last.
    ///
    /// It proves itself, so it may be kept anywhere. [`Start::Checkpoint`] goes on there, and [`restored`](Follower::restored) says how that went.
    ///
    /// # Durability
    ///
    /// The record itself may not be durable yet. Sync the journal before the checkpoint is stored, as a [`Consumer`](crate::Consumer) does; else a
    /// power cut may take the record and leave the checkpoint.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        match &self.given {
            Some(mark) => Checkpoint::on(&self.disk, &self.path, mark),
            None => {
                let segments = Segments::open(&self.disk, &self.path, true)?;
                Ok(Checkpoint::of(&Identity::of(&segments, &segments.newest()?)?, None, 0))
            }
        }
    }

    /// How the checkpoint of [`Start::Checkpoint`] was taken up; `None` after any other start.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// How many bytes of an unfinished line, or batch, were seen at the end of the file. While tasks wait for it, nothing is told.
    pub fn pending(&self) -> u64 {
        self.pursuit.as_ref().map_or(0, Pursuit::pending)
    }

    fn giving(&mut self, followed: Option<Followed>) -> Option<Followed> {
        if let Some(Followed::Record(record)) = &followed {
            self.given = Some(record.mark);
        }
        followed
    }
}

/// Takes steps until there is something to give, the time is over, or it was stopped.
fn follow(pursuit: &mut Pursuit, bell: &Bell, poll_every: Duration, wait: Duration) -> Result<Option<Followed>> {
    let deadline = Instant::now().checked_add(wait);
    while !bell.is_stopped() {
        let rings = bell.rings();
        match pursuit.step()? {
            Step::Given(followed) => return Ok(Some(followed)),
            Step::Busy => {}
            Step::Idle => {
                let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    break;
                }
                bell.wait(rings, left.min(poll_every));
            }
        }
    }
    Ok(None)
}
