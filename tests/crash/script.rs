//! A recorder's life on a simulated disk: a list of steps, and a ledger of what each record was told.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use untorn::{
    Batch, Durability, Error, ErrorKind, Format, Left, Lock, LockWait, Options, Rollback, Writer,
    sim::{Fault, SimDisk},
};

use super::promises::{self, Told};

pub(crate) const PATH: &str = "/j/session.jsonl";

/// One thing that a recorder does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append(String),
    Batch(Vec<String>),
    /// Several records in one write, each on its own.
    All(Vec<String>),
    /// Closes the writer and opens the journal anew.
    Restart,
}

/// How the recorder opens its journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) format: Format,
    pub(crate) lock: Lock,
    pub(crate) durability: Durability,
    pub(crate) rollback: Rollback,
    /// Whether it syncs after each step, or never, so that a power cut meets the writes of several steps.
    pub(crate) syncs: bool,
}

impl Manner {
    pub(crate) const ALL: [Manner; 6] = [
        Manner::sealed(Lock::PerAppend, Durability::Sync, Rollback::Cut),
        Manner::sealed(Lock::Held, Durability::Sync, Rollback::Cut),
        Manner::sealed(Lock::PerAppend, Durability::Os, Rollback::Fence),
        Manner::sealed(Lock::Held, Durability::Os, Rollback::Cut),
        Manner::sealed(Lock::Held, Durability::Sync, Rollback::Fence),
        Manner { syncs: false, ..Manner::sealed(Lock::PerAppend, NOW_AND_THEN, Rollback::Cut) },
    ];

    /// Journals without numbers or CRCs, as others write them.
    pub(crate) const PLAIN: [Manner; 2] = [
        Manner { format: Format::Plain, ..Manner::ALL[0] },
        Manner { format: Format::Plain, syncs: false, ..Manner::sealed(Lock::Held, NOW_AND_THEN, Rollback::Fence) },
    ];

    const fn sealed(lock: Lock, durability: Durability, rollback: Rollback) -> Manner {
        Manner { format: Format::Sealed, lock, durability, rollback, syncs: true }
    }

    /// Holds the bytes of a file against a ledger.
    pub(crate) fn check(&self, bytes: &[u8], ledger: &[(String, Told)], power_cut: bool) -> Result<(), String> {
        let lines = if self.format == Format::Plain { promises::plain_lines(bytes) } else { promises::lines(bytes) };
        promises::check_lines(&lines, ledger, power_cut)
    }

    pub(crate) fn options(&self, disk: &SimDisk) -> Options {
        let mut options = Writer::options();
        options.disk(disk).format(self.format).lock(self.lock, LockWait::Never).durability(self.durability).rollback(self.rollback);
        options
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manner { format, lock, durability, rollback, syncs } = self;
        write!(f, "{format:?}, {lock:?}, {durability:?}, {rollback:?}, {}", if *syncs { "synced after each step" } else { "never synced" })
    }
}

/// So long that no test meets its end.
const NOW_AND_THEN: Durability = Durability::Interval(Duration::from_secs(3600));

/// What every record was told so far. Shared, so that a hook in the middle of a call can look.
pub(crate) type Ledger = Arc<Mutex<Vec<(String, Told)>>>;

/// Runs a script; no failure ends it.
pub(crate) struct Recorder {
    disk: SimDisk,
    manner: Manner,
    writer: Option<Writer>,
    /// How many records there were when the writer opened the journal: a sync proves nothing of what came before.
    opened: usize,
    pub(crate) ledger: Ledger,
}

impl Recorder {
    pub(crate) fn new(disk: &SimDisk, manner: Manner) -> Recorder {
        Recorder { disk: disk.clone(), manner, writer: None, opened: 0, ledger: Ledger::default() }
    }

