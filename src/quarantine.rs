//! The side file that keeps every byte a repair takes out of a journal, so that the original can be rebuilt.
//!
//! It is a JSON Lines file for people and programs: per repair one line that names it, then one line per removed range and one per added LF.
//! The bytes are durable here before the journal is cut. A crash in between leaves them in both places; the next repair finds the same ranges
//! here, takes that repair up again under its id, and writes only what is missing.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    append::{self, Lines},
    edits::{Edits, Removed, Trace},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LF, LINE_BYTES_MAX_DEFAULT, QUARANTINE_NUL_RUN_BYTES, QUARANTINE_RANGE_BYTES_MAX, name::STAMP},
    rollback::{self, Rollback},
    scan::{self, Backward},
    seeded,
    sys::{Disk, File, FileKind},
};

/// What a repair is about to do to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) before_len: u64,
    pub(crate) edits: &'a Edits,
    pub(crate) trace: Trace,
}

impl Plan<'_> {
    fn after_len(&self) -> u64 {
        self.edits.len_after(self.before_len)
    }
}

/// One line of a quarantine file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    Range {
        repair: String,
        offset: u64,
        len: u64,
        crc: String,
        reason: String,
        #[serde(flatten)]
        bytes: Kept,
    },
    Added {
        repair: String,
        offset: u64,
        added: String,
    },
    Repair {
        repair: String,
        at: String,
        before_len: u64,
        after_len: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before_crc: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_crc: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end_crc: Option<String>,
    },
}

/// The removed bytes themselves, in the form that is easiest to read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kept {
    /// Valid UTF-8 without control characters.
    Text(String),
    Base64(String),
    /// Nothing but NUL bytes: the length says all.
    Nul(bool),
}

impl Kept {
    fn new(bytes: &[u8]) -> Kept {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(char::is_control) => Kept::Text(text.to_owned()),
            _ => Kept::Base64(STANDARD.encode(bytes)),
        }
    }
}

/// Makes the ranges of `source` that the plan removes durable beside it, and returns the id of the repair.
pub(crate) fn keep(disk: &Disk, path: &Path, mode: u32, source: &File, plan: &Plan<'_>) -> Result<String> {
    let mut quarantine = Quarantine::open(disk, path, mode, source)?;
    let last = Repairs::new(&quarantine.file, path, quarantine.end).next().transpose()?;
    let is_same = |last: &KeptRepair| last.is_of(plan, source).map_err(|error| error.on(path));
    let (id, present) = match last {
        Some(last) if is_same(&last)? => {
            quarantine.write_again(last.start)?;
            (last.id, last.entries)
        }
        last => {
            let now = jiff::Timestamp::now();
            let id = fresh_id(&now, last.map(|last| last.id).as_deref());
            let hex = |crc: u32| Some(format!("{crc:08x}"));
            let (before_crc, after_crc, end_crc) = match plan.trace {
                Trace::Whole { before, after } => (hex(before), hex(after), None),
                Trace::End(end) => (None, None, hex(end)),
            };
            quarantine.append(&Entry::Repair {
                repair: id.clone(),
                at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                before_len: plan.before_len,
                after_len: plan.after_len(),
                before_crc,
                after_crc,
                end_crc,
            })?;
            (id, Vec::new())
        }
    };
    // What a crash left of a line may say what it kept, and have lost it.
    let is_whole = |entry: &&KeptEntry| entry.bytes(&quarantine.file, path).is_ok();
    let present: HashSet<Known> = present.iter().filter(is_whole).map(|entry| entry.known).collect();
    let mut keep = |entry: Entry| match entry.known() {
        Some(known) if present.contains(&known) => Ok(()),
        _ => quarantine.append(&entry),
    };
    for range in &plan.edits.removed {
        keep_range(&id, source, range, &mut keep).map_err(|error| error.on(path))?;
    }
    for offset in &plan.edits.added {
        keep(Entry::Added { repair: id.clone(), offset: *offset, added: "\n".to_owned() })?;
    }
    if !seeded::bug("quarantine-not-synced") {
        quarantine.sync()?;
    }
    Ok(id)
}

