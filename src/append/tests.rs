#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should say where")]

use std::path::Path;

use super::*;
use crate::sys::{
    Disk,
    sim::{Fault, How, Op, OpKind, OpMatch, SimDisk},
};

const EIO: i32 = 5;
const NAME: &str = "j.jsonl";
const RECORD: &[u8] = b"{\"w\":0}\n";
const ONE: Lines<'static> = Lines { bytes: b"[1]\n", ends: &[4] };
const THREE: Lines<'static> = Lines { bytes: b"[1]\n[2]\n[3]\n", ends: &[4, 8, 12] };

/// What happens at one of the calls that the append makes.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fault(How),
    /// A stranger appends just before.
    Stranger(&'static [u8]),
}

const FAILS: Event = Event::Fault(How::Errno(EIO));
const FAILS_AFTER: Event = Event::Fault(How::ErrorAfter { bytes: usize::MAX, errno: EIO });

/// What an append told, what it left, and what it did.
struct End {
    told: Result<Landed, Failed>,
    file: Vec<u8>,
    ops: Vec<Op>,
}

impl End {
    fn whole_and_rest(&self) -> (usize, Option<&Rest>) {
        self.told.as_ref().map_or_else(|failed| (failed.rolled_back.whole, Some(&failed.rolled_back.rest)), |_| (usize::MAX, None))
    }
}

/// Appends behind [`RECORD`] while the events happen.
fn end(ours: &Lines<'_>, how: Rollback, events: &[(OpMatch, Event)]) -> End {
    let sim = SimDisk::new();
    sim.write_file(NAME, RECORD).unwrap();
    let file = Disk { sim: Some(sim.clone()) }.open_append(Path::new(NAME)).unwrap();
    let first = sim.ops();
    for (at, event) in events.iter().cloned() {
        match event {
            Event::Fault(how) => sim.fail(Fault { at, how }),
            Event::Stranger(bytes) => sim.before(at, move |disk| disk.append_raw(NAME, bytes).unwrap()),
        }
    }
    let told = append(&file, ours, RECORD.len() as u64, how);
    End { told, file: sim.read_file(NAME).unwrap(), ops: sim.log().split_off(first) }
}

fn write(nth: usize) -> OpMatch {
    OpMatch::nth_of(OpKind::Write, nth)
}

/// A record that stood whole behind a stranger's was told as a piece, and appended again, if what it landed on could not be read.
#[test]
fn where_the_place_of_a_record_cannot_be_looked_at_nobody_knows() {
    for how in [Rollback::Cut, Rollback::Fence] {
        let unread = |nth| (OpMatch::nth_of(OpKind::ReadAt, nth), FAILS);
        let events = [(write(0), Event::Stranger(RECORD)), unread(0), unread(1), (OpMatch::nth_of(OpKind::Cut, 0), FAILS)];
        let end = end(&ONE, how, &events);
        assert_eq!(end.whole_and_rest(), (0, Some(&Rest::Unknown)), "{how:?}");
        assert!(end.file.starts_with(&[RECORD, RECORD, ONE.bytes].concat()), "{how:?}");
    }
}

/// A record was told as there that stood in the middle of a stranger's line, where the LF that was to fence it off had not landed.
#[test]
fn what_stands_behind_a_fence_that_did_not_land_is_on_no_line_of_its_own() {
    for how in [Rollback::Cut, Rollback::Fence] {
        let events = [(write(0), Event::Stranger(b"{\"x\":")), (write(1), Event::Stranger(b"8[1]\n")), (write(1), FAILS)];
        let end = end(&ONE, how, &events);
        assert!(end.told.is_err(), "{how:?}: {:?} of {}", end.told, end.file.escape_ascii());
    }
}

/// A record whose LF and bytes had landed behind the rest of a stranger's line is found there.
#[test]
fn what_stands_further_behind_than_its_fence_was_to_land_is_there() {
    for how in [Rollback::Cut, Rollback::Fence] {
        let events = [(write(0), Event::Stranger(b"{\"x\":")), (write(1), Event::Stranger(b"8}\n")), (write(1), FAILS_AFTER)];
        let end = end(&ONE, how, &events);
        let start = usize::try_from(end.told.unwrap().start).unwrap();
        assert!(end.file[..start].ends_with(b"\n") && &end.file[start..] == ONE.bytes, "{how:?}: {}", end.file.escape_ascii());
    }
}

