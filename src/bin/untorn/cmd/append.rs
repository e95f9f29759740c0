//! `untorn append`: each line of stdin becomes a record.
//!
//! Lines that have come in are appended as one group, in one write and with one sync, and acknowledged before more is read. A line that is no
//! record stops it there, and what came before stays.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use untorn::{Appended, Batch, Durability, Error, ErrorKind, Left, Lock, LockWait, Writer, format::LINE_BYTES_MAX_DEFAULT};

use crate::{
    args::{self, FormArg},
    exit::{Exit, Stop, help},
    finding,
    input::{Input, Line, Place, Waited},
    interrupt,
    output::Output,
    say, target,
    text::{self, Shown},
};

/// How many refused lines are told; of the others, how many there are.
const REFUSED_TOLD_MAX: u64 = 10;

/// So long is waited for the lock at a time; between two times ^C is heard.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(100);

/// Append each line of stdin as a record
///
/// The file is created if it is missing, and its tail repaired if it is torn. Lines that have come in are written as one group; blank lines
/// are skipped. A line that is not JSON stops it there, with what came before appended.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journal
    #[arg(value_name = "FILE", value_parser = OsStringValueParser::new().try_map(args::journal))]
    file: PathBuf,

    /// When a record is on the disk: `always` before the next one, `never` when the system likes, or at least every DURATION such as `500ms`
    #[arg(long, value_name = "always|never|DURATION", default_value = "always", value_parser = args::durability)]
    sync: Durability,

    /// The form of the lines
    #[arg(long, value_name = "FORM", default_value = "auto")]
    format: FormArg,

    /// Append all of stdin as one batch: after a crash, all of it is there or none
    #[arg(long)]
    batch: bool,

    /// Leave out lines that are no records, and go on; the exit status is 1 all the same
    #[arg(long)]
    skip_invalid: bool,

    /// How long to wait while another process has the lock
    #[arg(long, value_name = "never|forever|DURATION", default_value = "10s", value_parser = args::lock_wait)]
    lock_wait: LockWait,

    /// Print where each record is, as soon as it is as safe as `--sync` asks for
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    interrupt::survive_file_size_limit();
    target::check(&args.file)?;
    let input = Input::stdin(LINE_BYTES_MAX_DEFAULT);
    let mut session = Session {
        args,
        writer: None,
        acknowledgements: args.json.then(Output::new),
        tail_repair: String::new(),
        appended: 0,
        refused: 0,
        last_seq: None,
        exit: Exit::Done,
    };
    let ended = if args.batch { session.append_batch(input)? } else { session.append_groups(input)? };
    if ended == Ended::Through && !args.file.exists() {
        // Empty input makes an empty journal.
        session.writer()?;
    }
    session.close(ended)
}

/// One run of the command.
struct Session<'a> {
    args: &'a Args,
    /// Opened for the first record: without one, the file is not touched.
    writer: Option<Writer>,
    /// `None` too when nobody reads them any more.
    acknowledgements: Option<Output>,
    /// What was told of it last.
    tail_repair: String,
    appended: u64,
    refused: u64,
    last_seq: Option<u64>,
    exit: Exit,
}

/// Records encoded from lines, and where the lines are.
#[derive(Default)]
struct Group {
    records: Batch,
    places: Vec<Place>,
}

/// Whether to go on after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All input is dealt with.
    Through,
    /// At a line that is no record, or a failure; it has been told.
    Early,
    Interrupted,
}

/// What is printed for each record, or for a whole batch.
#[derive(Serialize)]
struct Acknowledgement {
    schema: &'static str,
    seq: Option<u64>,
    segment: u64,
    offset: u64,
    len: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
}

impl Group {
    /// Adds the record on a line, if there is one.
    fn add(&mut self, line: &Line<'_>) -> Result<(), Refusal> {
        if line.is_over_limit {
            return Err(Refusal::too_long());
        }
        if !line.bytes.trim_ascii().is_empty() {
            self.records.add_json(line.bytes)?;
            self.places.push(line.place);
        }
        Ok(())
    }

