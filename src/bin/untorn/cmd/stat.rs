//! `untorn stat`: what is in journals, in numbers.
//!
//! Every line is read once. Memory does not grow with the journal: see [`sizes`](crate::sizes).

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use untorn::{Code, ErrorKind, Line, Mark, Others, Process, Reader, Verdict};

use crate::{
    compressed,
    exit::{Exit, Stop, help},
    interrupt,
    lag::{self, Lag},
    output::Output,
    progress::Progress,
    say::{self, STRONG, bad, good, notable, styled},
    sizes::{Share, Sizes},
    source::Source,
    summary,
    text::{self, Shown, count, grouped},
    times::Times,
};

/// Tell how much is in journals
///
/// Sizes are those of lines on disk. Times are taken from a member of the records that is named like one.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Tell how far the consumers are whose checkpoints are in DIR
    #[arg(long, value_name = "DIR")]
    checkpoints: Vec<PathBuf>,

    /// Print one JSON object for each journal
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    interrupt::end_at_once();
    let mut output = Output::new();
    let mut onlookers = Onlookers::default();
    let mut exit = Exit::Done;
    for file in &args.files {
        match exit.and(stat(file, args, &mut onlookers, &mut output)) {
            Some(so_far) => exit = so_far,
            None => break,
        }
    }
    Ok(exit)
}

/// Looks at all processes once for many small journals, and again where reading one of them took a while.
#[derive(Default)]
struct Onlookers {
    last: Option<(Instant, Others)>,
}

/// What may have changed among the processes since is no older than this.
const LOOK_LASTS: Duration = Duration::from_secs(1);

impl Onlookers {
    fn strangers(&mut self, path: &Path) -> untorn::Result<Vec<Process>> {
        let recent = self.last.take().filter(|(at, _)| at.elapsed() < LOOK_LASTS);
        let (_, others) = self.last.insert(recent.unwrap_or_else(|| (Instant::now(), Others::look())));
        others.strangers(path)
    }
}

fn stat(file: &OsStr, args: &Args, onlookers: &mut Onlookers, output: &mut Output) -> Result<Exit, Stop> {
    let source = Source::open(file)?;
    let lags = lag::of(&args.checkpoints, source.path())?;
    let stat = Stat::of(&source, lags, onlookers).map_err(|error| explained(error, file))?;
    if args.json {
        output.json(&Told::of(&source, &stat))?;
        output.flush()?;
    } else {
        stat.tell(&source);
    }
    Ok(if stat.damaged_lines > 0 { Exit::Damage } else { Exit::Done })
}

/// All that is told of one journal.
#[derive(Default)]
struct Stat {
    segments: Vec<Segment>,
    records: u64,
    sealed: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    damaged_lines: u64,
    damaged_bytes: u64,
    tail: Tail,
    sizes: Sizes,
    /// The number of the largest record, or else its place among them.
    largest: Option<u64>,
    times: Times,
    holder: Option<Process>,
    strangers: Vec<Process>,
    lags: Vec<Lag>,
}

/// One file of the journal.
struct Segment {
    path: PathBuf,
    /// Of a compressed file, those of its content.
    bytes: u64,
    /// How it is compressed, and what it takes on disk.
    compressed: Option<(&'static str, u64)>,
    records: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

/// How the journal ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Tail {
    #[default]
    Clean,
    /// The last record lacks its LF.
    Unterminated,
    /// Bytes behind the last LF are no whole record.
    Torn,
    /// The end of a batch is missing.
    OpenBatch,
    /// Somebody is writing there, so what is unfinished is no damage.
    InFlight,
}

impl Stat {
    fn of(source: &Source, lags: Vec<Lag>, onlookers: &mut Onlookers) -> untorn::Result<Stat> {
        let mut stat = Stat { lags, ..Stat::default() };
        let mut reader = Reader::open(source.path())?;
        let total = fs::metadata(source.path()).map_or(0, |found| found.len());
        let mut progress = Progress::of(source.name(source.path()));
        let mut done = 0;
        // Lines and bytes at the end that are torn, or only not finished yet.
        let mut unfinished = (0, 0);
        while let Some(mut line) = reader.next_line()? {
            let mark = line.mark();
            done += mark.end.offset - mark.start.offset;
            progress.at(done.min(total), total);
            stat.enter(line.path());
            stat.reach(mark.end.offset);
            unfinished = match line.verdict() {
                Verdict::Torn => (unfinished.0 + 1, unfinished.1 + line.bytes().len() as u64),
                _ => (0, 0),
            };
            match line.verdict() {
                Verdict::Sealed | Verdict::Plain => {
                    // Its mark ends behind its LF, its bytes in front of it.
                    let is_terminated = line.bytes().len() as u64 != mark.end.offset - mark.start.offset;
                    stat.tail = if is_terminated { Tail::Clean } else { Tail::Unterminated };
                    stat.add(&mut line, &mark);
                }
                Verdict::Torn if mark.seq.is_some() => stat.tail = Tail::OpenBatch,
                _ => {}
            }
        }
        drop(progress);
        let damage = reader.damage();
        (stat.damaged_lines, stat.damaged_bytes) = (damage.lines(), damage.bytes());
        if damage.count(Code::TornTail) > 0 {
            stat.tail = Tail::Torn;
        }
        if unfinished.0 > 0 && reader.is_live()? {
            stat.tail = Tail::InFlight;
            stat.damaged_lines = stat.damaged_lines.saturating_sub(unfinished.0);
            // The lines of an open batch have their LFs beside their bytes.
            stat.damaged_bytes = if stat.damaged_lines == 0 { 0 } else { stat.damaged_bytes.saturating_sub(unfinished.1) };
        }
        if let Source::Named(_) = source
            && source.path().exists()
        {
            stat.enter(source.path());
            stat.holder = untorn::lock_holder(source.path())?;
            stat.strangers = onlookers.strangers(source.path())?;
        }
        Ok(stat)
    }

