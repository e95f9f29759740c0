//! Prune: the oldest archived segments are deleted, whole, until what is to be kept begins.
//!
//! Neither the active segment nor the newest archived one is ever deleted, nor what a consumer has still to read. Under the exclusive lock of the
//! active segment, one after the other, the oldest first:
//!
//! 0. the directory is synced, for the deletions of an earlier prune that may have crashed;
//! 1. the segment's own lock is taken, which keeps it from being compressed; and its names are removed, of twins the compressed one first. Crash here: the segment is there still, or not;
//! 2. the directory is synced, before the next one is removed: so the journal never has a hole. Crash here: it begins with a later record.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    checkpoint::needed::{self, Needed},
    error::{Attempt, Error, ErrorKind, Result},
    format::{WINDOW_BYTES_DEFAULT, name::ArchivedName},
    lock::{self, LockWait},
    segment::{Segment, Segments},
    snapshot,
    sys::{Disk, File},
};

/// How long to wait for a segment that somebody has locked.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// The consumers whose records are kept until they are acknowledged.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumers {
    /// Those whose checkpoints are in these directories. One that cannot be read keeps everything: nothing is pruned then.
    In(Vec<PathBuf>),
    /// There are none.
    None,
}

/// What a prune keeps. It counts records, bytes or time, never files: of the segments, whole ones go, so what is kept is that much or more.
///
/// Each rule keeps the newest part of the journal; what any of them keeps stays. Without a rule everything stays.
///
/// ```
/// use untorn::{Consumers, Keep};
///
/// // The last million records and the last week, whichever is more, and whatever the consumers have not acknowledged.
/// let keep = Keep::new(Consumers::In(vec!["checkpoints".into()])).records(1_000_000).age(std::time::Duration::from_secs(7 * 86_400));
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is pruned before this is given to `prune`"]
pub struct Keep {
    consumers: Consumers,
    records: Option<u64>,
    bytes: Option<u64>,
    age: Option<Duration>,
    since: Option<u64>,
    snapshots: Vec<PathBuf>,
    is_dry_run: bool,
}

impl Keep {
    /// Everything, until rules are given. Whoever prunes says which consumers there are, so that none is forgotten.
    pub fn new(consumers: Consumers) -> Keep {
        Keep { consumers, records: None, bytes: None, age: None, since: None, snapshots: Vec::new(), is_dry_run: false }
    }

    /// Keeps at least the last so many records, counted by their numbers; those that were lost count too.
    pub fn records(mut self, n: u64) -> Keep {
        self.records = Some(n);
        self
    }

    /// Keeps at least the last so many bytes, as the files are on the disk.
    pub fn bytes(mut self, n: u64) -> Keep {
        self.bytes = Some(n);
        self
    }

    /// Keeps what was written so recently: a segment as long as its file was changed within this time.
    pub fn age(mut self, age: Duration) -> Keep {
        self.age = Some(age);
        self
    }

    /// Keeps the records from this number on.
    pub fn since(mut self, seq: u64) -> Keep {
        self.since = Some(seq);
        self
    }

    /// Keeps the records behind what a snapshot covers, and those behind what its previous generation covers: either can be recovered from. A
    /// snapshot that cannot be read keeps everything: nothing is pruned then. May be given several times.
    pub fn snapshot(mut self, path: impl AsRef<Path>) -> Keep {
        self.snapshots.push(path.as_ref().to_owned());
        self
    }

    /// Deletes nothing, and tells what would be deleted.
    pub fn dry_run(mut self) -> Keep {
        self.is_dry_run = true;
        self
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }
}

/// One archived segment that was deleted, or would be.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunedSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its number.
    pub segment: u64,
    /// How large the file was.
    pub bytes: u64,
    /// The number of its first sealed record.
    pub first_seq: Option<u64>,
    /// The number before that of the first sealed record behind it.
    pub last_seq: Option<u64>,
}

/// What a prune deleted, or would delete.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The oldest one first.
    pub segments: Vec<PrunedSegment>,
    /// How large they were together.
    pub bytes: u64,
    /// How many records they had, counted by their numbers; `None` in plain form, which has none.
    pub records: Option<u64>,
    /// The first number that is kept.
    pub first_seq: Option<u64>,
    /// The consumer, or the path of the snapshot, for which segments are kept that would be deleted otherwise.
    pub held_by: Option<String>,
    /// Nothing was deleted: it was only asked what would be.
    pub is_dry_run: bool,
}

