#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should say where")]

use std::{ops::Range, path::Path};

use super::*;
use crate::sys::{
    Disk,
    sim::{Fault, How, Op, OpKind, OpMatch, Outcome, SimDisk},
};

const EIO: i32 = 5;
const NAME: &str = "j.jsonl";

/// What strangers write. It shares no byte with our own lines but the LF, so that every byte tells whose it is.
const RECORD: &[u8] = b"{\"w\":0}\n";
const TORN: &[u8] = b"{\"x\"";
const RECORD_AND_TORN: &[u8] = b"{\"w\":0}\n{\"x\"";
const STRANGERS: [&[u8]; 4] = [b"", TORN, RECORD, RECORD_AND_TORN];

/// Our own lines: a unit, three units, a unit of two lines, bare numbers, a bare literal, a number behind a unit.
const OURS: [Lines<'static>; 6] = [
    Lines { bytes: b"[1]\n", ends: &[4] },
    Lines { bytes: b"[1]\n[2]\n[3]\n", ends: &[4, 8, 12] },
    Lines { bytes: b"[1]\n[2]\n", ends: &[8] },
    Lines { bytes: b"123\n", ends: &[4] },
    Lines { bytes: b"true\n", ends: &[5] },
    Lines { bytes: b"12\n345\n", ends: &[3, 7] },
];

/// A failed append, as its rollback meets it.
#[derive(Clone, Copy, Debug)]
struct Case {
    ours: Lines<'static>,
    /// How many of our bytes are in the file.
    landed: usize,
    /// How many of them the system told of.
    written: usize,
    before: &'static [u8],
    after: &'static [u8],
    how: Rollback,
}

/// What happens at one of the calls that the rollback makes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Fails,
    /// A write or a cut that does its work and tells an error.
    FailsAfter,
    /// A stranger appends just before.
    Stranger(&'static [u8]),
}

impl Event {
    fn happens(self, sim: &SimDisk, at: OpMatch) {
        match self {
            Event::Fails => sim.fail(Fault { at, how: How::Errno(EIO) }),
            Event::FailsAfter => sim.fail(Fault { at, how: How::ErrorAfter { bytes: usize::MAX, errno: EIO } }),
            Event::Stranger(bytes) => sim.before(at, move |disk| disk.append_raw(NAME, bytes).unwrap()),
        }
    }
}

