//! The files of one journal: its archived segments in the order of their numbers, and the active one behind them.
//!
//! Nothing here takes a lock, so a rotation or an archive may happen at any moment. The active file is opened first and the directory is listed
//! after it; if the path then still names the opened file, the list has everything before it. A crash inside `archive` leaves records both in
//! the newest archived segment and at the head of the next; a segment starts behind those, and its offsets are counted from there.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    active::{self, Active, Place, REPLACED_MAX},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LINE_BYTES_MAX_DEFAULT, WINDOW_BYTES_DEFAULT, name::ArchivedName},
    position::{Origin, Position},
    seek::Stretch,
    sys::{Disk, File, FileId, Unreadable, names::Names},
};

/// One open segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: Arc<Path>,
    pub(crate) file: Arc<File>,
    /// The first byte that is not also in the segment before: a boundary, 0 but after a crash inside `archive`.
    pub(crate) start: u64,
    /// Where the file ended when it was opened. Never less than `start`.
    pub(crate) end: u64,
}

impl Segment {
    /// The position of a byte of the file.
    pub(crate) fn position(&self, offset: u64) -> Position {
        self.origin().position(offset)
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { segment: self.number, start: self.start }
    }

    /// Bytes that belong to this segment alone.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn stretch(&self, line_bytes_max: u64) -> Stretch<'_> {
        Stretch { file: &self.file, start: self.start, end: self.end, line_bytes_max }
    }

    pub(crate) fn failed(&self, error: io::Error) -> Error {
        Error::io(Attempt::Read, &self.path, error)
    }
}

/// The segments of one journal, as they were at one moment.
#[derive(Debug)]
pub(crate) struct Segments {
    place: Arc<Place>,
    /// Ascending, each number once.
    archived: Vec<ArchivedName>,
    /// `None` after a crash in the middle of a rotation; the archived segments are the whole journal then.
    active: Option<Segment>,
    /// Whether archived segments are read too.
    whole: bool,
    /// The archived segments that were opened last, so that one that had to be decompressed is not decompressed again for the one behind it.
    opened: Mutex<Vec<Segment>>,
}

/// How many open segments are kept: the one that is read and the one before it.
const OPENED_MAX: usize = 2;

impl Segments {
    /// Opens the active segment and lists the others. `whole` says whether those are to be read.
    pub(crate) fn open(disk: &Disk, path: &Path, whole: bool) -> Result<Segments> {
        Segments::open_in(disk, &Names::default(), path, whole)
    }