    /// The line of the first record behind so many; behind all of them, the next line.
    fn next_line(&self, records: usize) -> u64 {
        let behind = || self.places.last().map_or(1, |last| last.number + 1);
        self.places.get(records).map_or_else(behind, |place| place.number)
    }
}

impl Session<'_> {
    fn writer(&mut self) -> untorn::Result<&mut Writer> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let mut options = Writer::options();
                options.durability(self.args.sync).format(self.args.format.into()).lock(Lock::PerAppend, self.lock_wait(Duration::ZERO));
                options.open(&self.args.file)?
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// Does a step that needs the lock, again and again while it is not free, as long as may be waited. After ^C it is still
    /// [`Locked`](ErrorKind::Locked).
    fn patiently<T>(&mut self, input: &Input, step: impl Fn(&mut Writer) -> untorn::Result<T>) -> untorn::Result<T> {
        let since = Instant::now();
        loop {
            match self.writer().and_then(&step) {
                Err(error) if is_locked(&error) && !input.is_interrupted() && self.lock_wait(since.elapsed()) != LockWait::Never => {}
                done => return done,
            }
        }
    }

    /// How long to wait for the lock next, if it was waited for so long already.
    fn lock_wait(&self, waited: Duration) -> LockWait {
        match self.args.lock_wait {
            LockWait::Never => LockWait::Never,
            LockWait::For(limit) if waited >= limit => LockWait::Never,
            LockWait::For(limit) => LockWait::For(LOCK_WAIT_MAX.min(limit - waited)),
            LockWait::Forever => LockWait::For(LOCK_WAIT_MAX),
        }
    }

    fn append_groups(&mut self, mut input: Input) -> Result<Ended, Stop> {
        loop {
            match input.wait()? {
                Waited::Lines => {}
                Waited::Ended => return Ok(Ended::Through),
                Waited::Interrupted => return Ok(Ended::Interrupted),
            }
            let mut group = Group::default();
            let mut refused = None;
            while let Some(line) = input.next_line() {
                let Err(refusal) = group.add(&line) else { continue };
                if !self.args.skip_invalid {
                    refused = Some((line.place, refusal));
                    break;
                }
                self.refuse(&refusal, line.place, line.bytes);
            }
            let ended = self.append_group(&group, &input)?;
            if ended != Ended::Through {
                return Ok(ended);
            }
            if let Some((place, refusal)) = refused {
                self.refuse(&refusal, place, input.again(place));
                self.tell_where_it_stopped(place.number);
                return Ok(Ended::Early);
            }
        }
    }

    fn append_group(&mut self, group: &Group, input: &Input) -> Result<Ended, Stop> {
        if group.records.is_empty() {
            return Ok(Ended::Through);
        }
        let tried = self.patiently(input, |writer| match writer.append_all(&group.records) {
            (_, Err(error)) if is_locked(&error) => Err(error),
            tried => Ok(tried),
        });
        let (appended, result) = tried.unwrap_or_else(|error| (Vec::new(), Err(error)));
        self.tell_tail_repair();
        match result {
            Err(error) if is_locked(&error) && input.is_interrupted() => Ok(Ended::Interrupted),
            Ok(()) => Ok(self.acknowledge(&appended, group.next_line(appended.len()))),
            Err(error) if is_refusal(&error) => {
                if self.acknowledge(&appended, group.next_line(appended.len())) == Ended::Early {
                    return Ok(Ended::Early);
                }
                self.append_one_by_one(group.places.get(appended.len()..).unwrap_or_default(), input)
            }
            Err(error) => {
                let is_durable = error.kind() != ErrorKind::DurabilityUnknown;
                let next = group.next_line(appended.len());
                if is_durable {
                    self.acknowledge(&appended, next);
                }
                let unsure = if is_durable { 0 } else { appended.len() as u64 };
                self.fail(&error, unsure, next);
                Ok(Ended::Early)
            }
        }
    }

    /// Appends what is left of a group in which the journal refuses some line.
    fn append_one_by_one(&mut self, places: &[Place], input: &Input) -> Result<Ended, Stop> {
        for place in places {
            match self.patiently(input, |writer| writer.append_json(input.again(*place))) {
                Err(error) if is_locked(&error) && input.is_interrupted() => return Ok(Ended::Interrupted),
                Ok(appended) if self.acknowledge(&[appended], place.number + 1) == Ended::Early => return Ok(Ended::Early),
                Ok(_) => {}
                Err(error) if is_refusal(&error) => {
                    self.refuse(&Refusal::from(error), *place, b"");
                    if !self.args.skip_invalid {
                        self.tell_where_it_stopped(place.number);
                        return Ok(Ended::Early);
                    }
                }
                Err(error) => {
                    self.fail(&error, u64::from(matches!(error.left(), Left::Whole(_))), place.number);
                    return Ok(Ended::Early);
                }
            }
        }
        Ok(Ended::Through)
    }

    fn append_batch(&mut self, mut input: Input) -> Result<Ended, Stop> {
        let mut group = Group::default();
        let mut bytes = 0;
        loop {
            match input.wait()? {
                Waited::Lines => {}
                Waited::Ended => break,
                Waited::Interrupted => return Ok(Ended::Interrupted),
            }
            while let Some(line) = input.next_line() {
                bytes += line.bytes.len() as u64;
                let refusal = match group.add(&line) {
                    _ if bytes > LINE_BYTES_MAX_DEFAULT => Refusal::too_long(),
                    Ok(()) => continue,
                    Err(refusal) => refusal,
                };
                self.refuse(&refusal, line.place, line.bytes);
                if !self.args.skip_invalid || bytes > LINE_BYTES_MAX_DEFAULT {
                    say::message("nothing appended: a batch is whole or not at all, and no longer than a line");
                    return Ok(Ended::Early);
                }
            }
        }
        if group.records.is_empty() {
            return Ok(Ended::Through);
        }
        let appended = self.patiently(&input, |writer| writer.append_batch(&group.records));
        self.tell_tail_repair();
        if appended.as_ref().is_err_and(is_locked) && input.is_interrupted() {
            return Ok(Ended::Interrupted);
        }
        Ok(self.acknowledge(&[appended?], group.next_line(group.places.len())))
    }

    /// Counts records that are in the file as safely as was asked, and says so if that was asked too. Where that cannot be said it ends, as with
    /// a journal that fails: nothing from line `next` on is in it.
    fn acknowledge(&mut self, appended: &[Appended], next: u64) -> Ended {
        self.appended += appended.iter().map(Appended::records).sum::<u64>();
        self.last_seq = appended.last().map_or(self.last_seq, Appended::seq);
        match self.print(appended) {
            Ok(()) => Ended::Through,
            Err(Stop::Unread) => {
                // That nobody reads the acknowledgements any more is no reason to drop records.
                self.acknowledgements = None;
                Ended::Through
            }
            Err(stop) => {
                self.acknowledgements = None;
                if let Stop::Failed(failure) = stop {
                    say::failure(&failure);
                }
                self.exit = Exit::Failed;
                say::message(format_args!("{} appended; nothing from line {} on", text::count(self.appended, "record"), text::grouped(next)));
                Ended::Early
            }
        }
    }

    fn print(&mut self, appended: &[Appended]) -> Result<(), Stop> {
        let Some(output) = &mut self.acknowledgements else { return Ok(()) };
        for appended in appended {
            output.json(&Acknowledgement::of(appended, self.args.batch))?;
        }
        output.flush()
    }

    fn close(self, ended: Ended) -> Result<Exit, Stop> {
        let Session { args, writer, appended, refused, last_seq, exit, .. } = self;
        if refused > REFUSED_TOLD_MAX {
            say::message(format_args!("{} refused", text::count(refused - REFUSED_TOLD_MAX, "more line")));
        }
        // With `--sync never`, closing must not sync either.
        if let Some(writer) = writer.filter(|_| args.sync != Durability::Os) {
            writer.close()?;
        }
        if ended == Ended::Interrupted {
            say::message(format_args!("interrupted; {} appended", text::count(appended, "record")));
            return Ok(Exit::Interrupted);
        }
        if ended == Ended::Through && !args.json && io::stderr().is_terminal() {
            let last = last_seq.map(|seq| format!(", the last one #{}", text::grouped(seq))).unwrap_or_default();
            say::message(format_args!("{}: {} appended{last}", Shown(args.file.display()), text::count(appended, "record")));
        }
        Ok(exit)
    }

    fn tell_tail_repair(&mut self) {
        let Some(repair) = self.writer.as_ref().map(Writer::tail_repair) else { return };
        if repair.is_clean() {
            return;
        }
        let repair = repair.to_string();
        if repair != self.tail_repair {
            say::message(format_args!("{}: {repair}", Shown(self.args.file.display())));
            self.tail_repair = repair;
        }
    }

    fn refuse(&mut self, refusal: &Refusal, place: Place, line: &[u8]) {
        self.exit = self.exit.max(Exit::Damage);
        self.refused += 1;
        if self.refused > REFUSED_TOLD_MAX {
            return;
        }
        finding::refused_line(place.number, refusal.at, place.offset, refusal.code, &refusal.reason, line);
    }

    fn tell_where_it_stopped(&self, line: u64) {
        say::message(format_args!("{} appended; nothing from line {} on", text::count(self.appended, "record"), text::grouped(line)));
        say::hint("`--skip-invalid` leaves such lines out and goes on");
    }

    /// Tells why it cannot go on, and what is in the file: `unsure` records beyond those acknowledged, and then nothing from line `next` on.
    fn fail(&mut self, error: &Error, unsure: u64, next: u64) {
        self.exit = Exit::Failed;
        // It is dropped, not closed: a second failure would say nothing new.
        self.writer = None;
        say::error(error);
        let appended = text::count(self.appended, "record");
        let next = text::grouped(next);
        say::message(match (unsure, error.left()) {
            (0, Left::Unknown) => format!("{appended} appended; whether line {next} is in the file is unknown"),
            (0, _) => format!("{appended} appended; nothing from line {next} on"),
            (unsure, _) => format!("{appended} appended; {} may be gone after a power cut", text::count(unsure, "more record")),
        });
        say::way_out(error);
    }
}

