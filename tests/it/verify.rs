//! Verifying: damage of every kind is found, with its code, its line and its byte, and nothing else is.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    ops::ControlFlow,
};

use untorn::{
    Batch, Code, ErrorKind, Finding, Format, Report, Severity, VerifyOptions, Writer,
    sim::{OpKind, OpMatch, SimDisk},
};

use crate::support::TestJournal;

fn verify(bytes: impl AsRef<[u8]>) -> Report {
    untorn::verify(&TestJournal::with_bytes(bytes).path).unwrap()
}

fn strictly(bytes: impl AsRef<[u8]>) -> Report {
    let journal = TestJournal::with_bytes(bytes);
    VerifyOptions::new().strict().run(&journal.path, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Code, line, column and byte of each finding.
fn places(report: &Report) -> Vec<(Code, u64, u64, u64)> {
    let place = |finding: &Finding| (finding.code, finding.line, finding.column, finding.offset);
    report.findings().iter().map(place).collect()
}

/// Sealed lines as a writer leaves them, one for each batch of records; a batch of one record is none.
fn sealed(batches: &[&[&str]]) -> Vec<Vec<u8>> {
    let journal = TestJournal::with_bytes("");
    let mut writer = Writer::options().format(Format::Sealed).open(&journal.path).unwrap();
    for records in batches {
        let mut batch = Batch::new();
        for record in *records {
            batch.add_json(record.as_bytes()).unwrap();
        }
        writer.append_batch(&batch).unwrap();
    }
    let bytes = fs::read(&journal.path).unwrap();
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Sealed lines numbered from 1.
fn sealed_lines(count: usize) -> Vec<Vec<u8>> {
    let records = (0..count).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>();
    let batches = records.iter().map(|record| vec![record.as_str()]).collect::<Vec<_>>();
    sealed(&batches.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn chosen(lines: &[Vec<u8>], numbers: &[usize]) -> Vec<u8> {
    numbers.iter().flat_map(|number| lines[number - 1].clone()).collect()
}

#[test]
fn a_healthy_journal_has_no_findings() {
    let report = verify(sealed_lines(100).concat());
    assert!(report.is_clean());
    assert_eq!((report.records(), report.sealed(), report.lines(), report.findings_total()), (100, 100, 100, 0));
    assert_eq!((report.first_seq(), report.last_seq(), report.damaged_bytes()), (Some(1), Some(100), 0));
    assert_eq!((report.good().offset, report.good().line), (report.bytes(), 100));
    assert!(!report.is_live());
}

/// C10: an empty file is an empty journal.
#[test]
fn an_empty_file_and_a_lone_byte_order_mark_are_clean() {
    let empty = verify("");
    assert!(empty.is_clean() && empty.is_complete());
    assert_eq!((empty.bytes(), empty.lines(), empty.findings_total()), (0, 0, 0));
    let bom = verify("\u{feff}");
    assert!(bom.is_clean());
    assert_eq!((places(&bom), bom.records()), (vec![(Code::Bom, 1, 1, 0)], 0));
}

/// C1: a torn record with the next one behind it, also where the record repeats what was torn (C2).
#[test]
fn a_spliced_line_is_pointed_at_where_the_whole_record_starts() {
    for torn in ["{\"type\":\"a\",\"text\":\"go ", "{\"type\":\"b\",\"te"] {
        let report = verify(format!("{{\"type\":\"a\"}}\n{torn}{{\"type\":\"b\",\"text\":\"on\"}}\n{{\"type\":\"c\"}}\n"));
        let at = 13 + torn.len() as u64;
        assert_eq!(places(&report), [(Code::Spliced, 2, torn.len() as u64 + 1, at)]);
        assert_eq!((report.damaged_bytes(), report.salvageable(), report.records()), (torn.len() as u64, 1, 2));
        assert_eq!((report.good().offset, report.good().line), (13, 1));
    }
}

/// C3: two records on one line lose nothing.
#[test]
fn glued_records_are_pointed_at_where_the_second_starts() {
    let report = verify("{\"a\":1}\n{\"a\":2}{\"a\":3}\n");
    assert_eq!(places(&report), [(Code::Glued, 2, 8, 15)]);
    assert_eq!((report.damaged_bytes(), report.salvageable()), (0, 2));
}

/// C4, X-07: wherever the last record is cut, the records before it are counted and the tail is told.
#[test]
fn a_tail_cut_at_any_byte_is_torn_or_lacks_only_its_lf() {
    let head = "{\"a\":\"ä\"}\n";
    let last = "{\"text\":\"grüße 🦀\",\"n\":[1,2]}";
    for cut in 1..=last.len() {
        let report = verify([head.as_bytes(), &last.as_bytes()[..cut]].concat());
        let whole = cut == last.len();
        let code = if whole { Code::Unterminated } else { Code::TornTail };
        assert_eq!(places(&report), [(code, 2, 1, 11)], "cut at byte {cut}");
        assert_eq!((report.is_clean(), report.records()), (whole, 1 + u64::from(whole)), "cut at byte {cut}");
        assert_eq!(report.damaged_bytes(), if whole { 0 } else { cut as u64 }, "cut at byte {cut}");
    }
}

/// C5: a whole record without LF is a warning, sealed or not; a bare number may be the beginning of another.
#[test]
fn a_whole_record_without_lf_is_told_as_such() {
    let mut bytes = sealed_lines(2).concat();
    bytes.pop();
    let report = verify(&bytes);
    assert_eq!((report.records(), report.last_seq(), report.count(Code::Unterminated)), (2, Some(2), 1));
    assert!(report.is_clean());
    assert!(!strictly(&bytes).is_clean());
    assert_eq!(places(&verify("12"))[0].0, Code::TornTail);
}

/// X-01: two whole records at the end without an LF are no torn tail.
#[test]
fn glued_records_at_the_end_are_no_torn_tail() {
    let report = verify("{\"a\":1}\n{\"a\":2}{\"a\":3}");
    assert_eq!(places(&report), [(Code::Glued, 2, 8, 15)]);
    assert_eq!((report.damaged_bytes(), report.salvageable()), (0, 2));
}

/// C6, S2-30, C31: a fragment that has its LF is corrupt, wherever it stands, also as the first line.
#[test]
fn a_fragment_with_its_lf_is_told_with_line_and_byte_range() {
    let report = verify("{\"header\":\n{\"a\":1}\n{\"a\":\"tor\n");
    assert_eq!(places(&report), [(Code::NotJson, 1, 11, 10), (Code::NotJson, 3, 10, 28)]);
    assert_eq!(report.findings().iter().map(|finding| finding.len).collect::<Vec<_>>(), [11, 10]);
    assert_eq!((report.records(), report.damaged_bytes(), report.good().offset), (1, 21, 0));
}

/// C7, C9: NULs as a line, and before a record.
#[test]
fn nul_runs_are_pointed_at_where_they_start() {
    let nuls = "\0".repeat(457);
    let report = verify(format!("{{\"a\":1}}\n{nuls}\n{nuls}{{\"a\":2}}\n{{\"a\":3}}{nuls}\n"));
    assert_eq!(places(&report), [(Code::NulRun, 2, 1, 8)]);
    let finding = &report.findings()[0];
    assert_eq!((finding.count, finding.len, finding.salvageable), (3, 458 + 457 + 457, 2));
    assert_eq!(finding.message, "457 NUL bytes, and 2 more lines");
    let report = verify(format!("{{\"a\":1}}\n\n{nuls}{{\"a\":2}}\n"));
    assert_eq!(report.findings()[1].message, "457 NUL bytes before a record");
}

/// C8: a whole record with NULs behind it is kept, with its LF or without.
#[test]
fn nuls_behind_a_record_at_the_end_cost_nothing_of_it() {
    let report = verify([b"{\"a\":1}\n{\"a\":2}".as_slice(), &[0; 9000]].concat());
    assert_eq!(places(&report), [(Code::Unterminated, 2, 1, 8), (Code::NulRun, 2, 8, 15)]);
    assert_eq!((report.records(), report.damaged_bytes()), (2, 9000));
    let report = verify([b"{\"a\":1}\n{\"a\":2}".as_slice(), &[0; 9000], b"\n"].concat());
    assert_eq!(places(&report), [(Code::NulRun, 2, 8, 15)]);
    assert_eq!((report.records(), report.damaged_bytes(), report.salvageable()), (1, 9000, 1));
}

/// C8, C10: NULs at the end, more than a line may be long, also as the whole file.
#[test]
fn a_file_that_ends_in_nuls_is_torn_there() {
    for head in ["", "{\"a\":1}\n"] {
        let report = verify([head.as_bytes(), &[0; 200_000]].concat());
        assert_eq!(places(&report)[0], (Code::TornTail, head.lines().count() as u64 + 1, 1, head.len() as u64));
        assert_eq!((report.damaged_bytes(), report.findings_total()), (200_000, 1));
    }
}

/// X-02: white space and NULs behind a torn record belong to the tear; with an LF the line is corrupt.
#[test]
fn filling_behind_a_torn_record_is_part_of_the_tear() {
    for filling in [" \t ", "\0\0\0", " \0 \r"] {
        let report = verify(format!("{{\"a\":1}}\n{{\"a\":{filling}"));
        assert_eq!(places(&report), [(Code::TornTail, 2, 1, 8)]);
        assert_eq!(report.damaged_bytes(), 5 + filling.len() as u64);
    }
    let report = verify("{\"a\":1}\n{\"a\":  \n \n");
    assert_eq!(places(&report)[0].0, Code::NotJson);
    assert!(!report.is_clean());
}

/// C11: a record split by another one is told, and the inner one can be kept only where that is proved.
#[test]
fn a_record_inside_another_is_salvaged_where_its_seal_proves_it() {
    let mut lines = sealed_lines(3);
    let inner = lines.remove(1);
    let inner = &inner[..inner.len() - 1];
    let report = verify([&lines[0][..], b"{\"big\":\"", inner, b"rest\"}\n", &lines[1]].concat());
    assert_eq!((places(&report)[0].0, report.salvageable(), report.records()), (Code::Spliced, 1, 2));
}

/// C14, S2-31: a byte that is no UTF-8 is pointed at, and the lines around it are good.
#[test]
fn invalid_utf8_is_pointed_at() {
    let report = verify(b"{\"a\":1}\n{\"a\":\"\xe6\x87\"}\n{\"a\":2}\n");
    assert_eq!(places(&report), [(Code::NotUtf8, 2, 7, 14)]);
    assert_eq!(report.records(), 2);
}

/// C15: half of a surrogate pair is legal JSON, and worth knowing.
#[test]
fn a_lone_surrogate_is_a_notice() {
    let report = verify("{\"a\":\"\\ud800\"}\n{\"a\":\"\\ud83e\\udd80\"}\n");
    assert_eq!((places(&report), report.records()), (vec![(Code::LoneSurrogate, 1, 1, 0)], 2));
    assert!(strictly("{\"a\":\"\\ud800\"}\n").is_clean());
    let sealed = sealed(&[&["{\"a\":\"\\ud800\"}"]]).concat();
    assert_eq!(strictly(sealed).count(Code::LoneSurrogate), 1);
}

/// C16, C25: only an LF ends a line, and any JSON value is a record.
#[test]
fn other_line_separators_and_scalars_are_fine() {
    let report = verify("{\"a\":\"\u{2028}\u{2029}\u{85}\"}\n[1]\n12\ntrue\n\"x\"\nnull\n");
    assert_eq!((report.findings_total(), report.records()), (0, 6));
}

/// C26: records stand in the order they were written in, whatever times they carry.
#[test]
fn timestamps_out_of_order_are_nobodys_business() {
    assert_eq!(verify("{\"at\":\"2026-02-01\"}\n{\"at\":\"2026-01-01\"}\n").findings_total(), 0);
}

/// C17: the pieces of a record with a raw LF in a string are told, never joined.
#[test]
fn a_raw_newline_in_a_string_leaves_two_corrupt_lines() {
    let report = verify("{\"a\":\"one\ntwo\"}\n{\"a\":1}\n");
    assert_eq!((places(&report), report.count(Code::NotJson)), (vec![(Code::NotJson, 1, 10, 9)], 2));
    assert_eq!((report.records(), report.damaged_bytes()), (1, 16));
}

/// C18, C19, C20: what is legal and odd is a notice, and offsets count every byte of it.
#[test]
fn bom_crlf_and_blank_lines_are_notices() {
    let report = verify("\u{feff}{\"a\":1}\r\n{\"a\":2}\r\n\n \t\n{\"a\":3}\n{\"a\":\n");
    let expected = [(Code::Bom, 1, 1, 0), (Code::Crlf, 1, 1, 0), (Code::Crlf, 2, 1, 12), (Code::Blank, 3, 1, 21), (Code::NotJson, 6, 6, 38)];
    assert_eq!(places(&report), expected);
    assert_eq!((report.blank(), report.count(Code::Crlf), report.records()), (2, 2, 3));
    let notices = report.findings().iter().filter(|finding| finding.severity() == Severity::Notice).count();
    assert_eq!(notices, 4);
}

/// C21: a line over the limit is passed over and told, and the lines behind it are good.
#[test]
fn a_line_over_the_limit_is_told() {
    let journal = TestJournal::with_bytes(format!("{{\"a\":1}}\n{{\"a\":\"{}\"}}\n{{\"a\":2}}\n", "x".repeat(300)));
    let report = VerifyOptions::new().line_bytes_max(200).run(&journal.path, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((places(&report), report.records(), report.damaged_bytes()), (vec![(Code::TooLong, 2, 1, 8)], 2, 309));
}

/// C23: a plain record equal to the one before it is a warning, and kept.
#[test]
fn equal_neighbours_are_told() {
    let report = verify("{\"a\":1}\n{\"a\":2}\n{\"a\":2}\n\n{\"a\":2}\n{\"a\":1}\n");
    assert_eq!(report.findings().iter().filter(|finding| finding.code == Code::Duplicate).map(|finding| finding.line).collect::<Vec<_>>(), [3, 5]);
    assert!(report.is_clean());
    assert_eq!(report.records(), 5);
}

/// C24, F31: numbers that are missing, repeated or falling are warnings on the line where they show.
#[test]
fn numbers_are_compared_along_the_journal() {
    let lines = sealed_lines(9);
    let code_and_line = |numbers: &[usize]| {
        let report = verify(chosen(&lines, numbers));
        assert!(report.is_clean(), "warnings are no damage");
        report.findings().iter().map(|finding| (finding.code, finding.line, finding.message.clone())).collect::<Vec<_>>()
    };
    let found = |code, line, message: &str| (code, line, message.to_owned());
    assert_eq!(code_and_line(&[1, 2, 4]), [found(Code::SeqGap, 3, "#3 is missing")]);
    assert_eq!(code_and_line(&[1, 5]), [found(Code::SeqGap, 2, "#2 to #4 are missing")]);
    assert_eq!(code_and_line(&[1, 2, 2, 3]), [found(Code::SeqDuplicate, 3, "#2 again, the same record")]);
    assert_eq!(code_and_line(&[1, 2, 3, 1, 4]), [found(Code::SeqRegression, 4, "#1 after #3")]);
    assert_eq!(code_and_line(&[4, 5, 6]), [], "segments may have been pruned");
}

/// F59: records swapped, or taken from another journal, show as their numbers only.
#[test]
fn swapped_and_foreign_records_show_by_their_numbers() {
    let lines = sealed_lines(9);
    let swapped = verify(chosen(&lines, &[1, 3, 2, 4, 5]));
    assert_eq!(places(&swapped).iter().map(|place| (place.0, place.1)).collect::<Vec<_>>(), [(Code::SeqGap, 2), (Code::SeqRegression, 3)]);
    let foreign = verify(chosen(&lines, &[1, 2, 8, 3, 4]));
    assert_eq!(places(&foreign).iter().map(|place| (place.0, place.1)).collect::<Vec<_>>(), [(Code::SeqGap, 3), (Code::SeqRegression, 4)]);
}

/// F30: what looks like a line and fails its seal is corrupt, and its number is missed.
#[test]
fn bytes_that_fail_their_seal_are_a_mismatch() {
    let mut lines = sealed_lines(3);
    lines[1][5] ^= 1;
    let report = verify(lines.concat());
    let start = lines[0].len() as u64;
    assert_eq!(places(&report), [(Code::CrcMismatch, 2, 1, start), (Code::SeqGap, 3, 1, start + lines[1].len() as u64)]);
    assert_eq!((report.damaged_bytes(), report.good().line), (lines[1].len() as u64, 1));
}

/// F58, F13: no flipped bit of a sealed record goes unseen, and none costs another record.
#[test]
fn every_flipped_bit_of_a_sealed_line_is_damage() {
    let lines = sealed_lines(3);
    let journal = TestJournal::with_bytes("");
    for at in 0..lines[1].len() - 1 {
        for bit in 0..8 {
            let mut lines = lines.clone();
            lines[1][at] ^= 1 << bit;
            fs::write(&journal.path, lines.concat()).unwrap();
            let report = untorn::verify(&journal.path).unwrap();
            assert!(!report.is_clean(), "bit {bit} of byte {at}");
            assert_eq!(report.records(), 2, "bit {bit} of byte {at}");
            assert_eq!(report.good().line, 1, "bit {bit} of byte {at}");
        }
    }
}

/// A batch stands or falls as one: without its end its records are not counted, and what it cannot hold is a gap in nothing else.
#[test]
fn a_batch_without_its_end_is_told_where_it_starts() {
    let lines = sealed(&[&["{\"n\":1}"], &["{\"n\":2}", "{\"n\":3}", "{\"n\":4}"], &["{\"n\":5}"]]);
    assert!(verify(lines.concat()).is_clean());
    assert_eq!(verify(lines.concat()).findings_total(), 0);
    let start = lines[0].len() as u64;
    for rest in [&[][..], &[5]] {
        let report = verify(chosen(&lines, &[&[1, 2, 3], rest].concat()));
        assert_eq!(places(&report), [(Code::OpenBatch, 2, 1, start)]);
        assert_eq!((report.records(), report.findings()[0].count), (1 + rest.len() as u64, 2));
        assert_eq!((report.damaged_bytes(), report.good().line), ((lines[1].len() + lines[2].len()) as u64, 1));
    }
    let mixed = [&chosen(&lines, &[1, 2])[..], b"{\"stranger\":1}\n\n", &chosen(&lines, &[3, 4, 5])].concat();
    let report = verify(mixed);
    assert_eq!((report.is_clean(), report.records(), report.count(Code::OpenBatch)), (true, 6, 0));
}

#[test]
fn plain_lines_among_sealed_ones_are_noticed() {
    let report = verify([&sealed_lines(1).concat()[..], b"{\"a\":1}\n{\"a\":2}\n"].concat());
    assert_eq!((places(&report).len(), report.count(Code::PlainInSealed), report.is_sealed()), (1, 2, true));
    assert_eq!((report.sealed(), report.plain()), (1, 2));
}

/// X-12: a line of a newer format is an error of its own, and nothing of it is said to be damaged.
#[test]
fn lines_of_a_newer_format_are_told() {
    let body = "{\"a\":1,\"_seq\":2,\"_new\":7";
    let line = format!("{body},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    let report = verify(&line);
    assert_eq!((places(&report), report.damaged_bytes()), (vec![(Code::NewerFormat, 1, 1, 0)], 0));
    assert!(!report.is_clean());
}

/// X-05: damage in the middle hides nothing behind it.
#[test]
fn good_records_behind_damage_are_counted() {
    let report = verify("{\"a\":1}\n{\"a\":\n\0\0\n{\"a\":2}{\"a\":3}\n{\"a\":4}\n");
    assert_eq!(places(&report).iter().map(|place| place.0).collect::<Vec<_>>(), [Code::NotJson, Code::NulRun, Code::Glued]);
    assert_eq!((report.records(), report.salvageable()), (2, 2));
}

#[test]
fn strict_parses_sealed_lines_too() {
    let body = "{\"a\":nope,\"_seq\":1";
    let line = format!("{body},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    assert!(verify(&line).is_clean());
    assert_eq!(places(&strictly(&line)), [(Code::NotJson, 1, 7, 6)]);
}

/// X-13: bytes that a writer has not finished are no damage while it is at work.
#[test]
fn an_unfinished_line_is_in_flight_while_a_writer_holds_the_lock() {
    let journal = TestJournal::with_bytes("");
    let mut writer = Writer::options().lock(untorn::Lock::Held, untorn::LockWait::Never).open(&journal.path).unwrap();
    writer.append(&serde_json::json!({"n": 1})).unwrap();
    let whole = fs::metadata(&journal.path).unwrap().len();
    OpenOptions::new().append(true).open(&journal.path).unwrap().write_all(b"{\"n\":").unwrap();
    let report = untorn::verify(&journal.path).unwrap();
    assert!(report.is_clean() && report.is_live());
    assert_eq!((places(&report), report.good().offset), (vec![(Code::InFlight, 2, 1, whole)], whole));
    drop(writer);
    let report = untorn::verify(&journal.path).unwrap();
    assert!(!report.is_live());
    assert_eq!(places(&report), [(Code::TornTail, 2, 1, whole)]);
}

/// X-13: a stranger at work is noticed by the growing file, and a file that nobody writes is not waited for.
#[test]
fn only_a_tail_that_somebody_may_be_writing_is_waited_for() {
    const PATH: &str = "/j/session.jsonl";
    let torn = || {
        let disk = SimDisk::new();
        disk.write_file(PATH, "{\"a\":1}\n{\"a\":").unwrap();
        disk
    };
    let verify = |disk: &SimDisk| VerifyOptions::new().disk(disk).run(PATH, &mut |_| ControlFlow::Continue(())).unwrap();
    let looks = |disk: &SimDisk| disk.log().iter().filter(|op| op.kind == OpKind::Size).count();

    let cold = torn();
    assert_eq!(places(&verify(&cold))[0].0, Code::TornTail);
    let watched = torn();
    let _silent = watched.as_process(7, "logger").open_raw(PATH).unwrap();
    assert_eq!(places(&verify(&watched))[0].0, Code::TornTail);
    assert!(looks(&watched) > looks(&cold), "its size is watched");

    let growing = torn();
    let logger = growing.as_process(7, "logger").open_raw(PATH).unwrap();
    growing.before(OpMatch::nth_of(OpKind::Size, looks(&cold)), move |_| logger.append("1").unwrap());
    let report = verify(&growing);
    assert!(report.is_clean() && report.is_live());
    assert_eq!(places(&report)[0].0, Code::InFlight);
}

#[test]
fn findings_beyond_the_limit_are_counted_and_told() {
    let lines = (0..50).map(|n| format!("{{\"a\":{n}}}\n{{\n"));
    let journal = TestJournal::with_bytes(lines.collect::<String>());
    let mut told = 0;
    let report = VerifyOptions::new().findings_max(3).run(&journal.path, &mut |progress| {
        told += usize::from(progress.finding.is_some());
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!((report.findings().len(), report.findings_total(), report.count(Code::NotJson), told), (3, 50, 50, 50));
}

#[test]
fn breaking_off_gives_what_was_found_so_far() {
    let journal = TestJournal::with_bytes("{\"a\":1}\n{\n{\"a\":2}\n\n{\"a\":3}\n");
    let report = VerifyOptions::new().run(&journal.path, &mut |progress| match progress.finding {
        Some(_) => ControlFlow::Break(()),
        None => ControlFlow::Continue(()),
    });
    let report = report.unwrap();
    assert_eq!((report.is_complete(), report.is_clean(), report.findings_total()), (false, false, 1));
}

/// X-14: only what cannot be read is an error, and a FIFO is not waited for.
#[test]
fn what_is_no_file_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [dir.path(), &fifo, "/dev/null".as_ref()] {
        assert_eq!(untorn::verify(path).unwrap_err().kind(), ErrorKind::NotAFile, "{}", path.display());
    }
    let missing = untorn::verify(dir.path().join("none.jsonl")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

/// X-04: a file that may only be read is verified like any other, and verifying changes nothing of it.
#[test]
fn verifying_writes_nothing() {
    let journal = TestJournal::with_bytes("{\"a\":1}\n{\"a\":");
    let before = fs::metadata(&journal.path).unwrap();
    let mut permissions = before.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&journal.path, permissions).unwrap();
    untorn::verify(&journal.path).unwrap();
    let after = fs::metadata(&journal.path).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
    assert_eq!(fs::read_dir(journal.path.parent().unwrap()).unwrap().count(), 1);
}

/// A path names the whole journal: numbers go on from segment to segment, and findings say which one they are in.
#[test]
fn segments_are_verified_as_one_journal() {
    let lines = sealed_lines(9);
    let journal = TestJournal::with_bytes(chosen(&lines, &[7, 8, 9]));
    let archived = |number: u64| journal.path.with_file_name(format!("j.{number:06}.jsonl"));
    fs::write(archived(1), chosen(&lines, &[1, 2, 3])).unwrap();
    fs::write(archived(2), [&chosen(&lines, &[4, 5])[..], b"{\"torn\n", &lines[5]].concat()).unwrap();
    let report = untorn::verify(&journal.path).unwrap();
    assert_eq!((report.records(), report.first_seq(), report.last_seq(), report.lines()), (9, Some(1), Some(9), 10));
    let [finding] = report.findings() else { panic!("{:?}", report.findings()) };
    assert_eq!((finding.code, finding.segment, finding.line, &*finding.path), (Code::NotJson, 2, 3, &*archived(2)));
    assert_eq!((report.good().segment, report.good().line, &*report.good().path), (2, 2, &*archived(2)));

    fs::write(archived(2), chosen(&lines, &[4, 5])).unwrap();
    let report = untorn::verify(&journal.path).unwrap();
    assert_eq!(report.findings().iter().map(|finding| (finding.code, finding.segment)).collect::<Vec<_>>(), [(Code::SeqGap, 3)]);

    let mut options = VerifyOptions::new();
    let active = options.active_only().run(&journal.path, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((active.records(), active.findings_total(), active.first_seq()), (3, 0, Some(7)));
}

/// S3-07: what a crash inside `archive` left in two segments is one record, and nothing is said about it.
#[test]
fn records_in_two_segments_count_once() {
    let lines = sealed_lines(6);
    let journal = TestJournal::with_bytes([&chosen(&lines, &[3, 4, 5, 6])[..], b"{\n"].concat());
    fs::write(journal.path.with_file_name("j.000001.jsonl"), chosen(&lines, &[1, 2, 3, 4])).unwrap();
    let report = untorn::verify(&journal.path).unwrap();
    assert_eq!((report.records(), report.last_seq()), (6, Some(6)));
    assert_eq!(report.findings().iter().map(|finding| (finding.code, finding.line)).collect::<Vec<_>>(), [(Code::NotJson, 5)]);
}

#[test]
fn progress_reaches_the_whole_journal() {
    let journal = TestJournal::with_bytes("{\"a\":1}\n".repeat(3));
    fs::write(journal.path.with_file_name("j.000001.jsonl"), "{\"a\":2}\n".repeat(2)).unwrap();
    let mut last = (0, 0);
    let report = VerifyOptions::new().run(&journal.path, &mut |progress| {
        assert!(progress.bytes_done >= last.0, "progress goes forwards");
        last = (progress.bytes_done, progress.bytes_total);
        ControlFlow::Continue(())
    });
    assert_eq!((last, report.unwrap().bytes()), ((40, 40), 40));
}

/// S2-15: a failure of the system says on which file and at which byte, whichever read it was.
#[test]
fn a_read_that_fails_is_told_with_its_file_and_its_byte() {
    use untorn::sim::{Fault, How, OpKind, OpMatch, Outcome, SimDisk};

    let file = [
        b"{\"n\":1}\n".repeat(20_000),
        b"{\"n\":1}{\"n\":2}\n{\"n\":3,\"te{\"n\":4}\n".to_vec(),
        b"{\"n\":1}\n".repeat(20_000),
        b"{\"n\":5".to_vec(),
    ];
    let file = file.concat();
    let mut told = 0;
    for nth in 0.. {
        let disk = SimDisk::new();
        disk.write_file("/s.jsonl", file.clone()).unwrap();
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::ReadAt, nth), how: How::Errno(5) });
        let verified = VerifyOptions::new().disk(&disk).threads(1).run("/s.jsonl", &mut |_| ControlFlow::Continue(()));
        let Some(failed) = disk.log().into_iter().find(|op| op.outcome == Outcome::Failed(5)) else { break };
        let error = verified.unwrap_err();
        assert_eq!((error.raw_os_error(), error.path()), (Some(5), Some(std::path::Path::new("/s.jsonl"))));
        if error.to_string().starts_with("cannot read") {
            told += 1;
            assert_eq!(error.offset(), failed.offset, "read {nth}");
        }
    }
    assert!(told > 8, "{told} reads");
}
