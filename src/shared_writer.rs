//! A writer for many threads.

use std::{path::Path, sync::Arc};

use serde::Serialize;

use crate::{
    archive::{Archived, Before},
    encode::{Batch, Unit},
    error::{Attempt, Error, ErrorKind, Result},
    group_commit::{
        Chored, Discarded, DurableThrough, Entering, Handle, Journal, Order, Outcome, Queued, Reopened, Settling, Watching, WriterState, block_on,
    },
    position::{Appended, Position},
    prune::{Keep, Pruned},
    rotate::Rotated,
    writer::{Durability, Options, Writer},
};

/// Appends for many threads, which share its writes and its syncs. Clones are the same writer.
///
/// What is appended while a write is under way waits and is written in one next call, and one sync serves all who asked for one: the more append
/// at once, the less each costs. An append that is alone is written at once.
///
/// Made with [`Writer::into_shared`](crate::Writer::into_shared) or [`Options::open_shared`](crate::Options::open_shared); tasks get at the same
/// queue with `to_async`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// use serde_json::json;
/// let writer = untorn::Writer::options().open_shared(&path)?;
/// std::thread::scope(|scope| {
///     for thread in 0..4 {
///         let writer = writer.clone();
///         scope.spawn(move || writer.append(&json!({"thread": thread})).expect("it is durable"));
///     }
/// });
/// writer.enqueue(&json!({"text": "nobody waits for this one"}))?;
/// writer.close()?;
/// assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
///
/// That of [`Writer`](crate::Writer), for each record as it was asked. A record that is only queued is in memory: it is lost if the process dies.
///
/// # When the disk fails
///
/// A write that fails leaves the units of the group that are whole in the file and takes back the rest. Who waits in an
/// [`append`](SharedWriter::append) is told, and its record is not queued any more, so it may be appended again. Records from
/// [`enqueue`](SharedWriter::enqueue) stay queued in their order, and are tried again on the next append or flush, and after a pause of 50
/// milliseconds to 5 seconds. [`state`](SharedWriter::state) shows the failure until a write succeeds.
///
/// A sync that fails poisons the writer. Who asked for that sync gets [`DurabilityUnknown`](ErrorKind::DurabilityUnknown): the record is in the
/// file and is never written again. Everything later stays queued until [`reopen`](SharedWriter::reopen).
///
/// When the last clone is dropped, what is queued is written in the background as far as it can be; a process that exits before ends that too.
/// [`close`](SharedWriter::close) waits and tells.
#[derive(Clone, Debug)]
pub struct SharedWriter(pub(crate) Arc<Handle>);

impl SharedWriter {
    pub(crate) fn start(journal: Journal) -> SharedWriter {
        SharedWriter(Handle::start(journal))
    }

    /// Appends one record, and waits until it is as durable as the options ask.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_shared();
    /// let appended = writer.append(&serde_json::json!({"text": "hi"}))?;
    /// assert_eq!(appended.seq(), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Writer::append`](crate::Writer::append): after [`Left::Nothing`](crate::Left::Nothing) the record is neither in the file nor
    /// queued. [`Closed`](ErrorKind::Closed) after a close or a discard.
    pub fn append<T: Serialize + ?Sized>(&self, record: &T) -> Result<Appended> {
        self.append_with(record, self.0.durability())
    }

    /// Appends one record with a durability of its own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_shared();
    /// use untorn::Durability;
    /// writer.append_with(&serde_json::json!({"progress": 0.5}), Durability::Os)?;
    /// writer.append_with(&serde_json::json!({"answer": 42}), Durability::Sync)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`append`](SharedWriter::append).
    pub fn append_with<T: Serialize + ?Sized>(&self, record: &T, durability: Durability) -> Result<Appended> {
        self.settle(self.entering(record, Order::Append(durability)), Attempt::Append).map(Outcome::appended)
    }

    /// Appends records that stand or fall as one, and waits.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_shared();
    /// let mut batch = untorn::Batch::new();
    /// batch.add(&serde_json::json!({"call": 7}))?.add(&serde_json::json!({"result": 7}))?;
    /// assert_eq!(writer.append_batch(&batch)?.records(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`append`](SharedWriter::append) and of [`Writer::append_batch`](crate::Writer::append_batch).
    pub fn append_batch(&self, batch: &Batch) -> Result<Appended> {
        self.settle(self.entering_batch(batch), Attempt::Append).map(Outcome::appended)
    }

