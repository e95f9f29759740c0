//! The way through the files of one journal: segment after segment to the active file, and on when the path names another one.
//!
//! A file is left only when nothing more can come from it: after the path was seen to name another file, the end of the old one is looked at once
//! more, and what is unfinished there is given as what it is. Then the directory is listed again. If the old file is among the archived segments,
//! reading goes on in the segment behind it; if not, behind the last record that was read, wherever that is by now; and if that is nowhere, with the
//! first record that was not in a segment before. Each of these is told. Lines of a plain file are often alike, so there its first line decides too.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    event::{FollowEvent, Followed, Payload},
    live::{Live, Look},
};
use crate::{
    checkpoint::Restored,
    error::{Attempt, Error, ErrorKind, Result},
    fingerprint::Fingerprint,
    format::verdict::{Code, Verdict},
    judge::Found,
    position::{Mark, Position},
    reader::{
        Record, Start, line,
        start::{self, Started},
    },
    scan::Backward,
    segment::{Segment, Segments},
    sys::{Disk, FileId, FileKind, names::Names},
    verify::Finding,
    words,
};

/// What one step, which reads a bounded number of bytes, has come to.
#[derive(Debug)]
pub(crate) enum Step {
    Given(Followed),
    /// Nothing to give yet, but there is more to do.
    Busy,
    /// Nothing to do until something happens.
    Idle,
}

/// How the path stands to the file being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reading,
    /// The path names another file. The old one's end is looked at once more.
    Leaving,
    /// The path names nothing, which was told.
    Deleted,
}

/// What is remembered of a file, to go on in another one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    pub(crate) file: FileId,
    /// The last record met.
    pub(crate) last: Option<Mark>,
    /// The number of the segment that held it, and how that begins. Only of a plain one, where nothing else tells equal lines apart.
    pub(crate) first_line: Option<(u64, Fingerprint)>,
}

#[derive(Debug)]
pub(crate) struct Pursuit {
    disk: Disk,
    /// As it was given: a link is followed each time.
    path: PathBuf,
    /// Where the path leads, if it is a link.
    target: Option<PathBuf>,
    segments: Segments,
    live: Live,
    /// The file being read.
    id: FileId,
    stage: Stage,
    restored: Option<Restored>,
    /// The last record met: where reading goes on in another file.
    last: Option<Mark>,
    /// See [`Trace`].
    first_line: Option<(u64, Fingerprint)>,
    /// Records with a smaller number are not wanted.
    from_seq: Option<u64>,
    events: VecDeque<FollowEvent>,
    /// How often reading began anew without the last record.
    resets: u64,
    line_bytes_max: u64,
}

impl Pursuit {
    pub(crate) fn open(disk: &Disk, path: &Path, start: &Start, line_bytes_max: u64) -> Result<Pursuit> {
        Pursuit::open_in(disk, &Names::default(), path, start, line_bytes_max)
    }

    /// The same, for one of many journals in a directory: its listing may be remembered.
    pub(crate) fn open_in(disk: &Disk, names: &Names, path: &Path, start: &Start, line_bytes_max: u64) -> Result<Pursuit> {
        let segments = Segments::open_in(disk, names, path, true)?;
        let Started { segment, offset, restored, withheld } = start::find(&segments, start, line_bytes_max)?;
        let from_seq = match start {
            Start::Seq(seq) => Some(*seq),
            _ => None,
        };
        let last = match start {
            Start::After(mark) => Some(*mark),
            _ => record_before(&segment, offset, line_bytes_max)?,
        };
        let id = id_of(&segment)?;
        let first_line = match last {
            Some(Mark { seq: None, start, .. }) if start.segment == segment.number => first_line_of(&segment)?,
            _ => None,
        };
        let mut live = live(segment, offset, line_bytes_max)?;
        if let Some(seal) = withheld {
            live.walk.withhold(seal);
        }
        let target = target(disk, path);
        let (disk, path, events) = (disk.clone(), path.to_owned(), VecDeque::new());
        let (stage, resets) = (Stage::Reading, 0);
        Ok(Pursuit { disk, path, target, segments, live, id, stage, restored, last, first_line, from_seq, events, resets, line_bytes_max })
    }

