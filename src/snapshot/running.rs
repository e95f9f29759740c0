//! Which journals have a snapshot that is being saved in this process.
//!
//! A save names a record of the journal, so nobody moves or deletes records under it: rotation, archive and prune wait until no save is running,
//! and saves that begin meanwhile wait for them. Two saves of one file never overlap. All this is known in memory only, so a crash leaves nothing.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::{checkpoint::identity, sys::Disk};

/// One file on one disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    disk: usize,
    path: PathBuf,
}

impl Key {
    fn of(disk: &Disk, path: &Path) -> Key {
        Key { disk: disk.key(), path: identity::canonical(disk, path) }
    }
}

#[derive(Debug)]
struct Save {
    journal: Key,
    snapshot: Key,
}

#[derive(Debug, Default)]
struct Running {
    saves: Vec<Save>,
    /// How many hold saves of a journal off.
    held_off: HashMap<Key, usize>,
}

impl Running {
    fn is_saving(&self, journal: &Key) -> bool {
        self.saves.iter().any(|save| save.journal == *journal)
    }

    fn hold_off(&mut self, journal: Key) -> HeldOff {
        *self.held_off.entry(journal.clone()).or_default() += 1;
        HeldOff { journal }
    }
}

static RUNNING: LazyLock<Mutex<Running>> = LazyLock::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while(is_busy: impl Fn(&Running) -> bool) -> MutexGuard<'static, Running> {
    CHANGED.wait_while(running(), |running| is_busy(running)).unwrap_or_else(PoisonError::into_inner)
}

/// A save that is running, until it is dropped.
#[derive(Debug)]
#[must_use = "the save counts as running until this is dropped"]
pub(super) struct Saving {
    snapshot: Key,
}

impl Saving {
    /// Waits for another save of the same file, and for those who hold saves of the journal off.
    pub(super) fn begin(disk: &Disk, snapshot: &Path, journal: &Path) -> Saving {
        let (snapshot, journal) = (Key::of(disk, snapshot), Key::of(disk, journal));
        let mut running = wait_while(|running| {
            let is_saved = running.saves.iter().any(|save| save.snapshot == snapshot);
            is_saved || running.held_off.contains_key(&journal)
        });
        running.saves.push(Save { journal, snapshot: snapshot.clone() });
        Saving { snapshot }
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        running().saves.retain(|save| save.snapshot != self.snapshot);
        CHANGED.notify_all();
    }
}

/// No snapshot of a journal is being saved in this process, until it is dropped.
#[derive(Debug)]
#[must_use = "snapshots are held off until this is dropped"]
pub(crate) struct HeldOff {
    journal: Key,
}

/// Waits until no snapshot of the journal is being saved in this process, and lets none begin before the guard is dropped.
///
/// An observer may rotate the journal: when it is told of a save, the save is not running yet, or no more.
pub(crate) fn hold_off(disk: &Disk, journal: &Path) -> HeldOff {
    let journal = Key::of(disk, journal);
    let mut running = wait_while(|running| running.is_saving(&journal));
    running.hold_off(journal)
}

/// The same without waiting: nothing if a snapshot is being saved.
pub(crate) fn try_hold_off(disk: &Disk, journal: &Path) -> Option<HeldOff> {
    let journal = Key::of(disk, journal);
    let mut running = running();
    (!running.is_saving(&journal)).then(|| running.hold_off(journal))
}

impl Drop for HeldOff {
    fn drop(&mut self) {
        let mut running = running();
        if let Some(holders) = running.held_off.get_mut(&self.journal) {
            *holders -= 1;
            if *holders == 0 {
                running.held_off.remove(&self.journal);
            }
        }
        CHANGED.notify_all();
    }
}