/// A record glued to a stranger's fragment was told as not there, beside a piece of the next; but where it landed was not known.
#[test]
fn where_not_all_that_was_taken_is_found_nobody_knows() {
    let events = [(write(0), Event::Stranger(b"1")), (write(0), Event::Fault(How::Short(5))), (OpMatch::nth_of(OpKind::Position, 0), FAILS)];
    let end = end(&THREE, Rollback::Cut, &events);
    assert_eq!(end.whole_and_rest(), (0, Some(&Rest::Unknown)));
    assert_eq!(end.file, [RECORD, b"1[1]\n[\n"].concat());
}

/// A piece of ours that a stranger had written into was told as fenced off, though the LF in front of the next try had not landed.
#[test]
fn a_piece_that_an_earlier_try_left_is_fenced_or_poisons() {
    for (fence, is_fenced) in [(None, true), (Some((write(3), FAILS)), false)] {
        let short = (write(0), Event::Fault(How::Short(1)));
        let mut events = vec![short, (OpMatch::nth_of(OpKind::Position, 0), Event::Stranger(b"{\"x\"")), (write(1), FAILS)];
        events.extend(fence.map(|(_, event)| (write(2), event)));
        let end = end(&ONE, Rollback::Cut, &events);
        let failed = end.told.unwrap_err();
        assert_eq!((failed.rolled_back.rest, failed.rolled_back.unfenced), (Rest::Fragment(8..13), !is_fenced));
        assert_eq!(failed.rolled_back.error.is_some(), !is_fenced);
        assert_eq!(end.file.ends_with(b"\n"), is_fenced);
    }
}

/// A record that had landed behind more of a stranger's lines than are looked at was told as not there, and appended again.
#[test]
fn what_may_stand_further_behind_than_is_looked_is_told_as_unknown() {
    let lines: &'static [u8] = RECORD.repeat((1 << 20) / RECORD.len() + 1).leak();
    for ours in [ONE, THREE] {
        let end = end(&ours, Rollback::Cut, &[(write(0), Event::Stranger(lines)), (write(0), FAILS_AFTER)]);
        assert_eq!(end.whole_and_rest().1, Some(&Rest::Unknown), "{ours:?}");
        assert!(end.file.starts_with(&[RECORD, lines, ours.bytes].concat()));
    }
}

/// The rollback of a million equal records that had landed behind a stranger's took hours, under the lock.
#[test]
fn equal_lines_are_found_in_one_pass() {
    let bytes = b"[1]\n".repeat(1_000_000);
    let ends: Vec<_> = (1..=1_000_000).map(|line| 4 * line).collect();
    let ours = Lines { bytes: &bytes, ends: &ends };
    let end = end(&ours, Rollback::Cut, &[(write(0), Event::Stranger(RECORD)), (write(0), FAILS_AFTER)]);
    assert_eq!(end.told.unwrap().start, 2 * RECORD.len() as u64);
}

