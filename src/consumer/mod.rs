//! Consuming: following under a name, with a checkpoint that survives a crash. Every record comes at least once.

mod core;
mod directory;
mod ledger;
mod options;
mod source;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use self::core::{Core, Stepped};
pub use self::{ledger::Ticket, options::ConsumerOptions};
#[cfg(feature = "notify")]
use crate::follow::notice::Notice;
#[cfg(feature = "tokio")]
use crate::follow::pump::Pump;
use crate::{
    checkpoint::Restored,
    error::{Error, Result},
    follow::{FollowEvent, Payload, Stopper, stop::Bell},
    reader::Record,
};

/// How often saving is tried when a consumer is closed, and how long after each try.
const TRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// One journal of a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source(Arc<Path>);

impl Source {
    fn new(path: &Path) -> Source {
        Source(path.into())
    }

    /// The path of the journal's active segment, as it was given or found.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What a consumer gives.
#[non_exhaustive]
#[derive(Debug)]
pub enum Delivery {
    /// A record, and the duty to settle it.
    Record(Source, Record<Payload>, Ticket),
    /// How a source was taken up again: the first that is delivered of it.
    Restored(Source, Restored),
    /// Something happened to a source.
    Event(Source, FollowEvent),
    /// The checkpoint could not be saved. The old one is in place, and saving is tried again after the usual time.
    SaveFailed(Error),
}

/// Follows journals under a name, and keeps how far their records were acknowledged where a crash leaves it: each record comes at least once.
///
/// A record comes with a [`Ticket`]. Tickets may be settled in any order and on any thread; the checkpoint of a source is the end of what is settled
/// without a gap. After a restart the records behind it come again, so whoever stores what was made of them should know a record by its number.
///
/// ```
/// use std::time::Duration;
/// use untorn::{Consumer, Delivery, Writer};
///
/// # let dir = tempfile::tempdir()?;
/// # let (path, checkpoints) = (dir.path().join("session.jsonl"), dir.path().join("checkpoints"));
/// let mut writer = Writer::open(&path)?;
/// writer.append("hi")?;
/// writer.append("bye")?;
///
/// let next = |consumer: &mut Consumer| loop {
///     match consumer.next(Duration::from_secs(5)) {
///         Ok(Some(Delivery::Record(_, record, ticket))) => break (record.value.decode::<String>().unwrap(), ticket),
///         Ok(Some(_)) => {}
///         other => panic!("{other:?}"),
///     }
/// };
/// let mut consumer = Consumer::options("indexer", &checkpoints).file(&path).open()?;
/// let (first, ticket) = next(&mut consumer);
/// assert_eq!(first, "hi");
/// ticket.ack();
/// consumer.close()?;
///
/// let mut consumer = Consumer::options("indexer", &checkpoints).file(&path).open()?;
/// assert_eq!(next(&mut consumer).0, "bye");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A journal of a followed directory that gets a new name keeps its place, at once and after a restart, if it is the same file still and the record
/// read last is found in it; it is told as [`Restored::Renamed`]. The new name must be one that no source has. A file that was replaced by a copy
/// before the consumer looked, or that was cut and then renamed unseen, may come as [`Restored::New`], from its first record. So does a file that is
/// renamed after the consumer was opened and before it was read for the first time.
///
/// What was saved of files that are gone stays in the checkpoint, so that one that comes back goes on where it was. Of ten thousand such files it is
/// kept; of more, those that were lost first are forgotten when the consumer is opened, which is told. A forgotten file that comes back is consumed
/// from its first record: rather twice than never.
///
/// A file that is cut, or rewritten in place, is told and read again from where its content is proved. One thing cannot be told from appending: that
/// a file was cut and filled again up to where it had been read, with the very same 64 bytes in front of that place.
///
/// # Costs
///
/// As `cargo bench --bench follow --features notify` saw them once, on two cores. Ten thousand files of one record: consumed in 1 s, saved in 0.7 s,
/// taken up again in 1.1 s, and waited for with 0.6 % of a core. One file is waited for with 0.1 % of a core. With `notify` a record is there 0.04 ms
/// after `append` has returned in the middle, and 0.1 ms for 99 of 100; without, after `poll_every` at the latest. Beside a file with 1 GiB
/// that is new, the first record of another one came after 0.3 ms.
///
/// # Durability
///
/// A checkpoint is saved every five seconds while records are acknowledged, and by [`close`](Consumer::close). The records that it covers are made
/// durable before it, so it is never ahead of the journal. A crash at any moment leaves the last checkpoint or the one before. Dropping a consumer
/// saves nothing.
#[derive(Debug)]
pub struct Consumer {
    core: Arc<Mutex<Core>>,
    bell: Arc<Bell>,
    poll_every: Duration,
    #[cfg(feature = "tokio")]
    pump: Option<Pump<Delivery>>,
    #[cfg(feature = "notify")]
    _notices: Vec<Notice>,
}

impl Consumer {
    /// The options of the consumer of this name, whose checkpoint is in a directory of that name below `checkpoints`.
    pub fn options(name: &str, checkpoints: impl AsRef<Path>) -> ConsumerOptions {
        ConsumerOptions::new(name, checkpoints.as_ref())
    }

