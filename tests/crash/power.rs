//! The power is cut before every call, and every state that the disk could then be in is opened, appended to, and held against the ledger.
//! While it is opened, the power is cut again.

use std::{
    collections::HashSet,
    fmt,
    iter::Sum,
    sync::{Arc, Mutex},
};

use untorn::sim::{Bounds, OpMatch, SimDisk, Tear};

use crate::{
    crashes, lane,
    promises::Told,
    quarantine,
    script::{Ledger, Manner, PATH, Recorder, Step, script},
};

/// What was tried: each state that a disk could be in at some call, and how many of those have files of their own. The others need no second look.
#[derive(Clone, Copy, Default)]
struct States {
    all: usize,
    different: usize,
}

impl States {
    fn is_new(&mut self, seen: &mut HashSet<u64>, image: &SimDisk) -> bool {
        let is_new = seen.insert(crashes::content(image));
        self.all += 1;
        self.different += usize::from(is_new);
        is_new
    }
}

impl Sum for States {
    fn sum<I: Iterator<Item = States>>(states: I) -> States {
        states.fold(States::default(), |sum, states| States { all: sum.all + states.all, different: sum.different + states.different })
    }
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {} of them different", self.all, self.different)
    }
}

const NEXT: &str = "{\"after\":\"the power cut\"}";

/// Cuts the power before op `index` of the script, and tries what is left.
fn cut_power_before(index: usize, manner: Manner, script: &[Step]) -> States {
    let disk = SimDisk::new();
    disk.write_file("/j/other", "").unwrap();
    // At every byte, unless several steps are pending; without optimisation so that it takes a minute.
    let bounded = if manner.syncs { 1 } else { 7 };
    let bounds = Bounds::every(lane::pick(if cfg!(debug_assertions) { 61 } else { bounded }, 1));
    let mut recorder = Recorder::new(&disk, manner);
    let ledger: Ledger = recorder.ledger.clone();
    let states = Arc::new(Mutex::new(States::default()));
    let counted = states.clone();
    let trouble = Arc::new(Mutex::new(None));
    let told = trouble.clone();
    disk.before(OpMatch::nth(index), move |disk| {
        let ledger = ledger.lock().unwrap().clone();
        let mut counted = counted.lock().unwrap();
        let mut seen = HashSet::new();
        for image in disk.crash_images(&bounds).chain([disk.kill()]) {
            if counted.is_new(&mut seen, &image)
                && let Err(why) = recover(&image, manner, &ledger, &mut counted, 1)
            {
                let now = image.read_file(PATH).unwrap_or_default();
                *told.lock().unwrap() = Some(format!("{why}\n{:?}\nfile now {}", image.origin(), String::from_utf8_lossy(&now)));
                break;
            }
        }
    });
    recorder.run(script);
    if let Some(why) = trouble.lock().unwrap().take() {
        let ledger = recorder.ledger.lock().unwrap();
        panic!("power cut before op {index}: {why}\nmanner {manner:?}\nledger {ledger:#?}");
    }
    *states.lock().unwrap()
}

/// Opens what a crash left, appends one record, and checks the promises; and crashes again before each call of that.
fn recover(image: &SimDisk, manner: Manner, ledger: &[(String, Told)], states: &mut States, depth: usize) -> Result<(), String> {
    let before = image.read_file(PATH).unwrap_or_default();
    let disk = image.kill();
    let mut writer = manner.options(&disk).open(PATH).map_err(|error| format!("cannot open: {error} {error:?}"))?;
    let repair = writer.tail_repair().clone();
    let ops = disk.ops();
    quarantine::check(&disk, &before, &repair)?;
    writer.append_json(NEXT.as_bytes()).map_err(|error| format!("cannot append: {error:?}"))?;
    drop(writer);
    let after = disk.read_file(PATH).unwrap_or_default();
    let mut ledger = ledger.to_vec();
    ledger.push((NEXT.to_owned(), Told::There { durable: true }));
    manner.check(&after, &ledger, true)?;
    ledger.pop();
    if repair.is_clean() || depth == 0 {
        return Ok(());
    }
    // Something was repaired: crash in the middle of that too. What that leaves is opened a third time by the recursion, and is then clean.
    let few = Bounds { stride: 97, tears: vec![Tear::Cut, Tear::SizeBeforeData, Tear::Stale], ..Bounds::default() };
    let bounds = lane::pick(few, Bounds::every(1));
    for index in 0..ops {
        let mut seen = HashSet::new();
        for again in crashes::all_before(index, image, &bounds, |disk| drop(manner.options(disk).open(PATH))) {
            if states.is_new(&mut seen, &again) {
                recover(&again, manner, &ledger, states, depth - 1).map_err(|why| format!("crash before op {index} of recovery: {why}"))?;
                third_run_is_clean(&again, manner)?;
            }
        }
    }
    Ok(())
}

/// F35: whoever opens what a recovery left finds nothing to do.
fn third_run_is_clean(image: &SimDisk, manner: Manner) -> Result<(), String> {
    let disk = image.kill();
    let open = || manner.options(&disk).open(PATH).map(|writer| writer.tail_repair().clone());
    open().map_err(|error| format!("second run: {error}"))?;
    let third = open().map_err(|error| format!("third run: {error}"))?;
    if third.is_clean() || third.left_open_batch() { Ok(()) } else { Err(format!("third run: {third}")) }
}

fn cut_power_everywhere(what: &str, manners: impl IntoIterator<Item = Manner>) {
    let mut all = States::default();
    for manner in manners {
        let mut script = script(700);
        if !manner.syncs {
            // What is pending grows with each step, and the states with its square: in the long lane too a few steps are many.
            script.truncate(3);
        }
        let disk = SimDisk::new();
        disk.write_file("/j/other", "").unwrap();
        Recorder::new(&disk, manner).run(&script);
        let states = crashes::side_by_side(disk.ops(), |index| cut_power_before(index, manner, &script));
        all = [all, states].into_iter().sum();
        println!("power cuts, {manner}: {states}");
    }
    println!("power cuts, {what}: {all}");
}

/// F20, F22, F23, F26, F27, F28, F29, F30, F31, F32, F35, F45, P1 to P4: every state that a power cut can leave, at every call, and again while recovering.
#[test]
fn every_state_that_a_power_cut_can_leave_is_recovered_from() {
    cut_power_everywhere("sealed journals", Manner::ALL.into_iter().filter(|manner| manner.syncs));
}

/// The same where nothing is synced for long, so that the writes of many steps are pending, each of which may get onto the disk or not.
#[test]
fn every_state_of_a_journal_that_is_seldom_synced_is_recovered_from() {
    cut_power_everywhere("sealed journals seldom synced", Manner::ALL.into_iter().filter(|manner| !manner.syncs));
}

/// The same without numbers and CRCs: nothing proves a line but that it is JSON, and what was synced is there all the same.
#[test]
fn every_state_of_a_plain_journal_is_recovered_from() {
    cut_power_everywhere("plain journals", Manner::PLAIN);
}
