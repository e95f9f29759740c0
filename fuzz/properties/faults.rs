//! Whatever a recorder does and whatever fails meanwhile, the file is what the ledger says.

use untorn::sim::{Fault, How, OpKind, OpMatch};

use super::{
    Choices,
    script::{Manner, Step, survive},
};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ERRNOS: [i32; 7] = [EIO, EINTR, 28 /* ENOSPC */, 30 /* EROFS */, 37 /* ENOLCK */, 122 /* EDQUOT */, 24 /* EMFILE */];
const FAILING: [OpKind; 9] = [
    OpKind::Write,
    OpKind::SyncData,
    OpKind::Cut,
    OpKind::ReadAt,
    OpKind::TryLock,
    OpKind::Position,
    OpKind::WriteAt,
    OpKind::OpenAppend,
    OpKind::SyncDir,
];

/// A script of appends, batches and restarts, up to six faults in the middle of it, and then a disk that is well again.
pub fn faults(bytes: &[u8]) {
    let mut choices = Choices(bytes.iter());
    let manner = choices.of(&Manner::ALL);
    let faults: Vec<Fault> = (0..choices.below(7)).map(|_| fault(&mut choices)).collect();
    let mut script = Vec::new();
    let mut records = 0;
    while choices.are_left() && script.len() < 16 {
        script.push(step(&mut choices, &mut records));
    }
    survive(manner, &script, &faults);
}

fn fault(choices: &mut Choices<'_>) -> Fault {
    let kind = choices.of(&FAILING);
    let at = if choices.below(2) == 0 { OpMatch::nth(choices.below(250)) } else { OpMatch::nth_of(kind, choices.below(12)) };
    let errno = choices.of(&ERRNOS);
    // A call that is interrupted for ever is tried for ever.
    let at = if choices.below(6) == 1 && errno != EINTR { at.and_later() } else { at };
    // Bytes that a failed sync drops may go with the cache at any time, which no ledger can say; `tests/crash/faults.rs` drops some.
    let how = match choices.below(3) {
        0 => How::Errno(errno),
        // A read that moves nothing would say that the file ends there.
        1 => How::Short(1 + choices.below(120)),
        // A call that moved bytes does not say that it was interrupted.
        _ => How::ErrorAfter { bytes: choices.below(200), errno: if errno == EINTR { EIO } else { errno } },
    };
    Fault { at, how }
}

fn step(choices: &mut Choices<'_>, records: &mut usize) -> Step {
    let what = choices.below(8);
    let count = 1 + choices.below(4);
    match what {
        0 => Step::Restart,
        1 | 2 => Step::Batch((0..count).map(|_| record(choices, records)).collect()),
        3 | 4 => Step::All((0..count).map(|_| record(choices, records)).collect()),
        _ => Step::Append(record(choices, records)),
    }
}

/// No two records are equal, so that the ledger can tell which one is there.
fn record(choices: &mut Choices<'_>, records: &mut usize) -> String {
    *records += 1;
    let n = *records;
    match choices.below(5) {
        0 => format!("[{n}]"),
        1 => format!("{{\"n\":{n},\"text\":\"{}\"}}", "☃".repeat(choices.below(256))),
        2 => format!("{{\"_value\":{n}}}"),
        _ => format!("{{\"n\":{n}}}"),
    }
}