    pub(crate) fn run(&mut self, script: &[Step]) {
        script.iter().for_each(|step| self.step(step));
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Restart => self.writer = None,
            Step::Append(payload) => {
                let Some(mut writer) = self.begin(std::slice::from_ref(payload)) else { return };
                let result = writer.append_json(payload.as_bytes());
                self.told(1, 0, result.err());
                self.end(writer);
            }
            Step::Batch(payloads) => {
                let Some(mut writer) = self.begin(payloads) else { return };
                let result = writer.append_batch(&batch(payloads));
                self.told(payloads.len(), 0, result.err());
                self.end(writer);
            }
            Step::All(payloads) => {
                let Some(mut writer) = self.begin(payloads) else { return };
                let (appended, result) = writer.append_all(&batch(payloads));
                self.told(payloads.len(), appended.len(), result.err());
                self.end(writer);
            }
        }
    }

    /// Enters the records into the ledger as unknown, and gives the writer, opened if need be.
    fn begin(&mut self, payloads: &[String]) -> Option<Writer> {
        if self.writer.is_none() {
            self.writer = self.manner.options(&self.disk).open(PATH).ok();
            self.opened = self.ledger.lock().unwrap().len();
        }
        let told = if self.writer.is_some() { Told::Unknown } else { Told::NotThere };
        self.ledger.lock().unwrap().extend(payloads.iter().map(|payload| (payload.clone(), told)));
        self.writer.take()
    }

    fn end(&mut self, mut writer: Writer) {
        if self.manner.syncs {
            let synced = writer.sync();
            let poisoned = synced.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::DurabilityUnknown));
            // To reopen is proof that every line since the last good sync is durable.
            if synced.is_ok() || (poisoned && self.manner.durability == Durability::Sync && writer.reopen().is_ok()) {
                let mut ledger = self.ledger.lock().unwrap();
                let there = ledger[self.opened..].iter_mut().filter(|(_, told)| matches!(told, Told::There { .. }));
                there.for_each(|(_, told)| *told = Told::There { durable: true });
            }
        }
        self.writer = Some(writer);
    }

    /// Enters what the last `count` records were told, of which the first `whole` are in the file.
    fn told(&self, count: usize, whole: usize, error: Option<Error>) {
        let durable = self.manner.durability == Durability::Sync;
        let unsynced = error.as_ref().is_some_and(|error| error.kind() == ErrorKind::DurabilityUnknown);
        let there = Told::There { durable: durable && !unsynced };
        let rest = match error.as_ref().map(Error::left) {
            None | Some(Left::Whole(_)) => there,
            Some(Left::Unknown) => Told::Unknown,
            Some(_) => Told::NotThere,
        };
        let mut ledger = self.ledger.lock().unwrap();
        let first = ledger.len() - count;
        for (index, (_, told)) in ledger[first..].iter_mut().enumerate() {
            *told = if index < whole { there } else { rest };
        }
    }

    /// Goes on as another recorder, that knows what this one was told.
    pub(crate) fn successor(self, disk: &SimDisk) -> Recorder {
        Recorder { disk: disk.clone(), manner: self.manner, writer: None, opened: 0, ledger: self.ledger.clone() }
    }

    /// Holds the file against the ledger.
    pub(crate) fn check(&self, disk: &SimDisk, power_cut: bool) -> Result<(), String> {
        self.manner.check(&disk.read_file(PATH).unwrap_or_default(), &self.ledger.lock().unwrap(), power_cut)
    }
}

fn batch(payloads: &[String]) -> Batch {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.add_json(payload.as_bytes()).unwrap();
    }
    batch
}

/// Runs the script with faults, heals the disk, goes on, and holds everything against the ledger.
pub(crate) fn survive(manner: Manner, script: &[Step], faults: &[Fault]) {
    let disk = SimDisk::new();
    disk.write_file("/j/other", "").unwrap();
    faults.iter().for_each(|fault| disk.fail(fault.clone()));
    let mut recorder = Recorder::new(&disk, manner);
    recorder.run(script);
    disk.heal();
    let ledger = recorder.ledger.clone();
    let say = |what: String| -> ! {
        let text = disk.read_file(PATH).unwrap_or_default();
        let log: Vec<String> = disk.log().iter().map(ToString::to_string).collect();
        panic!(
            "{what}\nmanner {manner:?}\nfaults {faults:?}\nledger {:#?}\nfile {}\nlog\n{}",
            ledger.lock().unwrap(),
            String::from_utf8_lossy(&text),
            log.join("\n")
        )
    };
    if let Err(why) = recorder.check(&disk, false) {
        say(format!("at the end of the script: {why}"));
    }
    let mut next = recorder.successor(&disk);
    next.step(&Step::Append("{\"after\":\"all\"}".to_owned()));
    let last = next.ledger.lock().unwrap().last().cloned();
    if !matches!(last, Some((_, Told::There { .. }))) {
        say(format!("the disk is well again, and yet {last:?}"));
    }
    if let Err(why) = next.check(&disk, false) {
        say(format!("after reopening: {why}"));
    }
}

/// Records as recorders write them: short, with characters of several bytes, wrapped, in a batch, several at once, and one of 5 KB.
pub(crate) fn script(long: usize) -> Vec<Step> {
    let record = |n: u64| format!("{{\"type\":\"message\",\"n\":{n},\"text\":\"dix été ☃ 🦀\"}}");
    vec![
        Step::Append(record(1)),
        Step::Batch((2..5).map(record).collect()),
        Step::Append("[\"an array\",5]".to_owned()),
        Step::Restart,
        Step::All((6..9).map(record).collect()),
        Step::Append(format!("{{\"n\":9,\"long\":\"{}\"}}", "x".repeat(long))),
        Step::Append(record(10)),
    ]
}
