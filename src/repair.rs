//! What the repair command changes: damage is taken out of a journal, and what can be trusted of it is kept.
//!
//! A repair is planned, shown and applied. The plan reads only, without the lock, and carries proof of every range that it will touch;
//! [`apply`] takes the lock, compares, and refuses if anything but whole lines came in between. So what was shown is what is done.
//!
//! Damage at the end of the file is cut off in place, as opening does it: see [`tail`](crate::tail). Any other needs a rewrite: the file without
//! its damage is written beside it and put in its place: see [`swap`](crate::swap). Either way each removed byte is durable in the
//! [quarantine](crate::quarantine) first, so [`undo_repair`](crate::undo_repair) can rebuild the original.

mod apply;
mod batch;
mod find;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

pub(crate) use self::apply::{refuse_strangers, take_over};
use self::find::{Damage, Meter, Part, Proof, Refusal, Rules};
use crate::{
    active::Place,
    edits::Edits,
    error::{Attempt, Error, ErrorKind, Result},
    format::{LINE_BYTES_MAX_DEFAULT, name, verdict::Code},
    lock::{Lock, LockWait},
    sys::{Disk, File, FileId},
    tail::Unterminated,
    verify::Progress,
};

/// Plans the repair of one file with the default options: see [`RepairOptions::plan`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"id\":1}\n{\"id\":2,\"te{\"id\":3}\n{\"id\":4}\n")?;
/// let plan = untorn::plan_repair(&path)?;
/// assert_eq!((plan.kept(), plan.salvaged(), plan.removed_bytes()), (2, 1, 11));
/// let repaired = plan.apply()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"id\":1}\n{\"id\":3}\n{\"id\":4}\n");
/// assert_eq!(repaired.remaining, 0);
/// assert!(untorn::plan_repair(&path)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of [`RepairOptions::plan`].
pub fn plan_repair(path: impl AsRef<Path>) -> Result<RepairPlan> {
    RepairOptions::new().plan(path)
}

/// How a repair is planned and done.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// # std::fs::write(&path, "{\"id\":1}\n{\"id\":2,\"te")?;
/// let mut options = untorn::RepairOptions::new();
/// options.without_salvage().without_backup();
/// let repaired = options.plan(&path)?.apply()?;
/// assert_eq!(repaired.removed_bytes, 11);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RepairOptions {
    pub(crate) disk: Disk,
    salvages: bool,
    unterminated: Unterminated,
    backs_up: bool,
    pub(crate) is_forced: bool,
    pub(crate) wait: LockWait,
    quarantine: Option<PathBuf>,
    line_bytes_max: u64,
}

impl Default for RepairOptions {
    fn default() -> RepairOptions {
        RepairOptions::new()
    }
}

impl RepairOptions {
    /// Salvages what can be trusted, keeps a backup, and goes past no stranger.
    pub fn new() -> RepairOptions {
        RepairOptions {
            disk: Disk::default(),
            salvages: true,
            unterminated: Unterminated::default(),
            backs_up: true,
            is_forced: false,
            wait: LockWait::default_of(Lock::PerAppend),
            quarantine: None,
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
        }
    }

    /// Moves corrupt lines to quarantine whole. Default: whole records inside them that can be trusted are kept.
    pub fn without_salvage(&mut self) -> &mut RepairOptions {
        self.salvages = false;
        self
    }

    /// What to do with a whole last record that lacks its LF. Default: [`Unterminated::Keep`].
    pub fn unterminated(&mut self, how: Unterminated) -> &mut RepairOptions {
        self.unterminated = how;
        self
    }

    /// Keeps no second name for the file that a rewrite replaces. Default: it stays beside the journal, with `.bak-` and the repair's id behind its
    /// name, and takes as much room as before. The quarantine has all that is needed to rebuild it.
    pub fn without_backup(&mut self) -> &mut RepairOptions {
        self.backs_up = false;
        self
    }

    /// Repairs although a process that does not take the lock has the file open for writing. Default: that is refused.
    ///
    /// Such a process goes on writing into the old file. What it wrote until just after the swap is looked for and kept; what it writes later is only
    /// in the backup, and nowhere if there is none.
    pub fn force(&mut self) -> &mut RepairOptions {
        self.is_forced = true;
        self
    }

