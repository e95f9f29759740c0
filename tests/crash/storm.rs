//! Everything at once, by chance: a journal with any kind of end, a writer of any kind, a stranger who writes before any two calls, and any two calls
//! that fail; then a power cut, three openings and one more record. [`weather`](crate::weather) makes it up, [`owners`](crate::owners) knows whose
//! each byte is.
//!
//! What is held to be true:
//!
//! - What was acknowledged is read once, on a line of its own, at its mark, with a number that rises; if it was called durable, after a power cut too.
//! - What was said not to be in the file is not read; of what was said to have left nothing there is no byte.
//! - A batch is read as a whole or not at all, and nothing is read that nobody wrote.
//! - No byte of a stranger's is cut that is not durable in quarantine.
//! - On a disk that is well every writer goes on, the second opening finds nothing to do, and the file ends on a boundary.
//!
//! What is let pass, each a limit that is documented:
//!
//! - A stranger's line that is, byte for byte, what our plain line is: nobody can tell the two apart. Nor a piece of a short write of ours that a
//!   stranger completed with the very bytes that were missing, such as the LF: that line is read, and the one that was written again.
//! - A batch whose first line a stranger spoilt and that could not be cut: its later records are read, and if it was written again, twice, with the
//!   same numbers. So is all of it, where a short write ended between two of its lines and the stranger's line stands there.
//! - In plain form, a line that is partly a stranger's and partly ours, and yet is a record; and pieces of a bare number beside a stranger's bytes, as
//!   `1` and `23` make `123`.
//! - What a stranger wrote in front of our line, and was lost with a failed sync, which a later sync does not tell.
//! - What a stranger writes in the moment between the last look and the cut, which [`owners`](crate::owners) knows of.

use std::{
    iter::Sum,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
};

use serde_json::value::RawValue;
use untorn::{
    Batch, Error, ErrorKind, Left, Mark, Reader, SharedWriter, Writer,
    sim::{Fault, Op, OpKind, OpMatch, SimDisk},
};

use crate::{
    chance::Chance,
    crashes, lane,
    owners::{Owner, Owners},
    promises::{self, Line},
    weather::{Way, Weather},
};

const PATH: &str = "/j/session.jsonl";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    There {
        durable: bool,
    },
    /// Not a record, but perhaps a piece.
    NotThere,
    /// Not a byte.
    Nothing,
    Unknown,
}

/// What was explored.
#[derive(Default)]
struct Seen {
    there: usize,
    not_there: usize,
    unknown: usize,
    strangers: usize,
    cuts: usize,
    lost: usize,
}

impl Sum for Seen {
    fn sum<I: Iterator<Item = Seen>>(all: I) -> Seen {
        all.fold(Seen::default(), |sum, one| Seen {
            there: sum.there + one.there,
            not_there: sum.not_there + one.not_there,
            unknown: sum.unknown + one.unknown,
            strangers: sum.strangers + one.strangers,
            cuts: sum.cuts + one.cuts,
            lost: sum.lost + one.lost,
        })
    }
}

/// P1, P2, P3, P4, P7, F16, F17: whatever comes together, what was told is what is read, and no stranger's byte is lost that could be kept.
#[test]
fn whatever_comes_together_what_was_told_is_true() {
    let runs = lane::pick(20_000, 600_000);
    // The bounded lane tries the same every time, as it does with fuzzing; what is new is for the long one.
    let mut chance = lane::pick::<fn() -> Chance>(|| Chance::seeded("storm", 46), || Chance::new("storm"))();
    let chances: Vec<Chance> = (0..runs).map(|_| chance.fork()).collect();
    let seen: Seen = crashes::side_by_side(runs, |index| {
        let mut chance = chances[index].clone();
        let calm = Weather::calm(&mut chance);
        let calls = Run::new(&calm).calls();
        let weather = calm.blow(&mut chance, &calls);
        attempt(&weather).unwrap_or_else(|why| panic!("run {index}: {}", smallest(&weather, why)))
    });
    let Seen { there, not_there, unknown, strangers, cuts, lost } = seen;
    println!(
        "storm: {runs} runs; records told as there {there}, as not there {not_there}, as unknown {unknown}; a stranger wrote {strangers} times; \
         {cuts} cuts, in which {lost} bytes were lost in the one moment that nobody can close"
    );
    assert!(there.min(not_there).min(unknown).min(cuts).min(lost) > 0, "something was never met");
}

