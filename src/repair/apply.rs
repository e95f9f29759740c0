//! Doing what a plan says, under the exclusive lock.
//!
//! 1. Compare the file with the plan. Crash here: nothing has changed.
//! 2. In place: what [`tail::take_off`] says. Else write the new file, keep the removed bytes in quarantine, and swap: what
//!    [`swap`] says. Crash between quarantine and swap: the bytes are in both; the next repair finds them and writes them only once.
//! 3. Look at the replaced file again. Crash here: what a stranger wrote into it during the swap is in the backup only.

use std::path::Path;

use super::{
    RepairMethod, RepairOptions, RepairPlan, Repaired,
    batch::{Batches, Member},
};
use crate::{
    active::Active,
    edits::{self, Edits, Removed},
    error::{Attempt, Error, ErrorKind, Result},
    format::verdict::{Code, Verdict},
    judge::Found,
    quarantine::{self, Plan},
    rollback,
    scan::{self, Scanner},
    swap::{self, Installed, Successor},
    sys::File,
    tail,
};

pub(super) fn apply(plan: &RepairPlan) -> Result<Repaired> {
    if plan.is_empty() {
        return Ok(plan.outcome(plan.len, 0, false));
    }
    let options = &plan.options;
    let active = Active::lock_existing(Attempt::Repair, &options.disk, &plan.path, options.wait)?;
    let failed = |error| Error::io(Attempt::Repair, &plan.path, error);
    if active.id != plan.id {
        return Err(changed(plan, "another file stands in its place"));
    }
    let size = active.file.size().map_err(failed)?;
    let appended = prove(plan, &active.file, size)?;
    let is_shared = refuse_strangers(Attempt::Repair, &active, options.is_forced)?;
    let how = match plan.how_at(size) {
        // A cut could take what a stranger has just appended; the swap finds it.
        RepairMethod::InPlace if is_shared => RepairMethod::Rewrite,
        how => how,
    };
    check_space(plan, &active, how, size)?;
    let repaired = plan.outcome(size, appended, true);
    let quarantine = plan.quarantine();
    match how {
        RepairMethod::InPlace => {
            let id = tail::take_off(&active, &quarantine, &plan.edits, size)?;
            let id = id.ok_or_else(|| changed(plan, "something was appended while its torn end was kept; plan again"))?;
            finish(plan, &active, Repaired { repair: Some(id), quarantine: Some(quarantine), ..repaired })
        }
        RepairMethod::Rewrite => rewrite(plan, active, size, &quarantine, repaired),
    }
}

impl RepairPlan {
    /// What is to be said of a repair of the file when it has `size` bytes.
    fn outcome(&self, size: u64, appended: u64, changed: bool) -> Repaired {
        Repaired {
            changed,
            kept: self.kept + appended,
            salvaged: self.salvaged,
            terminated: self.actions.iter().any(|action| action.what == super::What::Terminate),
            removed_bytes: self.removed_bytes(),
            len_before: size,
            len_after: self.edits.len_after(size),
            ..Repaired::default()
        }
    }
}

fn changed(plan: &RepairPlan, why: &'static str) -> Error {
    Error::new(ErrorKind::Changed, Attempt::Repair).on(&plan.path).detail(why)
}

/// Step 1: the planned ranges are as they were, and at most whole records were appended. Returns how many.
fn prove(plan: &RepairPlan, file: &File, size: u64) -> Result<u64> {
    let failed = |error| Error::io(Attempt::Repair, &plan.path, error);
    if size > plan.len && plan.depends_on_end {
        return Err(changed(plan, "something was appended to its torn end since the repair was planned; plan again"));
    }
    prove_ranges(plan, file, size)?;
    let appended = whole_records(file, plan.len, size, plan.options.line_bytes_max).map_err(failed)?;
    appended.ok_or_else(|| changed(plan, "something else than whole records was appended since the repair was planned; plan again").at(plan.len))
}

fn prove_ranges(plan: &RepairPlan, file: &File, size: u64) -> Result<()> {
    if size < plan.len {
        return Err(changed(plan, "it has become shorter since the repair was planned; plan again"));
    }
    for proof in &plan.proofs {
        if !proof.holds(file).map_err(|error| Error::io(Attempt::Repair, &plan.path, error))? {
            return Err(changed(plan, "a damaged line is not what it was when the repair was planned; plan again").at(proof.start));
        }
    }
    Ok(())
}

/// How many records a range holds, if it holds nothing but whole lines.
fn whole_records(file: &File, start: u64, end: u64, line_bytes_max: u64) -> std::io::Result<Option<u64>> {
    let mut records = 0;
    let mut batches = Batches::new(line_bytes_max);
    let mut lines = Scanner::new(start, end, line_bytes_max);
    while let Some(span) = lines.next(file)? {
        let found = Found::of(span, lines.bytes());
        let breaks_batch = found.seal.is_some_and(|seal| batches.take(&seal, span.start..span.end, Member::line(&span, 0)).is_some());
        let is_whole = span.terminated && (found.is_record() || found.verdict == Verdict::Blank);
        if breaks_batch || !is_whole {
            return Ok(None);
        }
        records += u64::from(found.is_record());
    }
    Ok(batches.are_whole().then_some(records))
}