/// On a full disk, a stranger's torn bytes were cut off because ours begin, or go on, with the same ones.
#[test]
fn what_the_system_did_not_take_of_ours_may_be_somebody_elses() {
    for (before, taken, stranger) in [(&b""[..], 0, &b"["[..]), (b"", 1, b"1"), (b"{\"x\"", 1, b"1")] {
        // The disk is full from the first byte on that is not taken, and there is room again for the fence.
        let short = (write(0), Event::Fault(How::Short(taken)));
        let full = (write(taken), Event::Fault(How::Errno(28)));
        let events = [(write(0), Event::Stranger(before)), full, short, (OpMatch::nth_of(OpKind::ReadAt, 0), Event::Stranger(stranger))];
        let end = end(&ONE, Rollback::Cut, &events);
        assert!(end.told.is_err());
        assert_eq!(end.file, [RECORD, before, &ONE.bytes[..taken], stranger, b"\n"].concat());
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Owner {
    Us,
    Stranger,
}

impl End {
    /// Whose each byte behind [`RECORD`] is, and whether a cut took a stranger's, when a stranger came once, just before the call `at`.
    fn owners(&self, at: usize, stranger: &[u8]) -> (Vec<Owner>, bool) {
        let (mut owners, mut has_lost) = (Vec::new(), false);
        for (nth, op) in self.ops.iter().enumerate() {
            if nth == at {
                owners.extend(stranger.iter().map(|_| Owner::Stranger));
            }
            let behind = |offset: u64| usize::try_from(offset).unwrap() - RECORD.len();
            match (op.kind, &op.moved, op.offset) {
                (OpKind::Write, Some(moved), _) => owners.resize(behind(moved.end).max(owners.len()), Owner::Us),
                (OpKind::Cut, _, Some(to)) if op.outcome == crate::sys::sim::Outcome::Done => {
                    has_lost |= owners.drain(behind(to)..).any(|owner| owner == Owner::Stranger);
                }
                _ => {}
            }
        }
        assert_eq!(owners.len(), self.file.len() - RECORD.len());
        (owners, has_lost)
    }
}

/// S2-10, S2-12, F16, F17: what a stranger writes between any two calls may look like ours, or like a piece of it.
#[test]
fn a_stranger_that_writes_as_we_do_loses_nothing_and_hides_nothing() {
    let strangers: [&'static [u8]; 9] = [b"[", b"[1]", b"[1]\n", b"[1]\n[", b"\n", b"8[1]\n", RECORD, b"1", b"{\"x\""];
    let mut runs = 0;
    for (ours, how) in [ONE, THREE].into_iter().flat_map(|ours| [Rollback::Cut, Rollback::Fence].map(|how| (ours, how))) {
        let first = (0..=ours.bytes.len()).map(|bytes| How::ErrorAfter { bytes, errno: 28 });
        for first in first.chain((1..=ours.bytes.len()).map(How::Short)) {
            for (at, stranger) in (0..12).flat_map(|at| strangers.map(|stranger| (at, stranger))) {
                for failing in 0..12 {
                    let events =
                        [(write(0), Event::Fault(first)), (OpMatch::nth(at + 1), Event::Stranger(stranger)), (OpMatch::nth(failing + 2), FAILS)];
                    let end = end(&ours, how, &events);
                    if at >= end.ops.len() {
                        continue;
                    }
                    runs += 1;
                    let case = format!("{ours:?}, {how:?}, {events:?}: {:?} in {}, by {:?}", end.told, end.file.escape_ascii(), end.ops);
                    let (owners, has_lost) = end.owners(at, stranger);
                    let is_in_the_window = how == Rollback::Cut && end.ops[at].kind == OpKind::Cut;
                    assert!(!has_lost || is_in_the_window, "a stranger's bytes are gone: {case}");
                    let (start, whole) = match &end.told {
                        Ok(landed) => (landed.start, ours.ends.len()),
                        Err(failed) => (failed.rolled_back.start, failed.rolled_back.whole),
                    };
                    let start = usize::try_from(start).unwrap();
                    if let Some(last) = whole.checked_sub(1) {
                        assert!(end.file[..start].ends_with(b"\n"), "what is told as there is glued: {case}");
                        assert!(end.file[start..].starts_with(&ours.bytes[..ours.ends[last]]), "what is told as there is not: {case}");
                    }
                    let Err(Failed { rolled_back, .. }) = &end.told else { continue };
                    let last_line = owners.len() - end.file.iter().rev().take_while(|byte| **byte != LF).count();
                    let is_open = owners[last_line..].contains(&Owner::Us) && rolled_back.rest != Rest::Unknown && rolled_back.rest != Rest::Nothing;
                    assert!(!is_open || rolled_back.unfenced, "a piece is neither fenced nor told as open: {case}");
                    if let Rest::Fragment(Range { start, end: past }) = rolled_back.rest {
                        assert!(start < past && past <= end.file.len() as u64, "a fragment is nowhere: {case}");
                    }
                }
            }
        }
    }
    assert!(runs > 20_000, "only {runs} runs");
}
