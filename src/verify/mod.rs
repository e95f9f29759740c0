//! The read-only check of a journal: every line judged, on all cores, in bounded memory, and never a lock taken.
//!
//! The file is divided into chunks, which threads judge line by line ([`chunk`]) and tell in the order of the file ([`parallel`]). One thread
//! puts together what only neighbours can tell ([`merge`]) and makes the findings ([`record`]). Corrupt lines are looked at again there, since
//! what can be salvaged of one depends on the healthy lines around it ([`corrupt`]). Last comes the end of the file ([`end`]), which may be
//! unfinished because somebody is writing ([`live`]).

mod chunk;
mod corrupt;
mod end;
mod keys;
pub(crate) mod live;
mod merge;
mod numbers;
mod parallel;
mod record;
mod report;
mod tail;
#[cfg(test)]
mod tests;

use std::{io, num::NonZero, ops::ControlFlow, path::Path, sync::Arc};

use chunk::Source;
use corrupt::Examiner;
use live::Live;
use merge::Merge;
use parallel::{Division, Told};
use record::Recorder;

use crate::{
    error::Result,
    format::LINE_BYTES_MAX_DEFAULT,
    scan::Scanner,
    segment::{Segment, Segments},
    sys::{Disk, names::Names},
};

pub use report::{Finding, Good, Progress, Report};

/// What one thread judges at a time: large enough that handing over costs nothing, small enough that threads finish together.
const CHUNK_BYTES: u64 = 4 << 20;

/// How many findings a report keeps by default.
pub const FINDINGS_MAX_DEFAULT: usize = 10_000;

/// Checks a journal, archived segments included, and reports what it found.
///
/// Nothing is written and no lock is taken, so a journal can be checked on a read-only disk and beside a live writer. What is appended meanwhile
/// is not looked at. [`VerifyOptions`] has choices, and a way to see findings as they come.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"type\":\"hello\"}\n{\"type\":\"mess{\"type\":\"hello\"}\n")?;
/// let report = untorn::verify(&path)?;
/// let finding = &report.findings()[0];
/// assert_eq!(finding.code, untorn::Code::Spliced);
/// assert_eq!((finding.line, finding.column, finding.salvageable), (2, 14, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Content is never an error, only a failure of the system is: the path names nothing, a directory, a FIFO or a device
/// ([`ErrorKind::NotAFile`](crate::ErrorKind::NotAFile)), or reading failed.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    VerifyOptions::new().run(path, &mut |_| ControlFlow::Continue(()))
}

/// How a journal is verified.
///
/// Many journals of one directory are verified sooner with the same options than each with its own: the directory is listed once.
///
/// ```
/// # use std::ops::ControlFlow;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"n\":1}\n{\"n\":1}\n")?;
/// let mut told = Vec::new();
/// let report = untorn::VerifyOptions::new().strict().run(&path, &mut |progress| {
///     told.extend(progress.finding.map(ToString::to_string));
///     ControlFlow::Continue(())
/// })?;
/// assert!(!report.is_clean());
/// assert!(told[0].ends_with(":2:1: warning[duplicate]: equal to the record before it (byte 8)"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    strict: bool,
    active_only: bool,
    findings_max: usize,
    line_bytes_max: u64,
    threads: usize,
    chunk_bytes: u64,
    disk: Disk,
    /// For journals of one directory, verified one after the other with the same options.
    names: Arc<Names>,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions::new()
    }
}

impl VerifyOptions {
    /// The defaults: not strict, the whole journal, 10,000 findings kept, lines up to 64 MiB, all cores.
    pub fn new() -> VerifyOptions {
        VerifyOptions {
            strict: false,
            active_only: false,
            findings_max: FINDINGS_MAX_DEFAULT,
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            threads: 0,
            chunk_bytes: CHUNK_BYTES,
            disk: Disk::default(),
            names: Arc::default(),
        }
    }

    /// Takes warnings for damage too, and parses sealed lines as JSON. By default a good CRC stands for that; parsing takes about twice as long.
    pub fn strict(&mut self) -> &mut Self {
        self.strict = true;
        self
    }

    /// Looks at the active segment alone. By default a path names the whole journal.
    pub fn active_only(&mut self) -> &mut Self {
        self.active_only = true;
        self
    }