    /// How long to wait for a writer that holds the lock. Default: ten seconds.
    pub fn lock_wait(&mut self, wait: LockWait) -> &mut RepairOptions {
        self.wait = wait;
        self
    }

    /// The file that keeps removed bytes. Default: the repaired file's name with `.quarantine` behind it.
    pub fn quarantine(&mut self, path: impl Into<PathBuf>) -> &mut RepairOptions {
        self.quarantine = Some(path.into());
        self
    }

    /// How long a line may be in bytes, LF included. Default: 64 MiB. A longer one is damage and is moved to quarantine whole; the memory that a
    /// repair needs grows with this, not with the file.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut RepairOptions {
        self.line_bytes_max = max;
        self
    }

    /// Works on an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut RepairOptions {
        self.disk = Disk { sim: Some(disk.clone()) };
        self
    }

    /// Reads one file, and says what a repair would do to it. Archived segments are files of their own, each repaired by itself.
    ///
    /// Takes no lock and changes nothing, so it also works on files that may only be read, and beside a live writer. Time grows with the file,
    /// memory with the damage and the longest line.
    ///
    /// # Errors
    ///
    /// [`NewerFormat`](ErrorKind::NewerFormat) if a line is of a format that this version does not know, and [`Compressed`](ErrorKind::Compressed) for
    /// a `.zst` or `.gz` file: neither is ever touched. [`NotAFile`](ErrorKind::NotAFile) for a directory, device or FIFO.
    pub fn plan(&self, path: impl AsRef<Path>) -> Result<RepairPlan> {
        self.plan_with(path, &mut |_| {})
    }

    /// [`plan`](RepairOptions::plan), and calls `on` some hundred times in a gigabyte with how far it is.
    ///
    /// What follows on the first damage is read twice, so the number of bytes to read may grow.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("session.jsonl");
    /// # std::fs::write(&path, "{\"id\":1}\n{\"id\":2,\"te\n{\"id\":3}\n")?;
    /// let plan = untorn::RepairOptions::new().plan_with(&path, &mut |progress| {
    ///     eprintln!("{} of {} bytes", progress.bytes_done, progress.bytes_total);
    /// })?;
    /// assert_eq!(plan.removed_bytes(), 12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`plan`](RepairOptions::plan).
    pub fn plan_with(&self, path: impl AsRef<Path>, on: &mut dyn FnMut(Progress<'_>)) -> Result<RepairPlan> {
        let place = Place::find(&self.disk, path.as_ref(), Attempt::PlanRepair)?;
        let failed = |error| Error::io(Attempt::PlanRepair, &place.path, error);
        let file = self.disk.open_read(&place.path).map_err(failed)?;
        if let Some(compression) = file.compression().map_err(failed)? {
            return Err(Error::new(ErrorKind::Compressed, Attempt::PlanRepair).on(&place.path).detail(compression.refusal()));
        }
        let (id, len) = (file.id().map_err(failed)?, file.size().map_err(failed)?);
        let damage = self.find(&file, len, on).map_err(|refusal| refusal.told_of(Attempt::PlanRepair, &place.path))?;
        let proofs = damage.proofs(&file, len).map_err(failed)?;
        let free = place.dir.free_bytes().unwrap_or_default();
        Ok(RepairPlan::new(self, place.path, Found { id, len, damage, proofs, free }))
    }

    fn find(&self, file: &File, len: u64, on: &mut dyn FnMut(Progress<'_>)) -> Result<Damage, Refusal> {
        let rules = Rules { line_bytes_max: self.line_bytes_max, unterminated: self.unterminated, salvages: self.salvages };
        find::find(file, len, &rules, &mut Meter { on, next: 0 })
    }

    pub(crate) fn quarantine_of(&self, journal: &Path) -> PathBuf {
        self.quarantine.clone().unwrap_or_else(|| name::quarantine(journal))
    }
}

impl Refusal {
    fn told_of(self, attempt: Attempt, path: &Path) -> Error {
        match self {
            Refusal::Io(error) => Error::io(attempt, path, error),
            Refusal::Newer(offset) => {
                let error = Error::new(ErrorKind::NewerFormat, attempt).on(path).at(offset);
                error.detail("a line is of a newer format than this version knows; nothing was touched")
            }
        }
    }
}

/// What a repair would do to one file, with proof of what it would do it to.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// # std::fs::write(&path, "{\"id\":1}{\"id\":2}\n\0\0\0\0{\"id\":3}\n")?;
/// let plan = untorn::plan_repair(&path)?;
/// for action in plan.actions() {
///     println!("line {:>4}  byte {:>6}  {:>6}  {:?} ({})", action.line, action.offset, action.len, action.what, action.reason);
/// }
/// plan.apply()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a plan changes nothing until it is applied"]
pub struct RepairPlan {
    options: RepairOptions,
    path: PathBuf,
    id: FileId,
    /// The length of the file when it was read.
    len: u64,
    edits: Edits,
    actions: Vec<Action>,
    proofs: Vec<Proof>,
    kept: u64,
    salvaged: u64,
    depends_on_end: bool,
    free: Option<u64>,
}

/// What reading the file has given.
struct Found {
    id: FileId,
    len: u64,
    damage: Damage,
    proofs: Vec<Proof>,
    free: Option<u64>,
}

/// One thing that a repair does.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What is done.
    pub what: What,
    /// What is wrong there.
    pub reason: Code,
    /// The number of the line, from 1; of several neighbouring lines, that of the first.
    pub line: u64,
    /// How many lines: more than one only where neighbouring lines are removed for one reason.
    pub lines: u64,
    /// The first byte, counted from the start of the file as it is before the repair.
    pub offset: u64,
    /// How many bytes; of [`What::Terminate`], none.
    pub len: u64,
}

