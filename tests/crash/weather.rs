//! What comes over a journal in a [`storm`](crate::storm), by chance: how it ends when it is opened, who writes into it when, and which calls fail.

use untorn::{
    Durability, Format, Lock, LockWait, Options, Rollback, Unterminated, Writer,
    sim::{How, Op, OpKind, SimDisk},
};

use crate::chance::Chance;

/// How records are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Single,
    /// Three in one write, each on its own.
    Group,
    /// Three that stand or fall together.
    Batch,
    /// Four from the queue of a shared writer, in one write or several.
    Queue,
}

/// One journal, its writer, and all that happens to them. The numbers are those of calls.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) base: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    pub(crate) way: Way,
    sealed: bool,
    /// `None`: as the file is.
    format: Option<Format>,
    pub(crate) rollback: Rollback,
    lock: Lock,
    pub(crate) syncs: bool,
    unterminated: Unterminated,
    /// What was not appended is appended again.
    pub(crate) tries_again: bool,
    /// The stranger has the journal open from the beginning, and so is seen.
    pub(crate) is_seen: bool,
    pub(crate) strangers: Vec<(usize, Vec<u8>)>,
    pub(crate) faults: Vec<(usize, How)>,
    pub(crate) payloads: [String; 4],
}

/// Whole lines that may end a journal, with `'` for `"`. `sealed` journals may end with the others too.
const LINES: &[u8] = b"{'s':1}\n|12\n|'ab'\n|\n|\r\n|  \n|{'s'\n|{'s':1}{'t'\n|\0\0\n|\0\0{'s':1}\n|\xEF\xBB\xBF\n|\xEF\xBB\xBF{'s':1}\n|{'s':1}  \n";
/// What stands behind a torn end.
const FILLING: &[u8] = b"||  |\t\r|\0\0\0|\0";
/// What strangers write.
const PIECES: &[u8] = b"{'w':1}\n|{'w':1}|{'h':|}\n|{'w':1}\n{'h'|]}\n|x|#\n|'|{'by':'a str|5|5\n|  |\n|\r\n|\xEF\xBB\xBF|\0\0\0|\0\n";

fn each(of: &[u8]) -> Vec<Vec<u8>> {
    of.split(|byte| *byte == b'|').map(|one| one.iter().map(|byte| if *byte == b'\'' { b'"' } else { *byte }).collect()).collect()
}

impl Weather {
    /// A calm one: nobody else writes, and no call fails.
    pub(crate) fn calm(chance: &mut Chance) -> Weather {
        let sealed = chance.within(0..3) > 0;
        let ways = if sealed { &[Way::Single, Way::Group, Way::Queue, Way::Batch][..] } else { &[Way::Single, Way::Group, Way::Queue] };
        let style = chance.within(0..6);
        let payload = |n| match style {
            0 => format!("9{n}01"),
            1 => format!("\"r{n}01\""),
            _ => format!("{{\"r\":{n}01}}"),
        };
        let first = if sealed { seal("{\"s\":0}", 1, 0) } else { b"{\"s\":0}\n".to_vec() };
        let format = if sealed { Format::Sealed } else { Format::Plain };
        Weather {
            base: if chance.within(0..4) == 0 { Vec::new() } else { first },
            tail: tail(chance, sealed),
            way: *chance.one(ways),
            sealed,
            format: *chance.one(&[None, Some(format), Some(format)]),
            rollback: *chance.one(&[Rollback::Cut, Rollback::Cut, Rollback::Fence]),
            lock: *chance.one(&[Lock::PerAppend, Lock::Held]),
            syncs: chance.within(0..2) == 0,
            unterminated: if chance.within(0..8) == 0 { Unterminated::Quarantine } else { Unterminated::Keep },
            tries_again: chance.within(0..3) > 0,
            is_seen: chance.within(0..4) == 0,
            strangers: Vec::new(),
            faults: Vec::new(),
            payloads: [1, 2, 3, 4].map(payload),
        }
    }

