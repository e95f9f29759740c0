//! Every call that the library makes fails: each one alone, each one and all later ones, and each pair.

use untorn::sim::{Fault, How, OpKind, OpMatch, SimDisk};

use crate::script::{Manner, Recorder, Step, script, survive};

const EIO: i32 = 5;
const ERRNOS: [i32; 9] = [
    EIO, 4,   /* EINTR */
    24,  /* EMFILE */
    27,  /* EFBIG */
    28,  /* ENOSPC */
    30,  /* EROFS */
    37,  /* ENOLCK */
    122, /* EDQUOT */
    1,   /* EPERM */
];

/// The ways in which one op can fail.
fn ways(kind: OpKind, len: u64) -> Vec<How> {
    let mut ways: Vec<How> = ERRNOS.into_iter().map(How::Errno).collect();
    if matches!(kind, OpKind::Write | OpKind::ReadAt | OpKind::WriteAt) {
        let len = len.min(400) as usize;
        ways.extend([0, 1, len / 2, len.saturating_sub(1)].map(How::Short));
    }
    if kind == OpKind::Write {
        let len = len as usize;
        for bytes in [0, 1, len / 2, len.saturating_sub(2), len.saturating_sub(1), len] {
            ways.push(How::ErrorAfter { bytes, errno: EIO });
            ways.push(How::ErrorAfter { bytes, errno: 28 });
        }
    }
    if kind == OpKind::SyncData {
        ways.extend([How::SyncFailsAndDrops(EIO), How::SyncFailsAndDrops(28)]);
    }
    ways
}

/// F01, F02, F03, F04, F05, F06, F07, F09, F10, F11, F12, F14, F55, F56, F57, S2-01, S2-02, S2-03, S2-04, S2-14, X-08, X-16: any one call fails, once.
#[test]
fn any_call_may_fail_once() {
    let script = script(5000);
    let mut runs = 0;
    for manner in Manner::ALL.into_iter().chain(Manner::PLAIN) {
        for (index, op) in calls(manner, &script).iter().enumerate() {
            for how in ways(op.0, op.1) {
                survive(manner, &script, &[Fault { at: OpMatch::nth(index), how }]);
                runs += 1;
            }
        }
    }
    println!("faults once: {runs} runs");
    assert!(runs > 3000);
}

/// As above, and the disk stays as it is until somebody mends it.
#[test]
fn any_call_may_fail_from_some_time_on() {
    let script = script(700);
    let mut runs = 0;
    for manner in Manner::ALL.into_iter().chain(Manner::PLAIN) {
        for (index, op) in calls(manner, &script).iter().enumerate() {
            for errno in [EIO, 28, 30] {
                let all = OpMatch::nth(index).and_later();
                let kind = OpMatch::nth_of(op.0, op.2).and_later();
                for at in [all, kind] {
                    survive(manner, &script, &[Fault { at, how: How::Errno(errno) }]);
                    runs += 1;
                }
            }
        }
    }
    println!("faults that stay: {runs} runs");
    assert!(runs > 1000);
}

/// A write fails in any way, and then any other call: rollback, fence and repair fail too.
#[test]
fn any_two_calls_may_fail() {
    let script = vec![
        Step::Append("{\"n\":1}".to_owned()),
        Step::All(vec!["{\"n\":2}".to_owned(), "{\"n\":3}".to_owned()]),
        Step::Batch(vec!["{\"n\":4}".to_owned(), "{\"n\":5}".to_owned()]),
        Step::Append("{\"n\":6}".to_owned()),
    ];
    let mut runs = 0;
    for manner in Manner::ALL.into_iter().chain(Manner::PLAIN) {
        for (index, op) in calls(manner, &script).iter().enumerate() {
            for first in ways(op.0, op.1) {
                // The second fault counts the calls as they come after the first one.
                for second in index + 1..index + 14 {
                    for how in [How::Errno(EIO), How::Short(1), How::ErrorAfter { bytes: 1, errno: 28 }] {
                        let faults = [Fault { at: OpMatch::nth(index), how: first }, Fault { at: OpMatch::nth(second), how }];
                        survive(manner, &script, &faults);
                        runs += 1;
                    }
                }
            }
        }
    }
    println!("pairs of faults: {runs} runs");
    assert!(runs > 50_000);
}

/// The calls of a run without faults: kind, length, and how many of the kind came before.
fn calls(manner: Manner, script: &[Step]) -> Vec<(OpKind, u64, usize)> {
    let disk = SimDisk::new();
    disk.write_file("/j/other", "").unwrap();
    Recorder::new(&disk, manner).run(script);
    let log = disk.log();
    let before = |index: usize| log[..index].iter().filter(|op| op.kind == log[index].kind).count();
    log.iter().enumerate().map(|(index, op)| (op.kind, op.len.unwrap_or(0), before(index))).collect()
}