/// A panic is a failure like any other.
fn attempt(weather: &Weather) -> Result<Seen, String> {
    let run = catch_unwind(AssertUnwindSafe(|| Run::new(weather).live()));
    run.unwrap_or_else(|panic| Err(format!("panicked: {:?}", panic.downcast_ref::<String>())))
}

/// What happened in the simplest weather that fails too.
fn smallest(weather: &Weather, why: String) -> String {
    let simpler = weather.simpler().into_iter().find_map(|simpler| Some((attempt(&simpler).err()?, simpler)));
    simpler.map_or(why, |(why, simpler)| smallest(&simpler, why))
}

/// One writer's life.
struct Run<'a> {
    weather: &'a Weather,
    disk: SimDisk,
    owners: Owners,
    ledger: Vec<(String, Told)>,
    notes: Vec<String>,
}

impl Run<'_> {
    fn new(weather: &Weather) -> Run<'_> {
        let disk = SimDisk::new();
        disk.write_file("/j/other", "").unwrap();
        disk.write_file(PATH, [&weather.base[..], &weather.tail].concat()).unwrap();
        let open = weather.is_seen.then(|| disk.as_process(7, "stranger").open_raw(PATH).unwrap());
        let owners = Owners::watch(&disk, PATH, &weather.strangers, open);
        weather.faults.iter().for_each(|(call, how)| disk.fail(Fault { at: OpMatch::nth(*call), how: *how }));
        Run { weather, disk, owners, ledger: Vec::new(), notes: Vec::new() }
    }

    /// The calls of a life in which nothing happens.
    fn calls(mut self) -> Vec<Op> {
        let _ = self.append();
        self.disk.log()
    }

    fn live(mut self) -> Result<Seen, String> {
        let weather = self.weather;
        let held = self.append_and_reopen().and_then(|()| self.check());
        held.map_err(|why| {
            let calls: Vec<String> = self.disk.log().iter().enumerate().map(|(call, op)| format!("{call} {op}")).collect();
            let text = |path: &str| self.disk.read_file(path).unwrap_or_default().escape_ascii().to_string();
            let (file, quarantine) = (text(PATH), text(&format!("{PATH}.quarantine")));
            let (tail, notes) = (weather.tail.escape_ascii(), self.notes.join("\n"));
            format!("{why}\n{weather:?}\ntail {tail}\n{notes}\nfile {file}\nquarantine {quarantine}\n{}", calls.join("\n"))
        })
    }

    fn append_and_reopen(&mut self) -> Result<(), String> {
        if let Some(mut writer) = self.append()? {
            // The disk is well; strangers may still come.
            if self.single(&mut writer, "{\"x\":7001}")? != (Told::There { durable: self.weather.syncs }) {
                if writer.sync().is_err_and(|error| error.kind() == ErrorKind::Poisoned) {
                    // Plain form stays so until a person decides: what was told, is not durable.
                    drop(writer);
                    self.disk.drop_caches();
                    self.ledger.iter_mut().filter(|entry| matches!(entry.1, Told::There { .. })).for_each(|entry| entry.1 = Told::Unknown);
                    writer = self.open(&self.disk)?;
                }
                if !matches!(self.single(&mut writer, "{\"x\":7002}")?, Told::There { .. }) {
                    return Err("the disk is well, and yet nothing can be appended".to_owned());
                }
            }
        }
        self.owners.end();
        self.cut_power()?;
        let content = || crashes::content(&self.disk);
        let mut before = None;
        for _ in 0..3 {
            let is_clean = { self.open(&self.disk)?.tail_repair().removed_bytes() == 0 };
            if before.is_some_and(|before| before != content() || !is_clean) {
                return Err("opening it once more changed something".to_owned());
            }
            before = Some(content());
        }
        let file = self.disk.read_file(PATH).unwrap();
        if !file.is_empty() && !file.ends_with(b"\n") && file != b"\xEF\xBB\xBF" {
            return Err("the journal ends on no boundary".to_owned());
        }
        let mut writer = self.open(&self.disk)?;
        let last = self.single(&mut writer, "{\"x\":8001}")?;
        if matches!(last, Told::There { .. }) { Ok(()) } else { Err("the last record was not appended".to_owned()) }
    }

    fn cut_power(&self) -> Result<(), String> {
        let cut = self.disk.crash_now();
        drop(self.open(&cut)?);
        let (file, mut owners) = (cut.read_file(PATH).unwrap(), self.owners.settle(&self.weather.faults)?.0);
        owners.resize(file.len(), Owner::Us);
        let found = Found::read(&cut, &owners)?;
        for (payload, told) in self.ledger.iter().filter(|entry| entry.1 == Told::There { durable: true }) {
            // What a stranger wrote in front of it was lost with a failed sync.
            let line_start = |at: usize| memchr::memrchr(b'\n', &file[..at]).map_or(0, |lf| lf + 1);
            let is_behind_nuls = memchr::memmem::find_iter(&file, &payload[..payload.len() - 1]).any(|at| file[line_start(at)..at].contains(&0));
            if !is_behind_nuls {
                self.holds(payload, *told, &found).map_err(|why| format!("after a power cut: {why}"))?;
            }
        }
        Ok(())
    }

    fn open(&self, disk: &SimDisk) -> Result<Writer, String> {
        self.weather.options(disk).open(PATH).map_err(|error| format!("opening: {error:?}"))
    }
}

