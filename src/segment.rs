//! The files of one journal: its archived segments in the order of their numbers, and the active one behind them.
//!
//! Nothing here takes a lock, so a rotation or an archive may happen at any moment. The active file is opened first and the directory is listed
//! after it; if the path then still names the opened file, the list has everything before it. A crash inside `archive` leaves records both in
//! the newest archived segment and at the head of the next; a segment starts behind those, and its offsets are counted from there.

use std::{io, path::Path, sync::Arc};

use crate::{
    active::{self, Place, REPLACED_MAX},
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        LINE_BYTES_MAX_DEFAULT, WINDOW_BYTES_DEFAULT,
        name::{self, ArchivedName},
    },
    position::Position,
    seek::Stretch,
    sys::{Disk, File, FileId, FileKind},
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
        Position::new(self.number, offset.saturating_sub(self.start))
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
    place: Place,
    /// Ascending, each number once.
    archived: Vec<ArchivedName>,
    /// `None` after a crash in the middle of a rotation; the archived segments are the whole journal then.
    active: Option<Segment>,
    /// Whether archived segments are read too.
    whole: bool,
}

impl Segments {
    /// Opens the active segment and lists the others. `whole` says whether those are to be read.
    pub(crate) fn open(disk: &Disk, path: &Path, whole: bool) -> Result<Segments> {
        let place = Place::find(disk, path, Attempt::OpenToRead)?;
        let failed = |error| Error::io(Attempt::OpenToRead, &place.path, error);
        for _ in 0..REPLACED_MAX {
            let (file, missing) = match disk.open_read(&place.path) {
                Ok(file) => (Some(file), None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (None, Some(error)),
                Err(error) => return Err(failed(error)),
            };
            let id = file.as_ref().map(File::id).transpose().map_err(failed)?;
            let archived = archived(&place, id)?;
            if place.dir.id_of(&place.name).map_err(failed)? != id {
                continue;
            }
            if let Some(missing) = missing.filter(|_| archived.is_empty() || !whole) {
                return Err(failed(missing));
            }
            let mut segments = Segments { place, archived, active: None, whole };
            segments.active = file.map(|file| segments.active_segment(file)).transpose()?;
            return Ok(segments);
        }
        Err(active::replaced_again(Attempt::OpenToRead, path))
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
        for archived in self.archived.iter().rev().filter(|archived| !archived.compressed) {
            let name = name::archived(&self.place.name, archived.number);
            let failed = |error| Error::io(Attempt::List, &self.place.path, error).detail("its directory");
            if self.place.dir.id_of(&name).map_err(failed)? == Some(id) {
                return Ok(Some(archived.number));
            }
        }
        Ok(None)
    }

    /// What the path of the active segment names now.
    pub(crate) fn named(&self) -> Result<Option<FileId>> {
        self.place.dir.id_of(&self.place.name).map_err(|error| Error::io(Attempt::Read, &self.place.path, error))
    }

    /// The error for a segment that is no longer there.
    pub(crate) fn pruned(&self, number: u64) -> Error {
        Error::new(ErrorKind::Pruned, Attempt::Read).on(&self.place.path).detail(format!("segment {number} is no longer kept"))
    }

    fn active_segment(&self, file: File) -> Result<Segment> {
        let path: Arc<Path> = self.place.path.as_path().into();
        let end = file.size().map_err(|error| Error::io(Attempt::OpenToRead, &path, error))?;
        let mut active = Segment { number: self.active_number(), path, file: Arc::new(file), start: 0, end };
        // The active segment can be read alone even if the one before it cannot be read; then duplicates are not told.
        let newest = self.archived.last().filter(|newest| self.whole || !newest.compressed);
        active.start = self.own_start(&active, newest)?;
        Ok(active)
    }

    fn open_archived(&self, named: ArchivedName) -> Result<Segment> {
        let path = self.place.path.with_file_name(name::archived(&self.place.name, named.number));
        if named.compressed {
            let path = name::compressed(&path);
            let cause = io::Error::new(io::ErrorKind::Unsupported, "compressed segments cannot be read yet");
            return Err(Error::io(Attempt::OpenToRead, &path, cause));
        }
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.pruned(named.number),
            _ => Error::io(Attempt::OpenToRead, &path, error),
        };
        let file = self.place.disk.open_read(&path).map_err(failed)?;
        let end = file.size().map_err(failed)?;
        Ok(Segment { number: named.number, path: path.as_path().into(), file: Arc::new(file), start: 0, end })
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
        match lines.first_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)? {
            Some(first) if first.seal.seq <= last.seal.seq => {}
            _ => return Ok(0),
        }
        let copy = lines.first_from(last.seal.seq).map_err(failed)?;
        Ok(copy.filter(|copy| copy.is(last.seal.seq, last.seal.crc)).map_or(0, |copy| copy.span.end))
    }
}

/// The archived segments in the journal's directory, ascending; of a plain and a compressed twin the plain one. A name that stands for the
/// active file is none of them: a rotation is half done.
pub(crate) fn archived(place: &Place, active: Option<FileId>) -> Result<Vec<ArchivedName>> {
    let failed = |error| Error::io(Attempt::List, &place.path, error).detail("its directory");
    let mut archived = Vec::new();
    for name in place.dir.names().map_err(failed)? {
        let Some(found) = name::parse_archived(&place.name, &name) else { continue };
        let id = place.dir.id_of(&name).map_err(failed)?;
        let is_file = place.disk.kind(&place.path.with_file_name(&name)).map_err(failed)? == Some(FileKind::Regular);
        if is_file && id != active {
            archived.push(found);
        }
    }
    archived.sort();
    archived.dedup_by_key(|found| found.number);
    Ok(archived)
}