/// Splits a range into lines: runs of NULs, and pieces of at most [`QUARANTINE_RANGE_BYTES_MAX`] between them.
fn keep_range(id: &str, source: &File, range: &Removed, keep: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
    let unreadable = |offset| move |error| Error::io(Attempt::Read, Path::new(""), error).at(offset);
    let at_most = |len| usize::try_from(len).unwrap_or(usize::MAX).min(QUARANTINE_RANGE_BYTES_MAX);
    let mut piece = vec![0; at_most(range.end - range.start)];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = at_most(range.end - offset);
        let room = piece.get_mut(..wanted).unwrap_or_default();
        let read = source.read_full_at(room, offset).map_err(unreadable(offset))?;
        let bytes = room.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::Changed, Attempt::Quarantine).at(offset).detail("the journal became shorter meanwhile"));
        }
        let nuls = bytes.iter().take_while(|byte| **byte == 0).count();
        let (len, kept) = if nuls >= QUARANTINE_NUL_RUN_BYTES || nuls == bytes.len() {
            (nuls, Kept::Nul(true))
        } else {
            let len = memchr::memmem::find(bytes.get(nuls..).unwrap_or_default(), &[0; QUARANTINE_NUL_RUN_BYTES]).map_or(read, |at| nuls + at);
            (len, Kept::new(bytes.get(..len).unwrap_or_default()))
        };
        let crc = format!("{:08x}", crc32fast::hash(bytes.get(..len).unwrap_or_default()));
        keep(Entry::Range { repair: id.to_owned(), offset, len: len as u64, crc, reason: range.reason.as_str().to_owned(), bytes: kept })?;
        offset += len as u64;
    }
    Ok(())
}

/// `20261121T040201Z`, with a number behind it if a repair of the same second has that id already.
fn fresh_id(now: &jiff::Timestamp, last: Option<&str>) -> String {
    let stamp = now.strftime(STAMP).to_string();
    let Some(rest) = last.and_then(|last| last.strip_prefix(&stamp)) else { return stamp };
    let number = rest.strip_prefix('-').and_then(|number| number.parse::<u64>().ok()).unwrap_or(1);
    format!("{stamp}-{}", number + 1)
}

/// What tells one kept range or added LF from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Range { offset: u64, len: u64, crc: u32 },
    Added { offset: u64 },
}

impl Known {
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Known::Range { offset, .. } | Known::Added { offset } => *offset,
        }
    }
}

impl Entry {
    fn repair(&self) -> &str {
        match self {
            Entry::Repair { repair, .. } | Entry::Range { repair, .. } | Entry::Added { repair, .. } => repair,
        }
    }

    /// Nothing for a line that names a repair, and for one that says what cannot be.
    fn known(&self) -> Option<Known> {
        match self {
            Entry::Range { offset, len, crc, .. } => Some(Known::Range { offset: *offset, len: *len, crc: parse_crc(crc)? }),
            Entry::Added { offset, .. } => Some(Known::Added { offset: *offset }),
            Entry::Repair { .. } => None,
        }
    }
}

fn parse_crc(hex: &str) -> Option<u32> {
    u32::from_str_radix(hex, 16).ok()
}

/// One line that keeps a range or names an LF, and where it stands in the quarantine file.
#[derive(Clone, Debug)]
pub(crate) struct KeptEntry {
    pub(crate) known: Known,
    start: u64,
    end: u64,
}