/// Appending.
impl Run<'_> {
    /// Gives the writer back, unless it was a shared one. The disk is well afterwards.
    fn append(&mut self) -> Result<Option<Writer>, String> {
        // Each try meets one fault at least.
        let mut writer = (0..2).find_map(|_| self.open(&self.disk).ok()).map_or_else(|| self.open(&self.disk), Ok)?;
        let Weather { way, tries_again, payloads: [first, second, third, last], .. } = self.weather;
        let mut left = vec![first.clone(), second.clone(), third.clone()];
        if *way == Way::Queue {
            left.push(last.clone());
            self.queue(writer.into_shared(), &left)?;
            self.disk.heal();
            return Ok(None);
        }
        if *way == Way::Single {
            left.truncate(1);
        }
        for _ in 0..=usize::from(*tries_again) {
            match way {
                _ if left.is_empty() => break,
                Way::Single => drop(self.single(&mut writer, &left[0])?),
                Way::Batch => self.batch(&mut writer, &left)?,
                _ => self.group(&mut writer, &left)?,
            }
            left.retain(|payload| self.ledger.iter().any(|entry| entry.0 == *payload && matches!(entry.1, Told::NotThere | Told::Nothing)));
        }
        self.single(&mut writer, last)?;
        self.disk.heal();
        Ok(Some(writer))
    }

    fn single(&mut self, writer: &mut Writer, payload: &str) -> Result<Told, String> {
        let result = writer.append_json(payload.as_bytes());
        if let Ok(appended) = &result {
            self.is_at(payload, &appended.mark())?;
        }
        let told = self.tell(payload, result.as_ref().err())?;
        result.is_err().then(|| self.reopen(writer));
        Ok(told)
    }

    fn group(&mut self, writer: &mut Writer, payloads: &[String]) -> Result<(), String> {
        let (appended, result) = writer.append_all(&batch(payloads));
        let unsynced = result.as_ref().err().filter(|error| error.kind() == ErrorKind::DurabilityUnknown);
        for (nth, payload) in payloads.iter().enumerate() {
            match (appended.get(nth), &result) {
                (Some(appended), _) => {
                    self.is_at(payload, &appended.mark())?;
                    self.tell(payload, None)?;
                    if unsynced.is_some() {
                        self.enter(payload, Told::There { durable: false });
                    }
                }
                (None, Err(error)) => {
                    // What is left is told of the first of them.
                    let told = self.tell(payload, Some(error))?;
                    self.enter(payload, if told == Told::Nothing { Told::NotThere } else { told });
                }
                (None, Ok(())) => return Err(format!("{payload} is neither appended nor failed")),
            }
        }
        result.is_err().then(|| self.reopen(writer));
        Ok(())
    }

    fn batch(&mut self, writer: &mut Writer, payloads: &[String]) -> Result<(), String> {
        let result = writer.append_batch(&batch(payloads));
        if let Ok(appended) = &result {
            self.is_at(&payloads[2], &appended.mark())?;
        }
        for payload in payloads {
            self.tell(payload, result.as_ref().err())?;
        }
        result.is_err().then(|| self.reopen(writer));
        Ok(())
    }

    /// The first write waits until all are in the queue. Whether the first record goes alone is the one thing that no seed decides.
    fn queue(&mut self, writer: SharedWriter, payloads: &[String]) -> Result<(), String> {
        let (all_queued, wait) = mpsc::channel::<()>();
        let writes = self.disk.log().iter().filter(|op| op.kind == OpKind::Write).count();
        self.disk.before(OpMatch::nth_of(OpKind::Write, writes), move |_| _ = wait.recv());
        let raw = |payload: &String| RawValue::from_string(payload.clone()).unwrap();
        let queued: Vec<_> = payloads.iter().map(|payload| writer.enqueue(&*raw(payload))).collect();
        drop(all_queued);
        for _ in 0..6 {
            match writer.flush() {
                Ok(()) => break,
                Err(error) if is_poisoned(&error) => self.notes.push(format!("reopened: {:?}", writer.reopen().err().map(|error| error.to_string()))),
                Err(error) => self.notes.push(format!("flushed: {error}")),
            }
        }
        for _ in 0..3 {
            if writer.close().is_ok() {
                break;
            }
            let _ = writer.reopen();
        }
        let mut unwritten = writer.discard().len();
        for (payload, queued) in payloads.iter().zip(queued) {
            let result = queued.and_then(|queued| queued.wait());
            match &result {
                Ok(appended) => self.is_at(payload, &appended.mark())?,
                Err(error) if error.kind() == ErrorKind::Closed => unwritten -= 1,
                Err(_) => {}
            }
            self.tell(payload, result.as_ref().err())?;
        }
        if unwritten == 0 { Ok(()) } else { Err(format!("{unwritten} records were handed back that were not told as closed")) }
    }

    /// Reopens a writer that can promise nothing more; a fault may meet that too.
    fn reopen(&mut self, writer: &mut Writer) {
        for _ in 0..3 {
            if !writer.sync().is_err_and(|error| is_poisoned(&error)) {
                break;
            }
            let reopened = writer.reopen();
            self.notes.push(format!("reopened: {:?}", reopened.as_ref().err().map(ToString::to_string)));
            if reopened.is_ok() {
                break;
            }
        }
    }

    fn tell(&mut self, payload: &str, error: Option<&Error>) -> Result<Told, String> {
        let told = match error.map(Error::left) {
            None => Told::There { durable: self.weather.syncs },
            Some(Left::Whole(appended)) => {
                // Of a batch it names the last record.
                if self.weather.way != Way::Batch || !self.weather.payloads[..2].iter().any(|other| other == payload) {
                    self.is_at(payload, &appended.mark())?;
                }
                Told::There { durable: false }
            }
            Some(Left::Unknown) => Told::Unknown,
            Some(Left::Nothing) => Told::Nothing,
            Some(Left::Fragment(range)) => {
                let len = self.disk.read_file(PATH).unwrap().len() as u64;
                if range.start >= range.end || range.end.offset > len {
                    return Err(format!("{payload} left a fragment that is nowhere: {range:?}"));
                }
                Told::NotThere
            }
            Some(left) => return Err(format!("{payload} left {left:?}, which nobody here knows")),
        };
        self.notes.push(format!("{payload}: {told:?}, {:?}", error.map(ToString::to_string)));
        self.enter(payload, told);
        Ok(told)
    }

    /// A piece that an earlier try left is still there.
    fn enter(&mut self, payload: &str, told: Told) {
        match self.ledger.iter_mut().find(|entry| entry.0 == payload) {
            Some(entry) if entry.1 == Told::NotThere && told == Told::Nothing => {}
            Some(entry) => entry.1 = told,
            None => self.ledger.push((payload.to_owned(), told)),
        }
    }

    /// A mark names a line of its own, with this record and its number.
    fn is_at(&self, payload: &str, mark: &Mark) -> Result<(), String> {
        let file = self.disk.read_file(PATH).unwrap();
        let (start, end) = (mark.start.offset as usize, mark.end.offset as usize);
        let line = file.get(start..end).unwrap_or_default();
        let is_line = line.iter().position(|byte| *byte == b'\n') == line.len().checked_sub(1)
            && matches!(file[..start], [] | [.., b'\n'] | [0xEF, 0xBB, 0xBF]);
        match record(line) {
            Some((found, seq)) if is_line && found == payload && seq == mark.seq => Ok(()),
            found => Err(format!("the mark of {payload}, bytes {start} to {end}, is that of {found:?}")),
        }
    }
}

