//! The one thread that owns the writer.
//!
//! It is never in the way of those who append: they meet it only at the queue, which is unlocked while the disk is at work.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    group::{Group, Order, Outcome},
    queue::Queue,
    runtime::thread,
    state::{Done, Health, Marks, Next},
};
use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    position::{Appended, Position},
    writer::{Landing, Options, Writer},
};

/// The journal of a shared writer.
#[derive(Debug)]
pub(crate) enum Journal {
    /// To be opened, and created if it is missing, when the first record is to be written.
    Unopened(Box<Options>, PathBuf),
    Open(Box<Open>),
}

#[derive(Debug)]
pub(crate) struct Open {
    writer: Writer,
    /// What came of the last write.
    landing: Landing,
}

impl Journal {
    pub(crate) fn unopened(options: &Options, path: &Path) -> Journal {
        Journal::Unopened(Box::new(options.clone()), path.to_owned())
    }

    pub(crate) fn open(writer: Writer) -> Journal {
        Journal::Open(Box::new(Open { landing: Landing::nothing(), writer }))
    }

    pub(super) fn options(&self) -> &Options {
        match self {
            Journal::Unopened(options, _) => options,
            Journal::Open(open) => open.writer.options_given(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Journal::Unopened(_, path) => path,
            Journal::Open(open) => open.writer.path(),
        }
    }

    pub(super) fn marks(&self) -> Marks {
        match self {
            Journal::Unopened(..) => Marks { written: Position::new(1, 0), durable: Position::new(1, 0) },
            Journal::Open(open) => Marks { written: open.writer.written(), durable: open.writer.durable() },
        }
    }

    fn health(&self) -> Health {
        let poison = match self {
            Journal::Unopened(..) => None,
            Journal::Open(open) => open.writer.refusal(),
        };
        Health { poison, marks: self.marks() }
    }

    /// Writes the units of a group in one call, and says how many of them are in the file and what stopped the others.
    fn write(&mut self, group: &Group) -> (usize, Result<()>) {
        if group.units.is_empty() {
            return (0, Ok(()));
        }
        let open = match self.opened() {
            Ok(open) => open,
            Err(error) => return (0, Err(error)),
        };
        let syncs = group.orders().any(Order::syncs);
        let (landing, stopped) = open.writer.write(&group.records, &group.units, syncs);
        let whole = landing.whole;
        open.landing = landing;
        (whole, stopped)
    }

    fn opened(&mut self) -> Result<&mut Open> {
        self.opened_by(|options, path| options.open(path))
    }

    /// Does not create the journal.
    fn opened_existing(&mut self) -> Result<&mut Open> {
        self.opened_by(|options, path| options.clone().existing_only().open(path))
    }

    fn opened_by(&mut self, open: impl FnOnce(&Options, &Path) -> Result<Writer>) -> Result<&mut Open> {
        if let Journal::Unopened(options, path) = self {
            *self = Journal::open(open(options, path)?);
        }
        let Journal::Open(open) = self else { unreachable!("it was just opened") };
        Ok(open)
    }

    /// What is to be said of a unit of the last write.
    fn appended(&self, unit: usize) -> Appended {
        match self {
            Journal::Unopened(..) => unreachable!("nothing was written"),
            Journal::Open(open) => open.writer.appended(&open.landing, unit),
        }
    }

    /// Makes what this writer wrote durable; nothing was if it is not open.
    fn sync(&mut self) -> Result<()> {
        match self {
            Journal::Unopened(..) => Ok(()),
            Journal::Open(open) => open.writer.sync().map(|_| ()),
        }
    }

    /// The same right after a write, which has just seen that the path names the file, and may have left the writer poisoned.
    fn sync_written(&mut self) -> Result<()> {
        match self {
            Journal::Unopened(..) => Ok(()),
            Journal::Open(open) => open.writer.sync_now(),
        }
    }

    fn reopen(&mut self) -> Result<()> {
        match self {
            Journal::Unopened(..) => Ok(()),
            Journal::Open(open) => open.writer.reopen(),
        }
    }
}

pub(super) struct Worker {
    journal: Journal,
    /// The failure that was logged last, until something succeeds.
    logged: Option<(ErrorKind, Option<i32>)>,
    /// Behind `journal`, so that it is dropped after it: who is told that the worker has ended can open the journal.
    post: Post,
}

/// The worker's end of the queue. Whatever ends the worker, those who wait are told when this is dropped.
struct Post {
    queue: Arc<Queue>,
    /// What is being committed; its buffers change places with those of the queue.
    group: Group,
    /// What those are told who wait, and who come later.
    reason: Error,
}

impl Drop for Post {
    fn drop(&mut self) {
        self.queue.end(&mut self.group, self.reason.clone());
    }
}

impl Worker {
    pub(super) fn start(journal: Journal, queue: Arc<Queue>) {
        let reason = queue.error(ErrorKind::Closed, Attempt::Append).detail("no thread could be started to write");
        let post = Post { queue: Arc::clone(&queue), group: Group::default(), reason };
        let worker = Worker { journal, logged: None, post };
        if let Err(error) = thread::Builder::new().name("untorn".to_owned()).spawn(move || worker.run()) {
            // The worker was dropped with the closure, which has ended the queue.
            tracing::error!(path = %queue.path().display(), %error, "no thread could be started; nothing will be written");
        }
    }

