//! Rotation: the active segment becomes the newest archived one, and an empty file takes its place.
//!
//! Everything happens under the exclusive lock of the active file, between two units, and after its tail was settled:
//!
//! 1. the file is synced, with whatever other writers wrote and did not sync. Crash here: the journal is as it was;
//! 2. an empty file with its owner and mode is created under a temporary name, and locked. Crash here: a stale temporary file, which the next
//!    rotation or repair removes;
//! 3. the file is renamed to the name of the next archived segment, which nothing may have. Crash here: every record is in one file, under the one
//!    name or the other, and there may be no active file;
//! 4. the directory is synced, so that no power cut can take this name and leave the next one. Crash here: there is no active file. The archived
//!    segments are the whole journal then; who opens it to append does what [`end`] does, and goes on with the next number;
//! 5. the empty file gets the journal's name, which nothing may have: if somebody opened the journal in between, his file is the active one. Crash
//!    here: there is an active file, or not, as before;
//! 6. the directory is synced before a record in the new file is acknowledged. Crash here: the same.
//!
//! If 4 or 5 fails, the file gets its name back. A writer that waited for the lock sees that its path names another file and goes on in that one.
//! A process that does not take the lock and has the file open goes on writing into the archived segment: whoever reads that one reads its lines
//! there, behind those that were rotated.
//!
//! A file with a second hard link is refused, since whatever uses the other name would go on with an archived segment.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    active::{Active, Place},
    error::{Attempt, Error, ErrorKind, Result},
    format::name,
    swap::{self, Fresh},
    sys::{File, Process},
};

/// What a rotation did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Where the records are now; `None` if the active segment had no record, so that nothing was done.
    pub archived: Option<PathBuf>,
    /// The number of the segment, which positions in it keep.
    pub segment: u64,
    /// The number of its first sealed record.
    pub first_seq: Option<u64>,
    /// The number of its last sealed record.
    pub last_seq: Option<u64>,
    /// How large it is.
    pub bytes: u64,
    /// Processes that do not take the lock and have it open for writing: what they append later is read as part of the archived segment.
    pub strangers: Vec<Process>,
}

/// How long ago the first record came into a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    before: Duration,
    since: Instant,
}

impl Age {
    pub(crate) fn begin() -> Age {
        Age { before: Duration::ZERO, since: Instant::now() }
    }

    /// Of a file that had records when it was opened: as old as the file, if the system tells.
    pub(crate) fn of(file: &File) -> Age {
        Age { before: file.age().unwrap_or_default(), since: Instant::now() }
    }

    pub(crate) fn get(self) -> Duration {
        self.before.saturating_add(self.since.elapsed())
    }
}

/// What took the place of the active segment.
#[derive(Debug)]
pub(crate) struct MovedOn {
    pub(crate) archived: PathBuf,
    /// The new active segment, locked; `None` if somebody else has made one.
    pub(crate) active: Option<Active>,
}

/// Steps 2 to 5 for an active segment that is to be archived under this number. The last step is left to who takes the new file up.
pub(crate) fn move_on(active: &Active, number: u64) -> Result<MovedOn> {
    let place = &active.place;
    let failed = |error| Error::io(Attempt::Rotate, &place.path, error);
    active.refuse_second_name(Attempt::Rotate)?;
    swap::clear_leftovers(Attempt::Rotate, active)?;
    let mut fresh = Fresh::create(place, &active.file).map_err(failed)?;
    let id = fresh.lock(Attempt::Rotate)?;
    if !active.is_named()? {
        return Err(Error::new(ErrorKind::Changed, Attempt::Rotate).on(&place.path).detail("another file was put in its place"));
    }
    let archived = place.path.with_file_name(name::archived(&place.name, number));
    place.disk.rename_new(&place.path, &archived).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => failed(error).detail(format!("`{}` is there, and is no segment of it", archived.display())),
        _ => failed(error),
    })?;
    // Crash here: there is no active file, or the file has its old name.
    let installed = place.dir.sync().and_then(|()| fresh.rename_new(&place.path));
    match installed {
        Ok(()) => Ok(MovedOn { archived, active: Some(Active { file: Arc::clone(&fresh.file), id, place: Arc::clone(place) }) }),
        Err(error) if is_taken(&error) => Ok(MovedOn { archived, active: None }),
        Err(error) => {
            let back = place.disk.rename_new(&archived, &place.path);
            let detail = if back.is_ok() { "it has its name back" } else { "there is no active segment until the journal is opened again" };
            Err(failed(error).detail(detail))
        }
    }
}

/// Another file has the name, or another process took the temporary one for a crash's.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

/// Whether there are archived segments beside an active one that is missing.
pub(crate) fn is_half_done(place: &Place) -> Result<bool> {
    Ok(!place.archived(None)?.is_empty())
}

/// Makes the active segment that a rotation did not come to make, with the owner and the mode of the newest archived one; `None` if somebody else
/// was faster. It is locked.
pub(crate) fn end(place: &Arc<Place>) -> Result<Option<Active>> {
    let failed = |error| Error::io(Attempt::OpenToAppend, &place.path, error);
    let Some(newest) = place.archived(None)?.pop() else { return Ok(None) };
    let model = match place.disk.open_read(&place.path_of(newest)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        model => model.map_err(failed)?,
    };
    // The rename to the archived name may not be durable yet; without this, a power cut could leave the empty file in its place.
    place.dir.sync().map_err(failed)?;
    let mut fresh = Fresh::create(place, &model).map_err(failed)?;
    let id = fresh.lock(Attempt::OpenToAppend)?;
    match fresh.rename_new(&place.path) {
        // Crash here: there is an empty active file, or none. Who takes it up syncs the directory.
        Ok(()) => Ok(Some(Active { file: Arc::clone(&fresh.file), id, place: Arc::clone(place) })),
        Err(error) if is_taken(&error) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