impl KeptEntry {
    /// The bytes that were taken out, proved by their CRC; none for an added LF.
    pub(crate) fn bytes(&self, quarantine: &File, path: &Path) -> Result<Vec<u8>> {
        let failed = |error| Error::io(Attempt::Read, path, error).at(self.start);
        let corrupt = |why| Error::new(ErrorKind::Corrupt, Attempt::Read).on(path).at(self.start).detail(why);
        let Known::Range { len, crc, .. } = self.known else { return Ok(Vec::new()) };
        let mut line = vec![0; usize::try_from(self.end - self.start).unwrap_or_default()];
        quarantine.read_full_at(&mut line, self.start).map_err(failed)?;
        let Ok(Entry::Range { bytes, .. }) = serde_json::from_slice(&line) else { return Err(corrupt("the line keeps no range any more")) };
        let len = usize::try_from(len).ok().filter(|len| *len <= QUARANTINE_RANGE_BYTES_MAX);
        let len = len.ok_or_else(|| corrupt("the range is longer than one line can keep"))?;
        let bytes = match bytes {
            Kept::Text(text) => text.into_bytes(),
            Kept::Base64(text) => STANDARD.decode(text).map_err(|_| corrupt("the bytes are no base64"))?,
            Kept::Nul(_) => vec![0; len],
        };
        if bytes.len() != len || crc32fast::hash(&bytes) != crc {
            return Err(corrupt("the kept bytes do not have the length and the CRC that the line says"));
        }
        Ok(bytes)
    }
}

/// One repair, as a quarantine file tells of it.
#[derive(Clone, Debug)]
pub(crate) struct KeptRepair {
    pub(crate) id: String,
    /// Where its first line starts.
    start: u64,
    pub(crate) before_len: u64,
    pub(crate) after_len: u64,
    /// Nothing if the line does not say what it should.
    pub(crate) trace: Option<Trace>,
    /// In the order in which they were written.
    pub(crate) entries: Vec<KeptEntry>,
}

impl KeptRepair {
    /// Whether this is the same repair, stopped before the journal was changed: every range kept so far is one that the plan would keep, cut into the
    /// same pieces, and `source` still has its bytes. Other pieces of the same bytes are another repair: no two ranges of one may overlap.
    fn is_of(&self, plan: &Plan<'_>, source: &File) -> Result<bool> {
        let is_same = (self.before_len, self.after_len, self.trace) == (plan.before_len, plan.after_len(), Some(plan.trace));
        if !is_same {
            return Ok(false);
        }
        let Edits { removed, added } = plan.edits;
        let mut planned: HashSet<Known> = added.iter().map(|offset| Known::Added { offset: *offset }).collect();
        for range in removed {
            keep_range(&self.id, source, range, &mut |entry| {
                planned.extend(entry.known());
                Ok(())
            })?;
        }
        Ok(self.entries.iter().all(|entry| planned.contains(&entry.known)))
    }
}

/// The repairs of a quarantine file, newest first. Lines that are none of ours, such as the fenced fragment of an earlier try, are passed over.
pub(crate) struct Repairs<'a> {
    file: &'a File,
    path: &'a Path,
    lines: Backward,
}

impl<'a> Repairs<'a> {
    /// Starts at `end`, a boundary.
    pub(crate) fn new(file: &'a File, path: &'a Path, end: u64) -> Repairs<'a> {
        Repairs { file, path, lines: Backward::new(end, LINE_BYTES_MAX_DEFAULT) }
    }

    fn step(&mut self) -> io::Result<Option<KeptRepair>> {
        let mut entries: Vec<(String, KeptEntry)> = Vec::new();
        while let Some(span) = self.lines.next(self.file)? {
            let Ok(entry) = serde_json::from_slice::<Entry>(self.lines.bytes()) else { continue };
            if let Some(known) = entry.known() {
                entries.push((entry.repair().to_owned(), KeptEntry { known, start: span.start, end: span.end }));
                continue;
            }
            let Entry::Repair { repair, before_len, after_len, before_crc, after_crc, end_crc, .. } = entry else { continue };
            let crc = |hex: Option<String>| hex.as_deref().and_then(parse_crc);
            let whole = crc(before_crc).zip(crc(after_crc)).map(|(before, after)| Trace::Whole { before, after });
            let trace = whole.or_else(|| crc(end_crc).map(Trace::End));
            let entries = entries.into_iter().rev().filter(|(id, _)| *id == repair).map(|(_, entry)| entry).collect();
            return Ok(Some(KeptRepair { id: repair, start: span.start, before_len, after_len, trace, entries }));
        }
        Ok(None)
    }
}