/// Whether strangers have the file open, which is an error unless it was forced.
pub(crate) fn refuse_strangers(attempt: Attempt, active: &Active, is_forced: bool) -> Result<bool> {
    let strangers = active.place.disk.strangers(active.id);
    let Some(first) = strangers.first() else { return Ok(false) };
    if is_forced {
        return Ok(true);
    }
    let others = match strangers.len() {
        1 => String::new(),
        len => format!(" and {} more", len - 1),
    };
    let detail = format!("{first}{others} has it open for writing without taking the lock");
    Err(Error::new(ErrorKind::Stranger, attempt).on(&active.place.path).detail(detail))
}

/// Refuses early what would run out of room halfway. Where the system does not tell, running out is still safe.
fn check_space(plan: &RepairPlan, active: &Active, how: RepairMethod, size: u64) -> Result<()> {
    let needed = plan.needed(how, size);
    match active.place.dir.free_bytes() {
        Ok(Some(free)) if free < needed => {
            let detail = format!("it needs {needed} bytes beside the journal, and {free} are free");
            Err(Error::new(ErrorKind::NoSpace, Attempt::Repair).on(&plan.path).detail(detail))
        }
        _ => Ok(()),
    }
}

/// Step 2 for damage that is not at the end.
fn rewrite(plan: &RepairPlan, active: Active, size: u64, quarantine: &Path, repaired: Repaired) -> Result<Repaired> {
    let failed = |error| Error::io(Attempt::Repair, &plan.path, error);
    let successor = Successor::create(Attempt::Repair, active)?;
    let old = &successor.old().file;
    let trace = plan.edits.write(old, size, successor.new_file()).map_err(failed)?;
    let mode = old.mode().map_err(failed)?;
    let kept = Plan { before_len: size, edits: &plan.edits, trace };
    let id = quarantine::keep(&plan.options.disk, quarantine, mode, old, &kept)?;
    let installed = successor.install(plan.options.backs_up.then_some(&id))?;
    let late_bytes = take_over(Attempt::Repair, &plan.options, &installed, size)?;
    let Installed { active, replaced, backup } = installed;
    tracing::warn!(path = %plan.path.display(), %id, removed = repaired.removed_bytes, "rewrote a damaged journal");
    let quarantine = Some(quarantine.to_owned());
    let len_after = active.file.size().map_err(failed)?;
    let repaired = finish(plan, &active, Repaired { repair: Some(id), quarantine, backup, late_bytes, len_after, ..repaired });
    drop(active);
    drop(replaced);
    repaired
}

/// Step 3: what a stranger wrote into the replaced file behind its first `size` bytes. Returns how many bytes.
pub(crate) fn take_over(attempt: Attempt, options: &RepairOptions, installed: &Installed, size: u64) -> Result<u64> {
    let Installed { active, replaced, .. } = installed;
    let journal = &active.place.path;
    let failed = |error| Error::io(attempt, journal, error);
    let end = replaced.size().map_err(failed)?;
    if end <= size {
        return Ok(0);
    }
    // A repaired file ends on a boundary, the one that it was before may not. Crash here: its torn tail has an LF.
    rollback::end_line(&active.file).map_err(failed)?;
    let start = active.file.size().map_err(failed)?;
    let starts_line = scan::is_boundary(replaced, size).map_err(failed)?;
    edits::read_range(replaced, size..end, |bytes| active.file.write_all(bytes)).map_err(failed)?;
    active.file.sync_data().map_err(failed)?;
    let len = start + (end - size);
    let is_whole = starts_line && whole_records(&active.file, start, len, options.line_bytes_max).map_err(failed)?.is_some();
    if !is_whole {
        // Crash here: corrupt or torn lines at the end of the new file, which opening or the next repair deals with.
        let removed = vec![Removed { start, end: len, reason: Code::TornTail }];
        // If another stranger writes into the new file at the same time all of it stays, and is told of as what remains.
        tail::take_off(active, &options.quarantine_of(journal), &Edits { removed, added: Vec::new() }, len)?;
    }
    Ok(end - size)
}

/// Looks at the result as another plan would.
fn finish(plan: &RepairPlan, active: &Active, repaired: Repaired) -> Result<Repaired> {
    let failed = |error| Error::io(Attempt::Repair, &plan.path, error);
    let len = active.file.size().map_err(failed)?;
    let damage = plan.options.find(&active.file, len, &mut |_| {}).map_err(|refusal| refusal.told_of(Attempt::Repair, &plan.path))?;
    let mut remaining = u64::from(damage.unterminated.is_some());
    damage.edits(|_, _| remaining += 1);
    Ok(Repaired { remaining, ..repaired })
}

pub(super) fn write_to(plan: &RepairPlan, out: &Path) -> Result<Repaired> {
    let failed = |error| Error::io(Attempt::Repair, &plan.path, error);
    let source = plan.options.disk.open_read(&plan.path).map_err(failed)?;
    if source.id().map_err(failed)? != plan.id {
        return Err(changed(plan, "another file stands in its place"));
    }
    let mode = source.mode().map_err(failed)?;
    swap::create_beside(Attempt::Repair, &plan.options.disk, out, mode, |file| {
        plan.edits.write(&source, plan.len, file).map_err(failed)?;
        // Looked at afterwards: what changed while it was read is not what was planned.
        prove_ranges(plan, &source, source.size().map_err(failed)?)
    })?;
    Ok(plan.outcome(plan.len, 0, !plan.is_empty()))
}