/// What a rollback left and told.
struct End {
    file: Vec<u8>,
    told: RolledBack,
    ops: Vec<Op>,
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        let landings = OURS.into_iter().flat_map(|ours| (0..=ours.bytes.len()).map(move |landed| (ours, landed)));
        let told = landings.flat_map(|(ours, landed)| (0..=landed).map(move |written| (ours, landed, written)));
        let between = STRANGERS.into_iter().flat_map(|before| STRANGERS.map(|after| (before, after)));
        let between: Vec<_> = between.flat_map(|(before, after)| [Rollback::Cut, Rollback::Fence].map(|how| (before, after, how))).collect();
        told.filter(|(_, landed, written)| [0, 1, landed.saturating_sub(1), *landed].contains(written)).flat_map(move |(ours, landed, written)| {
            let cases = between.iter().map(move |&(before, after, how)| Case { ours, landed, written, before, after, how });
            cases.collect::<Vec<_>>()
        })
    }

    /// Where our first byte landed.
    fn place(&self) -> usize {
        RECORD.len() + self.before.len()
    }

    fn is_glued(&self) -> bool {
        is_torn(self.before)
    }

    /// Nobody knows where our bytes stand in a stranger's line, or whether any do.
    fn is_lost(&self) -> bool {
        self.is_glued() && self.written == 0
    }

    /// Rolls back as [`append`](crate::append::append) does: where the system told of no byte, nobody knows where one landed.
    fn end(&self, events: &[(usize, Event)]) -> End {
        let sim = SimDisk::new();
        sim.write_file(NAME, [RECORD, self.before, &self.ours.bytes[..self.landed], self.after].concat()).unwrap();
        let file = Disk { sim: Some(sim.clone()) }.open_append(Path::new(NAME)).unwrap();
        let first = sim.ops();
        for &(nth, event) in events {
            event.happens(&sim, OpMatch::nth(first + nth));
        }
        let told = match (self.written, self.place() as u64) {
            (0, _) => roll_back(&file, &self.ours, RECORD.len() as u64, 0, self.how),
            (written, place) if self.is_glued() => roll_back_glued(&file, &self.ours, place, written, self.how),
            (written, place) => roll_back(&file, &self.ours, place, written, self.how),
        };
        End { file: sim.read_file(NAME).unwrap(), told, ops: sim.log().split_off(first) }
    }

    /// All ends: every set of calls fails, and a stranger comes at most once.
    fn check(&self, events: &mut Vec<(usize, Event)>) -> usize {
        let end = self.end(events);
        if let Err(broken) = self.promises(&end, events) {
            panic!("{broken}: {self:?}, {events:?}: {:?} in {:?}, by {:?}", end.told, String::from_utf8_lossy(&end.file), end.ops);
        }
        let mut checked = 1;
        let next = events.last().map_or(0, |(nth, _)| nth + 1);
        for (nth, op) in end.ops.iter().enumerate().skip(next) {
            for event in possible(op.kind) {
                if matches!(event, Event::Stranger(_)) && events.iter().any(|(_, event)| matches!(event, Event::Stranger(_))) {
                    continue;
                }
                events.push((nth, event));
                checked += self.check(events);
                events.pop();
            }
        }
        checked
    }

    fn promises(&self, End { file, told, ops }: &End, events: &[(usize, Event)]) -> Result<(), &'static str> {
        let (place, units) = (self.place(), self.ours.ends);
        let failed = |kind| ops.iter().any(|op| op.kind == kind && matches!(op.outcome, Outcome::Failed(_)));
        let promise = |kept: bool, broken| if kept { Ok(()) } else { Err(broken) };

        let strangers = events.iter().filter_map(|(_, event)| if let Event::Stranger(bytes) = event { Some(*bytes) } else { None });
        let foreign = [RECORD, self.before, self.after].into_iter().chain(strangers);
        promise(in_order(file, foreign), "a stranger's bytes are gone")?;
        promise(self.how == Rollback::Cut || ops.iter().all(|op| op.kind != OpKind::Cut), "a fence cuts nothing")?;

        let behind = &file[place..];
        let whole = if self.is_glued() { 0 } else { units.iter().take_while(|end| behind.starts_with(&self.ours.bytes[..**end])).count() };
        promise(told.whole <= whole, "what counts as whole is not")?;
        promise(told.whole == whole || told.rest == Rest::Unknown, "what is whole does not count")?;
        promise(told.whole == 0 || told.start == place as u64, "the whole units start elsewhere")?;
        let keep = if told.whole == 0 { place } else { place + units[told.whole - 1] };

        // With the LF that is all that is missing, whoever opens the file makes a record of it.
        let may_become_whole = told.unfenced && !self.is_glued() && units.contains(&(self.landed + 1)) && file.len() == place + self.landed;
        let stay = (0..file.len()).filter(|at| is_ours(file[*at]) && !(place..keep).contains(at)).collect::<Vec<_>>();
        match &told.rest {
            Rest::Nothing => promise(stay.is_empty(), "something of ours stays")?,
            Rest::Fragment(_) if self.is_lost() => {}
            // Whether a cut was made of which an error was told shows in the size alone.
            Rest::Fragment(_) if stay.is_empty() && failed(OpKind::Cut) => {
                let a_stranger_came = events.iter().any(|(_, event)| matches!(event, Event::Stranger(_)));
                promise(failed(OpKind::Size) || a_stranger_came, "nothing stays of what is told as a fragment")?;
            }
            // No piece was found, but a stranger's torn one is there that could hide one.
            Rest::Fragment(Range { start, end }) if stay.is_empty() => {
                let torn = self.place() + self.landed + self.after.len() - TORN.len();
                promise(is_torn(self.after) && *start == torn as u64 && *end >= (torn + TORN.len()) as u64, "a fragment is where none can hide")?;
            }
            Rest::Fragment(Range { start, end }) => {
                promise(!may_become_whole, "what may become a record is told as a fragment")?;
                promise(*start == keep as u64 && *end == (place + self.landed) as u64, "the fragment is elsewhere")?;
                promise(stay.iter().all(|at| (*start..*end).contains(&(*at as u64))), "not all that stays is told")?;
                promise(
                    units.iter().filter(|unit| (keep..place + self.landed).contains(&(place + **unit - 1))).count() <= 1,
                    "a fragment is of one unit",
                )?;
            }
            Rest::Unknown => {
                let may_become_whole = may_become_whole || failed(OpKind::Size);
                promise(may_become_whole || failed(OpKind::ReadAt) || units.len() - told.whole > 1 || self.is_lost(), "what stays could be known")?;
            }
        }

        let as_before = self.is_glued() && told.rest == Rest::Nothing;
        let unseen = self.written == 0 && failed(OpKind::ReadAt);
        let exempt = told.unfenced || told.whole == units.len() || as_before || unseen;
        promise(exempt || file.ends_with(b"\n"), "the file ends inside a line")?;
        promise(!told.unfenced || failed(OpKind::Write), "a fence that was written is missed")?;
        promise(!failed(OpKind::Cut) || told.error.is_some() || told.rest == Rest::Nothing, "the error of the cut is lost")?;
        promise(told.error.is_none() || ops.iter().any(|op| op.outcome != Outcome::Done), "an error is told of that nobody had")?;
        promise(!told.unfenced || told.error.is_some(), "the error of the fence is lost")?;

        let own: Vec<_> = self.ours.bytes.split(|byte| *byte == LF).collect();
        let records = file.split_inclusive(|byte| *byte == LF).filter_map(|line| line.strip_suffix(b"\n"));
        let mut records = records.filter(|line| line.iter().any(|byte| is_ours(*byte)) && serde_json::from_slice::<serde_json::Value>(line).is_ok());
        promise(records.all(|record| own.contains(&record)), "a piece became a record")?;

        if events.is_empty() && self.after.is_empty() && !self.is_glued() {
            let lacks_lf = units.contains(&(self.landed + 1));
            promise(!lacks_lf || self.written == 0 || units[..told.whole].contains(&(self.landed + 1)), "the LF that was missing is not written")?;
            let known = self.how == Rollback::Cut && self.written == self.landed;
            promise(!known || told.rest == Rest::Nothing, "a piece that could be cut stays")?;
        }
        Ok(())
    }
}

