//! One source of a consumer: followed, or parked.
//!
//! A source that has nothing new keeps no file open when others need theirs. Parked, it is looked at by asking the system what its path names, how
//! long that is and when it was changed; when this is not as it was, it is opened again behind the record that was read last, as a follower goes on
//! in a file that may be another one. A time that a change to come may have too is not trusted: then it is opened again in any case.
//!
//! When the path names the file no more, that may have another name by now: the source moves there, if the record that was read last proves it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Source;
use crate::{
    checkpoint::{Checkpoint, Identity, Restored, identity},
    error::{Attempt, Error, ErrorKind, Result},
    follow::{
        FollowEvent,
        event::{Followed, Payload},
        pursuit::{Pursuit, Step, Trace},
    },
    judge::Found,
    position::{Mark, Position},
    reader::{
        Record, Start, line,
        start::{self, Started},
    },
    scan::Backward,
    segment::Segments,
    sys::{Disk, File, Seen, names::Names},
};

/// So many files that were left are kept open until the next save.
const LEFT_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Tap {
    pub(super) source: Source,
    path: PathBuf,
    stage: Stage,
    /// Files that were read and left since the last save, of which what was read must be durable first.
    left: Vec<Arc<File>>,
    /// What failed last, so that what goes on failing is told once.
    failed: Option<String>,
    /// What was read may be gone; the event that tells of it comes next.
    is_reset: bool,
    /// Why it is not known whether what was read is durable.
    distrusted: Option<Error>,
    /// It was looked for other names of the file, since the path does not name it any more.
    is_sought: bool,
    /// It was told that too much of it is in flight.
    pub(super) is_stalled: bool,
    /// The file that held the watermark when it was last saved, or where reading began.
    identity: Option<Identity>,
    line_bytes_max: u64,
}

#[derive(Debug)]
enum Stage {
    /// Not opened yet. With what was saved of it.
    Fresh(Option<Checkpoint>),
    Followed(Box<Pursuit>),
    /// To be opened behind what is acknowledged, if that is still there.
    Again(Option<Mark>, Trace),
    Parked(Parked),
    /// There is no such file any more, and from where to read if it comes back.
    Gone(Trace),
}

#[derive(Debug)]
struct Parked {
    trace: Trace,
    position: Position,
    /// What the path named, if a change would show.
    looked: Option<Seen>,
}

/// What a source has come to.
#[derive(Debug)]
pub(super) enum Tapped {
    Followed(Followed),
    /// It was opened for the first time, and this is where it goes on. What is acknowledged of it is this, in a new generation or not.
    Begun(Restored, Option<Mark>, bool),
    /// Earlier tickets count for nothing, and it is to begin again behind what is acknowledged: see [`Tap::begin_again`].
    Reset(FollowEvent),
    /// It has begun again. What is acknowledged of it is this.
    Again(Option<Mark>),
    Busy,
    Idle,
}

impl Tap {
    pub(super) fn new(source: Source, saved: Option<Checkpoint>, line_bytes_max: u64) -> Tap {
        let path = source.path().to_owned();
        Tap {
            source,
            path,
            stage: Stage::Fresh(saved),
            left: Vec::new(),
            failed: None,
            is_reset: false,
            distrusted: None,
            is_sought: false,
            is_stalled: false,
            identity: None,
            line_bytes_max,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Followed(_))
    }

