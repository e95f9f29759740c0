//! The names in a directory, remembered for whoever asks for the same directory next.
//!
//! A directory of ten thousand journals would otherwise be listed ten thousand times to verify them. A listing is used again only while the directory
//! says that nothing in it was created, renamed or removed since: its time of change is the same, and was old enough when it was listed that a later
//! change could not have had the same. Where the system does not tell, nothing is remembered.

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::{Dir, FileId, Seen};

/// No file system counts time more coarsely.
const TIME_GRAIN: Duration = Duration::from_secs(2);

/// Nor does one that counts parts of a second: the system takes the time of its last tick.
const TIME_GRAIN_FINE: Duration = Duration::from_millis(100);

/// When a directory was changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) id: FileId,
    pub(super) at: SystemTime,
    /// When the system took note of that. Programs that copy directories set the other time back.
    pub(super) told: (i64, i64),
}

impl Changed {
    /// How far apart two changes are at least that have different times.
    fn grain(&self) -> Duration {
        let has_parts = self.told.1 != 0 && self.at.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|at| at.subsec_nanos() != 0);
        if has_parts { TIME_GRAIN_FINE } else { TIME_GRAIN }
    }
}

impl Seen {
    /// Whether the last change is so long ago that one to come will have another time.
    pub(crate) fn is_settled(&self) -> bool {
        let (seconds, parts) = self.changed;
        let grain = if parts == 0 { TIME_GRAIN } else { TIME_GRAIN_FINE };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(seconds).map_or(true, |seconds| now.saturating_sub(Duration::new(seconds, parts)) > grain)
    }
}

/// The listing of one directory at a time.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Option<(Changed, Listing)>>);

/// All names in a directory, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Listing(Arc<Vec<OsString>>);

impl Names {
    /// Lists a directory, or remembers how it was listed.
    pub(crate) fn list(&self, dir: &Dir) -> io::Result<Listing> {
        let changed = dir.changed();
        let remembered = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, listing)) = &*remembered()
            && Some(*then) == changed
        {
            return Ok(listing.clone());
        }
        let mut names = dir.names()?;
        names.sort_unstable();
        let listing = Listing(Arc::new(names));
        let is_settled = |changed: &Changed| SystemTime::now().duration_since(changed.at).is_ok_and(|age| age > changed.grain());
        *remembered() = changed.filter(is_settled).map(|changed| (changed, listing.clone()));
        Ok(listing)
    }
}

impl Listing {
    /// Whether nothing was listed since.
    pub(crate) fn is_same(&self, other: &Listing) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OsString> {
        self.0.iter()
    }

    /// The names that begin with this.
    pub(crate) fn beginning_with<'a>(&'a self, prefix: &'a OsStr) -> impl Iterator<Item = &'a OsString> {
        let prefix = prefix.as_encoded_bytes();
        let from = self.0.partition_point(|name| name.as_encoded_bytes() < prefix);
        self.0.iter().skip(from).take_while(move |name| name.as_encoded_bytes().starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Disk;

    fn age(dir: &std::path::Path) {
        // What lists next sees a directory that was changed long ago, or now.
        std::fs::File::open(dir).unwrap().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    fn listed(names: &Names, dir: &std::path::Path) -> Vec<String> {
        let listing = names.list(&Disk::default().open_dir(dir).unwrap()).unwrap();
        listing.beginning_with("a".as_ref()).map(|name| name.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_directory_that_changes_is_listed_again() {
        let dir = tempfile::tempdir().unwrap();
        let names = Names::default();
        for name in ["a.jsonl", "a.000001.jsonl", "b.jsonl", "A.jsonl"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(listed(&names, dir.path()), ["a.000001.jsonl", "a.jsonl"]);
        std::fs::write(dir.path().join("a.000002.jsonl"), "").unwrap();
        assert_eq!(listed(&names, dir.path()).len(), 3, "what is new is not remembered");
        age(dir.path());
        assert_eq!(listed(&names, dir.path()).len(), 3);
        let was_remembered = names.0.lock().unwrap().is_some();
        assert!(was_remembered);
        std::fs::remove_file(dir.path().join("a.000001.jsonl")).unwrap();
        assert_eq!(listed(&names, dir.path()), ["a.000002.jsonl", "a.jsonl"]);
        let other = tempfile::tempdir().unwrap();
        assert!(listed(&names, other.path()).is_empty());
    }
}
