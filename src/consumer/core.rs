//! The consumer's work, one step at a time: sources in turn, records in flight, saving.
//!
//! The files of a directory may be renamed while they are consumed: before a source leaves a file that its path names no more, the directories are
//! listed, and if the file is among what is new there, the source goes on under that name.
//!
//! Each source gives a bounded number of records before it is the next one's turn, so that a long one delays no other. A pass in which nothing was
//! found looks at all sources whose file is open, and at some of the parked ones, so that it costs the same however many there are.
//!
//! Saving makes the records durable first, then the checkpoint. Crash before: the old checkpoint, and the records behind it come again. Crash after:
//! the new one. What cannot be made durable is not saved as acknowledged; the other sources are.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Delivery, Source,
    directory::Directory,
    ledger::{Acknowledged, Ledger},
    options::ConsumerOptions,
    source::{Tap, Tapped},
};
#[cfg(feature = "notify")]
use crate::follow::notice::Notice;
use crate::{
    checkpoint::{
        Checkpoint, Identity, Restored, SourceState, assign, identity,
        store::{Store, Stored},
    },
    error::Result,
    follow::{FollowEvent, event::Followed, stop::Bell},
    segment::Segments,
    sys::{Disk, FileId, names::Names},
};

/// So many records a source gives in its turn.
const TURN: usize = 64;

/// So many files are kept open by sources that have nothing new.
const OPEN_MAX: usize = 128;

/// So many other sources are looked at between the turns of two that have more.
const LOOKS_BETWEEN: usize = 4;

/// So many parked sources are looked at in one pass. `ConsumerOptions::poll_every` says what that means.
const LOOKS_MAX: usize = 200;

/// Of so many sources that are none now the state is kept. `Consumer` says what that means.
const OTHERS_MAX: usize = 10_000;

/// So many sources are synced by each thread, and by so many threads besides this one.
const SYNCS_EACH: usize = 16;
const HELPERS_MAX: usize = 15;

#[derive(Debug)]
pub(super) struct Core {
    options: ConsumerOptions,
    pub(super) bell: Arc<Bell>,
    pub(super) ledger: Arc<Ledger>,
    store: Store,
    /// What is in the directory of most sources.
    names: Names,
    directories: Vec<Directory>,
    taps: Vec<Tap>,
    /// How many of them have their file open.
    open: usize,
    /// Journals that are not there yet, and when they are looked for next.
    awaited: BTreeSet<PathBuf>,
    look_due: Instant,
    /// The canonical paths of the sources.
    known: HashSet<PathBuf>,
    /// Their paths as they were given or found.
    sources: HashSet<PathBuf>,
    /// What is saved; first that of the sources, in their order.
    states: Vec<Saved>,
    /// What was saved of sources that are none now, those that were lost first in front.
    others: Vec<SourceState>,
    is_damaged: bool,
    waiting: VecDeque<Delivery>,
    turns: Turns,
    is_stalled: bool,
    /// When it is saved next.
    due: Instant,
}

/// One source as it was saved last.
#[derive(Debug, Default)]
struct Saved {
    state: Option<SourceState>,
    acknowledged: Acknowledged,
}

/// Whose turn it is.
#[derive(Debug, Default)]
struct Turns {
    /// The source at hand, and how much it has given in its turn.
    current: Option<usize>,
    given: usize,
    /// Sources whose turn ended while they had more.
    ready: VecDeque<usize>,
    is_ready: HashSet<usize>,
    /// The next one of the others that is looked at, and how many of them are before the next turn of a ready one.
    next: usize,
    credit: usize,
    /// How many in a row had nothing, and how many of those were parked.
    idle: usize,
    looks: usize,
}

pub(super) enum Stepped {
    Given(Delivery),
    Busy,
    Idle,
}

