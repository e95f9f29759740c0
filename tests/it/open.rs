//! What opening does to the end of a file, and to nothing else.

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use untorn::{Code, ErrorKind, Rollback, Unterminated, Writer};

use crate::support::{TestJournal, sealed_payloads};

const FIRST: &str = "{\"type\":\"message\",\"text\":\"hi\",\"_seq\":42,\"_crc\":\"79097342\"}\n";

/// S2-06, C4: a torn fragment goes to quarantine, earlier records stay byte for byte.
#[test]
fn a_torn_fragment_is_moved_to_quarantine() {
    let journal = TestJournal::with_bytes(format!("{FIRST}{{\"type\":\"mess"));
    let mut writer = journal.open();
    let repair = writer.tail_repair().clone();
    assert_eq!((repair.removed_bytes(), repair.reason()), (13, Some(Code::TornTail)));
    assert_eq!(repair.removed().map(|range| (range.start.offset, range.end.offset)), Some((59, 72)));
    assert!(!repair.fenced() && !repair.terminated() && !repair.left_open_batch());
    assert_eq!(repair.quarantine(), Some(&*journal.dir().join("j.jsonl.quarantine")));
    assert_eq!(journal.text(), FIRST);
    let quarantine = journal.quarantine().expect("there is a quarantine");
    assert!(quarantine.contains(r#""offset":59,"len":13,"#), "{quarantine}");
    assert!(quarantine.contains(r#""text":"{\"type\":\"mess""#), "{quarantine}");
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(43));
}

/// S2-05, S2-24, C5, F34: a whole record that lacks its LF is kept and gets one.
#[test]
fn a_whole_record_without_lf_is_kept() {
    let journal = TestJournal::with_bytes(FIRST.trim_end());
    let mut writer = journal.open();
    assert!(writer.tail_repair().terminated());
    assert_eq!(journal.text(), FIRST);
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(43));
    assert_eq!(journal.quarantine(), None);
}

#[test]
fn a_whole_record_without_lf_can_be_taken_for_torn() {
    let journal = TestJournal::with_bytes(FIRST.trim_end());
    let writer = journal.open_with(|options| {
        options.unterminated(Unterminated::Quarantine);
    });
    assert_eq!(writer.tail_repair().removed_bytes(), 58);
    assert_eq!(journal.text(), "");
}

/// P3: a writer that never cuts leaves every byte of the tail where it is, wherever the file ends.
#[test]
fn opening_with_a_fence_cuts_nothing() {
    for cut in FIRST.len() + 1..2 * FIRST.len() {
        let torn = [FIRST, FIRST].concat().into_bytes()[..cut].to_vec();
        for nuls in [0, 3] {
            let found = [torn.clone(), vec![0; nuls]].concat();
            let journal = TestJournal::with_bytes(&found);
            let mut writer = journal.open_with(|options| {
                options.rollback(Rollback::Fence);
            });
            assert!(journal.bytes().starts_with(&found), "cut at byte {cut}, {nuls} NULs");
            let is_whole = cut == 2 * FIRST.len() - 1 && nuls == 0;
            assert_eq!((writer.tail_repair().terminated(), writer.tail_repair().fenced()), (is_whole, !is_whole), "cut at byte {cut}, {nuls} NULs");
            assert_eq!(journal.quarantine(), None);
            let seq = writer.append(&json!({"n": 1})).unwrap().seq().unwrap();
            let text = journal.bytes();
            assert!(
                text.split(|byte| *byte == b'\n').any(|line| line.starts_with(format!("{{\"n\":1,\"_seq\":{seq}").as_bytes())),
                "nothing is glued"
            );
        }
    }
}

/// C8: NULs behind a whole record go to quarantine, the record stays.
#[test]
fn nuls_behind_a_record_are_moved_away() {
    for record in [FIRST.trim_end(), "{\"plain\":true}"] {
        let mut bytes = record.as_bytes().to_vec();
        bytes.extend([0; 9000]);
        let journal = TestJournal::with_bytes(bytes);
        let writer = journal.open();
        assert_eq!((writer.tail_repair().removed_bytes(), writer.tail_repair().terminated()), (9000, true));
        assert_eq!(journal.text(), format!("{record}\n"));
        assert!(journal.quarantine().unwrap().contains(r#""nul":true"#));
    }
}

#[test]
fn white_space_behind_a_record_is_not_said_to_be_nuls() {
    let journal = TestJournal::with_bytes("{\"plain\":true} \t ");
    assert_eq!(journal.open().tail_repair().reason(), Some(Code::Blank));
    let journal = TestJournal::with_bytes("{\"plain\":true} \0 ");
    assert_eq!(journal.open().tail_repair().reason(), Some(Code::NulRun));
}

/// C7, C10, S2-19: nothing but NULs, and a single torn record, leave an empty journal and a full quarantine.
#[test]
fn a_file_of_damage_alone_becomes_empty_but_nothing_is_lost() {
    for (bytes, reason) in [(&[0u8; 700][..], Code::NulRun), (b"{\"torn", Code::TornTail), (b"tru", Code::TornTail), (b"12", Code::TornTail)] {
        let journal = TestJournal::with_bytes(bytes);
        let mut writer = journal.open();
        assert_eq!((writer.tail_repair().removed_bytes(), writer.tail_repair().reason()), (bytes.len() as u64, Some(reason)));
        assert_eq!(journal.bytes(), b"");
        assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(1));
    }
}

/// X-01: two whole records glued at the end are no torn tail: both stay.
#[test]
fn glued_records_at_the_end_stay() {
    let journal = TestJournal::with_bytes("{\"a\":1}\n{\"b\":2}{\"c\":3}");
    let mut writer = journal.open();
    assert!(writer.tail_repair().terminated());
    writer.append(&json!({"d": 4})).unwrap();
    assert_eq!(journal.text(), "{\"a\":1}\n{\"b\":2}{\"c\":3}\n{\"d\":4}\n");
}

/// C6, X-02: a corrupt last line that has its LF is left alone, and the next record is on a line of its own.
#[test]
fn a_terminated_fragment_is_left_alone() {
    for corrupt in ["{\"torn\n", "{\"torn\n\n \n", "\0\0\0\n"] {
        let before = format!("{FIRST}{corrupt}");
        let journal = TestJournal::with_bytes(&before);
        let mut writer = journal.open();
        assert!(writer.tail_repair().is_clean());
        let appended = writer.append(&json!({})).unwrap();
        assert_eq!(appended.seq(), Some(44), "the damaged line keeps its number");
        assert!(journal.text().starts_with(&before));
    }
}

/// C18: a byte order mark at offset 0 is no part of a line, and a file that holds nothing else is empty.
#[test]
fn a_byte_order_mark_alone_is_an_empty_journal() {
    let journal = TestJournal::with_bytes("\u{feff}");
    let mut writer = journal.open();
    assert!(writer.tail_repair().is_clean());
    writer.append(&json!({})).unwrap();
    assert!(journal.text().starts_with("\u{feff}{\"_seq\":1,"), "{}", journal.text());
}

/// X-06, X-07, F33: a cut at any byte, in the middle of a character too, keeps what came before and takes the next record.
#[test]
fn a_tail_cut_at_any_byte_keeps_every_earlier_record() {
    let whole = TestJournal::missing();
    let mut writer = whole.open();
    writer.append(&json!({"text": "first"})).unwrap();
    writer.append(&json!({"text": "dix été 🦀 ☃"})).unwrap();
    let bytes = whole.bytes();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in 0..=bytes.len() {
        let journal = TestJournal::with_bytes(&bytes[..cut]);
        let mut writer = journal.open();
        let whole = usize::from(cut >= first - 1) + usize::from(cut >= bytes.len() - 1);
        let appended = writer.append(&json!({"text": "next"})).unwrap();
        let found = sealed_payloads(&journal.text());
        assert_eq!((found.len(), appended.seq()), (whole + 1, Some(whole as u64 + 1)), "cut at byte {cut}");
        assert_eq!(journal.bytes().starts_with(&bytes[..first]), whole > 0, "cut at byte {cut}");
    }
}

/// X-14: what is no regular file is refused, untouched, and at once.
#[test]
fn only_regular_files_are_journals() {
    let journal = TestJournal::missing();
    let kind = |path: &std::path::Path| Writer::open(path).unwrap_err().kind();
    assert_eq!(kind(journal.dir()), ErrorKind::NotAFile);
    let fifo = journal.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(kind(&fifo), ErrorKind::NotAFile);
    assert_eq!(kind("/dev/null".as_ref()), ErrorKind::NotAFile);
    symlink("nowhere", journal.dir().join("dangling")).unwrap();
    assert_eq!(kind(&journal.dir().join("dangling")), ErrorKind::NotAFile);
    assert_eq!(kind(&journal.dir().join("missing/j.jsonl")), ErrorKind::Io);
}

/// X-14: a link to a journal is followed once, and what lies beside it lies beside its target.
#[test]
fn a_link_is_followed_to_its_target() {
    let journal = TestJournal::with_bytes("{\"torn");
    let link = journal.dir().join("link");
    symlink("j.jsonl", &link).unwrap();
    Writer::open(&link).unwrap().append(&json!({"via": "link"})).unwrap();
    assert!(journal.text().contains("via"));
    assert!(journal.quarantine().is_some());
    assert!(link.is_symlink());
}

#[test]
fn new_files_are_their_owners_alone() {
    let journal = TestJournal::missing();
    drop(journal.open());
    assert_eq!(journal.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&journal.path, PermissionsExt::from_mode(0o640)).unwrap();
    journal.append_as_stranger("{\"torn");
    drop(journal.open());
    let quarantine = journal.dir().join("j.jsonl.quarantine");
    assert_eq!(quarantine.metadata().unwrap().permissions().mode() & 0o777, 0o640, "the quarantine has the journal's mode");
}

/// S2-25: what counts is the last sealed line, whatever stands behind it.
#[test]
fn plain_and_blank_lines_behind_the_last_sealed_one_do_not_reset_the_number() {
    let journal = TestJournal::with_bytes(format!("{FIRST}{{\"by\":\"stranger\"}}\n\n"));
    assert_eq!(journal.open().append(&json!({})).unwrap().seq(), Some(43));
}

/// X-12: a file with lines of a newer format is refused before a byte of it is touched.
#[test]
fn a_newer_format_is_refused_untouched() {
    let open = r#"{"a":1,"_seq":44,"_key":"k""#;
    let newer = format!("{open},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(open.as_bytes()));
    for tail in ["", "{\"torn"] {
        let before = format!("{FIRST}{newer}{tail}");
        let journal = TestJournal::with_bytes(&before);
        assert_eq!(Writer::open(&journal.path).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(journal.text(), before);
        assert_eq!(journal.quarantine(), None);
    }
}

/// C30, C31: the header is written by whoever finds no record, under the lock, and by nobody else.
#[test]
fn the_first_record_is_written_once() {
    for bytes in ["", "{\"header"] {
        let journal = TestJournal::with_bytes(bytes);
        for _ in 0..3 {
            let _writer = journal.open_with(|options| {
                options.first_record(&json!({"header": 1}));
            });
        }
        assert_eq!(sealed_payloads(&journal.text()), [(1, json!({"header": 1}))]);
    }
}

/// F16, X-13: while a stranger has the file open for writing, a torn tail may be its live write: it is fenced, not cut.
#[test]
fn a_torn_tail_is_fenced_while_a_stranger_has_the_file_open() {
    let journal = TestJournal::with_bytes(format!("{FIRST}{{\"torn"));
    let stranger = std::fs::OpenOptions::new().append(true).open(&journal.path).unwrap();
    let mut writer = journal.open();
    assert!(writer.tail_repair().fenced());
    assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(44));
    assert!(journal.text().starts_with(&format!("{FIRST}{{\"torn\n{{\"_seq\":44,")));
    drop(stranger);
    // Our own writers are no strangers to each other.
    journal.append_as_stranger("{\"torn");
    let other = journal.open();
    assert_eq!(other.tail_repair().removed_bytes(), 6);
    drop(writer);
}

/// A batch whose end is missing is taken out as one; one with something behind it stays, and its numbers are not given again.
#[test]
fn half_a_batch_is_no_batch() {
    let whole = TestJournal::missing();
    let mut writer = whole.open();
    writer.append(&json!({"before": 1})).unwrap();
    let mut batch = untorn::Batch::new();
    for part in 0..3 {
        batch.add(&json!({"part": part})).unwrap();
    }
    writer.append_batch(&batch).unwrap();
    let text = whole.text();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for kept in 1..3 {
        let journal = TestJournal::with_bytes(lines[..=kept].concat());
        let mut writer = journal.open();
        assert_eq!(writer.tail_repair().reason(), Some(Code::OpenBatch));
        assert_eq!(journal.text(), lines[0]);
        assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(2));

        let before = lines[..=kept].concat() + "{\"by\":\"stranger\"}\n";
        let journal = TestJournal::with_bytes(&before);
        let mut writer = journal.open();
        assert!(writer.tail_repair().left_open_batch());
        assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(5));
        assert!(journal.text().starts_with(&before));
    }
}

/// A sealed line.
fn line(seq: u64, more: u64) -> String {
    let mut open = format!("{{\"n\":{seq},\"_seq\":{seq}");
    if more > 0 {
        open += &format!(",\"_more\":{more}");
    }
    format!("{open},\"_crc\":\"{:08x}\"}}\n", crc32fast::hash(open.as_bytes()))
}

/// What others wrote is never taken away with a batch whose end is missing, with its LF or without.
#[test]
fn what_stands_among_the_lines_of_an_open_batch_or_behind_them_keeps_it_there() {
    let (one, two) = (line(2, 2), line(3, 1));
    for left in [format!("{one}{{}}\n{two}"), format!("{one}{two}{{}}"), format!("{one}{two}{{\"a\":1}}{{\"b\":2}}")] {
        let before = format!("{}{left}", line(1, 0));
        let journal = TestJournal::with_bytes(&before);
        let repair = journal.open().tail_repair().clone();
        assert_eq!((repair.left_open_batch(), repair.removed_bytes()), (true, 0), "{left}");
        assert_eq!(journal.text(), format!("{}\n", before.trim_end()));
    }
}

/// Two batches whose ends are missing cost two openings, and the first told of a clean tail behind an open batch.
#[test]
fn one_opening_takes_every_open_batch_at_the_end() {
    let first = line(1, 0);
    let (one, two, three) = ([line(2, 2), line(3, 1)].concat(), line(5, 3), line(9, 1));
    for (behind, left, next) in [
        // All of them, with blank lines and a torn record too.
        (format!("{one}{two}"), "", 2),
        (format!("{one}\n{two}\r\n{three}{{\"torn"), "", 2),
        // A line of one that lacks its LF gets none before it is taken.
        (format!("{one}{}", two.trim_end()), "", 2),
        // What a stranger wrote is no part of one: the batch in front of it stays, and keeps its numbers.
        (format!("{one}{{}}\n{two}{three}"), "{one}{}\n", 5),
        // A damaged line may be the first of the batch behind it.
        (format!("{one}oops\n{two}{three}"), "{one}oops\n{two}", 9),
    ] {
        let left = left.replace("{one}", &one).replace("{two}", &two);
        let journal = TestJournal::with_bytes(format!("{first}{behind}"));
        let mut writer = journal.open();
        assert_eq!(writer.tail_repair().reason(), Some(Code::OpenBatch), "{behind}");
        assert_eq!((writer.tail_repair().left_open_batch(), writer.tail_repair().terminated()), (!left.is_empty(), false), "{behind}");
        assert_eq!(journal.text(), format!("{first}{left}"), "{behind}");
        assert_eq!(journal.open().tail_repair().removed_bytes(), 0, "a second opening has nothing to do: {behind}");
        assert_eq!(writer.append(&json!({})).unwrap().seq(), Some(next), "{behind}");
        drop(writer);
        let undone = untorn::undo_repair(&journal.path);
        assert!(undone.is_ok(), "{behind}: {undone:?}");
    }
}

/// As far back as a line may be long, and no further: a batch is no longer than that.
#[test]
fn an_open_batch_behind_which_no_more_than_a_line_fits_is_taken() {
    let (first, batch, max) = (line(1, 0), line(2, 1), 200);
    for blank in [max - 1, max, max + 1] {
        let before = format!("{first}{batch}{}", "\n".repeat(blank));
        let journal = TestJournal::with_bytes(&before);
        let writer = journal.open_with(|options| _ = options.line_bytes_max(max as u64));
        assert!(!writer.tail_repair().left_open_batch(), "{blank} blank lines");
        assert_eq!(journal.text(), if blank > max { before } else { first.clone() }, "{blank} blank lines");
    }
}

/// Its first lines were left without the others, and with them the numbers of those.
#[test]
fn an_open_batch_that_was_not_seen_whole_is_not_cut_into() {
    let first = line(1, 0);
    let (one, two) = ([line(2, 3), line(3, 2), line(4, 1)].concat(), [line(6, 3), line(7, 2), line(8, 1)].concat());
    // Its first line stands further up than a line may be long, in front of what a stranger wrote.
    let mixed = [line(2, 2), "{}\n".repeat(60), line(3, 1)].concat();
    for (before, max, left) in [(&mixed, 200, &mixed), (&[&*one, &*two].concat(), two.len() + line(4, 1).len(), &one)] {
        let journal = TestJournal::with_bytes(format!("{first}{before}"));
        let writer = journal.open_with(|options| _ = options.line_bytes_max(max as u64));
        assert!(writer.tail_repair().left_open_batch(), "{before}");
        assert_eq!(journal.text(), format!("{first}{left}"), "{before}");
    }
}

/// A batch that stays open because something stands behind it.
const OPEN_BATCH: &str = "{\"type\":\"tool_call\",\"id\":7,\"_seq\":43,\"_more\":1,\"_crc\":\"755ff12e\"}\n{\"by\":\"a stranger\"}\n";

/// Each opening of a journal in which an open batch was left added a blank line to it.
#[test]
fn an_open_batch_is_left_as_it_is_however_often_it_is_opened() {
    let journal = TestJournal::with_bytes(OPEN_BATCH);
    for _ in 0..3 {
        let repair = journal.open().tail_repair().clone();
        assert!(repair.left_open_batch());
        assert!(!repair.terminated());
        assert_eq!(journal.text(), OPEN_BATCH);
    }
}

/// Bytes that went to quarantine from behind an open batch were never told.
#[test]
fn what_is_taken_off_behind_an_open_batch_is_told() {
    let journal = TestJournal::with_bytes(format!("{OPEN_BATCH}{{\"by\":\"another\"}}\r "));
    let repair = journal.open().tail_repair().clone();
    assert!(repair.left_open_batch());
    assert!(repair.terminated());
    assert_eq!(repair.removed_bytes(), 2);
    assert_eq!(journal.text(), format!("{OPEN_BATCH}{{\"by\":\"another\"}}\n"));
}

#[test]
fn a_tail_repair_is_told_in_words() {
    let torn = format!("{FIRST}{{\"torn");
    let (fenced, terminated) = ("a torn tail was left where it is and ended with an LF", "the last record was whole and got its LF");
    let open_batch = "a batch without its end was left where it is";
    for (bytes, rollback, told) in [
        (FIRST, Rollback::Cut, "the tail is clean"),
        (&torn, Rollback::Cut, "6 bytes from byte 59 on moved to quarantine (torn-tail)"),
        (&torn, Rollback::Fence, fenced),
        (FIRST.trim_end(), Rollback::Cut, terminated),
        (OPEN_BATCH, Rollback::Cut, open_batch),
        (&format!("{OPEN_BATCH}{{}}\r "), Rollback::Cut, &format!("2 bytes from byte 88 on moved to quarantine (blank); {terminated}; {open_batch}")),
    ] {
        let journal = TestJournal::with_bytes(bytes);
        let writer = journal.open_with(|options| _ = options.rollback(rollback));
        assert_eq!(writer.tail_repair().to_string(), told, "{bytes}");
    }
}

/// Damage that is told of in the wrong segment, or at the wrong byte, is not found.
#[test]
fn damage_in_the_window_is_told_with_its_segment_and_offset() {
    let journal = TestJournal::missing();
    let mut writer = journal.open();
    writer.append(&json!({})).unwrap();
    writer.rotate().unwrap();
    drop(writer);
    journal.append_as_stranger("{}\noops\n");
    let writer = journal.open();
    let places = writer.tail_repair().damage().places();
    let told: Vec<_> = places.iter().map(|place| (place.position, place.len, place.code)).collect();
    assert_eq!(told, [(untorn::Position { segment: 2, offset: 3 }, 5, Code::NotJson)]);
}

/// What a stranger appended without seals turned a sealed journal into a plain one, as soon as there was more of it than is looked at.
#[test]
fn a_journal_has_the_form_of_its_first_record_however_much_stands_behind_it() {
    for (first, next) in [(FIRST, Some(43)), ("{\"n\":1}\n", None)] {
        let journal = TestJournal::with_bytes(format!("{first}{}", "{\"by\":\"a stranger\"}\n".repeat(100)));
        let mut writer = journal.open_with(|options| _ = options.window_bytes(100));
        assert_eq!(writer.append(&json!({})).unwrap().seq(), next, "{first}");
    }
}

/// That it must exist is about opening.
#[test]
fn a_journal_that_vanishes_is_gone_on_with_by_who_opened_only_an_existing_one() {
    let journal = TestJournal::with_bytes(FIRST);
    let mut writer = journal.open_with(|options| _ = options.existing_only());
    std::fs::remove_file(&journal.path).unwrap();
    writer.append(&json!({"n": 1})).unwrap();
    assert!(journal.text().starts_with("{\"n\":1,"));
}

/// The directory of a journal with a record is synced only for what an interrupted repair may have left.
#[cfg(feature = "sim")]
#[test]
fn a_directory_that_cannot_be_synced_keeps_nobody_from_a_journal_that_is_there() {
    use untorn::sim::{Fault, How, OpKind, OpMatch, SimDisk};
    let disk = SimDisk::new();
    disk.write_file("/j/a.jsonl", FIRST).unwrap();
    disk.fail(Fault { at: OpMatch::every(OpKind::SyncDir), how: How::Errno(5) });
    Writer::options().disk(&disk).open("/j/a.jsonl").unwrap().append(&json!({})).unwrap();
    disk.link("/j/a.jsonl", "/j/second").unwrap();
    assert_eq!(Writer::options().disk(&disk).open("/j/a.jsonl").unwrap_err().raw_os_error(), Some(5));
}
