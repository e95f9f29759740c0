//! Power cuts on real file systems: an image on a loop device is shut down in the middle of many appends, so that the kernel forgets all that it
//! has not written, and mounted again.
//!
//! What was acknowledged is remembered outside the mount.

use std::{
    fs,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use untorn::{Durability, Lock, LockWait, Options, Rollback, Writer};

use crate::{
    chance::Chance,
    lane,
    mount::{Kind, Mount},
    promises::{self, Told},
};

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=1"];
pub(crate) const KINDS: [Kind; 6] = [
    Kind { name: "ext4", mkfs: EXT4, options: "rw", mib: 64 },
    Kind { name: "ext4, commit=1", mkfs: EXT4, options: "commit=1", mib: 64 },
    Kind { name: "ext4, data=writeback", mkfs: EXT4, options: "data=writeback", mib: 64 },
    Kind { name: "ext4, nodelalloc", mkfs: EXT4, options: "nodelalloc", mib: 64 },
    Kind { name: "ext4, noauto_da_alloc", mkfs: EXT4, options: "noauto_da_alloc", mib: 64 },
    Kind { name: "xfs", mkfs: &["mkfs.xfs", "-q", "-f"], options: "rw", mib: 320 },
];
const THREADS: usize = 4;
const JOURNALS_PER_THREAD: usize = 50;
const NEXT: &str = "{\"after\":\"the power cut\"}";

/// One journal, its writer, and what its records were told.
struct Recorder {
    path: PathBuf,
    options: Options,
    /// What an append says is durable.
    is_synced: bool,
    ledger: Vec<(String, Told)>,
}

/// What was seen on one kind of file system.
#[derive(Default)]
struct Seen {
    journals: usize,
    acknowledged: usize,
    nul_tails: usize,
    repaired: usize,
}

impl Recorder {
    /// Of four journals one is synced at every append, one now and then, one after some time, and one is never cut.
    fn new(dir: &Path, number: usize) -> Recorder {
        let durability = [Durability::Sync, Durability::Os, Durability::Interval(Duration::from_millis(20)), Durability::Os][number % 4];
        let mut options = Writer::options();
        options.durability(durability).lock(if number % 8 < 4 { Lock::PerAppend } else { Lock::Held }, LockWait::Never);
        options.rollback(if number % 4 == 3 { Rollback::Fence } else { Rollback::Cut });
        Recorder { path: dir.join(format!("{number}.jsonl")), options, is_synced: durability == Durability::Sync, ledger: Vec::new() }
    }

    /// Appends one record; whether the file system is still there. What is acknowledged once the power goes counts for nothing.
    fn append(&mut self, writer: &mut Writer, chance: &mut Chance, power: &Power) -> bool {
        let n = self.ledger.len();
        // Some records span blocks; most of them share one with others.
        let len = if chance.within(0..20) == 0 { chance.within(4000..9000) } else { chance.within(1..300) };
        let payload = format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(len as usize));
        self.ledger.push((payload.clone(), Told::Unknown));
        if writer.append_json(payload.as_bytes()).is_err() {
            return false;
        }
        if !power.is_going() {
            self.ledger[n].1 = Told::There { durable: self.is_synced };
        }
        if chance.within(0..30) > 0 {
            return true;
        }
        let is_synced = writer.sync().is_ok();
        if is_synced && !power.is_going() {
            self.ledger.iter_mut().for_each(|(_, told)| *told = Told::There { durable: true });
        }
        is_synced
    }

    /// Holds the file against the ledger as it is now, and when it has been opened and appended to.
    fn check(mut self, seen: &mut Seen) -> Result<(), String> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        promises::check(&bytes, &self.ledger, true)?;
        let mut writer = self.options.durability(Durability::Sync).open(&self.path).map_err(|error| format!("cannot open: {error:?}"))?;
        seen.journals += 1;
        seen.acknowledged += self.ledger.iter().filter(|(_, told)| *told == Told::There { durable: true }).count();
        seen.nul_tails += usize::from(bytes.ends_with(&[0]));
        seen.repaired += usize::from(!writer.tail_repair().is_clean());
        writer.append_json(NEXT.as_bytes()).map_err(|error| format!("cannot append: {error:?}"))?;
        self.ledger.push((NEXT.to_owned(), Told::There { durable: true }));
        promises::check(&fs::read(&self.path).unwrap(), &self.ledger, true)
    }
}

/// The power of one file system: on, going, gone.
#[derive(Default)]
pub(crate) struct Power {
    going: AtomicBool,
    pub(crate) gone: AtomicBool,
}

