//! `untorn consume`: the records of journals, in batches, on a command's stdin; acknowledged when it succeeds.
//!
//! A batch that fails is given again as it was, so the command sees each record at least once, and a batch that is repeated has the same records. Until
//! it is due again the other sources are served, and of its own no more is read than makes a batch, so that what waits is bounded. A signal ends it
//! behind the batch at hand, which the command finishes undisturbed; a second ^C ends both.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde::Serialize;
use untorn::{Consumer, Delivery, FollowEvent, Payload, Record, Source, Stopper, Ticket};

use crate::{
    args,
    child::Running,
    exit::{Exit, Stop, help},
    finding::Head,
    interrupt,
    output::Output,
    say,
    text::{Shown, count},
};

/// How long to wait after a failure, twice as long each time, up to the last.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// With `--once`, a batch is given up after so many tries.
const TRIES_MAX: u32 = 5;

/// How many bytes are given at a time, but for a single record that is longer; and how many may wait to be given.
const BATCH_BYTES_MAX: usize = 16 << 20;
const WAITING_BYTES_MAX: usize = 256 << 20;

/// How often the checkpoint is saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Feed records to a command, and remember how far it got
///
/// COMMAND gets one record per line on stdin. When it exits with 0 the records are
/// acknowledged; when it fails it gets the same records again. Each record comes at
/// least once: after a crash the last ones may come again.
///
/// In its environment are UNTORN_PATH, and for a sealed journal UNTORN_FIRST_SEQ and
/// UNTORN_LAST_SEQ.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; of a directory those in it, also those to come
    #[arg(value_name = "FILE", required = true, value_parser = clap::value_parser!(PathBuf))]
    files: Vec<PathBuf>,

    /// Under which name to remember how far it got
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Where to remember it
    #[arg(long, value_name = "DIR")]
    checkpoints: PathBuf,

    /// At most so many records at a time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,

    /// Wait no longer than this for a batch to fill
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = args::duration)]
    every: Duration,

    /// Give lines as they are on disk, with their numbers
    #[arg(long)]
    sealed: bool,

    /// Go on with what is appended, until ^C; the default
    #[arg(long, conflicts_with = "once")]
    follow: bool,

    /// End when all that is there is consumed
    #[arg(long)]
    once: bool,

    /// Print one JSON object for each batch that is done
    #[arg(long)]
    json: bool,

    /// What to run, with its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    let mut options = Consumer::options(&args.name, &args.checkpoints);
    let batch = usize::try_from(args.batch).unwrap_or(usize::MAX);
    options.save_every(SAVE_EVERY).in_flight_max(batch.saturating_mul(2).max(10_000), WAITING_BYTES_MAX);
    options.in_flight_max_each(batch, BATCH_BYTES_MAX);
    for file in &args.files {
        if file.is_dir() {
            options.directory(file, &[".jsonl", ".ndjson"]);
        } else {
            if args.once && !file.exists() {
                let missing = std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
                return Err(Stop::system(format!("open `{}` for reading", file.display()), missing));
            }
            options.file(file);
        }
    }
    let mut consumer = options.open()?;
    let stopper = consumer.stopper();
    let running = Running::default();
    let at_work = running.clone();
    let ended = interrupt::finish_first(move || stopper.stop(), move || at_work.terminate());
    let mut feed = Feed {
        args,
        running,
        stopper: consumer.stopper(),
        batches: HashMap::new(),
        due: VecDeque::new(),
        is_read: false,
        exit: Exit::Done,
        records: 0,
        fed: 0,
        output: Output::new(),
    };
    let fed = feed.feed(&mut consumer);
    // Crash here: what was acknowledged since the last save comes again.
    let closed = consumer.close();
    let mut exit = feed.exit;
    match fed {
        Ok(()) => {}
        Err(Stop::Unread) => return Err(Stop::Unread),
        stopped => exit = exit.and(stopped.map(|()| Exit::Done)).unwrap_or(exit),
    }
    closed?;
    if interrupt::was_interrupted(&ended) {
        exit = Exit::Interrupted;
    }
    if feed.stopper.is_stopped() && exit == Exit::Interrupted {
        say::message(format_args!("{}: {} in {} acknowledged", Shown(&args.name), count(feed.records, "record"), batches(feed.fed)));
    }
    Ok(exit)
}