/// A stranger that comes just before a cut loses what it wrote, as [`Rollback::Cut`] says; one that comes before a fence may leave a torn piece.
fn possible(kind: OpKind) -> Vec<Event> {
    match kind {
        OpKind::Cut => vec![Event::Fails, Event::FailsAfter],
        OpKind::Write => vec![Event::Fails, Event::FailsAfter, Event::Stranger(RECORD), Event::Stranger(TORN)],
        _ => vec![Event::Fails, Event::Stranger(RECORD)],
    }
}

fn is_torn(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|byte| *byte != LF)
}

fn is_ours(byte: u8) -> bool {
    b"[]12345true".contains(&byte)
}

/// Whether all pieces are in the file, each in one, one behind the other.
fn in_order<'a>(file: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut rest = file;
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let Some(at) = rest.windows(piece.len()).position(|window| window == piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    true
}

/// S2-10, S2-12, S2-14: whatever landed, whoever else wrote, and whichever later calls fail.
#[test]
fn a_rollback_takes_only_its_own_bytes_and_tells_exactly_what_stays() {
    let checked: usize = Case::all().map(|case| case.check(&mut Vec::new())).sum();
    assert!(checked > 100_000, "only {checked} ends were checked");
}

/// What an earlier try left is told with what is missing now: a range if it is one unit, and otherwise that nobody knows.
#[test]
fn what_an_earlier_try_left_is_told_if_this_one_left_nothing() {
    let told = |whole, rest| RolledBack { start: 8, whole, rest, unfenced: true, error: None };
    for ours in OURS {
        for whole in 0..ours.ends.len() {
            let with_earlier = |fragment, rest| told(whole, rest).with_earlier(fragment, &ours);
            let expected = if whole + 1 == ours.ends.len() { Rest::Fragment(3..9) } else { Rest::Unknown };
            let changed = with_earlier(Some(&(3..9)), Rest::Nothing);
            assert_eq!((changed.start, changed.whole, changed.rest, changed.unfenced), (8, whole, expected, true));
            assert_eq!(with_earlier(Some(&(3..9)), Rest::Fragment(20..23)).rest, Rest::Fragment(20..23));
            assert_eq!(with_earlier(Some(&(3..9)), Rest::Unknown).rest, Rest::Unknown);
            for (rest, expected) in [(Rest::Nothing, Rest::Nothing), (Rest::Fragment(20..23), Rest::Fragment(20..23)), (Rest::Unknown, Rest::Unknown)]
            {
                assert_eq!(with_earlier(None, rest).rest, expected);
            }
        }
    }
}

