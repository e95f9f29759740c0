//! The side file that keeps every byte a repair takes out of a journal, so that the original can be rebuilt.
//!
//! It is a JSON Lines file for people and programs: per repair one line that names it, then one line per removed range and one per added LF.
//! The bytes are durable here before the journal is cut. A crash in between leaves them in both places; the next repair finds the same ranges
//! here, takes that repair up again under its id, and writes only what is missing.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    append::{self, Lines},
    error::{Attempt, Error, ErrorKind, Result},
    format::{LF, QUARANTINE_RANGE_BYTES_MAX, verdict::Code},
    rollback::{self, Rollback},
    scan::{self, Backward},
    sys::{Disk, File, FileKind},
};

/// What a repair is about to do to a file.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) before_len: u64,
    pub(crate) after_len: u64,
    /// Ranges to be removed, in order.
    pub(crate) removed: Vec<Removed>,
    /// Offsets, before the repair, at which an LF is to be added.
    pub(crate) added: Vec<u64>,
}

/// A range to be removed, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) reason: Code,
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

/// A run of NULs at least this long gets a line of its own.
const NUL_RUN_BYTES: usize = 64;

/// Makes the ranges of `source` that the plan removes durable beside it, and returns the id of the repair.
pub(crate) fn keep(disk: &Disk, path: &Path, mode: u32, source: &File, plan: &Plan) -> Result<String> {
    let mut quarantine = Quarantine::open(disk, path, mode)?;
    let (id, mut present) = match quarantine.last_repair()? {
        Some(last) if last.is_of(plan) => {
            quarantine.write_again(last.start)?;
            (last.id, last.entries)
        }
        last => {
            let now = jiff::Timestamp::now();
            let id = fresh_id(&now, last.map(|last| last.id).as_deref());
            quarantine.append(&Entry::Repair {
                repair: id.clone(),
                at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                before_len: plan.before_len,
                after_len: plan.after_len,
                before_crc: None,
                after_crc: None,
            })?;
            (id, Vec::new())
        }
    };
    let mut keep = |entry: Entry| match present.iter().position(|known| *known == entry) {
        Some(at) => {
            present.swap_remove(at);
            Ok(())
        }
        None => quarantine.append(&entry),
    };
    for range in &plan.removed {
        keep_range(&id, source, range, &mut keep).map_err(|error| error.on(path))?;
    }
    for offset in &plan.added {
        keep(Entry::Added { repair: id.clone(), offset: *offset, added: "\n".to_owned() })?;
    }
    quarantine.sync()?;
    Ok(id)
}

/// Splits a range into lines: runs of NULs, and pieces of at most [`QUARANTINE_RANGE_BYTES_MAX`] between them.
fn keep_range(id: &str, source: &File, range: &Removed, keep: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
    let unreadable = |offset| move |error| Error::io(Attempt::Read, Path::new(""), error).at(offset);
    let mut piece = vec![0; QUARANTINE_RANGE_BYTES_MAX];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(piece.len());
        let room = piece.get_mut(..wanted).unwrap_or_default();
        let read = source.read_full_at(room, offset).map_err(unreadable(offset))?;
        let bytes = room.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::Changed, Attempt::Quarantine).at(offset).detail("the journal became shorter meanwhile"));
        }
        let nuls = bytes.iter().take_while(|byte| **byte == 0).count();
        let (len, kept) = if nuls >= NUL_RUN_BYTES || nuls == bytes.len() {
            (nuls, Kept::Nul(true))
        } else {
            let len = memchr::memmem::find(bytes.get(nuls..).unwrap_or_default(), &[0; NUL_RUN_BYTES]).map_or(read, |at| nuls + at);
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
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let Some(rest) = last.and_then(|last| last.strip_prefix(&stamp)) else { return stamp };
    let number = rest.strip_prefix('-').and_then(|number| number.parse::<u64>().ok()).unwrap_or(1);
    format!("{stamp}-{}", number + 1)
}

impl Entry {
    pub(crate) fn repair(&self) -> &str {
        match self {
            Entry::Repair { repair, .. } | Entry::Range { repair, .. } | Entry::Added { repair, .. } => repair,
        }
    }
}

/// The newest repair in a quarantine file.
struct LastRepair {
    id: String,
    /// Where its first line starts.
    start: u64,
    lens: (u64, u64),
    entries: Vec<Entry>,
}

impl LastRepair {
    /// Whether this is the same repair, stopped before the journal was changed: same lengths, and every range kept so far is one of its own.
    fn is_of(&self, plan: &Plan) -> bool {
        let planned = |entry: &Entry| match entry {
            Entry::Range { offset, len, .. } => plan.removed.iter().any(|range| range.start <= *offset && offset + len <= range.end),
            Entry::Added { offset, .. } => plan.added.contains(offset),
            Entry::Repair { .. } => false,
        };
        self.lens == (plan.before_len, plan.after_len) && self.entries.iter().all(planned)
    }
}

/// A quarantine file, open for appending under the journal's lock.
struct Quarantine<'a> {
    disk: &'a Disk,
    path: PathBuf,
    file: File,
    end: u64,
}

impl Quarantine<'_> {
    fn open<'a>(disk: &'a Disk, path: &Path, mode: u32) -> Result<Quarantine<'a>> {
        let failed = |error| Error::io(Attempt::Quarantine, path, error);
        let file = match disk.open_append(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => disk.create_append(path, mode).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        if file.kind().map_err(failed)? != FileKind::Regular {
            return Err(Error::new(ErrorKind::NotAFile, Attempt::Quarantine).on(path).detail("it is no regular file"));
        }
        // Whoever created the file may have died before its name was durable.
        disk.open_dir(path.parent().unwrap_or(Path::new(""))).and_then(|dir| dir.sync()).map_err(failed)?;
        let mut end = file.size().map_err(failed)?;
        if !scan::is_boundary(&file, end).map_err(failed)? {
            rollback::fence(&file, b"").map_err(failed)?;
            end += 1;
        }
        Ok(Quarantine { disk, path: path.to_owned(), file, end })
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Attempt::Quarantine, &self.path, error)
    }

    /// Reads backwards to the line that names the newest repair.
    fn last_repair(&self) -> Result<Option<LastRepair>> {
        let mut lines = Backward::new(self.end, crate::format::LINE_BYTES_MAX_DEFAULT);
        let mut entries = Vec::new();
        while let Some(span) = lines.next(&self.file).map_err(|error| self.failed(error))? {
            match serde_json::from_slice(lines.bytes()) {
                Ok(Entry::Repair { repair, before_len, after_len, .. }) => {
                    entries.retain(|entry: &Entry| entry.repair() == repair);
                    return Ok(Some(LastRepair { id: repair, start: span.start, lens: (before_len, after_len), entries }));
                }
                Ok(entry) => entries.push(entry),
                // A fragment of an earlier try, fenced.
                Err(_) => {}
            }
        }
        Ok(None)
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
        let mut line = serde_json::to_vec(entry).map_err(|error| Error::json(ErrorKind::Encode, Attempt::Quarantine, error).on(&self.path))?;
        line.push(LF);
        let lines = Lines { bytes: &line, ends: &[line.len()] };
        match append::append(&self.file, &lines, self.end, Rollback::Cut) {
            Ok(landed) => {
                self.end = landed.start + line.len() as u64;
                Ok(())
            }
            Err(failed) => Err(self.failed(failed.cause).at(self.end)),
        }
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.failed(error))
    }
}
