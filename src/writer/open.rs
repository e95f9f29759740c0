//! Opening: find the file, take the lock, look at the end, settle it, and know the next number.
//!
//! It costs the same whatever the size of the journal: the window at the end is verified, and what follows the last sealed line is read.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Form, Writer,
    options::{Format, Options},
};
use crate::{
    active::{Active, Place},
    append::Stand,
    encode::{Batch, Encoded},
    error::{Attempt, Error, ErrorKind, Result},
    format::{name, verdict::Judged},
    lock::{Lock, LockWait},
    scan::{self, Scanner},
    sys::File,
    tail,
};

pub(super) fn open(options: &Options, path: &Path, scope: Lock) -> Result<Writer> {
    let (scope, wait) = options.lock_for(scope);
    let first_record = options.first_record.clone().transpose()?;
    let active = open_locked(options, path, wait)?;
    let mut survey = Survey::of(&active, options)?;
    let segment = survey.archived.newest + 1;
    let quarantine = options.quarantine_of(&active.place.path);
    let mut writer = Writer {
        options: options.clone(),
        quarantine,
        scope,
        wait,
        segment,
        form: survey.form,
        known: None,
        seen_end: None,
        synced: 0,
        is_dirty: false,
        last_sync: Instant::now(),
        last_check: Instant::now(),
        poison: None,
        tail_repair: Default::default(),
        damage: std::mem::take(&mut survey.damage),
        single: Batch::new(),
        encoded: Encoded::default(),
        active,
    };
    writer.look_again(None)?;
    if writer.tail_repair.terminated() {
        // Now that it has its LF, the last record can say what form the file has.
        survey = Survey::of(&writer.active, options)?;
        writer.form = survey.form;
        writer.look_again(None)?;
    }
    writer.start_counting();
    if let Some(record) = first_record.filter(|_| !survey.has_record) {
        writer.commit_locked(&record, Stand::Each)?;
        writer.settle_durability(options.durability)?;
    }
    writer.release();
    Ok(writer)
}

/// Opens the file and takes its lock, and makes sure that the path still names it.
pub(super) fn open_locked(options: &Options, path: &Path, wait: LockWait) -> Result<Active> {
    loop {
        let place = Place::find(&options.disk, path)?;
        let active = Active::open(place, options.mode)?;
        active.lock(wait, Attempt::OpenToAppend)?;
        // Between opening and locking, a repair or a rotation may have put another file in this one's place.
        if active.is_named()? {
            return Ok(active);
        }
    }
}

/// What the file holds before anything is changed.
struct Survey {
    form: Form,
    has_record: bool,
    archived: Archived,
    damage: Vec<(u64, u64)>,
}

impl Survey {
    fn of(active: &Active, options: &Options) -> Result<Survey> {
        let failed = |error| Error::io(Attempt::OpenToAppend, &active.place.path, error);
        let file = &active.file;
        let size = file.size().map_err(failed)?;
        if size == 0 {
            // Whoever created the file may have died before its name was durable.
            active.sync_dir()?;
        }
        let boundary = scan::boundary_before(file, size).map_err(failed)?;
        let archived = Archived::find(active)?;
        let from = scan::boundary_before(file, boundary.saturating_sub(options.window_bytes)).map_err(failed)?;
        let window = Walk::over(file, from, boundary, options.line_bytes_max, false).map_err(failed)?;
        if let Some(offset) = window.newer {
            let error = Error::new(ErrorKind::NewerFormat, Attempt::OpenToAppend).on(&active.place.path).at(offset);
            return Err(error.detail("a line is of a newer format than this version knows"));
        }
        let start = match from {
            0 => None,
            // The first whole line is looked for in one window too, so that opening a file of nothing but damage takes no longer.
            _ => Some(Walk::over(file, 0, from.min(options.window_bytes), options.line_bytes_max, true).map_err(failed)?),
        };
        let any = |asked: fn(&Walk) -> bool| asked(&window) || start.as_ref().is_some_and(asked);
        let form = match options.format {
            Format::Sealed => Form::Sealed,
            Format::Plain => Form::Plain,
            Format::Auto if any(|walk| walk.sealed) => Form::Sealed,
            Format::Auto if boundary > 0 && any(|walk| walk.lines) => Form::Plain,
            Format::Auto => archived.form(active, options).map_err(failed)?,
        };
        let has_record = any(|walk| walk.whole) || archived.newest > 0;
        Ok(Survey { form, has_record, archived, damage: window.damage })
    }
}

/// Lines looked at one after the other.
#[derive(Default)]
struct Walk {
    lines: bool,
    whole: bool,
    /// Some line has the shape of a sealed one.
    sealed: bool,
    newer: Option<u64>,
    damage: Vec<(u64, u64)>,
}

impl Walk {
    fn over(file: &File, from: u64, until: u64, line_bytes_max: u64, stop_at_first: bool) -> std::io::Result<Walk> {
        let mut walk = Walk::default();
        let mut lines = Scanner::new(from, until, line_bytes_max);
        while let Some(span) = lines.next(file)? {
            let judged = tail::judge(&span, lines.bytes());
            walk.lines |= judged != Judged::Blank;
            walk.whole |= judged.is_whole();
            walk.sealed |= matches!(judged, Judged::Sealed(_) | Judged::CrcMismatch);
            if judged.is_corrupt() {
                walk.damage.push((span.start, span.len()));
            }
            if judged == Judged::Newer {
                walk.newer = walk.newer.or(Some(span.start));
            }
            if stop_at_first && judged.is_whole() {
                break;
            }
        }
        Ok(walk)
    }
}

/// The archived segments beside an active one, as far as a writer must know them.
pub(super) struct Archived {
    /// The highest number, 0 if there is none.
    pub(super) newest: u64,
    path: Option<PathBuf>,
}

impl Archived {
    pub(super) fn find(active: &Active) -> Result<Archived> {
        let place = &active.place;
        let names = place.dir.names().map_err(|error| Error::io(Attempt::List, &place.path, error).detail("its directory"))?;
        let newest = names
            .iter()
            .filter_map(|name| Some((name::parse_archived(&place.name, name)?, name)))
            .max_by_key(|(parsed, _)| (parsed.number, !parsed.compressed));
        Ok(match newest {
            Some((parsed, name)) => {
                let path = (!parsed.compressed).then(|| place.path.with_file_name(name));
                Archived { newest: parsed.number, path }
            }
            None => Archived { newest: 0, path: None },
        })
    }

    /// The form of a journal whose active file holds nothing: that of its newest archived segment.
    fn form(&self, active: &Active, options: &Options) -> std::io::Result<Form> {
        let Some((file, end)) = self.open(active)? else { return Ok(Form::Sealed) };
        let from = scan::boundary_before(&file, end.saturating_sub(options.window_bytes))?;
        let walk = Walk::over(&file, from, end, options.line_bytes_max, false)?;
        Ok(if walk.lines && !walk.sealed { Form::Plain } else { Form::Sealed })
    }

    /// The number of the last archived record, 0 if there is none.
    pub(super) fn last_seq(&self, active: &Active, options: &Options) -> std::io::Result<u64> {
        let Some((file, end)) = self.open(active)? else { return Ok(0) };
        Ok(tail::next_seq(&file, end, options.line_bytes_max, || Ok(0))? - 1)
    }

    fn open(&self, active: &Active) -> std::io::Result<Option<(File, u64)>> {
        let Some(path) = &self.path else { return Ok(None) };
        let file = active.place.disk.open_read(path)?;
        let end = file.size()?;
        Ok(Some((file, end)))
    }
}