/// Whatever the file ends in, and whichever calls fail.
#[test]
fn a_fenced_end_is_a_boundary_and_adds_no_record() {
    for end in [&b""[..], b"[1]\n", b"[1", b"[1]\n[2", b"12", b"[1]\n12", b"true", b"[1]\n\n3"] {
        for failing in [
            None,
            Some((OpKind::Size, Event::Fails)),
            Some((OpKind::ReadAt, Event::Fails)),
            Some((OpKind::Write, Event::Fails)),
            Some((OpKind::Write, Event::FailsAfter)),
        ] {
            let sim = SimDisk::new();
            sim.write_file(NAME, end).unwrap();
            let file = Disk { sim: Some(sim.clone()) }.open_append(Path::new(NAME)).unwrap();
            let must_fail = failing.is_some_and(|(kind, _)| kind != OpKind::ReadAt || !end.is_empty());
            if let Some((kind, event)) = failing {
                event.happens(&sim, OpMatch::nth_of(kind, 0));
            }
            assert_eq!(fence_end(&file).is_err(), must_fail, "{end:?}, {failing:?}");
            let left = sim.read_file(NAME).unwrap();
            let fence = left.strip_prefix(end).unwrap();
            let spoilt = is_scalar_text(end);
            let expected: &[u8] = match failing {
                Some((_, Event::Fails)) if must_fail => b"",
                _ if spoilt => b"#\n",
                _ => b"\n",
            };
            assert_eq!(fence, expected, "{end:?}, {failing:?}");
        }
    }
}

fn is_scalar_text(end: &[u8]) -> bool {
    [&b"12"[..], b"true", b"3"].iter().any(|scalar| end.ends_with(scalar))
}

/// A file that somebody had truncated behind our back was made longer again, with NULs.
#[test]
fn a_rollback_never_makes_the_file_longer() {
    for how in [Rollback::Cut, Rollback::Fence] {
        let sim = SimDisk::new();
        sim.write_file(NAME, RECORD).unwrap();
        let file = Disk { sim: Some(sim.clone()) }.open_append(Path::new(NAME)).unwrap();
        for roll_back in [roll_back, roll_back_glued] {
            for start in [RECORD.len() as u64, 100] {
                let told = roll_back(&file, &OURS[0], start, 2, how);
                assert_eq!((told.whole, told.rest, told.unfenced), (0, Rest::Nothing, false));
                assert_eq!(sim.read_file(NAME).unwrap(), RECORD);
            }
        }
    }
}