/// Holding the file against the ledger.
impl Run<'_> {
    fn check(&self) -> Result<Seen, String> {
        let (owners, lost) = self.owners.settle(&self.weather.faults)?;
        let (file, found) = (self.disk.read_file(PATH).unwrap(), Found::read(&self.disk, &owners)?);
        for (payload, told) in &self.ledger {
            self.holds(payload, *told, &found)?;
            let begun = self.weather.begun(payload);
            let mut pieces = memchr::memmem::find_iter(&file, &begun).map(|at| &owners[at..at + begun.len()]);
            if *told == Told::Nothing
                && self.weather.way != Way::Queue
                && !self.is_bare()
                && pieces.any(|piece| piece.iter().all(|of| *of == Owner::Us))
            {
                return Err(format!("{payload} was said to have left nothing, and a piece of it stands there"));
            }
        }
        let [first, second, third] = [0, 1, 2].map(|nth| found.times(&self.weather.payloads[nth]) - found.twins(&self.weather.payloads[nth]));
        let is_spoilt = self.is_batch_spoilt();
        if self.weather.way == Way::Batch && (first, second) != (second, third) && !(is_spoilt && first <= second && second <= third) {
            return Err(format!("a part of a batch is read: {first}, {second} and {third} times"));
        }
        let told = |payload: &String| self.ledger.iter().find(|entry| entry.0 == *payload).map(|entry| entry.1);
        for one in found.0.iter().filter(|one| told(&one.payload).is_none() && !one.is_stranger) {
            if one.is_ours && !self.is_bare() || one.mark.seq.is_some() {
                return Err(format!("{} is read at byte {}, and nobody wrote it", one.payload, one.mark.start.offset));
            }
        }
        let there = found.0.iter().filter(|one| !one.is_stranger && matches!(told(&one.payload), Some(Told::There { .. })));
        let numbers: Vec<u64> = there.filter_map(|one| one.mark.seq).collect();
        if !is_spoilt && !numbers.is_sorted_by(|one, next| one < next) {
            return Err(format!("numbers do not rise: {numbers:?}"));
        }
        let count = |is: fn(&Told) -> bool| self.ledger.iter().filter(|entry| is(&entry.1)).count();
        Ok(Seen {
            there: count(|told| matches!(told, Told::There { .. })),
            not_there: count(|told| matches!(told, Told::NotThere | Told::Nothing)),
            unknown: count(|told| *told == Told::Unknown),
            strangers: self.owners.pieces(),
            cuts: self.disk.log().iter().filter(|op| op.kind == OpKind::Cut && op.path.to_str() == Some(PATH)).count(),
            lost,
        })
    }

    /// What was told of a record, against how often it is read.
    fn holds(&self, payload: &str, told: Told, found: &Found) -> Result<(), String> {
        let all = found.times(payload);
        let twins = found.twins(payload);
        let completed = found.0.iter().filter(|one| one.payload == payload && !one.is_ours).count();
        let is_repeated = self.weather.payloads[..3].iter().any(|member| member == payload) && self.is_batch_spoilt();
        let holds = match told {
            Told::There { .. } => all == 1 || all == 1 + twins || all == 1 + completed || all > 1 && is_repeated,
            Told::Unknown => all <= 1 + completed || is_repeated,
            Told::NotThere | Told::Nothing => all <= twins || self.is_bare(),
        };
        if holds { Ok(()) } else { Err(format!("{payload} was told as {told:?}, and is read {all} times, {twins} of them a stranger's")) }
    }

    fn is_batch_spoilt(&self) -> bool {
        self.weather.way == Way::Batch && self.owners.pieces() > 0
    }

    /// In plain form pieces of a bare number are numbers too, so nobody can tell what they are once a stranger has written.
    fn is_bare(&self) -> bool {
        self.weather.payloads[0].starts_with('9') && self.owners.pieces() > 0
    }
}