    /// Goes on in this file.
    fn enter(&mut self, path: &Path) {
        if self.segments.last().is_none_or(|segment| segment.path.file_name() != path.file_name()) {
            let on_disk = fs::metadata(path).map_or(0, |found| found.len());
            let compressed = compressed::of_file(path).map(|kind| (kind.name, on_disk));
            let bytes = if compressed.is_some() { 0 } else { on_disk };
            self.segments.push(Segment { path: path.to_owned(), bytes, compressed, records: 0, first_seq: None, last_seq: None });
        }
    }

    /// Has met a line that ends at this byte of the segment's content.
    fn reach(&mut self, end: u64) {
        if let Some(segment) = self.segments.last_mut().filter(|segment| segment.compressed.is_some()) {
            segment.bytes = segment.bytes.max(end);
        }
    }

    fn add(&mut self, line: &mut Line<'_>, mark: &Mark) {
        self.records += 1;
        self.lags.iter_mut().for_each(|lag| lag.meet(mark));
        self.sealed += u64::from(mark.seq.is_some());
        self.first_seq = self.first_seq.or(mark.seq);
        self.last_seq = mark.seq.or(self.last_seq);
        if let Some(segment) = self.segments.last_mut() {
            segment.records += 1;
            segment.first_seq = segment.first_seq.or(mark.seq);
            segment.last_seq = mark.seq.or(segment.last_seq);
        }
        let len = mark.end.offset - mark.start.offset;
        if len > self.sizes.max() {
            self.largest = mark.seq.or(Some(self.records));
        }
        self.sizes.add(len);
        if let Some(payload) = line.payload() {
            self.times.add(payload);
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn form(&self) -> &'static str {
        match (self.sealed, self.records) {
            (_, 0) => "empty",
            (0, _) => "plain",
            _ => "sealed",
        }
    }

    fn tell(&self, source: &Source) {
        let path = Shown(source.name(source.path()).display());
        let segments = if self.segments.len() > 1 { format!("{}, ", count(self.segments.len() as u64, "segment")) } else { String::new() };
        let numbers = numbers(self.first_seq, self.last_seq).map(|(first, last)| format!(" ({first} to {last})")).unwrap_or_default();
        let (bytes, records) = (text::size(self.bytes()), count(self.records, "record"));
        let compressed = match &self.segments[..] {
            [Segment { compressed: Some((kind, on_disk)), .. }] => format!(" ({kind}, {} on disk)", text::size(*on_disk)),
            _ => String::new(),
        };
        let form = summary::in_words(self.form(), self.bytes());
        say::lines(format_args!("{}: {form}, {segments}{bytes}{compressed}, {records}{numbers}", styled(STRONG, path)));
        if let Some((name, first, last)) = self.times.span() {
            let [first, last] = [first, last].map(|time| time.strftime("%Y-%m-%d %H:%M:%SZ"));
            say::lines(format_args!("  time       {first} to {last} (\"{name}\")"));
        }
        if let Some(share) = self.sizes.share() {
            self.tell_sizes(&share);
        }
        let tail = match self.tail {
            Tail::Clean => good("clean"),
            Tail::Unterminated => notable("the last record lacks its LF"),
            Tail::Torn => bad("torn"),
            Tail::OpenBatch => bad("the end of a batch is missing"),
            Tail::InFlight => notable("a writer is at work"),
        };
        let holder = self.holder.as_ref().map(|holder| format!("; locked by {}", Shown(holder))).unwrap_or_default();
        say::lines(format_args!("  tail       {tail}{holder}"));
        for stranger in &self.strangers {
            say::lines(format_args!("  {}   {} has it open for writing, and takes no lock", notable("stranger"), Shown(stranger)));
        }
        if self.damaged_lines > 0 {
            let (lines, bytes) = (count(self.damaged_lines, "line"), count(self.damaged_bytes, "byte"));
            say::lines(format_args!("  damaged    {}, {bytes}", bad(lines)));
        }
        self.tell_segments();
        Lag::tell(&self.lags);
        if self.damaged_lines > 0
            && let Source::Named(name) = source
        {
            say::hint(format_args!("`untorn verify {}` shows the damage", text::quoted(Path::new(name))));
        }
    }

    fn tell_sizes(&self, share: &Share) {
        let number = self.largest.map(|largest| format!(" (#{})", grouped(largest))).unwrap_or_default();
        let about = if self.sizes.is_exact() { "" } else { "about " };
        let [p50, p90, p99] = share.percentiles.map(text::short_size);
        let max = text::short_size(self.sizes.max());
        say::lines(format_args!("  record     {about}p50 {p50}   p90 {p90}   p99 {p99}   max {max}{number}"));
        // One percent of fewer is less than a record.
        if self.records >= 100 {
            say::lines(format_args!("             the largest 1 % hold {about}{} % of the bytes", share.largest_percent));
        }
    }

    fn tell_segments(&self) {
        let [archived @ .., _] = &self.segments[..] else { return };
        if archived.is_empty() {
            return;
        }
        let rows: Vec<[String; 5]> = self.segments.iter().enumerate().map(|(at, segment)| segment.row(at == archived.len())).collect();
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default();
        let (names, firsts, lasts, sizes) = (width(0), width(1), width(2), width(3));
        for (at, [name, first, last, size, compressed]) in rows.iter().enumerate() {
            let label = if at == 0 { "segment" } else { "" };
            say::lines(format_args!("  {label:<10} {name:<names$}  {first:<firsts$}  {last:<lasts$}  {size:>sizes$}{compressed}"));
        }
    }
}

impl Segment {
    /// Its name, its first and last number or how many records, its size, how it is compressed.
    fn row(&self, is_last: bool) -> [String; 5] {
        let path = compressed::plain_name(&self.path).unwrap_or_else(|| self.path.clone());
        let number = path.file_stem().map(Path::new).and_then(Path::extension).map(|number| number.to_string_lossy().into_owned());
        let name = number.filter(|_| !is_last).unwrap_or("active".to_owned());
        let (first, last) = numbers(self.first_seq, self.last_seq).unwrap_or_else(|| (count(self.records, "record"), String::new()));
        let compressed = self.compressed.map(|(kind, on_disk)| format!("  {kind}, {} on disk", text::size(on_disk))).unwrap_or_default();
        [name, first, last, text::size(self.bytes), compressed]
    }
}

fn numbers(first: Option<u64>, last: Option<u64>) -> Option<(String, String)> {
    Some((format!("#{}", grouped(first?)), format!("#{}", grouped(last?))))
}

fn explained(error: untorn::Error, file: &OsStr) -> Stop {
    let path = Path::new(file);
    if error.kind() == ErrorKind::NotAFile && path.is_dir() {
        say::error(&error);
        say::hint(format_args!("`untorn verify -r {}` looks at the journals in it", text::quoted(path)));
        return Stop::Told;
    }
    error.into()
}

/// What is printed for each journal.
#[derive(Serialize)]
struct Told {
    schema: &'static str,
    path: String,
    format: &'static str,
    bytes: u64,
    records: u64,
    sealed: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: u64,
    largest_percent: Option<u64>,
    /// Whether the percentiles are exact; else within one percent.
    exact: bool,
    time_member: Option<String>,
    time_first: Option<String>,
    time_last: Option<String>,
    tail: Tail,
    lock_pid: Option<u32>,
    stranger_pids: Vec<u32>,
    damaged_lines: u64,
    damaged_bytes: u64,
    segments: Vec<ToldSegment>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumers: Vec<Lag>,
}

#[derive(Serialize)]
struct ToldSegment {
    path: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed_bytes: Option<u64>,
    records: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
}

impl Told {
    fn of(source: &Source, stat: &Stat) -> Told {
        let share = stat.sizes.share();
        let [p50, p90, p99] = share.as_ref().map_or([None; 3], |share| share.percentiles.map(Some));
        let (time_member, time_first, time_last) = stat
            .times
            .span()
            .map_or((None, None, None), |(name, first, last)| (Some(name.to_owned()), Some(first.to_string()), Some(last.to_string())));
        let segments = stat.segments.iter().map(|segment| ToldSegment {
            path: source.name(&segment.path).to_string_lossy().into_owned(),
            bytes: segment.bytes,
            compressed: segment.compressed.map(|(kind, _)| kind),
            compressed_bytes: segment.compressed.map(|(_, on_disk)| on_disk),
            records: segment.records,
            first_seq: segment.first_seq,
            last_seq: segment.last_seq,
        });
        Told {
            schema: "untorn.stat.v1",
            path: source.name(source.path()).to_string_lossy().into_owned(),
            format: stat.form(),
            bytes: stat.bytes(),
            records: stat.records,
            sealed: stat.sealed,
            first_seq: stat.first_seq,
            last_seq: stat.last_seq,
            p50,
            p90,
            p99,
            max: stat.sizes.max(),
            largest_percent: share.map(|share| share.largest_percent),
            exact: stat.sizes.is_exact(),
            time_member,
            time_first,
            time_last,
            tail: stat.tail,
            lock_pid: stat.holder.as_ref().map(|holder| holder.pid),
            stranger_pids: stat.strangers.iter().map(|stranger| stranger.pid).collect(),
            damaged_lines: stat.damaged_lines,
            damaged_bytes: stat.damaged_bytes,
            segments: segments.collect(),
            consumers: stat.lags.clone(),
        }
    }
}