    /// Goes on where another pursuit has ended.
    ///
    /// # Errors
    ///
    /// [`Changed`](ErrorKind::Changed) or [`Pruned`](ErrorKind::Pruned) if its last record is not there.
    pub(crate) fn go_on_from(disk: &Disk, names: &Names, path: &Path, trace: &Trace, start: &Start, line_bytes_max: u64) -> Result<Pursuit> {
        let mut pursuit = Pursuit::open_in(disk, names, path, start, line_bytes_max)?;
        if !begins_as(&pursuit.segments, trace.first_line)? {
            return Err(Error::new(ErrorKind::Changed, Attempt::Follow).on(path).detail("it begins with another line"));
        }
        pursuit.first_line = trace.first_line;
        Ok(pursuit)
    }

    pub(crate) fn trace(&self) -> Trace {
        Trace { file: self.id, last: self.last, first_line: self.first_line }
    }

    /// Just past the last line met.
    pub(crate) fn position(&self) -> Position {
        self.live.segment().position(self.live.walk.offset)
    }

    /// The last record met, whether it was given or stood before the place where reading began.
    pub(crate) fn last(&self) -> Option<Mark> {
        self.last
    }

    /// How often reading began anew where the last record was not found: records that were given may come again.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// Whether the file being read is the one that the path named when it was last looked at, and all of it is told.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.stage == Stage::Reading && self.events.is_empty() && !self.live.is_final() && !self.is_archived()
    }

    /// The file being read, and how long it was when it was last looked at.
    pub(crate) fn looked(&self) -> (FileId, u64) {
        (self.id, self.live.seen())
    }

    /// Whether the path did not name the file being read when it was last looked at.
    pub(crate) fn is_leaving(&self) -> bool {
        self.stage != Stage::Reading
    }

    /// The segment being read.
    pub(crate) fn segment(&self) -> &Segment {
        self.live.segment()
    }

    /// How a checkpoint was taken up.
    pub(crate) fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The journal's path, with a link followed.
    pub(crate) fn path(&self) -> &Path {
        self.segments.path()
    }

    /// Unfinished bytes that were seen behind the last line.
    pub(crate) fn pending(&self) -> u64 {
        self.live.pending()
    }

    /// Does a little. After an error the same is tried again.
    pub(crate) fn step(&mut self) -> Result<Step> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Step::Given(Followed::Event(event)));
        }
        let offset = self.live.walk.offset;
        if let Some(found) = self.live.next().map_err(|error| self.segment().failed(error).at(offset))? {
            self.learn_first_line(&found)?;
            return Ok(self.take(&found));
        }
        if self.live.is_final() {
            return self.go_on();
        }
        match self.live.look().map_err(|error| self.segment().failed(error))? {
            Look::Grown | Look::Searching => Ok(Step::Busy),
            Look::Cut => self.truncated(),
            Look::Same if self.is_archived() || self.stage == Stage::Leaving => {
                // What is unfinished here stays so: nobody appends to this file any more.
                self.live.finish();
                Ok(Step::Busy)
            }
            Look::Same => self.check_path(),
        }
    }

    /// Whether another segment is known to follow.
    fn is_archived(&self) -> bool {
        self.segments.numbers().next_back().is_some_and(|newest| newest > self.segment().number)
    }

    /// Remembers how a plain file begins, once it has a record.
    fn learn_first_line(&mut self, found: &Found) -> Result<()> {
        let segment = self.live.segment();
        if found.verdict == Verdict::Plain && self.first_line.is_none_or(|(number, _)| number != segment.number) {
            self.first_line = first_line_of(segment)?;
        }
        Ok(())
    }

    fn take(&mut self, found: &Found) -> Step {
        let bytes = self.live.walk.lines.bytes();
        let segment = self.live.segment();
        let code = match found.verdict {
            Verdict::Sealed | Verdict::Plain => {
                let start = segment.position(found.span.start);
                let seq = found.seal.map(|seal| seal.seq);
                let mark = Mark { seq, start, end: segment.position(found.end()), crc: line::crc(found, bytes) };
                if let Some(torn) = found.torn_behind() {
                    let event = FollowEvent::Corrupt(finding(segment, None, Code::TornTail, torn.start, torn.end - torn.start));
                    self.events.push_back(event);
                }
                self.last = Some(mark);
                if self.from_seq.is_some_and(|from| seq.is_some_and(|seq| seq < from)) {
                    return Step::Busy;
                }
                self.from_seq = None;
                return Step::Given(Followed::Record(Record { value: Payload::of(found, bytes), mark }));
            }
            Verdict::Blank => return Step::Busy,
            Verdict::Torn if found.seal.is_some() => Code::OpenBatch,
            Verdict::Torn => Code::TornTail,
            Verdict::Corrupt(code) => code,
        };
        Step::Given(Followed::Event(FollowEvent::Corrupt(finding(segment, self.live.walk.number, code, found.span.start, found.span.len()))))
    }

    /// Looks whether the path still names the file being read.
    fn check_path(&mut self) -> Result<Step> {
        let is_elsewhere = self.target.is_some() && target(&self.disk, &self.path) != self.target;
        let named = match self.disk.look(&self.path) {
            Ok(Some(seen)) => Some(seen.id),
            _ if is_elsewhere || self.stage == Stage::Deleted => self.disk_id()?,
            // The directory that was opened stays what it is, wherever it is by now.
            _ => self.segments.named()?,
        };
        if named == Some(self.id) {
            self.stage = Stage::Reading;
            return Ok(Step::Idle);
        }
        if named.is_some() {
            self.stage = Stage::Leaving;
            return Ok(Step::Busy);
        }
        if self.stage == Stage::Deleted || self.is_half_rotated()? {
            return Ok(Step::Idle);
        }
        self.stage = Stage::Deleted;
        Ok(Step::Given(Followed::Event(FollowEvent::Deleted)))
    }

    /// What the path names now, with links followed and the directory found anew.
    fn disk_id(&self) -> Result<Option<FileId>> {
        match self.disk.open_read(&self.path) {
            Ok(file) => file.id().map(Some).map_err(|error| self.segment().failed(error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.segment().failed(error)),
        }
    }

    /// Whether the file being read is an archived segment already, while the new active one is not there yet.
    fn is_half_rotated(&self) -> Result<bool> {
        match Segments::open(&self.disk, &self.path, true) {
            Ok(segments) => Ok(segments.number_of(self.id)?.is_some()),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on behind a file that was read to its end.
    fn go_on(&mut self) -> Result<Step> {
        if self.stage != Stage::Leaving {
            return self.next_segment();
        }
        let segments = match Segments::open(&self.disk, &self.path, true) {
            Ok(segments) => segments,
            // It is gone again already. Whatever comes next is another file too.
            Err(error) if error.is_missing() => return Ok(Step::Idle),
            Err(error) => return Err(error),
        };
        if let Some(number) = segments.number_of(self.id)? {
            let Some(next) = segments.after(number)? else { return Ok(Step::Idle) };
            self.events.push_back(FollowEvent::Rotated { segment: next.number });
            let offset = next.start;
            return self.enter(segments, next, offset);
        }
        let last = self.last.filter(|last| last.end.segment >= self.segment().number);
        let (segment, offset, resumed) = self.resume_in(&segments, last)?;
        self.events.push_back(FollowEvent::Replaced { resumed });
        self.enter(segments, segment, offset)
    }

    /// Goes on in the segment behind an archived one.
    fn next_segment(&mut self) -> Result<Step> {
        let number = self.segment().number;
        let next = match self.segments.after(number) {
            // Pruned, compressed or archived further since the directory was listed.
            Err(error) if error.kind() == ErrorKind::Pruned => {
                self.segments = Segments::open(&self.disk, &self.path, true)?;
                self.segments.after(number)?
            }
            next => next?,
        };
        let Some(next) = next else {
            // All that was archived is gone, and the numbers of segments began anew.
            let segments = Segments::open(&self.disk, &self.path, true)?;
            let (segment, offset, resumed) = self.resume_in(&segments, self.last)?;
            self.events.push_back(FollowEvent::Replaced { resumed });
            return self.enter(segments, segment, offset);
        };
        if next.number > number.saturating_add(1) {
            self.events.push_back(FollowEvent::Pruned { segment: number.saturating_add(1) });
        }
        let offset = next.start;
        self.id = id_of(&next)?;
        self.live = live(next, offset, self.line_bytes_max)?;
        Ok(Step::Busy)
    }

    /// The file does not hold what was read of it any more.
    fn truncated(&mut self) -> Result<Step> {
        let read = self.live.walk.offset;
        let segments = match Segments::open(&self.disk, &self.path, true) {
            Ok(segments) => segments,
            Err(error) if error.is_missing() => {
                // Cut after it was deleted. It is read on from its new end, where a stranger may still append.
                let segment = Segment { start: 0, ..self.segment().clone() };
                self.resets += 1;
                self.first_line = None;
                self.events.push_back(FollowEvent::Truncated { read, from: 0 });
                self.live = live(segment, 0, self.line_bytes_max)?;
                return Ok(Step::Busy);
            }
            Err(error) => return Err(error),
        };
        if segments.named()? != Some(self.id) && segments.number_of(self.id)?.is_none() {
            // The path names another file, and this one is none of the journal's any more.
            self.events.push_back(FollowEvent::Truncated { read, from: 0 });
            let (segment, offset, resumed) = self.resume_in(&segments, self.last)?;
            self.events.push_back(FollowEvent::Replaced { resumed });
            return self.enter(segments, segment, offset);
        }
        let (segment, offset, _) = self.resume_in(&segments, self.last)?;
        self.events.push_back(FollowEvent::Truncated { read, from: offset });
        self.enter(segments, segment, offset)
    }

    /// Where reading goes on in files that may be others: behind the last record, if that is there, else where the segment being read began. The
    /// last value says which.
    fn resume_in(&mut self, segments: &Segments, last: Option<Mark>) -> Result<(Segment, u64, bool)> {
        if let Some(last) = last {
            match start::find(segments, &Start::After(last), self.line_bytes_max) {
                Ok(Started { segment, offset, .. }) if begins_as(segments, self.first_line)? => return Ok((segment, offset, true)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Changed | ErrorKind::Pruned) => {}
                Err(error) => return Err(error),
            }
        }
        let number = self.segment().number;
        let segment = match segments.numbers().find(|found| *found >= number) {
            Some(number) => segments.get(number)?,
            None => segments.oldest()?,
        };
        let offset = segment.start;
        self.first_line = None;
        // Of a file that gave no record, none can come again.
        self.resets += u64::from(last.is_some());
        Ok((segment, offset, last.is_none()))
    }

    fn enter(&mut self, segments: Segments, segment: Segment, offset: u64) -> Result<Step> {
        self.id = id_of(&segment)?;
        self.live = live(segment, offset, self.line_bytes_max)?;
        self.target = target(&self.disk, &self.path);
        self.segments = segments;
        self.stage = Stage::Reading;
        Ok(Step::Busy)
    }
}

fn first_line_of(segment: &Segment) -> Result<Option<(u64, Fingerprint)>> {
    let found = Fingerprint::of(&segment.file).map_err(|error| segment.failed(error))?;
    Ok(found.map(|found| (segment.number, found)))
}

/// Whether the segment of that number begins with that line, as far as it is known and there.
fn begins_as(segments: &Segments, first_line: Option<(u64, Fingerprint)>) -> Result<bool> {
    let Some((number, known)) = first_line else { return Ok(true) };
    if !segments.numbers().any(|found| found == number) {
        return Ok(true);
    }
    Ok(first_line_of(&segments.get(number)?)? == Some((number, known)))
}

fn id_of(segment: &Segment) -> Result<FileId> {
    segment.file.id().map_err(|error| segment.failed(error))
}

/// Where a link leads; `None` if the path is none, or cannot be told.
fn target(disk: &Disk, path: &Path) -> Option<PathBuf> {
    let is_link = matches!(disk.kind(path), Ok(Some(FileKind::Link)));
    is_link.then(|| disk.read_link(path).ok()).flatten()
}

fn live(segment: Segment, offset: u64, line_bytes_max: u64) -> Result<Live> {
    let path = Arc::clone(&segment.path);
    Live::new(segment, offset, line_bytes_max).map_err(|error| Error::io(Attempt::Read, &path, error))
}

/// The last record in front of a boundary, if it is near.
fn record_before(segment: &Segment, offset: u64, line_bytes_max: u64) -> Result<Option<Mark>> {
    let mut lines = Backward::new(offset, line_bytes_max);
    while let Some(span) = lines.next(&segment.file).map_err(|error| segment.failed(error))?.filter(|span| span.start >= segment.start) {
        let found = Found::of(span, lines.bytes());
        if found.is_record() {
            let seq = found.seal.map(|seal| seal.seq);
            let (start, end) = (segment.position(span.start), segment.position(span.end));
            return Ok(Some(Mark { seq, start, end, crc: line::crc(&found, lines.bytes()) }));
        }
        if offset - span.start > crate::format::WINDOW_BYTES_DEFAULT {
            break;
        }
    }
    Ok(None)
}

fn finding(segment: &Segment, number: Option<u64>, code: Code, offset: u64, len: u64) -> Finding {
    let message = match code {
        Code::OpenBatch => "a record of an unfinished batch withheld".to_owned(),
        _ => format!("{} skipped", words::count(len, "byte")),
    };
    let (line, path) = (number.unwrap_or(0), Arc::clone(&segment.path));
    Finding { code, path, segment: segment.number, line, column: 1, offset, len, count: 1, message, salvageable: 0 }
}
