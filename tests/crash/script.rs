//! A recorder's life on a simulated disk: a list of steps, and a ledger of what each record was told.

use std::sync::{Arc, Mutex};

use untorn::{
    Batch, Durability, Error, ErrorKind, Left, Lock, LockWait, Options, Rollback, Writer,
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
    pub(crate) lock: Lock,
    pub(crate) durability: Durability,
    pub(crate) rollback: Rollback,
}

impl Manner {
    pub(crate) const ALL: [Manner; 4] = [
        Manner { lock: Lock::PerAppend, durability: Durability::Sync, rollback: Rollback::Cut },
        Manner { lock: Lock::Held, durability: Durability::Sync, rollback: Rollback::Cut },
        Manner { lock: Lock::PerAppend, durability: Durability::Os, rollback: Rollback::Fence },
        Manner { lock: Lock::Held, durability: Durability::Os, rollback: Rollback::Cut },
    ];

    pub(crate) fn options(&self, disk: &SimDisk) -> Options {
        let mut options = Writer::options();
        options.disk(disk).lock(self.lock, LockWait::Never).durability(self.durability).rollback(self.rollback);
        options
    }
}

/// What every record was told so far. Shared, so that a hook in the middle of a call can look.
pub(crate) type Ledger = Arc<Mutex<Vec<(String, Told)>>>;

/// Runs a script; no failure ends it.
pub(crate) struct Recorder {
    disk: SimDisk,
    manner: Manner,
    writer: Option<Writer>,
    pub(crate) ledger: Ledger,
}

impl Recorder {
    pub(crate) fn new(disk: &SimDisk, manner: Manner) -> Recorder {
        Recorder { disk: disk.clone(), manner, writer: None, ledger: Ledger::default() }
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
        let told = match self.writer.take().map_or_else(|| self.manner.options(&self.disk).open(PATH), Ok) {
            Ok(writer) => {
                self.writer = Some(writer);
                Told::Unknown
            }
            Err(_) => Told::NotThere,
        };
        self.ledger.lock().unwrap().extend(payloads.iter().map(|payload| (payload.clone(), told)));
        self.writer.take()
    }

    fn end(&mut self, mut writer: Writer) {
        let poisoned = writer.sync().is_err_and(|error| matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::DurabilityUnknown));
        if poisoned && self.manner.durability == Durability::Sync && writer.reopen().is_ok() {
            // Success is proof that every line since the last good sync is durable.
            let mut ledger = self.ledger.lock().unwrap();
            ledger.iter_mut().filter(|(_, told)| matches!(told, Told::There { .. })).for_each(|(_, told)| *told = Told::There { durable: true });
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
        Recorder { disk: disk.clone(), manner: self.manner, writer: None, ledger: self.ledger.clone() }
    }

    /// Holds the file against the ledger.
    pub(crate) fn check(&self, disk: &SimDisk, power_cut: bool) -> Result<(), String> {
        promises::check(&disk.read_file(PATH).unwrap_or_default(), &self.ledger.lock().unwrap(), power_cut)
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
