//! Which journals are meant, and which files they are made of. A directory gives each of its journals once.
//!
//! Archived segments belong to their journal. Quarantines and backups have other endings; the copies that sync tools make of a file they could
//! not merge look like journals, and are told by their names.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::compressed;

const EXTENSIONS: [&str; 2] = ["jsonl", "ndjson"];

/// At least so many digits number an archived segment.
const SEGMENT_DIGITS: usize = 6;

/// What the arguments name, in order: with `recursive`, a directory stands for the journals under it. An archived segment goes with its journal, if
/// that was named too.
pub(crate) fn named(arguments: &[OsString], recursive: bool, on_error: &mut impl FnMut(&Path, io::Error)) -> Vec<OsString> {
    let all: BTreeSet<&Path> = arguments.iter().map(Path::new).collect();
    let mut named = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if recursive && path.is_dir() {
            named.extend(under(path, on_error).iter().map(|path| short(path).into()));
        } else if !whole(path).is_some_and(|whole| all.contains(&*whole)) {
            named.push(argument.clone());
        }
    }
    named
}

/// The files that a journal is made of, in the order of its records; itself, if there is none. Of a plain and a compressed segment, the plain one.
pub(crate) fn files_of(journal: &Path) -> io::Result<Vec<PathBuf>> {
    let dir = journal.parent().filter(|dir| !dir.as_os_str().is_empty());
    // Archived segments are beside the file that a link leads to.
    let target = fs::read_link(journal).map_or(journal.to_owned(), |target| dir.map_or(target.clone(), |dir| dir.join(target)));
    let mut archived = Vec::new();
    for entry in fs::read_dir(target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))? {
        let path = target.with_file_name(entry?.file_name());
        if whole(&path).is_some_and(|whole| whole == target) && !compressed::has_better_twin(&path, |twin| twin.exists()) {
            archived.push(path);
        }
    }
    // Numbers with more digits are larger.
    archived.sort_by_key(|path| {
        let plain = compressed::plain_name(path).unwrap_or_else(|| path.clone());
        (plain.as_os_str().len(), plain)
    });
    if archived.is_empty() || target.exists() {
        archived.push(target);
    }
    Ok(archived)
}

/// Finds the journals under `dir`, sorted by name. A directory that cannot be read is told to `on_error`.
fn under(dir: &Path, on_error: &mut impl FnMut(&Path, io::Error)) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let mut names = BTreeSet::new();
        match list(&dir, &mut names) {
            Ok(inner) => dirs.extend(inner),
            Err(error) => on_error(&dir, error),
        }
        let journals = names.iter().filter(|name| !original(name).is_some_and(|original| names.contains(&original)));
        found.extend(journals.map(|name| whole(name).unwrap_or_else(|| name.clone())));
    }
    found.iter().filter(|path| !compressed::has_better_twin(path, |twin| found.contains(twin))).cloned().collect()
}

/// Adds the files of `dir` that are named like journals or their segments; gives the directories in it. Links to directories are not followed.
fn list(dir: &Path, names: &mut BTreeSet<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            dirs.push(path);
        } else if is_journal_name(&path) && (kind.is_file() || fs::metadata(&path).is_ok_and(|target| target.is_file())) {
            names.insert(path);
        }
    }
    Ok(dirs)
}

fn is_journal_name(path: &Path) -> bool {
    let has_extension = |path: &Path| path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
    [compressed::plain_name(path), whole(path), Some(path.to_owned())].iter().flatten().any(|path| has_extension(path))
}

/// The journal that an archived segment belongs to: `a/s.jsonl` of `a/s.000001.jsonl` and `a/s.000001.jsonl.zst`.
pub(crate) fn whole(segment: &Path) -> Option<PathBuf> {
    let name = segment.file_name()?.to_str()?;
    let name = name.strip_suffix(".zst").unwrap_or(name);
    let (rest, extension) = name.rsplit_once('.')?;
    let (stem, digits) = rest.rsplit_once('.')?;
    let is_number = digits.len() >= SEGMENT_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !stem.is_empty()).then(|| segment.with_file_name(format!("{stem}.{extension}")))
}

/// A path without a leading `./`, unless it is what keeps a name from being read as an option.
pub(crate) fn short(path: &Path) -> &Path {
    path.strip_prefix(".").ok().filter(|path| !path.as_os_str().as_encoded_bytes().starts_with(b"-")).unwrap_or(path)
}

/// The file that a sync tool's conflict copy is a copy of.
fn original(copy: &Path) -> Option<PathBuf> {
    if let Some(plain) = compressed::plain_name(copy) {
        let ending = copy.extension()?.to_str()?;
        return Some(format!("{}.{ending}", original(&plain)?.to_str()?).into());
    }
    let stem = copy.file_stem()?.to_str()?;
    let extension = copy.extension()?.to_str()?;
    let cut = stem.find(".sync-conflict-").or_else(|| numbered(stem)).or_else(|| stem.find(" (").filter(|_| stem.contains("conflicted copy")))?;
    Some(copy.with_file_name(format!("{}.{extension}", stem.get(..cut)?)))
}

/// Where ` (1)` begins, if the stem ends in such a number.
fn numbered(stem: &str) -> Option<usize> {
    let (first, number) = stem.strip_suffix(')')?.rsplit_once(" (")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(first.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C29, X-17: of twins the plain one is taken; what sync tools and repairs leave beside a journal is none.
    #[test]
    fn a_directory_gives_each_journal_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "a/s.jsonl",
            "a/s.000001.jsonl",
            "a/s.000002.jsonl.zst",
            "a/s.jsonl.quarantine",
            "a/s.jsonl.bak-20261121T040201Z",
            "a/s (1).jsonl",
            "a/s.sync-conflict-20260101-000000-ABCDEFG.jsonl",
            "a/s (Ann's conflicted copy 2026-01-01).jsonl",
            "a/s.000002.jsonl",
            "a/s.jsonl.gz",
            "b/rotated.000003.jsonl",
            "b/squeezed.000001.jsonl.zst",
            "b/squeezed.jsonl.gz",
            "c/old.jsonl.gz",
            "c/old.jsonl.zst",
            "c/older.ndjson.gz",
            "c/older (1).ndjson.gz",
            "c/notes.txt.gz",
            "c/old.jsonl.bak-20261121T040201Z.gz",
            "b/alone (1).jsonl",
            "n.ndjson",
            "readme.txt",
            "data.json",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = under(dir.path(), &mut |path, error| panic!("{}: {error}", path.display()));
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["a/s.jsonl", "b/alone (1).jsonl", "b/rotated.jsonl", "b/squeezed.jsonl", "c/old.jsonl.zst", "c/older.ndjson.gz", "n.ndjson"]
        );
    }
}