/// Finds what is to be deleted.
///
/// # Errors
///
/// If a checkpoint directory cannot be read: what its consumers need is not known. [`NotSealed`](ErrorKind::NotSealed) for a rule that counts numbers
/// where there are none.
pub(crate) fn plan(segments: &Segments, keep: &Keep, line_bytes_max: u64) -> Result<Pruned> {
    let needed = first_needed(segments, keep, line_bytes_max)?;
    let mut pruned = Pruned { is_dry_run: keep.is_dry_run, ..Pruned::default() };
    let archived = segments.archived();
    let oldest = Look { segments, line_bytes_max };
    pruned.first_seq = oldest.first_seq_from(0)?;
    let journal = Journal { last_seq: oldest.last_seq()?, sizes: oldest.sizes()? };
    for (index, named) in archived.iter().enumerate().take(archived.len().saturating_sub(1)) {
        let behind = oldest.first_seq_from(index + 1)?;
        if !keep.lets_go(segments, *named, behind, journal.last_seq, journal.bytes_behind(index))? {
            break;
        }
        if let Some((consumer, from)) = &needed
            && named.number >= *from
        {
            pruned.held_by = Some(consumer.clone());
            break;
        }
        let bytes = journal.sizes.get(index).copied().unwrap_or_default();
        let last_seq = behind.and_then(|behind| behind.checked_sub(1));
        pruned.segments.push(PrunedSegment { path: segments.path_of(*named), segment: named.number, bytes, first_seq: pruned.first_seq, last_seq });
        pruned.records = pruned
            .records
            .or(behind.map(|_| 0))
            .zip(pruned.first_seq.zip(behind))
            .map(|(so_far, (first, behind))| so_far + behind.saturating_sub(first));
        pruned.bytes += bytes;
        pruned.first_seq = behind;
    }
    Ok(pruned)
}

impl Keep {
    /// Whether no rule keeps this segment. `behind` is the first number behind it.
    fn lets_go(&self, segments: &Segments, named: ArchivedName, behind: Option<u64>, last: Option<u64>, bytes_behind: u64) -> Result<bool> {
        let Keep { records, bytes, age, since, .. } = *self;
        if records.is_none() && bytes.is_none() && age.is_none() && since.is_none() {
            return Ok(false);
        }
        if (records.is_some() || since.is_some()) && last.is_none() {
            let error = Error::new(ErrorKind::NotSealed, Attempt::Prune).on(segments.path());
            return Err(error.detail("a plain journal has no numbers; keep bytes, or an age"));
        }
        let records_behind = behind.zip(last).map(|(behind, last)| (last + 1).saturating_sub(behind));
        let by_records = records.is_none_or(|keep| records_behind.is_some_and(|behind| behind >= keep));
        let by_bytes = bytes.is_none_or(|keep| bytes_behind >= keep);
        let by_number = since.is_none_or(|since| behind.is_some_and(|behind| behind <= since));
        let by_age = match age {
            None => true,
            Some(age) => unchanged_for(segments.disk(), &segments.path_of(named))?.is_some_and(|unchanged| unchanged >= age),
        };
        Ok(by_records && by_bytes && by_number && by_age)
    }
}

/// How long a file was not changed, where the system tells.
fn unchanged_for(disk: &Disk, path: &Path) -> Result<Option<Duration>> {
    let file = disk.open_read(path).map_err(|error| Error::io(Attempt::Prune, path, error))?;
    Ok(file.unchanged_for())
}

/// The first segment that a consumer or a snapshot needs, and whose it is; `None` if nobody needs anything.
fn first_needed(segments: &Segments, keep: &Keep, line_bytes_max: u64) -> Result<Option<(String, u64)>> {
    let mut needs = Vec::new();
    if let Consumers::In(dirs) = &keep.consumers {
        for dir in dirs {
            needs.extend(needed::needed(segments, dir, line_bytes_max)?.into_iter().map(|need| (need.consumer, need.from)));
        }
    }
    for path in &keep.snapshots {
        needs.push((path.display().to_string(), snapshot::needed(segments, path, line_bytes_max)?));
    }
    let from = |needed| match needed {
        Needed::Everything => 0,
        // The segment that has the record which proves the position is kept too.
        Needed::From { position, .. } => position.segment,
    };
    Ok(needs.into_iter().map(|(whose, needed)| (whose, from(needed))).min_by_key(|(_, from)| *from))
}

