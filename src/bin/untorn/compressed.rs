//! Which files are compressed. They are read like plain ones and never changed, so whoever would change one is told what undoes it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

/// One way to compress.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    ending: &'static str,
    magic: &'static [u8],
    /// The command that undoes it.
    pub(crate) undo: &'static str,
}

/// The better one first: of twins it is read.
const KINDS: [Kind; 2] = [
    Kind { name: "zstd", ending: "zst", magic: b"\x28\xb5\x2f\xfd", undo: "zstd -d" },
    Kind { name: "gzip", ending: "gz", magic: b"\x1f\x8b", undo: "gzip -d" },
];

/// What the first bytes of a file tell.
pub(crate) fn by_bytes(head: &[u8]) -> Option<&'static Kind> {
    // An empty segment is nothing but a table of frames.
    let is_empty_segment = head.starts_with(b"\x5e\x2a\x4d\x18");
    KINDS.iter().find(|kind| head.starts_with(kind.magic) || is_empty_segment && kind.name == "zstd")
}

pub(crate) fn by_name(path: &Path) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| path.extension().is_some_and(|extension| extension == kind.ending))
}

/// How a file is compressed; of one that cannot be read, nothing is known.
pub(crate) fn of_file(path: &Path) -> Option<&'static Kind> {
    let mut head = Vec::new();
    if fs::metadata(path).is_ok_and(|found| found.is_file()) {
        File::open(path).ok()?.take(4).read_to_end(&mut head).ok()?;
    }
    by_bytes(&head)
}

/// The name without the ending of a compressed file; `None` if it has no such ending.
pub(crate) fn plain_name(path: &Path) -> Option<PathBuf> {
    by_name(path).map(|_| path.with_extension(""))
}

/// Whether another name stands for the same file, compressed in a better way or not at all.
pub(crate) fn has_better_twin(path: &Path, is_there: impl Fn(&Path) -> bool) -> bool {
    let Some(plain) = plain_name(path) else { return false };
    let better = KINDS.iter().take_while(|kind| path.extension().is_none_or(|extension| extension != kind.ending));
    is_there(&plain) || better.into_iter().any(|kind| is_there(&with_ending(&plain, kind)))
}

fn with_ending(plain: &Path, kind: &Kind) -> PathBuf {
    let mut name = plain.as_os_str().to_owned();
    name.push(".");
    name.push(kind.ending);
    name.into()
}
