//! The system's word that something has changed in a directory. It only says when to look; where it says nothing, polling finds out.

use std::{ffi::OsStr, path::Path, sync::Arc};

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::stop::Bell;
use crate::sys::Disk;

/// Rings a bell while it is kept.
#[derive(Debug)]
pub(crate) struct Notice {
    _watcher: RecommendedWatcher,
}

impl Notice {
    /// Watches the directory of a journal for changes of the file of that name; `None` where the system cannot do that.
    pub(crate) fn of(disk: &Disk, path: &Path, bell: &Arc<Bell>) -> Option<Notice> {
        let name = path.file_name()?.to_owned();
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_of_it = move |path: &Path| path.file_name() == Some::<&OsStr>(&name);
        Notice::new(disk, dir, bell, move |event| event.paths.iter().any(|path| is_of_it(path)))
    }

    /// Watches a directory for changes of any file in it.
    pub(crate) fn of_dir(disk: &Disk, dir: &Path, bell: &Arc<Bell>) -> Option<Notice> {
        Notice::new(disk, dir, bell, |_| true)
    }

    fn new(disk: &Disk, dir: &Path, bell: &Arc<Bell>, is_of_it: impl Fn(&Event) -> bool + Send + 'static) -> Option<Notice> {
        if !disk.is_real() {
            return None;
        }
        let bell = Arc::clone(bell);
        let told = move |event: notify::Result<Event>| match event {
            // Opening and reading, by us too, changes nothing.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) || !is_of_it(&event) => {}
            _ => bell.ring(),
        };
        let watcher = RecommendedWatcher::new(told, Config::default());
        let watching = watcher.and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).map(|()| watcher));
        watching
            .inspect_err(|error| tracing::debug!(dir = %dir.display(), %error, "changes are not told here; polling finds them"))
            .ok()
            .map(|watcher| Notice { _watcher: watcher })
    }
}