/// What the rules are held against.
struct Journal {
    last_seq: Option<u64>,
    /// Of the archived segments, and last of the active one.
    sizes: Vec<u64>,
}

impl Journal {
    fn bytes_behind(&self, index: usize) -> u64 {
        self.sizes.get(index + 1..).unwrap_or_default().iter().sum()
    }
}

/// Looks into segments by their places, the active one last.
struct Look<'a> {
    segments: &'a Segments,
    line_bytes_max: u64,
}

impl Look<'_> {
    fn all(&self) -> Vec<u64> {
        self.segments.numbers().collect()
    }

    fn seq(&self, number: u64, find: impl Fn(&Segment) -> io::Result<Option<u64>>) -> Result<Option<u64>> {
        let segment = self.segments.get(number)?;
        find(&segment).map_err(|error| segment.failed(error))
    }

    /// The first number in the segment of this place, or behind it.
    fn first_seq_from(&self, place: usize) -> Result<Option<u64>> {
        let first = |segment: &Segment| Ok(segment.stretch(self.line_bytes_max).first_sealed(WINDOW_BYTES_DEFAULT)?.map(|line| line.seal.seq));
        self.all().into_iter().skip(place).find_map(|number| self.seq(number, first).transpose()).transpose()
    }

    fn last_seq(&self) -> Result<Option<u64>> {
        let last = |segment: &Segment| Ok(segment.stretch(self.line_bytes_max).last_sealed(WINDOW_BYTES_DEFAULT)?.map(|line| line.seal.seq));
        self.all().into_iter().rev().find_map(|number| self.seq(number, last).transpose()).transpose()
    }

    fn sizes(&self) -> Result<Vec<u64>> {
        let size = |named: &ArchivedName| {
            let path = self.segments.path_of(*named);
            self.segments.disk().open_read(&path).and_then(|file| file.size()).map_err(|error| Error::io(Attempt::Prune, &path, error))
        };
        let archived: Result<Vec<u64>> = self.segments.archived().iter().map(size).collect();
        Ok(archived?.into_iter().chain(self.segments.active().map(Segment::len)).collect())
    }
}

/// Deletes what a plan says. Only whoever holds the lock of the active segment may call this.
pub(crate) fn delete(segments: &Segments, pruned: &Pruned) -> Result<()> {
    let disk = segments.disk();
    // A deletion of somebody who died may not be durable; were it undone after the next one, there would be a hole.
    segments.sync_dir().map_err(|error| Error::io(Attempt::Prune, segments.path(), error))?;
    for doomed in &pruned.segments {
        let failed = |error| Error::io(Attempt::Prune, &doomed.path, error);
        let _locked = lock(segments, doomed)?;
        for compressed in [true, false] {
            let path = segments.path_of(ArchivedName { number: doomed.segment, compressed });
            match disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        segments.sync_dir().map_err(failed)?;
        let path = segments.path().display();
        tracing::debug!(%path, segment = doomed.segment, bytes = doomed.bytes, first = doomed.first_seq, last = doomed.last_seq, "pruned a segment");
    }
    Ok(())
}

/// Takes the lock of a plain segment, which whoever compresses it holds: the compressed file must not come into its place after it was deleted.
fn lock(segments: &Segments, doomed: &PrunedSegment) -> Result<Option<File>> {
    let path = segments.path_of(ArchivedName { number: doomed.segment, compressed: false });
    let failed = |error| Error::io(Attempt::Prune, &path, error);
    let plain = match segments.disk().open_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        plain => plain.map_err(failed)?,
    };
    // A writer that has not seen yet that the file was rotated holds it for a moment.
    if lock::acquire(&plain, LockWait::For(LOCK_WAIT)).map_err(failed)? {
        return Ok(Some(plain));
    }
    Err(Error::new(ErrorKind::Locked, Attempt::Prune).on(&path).detail("another process compresses it"))
}
