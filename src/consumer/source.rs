//! One source of a consumer: followed, or parked.
//!
//! A source that has nothing new keeps no file open when others need theirs. Parked, it is looked at by asking the system what its path names and
//! how long that is; when this has changed, it is opened again behind the record that was read last, as a follower goes on in a file that may be
//! another one.

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
    sys::{Disk, File, FileId, names::Names},
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
    Again(Option<Mark>),
    Parked(Parked),
    /// There is no such file any more, and from where to read if it comes back.
    Gone(Trace),
}

#[derive(Debug)]
struct Parked {
    trace: Trace,
    position: Position,
    /// What the path named, and how long that was.
    looked: Option<(FileId, u64)>,
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
                let step = pursuit.step()?;
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
            Stage::Again(acknowledged) => {
                let acknowledged = *acknowledged;
                self.open_again(disk, names, acknowledged)
            }
            Stage::Parked(parked) => {
                if look(disk, &self.path)? == parked.looked {
                    return Ok(Tapped::Idle);
                }
                let (trace, position) = (parked.trace, parked.position);
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
        self.stage = Stage::Again(acknowledged);
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
            if look(disk, &self.path)? == Some(looked) {
                self.stage = Stage::Parked(Parked { trace, position, looked: Some(looked) });
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
        let trace = match &self.stage {
            Stage::Fresh(_) | Stage::Again(_) => return None,
            Stage::Followed(pursuit) => pursuit.trace(),
            Stage::Parked(parked) => parked.trace,
            Stage::Gone(trace) => *trace,
        };
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

/// What the path names, and how long that is.
fn look(disk: &Disk, path: &Path) -> Result<Option<(FileId, u64)>> {
    let failed = |error| Error::io(Attempt::Follow, path, error);
    disk.look(path).map_err(failed)
}