    /// How many findings the report keeps, 10,000 by default; the others are counted, and the callback sees them all.
    pub fn findings_max(&mut self, max: usize) -> &mut Self {
        self.findings_max = max;
        self
    }

    /// How long a line may be, in bytes with its LF; 64 MiB by default. Each thread may hold one such line in memory.
    pub fn line_bytes_max(&mut self, max: u64) -> &mut Self {
        self.line_bytes_max = max;
        self
    }

    /// How many threads judge lines; 0, the default, is as many as there are cores. The report does not depend on it.
    pub fn threads(&mut self, threads: usize) -> &mut Self {
        self.threads = threads;
        self
    }

    /// Works on an in-memory disk instead of the real one. Outside SemVer.
    #[cfg(feature = "sim")]
    pub fn disk(&mut self, disk: &crate::sim::SimDisk) -> &mut Self {
        self.disk = Disk { sim: Some(disk.clone()) };
        self
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn chunk_bytes(&mut self, bytes: u64) -> &mut Self {
        self.chunk_bytes = bytes;
        self
    }

    /// Verifies a journal and calls `on` as it goes: with every finding, in the order of the file, and some hundred times in a gigabyte without one.
    ///
    /// An open batch is told behind the findings among its lines, once its end turns out to be missing. If `on` breaks off, the report has what
    /// was found until then, and [`Report::is_complete`] is `false`.
    ///
    /// # Errors
    ///
    /// As for [`verify`].
    pub fn run(&self, path: impl AsRef<Path>, on: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) -> Result<Report> {
        let path = path.as_ref();
        let segments = Segments::open_in(&self.disk, &self.names, path, !self.active_only)?;
        let report = Report::new(path, self.strict, Good::before(&segments.oldest()?));
        let mut merge = Merge::new(Recorder::new(report, self.findings_max, on), self.line_bytes_max);
        for number in segments.numbers() {
            merge.recorder.bytes_total += segments.get(number)?.len();
        }
        for number in segments.numbers() {
            let segment = segments.get(number)?;
            match self.segment(&segment, number == segments.active_number(), &mut merge) {
                Ok(()) => {}
                Err(Stop::Failed(error)) => return Err(segment.failed(error)),
                Err(Stop::Enough | Stop::Shrunk) => return Ok(merge.into_report(false)),
            }
        }
        Ok(merge.into_report(true))
    }

    /// Goes on with one segment.
    fn segment(&self, segment: &Segment, is_active: bool, merge: &mut Merge<'_>) -> Flow {
        let line_bytes_max = self.line_bytes_max;
        let source = Source { file: &segment.file, range: segment.start..segment.end, line_bytes_max, strict: self.strict };
        let division = self.division();
        let mut examiner = Examiner::new(&source, division);
        merge.begin(segment, lines_before(segment, line_bytes_max)?);
        let done_before = merge.recorder.bytes_done;
        let judged = division.judge(&source, &mut |told| match told {
            Told::Run(run) => merge.run(&run, &mut examiner),
            Told::Through(offset) => merge.recorder.through(done_before + (offset - segment.start)),
        });
        if !matches!(judged, Err(Stop::Shrunk)) {
            judged?;
        }
        let range = segment.start..merge.end();
        let live = if range.end < segment.end {
            Some(Live::Moved)
        } else if is_active {
            live::look(&self.disk, &segment.file, segment.end, merge.is_unfinished())?
        } else {
            None
        };
        merge.recorder.report.live |= live.is_some();
        merge.recorder.report.bytes += range.end - range.start;
        merge.finish(&Source { range, ..source }, &mut examiner, live.as_ref())
    }

    fn division(&self) -> Division {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if self.threads == 0 { cores() } else { self.threads };
        Division { threads, chunk_bytes: self.chunk_bytes.max(1) }
    }
}

/// The lines of a segment that are also in the one before, and are not judged again.
fn lines_before(segment: &Segment, line_bytes_max: u64) -> io::Result<u64> {
    let mut lines = Scanner::new(0, segment.start, line_bytes_max);
    let mut count = 0;
    while lines.next(&segment.file)?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Why verifying stops before the end.
enum Stop {
    /// The callback broke off, or whoever listened is gone.
    Enough,
    /// The file became shorter while it was read.
    Shrunk,
    Failed(io::Error),
}

type Flow<T = ()> = std::result::Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Failed(error)
    }
}
