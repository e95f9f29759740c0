//! A writer for many tasks.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use serde::Serialize;
use tokio::task::coop;

use crate::{
    archive::{Archived, Before},
    encode::Batch,
    error::{Attempt, Error, Result},
    group_commit::{Chored, Discarded, DurableThrough, Entering, Handle, Order, Outcome, Queued, Reopened, Settling, Watching, WriterState},
    opening::Opening,
    position::{Appended, Position},
    prune::{Keep, Pruned},
    rotate::Rotated,
    shared_writer::{SharedWriter, closed},
    writer::{Durability, Options, Writer},
};

/// Appends for many tasks, which share its writes and its syncs. Clones are the same writer.
///
/// It is [`SharedWriter`] with futures: what is said there of groups, durability, failing disks and closing holds here. One thread of its own does
/// all work on the disk, so no task ever waits for one on a thread of the runtime; nor does anything depend on the runtime, and one that is shut
/// down takes no queued record with it.
///
/// A record is encoded when the method is called. The futures own what they need, are `Send + 'static`, and do nothing until they are polled.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use serde_json::json;
/// let writer = untorn::Writer::options().first_record(&json!({"session": 1})).open_async(&path).await?;
/// writer.enqueue(&json!({"delta": "Hel"})).await?;
/// writer.enqueue(&json!({"delta": "lo"})).await?;
/// let appended = writer.append(&json!({"text": "Hello"})).await?;
/// assert_eq!(appended.seq(), Some(4));
/// writer.close().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What a session recorder calls
///
/// | what it wants | here |
/// |---|---|
/// | no file before there is something to record, a header first | [`create_lazily`](crate::Options::create_lazily), [`first_record`](crate::Options::first_record) |
/// | take a session up again | [`resume_async`](crate::Options::resume_async), then [`Writer::into_async`](crate::Writer::into_async) |
/// | add items, in the background | [`enqueue`](AsyncWriter::enqueue) |
/// | persist an item, and know that it is | [`append`](AsyncWriter::append) |
/// | flush, as a barrier | [`flush`](AsyncWriter::flush); [`sync`](AsyncWriter::sync) for the disk |
/// | shut down | [`close`](AsyncWriter::close); again, if the disk was full |
/// | discard | [`discard`](AsyncWriter::discard) |
///
/// # Cancel safety
///
/// Dropping a future never tears a record, nor removes one that is queued. A future that was never polled has done nothing. One that waits for room
/// has not queued its record. One that waits for its record's verdict leaves it queued, and has learnt nothing: the record may be in the file,
/// or will be, or its write has just failed and it is not.
#[derive(Clone, Debug)]
pub struct AsyncWriter(pub(crate) Arc<Handle>);

impl AsyncWriter {
    /// Appends one record; ready when it is as durable as the options ask.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::append`]: after [`Left::Nothing`](crate::Left::Nothing) the record is neither in the file nor queued.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room: the record is not queued. After that: it is, and will be written as one from
    /// [`enqueue`](AsyncWriter::enqueue), unless its write has failed before the drop.
    pub fn append<T: Serialize + ?Sized>(&self, record: &T) -> Pending<Appended> {
        self.append_with(record, self.0.durability())
    }

    /// Appends one record with a durability of its own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_async();
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// use untorn::Durability;
    /// writer.append_with(&serde_json::json!({"progress": 0.5}), Durability::Os).await?;
    /// writer.append_with(&serde_json::json!({"answer": 42}), Durability::Sync).await?;
    /// # Ok::<(), untorn::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`append`](AsyncWriter::append).
    ///
    /// # Cancel safety
    ///
    /// That of [`append`](AsyncWriter::append).
    pub fn append_with<T: Serialize + ?Sized>(&self, record: &T, durability: Durability) -> Pending<Appended> {
        Pending::settle(self.to_shared().entering(record, Order::Append(durability)), Outcome::appended)
    }

    /// Appends records that stand or fall as one.
    ///
    /// # Errors
    ///
    /// Those of [`append`](AsyncWriter::append) and of [`Writer::append_batch`](crate::Writer::append_batch).
    ///
    /// # Cancel safety
    ///
    /// That of [`append`](AsyncWriter::append), for the batch as a whole.
    pub fn append_batch(&self, batch: &Batch) -> Pending<Appended> {
        Pending::settle(self.to_shared().entering_batch(batch), Outcome::appended)
    }

