//! What verifying a journal gives: a report of counts and findings, and progress on the way.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    error::{Attempt, Error, Result},
    format::verdict::{Code, Severity},
    segment::Segment,
    sys::File,
};

/// What was found in a journal, and how much of it is good.
///
/// Counts are exact however many findings there are; the findings themselves are kept up to
/// [`VerifyOptions::findings_max`](super::VerifyOptions::findings_max).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"type\":\"hello\"}\n{\"type\":\"mess")?;
/// let report = untorn::verify(&path)?;
/// assert!(!report.is_clean());
/// assert_eq!((report.records(), report.damaged_bytes()), (1, 13));
/// assert_eq!(report.good().offset, 17);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) path: PathBuf,
    pub(super) strict: bool,
    pub(super) complete: bool,
    pub(super) live: bool,
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) sealed: u64,
    pub(super) plain: u64,
    pub(super) blank: u64,
    pub(super) first_seq: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) damaged_bytes: u64,
    pub(super) salvageable: u64,
    pub(super) good: Good,
    pub(super) counts: BTreeMap<Code, u64>,
    pub(super) findings_total: u64,
    pub(super) findings: Vec<Finding>,
}

/// Where the damage begins: all before it is good.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good {
    /// The file of the segment.
    pub path: Arc<Path>,
    /// The number of the segment.
    pub segment: u64,
    /// Bytes from the start of the file up to which all is good; always on a boundary, but at the end of a last record that lacks its LF.
    pub offset: u64,
    /// The number of good lines, and so of the last one.
    pub line: u64,
}

/// One thing found: its code, its place, and how much it concerns.
///
/// Neighbouring lines with the same codes are told in one finding each, with a [`count`](Finding::count). A damaged line has one finding, with
/// the first code that fits of `too-long`, `nul-run`, `glued`, `spliced`, `not-utf8`, `crc-mismatch`, `not-json`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// The file of the segment it is in.
    pub path: Arc<Path>,
    /// The number of that segment.
    pub segment: u64,
    /// The line's number, from 1; of several lines, the first one's.
    pub line: u64,
    /// Bytes from the start of the line, plus 1: `offset - (column - 1)` is where the line starts.
    pub column: u64,
    /// The byte to look at, from the start of the file: of `spliced` the start of the whole record, of `glued` the start of the second one, of
    /// `nul-run` the first NUL, of `not-json` and `not-utf8` the byte that does not fit; of anything else the start of the line or the range.
    pub offset: u64,
    /// Of damage, the bytes that belong to no whole record, LFs included where the whole line is lost; of anything else, the bytes of its lines.
    pub len: u64,
    /// How many neighbouring lines it stands for; of `open-batch`, how many records are withheld.
    pub count: u64,
    /// What a person should read, in one short line without any of the file's content.
    pub message: String,
    /// How many whole records a repair would take out of the damage.
    pub salvageable: u64,
}

/// How far a verification is, and what it has just found.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes judged so far, over all segments.
    pub bytes_done: u64,
    /// Bytes to judge, over all segments.
    pub bytes_total: u64,
    /// What was found, if that is the news. All findings pass here, also those that the report does not keep.
    pub finding: Option<&'a Finding>,
    /// The file that is being verified, and its path.
    pub(crate) file: Option<(&'a Path, &'a File)>,
}

impl Progress<'_> {
    /// Reads bytes of the file that is being verified, from an offset such as [`Finding::offset`]: fewer than there is room for at its end.
    ///
    /// Offsets in a compressed file are those of what it holds, and so are these bytes. It is open already, so nothing is decompressed from its
    /// start again. Without a finding, there may be no file to read.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let Some((path, file)) = self.file else { return Ok(0) };
        file.read_full_at(into, offset).map_err(|error| Error::io(Attempt::Read, path, error))
    }
}

impl Good {
    /// Nothing of the segment is known to be good yet.
    pub(super) fn before(segment: &Segment) -> Good {
        Good { path: segment.path.clone(), segment: segment.number, offset: segment.start, line: 0 }
    }
}

impl Report {
    /// Of nothing yet; `first` is the segment that the journal begins with.
    pub(super) fn new(path: &Path, strict: bool, first: Good) -> Report {
        Report {
            path: path.to_owned(),
            strict,
            complete: false,
            live: false,
            bytes: 0,
            lines: 0,
            sealed: 0,
            plain: 0,
            blank: 0,
            first_seq: None,
            last_seq: None,
            damaged_bytes: 0,
            salvageable: 0,
            good: first,
            counts: BTreeMap::new(),
            findings_total: 0,
            findings: Vec::new(),
        }
    }

    /// The journal, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// No damage: no finding is an error, nor a warning if the options were strict. `false` if the verification was stopped early.
    pub fn is_clean(&self) -> bool {
        let worst = if self.strict { Severity::Warning } else { Severity::Error };
        self.complete && self.counts.keys().all(|code| code.severity() < worst)
    }

    /// Whether all of the journal was judged; `false` if the callback stopped it.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether somebody was writing to the journal meanwhile: a writer held the lock, or the file changed its size.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether any record is sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed > 0
    }

    /// Bytes judged, over all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lines that end in an LF, whatever is in them.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Whole records, sealed and plain; a last one that lacks only its LF is one of them, those of a batch whose end is missing are not.
    pub fn records(&self) -> u64 {
        self.sealed + self.plain
    }

    /// Whole records whose seal holds.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Whole records without a seal.
    pub fn plain(&self) -> u64 {
        self.plain
    }

    /// Lines of nothing but white space.
    pub fn blank(&self) -> u64 {
        self.blank
    }

    /// The number of the first sealed record.
    pub fn first_seq(&self) -> Option<u64> {
        self.first_seq
    }

    /// The number of the last sealed record.
    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// Bytes of the damage that belong to no whole record: what a repair takes out.
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// How many whole records a repair would take out of the damage; they are not among [`records`](Report::records).
    pub fn salvageable(&self) -> u64 {
        self.salvageable
    }

    /// Where the first damage begins, or the end of the journal.
    pub fn good(&self) -> &Good {
        &self.good
    }

    /// The first findings, in the order of the file.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many findings there are, kept or not.
    pub fn findings_total(&self) -> u64 {
        self.findings_total
    }

    /// What was found, and how often: see [`count`](Report::count).
    pub fn codes(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        self.counts.iter().map(|(code, count)| (*code, *count))
    }

    /// How often `code` was found: the sum of its findings' counts, kept or not.
    pub fn count(&self, code: Code) -> u64 {
        self.counts.get(&code).copied().unwrap_or_default()
    }
}

impl Finding {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

impl fmt::Display for Finding {
    /// `path:line:column: severity[code]: message (byte offset)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { code, line, column, message, offset, .. } = self;
        write!(f, "{}:{line}:{column}: {}[{code}]: {message} (byte {offset})", self.path.display(), code.severity())
    }
}