    /// Queues one record, waiting only for room. It will be written, whatever becomes of the [`Queued`] that is returned.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_shared();
    /// let first = writer.enqueue(&serde_json::json!({"text": "hi"}))?;
    /// drop(writer.enqueue(&serde_json::json!({"text": "nobody asks for this one"}))?);
    /// assert_eq!(first.wait()?.seq(), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Encode`](ErrorKind::Encode); [`Closed`](ErrorKind::Closed); and if the queue is full and cannot be emptied, what stops it. The record is
    /// not queued then.
    pub fn enqueue<T: Serialize + ?Sized>(&self, record: &T) -> Result<Queued> {
        self.0.forbid_worker(Attempt::Append)?;
        block_on(self.entering(record, Order::Enqueue(self.0.durability())))
    }

    /// Queues one record if there is room at once.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](SharedWriter::enqueue), and [`QueueFull`](ErrorKind::QueueFull), whose cause is what stops the queue, if anything does.
    pub fn try_enqueue<T: Serialize + ?Sized>(&self, record: &T) -> Result<Queued> {
        self.entering(record, Order::Enqueue(self.0.durability())).try_now()
    }

    /// Waits until everything queued before is as durable as was asked.
    ///
    /// # Errors
    ///
    /// What stopped a record that was queued before; it is still queued if nothing of it is in the file, and a later flush may succeed.
    pub fn flush(&self) -> Result<()> {
        self.barrier(Order::Flush, Attempt::Flush).map(|_| ())
    }

    /// Makes everything queued before durable, however it was asked, and returns the position before which all is.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](SharedWriter::flush) and of [`Writer::sync`](crate::Writer::sync).
    pub fn sync(&self) -> Result<Position> {
        self.barrier(Order::Sync, Attempt::Sync)
    }

    /// Waits until everything before `end` is durable: the end of an [`Appended::mark`], say. A sync that is due is waited for, and asked for if none
    /// is. For a position that nothing was written to it waits until something is.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](ErrorKind::Poisoned) after a failed sync; [`Closed`](ErrorKind::Closed) if the writer is closed before.
    pub fn durable_through(&self, end: Position) -> Result<()> {
        self.0.forbid_worker(Attempt::Sync)?;
        block_on(Watching::new(&self.0, DurableThrough(end)))
    }

    /// Rotates when all that was queued before is written: see [`Writer::rotate`](crate::Writer::rotate).
    ///
    /// # Errors
    ///
    /// Those of [`flush`](SharedWriter::flush), with nothing done, and of [`Writer::rotate`](crate::Writer::rotate); [`Closed`](ErrorKind::Closed) if
    /// the writer is closed before.
    pub fn rotate(&self) -> Result<Rotated> {
        self.chore(Attempt::Rotate, Writer::rotate)
    }

    /// Archives the records before a bound when all that was queued before is written: see [`Writer::archive`](crate::Writer::archive).
    ///
    /// # Errors
    ///
    /// Those of [`flush`](SharedWriter::flush), with nothing done, and of [`Writer::archive`](crate::Writer::archive);
    /// [`Closed`](ErrorKind::Closed) if the writer is closed before.
    pub fn archive(&self, before: Before) -> Result<Archived> {
        self.chore(Attempt::Archive, move |writer| writer.archive(before))
    }

    /// Prunes when all that was queued before is written: see [`Writer::prune`](crate::Writer::prune).
    ///
    /// # Errors
    ///
    /// Those of [`flush`](SharedWriter::flush), with nothing done, and of [`Writer::prune`](crate::Writer::prune); [`Closed`](ErrorKind::Closed) if
    /// the writer is closed before.
    pub fn prune(&self, keep: &Keep) -> Result<Pruned> {
        let keep = keep.clone();
        self.chore(Attempt::Prune, move |writer| writer.prune(&keep))
    }