/// A record that a reader gives.
struct One {
    payload: String,
    mark: Mark,
    /// All of it is a stranger's, whoever wrote the LF.
    is_stranger: bool,
    /// All of it, with the LF.
    is_ours: bool,
}

struct Found(Vec<One>);

impl Found {
    fn read(disk: &SimDisk, owners: &[Owner]) -> Result<Found, String> {
        let reader = Reader::options().disk(disk).open(PATH).map_err(|error| format!("cannot read: {error:?}"))?;
        let records = reader.records::<Box<RawValue>>().map(|record| {
            let record = record.map_err(|error| format!("reading: {error:?}"))?;
            let line = &owners[record.mark.start.offset as usize..record.mark.end.offset as usize];
            let is_all = |line: &[Owner], owner| line.iter().all(|of| *of == owner);
            let (is_stranger, is_ours) = (is_all(&line[..line.len() - 1], Owner::Stranger), is_all(line, Owner::Us));
            Ok(One { payload: record.value.get().to_owned(), mark: record.mark, is_stranger, is_ours })
        });
        records.collect::<Result<_, String>>().map(Found)
    }

    fn times(&self, payload: &str) -> usize {
        self.0.iter().filter(|one| one.payload == payload).count()
    }

    /// How many of those are a stranger's.
    fn twins(&self, payload: &str) -> usize {
        self.0.iter().filter(|one| one.payload == payload && one.is_stranger).count()
    }
}

fn is_poisoned(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::DurabilityUnknown)
}

fn batch(payloads: &[String]) -> Batch {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.add_json(payload.as_bytes()).unwrap();
    }
    batch
}

/// The record on a line, told without the library.
fn record(line: &[u8]) -> Option<(String, Option<u64>)> {
    let line = line.trim_ascii();
    let line = [line, b"\n"].concat();
    let sealed = promises::lines(&line).into_iter().map(|line| (line, true));
    sealed.chain(promises::plain_lines(&line).into_iter().map(|line| (line, false))).find_map(|(line, is_sealed)| match line {
        Line::Sealed { seq, payload, .. } => Some((payload, is_sealed.then_some(seq))),
        Line::Other(_) => None,
    })
}