/// What is done to a range of the file.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// It is moved to quarantine.
    Remove,
    /// It is a whole record, and gets a line of its own.
    Salvage,
    /// The last record is whole, and gets the LF that it lacks.
    Terminate,
}

/// How a file is repaired.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RepairMethod {
    /// Only its end is changed, where it is.
    InPlace,
    /// A file without the damage is put in its place.
    Rewrite,
}

/// The room that a repair needs beside the journal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes for the new file, where one is written, and for the quarantine; an estimate.
    pub needed: u64,
    /// Bytes that are free, if the system tells.
    pub free: Option<u64>,
}

impl RepairPlan {
    fn new(options: &RepairOptions, path: PathBuf, found: Found) -> RepairPlan {
        let Found { id, len, damage, proofs, free } = found;
        let mut actions = Vec::new();
        let mut salvaged = 0;
        let edits = damage.edits(|stretch, part| {
            let (what, range) = match part {
                Part::Removed(range) => (What::Remove, range),
                Part::Saved(range) => {
                    salvaged += 1;
                    (What::Salvage, range)
                }
            };
            let Range { start, end } = range;
            actions.push(Action { what, reason: stretch.reason, line: stretch.line, lines: stretch.lines, offset: start, len: end - start });
        });
        if let Some((offset, line)) = damage.unterminated {
            let action = Action { what: What::Terminate, reason: Code::Unterminated, line, lines: 1, offset, len: 0 };
            // What stands behind the record is removed, so it comes later in the file.
            let at = actions.partition_point(|earlier| earlier.offset < offset);
            actions.insert(at, action);
        }
        let Damage { kept, depends_on_end, .. } = damage;
        RepairPlan { options: options.clone(), path, id, len, edits, actions, proofs, kept, salvaged, depends_on_end, free }
    }

    /// There is nothing to repair.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Everything that would be done, in the order of the file.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The file, a symbolic link followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that keeps the removed bytes.
    pub fn quarantine(&self) -> PathBuf {
        self.options.quarantine_of(&self.path)
    }

    /// Whether a rewrite would keep the old file under a second name.
    pub fn backs_up(&self) -> bool {
        self.options.backs_up && self.how() == RepairMethod::Rewrite
    }

    /// How many healthy records stay as they are.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// How many records inside corrupt lines get lines of their own.
    pub fn salvaged(&self) -> u64 {
        self.salvaged
    }

    /// How many bytes are moved to quarantine.
    pub fn removed_bytes(&self) -> u64 {
        self.edits.removed_bytes()
    }

