//! Which path stands for which inode: as the system sees it now, and as it would after a power cut.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) type Map = BTreeMap<PathBuf, u64>;

/// A creation (`new`), a removal (`gone`), or a rename (both at once, never half of it).
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) gone: Option<PathBuf>,
    pub(super) new: Option<(PathBuf, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: Arc<Map>,
    durable: Arc<Map>,
    /// What turned `durable` into `live`, oldest first.
    pending: Vec<NameChange>,
}

impl NameChange {
    fn apply(&self, map: &mut Map) {
        if let Some(path) = &self.gone {
            map.remove(path);
        }
        if let Some((path, inode)) = &self.new {
            map.insert(path.clone(), *inode);
        }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let new = self.new.as_ref().map(|(path, _)| path);
        self.gone.iter().chain(new).map(PathBuf::as_path)
    }

    /// Whether a sync of the directory makes the change durable: for a rename, either of its two directories will do.
    pub(super) fn is_in(&self, dir: &Path) -> bool {
        self.paths().any(|path| path.parent() == Some(dir))
    }

    pub(super) fn touches(&self, path: &Path) -> bool {
        self.paths().any(|changed| changed == path)
    }
}

impl Names {
    pub(super) fn live(&self) -> &Arc<Map> {
        &self.live
    }

    pub(super) fn get(&self, path: &Path) -> Option<u64> {
        self.live.get(path).copied()
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(Arc::make_mut(&mut self.live));
        self.pending.push(change);
    }

    /// Makes some of the pending changes durable.
    pub(super) fn settle(&mut self, which: impl Fn(&NameChange) -> bool) {
        for change in self.pending.extract_if(.., |change| which(change)) {
            change.apply(Arc::make_mut(&mut self.durable));
        }
    }

    /// The names after a power cut that some of the pending changes survive. What lies in a directory that did not survive is gone too.
    pub(super) fn after_crash(&self, survives: impl Fn(usize) -> bool) -> Names {
        if self.pending.is_empty() {
            return Names { live: Arc::clone(&self.durable), durable: Arc::clone(&self.durable), pending: Vec::new() };
        }
        let mut all = Map::clone(&self.durable);
        for (_, change) in self.pending.iter().enumerate().filter(|(index, _)| survives(*index)) {
            change.apply(&mut all);
        }
        // Paths are in order, so a directory comes before what is in it.
        let mut reachable = Map::new();
        for (path, inode) in all {
            if path.parent().is_none_or(|parent| is_root(parent) || reachable.contains_key(parent)) {
                reachable.insert(path, inode);
            }
        }
        let reachable = Arc::new(reachable);
        Names { live: Arc::clone(&reachable), durable: reachable, pending: Vec::new() }
    }
}

/// The root, or the working directory: always there, and never in the map.
pub(super) fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}