    /// Queues one record; ready when there was room for it. It will be written, whatever becomes of the [`Queued`] that this gives.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_async();
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let queued = writer.enqueue(&serde_json::json!({"text": "hi"})).await?;
    /// assert_eq!(queued.await?.seq(), Some(1));
    /// # Ok::<(), untorn::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::enqueue`]; the record is not queued then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the record is not queued.
    pub fn enqueue<T: Serialize + ?Sized>(&self, record: &T) -> Pending<Queued> {
        Pending(Wait::Enter(self.to_shared().entering(record, Order::Enqueue(self.0.durability())), std::convert::identity))
    }

    /// Queues one record if there is room at once. It never waits, so a panic hook may call it.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::try_enqueue`].
    pub fn try_enqueue<T: Serialize + ?Sized>(&self, record: &T) -> Result<Queued> {
        self.to_shared().try_enqueue(record)
    }

    /// Ready when everything queued before the first poll is as durable as was asked.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("j.jsonl");
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let writer = untorn::Writer::options().create_lazily().open_async(&path).await?;
    /// writer.enqueue(&serde_json::json!({"text": "hi"})).await?;
    /// writer.flush().await?;
    /// assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::flush`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up waiting; nothing else changes.
    pub fn flush(&self) -> Pending<()> {
        Pending::barrier(self, Order::Flush, |_| ())
    }

    /// Makes everything queued before the first poll durable, however it was asked, and gives the position before which all is.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::sync`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up waiting; the sync may be made all the same.
    pub fn sync(&self) -> Pending<Position> {
        Pending::barrier(self, Order::Sync, Outcome::passed)
    }

    /// Ready when everything before `end` is durable: the end of an [`Appended::mark`], say. A sync that is due is waited for, and asked for if none
    /// is. For a position that nothing was written to it waits until something is.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("j.jsonl");
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let writer = untorn::Writer::options().durability(untorn::Durability::Os).open_async(&path).await?;
    /// let appended = writer.append(&serde_json::json!({"text": "hi"})).await?;
    /// writer.durable_through(appended.mark().end).await?;
    /// assert!(writer.state().durable >= appended.mark().end);
    /// # Ok::<(), untorn::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Poisoned`](crate::ErrorKind::Poisoned) after a failed sync; [`Closed`](crate::ErrorKind::Closed) if the writer is closed before.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it gives up waiting; nothing else changes.
    pub fn durable_through(&self, end: Position) -> Pending<()> {
        Pending(Wait::Durable(Watching::new(&self.0, DurableThrough(end)), std::convert::identity))
    }

    /// Rotates when all that was queued before is written: see [`Writer::rotate`](crate::Writer::rotate).
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::rotate`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while records are queued before it, nothing happens; after that the journal is rotated all the same.
    pub fn rotate(&self) -> Pending<Rotated> {
        self.chore(Attempt::Rotate, Writer::rotate)
    }

    /// Archives the records before a bound when all that was queued before is written: see [`Writer::archive`](crate::Writer::archive).
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::archive`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while records are queued before it, nothing happens; after that they are archived all the same.
    pub fn archive(&self, before: Before) -> Pending<Archived> {
        self.chore(Attempt::Archive, move |writer| writer.archive(before))
    }

