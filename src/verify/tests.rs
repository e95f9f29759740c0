//! However a file is divided among threads, the report is the same.

use std::ops::ControlFlow;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{Finding, Report, VerifyOptions};
use crate::{
    Reader,
    format::{
        seal::{self, Opening},
        verdict::Code,
    },
};

const LINE_BYTES_MAX: u64 = 200;

/// Everything a report says, with the findings as they were told.
type Said = (Vec<Finding>, Vec<Finding>, [u64; 8], u64, bool);

fn said(path: &std::path::Path, threads: usize, chunk_bytes: u64) -> Said {
    let mut told = Vec::new();
    let mut options = VerifyOptions::new();
    options.threads(threads).chunk_bytes(chunk_bytes).line_bytes_max(LINE_BYTES_MAX);
    let report: Report = options
        .run(path, &mut |progress| {
            told.extend(progress.finding.cloned());
            ControlFlow::Continue(())
        })
        .expect("the file can be read");
    let counts = [
        report.bytes(),
        report.lines(),
        report.sealed(),
        report.plain(),
        report.blank(),
        report.damaged_bytes(),
        report.salvageable(),
        report.findings_total(),
    ];
    let clean = report.is_clean();
    (report.findings, told, counts, report.good.offset, clean)
}

/// A line or a piece of one: of every kind that there is, so that neighbours of all kinds meet.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let sealed = (1u64..12, 0u64..3).prop_map(|(seq, more)| {
        let payload = b"{\"k\":1}";
        let opening = Opening::of(payload);
        let mut line = Vec::new();
        seal::write(&mut line, payload, opening, opening.crc(payload), seq, more);
        line
    });
    let fixed = select(vec![
        &b"{\"k\":1}\n"[..],
        b"{\"k\":1}\n",
        b"{\"k\":2}\r\n",
        b"\"\\ud800\"\n",
        b"\n",
        b" \t\n",
        b"{\"k\":",
        b"{\"k\":\n",
        b"{\"k\":3}",
        b"\0\0\0",
        b"\xe6\x87\n",
        b"12",
        b"\xef\xbb\xbf",
    ]);
    prop_oneof![4 => sealed, 4 => fixed.prop_map(<[u8]>::to_vec), 1 => Just(vec![b'x'; 250])]
}

proptest! {
    #[test]
    fn threads_and_chunks_change_nothing(pieces in vec(piece(), 0..40), chunk_bytes in 11u64..400, threads in 2usize..5) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::fs::write(&path, pieces.concat()).unwrap();
        let whole = said(&path, 1, u64::MAX);
        prop_assert_eq!(&said(&path, 1, chunk_bytes), &whole);
        prop_assert_eq!(&said(&path, threads, chunk_bytes), &whole);
    }

    #[test]
    fn every_byte_is_in_a_record_or_accounted_for(pieces in vec(piece(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::fs::write(&path, pieces.concat()).unwrap();
        let (findings, told, [bytes, _, _, _, _, damaged, ..], good, clean) = said(&path, 1, u64::MAX);
        prop_assert!(damaged <= bytes);
        prop_assert!(good <= bytes);
        prop_assert_eq!(clean, !findings.iter().any(|finding| finding.severity() == crate::Severity::Error));
        prop_assert_eq!(findings.len(), told.len());
        let in_order = told.iter().filter(|finding| finding.code != Code::OpenBatch).map(|finding| finding.offset).is_sorted();
        prop_assert!(in_order, "findings are told in the order of the file");
    }

    #[test]
    fn what_is_counted_is_what_a_reader_gives(pieces in vec(piece(), 0..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::fs::write(&path, pieces.concat()).unwrap();
        let given = Reader::options().line_bytes_max(LINE_BYTES_MAX).open(&path).unwrap().records::<serde_json::Value>();
        let (.., [_, _, sealed, plain, ..], _, _) = said(&path, 1, u64::MAX);
        prop_assert_eq!(sealed + plain, given.count() as u64);
    }
}

/// A batch that is too long and whose numbers had been given before was reported in another order on a machine with more cores.
#[test]
fn an_open_batch_is_told_behind_its_lines_however_the_file_is_divided() {
    let payload = format!("{{\"k\":\"{}\"}}", "x".repeat(100));
    let opening = Opening::of(payload.as_bytes());
    let mut file = Vec::new();
    for (seq, more) in [(7, 0), (6, 1), (7, 0)] {
        seal::write(&mut file, payload.as_bytes(), opening, opening.crc(payload.as_bytes()), seq, more);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    std::fs::write(&path, file).unwrap();
    for (threads, chunk_bytes) in [(1, u64::MAX), (1, 50), (3, 50)] {
        let (_, told, ..) = said(&path, threads, chunk_bytes);
        let codes: Vec<Code> = told.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [Code::SeqRegression, Code::OpenBatch], "{threads} threads, chunks of {chunk_bytes} bytes");
    }
}

/// S2-13: a file that becomes shorter while it is verified is live, not damaged; what is gone is not counted.
#[test]
fn a_file_cut_meanwhile_is_live_and_not_damaged() {
    for cut_at in [24, 28] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        std::fs::write(&path, "{\"k\":1}\n[\"k\",2]\n".repeat(500)).unwrap();
        let report = VerifyOptions::new().threads(1).chunk_bytes(16).run(&path, &mut |progress| {
            if progress.bytes_done == 16 {
                std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut_at).unwrap();
            }
            ControlFlow::Continue(())
        });
        let report = report.unwrap();
        assert_eq!((report.is_clean(), report.is_live(), report.bytes()), (true, true, cut_at));
        assert_eq!(report.count(Code::InFlight), u64::from(cut_at == 28));
    }
}
