//! Opening: find the file, take the lock, look at the end, settle it, and know the next number.
//!
//! It costs the same whatever the size of the journal: the window at the end is verified, and what follows the last sealed line is read.

use std::{io, path::Path, sync::Arc, time::Instant};

use super::{
    Form, Unproved, Writer,
    options::{Format, Options},
};
use crate::{
    active::{self, Active, Place, REPLACED_MAX},
    damage::Damage,
    encode::{Batch, Encoded, Unit},
    error::{Attempt, Error, ErrorKind, Result},
    format::{
        WINDOW_BYTES_DEFAULT,
        verdict::{Code, Verdict},
    },
    judge::Found,
    lock::{Lock, LockWait},
    neighbours::Neighbours,
    position::Origin,
    rotate::{self, Age},
    scan::{self, Scanner},
    segment::{Segment, Segments},
    swap,
    sys::File,
    tail::{Numbers, TailRepair},
};

impl Options {
    /// Opens the journal with the lock scope that the options say, or else `scope`.
    pub(crate) fn open_as(&self, path: &Path, scope: Lock) -> Result<Writer> {
        let (scope, wait) = self.lock_for(scope);
        if let Some(Err(error)) = &self.first_record {
            return Err(error.clone().on(path));
        }
        let active = open_locked(self, path, wait)?;
        let mut writer = Writer {
            // That is about opening: if the file vanishes later, the journal goes on in a new one.
            options: Options { must_exist: false, ..self.clone() },
            quarantine: self.quarantine_of(&active.place.path),
            scope,
            wait,
            origin: Origin::default(),
            is_taken_up: false,
            age: None,
            rotation_failure: None,
            form: Form::Sealed,
            known: None,
            seen_end: None,
            written: 0,
            synced: 0,
            is_dirty: false,
            last_sync: Instant::now(),
            last_check: Instant::now(),
            poison: None,
            unproved: Unproved::default(),
            given: 0,
            tail_repair: TailRepair::default(),
            single: Batch::new(),
            encoded: Encoded::default(),
            active,
        };
        writer.take_up()?;
        writer.release();
        Ok(writer)
    }
}

impl Writer {
    /// Gets to know a file that was just opened and locked: its form, its end, its numbers. Writes the first record, if it has none.
    pub(super) fn take_up(&mut self) -> Result<()> {
        self.is_taken_up = false;
        self.known = None;
        self.seen_end = None;
        self.written = 0;
        self.synced = 0;
        self.unproved.clear();
        self.tail_repair = TailRepair::default();
        let segments = Segments::beside(&self.active)?;
        self.origin = segments.active_origin();
        let mut survey = Survey::of(&self.active, &segments, &self.options)?;
        self.form = survey.form;
        self.look_again(None)?;
        if self.tail_repair.terminated() {
            // Now that it has its LF, the last record can say what form the file has.
            survey = Survey::of(&self.active, &segments, &self.options)?;
            self.form = survey.form;
            let repair = std::mem::take(&mut self.tail_repair);
            self.look_again(None)?;
            self.tail_repair = repair;
        }
        self.tail_repair.damage = survey.damage;
        self.start_counting();
        let is_timed = self.options.rotate_after.is_some() && self.end() > self.origin.position(0);
        self.age = is_timed.then(|| Age::of(&self.active.file));
        match self.options.first_record.clone() {
            Some(Ok(record)) if !self.has_record()? => {
                self.write_locked(&record, &[Unit::Record]).1?;
                self.settle_durability(self.options.durability)?;
            }
            _ => {}
        }
        self.is_taken_up = true;
        Ok(())
    }

    /// Whether the journal has a record.
    fn has_record(&self) -> Result<bool> {
        Ok(self.origin.segment > 1 || self.has_own_record()?)
    }

    /// Whether the active segment has a record. It is the first line, or else looked for until it is found.
    pub(super) fn has_own_record(&self) -> Result<bool> {
        let mut walk = Walk::default();
        let end = self.known.map_or(self.synced, |known| known.end);
        let walked = walk.go_on(&self.active.file, self.origin.start, end, self.options.line_bytes_max, Until::FirstRecord);
        walked.map_err(|error| Error::io(Attempt::OpenToAppend, self.path(), error))?;
        Ok(walk.record)
    }
}

/// Opens the file and takes its lock, and makes sure that the path still names it.
pub(super) fn open_locked(options: &Options, path: &Path, wait: LockWait) -> Result<Active> {
    for _ in 0..REPLACED_MAX {
        let place = Arc::new(Place::find(&options.disk, path, Attempt::OpenToAppend)?);
        let opened = match Active::open(&place)? {
            None if rotate::is_half_done(&place)? => rotate::end(&place)?,
            None if options.must_exist => {
                return Err(Error::new(ErrorKind::Io, Attempt::OpenToAppend).on(path).detail("there is no such journal"));
            }
            None => Active::create(&place, options.mode)?,
            opened => opened,
        };
        // Somebody else created it in between.
        let Some(active) = opened else { continue };
        // Between opening and locking, a repair or a rotation may have put another file in this one's place.
        if active.lock_while_named(wait, Attempt::OpenToAppend)? && active.is_named()? {
            clear_leftovers(&active)?;
            return Ok(active);
        }
    }
    Err(active::replaced_again(Attempt::OpenToAppend, path))
}