impl Acknowledgement {
    fn of(appended: &Appended, is_batch: bool) -> Acknowledgement {
        let end = appended.mark().end;
        Acknowledgement {
            schema: "untorn.append.v1",
            seq: appended.seq(),
            segment: end.segment,
            offset: end.offset.saturating_sub(appended.len()),
            len: appended.len(),
            records: is_batch.then(|| appended.records()),
        }
    }
}

/// Why a line is no record of this journal.
struct Refusal {
    code: &'static str,
    reason: String,
    /// The byte of the line that does not fit.
    at: usize,
}

impl Refusal {
    fn too_long() -> Refusal {
        let reason = format!("longer than a line may be, {} bytes", text::grouped(LINE_BYTES_MAX_DEFAULT));
        Refusal { code: "too-long", reason, at: 0 }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match (error.invalid_json(), error.kind()) {
            (Some(invalid), _) => Refusal { code: "not-json", reason: invalid.reason().to_string(), at: invalid.at() },
            (None, ErrorKind::SealedPayload) => Refusal { code: "sealed-payload", reason: "it ends like a sealed line".to_owned(), at: 0 },
            (None, _) => Refusal::too_long(),
        }
    }
}

/// Whether the record was at fault, not the journal.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotJson | ErrorKind::SealedPayload | ErrorKind::TooLong)
}

fn is_locked(error: &Error) -> bool {
    error.kind() == ErrorKind::Locked
}