    /// The same, for one of many journals in a directory: its listing may be remembered.
    pub(crate) fn open_in(disk: &Disk, names: &Names, path: &Path, whole: bool) -> Result<Segments> {
        let place = Arc::new(Place::find(disk, path, Attempt::OpenToRead)?);
        let failed = |error| Error::io(Attempt::OpenToRead, &place.path, error);
        for _ in 0..REPLACED_MAX {
            let (file, missing) = match disk.open_read(&place.path) {
                Ok(file) => (Some(file), None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (None, Some(error)),
                Err(error) => return Err(failed(error)),
            };
            let id = file.as_ref().map(File::id).transpose().map_err(failed)?;
            let archived = place.archived_in(names, id)?;
            if place.dir.id_of(&place.name).map_err(failed)? != id {
                continue;
            }
            if let Some(missing) = missing.filter(|_| archived.is_empty() || !whole) {
                return Err(failed(missing));
            }
            let mut segments = Segments { place, archived, active: None, whole, opened: Mutex::default() };
            segments.active =
                file.map(|file| segments.with_own_start(segment(segments.active_number(), segments.path().to_owned(), file)?)).transpose()?;
            return Ok(segments);
        }
        Err(active::replaced_again(Attempt::OpenToRead, path))
    }

    /// Those of a journal whose active segment is open already, and locked.
    pub(crate) fn beside(active: &Active) -> Result<Segments> {
        let place = Arc::clone(&active.place);
        let end = active.file.size().map_err(|error| Error::io(Attempt::OpenToAppend, &place.path, error))?;
        let archived = place.archived(Some(active.id))?;
        let mut segments = Segments { archived, place, active: None, whole: false, opened: Mutex::default() };
        let segment = Segment { number: segments.active_number(), path: segments.path().into(), file: Arc::clone(&active.file), start: 0, end };
        segments.active = Some(segments.with_own_start(segment)?);
        segments.whole = true;
        Ok(segments)
    }

    #[cfg(feature = "zstd")]
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn sync_dir(&self) -> io::Result<()> {
        self.place.dir.sync()
    }

    /// The active segment; `None` in the middle of a rotation.
    pub(crate) fn active(&self) -> Option<&Segment> {
        self.active.as_ref()
    }

    /// The archived segments, ascending.
    pub(crate) fn archived(&self) -> &[ArchivedName] {
        &self.archived
    }

    /// The path of one of them.
    pub(crate) fn path_of(&self, archived: ArchivedName) -> PathBuf {
        self.place.path_of(archived)
    }

    /// Where the active segment's positions are counted from.
    pub(crate) fn active_origin(&self) -> Origin {
        self.active.as_ref().map_or(Origin { segment: self.active_number(), start: 0 }, Segment::origin)
    }

    /// The number of the active segment, whether it exists or not: one more than that of the newest archived one.
    pub(crate) fn active_number(&self) -> u64 {
        self.archived.last().map_or(1, |newest| newest.number.saturating_add(1))
    }

    /// The numbers of the segments that are read, ascending. There is at least one.
    pub(crate) fn numbers(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        let archived = self.archived.iter().map(|archived| archived.number).filter(|_| self.whole);
        archived.chain(self.active.as_ref().map(|active| active.number))
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.place.disk
    }

    /// The path of the active segment, a link followed.
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    pub(crate) fn oldest(&self) -> Result<Segment> {
        self.get(self.numbers().next().unwrap_or(self.active_number()))
    }

    pub(crate) fn newest(&self) -> Result<Segment> {
        self.get(self.numbers().next_back().unwrap_or(self.active_number()))
    }

    /// The segment that follows on the one of this number.
    pub(crate) fn after(&self, number: u64) -> Result<Option<Segment>> {
        let found = self.numbers().find(|found| *found > number);
        found.map(|number| self.get(number)).transpose()
    }

    /// The segment that the one of this number follows on.
    pub(crate) fn before(&self, number: u64) -> Result<Option<Segment>> {
        let found = self.numbers().rfind(|found| *found < number);
        found.map(|number| self.get(number)).transpose()
    }

    /// Opens one of [`numbers`](Segments::numbers).
    pub(crate) fn get(&self, number: u64) -> Result<Segment> {
        if let Some(active) = self.active.as_ref().filter(|active| active.number == number) {
            return Ok(active.clone());
        }
        let at = self.archived.partition_point(|archived| archived.number < number);
        let Some(named) = self.archived.get(at).filter(|archived| archived.number == number) else {
            return Err(self.pruned(number));
        };
        let mut segment = self.open_archived(*named)?;
        let before = at.checked_sub(1).and_then(|before| self.archived.get(before));
        segment.start = self.own_start(&segment, before)?;
        Ok(segment)
    }

    /// The number of the archived segment that is this file.
    pub(crate) fn number_of(&self, id: FileId) -> Result<Option<u64>> {
        for file in self.archived_files() {
            let (number, found) = file?;
            if found == Some(id) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Which files the archived segments are that are not compressed, the newest first.
    pub(crate) fn archived_files(&self) -> impl Iterator<Item = Result<(u64, Option<FileId>)>> {
        self.archived.iter().rev().filter(|archived| !archived.compressed).map(|archived| {
            let path = self.place.path_of(*archived);
            let failed = |error| Error::io(Attempt::List, &self.place.path, error).detail("its directory");
            let id = path.file_name().map(|name| self.place.dir.id_of(name)).transpose().map_err(failed)?.flatten();
            Ok((archived.number, id))
        })
    }

    /// What the path of the active segment names now.
    pub(crate) fn named(&self) -> Result<Option<FileId>> {
        self.place.dir.id_of(&self.place.name).map_err(|error| Error::io(Attempt::Read, &self.place.path, error))
    }

    /// The error for a segment that is no longer there.
    pub(crate) fn pruned(&self, number: u64) -> Error {
        Error::new(ErrorKind::Pruned, Attempt::Read).on(&self.place.path).detail(format!("segment {number} is no longer kept"))
    }

    fn with_own_start(&self, mut active: Segment) -> Result<Segment> {
        // The active segment can be read alone even if the one before it cannot be read; then duplicates are not told.
        let newest = self.archived.last().filter(|newest| self.whole || !newest.compressed);
        active.start = self.own_start(&active, newest)?;
        Ok(active)
    }

    fn open_archived(&self, named: ArchivedName) -> Result<Segment> {
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = opened().iter().find(|segment| segment.number == named.number) {
            return Ok(segment.clone());
        }
        let plain = self.place.path_of(ArchivedName { compressed: false, ..named });
        let compressed = self.place.path_of(ArchivedName { compressed: true, ..named });
        // Archiving may have put one in the place of the other since the directory was listed.
        let paths = if named.compressed { [compressed, plain] } else { [plain, compressed] };
        for path in paths {
            match self.place.disk.open_read(&path) {
                Ok(file) => {
                    let segment = segment(named.number, path, file)?;
                    let mut opened = opened();
                    opened.push(segment.clone());
                    let excess = opened.len().saturating_sub(OPENED_MAX);
                    opened.drain(..excess);
                    return Ok(segment);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(Attempt::OpenToRead, &path, error)),
            }
        }
        Err(self.pruned(named.number))
    }

    /// Just past the records at the head of a segment that are also at the end of the one before.
    ///
    /// `archive` copies a range that ends with a sealed line, so that line is looked for: nothing else can be told apart from equal records.
    fn own_start(&self, segment: &Segment, before: Option<&ArchivedName>) -> Result<u64> {
        let Some(before) = before else { return Ok(0) };
        let before = self.open_archived(*before)?;
        let last = before.stretch(LINE_BYTES_MAX_DEFAULT).last_sealed(WINDOW_BYTES_DEFAULT).map_err(|error| before.failed(error))?;
        let Some(last) = last else { return Ok(0) };
        let failed = |error| segment.failed(error);
        let lines = segment.stretch(LINE_BYTES_MAX_DEFAULT);
        // The copy was taken from the first byte on, so the line is at the same place, whatever the lines before it are.
        let same = lines.sealed_at(last.span.start).map_err(failed)?;
        if let Some(same) = same.filter(|same| same.is(last.seal.seq, last.seal.crc)) {
            return Ok(same.span.end);
        }
        // It is elsewhere if one of the two was repaired since.
        match lines.first_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)? {
            Some(first) if first.seal.seq <= last.seal.seq => {}
            _ => return Ok(0),
        }
        let copy = lines.first_from(last.seal.seq).map_err(failed)?;
        Ok(copy.filter(|copy| copy.is(last.seal.seq, last.seal.crc)).map_or(0, |copy| copy.span.end))
    }
}

/// What an open file holds, decompressed if need be.
pub(crate) fn content_of(path: &Path, file: File) -> Result<File> {
    file.decompressed().map_err(|unreadable| unreadable_error(path, unreadable))
}

/// Takes an open file for a whole segment; of a compressed one, what it holds.
fn segment(number: u64, path: PathBuf, file: File) -> Result<Segment> {
    let file = content_of(&path, file)?;
    let end = file.size().map_err(|error| Error::io(Attempt::OpenToRead, &path, error))?;
    Ok(Segment { number, path: path.as_path().into(), file: Arc::new(file), start: 0, end })
}

fn unreadable_error(path: &Path, unreadable: Unreadable) -> Error {
    match unreadable {
        Unreadable::Io(error) => Error::io(Attempt::OpenToRead, path, error),
        #[cfg(any(feature = "zstd", feature = "gzip"))]
        Unreadable::Temporary { dir, error } => {
            let error = Error::io(Attempt::OpenToRead, path, error);
            error.detail(format!("its content goes into a temporary file in `{}`, or where TMPDIR says", dir.display()))
        }
        #[cfg(not(all(feature = "zstd", feature = "gzip")))]
        Unreadable::Unsupported(compression) => Error::new(ErrorKind::Compressed, Attempt::OpenToRead).on(path).detail(compression.unsupported()),
    }
}