/// A second name may be the backup of a repair that crashed before it was done, or be left from a swap that crashed before the file's first name was
/// durable. One that is neither does no harm here, nor does one that stays.
fn clear_leftovers(active: &Active) -> Result<()> {
    let links = active.file.links().map_err(|error| Error::io(Attempt::OpenToAppend, &active.place.path, error))?;
    if links > 1 {
        active.sync_dir()?;
        if let Err(error) = swap::clear_leftovers(Attempt::OpenToAppend, active) {
            tracing::warn!(%error, "what an interrupted repair left could not be removed");
        }
    }
    Ok(())
}

/// What the file holds before anything is changed.
struct Survey {
    form: Form,
    damage: Damage,
}

impl Survey {
    fn of(active: &Active, segments: &Segments, options: &Options) -> Result<Survey> {
        let failed = |error| Error::io(Attempt::OpenToAppend, &active.place.path, error);
        let file = &active.file;
        let size = file.size().map_err(failed)?;
        if size == 0 {
            // Whoever created the file may have died before its name was durable.
            active.sync_dir()?;
        }
        if let Some(compression) = file.compression().map_err(failed)? {
            return Err(Error::new(ErrorKind::Compressed, Attempt::OpenToAppend).on(&active.place.path).detail(compression.refusal()));
        }
        let boundary = scan::boundary_before(file, size).map_err(failed)?;
        let from = scan::boundary_before(file, boundary.saturating_sub(options.window_bytes)).map_err(failed)?;
        let mut walk = Walk::default();
        if from > 0 {
            // The first whole line is looked for in one window too, so that opening a file of nothing but damage takes no longer.
            walk.go_on(file, 0, from.min(options.window_bytes), options.line_bytes_max, Until::FirstRecord).map_err(failed)?;
        }
        let mut window = Walk { origin: segments.active_origin(), ..Walk::default() };
        window.go_on(file, from, boundary, options.line_bytes_max, Until::End).map_err(failed)?;
        if let Some(offset) = window.newer {
            let error = Error::new(ErrorKind::NewerFormat, Attempt::OpenToAppend).on(&active.place.path).at(offset);
            return Err(error.detail("a line is of a newer format than this version knows"));
        }
        let form = match options.format {
            Format::Sealed => Form::Sealed,
            Format::Plain => Form::Plain,
            Format::Auto if walk.sealed || window.sealed => Form::Sealed,
            Format::Auto if walk.record || window.record => Form::Plain,
            // Nothing whole says what the file was: it may be a sealed journal whose first record failed.
            Format::Auto => match newest_archived(segments)? {
                Some(archived) if !is_sealed(&archived, options).map_err(|error| archived.failed(error))? => Form::Plain,
                _ => Form::Sealed,
            },
        };
        Ok(Survey { form, damage: window.damage })
    }
}

enum Until {
    FirstRecord,
    End,
}

/// Lines looked at one after the other.
#[derive(Default)]
struct Walk {
    origin: Origin,
    record: bool,
    /// Some line has the shape of a sealed one.
    sealed: bool,
    /// Where the first line of a newer format starts.
    newer: Option<u64>,
    damage: Damage,
    neighbours: Neighbours,
}

impl Walk {
    fn go_on(&mut self, file: &File, from: u64, to: u64, line_bytes_max: u64, until: Until) -> io::Result<()> {
        let mut lines = Scanner::new(from, to, line_bytes_max);
        while let Some(span) = lines.next(file)? {
            let found = Found::of(span, lines.bytes());
            self.neighbours.learn(&found, lines.bytes());
            match found.verdict {
                Verdict::Corrupt(Code::NewerFormat) => self.newer = self.newer.or(Some(span.start)),
                Verdict::Corrupt(code) => {
                    self.sealed |= code == Code::CrcMismatch;
                    let code = self.neighbours.code(code, &found, lines.bytes());
                    self.damage.add(self.origin.position(span.start), span.len(), code);
                }
                verdict => self.sealed |= verdict == Verdict::Sealed,
            }
            self.record |= found.is_record();
            if found.is_record() && matches!(until, Until::FirstRecord) {
                break;
            }
        }
        Ok(())
    }
}

/// The archived segment that an active one without records goes on from.
fn newest_archived(segments: &Segments) -> Result<Option<Segment>> {
    segments.before(segments.active_number())
}

fn is_sealed(archived: &Segment, options: &Options) -> io::Result<bool> {
    let lines = archived.stretch(options.line_bytes_max);
    Ok(archived.len() == 0 || lines.last_sealed(WINDOW_BYTES_DEFAULT)?.is_some())
}

/// The number that the last archived record has; 0 if there is none.
pub(super) fn last_archived_seq(active: &Active, options: &Options) -> Result<u64> {
    let Some(archived) = newest_archived(&Segments::beside(active)?)? else { return Ok(0) };
    let numbers = Numbers::find(&archived.file, 0..archived.end, options.line_bytes_max).map_err(|error| archived.failed(error))?;
    Ok(numbers.next(|| Ok(0))? - 1)
}
