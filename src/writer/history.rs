//! What a writer does with the records that it, or another one, wrote before: rotation, archive and prune, between two units and under the writer's
//! own lock.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Form, Options, Writer};
use crate::{
    archive::{self, Archived, Before, Cut},
    error::{Attempt, Error, Result},
    format::{WINDOW_BYTES_DEFAULT, name::ArchivedName},
    prune::{self, Keep, Pruned},
    repair::refuse_strangers,
    rotate::{self, Age, MovedOn, Rotated},
    seek::Stretch,
    segment::Segments,
    snapshot::running::{self, HeldOff},
    swap::Installed,
    sys::Disk,
};

/// How long after a failure a rotation that is due is not tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Writer {
    /// Makes the active segment an archived one, and goes on in an empty file with the next number.
    ///
    /// Positions and marks given out before stay valid, readers go on from one segment into the next, and writers in other processes go on in the
    /// new file. A segment without a record is left alone, as [`Rotated::archived`] then says.
    ///
    /// # Durability
    ///
    /// Every record in the archived segment is durable when this returns, whatever durability it was appended with and whoever appended it. A crash
    /// at any moment leaves each record in exactly one segment.
    ///
    /// # Errors
    ///
    /// [`HardLinked`](crate::ErrorKind::HardLinked) if the file has a second name; [`DurabilityUnknown`](crate::ErrorKind::DurabilityUnknown) if the sync before
    /// it fails, and then the writer is poisoned. After any other error the journal is as it was, or goes on in the new file: the writer finds out.
    pub fn rotate(&mut self) -> Result<Rotated> {
        let _held_off = self.hold_off_snapshots();
        self.begin(Attempt::Rotate, true)?;
        let rotated = self.rotate_locked();
        self.release();
        self.as_refusal(Attempt::Rotate, rotated)
    }

    /// Waits for snapshots that are being saved in this process, before the lock is taken, so that no other writer waits too.
    fn hold_off_snapshots(&self) -> HeldOff {
        let place = &self.active.place;
        running::hold_off(&place.disk, &place.at_home(&place.path))
    }

    /// Why the last rotation that was due by [`rotate_at`](Options::rotate_at) or [`rotate_after`](Options::rotate_after) was not done.
    pub fn rotation_failure(&self) -> Option<&Error> {
        self.rotation_failure.as_ref().map(|(error, _)| error)
    }

    /// Rotates if the options say that it is time. That it cannot be done keeps no record from being written.
    pub(super) fn rotate_if_due(&mut self) -> Result<()> {
        if !self.is_rotation_due()? {
            return Ok(());
        }
        let place = &self.active.place;
        // An append does not wait for a snapshot that is being saved: the next one rotates.
        let Some(_held_off) = running::try_hold_off(&place.disk, &place.at_home(&place.path)) else { return Ok(()) };
        let Err(error) = self.archive_active() else {
            self.rotation_failure = None;
            return Ok(());
        };
        self.check_poison(Attempt::Append)?;
        if self.rotation_failure.is_none() {
            tracing::warn!(path = %self.path().display(), error = &error as &dyn std::error::Error, "the journal could not be rotated");
        }
        self.rotation_failure = Some((error, Instant::now()));
        if self.is_taken_up {
            return Ok(());
        }
        let found = self.follow_path();
        self.as_refusal(Attempt::Append, found)
    }

    /// Moves the records before a bound out of the active segment, into an archived one. The bound itself stays, and so does what is appended
    /// meanwhile; whole segments stay what they are.
    ///
    /// A bound inside the active segment costs a copy of its bytes, under the lock; one behind its last record is a [`rotate`](Writer::rotate), which
    /// costs nothing. Inside a batch the bound is lowered to the batch's first record. Positions and marks given out before stay valid. Damage moves
    /// as it is, byte for byte.
    ///
    /// # Durability
    ///
    /// What moved is durable when this returns, and at every moment each record is read once. Whatever interrupts it, calling it again leads to the
    /// same end.
    ///
    /// # Errors
    ///
    /// [`NotSealed`](crate::ErrorKind::NotSealed) for a number, or a bound inside the active segment, of a plain journal; [`Stranger`](crate::ErrorKind::Stranger) if
    /// a process that does not take the lock has the file open for writing; [`HardLinked`](crate::ErrorKind::HardLinked) if it has a second name;
    /// [`NoSpace`](crate::ErrorKind::NoSpace) without room for a copy of the active segment; [`Changed`](crate::ErrorKind::Changed) for a position that is no
    /// boundary; [`Corrupt`](crate::ErrorKind::Corrupt) if a number of the bound or above stands before it. Every record is still read once then.
    pub fn archive(&mut self, before: Before) -> Result<Archived> {
        let _held_off = self.hold_off_snapshots();
        self.begin(Attempt::Archive, true)?;
        let archived = self.archive_locked(before);
        self.release();
        self.as_refusal(Attempt::Archive, archived)
    }

    /// Deletes the oldest archived segments, as far as they are not to be kept. See [`Keep`].
    ///
    /// # Durability
    ///
    /// A crash between two deletions leaves a journal that begins with a later record, and has no hole.
    ///
    /// # Errors
    ///
    /// If a checkpoint directory cannot be read, with nothing deleted; [`NotSealed`](crate::ErrorKind::NotSealed) for a rule that counts numbers, of a plain
    /// journal. If a deletion fails, or a
    /// segment is being compressed, the segments before it are deleted.
    pub fn prune(&mut self, keep: &Keep) -> Result<Pruned> {
        let _held_off = self.hold_off_snapshots();
        self.begin(Attempt::Prune, true)?;
        let pruned = self.prune_locked(keep);
        self.release();
        self.as_refusal(Attempt::Prune, pruned)
    }

    fn prune_locked(&mut self, keep: &Keep) -> Result<Pruned> {
        let segments = Segments::beside(&self.active)?;
        let pruned = prune::plan(&segments, keep, self.options.line_bytes_max)?;
        if !keep.is_dry_run() {
            prune::delete(&segments, &pruned)?;
        }
        Ok(pruned)
    }

    fn archive_locked(&mut self, before: Before) -> Result<Archived> {
        self.catch_up()?;
        let duplicate_bytes = self.shed_duplicates()?;
        let segments = Segments::beside(&self.active)?;
        let (max, is_sealed) = (self.options.line_bytes_max, self.form == Form::Sealed);
        let cut = archive::divide(&segments, before, is_sealed, self.known.map_or(0, |known| known.end), max)?;
        let told = archive::report(&segments, &cut, max).map_err(|error| Error::io(Attempt::Archive, self.path(), error))?;
        let told = Archived { duplicate_bytes, ..told };
        if told.bytes == 0 {
            return Ok(told);
        }
        let archived = if cut.takes_all() {
            drop(segments);
            self.archive_active()?.archived
        } else {
            let segment = segments.path_of(ArchivedName { number: told.segment, compressed: false });
            drop(segments);
            self.active.refuse_second_name(Attempt::Archive)?;
            refuse_strangers(Attempt::Archive, &self.active, false)?;
            archive::check_space(&self.active, &cut)?;
            self.sync_all()?;
            self.is_taken_up = false;
            let segment = archive::copy_out(&self.active, &cut, segment)?;
            self.swap_in_rest(&cut)?;
            Some(segment)
        };
        let path = self.path().display();
        tracing::debug!(%path, segment = told.segment, first = told.first_seq, last = told.last_seq, records = told.records, bytes = told.bytes, "archived");
        Ok(Archived { archived, ..told })
    }

    /// Takes away the duplicates that a crash inside `archive` left at the head of the active segment. Returns how many bytes.
    fn shed_duplicates(&mut self) -> Result<u64> {
        let Cut { start, end, .. } = Cut { start: self.origin.start, at: self.origin.start, end: self.known.map_or(0, |known| known.end) };
        if start == 0 {
            return Ok(0);
        }
        refuse_strangers(Attempt::Archive, &self.active, false)?;
        self.sync_all()?;
        // Whoever copied the duplicates may have died before the name of the archived segment was durable.
        self.active.sync_dir()?;
        self.swap_in_rest(&Cut { start, at: start, end })?;
        Ok(start)
    }

    /// Goes on in a file that begins with what is behind the cut.
    fn swap_in_rest(&mut self, cut: &Cut) -> Result<()> {
        self.is_taken_up = false;
        let Installed { active, replaced, .. } = archive::swap_in_rest(&self.active, cut)?;
        self.active = active;
        drop(replaced);
        self.take_up()
    }

    fn is_rotation_due(&mut self) -> Result<bool> {
        let (at, after) = (self.options.rotate_at, self.options.rotate_after);
        let failed_lately = self.rotation_failure.as_ref().is_some_and(|(_, when)| when.elapsed() < TRY_AGAIN);
        if (at.is_none() && after.is_none()) || failed_lately {
            return Ok(false);
        }
        let (known, _) = self.catch_up()?;
        let len = known.end.saturating_sub(self.origin.start);
        if len == 0 {
            return Ok(false);
        }
        let is_old = |age: Duration, now: Age| now.get() >= age;
        let now = *self.age.get_or_insert_with(Age::begin);
        Ok(at.is_some_and(|bytes| len >= bytes) || after.is_some_and(|age| is_old(age, now)))
    }

    fn rotate_locked(&mut self) -> Result<Rotated> {
        self.catch_up()?;
        if !self.has_own_record()? {
            return Ok(Rotated { segment: self.origin.segment, ..Rotated::default() });
        }
        let strangers = self.active.place.disk.strangers(self.active.id);
        Ok(Rotated { strangers, ..self.archive_active()? })
    }

    /// Rotation of a segment whose end is known.
    fn archive_active(&mut self) -> Result<Rotated> {
        self.active.refuse_second_name(Attempt::Rotate)?;
        self.shed_duplicates()?;
        self.sync_all()?;
        let segments = Segments::beside(&self.active)?;
        let failed = |error| Error::io(Attempt::Rotate, self.path(), error);
        let origin = segments.active_origin();
        let end = self.active.file.size().map_err(failed)?;
        let lines = Stretch { file: &self.active.file, start: origin.start, end, line_bytes_max: self.options.line_bytes_max };
        let (first, last) = match self.form {
            Form::Plain => (None, None),
            Form::Sealed => (lines.first_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)?, lines.last_sealed(WINDOW_BYTES_DEFAULT).map_err(failed)?),
        };
        let seq = |line: Option<crate::seek::Sealed>| line.map(|line| line.seal.seq);
        let rotated =
            Rotated { segment: origin.segment, first_seq: seq(first), last_seq: seq(last), bytes: end - origin.start, ..Rotated::default() };
        // Whatever comes of it, the path is looked at again before anything is appended.
        self.is_taken_up = false;
        let MovedOn { archived, active } = rotate::move_on(&self.active, origin.segment)?;
        tracing::debug!(path = %self.path().display(), segment = origin.segment, bytes = rotated.bytes, "rotated");
        match active {
            Some(active) => {
                self.active = active;
                self.take_up()?;
            }
            None => self.attach()?,
        }
        Ok(Rotated { archived: Some(archived), ..rotated })
    }

    /// Syncs what is in the file, whoever wrote it. A failure poisons the writer, since a second sync could say yes without the bytes.
    fn sync_all(&mut self) -> Result<()> {
        let is_ours = self.is_dirty;
        self.sync_now().inspect_err(|_| {
            if !is_ours {
                // Nothing says since when those of others are not durable, so all of them are proved when the writer is reopened.
                self.synced = 0;
            }
        })
    }
}

