//! A process that takes no lock writes between any two calls, while the disk fails or does not.

use std::sync::{Arc, Mutex};

use untorn::{
    Rollback,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use crate::{
    promises::{self, Told},
    script::{Manner, PATH, Recorder, Step, script},
};

const FIRST: &str = "{\"n\":0,\"_seq\":1,\"_crc\":\"cb0a404d\"}\n";
const WHOLE: &str = "{\"by\":\"a stranger\"}\n";
const FRAGMENT: &str = "{\"by\":\"a str";

/// What happened to one run.
struct Run {
    /// The stranger wrote right before the library cut the file: no system call can cut "only if nobody wrote".
    between_look_and_cut: bool,
    text: String,
}

/// Runs the script with faults while a stranger, who has the journal open all the time, appends right before op `index`.
fn run(manner: Manner, script: &[Step], faults: &[Fault], index: usize, words: &'static str) -> Run {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let stranger = Arc::new(disk.as_process(7, "stranger").open_raw(PATH).unwrap());
    let writing = stranger.clone();
    faults.iter().for_each(|fault| disk.fail(fault.clone()));
    let wrote_before = Arc::new(Mutex::new(None));
    let wrote = wrote_before.clone();
    disk.before(OpMatch::nth(index), move |disk| {
        writing.append(words).unwrap();
        *wrote.lock().unwrap() = disk.log().last().map(|op| op.kind);
    });
    let mut recorder = Recorder::new(&disk, manner);
    recorder.ledger.lock().unwrap().push(("{\"n\":0}".to_owned(), Told::There { durable: true }));
    recorder.run(script);
    disk.heal();
    let text = || String::from_utf8_lossy(&disk.read_file(PATH).unwrap()).into_owned();
    let say = |why: String| -> ! {
        let log: Vec<String> = disk.log().iter().map(ToString::to_string).collect();
        panic!("{why}\nmanner {manner:?}\nfaults {faults:?}\nstranger before op {index}\nfile {}\nlog {}", text(), log.join("\n"))
    };
    let (ledger, text_of) = (recorder.ledger.clone(), || disk.read_file(PATH).unwrap());
    let check = || promises::check(&without_repeats(&text_of()), &ledger.lock().unwrap(), false);
    check().unwrap_or_else(|why| say(why));
    let mut next = recorder.successor(&disk);
    next.step(&Step::Append("{\"after\":\"all\"}".to_owned()));
    let last = next.ledger.lock().unwrap().last().cloned();
    if !matches!(last, Some((_, Told::There { .. }))) {
        say(format!("the next record: {last:?}"));
    }
    check().unwrap_or_else(|why| say(why));
    let between_look_and_cut = *wrote_before.lock().unwrap() == Some(OpKind::Cut);
    let text = text();
    drop(stranger);
    if wrote_before.lock().unwrap().is_some() && !between_look_and_cut && !text.contains(words.trim_end()) {
        say("the stranger's bytes are gone".to_owned());
    }
    Run { between_look_and_cut, text }
}

/// The lines of a batch that landed on a stranger's fragment are written again, all of them, with the numbers and so the bytes that they had.
/// Only what comes last counts.
fn without_repeats(bytes: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let comes_again = |at: usize| lines[at].len() > 1 && lines[at + 1..].contains(&lines[at]);
    (0..lines.len()).filter(|at| !comes_again(*at)).flat_map(|at| lines[at].iter().copied()).collect()
}

fn ops(manner: Manner, script: &[Step]) -> Vec<(OpKind, u64)> {
    let disk = SimDisk::new();
    disk.write_file(PATH, FIRST).unwrap();
    let _stranger = disk.as_process(7, "stranger").open_raw(PATH).unwrap();
    Recorder::new(&disk, manner).run(script);
    disk.log().iter().map(|op| (op.kind, op.len.unwrap_or(0))).collect()
}

/// S2-10, S2-11, F15: what a stranger appends between any two calls stays, and so do our records.
#[test]
fn a_stranger_may_append_between_any_two_calls() {
    let script = script(700);
    let mut runs = 0;
    for manner in Manner::ALL {
        for index in 0..ops(manner, &script).len() {
            for words in [WHOLE, FRAGMENT] {
                run(manner, &script, &[], index, words);
                runs += 1;
            }
        }
    }
    println!("strangers: {runs} runs");
}

/// S2-10, S2-12, C13, F17, P3: a write that fails or is short takes back its own bytes and nobody else's, wherever a stranger writes.
#[test]
fn a_failed_append_never_takes_a_strangers_bytes() {
    let script = [Step::Append("{\"n\":1,\"text\":\"some words\"}".to_owned()), Step::All(vec!["{\"n\":2}".to_owned(), "{\"n\":3}".to_owned()])];
    let (mut runs, mut taken, mut untold) = (0, 0, 0);
    for manner in Manner::ALL {
        let ops = ops(manner, &script);
        let writes = ops.iter().enumerate().filter(|(_, op)| op.0 == OpKind::Write);
        for (nth, (write, (_, len))) in writes.enumerate() {
            for bytes in (0..=*len as usize).step_by(5).chain([*len as usize - 1, *len as usize]) {
                let first = |how| Fault { at: OpMatch::nth(write), how };
                let next = Fault { at: OpMatch::nth_of(OpKind::Write, nth + 1), how: How::Errno(28) };
                let (short, landed) = (first(How::Short(bytes)), first(How::ErrorAfter { bytes, errno: 28 }));
                for faults in [vec![short.clone()], vec![short, next], vec![landed]] {
                    for index in write..write + 8 {
                        for words in [WHOLE, FRAGMENT] {
                            let run = run(manner, &script, &faults, index, words);
                            runs += 1;
                            let lost = !run.text.contains(words.trim_end());
                            assert!(!lost || manner.rollback == Rollback::Cut, "a writer that never cuts took a stranger's bytes");
                            taken += usize::from(lost && run.between_look_and_cut);
                            untold += usize::from(lost && !run.between_look_and_cut);
                        }
                    }
                }
            }
        }
    }
    println!("strangers in failed appends: {runs} runs; {taken} times its bytes were cut in the one moment that nobody can close");
    // F16: the counterexample is real, which is why `Rollback::Fence` exists.
    assert!(taken > 0);
    assert_eq!(untold, 0);
}

/// the tail is looked at under the lock, right before it is cut: an append that ended in between is never erased.
#[test]
fn a_torn_tail_is_judged_under_the_lock() {
    let manner = Manner::ALL[0];
    let torn = "{\"n\":1,\"tex";
    let clean = {
        let disk = SimDisk::new();
        disk.write_file(PATH, torn).unwrap();
        drop(manner.options(&disk).open(PATH).unwrap());
        disk.log()
    };
    let locked = clean.iter().position(|op| op.kind == OpKind::TryLock).unwrap();
    for index in 0..=locked {
        let disk = SimDisk::new();
        disk.write_file(PATH, torn).unwrap();
        disk.before(OpMatch::nth(index), |disk| disk.append_raw(PATH, "t\":2}\n{\"n\":3}\n").unwrap());
        let writer = manner.options(&disk).open(PATH).unwrap();
        assert!(writer.tail_repair().is_clean(), "completed before op {index}");
        assert_eq!(disk.read_file(PATH).unwrap(), b"{\"n\":1,\"text\":2}\n{\"n\":3}\n");
    }
}