impl Iterator for Repairs<'_> {
    type Item = Result<KeptRepair>;

    fn next(&mut self) -> Option<Result<KeptRepair>> {
        self.step().map_err(|error| Error::io(Attempt::Quarantine, self.path, error)).transpose()
    }
}

/// A quarantine file, open for appending under the journal's lock.
struct Quarantine<'a> {
    disk: &'a Disk,
    path: PathBuf,
    file: File,
    end: u64,
    /// Whole lines that are still to be appended, and where each ends.
    unwritten: (Vec<u8>, Vec<usize>),
}

/// Lines are appended when so many bytes of them have come together.
const UNWRITTEN_BYTES: usize = 1 << 20;

impl Quarantine<'_> {
    fn open<'a>(disk: &'a Disk, path: &Path, mode: u32, journal: &File) -> Result<Quarantine<'a>> {
        let failed = |error| Error::io(Attempt::Quarantine, path, error);
        let file = match disk.open_append(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let file = disk.create_append(path, mode).map_err(failed)?;
                // What one user's repair creates may be closed to the journal's own writers, and without it they open no journal with a torn end. Crash
                // here: it is empty, and stays closed to them until whoever created it removes it.
                if let Err(error) = file.own_like(journal) {
                    tracing::debug!(path = %path.display(), %error, "the quarantine could not get the journal's owner and mode");
                }
                file
            }
            Err(error) => return Err(failed(error)),
        };
        if file.kind().map_err(failed)? != FileKind::Regular {
            return Err(Error::new(ErrorKind::NotAFile, Attempt::Quarantine).on(path).detail("it is no regular file"));
        }
        // Whoever created the file may have died before its name was durable.
        disk.open_dir(path.parent().unwrap_or(Path::new(""))).and_then(|dir| dir.sync()).map_err(failed)?;
        let mut end = file.size().map_err(failed)?;
        if !scan::is_boundary(&file, end).map_err(failed)? {
            rollback::fence(&file, false).map_err(failed)?;
            end += 1;
        }
        Ok(Quarantine { disk, path: path.to_owned(), file, end, unwritten: Default::default() })
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Attempt::Quarantine, &self.path, error)
    }

    /// Writes what is there from `start` on once more, the same bytes in the same place.
    ///
    /// The sync of the earlier try may have failed, and then the kernel takes the lines for clean though they are not on the disk. Writing makes
    /// them dirty again, so that the next sync proves something.
    fn write_again(&self, start: u64) -> Result<()> {
        let failed = |error| self.failed(error);
        let file = self.disk.open_rewrite(&self.path).map_err(failed)?;
        let mut piece = vec![0; 64 << 10];
        let mut offset = start;
        while offset < self.end {
            let read = file.read_at(&mut piece, offset).map_err(failed)?;
            let written = file.write_at(piece.get(..read).unwrap_or_default(), offset).map_err(failed)?;
            if written == 0 {
                return Err(failed(std::io::ErrorKind::WriteZero.into()));
            }
            offset += written as u64;
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry) -> Result<()> {
        let (bytes, ends) = &mut self.unwritten;
        serde_json::to_writer(&mut *bytes, entry).map_err(|error| Error::json(ErrorKind::Encode, Attempt::Quarantine, error).on(&self.path))?;
        bytes.push(LF);
        ends.push(bytes.len());
        if bytes.len() < UNWRITTEN_BYTES { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<()> {
        let (bytes, ends) = std::mem::take(&mut self.unwritten);
        let lines = Lines { bytes: &bytes, ends: &ends };
        match append::append(&self.file, &lines, self.end, Rollback::Cut) {
            Ok(landed) => {
                self.end = landed.start + bytes.len() as u64;
                Ok(())
            }
            Err(failed) => Err(self.failed(failed.cause).at(self.end)),
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.write()?;
        self.file.sync_data().map_err(|error| self.failed(error))
    }
}