    /// Opens the journal anew after a failure, and goes on with what is queued.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::reopen`](crate::Writer::reopen); what is queued stays so.
    pub fn reopen(&self) -> Result<()> {
        self.0.forbid_worker(Attempt::Reopen)?;
        block_on(Watching::new(&self.0, Reopened::default()))
    }

    /// How much is queued, how far the journal is written and durable, and what is wrong.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = untorn::Writer::open(dir.path().join("j.jsonl"))?.into_shared();
    /// let appended = writer.append(&serde_json::json!({"text": "hi"}))?;
    /// assert_eq!(writer.state().durable, appended.mark().end);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> WriterState {
        self.0.state()
    }

    /// Writes what is queued, makes everything durable, and closes the journal for all clones. Appends that come meanwhile wait for what becomes of
    /// it. Closing what is closed succeeds.
    ///
    /// # Errors
    ///
    /// Those of [`sync`](SharedWriter::sync). The writer is still open then, and nothing is lost from the queue: close it again, or
    /// [`discard`](SharedWriter::discard).
    pub fn close(&self) -> Result<()> {
        closed(self.barrier(Order::Close, Attempt::Close))
    }

    /// Ends the writer for all clones, and returns what was never written. A write that is under way is waited for.
    ///
    /// The records are in their order; of those that were appended as a batch only the records are handed back. Who waits for one of them gets
    /// [`Closed`](ErrorKind::Closed). After a close there is nothing to hand back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("j.jsonl");
    /// let writer = untorn::Writer::options().create_lazily().open_shared(&path)?;
    /// assert!(writer.discard().is_empty());
    /// assert!(!path.exists());
    /// assert_eq!(writer.append(&1).unwrap_err().kind(), untorn::ErrorKind::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self) -> Batch {
        block_on(Watching::new(&self.0, Discarded))
    }

    /// The same writer for tasks.
    #[cfg(feature = "tokio")]
    pub fn to_async(&self) -> crate::AsyncWriter {
        crate::AsyncWriter(Arc::clone(&self.0))
    }

    pub(crate) fn entering<T: Serialize + ?Sized>(&self, record: &T, order: Order) -> Entering {
        Entering::encoded(&self.0, order, Some(Unit::Record), |records| records.add(record).map(|_| ()))
    }

    pub(crate) fn entering_batch(&self, batch: &Batch) -> Entering {
        let order = Order::Append(self.0.durability());
        Entering::encoded(&self.0, order, Some(Unit::Batch(batch.len())), |records| {
            if batch.is_empty() {
                return Err(Error::new(ErrorKind::Encode, Attempt::Append).detail("the batch has no records"));
            }
            records.extend(batch, 0..batch.len());
            Ok(())
        })
    }

    fn barrier(&self, order: Order, attempt: Attempt) -> Result<Position> {
        self.settle(Entering::barrier(&self.0, order), attempt).map(Outcome::passed)
    }

    fn chore<T: Send + 'static>(&self, attempt: Attempt, work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static) -> Result<T> {
        self.0.forbid_worker(attempt)?;
        block_on(Chored::new(&self.0, attempt, work))
    }

    fn settle(&self, entering: Entering, attempt: Attempt) -> Result<Outcome> {
        self.0.forbid_worker(attempt)?;
        block_on(Settling::Entering(entering))
    }
}

impl Writer {
    /// A writer for many threads, which share its writes and its syncs. It keeps the lock, the file and the numbering.
    pub fn into_shared(self) -> SharedWriter {
        SharedWriter::start(Journal::open(self))
    }
}

impl Options {
    /// Opens the journal for many threads, which share its writes and its syncs; see [`create_lazily`](Options::create_lazily).
    ///
    /// # Errors
    ///
    /// Those of [`open`](Options::open).
    pub fn open_shared(&self, path: impl AsRef<Path>) -> Result<SharedWriter> {
        let journal = if self.create_lazily { Journal::unopened(self, path.as_ref()) } else { Journal::open(self.open(path)?) };
        Ok(SharedWriter::start(journal))
    }
}

/// To close what is closed already is to succeed.
pub(crate) fn closed(result: Result<Position>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::Closed => Err(error),
        _ => Ok(()),
    }
}