    /// Whether looking at it costs one system call only.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self.stage, Stage::Parked(_) | Stage::Gone(_))
    }

    /// Whether this failure is news.
    pub(super) fn is_news(&mut self, error: &crate::Error) -> bool {
        let text = Some(format!("{error:?}"));
        let is_news = self.failed != text;
        self.failed = text;
        is_news
    }

    pub(super) fn step(&mut self, disk: &Disk, names: &Names) -> Result<Tapped> {
        match &mut self.stage {
            Stage::Fresh(saved) => {
                let saved = saved.clone();
                self.open(disk, names, saved)
            }
            Stage::Followed(pursuit) => {
                let (file, resets) = (Arc::clone(&pursuit.segment().file), pursuit.resets());
                let step = match pursuit.step() {
                    // All of it has another name, or none: the segments behind the one that was read too.
                    Err(error) if error.is_missing() && look(disk, &self.path)?.is_none() => {
                        self.stage = Stage::Gone(pursuit.trace());
                        self.leave(file);
                        return Ok(Tapped::Followed(Followed::Event(FollowEvent::Deleted)));
                    }
                    step => step?,
                };
                self.failed = None;
                let is_left = !Arc::ptr_eq(&file, &pursuit.segment().file);
                self.is_reset |= pursuit.resets() != resets;
                if is_left {
                    self.leave(file);
                }
                Ok(match step {
                    Step::Given(Followed::Event(event)) if std::mem::take(&mut self.is_reset) => Tapped::Reset(event),
                    // The event follows.
                    _ if self.is_reset => Tapped::Busy,
                    Step::Given(followed) => Tapped::Followed(followed),
                    Step::Busy => Tapped::Busy,
                    Step::Idle => Tapped::Idle,
                })
            }
            Stage::Again(acknowledged, _) => {
                let acknowledged = *acknowledged;
                self.open_again(disk, names, acknowledged)
            }
            Stage::Parked(parked) => {
                let looked = look(disk, &self.path)?;
                if looked.is_some() && looked == parked.looked {
                    return Ok(Tapped::Idle);
                }
                let (trace, position) = (parked.trace, parked.position);
                if looked.is_some_and(|looked| looked.id != trace.file) && !self.is_sought {
                    self.stage = Stage::Gone(trace);
                    return Ok(Tapped::Busy);
                }
                self.reopen(disk, names, trace, Some(position))
            }
            Stage::Gone(trace) => {
                if look(disk, &self.path)?.is_none() {
                    return Ok(Tapped::Idle);
                }
                let trace = *trace;
                self.reopen(disk, names, trace, None)
            }
        }
    }

    fn open(&mut self, disk: &Disk, names: &Names, saved: Option<Checkpoint>) -> Result<Tapped> {
        let start = saved.clone().map_or(Start::Beginning, Start::Checkpoint);
        let pursuit = match Pursuit::open_in(disk, names, &self.path, &start, self.line_bytes_max) {
            Ok(pursuit) => pursuit,
            // Awaited: a journal may be created with its first record.
            Err(error) if error.is_missing() => return Ok(Tapped::Idle),
            Err(error) => return Err(error),
        };
        let restored = pursuit.restored().cloned().unwrap_or(Restored::New);
        let mark = saved.as_ref().and_then(Checkpoint::mark).filter(|_| restored.is_proved());
        let is_new_generation = !restored.is_proved();
        self.stage = Stage::Followed(Box::new(pursuit));
        self.failed = None;
        Ok(Tapped::Begun(restored, mark, is_new_generation))
    }

    /// What is known of the file that is read, or was when the path still named it.
    pub(super) fn trace(&self) -> Option<Trace> {
        match &self.stage {
            Stage::Fresh(_) => None,
            Stage::Followed(pursuit) => Some(pursuit.trace()),
            Stage::Parked(parked) => Some(parked.trace),
            Stage::Again(_, trace) | Stage::Gone(trace) => Some(*trace),
        }
    }

    /// Whether the path names the file no more, and it is time to look for another name. Says so once.
    pub(super) fn is_to_be_sought(&mut self) -> bool {
        let is_lost = match &self.stage {
            Stage::Followed(pursuit) => pursuit.is_leaving(),
            Stage::Gone(_) => true,
            Stage::Fresh(_) | Stage::Again(..) | Stage::Parked(_) => false,
        };
        let was_sought = std::mem::replace(&mut self.is_sought, is_lost);
        is_lost && !was_sought
    }

    /// Goes on under another name of the file, which the own path does not name any more. Whether the record that was read last is there.
    pub(super) fn move_to(&mut self, disk: &Disk, names: &Names, source: Source) -> Result<bool> {
        let Some(trace) = self.trace() else { return Ok(false) };
        if look(disk, &self.path)?.is_some_and(|seen| seen.id == trace.file) {
            return Ok(false);
        }
        let start = trace.last.map_or(Start::Beginning, Start::After);
        match Pursuit::go_on_from(disk, names, source.path(), &trace, &start, self.line_bytes_max) {
            // It is to be opened behind what is acknowledged.
            _ if matches!(self.stage, Stage::Again(..)) => {}
            Ok(pursuit) => self.stage = Stage::Followed(Box::new(pursuit)),
            Err(error) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::Pruned) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.path = source.path().to_owned();
        self.source = source;
        self.is_sought = false;
        Ok(true)
    }

    fn reopen(&mut self, disk: &Disk, names: &Names, trace: Trace, position: Option<Position>) -> Result<Tapped> {
        let start = match (trace.last, position) {
            (Some(last), _) => Start::After(last),
            (None, Some(position)) => Start::Position(position),
            (None, None) => Start::Beginning,
        };
        match Pursuit::go_on_from(disk, names, &self.path, &trace, &start, self.line_bytes_max) {
            Ok(pursuit) => {
                self.stage = Stage::Followed(Box::new(pursuit));
                Ok(Tapped::Busy)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::Pruned) => {
                let pursuit = Pursuit::open_in(disk, names, &self.path, &Start::Beginning, self.line_bytes_max)?;
                self.stage = Stage::Followed(Box::new(pursuit));
                Ok(Tapped::Reset(FollowEvent::Replaced { resumed: false }))
            }
            Err(error) if error.is_missing() && position.is_some() => {
                self.stage = Stage::Gone(trace);
                Ok(Tapped::Followed(Followed::Event(FollowEvent::Deleted)))
            }
            Err(error) if error.is_missing() => Ok(Tapped::Idle),
            Err(error) => Err(error),
        }
    }

    /// Records that were read may be gone, and those that are not settled are to come again: reading goes back to what is acknowledged.
    pub(super) fn begin_again(&mut self, acknowledged: Option<Mark>) {
        if let Some(trace) = self.trace() {
            self.stage = Stage::Again(acknowledged, trace);
        }
    }

    fn open_again(&mut self, disk: &Disk, names: &Names, acknowledged: Option<Mark>) -> Result<Tapped> {
        let open = |start: &Start| Pursuit::open_in(disk, names, &self.path, start, self.line_bytes_max);
        let behind = acknowledged.map(|mark| open(&Start::After(mark)));
        let (pursuit, acknowledged) = match behind {
            Some(Ok(pursuit)) => (pursuit, acknowledged),
            Some(Err(error)) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::Pruned) => (open(&Start::Beginning)?, None),
            Some(Err(error)) if error.is_missing() => return Ok(Tapped::Idle),
            Some(Err(error)) => return Err(error),
            None => match open(&Start::Beginning) {
                Err(error) if error.is_missing() => return Ok(Tapped::Idle),
                pursuit => (pursuit?, None),
            },
        };
        self.stage = Stage::Followed(Box::new(pursuit));
        Ok(Tapped::Again(acknowledged))
    }

    /// Closes the file of a source that has nothing new. What was read of it is synced when it is saved.
    pub(super) fn park(&mut self, disk: &Disk) -> Result<()> {
        if let Stage::Followed(pursuit) = &self.stage
            && pursuit.pending() == 0
            && pursuit.is_at_rest()
        {
            let (trace, position) = (pursuit.trace(), pursuit.position());
            let looked = pursuit.looked();
            let seen = look(disk, &self.path)?;
            if seen.is_some_and(|seen| (seen.id, seen.len) == looked) {
                self.stage = Stage::Parked(Parked { trace, position, looked: seen.filter(Seen::is_settled) });
            }
        }
        Ok(())
    }

    /// Makes all that was read of the source durable, and says which file holds the record of the mark.
    ///
    /// After a sync has failed, a second one proves nothing: the system may have forgotten what it did not write. So the source stays where it is.
    pub(super) fn secure(&mut self, disk: &Disk, names: &Names, mark: Option<&Mark>) -> Result<Identity> {
        if let Some(failed) = &self.distrusted {
            return Err(failed.clone());
        }
        let segments = match Segments::open_in(disk, names, &self.path, true) {
            Ok(segments) => Some(segments),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error),
        };
        let newest = segments.as_ref().map(|segments| segments.newest()).transpose()?.map(|newest| newest.file);
        let current = match &self.stage {
            Stage::Followed(pursuit) => Some(Arc::clone(&pursuit.segment().file)),
            _ => newest,
        };
        // Rotated since it was parked: the file of the record is another one by now.
        let of_mark = match (&segments, mark, &self.stage) {
            (Some(segments), Some(mark), Stage::Parked(_)) if segments.numbers().any(|number| number == mark.start.segment) => {
                Some(segments.get(mark.start.segment)?.file)
            }
            _ => None,
        };
        self.left.extend(of_mark);
        self.left.extend(current);
        self.sync_left()?;
        if let Some(segments) = &segments {
            let found = mark.map_or_else(|| Identity::of(segments, &segments.newest()?), |mark| Identity::of_position(segments, mark.start))?;
            self.identity = Some(found);
        }
        let gone = || Error::new(ErrorKind::Changed, Attempt::SaveCheckpoint).on(&self.path).detail("its source is gone");
        self.identity.clone().or_else(|| self.identity_that_was(disk, mark)).ok_or_else(gone)
    }

    /// What is remembered of a file that was deleted before anything of it was saved.
    fn identity_that_was(&self, disk: &Disk, mark: Option<&Mark>) -> Option<Identity> {
        let trace = self.trace()?;
        let is_of_mark = |number: u64| mark.is_some_and(|mark| mark.start.segment == number);
        let fingerprint = trace.first_line.filter(|(number, _)| is_of_mark(*number)).map(|(_, fingerprint)| fingerprint);
        Some(Identity { path: identity::canonical(disk, &self.path).into(), file: trace.file, fingerprint })
    }

    /// Keeps a file that was read to its end until it is durable.
    fn leave(&mut self, file: Arc<File>) {
        self.left.push(file);
        if self.left.len() > LEFT_MAX {
            // That it failed is told when the source is saved.
            let _ = self.sync_left();
            self.left.clear();
        }
    }

    fn sync_left(&mut self) -> Result<()> {
        while let Some(file) = self.left.last() {
            if let Err(error) = file.sync_data() {
                let failed = Error::io(Attempt::Sync, &self.path, error).detail("its consumer does not advance");
                self.distrusted = Some(failed.clone());
                return Err(failed);
            }
            self.left.pop();
        }
        Ok(())
    }

    /// Reads the record of a mark again.
    pub(super) fn record(&self, disk: &Disk, names: &Names, mark: &Mark) -> Result<Option<Record<Payload>>> {
        let segments = Segments::open_in(disk, names, &self.path, true)?;
        let Started { segment, offset, .. } = match start::find(&segments, &Start::After(*mark), self.line_bytes_max) {
            Ok(started) => started,
            Err(error) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::Pruned) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = Backward::new(offset, self.line_bytes_max);
        let Some(span) = lines.next(&segment.file).map_err(|error| segment.failed(error))? else { return Ok(None) };
        let found = Found::of(span, lines.bytes());
        let is_it = found.is_record() && line::crc(&found, lines.bytes()) == mark.crc;
        Ok(is_it.then(|| Record { value: Payload::of(&found, lines.bytes()), mark: *mark }))
    }
}

fn look(disk: &Disk, path: &Path) -> Result<Option<Seen>> {
    let failed = |error| Error::io(Attempt::Follow, path, error);
    disk.look(path).map_err(failed)
}