fn batches(number: u64) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{} batches", crate::text::grouped(number)) }
}

/// Records of one source that are given to the command together.
struct Batch {
    records: Vec<(Record<Payload>, Ticket)>,
    bytes: usize,
    /// When it is given, full or not.
    due: Instant,
    /// Of those that were given in vain: how many, how often, and how long to wait after the next failure.
    failed: Option<Failed>,
}

struct Failed {
    records: usize,
    tries: u32,
    wait: Duration,
}

struct Feed<'a> {
    args: &'a Args,
    running: Running,
    stopper: Stopper,
    batches: HashMap<Source, Batch>,
    /// When they are due, the first one first; each of them is there once.
    due: VecDeque<(Instant, Source)>,
    /// With `--once`: nothing more is there to be read before a batch succeeds.
    is_read: bool,
    exit: Exit,
    records: u64,
    fed: u64,
    output: Output,
}

#[derive(Serialize)]
struct Done<'a> {
    schema: &'static str,
    path: &'a str,
    records: usize,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    tries: u32,
}

impl Feed<'_> {
    fn feed(&mut self, consumer: &mut Consumer) -> Result<(), Stop> {
        while !self.stopper.is_stopped() {
            let now = Instant::now();
            let wait = match self.next_due() {
                _ if self.args.once && !self.is_read => Duration::ZERO,
                Some(due) => due.saturating_duration_since(now),
                None => Duration::MAX,
            };
            match consumer.next(wait) {
                Ok(Some(Delivery::Record(source, record, ticket))) => self.take(source, record, ticket)?,
                Ok(Some(delivery)) => self.tell(delivery)?,
                Ok(None) if self.stopper.is_stopped() => return Ok(()),
                Ok(None) if self.args.once && self.batches.is_empty() => return Ok(()),
                Ok(None) if self.args.once => {
                    self.is_read = true;
                    self.give_due(true)?;
                }
                Ok(None) => {}
                // Told once. The source is tried again, and keeps no other from being consumed.
                Err(error) => {
                    say::error(&error);
                    if self.args.once {
                        self.exit = self.exit.max(Exit::Failed);
                    }
                }
            }
            self.give_due(false)?;
        }
        Ok(())
    }

    fn take(&mut self, source: Source, record: Record<Payload>, ticket: Ticket) -> Result<(), Stop> {
        if !self.batches.contains_key(&source) {
            self.begin(&source, Vec::new(), Instant::now() + self.args.every, None);
        }
        let Some(batch) = self.batches.get_mut(&source) else { return Ok(()) };
        batch.bytes += record.value.as_bytes().len();
        batch.records.push((record, ticket));
        let is_full = batch.records.len() as u64 >= u64::from(self.args.batch) || batch.bytes >= BATCH_BYTES_MAX;
        if is_full && batch.failed.is_none() {
            return self.give(&source);
        }
        Ok(())
    }

    /// Keeps records of a source until they are due.
    fn begin(&mut self, source: &Source, records: Vec<(Record<Payload>, Ticket)>, due: Instant, failed: Option<Failed>) {
        let bytes = records.iter().map(|(record, _)| record.value.as_bytes().len()).sum();
        self.batches.insert(source.clone(), Batch { records, bytes, due, failed });
        let at = self.due.partition_point(|(known, _)| *known <= due);
        self.due.insert(at, (due, source.clone()));
    }

    /// Takes the records of a source from those that wait.
    fn end(&mut self, source: &Source) -> Option<Batch> {
        let batch = self.batches.remove(source)?;
        let from = self.due.partition_point(|(due, _)| *due < batch.due);
        let at = self.due.range(from..).position(|(_, waiting)| waiting == source);
        at.and_then(|at| self.due.remove(from + at));
        Some(batch)
    }

    /// When the next batch is due.
    fn next_due(&self) -> Option<Instant> {
        self.due.front().map(|(due, _)| *due)
    }

    /// Gives the batches that are due by now; with `is_all` those too that are not full, but not those that were given in vain.
    fn give_due(&mut self, is_all: bool) -> Result<(), Stop> {
        let now = Instant::now();
        let until = if is_all { self.due.len() } else { self.due.partition_point(|(due, _)| *due <= now) };
        let is_given = |(due, source): &&(Instant, Source)| *due <= now || self.batches.get(source).is_some_and(|batch| batch.failed.is_none());
        let given: Vec<Source> = self.due.range(..until).filter(is_given).map(|(_, source)| source.clone()).collect();
        for source in given {
            if self.stopper.is_stopped() {
                break;
            }
            self.give(&source)?;
        }
        Ok(())
    }

    /// Gives a batch to the command. If that fails, it is due again a little later.
    fn give(&mut self, source: &Source) -> Result<(), Stop> {
        let Some(Batch { mut records, failed, .. }) = self.end(source) else { return Ok(()) };
        let Failed { records: count_given, tries, wait } = failed.unwrap_or(Failed { records: records.len(), tries: 0, wait: BACK_OFF });
        let behind = records.split_off(count_given.min(records.len()));
        let seqs = || records.iter().filter_map(|(record, _)| record.mark.seq);
        let (first, last, tries) = (seqs().next(), seqs().next_back(), tries + 1);
        let ran = interrupt::unbroken(|| self.run(source, &records, first, last));
        let Some(why) = ran.map_err(|error| Stop::system(format!("run `{}`", self.program()), error))? else {
            self.records += records.len() as u64;
            self.fed += 1;
            self.is_read = false;
            if self.args.json {
                let (path, records) = (source.path().to_string_lossy(), records.len());
                let done = Done { schema: "untorn.consume.v1", path: &path, records, first_seq: first, last_seq: last, tries };
                self.output.json(&done)?;
                self.output.flush()?;
            }
            records.into_iter().for_each(|(_, ticket)| ticket.ack());
            if !behind.is_empty() {
                self.begin(source, behind, Instant::now() + self.args.every, None);
            }
            return Ok(());
        };
        say::message(format_args!("{}: {} {why}", Shown(&self.args.name), Shown(format_args!("`{}`", self.program()))));
        if self.args.once && tries >= TRIES_MAX {
            say::message(format_args!("{}: given up after {}", Shown(&self.args.name), count(u64::from(tries), "try").replace("trys", "tries")));
            self.exit = self.exit.max(Exit::Failed);
            self.stopper.stop();
            return Ok(());
        }
        let given = Failed { records: records.len(), tries, wait: (wait * 2).min(BACK_OFF_MAX) };
        records.extend(behind);
        self.begin(source, records, Instant::now() + wait, Some(given));
        Ok(())
    }

    fn program(&self) -> String {
        self.args.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Runs the command once; why it failed, if it did.
    fn run<'r>(
        &self,
        source: &Source,
        records: &'r [(Record<Payload>, Ticket)],
        first: Option<u64>,
        last: Option<u64>,
    ) -> std::io::Result<Option<String>> {
        let [program, arguments @ ..] = &self.args.command[..] else { return Ok(None) };
        let mut command = Command::new(program);
        command.args(arguments).env("UNTORN_PATH", source.path());
        for (name, seq) in [("UNTORN_FIRST_SEQ", first), ("UNTORN_LAST_SEQ", last)] {
            match seq {
                Some(seq) => command.env(name, seq.to_string()),
                None => command.env_remove(name),
            };
        }
        let given = |record: &'r Record<Payload>| if self.args.sealed { record.value.line() } else { record.value.as_bytes().into() };
        let status = self.running.run(&mut command, records.iter().map(|(record, _)| given(record)))?;
        Ok((!status.success()).then(|| format!("failed with {status}")))
    }

    fn tell(&mut self, delivery: Delivery) -> Result<(), Stop> {
        match delivery {
            Delivery::Event(source, FollowEvent::Corrupt(finding)) => {
                self.exit = self.exit.max(Exit::Damage);
                let line = (finding.line > 0).then_some((finding.line, finding.column));
                let (severity, code) = (finding.severity(), finding.code.as_str());
                say::message(Head { path: source.path(), line, severity, code, message: &finding.message, offset: finding.offset });
            }
            // What waits to be full or to be tried again keeps others from being read.
            Delivery::Event(_, FollowEvent::Stalled { .. }) => return self.give_due(true),
            Delivery::Event(source, event) => say(source.path(), &event),
            Delivery::Restored(source, restored) if !restored.is_proved() => say(source.path(), &restored),
            Delivery::SaveFailed(error) => say::error(&error),
            _ => {}
        }
        Ok(())
    }
}

fn say(path: &Path, what: &dyn std::fmt::Display) {
    say::message(format_args!("{}: {what}", Shown(path.display())));
}