    fn new(core: Core) -> Consumer {
        Consumer {
            bell: Arc::clone(&core.bell),
            poll_every: core.poll_every(),
            #[cfg(feature = "notify")]
            _notices: core.notices(),
            core: Arc::new(Mutex::new(core)),
            #[cfg(feature = "tokio")]
            pump: None,
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next delivery; `None` if there is none after so long a wait, or the consumer was stopped. Saves in passing when it is time.
    ///
    /// # Errors
    ///
    /// If a source cannot be read. It is tried again later, and an error that stays the same is told once; the other sources go on.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Delivery>> {
        #[cfg(feature = "tokio")]
        if let Some(pump) = &self.pump {
            return pump.take(wait).transpose();
        }
        next(&self.core, &self.bell, self.poll_every, wait)
    }

    /// The next delivery.
    ///
    /// The disk is read on a thread of the consumer's own, which starts with the first call and reads a little ahead.
    ///
    /// # Errors
    ///
    /// As [`next`](Consumer::next); [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the consumer was stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: what was read stays with the consumer, for the next call.
    #[cfg(feature = "tokio")]
    pub async fn next_async(&mut self) -> Result<Delivery> {
        use crate::error::Attempt;

        if self.pump.is_none() {
            let (core, bell, poll_every) = (Arc::clone(&self.core), Arc::clone(&self.bell), self.poll_every);
            let step = move || {
                let delivery = next(&core, &bell, poll_every, Duration::MAX).transpose()?;
                let bytes = match &delivery {
                    Ok(Delivery::Record(_, record, _)) => record.value.bytes_kept(),
                    _ => 0,
                };
                Some((delivery, bytes))
            };
            let failed = |error| Error::io(Attempt::Follow, Path::new(""), error).detail("no thread could be started");
            self.pump = Some(Pump::start(Arc::clone(&self.bell), step).map_err(failed)?);
        }
        let Some(pump) = &self.pump else { return Err(self.core().closed()) };
        match std::future::poll_fn(|cx| pump.poll(cx)).await {
            Some(delivery) => delivery,
            None => Err(self.core().closed()),
        }
    }

    /// Ends the waiting, from any thread. Then only [`close`](Consumer::close) remains to be called.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.bell))
    }

    /// Saves how far the records are acknowledged, now.
    ///
    /// # Errors
    ///
    /// If the records or the checkpoint cannot be made durable. Of a source whose records cannot, the old checkpoint stays.
    pub fn save(&mut self) -> Result<()> {
        self.core().save()
    }

    /// Saves how far the records are acknowledged, and lets another process use the name. Tickets that are still open change nothing any more.
    ///
    /// # Errors
    ///
    /// If saving has failed three times. The records behind the last checkpoint come again.
    pub fn close(self) -> Result<()> {
        self.stopper().stop();
        let mut core = self.core();
        core.ledger.close();
        let mut saved = core.save();
        for _ in 1..TRIES {
            if saved.is_ok() {
                break;
            }
            thread::sleep(RETRY_AFTER);
            saved = core.save();
        }
        core.release();
        saved
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stopper().stop();
        let mut core = self.core();
        core.ledger.close();
        core.release();
    }
}

fn next(core: &Mutex<Core>, bell: &Bell, poll_every: Duration, wait: Duration) -> Result<Option<Delivery>> {
    let deadline = Instant::now().checked_add(wait);
    while !bell.is_stopped() {
        let rings = bell.rings();
        let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever closes it on another thread has waited for the lock too. After that nothing is saved.
        if bell.is_stopped() {
            break;
        }
        match core.step()? {
            Stepped::Given(delivery) => return Ok(Some(delivery)),
            Stepped::Busy => {}
            Stepped::Idle => {
                let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    break;
                }
                let due = core.due().saturating_duration_since(Instant::now());
                drop(core);
                bell.wait(rings, left.min(poll_every).min(due.max(Duration::from_millis(1))));
            }
        }
    }
    Ok(None)
}