    /// Prunes when all that was queued before is written: see [`Writer::prune`](crate::Writer::prune).
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::prune`].
    ///
    /// # Cancel safety
    ///
    /// Dropped while records are queued before it, nothing happens; after that the journal is pruned all the same.
    pub fn prune(&self, keep: &Keep) -> Pending<Pruned> {
        let keep = keep.clone();
        self.chore(Attempt::Prune, move |writer| writer.prune(&keep))
    }

    fn chore<T: Send + 'static>(&self, attempt: Attempt, work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static) -> Pending<T> {
        Pending(Wait::Chore(Chored::new(&self.0, attempt, work)))
    }

    /// Opens the journal anew after a failure, and goes on with what is queued.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::reopen`].
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the journal is reopened all the same.
    pub fn reopen(&self) -> Pending<()> {
        Pending(Wait::Reopen(Watching::new(&self.0, Reopened::default()), std::convert::identity))
    }

    /// How much is queued, how far the journal is written and durable, and what is wrong.
    pub fn state(&self) -> WriterState {
        self.0.state()
    }

    /// Writes what is queued, makes everything durable, and closes the journal for all clones. Appends that come meanwhile wait for what becomes of
    /// it. Closing what is closed succeeds.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::close`]: the writer is still open then, and nothing is lost from the queue.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the writer is closed all the same, if it can be.
    pub fn close(&self) -> Pending<()> {
        Pending(Wait::Close(Settling::Entering(Entering::barrier(&self.0, Order::Close)), std::convert::identity))
    }

    /// Ends the writer for all clones, and gives what was never written, as [`SharedWriter::discard`] does. A write that is under way is waited for.
    ///
    /// # Errors
    ///
    /// None: the result is always `Ok`.
    ///
    /// # Cancel safety
    ///
    /// Dropped after the first poll, the writer is ended all the same; what was never written is kept for the next who discards.
    pub fn discard(&self) -> Pending<Batch> {
        Pending(Wait::Discard(Watching::new(&self.0, Discarded), std::convert::identity))
    }

    /// The same writer for threads.
    pub fn to_shared(&self) -> SharedWriter {
        SharedWriter(Arc::clone(&self.0))
    }
}

impl Writer {
    /// A writer for many tasks, which share its writes and its syncs. It keeps the lock, the file and the numbering.
    pub fn into_async(self) -> AsyncWriter {
        self.into_shared().to_async()
    }
}

impl Options {
    /// Opens the journal for many tasks, which share its writes and its syncs; see [`create_lazily`](Options::create_lazily).
    ///
    /// # Errors
    ///
    /// Those of [`open`](Options::open).
    ///
    /// # Cancel safety
    ///
    /// Nothing happens before the first poll. Dropped after that, the journal is opened, its tail repaired, and closed again in the background.
    pub fn open_async(&self, path: impl AsRef<Path>) -> Opening<AsyncWriter> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        Opening::new(&path.clone(), move || options.open_shared(path).map(|shared| shared.to_async()))
    }
}

/// What an [`AsyncWriter`] was asked for: a future of its result. It does nothing until it is polled.
#[must_use = "nothing happens before it is awaited"]
pub struct Pending<T>(Wait<T>);

/// What is waited for, and how its result is told.
enum Wait<T> {
    Enter(Entering, fn(Queued) -> T),
    Settle(Settling, fn(Outcome) -> T),
    Close(Settling, fn(()) -> T),
    Reopen(Watching<Reopened>, fn(()) -> T),
    Durable(Watching<DurableThrough>, fn(()) -> T),
    Discard(Watching<Discarded>, fn(Batch) -> T),
    Chore(Chored<T>),
}

impl<T> Pending<T> {
    fn settle(entering: Entering, told: fn(Outcome) -> T) -> Pending<T> {
        Pending(Wait::Settle(Settling::Entering(entering), told))
    }

    fn barrier(writer: &AsyncWriter, order: Order, told: fn(Outcome) -> T) -> Pending<T> {
        Pending::settle(Entering::barrier(&writer.0, order), told)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        // A task that always finds room must still let others run.
        let budget = ready!(coop::poll_proceed(cx));
        let polled = match &mut self.0 {
            Wait::Enter(entering, told) => Pin::new(entering).poll(cx).map_ok(told),
            Wait::Settle(settling, told) => Pin::new(settling).poll(cx).map_ok(told),
            Wait::Close(settling, told) => Pin::new(settling).poll(cx).map(|result| closed(result.map(Outcome::passed)).map(told)),
            Wait::Reopen(watching, told) => Pin::new(watching).poll(cx).map_ok(told),
            Wait::Durable(watching, told) => Pin::new(watching).poll(cx).map_ok(told),
            Wait::Discard(watching, told) => Pin::new(watching).poll(cx).map(|left| Ok(told(left))),
            Wait::Chore(chored) => Pin::new(chored).poll(cx),
        };
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait: &dyn fmt::Debug = match &self.0 {
            Wait::Enter(entering, _) => entering,
            Wait::Settle(settling, _) | Wait::Close(settling, _) => settling,
            Wait::Reopen(watching, _) => watching,
            Wait::Durable(watching, _) => watching,
            Wait::Discard(watching, _) => watching,
            Wait::Chore(_) => return f.write_str("Pending(Chore)"),
        };
        f.debug_tuple("Pending").field(wait).finish()
    }
}