    /// The length of the file when the plan was made.
    pub fn len_before(&self) -> u64 {
        self.len
    }

    /// The length that a repair would leave.
    pub fn len_after(&self) -> u64 {
        self.edits.len_after(self.len)
    }

    /// How the file would be repaired.
    pub fn how(&self) -> RepairMethod {
        self.how_at(self.len)
    }

    fn how_at(&self, size: u64) -> RepairMethod {
        if self.edits.cut_at(size).is_some() { RepairMethod::InPlace } else { RepairMethod::Rewrite }
    }

    /// How much room the repair needs, and how much there was when the plan was made.
    pub fn space(&self) -> Space {
        Space { needed: self.needed(self.how(), self.len), free: self.free }
    }

    /// Quarantined bytes grow by a third if they are no text; each range has a line of its own.
    fn needed(&self, how: RepairMethod, size: u64) -> u64 {
        const LINE_BYTES: u64 = 160;
        let removed = self.edits.removed.iter().filter(|range| range.reason != Code::NulRun).map(|range| range.end - range.start);
        let lines = (self.edits.removed.len() + self.edits.added.len()) as u64 + 1;
        let quarantine = removed.sum::<u64>().saturating_mul(4) / 3 + lines.saturating_mul(LINE_BYTES);
        match how {
            RepairMethod::InPlace => quarantine,
            RepairMethod::Rewrite => quarantine.saturating_add(self.edits.len_after(size)),
        }
    }

    /// Repairs the file.
    ///
    /// Takes the lock and looks whether the planned bytes are still there. Whole lines that were appended since are kept. Writers of this library
    /// that have the file open go on in the repaired one.
    ///
    /// # Durability
    ///
    /// When this returns, the repaired file is durable, and so are the quarantine and the backup. A crash at any moment leaves the old file or the
    /// repaired one, whole, or the old one with its end cut; each removed byte is in the file or in the quarantine, and a repair that is run again
    /// finishes the work.
    ///
    /// # Errors
    ///
    /// [`Changed`](ErrorKind::Changed) if the file is not what was planned for: plan again. [`Locked`](ErrorKind::Locked) if a writer holds the lock
    /// for its life; [`Stranger`](ErrorKind::Stranger), with process and name, if one does not take it; [`HardLinked`](ErrorKind::HardLinked) if the
    /// file has a second name that would keep the old content; [`NoSpace`](ErrorKind::NoSpace) before anything is changed;
    /// [`ReadOnly`](ErrorKind::ReadOnly); [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) if the repaired file is in place but its directory could
    /// not be synced. After any other error the old file is in place.
    pub fn apply(self) -> Result<Repaired> {
        apply::apply(&self)
    }

    /// Writes what a repair would leave into a new file, and leaves the journal and its quarantine alone.
    ///
    /// # Durability
    ///
    /// The new file is durable when this returns. If it fails, no file is left.
    ///
    /// # Errors
    ///
    /// [`Changed`](ErrorKind::Changed) if the planned bytes are no longer there. A file that exists already is not replaced.
    pub fn write_to(self, out: impl AsRef<Path>) -> Result<Repaired> {
        apply::write_to(&self, out.as_ref())
    }
}

/// What a repair did.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Whether there was anything to do.
    pub changed: bool,
    /// Healthy records that stayed as they were, those of them included that were appended since the plan was made.
    pub kept: u64,
    /// Records inside corrupt lines that got lines of their own.
    pub salvaged: u64,
    /// The last record was whole and got its LF.
    pub terminated: bool,
    /// Bytes that were moved to quarantine.
    pub removed_bytes: u64,
    /// The length of the file before.
    pub len_before: u64,
    /// The length of the file after.
    pub len_after: u64,
    /// Where the removed bytes are.
    pub quarantine: Option<PathBuf>,
    /// The second name of the replaced file.
    pub backup: Option<PathBuf>,
    /// The id that the repair has in the quarantine.
    pub repair: Option<String>,
    /// Bytes that a stranger wrote into the replaced file during the swap; they are in the journal or in quarantine.
    pub late_bytes: u64,
    /// How many actions another plan would have now; more than 0 only if a stranger wrote damage meanwhile.
    pub remaining: u64,
}
