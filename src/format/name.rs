//! The names of the files that make up a journal, all derived from the name of its active segment.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// At least this many digits number an archived segment; numbers are compared as numbers, whatever their digits.
const SEGMENT_DIGITS: usize = 6;

const QUARANTINE_SUFFIX: &str = ".quarantine";
const BACKUP_SUFFIX: &str = ".bak-";
const ORIGINAL_SUFFIX: &str = ".original-";
const TEMPORARY_SUFFIX: &str = ".untorn-tmp-";
const PREVIOUS_SUFFIX: &str = ".previous";
const ZST_SUFFIX: &str = ".zst";

/// How a moment is written in names and ids.
pub(crate) const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// The file that keeps what repairs of `journal` removed.
pub(crate) fn quarantine(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(QUARANTINE_SUFFIX);
    name.into()
}

/// The journal as it was before the repair of that id; later tries have a number behind it.
pub(crate) fn backup(journal: &OsStr, repair: &str, attempt: u32) -> OsString {
    beside(journal, BACKUP_SUFFIX, repair, attempt)
}

/// What undoing the repair of that id gives, where the journal has gone on since.
pub(crate) fn original(journal: &OsStr, repair: &str, attempt: u32) -> OsString {
    beside(journal, ORIGINAL_SUFFIX, repair, attempt)
}

/// The next content of the journal while it is written.
pub(crate) fn temporary(journal: &OsStr, process: u32, attempt: u32) -> OsString {
    beside(journal, TEMPORARY_SUFFIX, &process.to_string(), attempt)
}

/// The generation that a file replaced: a checkpoint's or a snapshot's.
pub(crate) fn previous(current: &Path) -> PathBuf {
    let mut name = current.as_os_str().to_owned();
    name.push(PREVIOUS_SUFFIX);
    name.into()
}

fn beside(journal: &OsStr, suffix: &str, stamp: &str, attempt: u32) -> OsString {
    let mut name = journal.to_owned();
    name.push(suffix);
    name.push(stamp);
    if attempt > 0 {
        name.push(format!("-{}", attempt + 1));
    }
    name
}

/// Whether [`backup`] gives this name.
pub(crate) fn is_backup(journal: &OsStr, name: &OsStr) -> bool {
    let stamp_of = |name: &str| name.split('-').next().map(ToOwned::to_owned);
    let rest = name.as_encoded_bytes().strip_prefix(journal.as_encoded_bytes()).and_then(|rest| rest.strip_prefix(BACKUP_SUFFIX.as_bytes()));
    let stamp = rest.and_then(|rest| str::from_utf8(rest).ok()).and_then(stamp_of);
    stamp.is_some_and(|stamp| jiff::civil::DateTime::strptime(STAMP, &stamp).is_ok())
}

/// Whether [`temporary`] gives this name.
pub(crate) fn is_temporary(journal: &OsStr, name: &OsStr) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(journal.as_encoded_bytes());
    rest.is_some_and(|rest| rest.starts_with(TEMPORARY_SUFFIX.as_bytes()))
}

/// The name of an archived segment: stem, `.`, number, `.`, extension.
pub(crate) fn archived(journal: &OsStr, number: u64) -> OsString {
    let (stem, extension) = split(journal);
    let mut name = stem.to_owned();
    name.push(format!(".{number:0SEGMENT_DIGITS$}"));
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    name
}

/// What the names of all archived segments begin with.
pub(crate) fn archived_prefix(journal: &OsStr) -> OsString {
    let mut prefix = split(journal).0.to_owned();
    prefix.push(".");
    prefix
}

/// The compressed twin of an archived segment.
pub(crate) fn compressed(archived: &Path) -> PathBuf {
    let mut name = archived.as_os_str().to_owned();
    name.push(ZST_SUFFIX);
    name.into()
}

/// One name in a journal's directory that an archived segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ArchivedName {
    pub(crate) number: u64,
    pub(crate) compressed: bool,
}

/// Reads `name` as the name of an archived segment of `journal`.
pub(crate) fn parse_archived(journal: &OsStr, name: &OsStr) -> Option<ArchivedName> {
    let (stem, extension) = split(journal);
    let rest = name.as_encoded_bytes().strip_prefix(stem.as_encoded_bytes())?.strip_prefix(b".")?;
    let (rest, compressed) = match rest.strip_suffix(ZST_SUFFIX.as_bytes()) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let digits = match extension {
        Some(extension) => rest.strip_suffix(extension.as_encoded_bytes())?.strip_suffix(b".")?,
        None => rest,
    };
    if digits.len() < SEGMENT_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // A number has one name, or the name could not be told from it; and there is always a next one, for the active segment.
    if digits.len() > SEGMENT_DIGITS && digits.starts_with(b"0") {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| (1..u64::MAX).contains(number))?;
    Some(ArchivedName { number, compressed })
}

fn split(journal: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let path = Path::new(journal);
    (path.file_stem().unwrap_or(journal), path.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archived_names_are_read_back_as_written() {
        for journal in ["a.jsonl", "a.b.ndjson", "plain", ".hidden.jsonl"].map(OsStr::new) {
            for number in [1, 999_999, 1_000_000, u64::MAX - 1] {
                let name = archived(journal, number);
                assert_eq!(parse_archived(journal, &name), Some(ArchivedName { number, compressed: false }), "{name:?}");
            }
        }
        assert_eq!(archived(OsStr::new("s.jsonl"), 7), "s.000007.jsonl");
        let compressed = parse_archived(OsStr::new("s.jsonl"), OsStr::new("s.000007.jsonl.zst"));
        assert_eq!(compressed, Some(ArchivedName { number: 7, compressed: true }));
    }

    /// X-17, C27: conflict copies, quarantines and backups beside a journal are none of its segments.
    #[test]
    fn other_names_beside_a_journal_are_no_segments() {
        let journal = OsStr::new("s.jsonl");
        for name in [
            "s.jsonl",
            "s.jsonl.quarantine",
            "s.jsonl.bak-20261121T040201Z",
            "s (1).jsonl",
            "s.sync-conflict-20260101-000000-ABCDEFG.jsonl",
            "s.00001.jsonl",
            "s.000000.jsonl",
            "s.00000a.jsonl",
            "t.000001.jsonl",
            "s.000001.json",
            "s.99999999999999999999999.jsonl",
            "s.18446744073709551615.jsonl",
            "s.0000001.jsonl",
        ] {
            assert_eq!(parse_archived(journal, OsStr::new(name)), None, "{name}");
        }
    }
}