impl Power {
    pub(crate) fn is_going(&self) -> bool {
        self.going.load(Ordering::SeqCst)
    }

    /// FS_IOC_SHUTDOWN: 2 leaves even the file system's own log unwritten, 1 writes it.
    ///
    /// While it shuts down, ext4 may say of a sync that it is done when it is not. A real power cut lets nobody hear that, so the power counts as
    /// going from before.
    pub(crate) fn cut(&self, at: &Path, how: u64) -> Result<(), String> {
        const PROGRAM: &str = "import fcntl, os, struct, sys
root = os.open(sys.argv[1], os.O_RDONLY)
sys.stdin.readline()
fcntl.ioctl(root, 0x8004587d, struct.pack('I', int(sys.argv[2])))";
        let mut python = Command::new("python3");
        let python = python.args(["-c", PROGRAM]).arg(at).arg(how.to_string()).stdin(Stdio::piped()).stderr(Stdio::piped());
        let cut = python.spawn().map_err(|error| format!("python3: {error}")).and_then(|mut child| {
            self.going.store(true, Ordering::SeqCst);
            let _ = child.stdin.take().unwrap().write_all(b"\n");
            let output = child.wait_with_output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
        });
        self.gone.store(true, Ordering::SeqCst);
        cut
    }
}

/// Appends to journals in turn until the power is gone.
fn append_until_it_is_gone(dir: &Path, numbers: Range<usize>, chance: &mut Chance, power: &Power) -> Vec<Recorder> {
    let mut recorders: Vec<Recorder> = numbers.map(|number| Recorder::new(dir, number)).collect();
    let mut writers: Vec<Option<Writer>> = recorders.iter().map(|recorder| recorder.options.open(&recorder.path).ok()).collect();
    while !power.gone.load(Ordering::SeqCst) {
        let at = chance.within(0..recorders.len() as u64) as usize;
        if let Some(writer) = &mut writers[at]
            && !recorders[at].append(writer, chance, power)
        {
            writers[at] = None;
        }
    }
    recorders
}

/// Mounts a new image, cuts the power in the middle of appends, mounts again, and checks every journal.
fn cut_once(kind: &Kind, chance: &mut Chance, seen: &mut Seen) -> Result<(), String> {
    let room = Mount::tmpfs(kind.mib + 16)?;
    let image = kind.image_in(room.path())?;
    let disk = Mount::image(&image, kind.options)?;
    let power = Power::default();
    let (cut, recorders) = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (mut chance, power, dir) = (chance.fork(), &power, disk.path());
                let numbers = thread * JOURNALS_PER_THREAD..(thread + 1) * JOURNALS_PER_THREAD;
                scope.spawn(move || append_until_it_is_gone(dir, numbers, &mut chance, power))
            })
            .collect();
        thread::sleep(Duration::from_millis(chance.within(100..700)));
        let cut = power.cut(disk.path(), 1 + chance.within(0..4).min(1));
        let recorders: Vec<Recorder> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (cut, recorders)
    });
    cut?;
    drop(disk);
    let disk = Mount::image(&image, kind.options)?;
    for mut recorder in recorders {
        recorder.path = disk.path().join(recorder.path.file_name().unwrap());
        let (path, ledger) = (recorder.path.clone(), recorder.ledger.clone());
        if let Err(why) = recorder.check(seen) {
            let told: Vec<_> = ledger.iter().map(|(payload, told)| format!("{payload:.30} {told:?}")).collect();
            panic!("{} on {}: {why}\n{told:#?}", path.display(), kind.name);
        }
    }
    Ok(())
}

/// F26, F27, F32, P2: the power is cut on real file systems, and every acknowledged record is there afterwards.
#[test]
fn a_power_cut_on_a_real_file_system_loses_no_acknowledged_record() {
    let mut chance = Chance::new("power cuts");
    for kind in KINDS {
        let mut seen = Seen::default();
        let cuts = lane::pick(5, 100);
        if let Err(why) = (0..cuts).try_for_each(|_| cut_once(&kind, &mut chance, &mut seen)) {
            lane::skip(&format!("power cuts on {}", kind.name), &why);
            continue;
        }
        println!(
            "power cuts on {}: {cuts} cuts, {} journals, {} with NULs at the end, {} tails repaired, {} durable records, all there",
            kind.name, seen.journals, seen.nul_tails, seen.repaired, seen.acknowledged
        );
    }
}