impl Core {
    pub(super) fn open(options: ConsumerOptions) -> Result<Core> {
        let (store, stored) = Store::open(&options.disk, &options.checkpoints, &options.name)?;
        let bell = Arc::new(Bell::default());
        let ledger = Arc::new(Ledger::new(Arc::clone(&bell)));
        let directories = options.directories.iter().map(|(path, suffixes)| Directory::new(path.clone(), suffixes.clone())).collect();
        let mut core = Core {
            bell,
            ledger,
            store,
            names: Names::default(),
            directories,
            taps: Vec::new(),
            open: 0,
            awaited: BTreeSet::new(),
            look_due: Instant::now(),
            known: HashSet::new(),
            sources: HashSet::new(),
            states: Vec::new(),
            others: stored.sources().to_vec(),
            is_damaged: matches!(stored, Stored::Damaged),
            waiting: VecDeque::new(),
            turns: Turns::default(),
            is_stalled: false,
            due: Instant::now() + options.save_every,
            options,
        };
        let mut journals = core.options.files.clone();
        journals.extend(core.list()?);
        let is_previous = matches!(stored, Stored::Previous(..));
        core.add(journals);
        if is_previous {
            let of_each = core.taps.iter().map(|tap| Delivery::Restored(tap.source.clone(), Restored::PreviousUsed));
            core.waiting.extend(of_each);
        }
        let forgotten = core.others.len().saturating_sub(OTHERS_MAX);
        for other in core.others.drain(..forgotten) {
            core.waiting.extend(other.checkpoint.path().map(|path| Delivery::Event(Source::new(path), FollowEvent::Forgotten)));
        }
        // A source that is no longer there is told, not forgotten.
        for other in &core.others {
            if let Some(path) = other.checkpoint.path()
                && !is_there(&core.options.disk, path)
            {
                core.waiting.push_back(Delivery::Event(Source::new(path), FollowEvent::Deleted));
            }
        }
        Ok(core)
    }

    fn list(&mut self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in &mut self.directories {
            found.extend(directory.journals(&self.options.disk, self.options.poll_every)?);
        }
        // Nothing may fail any more: what was found is not found a second time.
        found.retain(|path| !self.sources.contains(path) && !self.awaited.contains(path));
        if Instant::now() >= self.look_due {
            self.look_due = Instant::now() + self.options.poll_every;
            found.extend(std::mem::take(&mut self.awaited));
        }
        Ok(found)
    }

    /// Adds those of the journals that are no sources yet, each with what was saved of it.
    fn add(&mut self, journals: Vec<PathBuf>) {
        let disk = self.options.disk.clone();
        // What was saved goes to the file that proves it, so that is not decided before the file is there.
        let (there, missing): (Vec<_>, Vec<_>) = journals.into_iter().partition(|path| is_there(&disk, path));
        self.awaited.extend(missing);
        let there = self.move_sources(there);
        let known = &mut self.known;
        let new: Vec<PathBuf> = there.into_iter().filter(|path| known.insert(identity::canonical(&disk, path))).collect();
        if new.is_empty() {
            return;
        }
        let stored: Vec<&Checkpoint> = self.others.iter().map(|state| &state.checkpoint).collect();
        let assigned = assign::assign(&disk, &self.names, &stored, &new, self.options.line_bytes_max);
        let mut others: Vec<Option<SourceState>> = std::mem::take(&mut self.others).into_iter().map(Some).collect();
        for (path, index) in new.into_iter().zip(assigned) {
            let state = index.and_then(|index| others.get_mut(index)?.take());
            let checkpoint = state.as_ref().map(|state| state.checkpoint.clone());
            self.ledger.add();
            self.taps.push(Tap::new(Source::new(&path), checkpoint, self.options.line_bytes_max));
            self.states.push(Saved { state, acknowledged: Acknowledged::default() });
            self.sources.insert(path);
        }
        self.others = others.into_iter().flatten().collect();
    }

    /// Lets sources go on whose file is one of these journals by now, and gives the others.
    fn move_sources(&mut self, mut journals: Vec<PathBuf>) -> Vec<PathBuf> {
        if journals.is_empty() || self.taps.is_empty() {
            return journals;
        }
        let by_file: HashMap<FileId, usize> = self.taps.iter().enumerate().filter_map(|(at, tap)| Some((tap.trace()?.file, at))).collect();
        journals.retain(|path| {
            let source = self.files_of(path).iter().find_map(|file| by_file.get(file));
            source.is_none_or(|at| !self.move_source(*at, path))
        });
        journals
    }

    /// The files of a journal, as far as they can be told.
    fn files_of(&self, path: &Path) -> Vec<FileId> {
        let active = self.options.disk.look(path).ok().flatten().map(|seen| seen.id);
        let segments = Segments::open_in(&self.options.disk, &self.names, path, true);
        let archived = segments.iter().flat_map(Segments::archived_files).flatten().filter_map(|(_, file)| file);
        active.into_iter().chain(archived).collect()
    }