    /// Lets up to two pieces of a stranger and up to two faults meet the calls that were made in the calm, half of them such as change a file, and a
    /// few more, which are made when something fails.
    pub(crate) fn blow(mut self, chance: &mut Chance, calm: &[Op]) -> Weather {
        let changes = |op: &Op| matches!(op.kind, OpKind::Write | OpKind::Cut | OpKind::SyncData);
        let changes: Vec<usize> = (0..calm.len()).filter(|at| changes(&calm[*at])).collect();
        let at = |chance: &mut Chance| match chance.within(0..2) {
            0 => chance.one(&changes) + chance.within(0..4) as usize,
            _ => chance.within(0..calm.len() as u64 + 30) as usize,
        };
        let more = if self.way == Way::Batch { 2 } else { 0 };
        let next = if self.base.is_empty() { 1 } else { 2 } + chance.within(0..3);
        let ours = if self.sealed { seal(&self.payloads[0], next, more) } else { format!("{}\n", self.payloads[0]).into_bytes() };
        let len = ours.len() as u64;
        let pieces = each(PIECES);
        for _ in 0..*chance.one(&[0, 1, 1, 1, 2, 2]) {
            // A piece that begins as our own line does is the hardest to tell from it.
            let some = chance.within(1..len - 1);
            let begun = *chance.one(&[1, 2, some]) as usize;
            let piece = if chance.within(0..6) == 0 { ours[..begun].to_vec() } else { chance.one(&pieces).clone() };
            self.strangers.push((at(chance), piece));
        }
        // The hooks of one call run in the order in which they were set.
        self.strangers.sort();
        for _ in 0..*chance.one(&[0, 1, 1, 2, 2, 2]) {
            let bytes = match chance.within(0..4) {
                0 => chance.within(0..4),
                1 => u64::from(u32::MAX),
                2 => len - chance.within(0..3),
                _ => chance.within(0..len * 3 + 4),
            } as usize;
            let how = match chance.within(0..8) {
                0 | 1 => How::Errno(*chance.one(&[5, 28, 4])),
                2 | 3 => How::Short(bytes.max(1)),
                4..=6 => How::ErrorAfter { bytes, errno: *chance.one(&[5, 28]) },
                _ => How::SyncFailsAndDrops(5),
            };
            self.faults.push((at(chance), how));
        }
        self
    }

    pub(crate) fn options(&self, disk: &SimDisk) -> Options {
        let mut options = Writer::options();
        let durability = if self.syncs { Durability::Sync } else { Durability::Os };
        options.disk(disk).rollback(self.rollback).lock(self.lock, LockWait::Never).durability(durability).unterminated(self.unterminated);
        self.format.map(|format| options.format(format));
        options
    }

    /// What a line begins with that holds this record, or a large piece of it.
    pub(crate) fn begun(&self, payload: &str) -> Vec<u8> {
        let value = if self.sealed && !payload.starts_with('{') { "{\"_value\":" } else { "" };
        format!("{value}{}", &payload[..payload.len() - 1]).into_bytes()
    }

    /// The same without one thing each.
    pub(crate) fn simpler(&self) -> Vec<Weather> {
        let with = |change: &dyn Fn(&mut Weather)| {
            let mut simpler = self.clone();
            change(&mut simpler);
            simpler
        };
        let faults = (0..self.faults.len()).map(|nth| with(&|simpler| _ = simpler.faults.remove(nth)));
        let strangers = (0..self.strangers.len()).flat_map(|nth| {
            [with(&|simpler| _ = simpler.strangers.remove(nth)), with(&|simpler| simpler.strangers[nth].1.truncate(self.strangers[nth].1.len() / 2))]
        });
        let others: [&dyn Fn(&mut Weather); 8] = [
            &|simpler| simpler.tail.clear(),
            &|simpler| simpler.base.clear(),
            &|simpler| simpler.is_seen = false,
            &|simpler| simpler.unterminated = Unterminated::Keep,
            &|simpler| simpler.tries_again = false,
            &|simpler| simpler.syncs = false,
            &|simpler| simpler.lock = Lock::PerAppend,
            &|simpler| simpler.format = Some(if self.sealed { Format::Sealed } else { Format::Plain }),
        ];
        let all = faults.chain(strangers).chain(others.into_iter().map(with));
        all.filter(|simpler| format!("{simpler:?}") != format!("{self:?}")).collect()
    }
}

/// Whole lines, the beginning of one more, and filling: each of them may be missing.
fn tail(chance: &mut Chance, sealed: bool) -> Vec<u8> {
    let mut lines = each(LINES);
    if sealed {
        let [first, second, last] = [(2, 2), (3, 1), (4, 0)].map(|(seq, more)| seal(&format!("{{\"b\":{more}}}"), seq, more));
        let mut wrong = seal("{\"s\":5}", 2, 0);
        wrong[5] ^= 1;
        let batches = [first.clone(), [&first[..], &second].concat(), [&first[..], &second, &last].concat(), [&first[..], b"\n", &second].concat()];
        lines.extend([seal("{\"s\":5}", 2, 0), wrong].into_iter().chain(batches.clone()).chain(batches));
    }
    let mut tail = Vec::new();
    for _ in 0..*chance.one(&[0, 0, 1, 1, 2]) {
        tail.extend(chance.one(&lines));
    }
    let torn = chance.one(&lines);
    let some = chance.within(0..torn.len() as u64) as usize;
    tail.extend(&torn[..*chance.one(&[0, torn.len() - 1, some])]);
    tail.extend(chance.one(&each(FILLING)));
    tail
}

fn seal(payload: &str, seq: u64, more: u64) -> Vec<u8> {
    let open = match payload.strip_suffix('}') {
        Some("{") => "{".to_owned(),
        Some(open) => format!("{open},"),
        None => format!("{{\"_value\":{payload},"),
    };
    let more = if more > 0 { format!(",\"_more\":{more}") } else { String::new() };
    let covered = format!("{open}\"_seq\":{seq}{more}");
    format!("{covered},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(covered.as_bytes())).into_bytes()
}
