//! What a writer does with the records that it, or another one, wrote before: rotation, between two units and under the writer's own lock.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Form, Options, Writer};
use crate::{
    error::{Attempt, Error, Result},
    format::WINDOW_BYTES_DEFAULT,
    rotate::{self, Age, MovedOn, Rotated},
    seek::Stretch,
    segment::Segments,
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
        self.begin(Attempt::Rotate, true)?;
        let rotated = self.rotate_locked();
        self.release();
        self.as_refusal(Attempt::Rotate, rotated)
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
        self.sync_all(Attempt::Rotate)?;
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

    /// Syncs what is in the file, whoever wrote it.
    fn sync_all(&mut self, attempt: Attempt) -> Result<()> {
        if self.is_dirty {
            return self.sync_now();
        }
        self.active.file.sync_data().map_err(|error| Error::io(attempt, self.path(), error))
    }
}

impl Options {
    /// For a process that has no writer, and is not to create a journal.
    pub(crate) fn open_existing(&self, path: &Path) -> Result<Writer> {
        let mut options = self.clone();
        options.must_exist = true;
        let mut writer = options.open(path)?;
        writer.options.must_exist = false;
        Ok(writer)
    }
}

/// Rotates a journal, for a process that has no writer: see [`Writer::rotate`].
///
/// It waits ten seconds for the lock. The tail is repaired first, as by every writer that opens the journal.
///
/// # Errors
///
/// Those of [`Options::open`] and of [`Writer::rotate`]; a journal that does not exist is not created.
pub fn rotate(path: impl AsRef<Path>) -> Result<Rotated> {
    Options::new().open_existing(path.as_ref())?.rotate()
}