/// For a process that has no writer, and is not to create a journal.
fn open_existing(path: &Path) -> Result<Writer> {
    Options::new().existing_only().open(path)
}

/// Rotates a journal, for a process that has no writer: see [`Writer::rotate`].
///
/// It waits ten seconds for the lock. The tail is repaired first, as by every writer that opens the journal;
/// [`tail_repair`](Writer::tail_repair) of one's own writer tells what was done.
///
/// # Errors
///
/// Those of [`Options::open`] and of [`Writer::rotate`]; a journal that does not exist is not created.
pub fn rotate(path: impl AsRef<Path>) -> Result<Rotated> {
    open_existing(path.as_ref())?.rotate()
}

/// Archives the records before a bound, for a process that has no writer: see [`Writer::archive`].
///
/// It waits ten seconds for the lock. The tail is repaired first, as by every writer that opens the journal;
/// [`tail_repair`](Writer::tail_repair) of one's own writer tells what was done.
///
/// # Errors
///
/// Those of [`Options::open`] and of [`Writer::archive`]; a journal that does not exist is not created.
pub fn archive(path: impl AsRef<Path>, before: Before) -> Result<Archived> {
    open_existing(path.as_ref())?.archive(before)
}

/// What [`archive`] would move, as the journal is now. Nothing is changed and no lock is taken.
///
/// # Errors
///
/// Those of [`Writer::archive`] that need nothing to be changed.
pub fn plan_archive(path: impl AsRef<Path>, before: Before) -> Result<Archived> {
    let segments = Segments::open(&Disk::default(), path.as_ref(), true)?;
    let max = crate::format::LINE_BYTES_MAX_DEFAULT;
    let (is_sealed, end) = archive::survey(&segments, max)?;
    let cut = archive::divide(&segments, before, is_sealed, end, max)?;
    let told = archive::report(&segments, &cut, max).map_err(|error| Error::io(Attempt::Archive, path.as_ref(), error))?;
    let segment = segments.path_of(ArchivedName { number: told.segment, compressed: false });
    Ok(Archived { archived: (told.bytes > 0).then_some(segment), duplicate_bytes: cut.start, ..told })
}

/// Deletes the oldest archived segments, for a process that has no writer: see [`Writer::prune`].
///
/// It waits ten seconds for the lock, and the tail is repaired first; but a [dry run](Keep::dry_run) takes no lock and changes nothing.
///
/// # Errors
///
/// Those of [`Options::open`] and of [`Writer::prune`]; a journal that does not exist is not created.
pub fn prune(path: impl AsRef<Path>, keep: &Keep) -> Result<Pruned> {
    if keep.is_dry_run() {
        let segments = Segments::open(&Disk::default(), path.as_ref(), true)?;
        return prune::plan(&segments, keep, crate::format::LINE_BYTES_MAX_DEFAULT);
    }
    open_existing(path.as_ref())?.prune(keep)
}