    fn run(mut self) {
        let ended = |queue: &Queue, kind, detail| queue.error(kind, Attempt::Append).detail(detail);
        let queue = Arc::clone(&self.post.queue);
        self.post.reason = ended(&queue, ErrorKind::Poisoned, "the thread that writes has panicked; open the journal again");
        queue.hire();
        self.post.reason = loop {
            match queue.next(&mut self.post.group) {
                Next::Commit if self.commit() => break ended(&queue, ErrorKind::Closed, "the writer was closed"),
                Next::Commit => {}
                Next::Sync => self.sync(),
                Next::Reopen => self.reopen(),
                Next::Chore => self.chore(),
                Next::Discard => break ended(&queue, ErrorKind::Closed, "the writer was discarded"),
                Next::Leave => {
                    self.leave();
                    break ended(&queue, ErrorKind::Closed, "its last handle was dropped before it could be written");
                }
            }
        };
    }

    /// Writes the group, syncs it as far as that is asked for, and settles it. Returns whether a close was reached.
    fn commit(&mut self) -> bool {
        let Worker { journal, post: Post { queue, group, .. }, .. } = self;
        let (whole, stopped) = journal.write(group);
        let syncs = group.reached(whole).any(Order::syncs);
        if syncs && group.reached(whole).any(|order| !order.syncs()) {
            // Who did not ask for a sync does not wait for it.
            queue.acknowledge(group, |place| {
                let is_written = place.is_reached(whole) && !place.order.syncs() && !place.order.is_barrier();
                is_written.then(|| Ok(Outcome::Appended(journal.appended(place.unit))))
            });
        }
        let synced = syncs.then(|| if whole > 0 { journal.sync_written() } else { journal.sync() });
        let (refused, failed) = match stopped {
            Err(error) if is_refusal(error.kind()) => (Some(error), None),
            stopped => (None, stopped.err()),
        };
        let failure = synced.as_ref().and_then(|synced| synced.as_ref().err()).or(failed.as_ref()).cloned();
        let succeeded = failure.is_none() && whole > 0;
        let done = Done { whole, refused, failed, synced, health: journal.health() };
        let closed = queue.finish(group, done, |unit| journal.appended(unit));
        self.log(failure, succeeded);
        closed
    }

    /// Syncs what was written before.
    fn sync(&mut self) {
        let synced = self.journal.sync();
        self.post.queue.synced(synced.clone(), self.journal.health());
        self.log(synced.err(), false);
    }

    fn reopen(&mut self) {
        let reopened = self.journal.reopen();
        let succeeded = reopened.is_ok();
        self.post.queue.reopened(reopened.clone(), self.journal.health());
        self.log(reopened.err(), succeeded);
    }

    fn chore(&mut self) {
        let Some(chore) = self.post.queue.take_chore() else { return };
        let done = match self.journal.opened_existing() {
            Ok(open) => chore.run(Ok(&mut open.writer)),
            Err(error) => chore.run(Err(error)),
        };
        self.post.queue.chore_done(done, self.journal.health());
    }

    /// Nobody can append any more, and of those who did nobody is left to be told but the log.
    fn leave(&mut self) {
        let state = self.post.queue.state();
        if state.queued_records > 0 {
            let path = self.post.queue.path().display();
            tracing::error!(%path, records = state.queued_records, "the writer was dropped, and not all that was queued could be written");
        }
        if !state.poisoned {
            let synced = self.journal.sync();
            self.log(synced.err(), false);
        }
    }

    /// Logs a failure once, until another one comes or something succeeds.
    fn log(&mut self, failure: Option<Error>, succeeded: bool) {
        let path = self.post.queue.path().display();
        match failure {
            Some(error) => {
                let same = Some((error.kind(), error.raw_os_error()));
                if self.logged != same {
                    tracing::warn!(%path, error = &error as &dyn std::error::Error, "queued records wait");
                    self.logged = same;
                }
            }
            None if succeeded && self.logged.take().is_some() => tracing::info!(%path, "queued records are written again"),
            None => {}
        }
    }
}

/// Whether the record itself is why it was not written, so that it never will be.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TooLong | ErrorKind::NotSealed | ErrorKind::SealedPayload | ErrorKind::SeqExhausted)
}
