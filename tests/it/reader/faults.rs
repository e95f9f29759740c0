//! Whichever call fails, it is told once, behind the records before it.

use untorn::{
    ErrorKind, ReadOptions, Reader,
    sim::{Fault, How, OpKind, OpMatch, SimDisk},
};

use super::{N, four_segments};

const EIO: i32 = 5;
const EINTR: i32 = 4;

/// Forty records in four segments, on a disk of their own.
fn disk() -> SimDisk {
    let journal = four_segments();
    let disk = SimDisk::new();
    for entry in std::fs::read_dir(journal.dir()).unwrap() {
        let entry = entry.unwrap();
        disk.write_file(std::path::Path::new("/").join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
    }
    disk
}

fn options(disk: &SimDisk) -> ReadOptions {
    let mut options = Reader::options();
    options.disk(disk);
    options
}

fn calls() -> usize {
    let disk = disk();
    let before = disk.ops();
    assert_eq!(options(&disk).open("/j.jsonl").unwrap().records::<N>().count(), 40);
    disk.ops() - before
}

#[test]
fn a_failing_call_is_one_error_after_the_records_before_it() {
    for call in 0..calls() {
        let disk = disk();
        disk.fail(Fault { at: OpMatch::nth(disk.ops() + call), how: How::Errno(EIO) });
        let Ok(reader) = options(&disk).open("/j.jsonl").inspect_err(|error| assert_eq!(error.raw_os_error(), Some(EIO))) else { continue };
        let mut found: Vec<_> = reader.records::<N>().collect();
        let error = found.pop().unwrap().expect_err("the call failed");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Io, Some(EIO)), "call {call}");
        let given = found.len() as u64;
        assert!(found.into_iter().map(|record| record.unwrap().value.n).eq(1..=given), "call {call}");
    }
}

#[test]
fn reading_lines_goes_on_after_a_failing_call() {
    for call in 0..calls() {
        let disk = disk();
        let fault = Fault { at: OpMatch::nth(disk.ops() + call), how: How::Errno(EIO) };
        disk.fail(fault);
        let Ok(mut reader) = options(&disk).open("/j.jsonl") else { continue };
        let mut seqs = Vec::new();
        loop {
            match reader.next_line() {
                Ok(Some(line)) => seqs.extend(line.mark().seq),
                Ok(None) => break,
                Err(error) => assert_eq!(error.raw_os_error(), Some(EIO)),
            }
        }
        assert!(seqs.into_iter().eq(1..=40), "call {call}");
    }
}

#[test]
fn short_and_interrupted_reads_change_nothing() {
    for how in [How::Short(1), How::Errno(EINTR)] {
        for call in 0..calls() {
            let disk = disk();
            disk.fail(Fault { at: OpMatch::nth_of(OpKind::ReadAt, call), how });
            let found = options(&disk).open("/j.jsonl").unwrap().records::<N>().map(|record| record.unwrap().value.n);
            assert!(found.eq(1..=40), "{how:?} in read {call}");
        }
    }
}

/// Whenever the active file is rotated while the journal is opened, all that was there is read once and in order.
#[test]
fn a_rotation_while_the_journal_is_opened_loses_and_doubles_nothing() {
    for call in 0..calls() {
        let disk = disk();
        disk.before(OpMatch::nth(disk.ops() + call), |disk| {
            disk.rename("/j.jsonl", "/j.000004.jsonl").unwrap();
            disk.write_file("/j.jsonl", "").unwrap();
        });
        let found = options(&disk).open("/j.jsonl").unwrap().records::<N>().map(|record| record.unwrap().value.n);
        assert!(found.eq(1..=40), "rotated before call {call}");
    }
}