    /// Lets a source go on at another path, if its file is there.
    fn move_source(&mut self, at: usize, path: &Path) -> bool {
        let Some(tap) = self.taps.get_mut(at) else { return false };
        let (source, from, was_open) = (Source::new(path), tap.source.path().to_owned(), tap.is_open());
        match tap.move_to(&self.options.disk, &self.names, source.clone()) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                tracing::debug!(%error, "a file with a new name cannot be read yet");
                self.awaited.insert(path.to_owned());
                return true;
            }
        }
        // What is open stays open.
        self.open += usize::from(tap.is_open() && !was_open);
        let disk = &self.options.disk;
        self.known.remove(&identity::canonical(disk, &from));
        self.known.insert(identity::canonical(disk, path));
        self.sources.remove(&from);
        self.sources.insert(path.to_owned());
        // Another file may come there, or be there.
        if self.options.files.contains(&from) || is_there(disk, &from) {
            self.awaited.insert(from.clone());
        }
        self.waiting.push_back(Delivery::Restored(source, Restored::Renamed { from }));
        true
    }

    /// Looks in the directories whether the file of a source that is lost has another name there.
    fn seek(&mut self) {
        let disk = &self.options.disk;
        // What fails here is told when the directory is listed in its turn.
        let mut found: Vec<PathBuf> = self.directories.iter_mut().filter_map(|directory| directory.list(disk).ok()).flatten().collect();
        found.retain(|path| !self.sources.contains(path) && !self.awaited.contains(path));
        self.add(found);
    }

    /// Does a little.
    pub(super) fn step(&mut self) -> Result<Stepped> {
        if let Some(delivery) = self.waiting.pop_front() {
            return Ok(Stepped::Given(delivery));
        }
        if Instant::now() >= self.due
            && let Err(error) = self.save()
        {
            return Ok(Stepped::Given(Delivery::SaveFailed(error)));
        }
        if let Some(delivery) = self.again()? {
            return Ok(Stepped::Given(delivery));
        }
        if let Some(in_flight) = self.ledger.at_least(self.options.records_max, self.options.bytes_max) {
            if std::mem::replace(&mut self.is_stalled, true) {
                return Ok(Stepped::Idle);
            }
            let Some((source, oldest)) = self.ledger.oldest() else { return Ok(Stepped::Busy) };
            let event = FollowEvent::Stalled { oldest, records: in_flight.records, bytes: in_flight.bytes };
            let source = self.taps.get(source).map(|tap| tap.source.clone());
            return Ok(source.map_or(Stepped::Busy, |source| Stepped::Given(Delivery::Event(source, event))));
        }
        self.is_stalled = false;
        self.turn()
    }

    /// A record that was released.
    fn again(&mut self) -> Result<Option<Delivery>> {
        while let Some((mark, ticket)) = self.ledger.released() {
            let Some(tap) = self.taps.get(Ledger::source_of(&ticket)) else { continue };
            match tap.record(&self.options.disk, &self.names, &mark) {
                Ok(Some(record)) => return Ok(Some(Delivery::Record(tap.source.clone(), record, ticket))),
                // It is gone. Its source will be found changed.
                Ok(None) => ticket.hold(),
                // Its file may have another name by now. Its source finds out in its turn, and other records come first.
                Err(error) if error.is_missing() => {
                    self.ledger.later(&ticket);
                    return Ok(None);
                }
                Err(error) => {
                    self.ledger.again(&ticket);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// One step of the source whose turn it is.
    fn turn(&mut self) -> Result<Stepped> {
        let Some(at) = self.choose()? else { return Ok(Stepped::Idle) };
        let Some(tap) = self.taps.get_mut(at) else { return Ok(Stepped::Idle) };
        if let Some((oldest, in_flight)) = self.ledger.at_least_of(at, self.options.records_max_each, self.options.bytes_max_each) {
            self.turns.had_nothing();
            let event = FollowEvent::Stalled { oldest, records: in_flight.records, bytes: in_flight.bytes };
            let is_told = std::mem::replace(&mut tap.is_stalled, true);
            return Ok(if is_told { Stepped::Busy } else { Stepped::Given(Delivery::Event(tap.source.clone(), event)) });
        }
        tap.is_stalled = false;
        self.turns.looks += usize::from(tap.is_parked());
        let source = tap.source.clone();
        let was_open = tap.is_open();
        let stepped = tap.step(&self.options.disk, &self.names);
        match (was_open, tap.is_open()) {
            (false, true) => self.open += 1,
            (true, false) => self.open -= 1,
            _ => {}
        }
        // What was to be told of a file that is lost is not so if it has another name.
        if tap.is_to_be_sought() && self.is_renamed(at) {
            return Ok(Stepped::Busy);
        }
        let Some(tap) = self.taps.get_mut(at) else { return Ok(Stepped::Idle) };
        let tapped = match stepped {
            Ok(tapped) => tapped,
            Err(error) => {
                let is_news = tap.is_news(&error);
                self.turns.had_nothing();
                return if is_news { Err(error) } else { Ok(Stepped::Busy) };
            }
        };
        let delivery = match tapped {
            Tapped::Followed(Followed::Record(record)) => {
                let ticket = self.ledger.deliver(at, record.mark, record.value.bytes_kept());
                Delivery::Record(source, record, ticket)
            }
            Tapped::Followed(Followed::Event(event)) => Delivery::Event(source, event),
            Tapped::Begun(restored, acknowledged, is_new_generation) => {
                self.begin(at, acknowledged, is_new_generation);
                let restored = if self.is_damaged && restored == Restored::New { Restored::Damaged } else { restored };
                Delivery::Restored(source, restored)
            }
            Tapped::Reset(event) => {
                let acknowledged = self.ledger.acknowledged(at).watermark;
                self.open -= usize::from(tap.is_open());
                tap.begin_again(acknowledged);
                self.ledger.reset(at);
                Delivery::Event(source, event)
            }
            Tapped::Again(acknowledged) => {
                self.ledger.go_on_from(at, acknowledged);
                self.turns.had_something();
                return Ok(Stepped::Busy);
            }
            Tapped::Busy => {
                self.turns.had_something();
                return Ok(Stepped::Busy);
            }
            Tapped::Idle => {
                self.park(at);
                self.turns.had_nothing();
                return Ok(Stepped::Busy);
            }
        };
        self.turns.had_something();
        Ok(Stepped::Given(delivery))
    }

    /// Whether the file of a source that is lost has another name, under which it goes on now.
    fn is_renamed(&mut self, at: usize) -> bool {
        let path = |core: &Core| core.taps.get(at).map(|tap| tap.source.clone());
        let before = path(self);
        self.seek();
        path(self) != before
    }

    /// The source whose turn it is; `None` if nothing is known to have something new.
    fn choose(&mut self) -> Result<Option<usize>> {
        if self.turns.current.is_some() {
            return Ok(self.turns.current);
        }
        let found = self.list()?;
        self.add(found);
        Ok(self.turns.choose(self.taps.len()))
    }

    fn begin(&mut self, at: usize, acknowledged: Option<crate::Mark>, is_new_generation: bool) {
        let Some(saved) = self.states.get_mut(at) else { return };
        let (generation, rejected) = saved.state.as_ref().map_or((0, 0), |state| (state.checkpoint.generation(), state.rejected));
        let begun = generation.saturating_add(u64::from(is_new_generation));
        self.ledger.begin(at, begun, acknowledged, rejected);
        saved.acknowledged = Acknowledged { generation: begun, watermark: acknowledged, rejected };
    }

    /// Closes the file of a source that has nothing new, if many are open.
    fn park(&mut self, at: usize) {
        let Some(tap) = self.taps.get_mut(at).filter(|tap| self.open > OPEN_MAX && tap.is_open()) else { return };
        if let Err(error) = tap.park(&self.options.disk) {
            tracing::debug!(%error, "a source that has nothing new stays open");
        }
        self.open -= usize::from(!tap.is_open());
    }

    /// Saves how far all sources are acknowledged, if that has changed. Whether it succeeds or not, the next try is due one interval later.
    pub(super) fn save(&mut self) -> Result<()> {
        self.due = Instant::now() + self.options.save_every;
        let mut failed = None;
        let mut next: Vec<Option<(SourceState, Acknowledged)>> = self.states.iter().map(|_| None).collect();
        // Crash here: the records are durable, the checkpoint is the old one. They come again.
        for (at, acknowledged, secured) in self.secure() {
            match (secured, next.get_mut(at)) {
                (Ok(identity), Some(next)) => {
                    let checkpoint = Checkpoint::of(&identity, acknowledged.watermark, acknowledged.generation);
                    *next = Some((SourceState::new(checkpoint, acknowledged.rejected), acknowledged));
                }
                (Ok(_), None) => {}
                (Err(error), _) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if next.iter().any(Option::is_some) {
            let saved = self.states.iter().zip(&next).filter_map(|(saved, next)| {
                let mut state = saved.state.clone();
                if let Some((next, _)) = next {
                    match &mut state {
                        Some(state) => state.advance(next.clone()),
                        None => state = Some(next.clone()),
                    }
                }
                state
            });
            let all: Vec<SourceState> = self.others.iter().cloned().chain(saved).collect();
            self.store.save(&all)?;
            for (saved, next) in self.states.iter_mut().zip(next) {
                let Some((next, acknowledged)) = next else { continue };
                match &mut saved.state {
                    Some(state) => state.advance(next),
                    None => saved.state = Some(next),
                }
                saved.acknowledged = acknowledged;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Makes durable what was read of each source that is acknowledged further than it was saved.
    ///
    /// Of many, several are synced at a time: the disk does in one go what it would else do for each.
    fn secure(&mut self) -> Vec<(usize, Acknowledged, Result<Identity>)> {
        let ledger = &self.ledger;
        let changed: Vec<(usize, &mut Tap, Acknowledged)> = (self.taps.iter_mut().zip(&self.states).enumerate())
            .filter_map(|(at, (tap, saved))| {
                let acknowledged = ledger.acknowledged(at);
                (acknowledged != saved.acknowledged).then_some((at, tap, acknowledged))
            })
            .collect();
        let (disk, names) = (&self.options.disk, &self.names);
        let helpers = if disk.is_real() { (changed.len() / SYNCS_EACH).min(HELPERS_MAX) } else { 0 };
        let (queue, secured) = (Mutex::new(changed.into_iter()), Mutex::new(Vec::new()));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((at, tap, acknowledged)) = next() {
                let done = tap.secure(disk, names, acknowledged.watermark.as_ref());
                secured.lock().unwrap_or_else(PoisonError::into_inner).push((at, acknowledged, done));
            }
        };
        thread::scope(|scope| {
            // Without a helper it takes longer, and that is all.
            (0..helpers).for_each(|_| drop(thread::Builder::new().spawn_scoped(scope, work)));
            work();
        });
        secured.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_every(&self) -> Duration {
        self.options.poll_every
    }

    /// Watches the directories that the sources are in.
    #[cfg(feature = "notify")]
    pub(super) fn notices(&self) -> Vec<Notice> {
        let of_files =
            self.options.files.iter().map(|file| file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(std::path::Path::new(".")));
        let dirs: HashSet<&std::path::Path> = of_files.chain(self.options.directories.iter().map(|(dir, _)| dir.as_path())).collect();
        dirs.into_iter().filter_map(|dir| Notice::of_dir(&self.options.disk, dir, &self.bell)).collect()
    }

    /// Lets another process use the name.
    pub(super) fn release(&mut self) {
        self.store.release();
    }

    /// When it is saved next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    #[cfg(feature = "tokio")]
    pub(super) fn closed(&self) -> crate::Error {
        crate::Error::new(crate::ErrorKind::Closed, crate::error::Attempt::Follow).detail("it was stopped")
    }
}

impl Turns {
    fn choose(&mut self, sources: usize) -> Option<usize> {
        if self.credit == 0 && !self.ready.is_empty() {
            self.credit = LOOKS_BETWEEN;
            return self.choose_ready();
        }
        if self.ready.is_empty() && (self.idle >= sources || self.looks >= LOOKS_MAX) {
            (self.idle, self.looks) = (0, 0);
            return None;
        }
        self.credit = self.credit.saturating_sub(1);
        for _ in 0..sources {
            let next = self.next % sources;
            self.next = next + 1;
            if !self.is_ready.contains(&next) {
                self.current = Some(next);
                return self.current;
            }
        }
        // All have more.
        self.credit = 0;
        self.choose_ready()
    }

    fn choose_ready(&mut self) -> Option<usize> {
        let ready = self.ready.pop_front()?;
        self.is_ready.remove(&ready);
        self.current = Some(ready);
        self.current
    }

    /// The source at hand has given something, or may do so.
    fn had_something(&mut self) {
        (self.idle, self.looks) = (0, 0);
        self.given += 1;
        if self.given >= TURN {
            self.given = 0;
            if let Some(current) = self.current.take() {
                self.ready.push_back(current);
                self.is_ready.insert(current);
            }
        }
    }

    fn had_nothing(&mut self) {
        self.current = None;
        self.given = 0;
        self.idle += 1;
    }
}

/// Whether a journal has an active segment, or that cannot be told. In the middle of a rotation it has archived ones only.
fn is_there(disk: &Disk, path: &Path) -> bool {
    let is_missing = disk.look(path).is_ok_and(|found| found.is_none());
    !is_missing || Segments::open(disk, path, true).is_ok()
}
