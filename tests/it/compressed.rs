//! Compressed journals and segments: told by their bytes, read like plain ones, and never a reason to hide what can be read.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use untorn::{Code, ErrorKind, Reader, Record, RepairOptions, Report, Start, Verdict, VerifyOptions, Writer, internals, verify};

use crate::support::TestJournal;

/// Numbered sealed lines, so long that a few thousand fill several frames.
fn sealed(numbers: std::ops::RangeInclusive<u64>, padding: usize) -> Vec<u8> {
    let padding = "x".repeat(padding);
    numbers.flat_map(|n| internals::sealed(format!("{{\"n\":{n},\"x\":\"{padding}\"}}").as_bytes(), n, 0)).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As `zstd` does it: one frame, no seek table.
fn foreign(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// As an archived segment is compressed.
fn ours(bytes: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.zst");
    internals::compress(&path, bytes).unwrap();
    fs::read(path).unwrap()
}

type Value = serde_json::Value;

fn numbers_from(path: &Path, start: Start) -> Vec<u64> {
    let records = Reader::options().from(start).open(path).unwrap().records::<Value>();
    records.map(|record: untorn::Result<Record<Value>>| record.unwrap().mark.seq.unwrap()).collect()
}

fn numbers(path: &Path) -> Vec<u64> {
    numbers_from(path, Start::Beginning)
}

/// What can be read, and the damage that is told.
fn readable(path: &Path) -> (Vec<u64>, untorn::Damage) {
    let mut records = Reader::open(path).unwrap().records::<Value>();
    let numbers = records.by_ref().map(|record| record.unwrap().mark.seq.unwrap()).collect();
    (numbers, records.damage().clone())
}

fn segment(journal: &TestJournal, number: u64) -> PathBuf {
    journal.dir().join(format!("j.{number:06}.jsonl.zst"))
}

#[test]
fn a_compressed_file_is_read_like_a_plain_one_whatever_its_name() {
    let text = sealed(1..=50, 10);
    for bytes in [ours(&text), foreign(&text), gzip(&text), [foreign(&text[..1000]), foreign(&text[1000..])].concat()] {
        let journal = TestJournal::with_bytes(bytes);
        assert_eq!(numbers(&journal.path), (1..=50).collect::<Vec<_>>());
        assert_eq!(numbers_from(&journal.path, Start::Last(3)), [48, 49, 50]);
        assert_eq!(numbers_from(&journal.path, Start::Seq(40)), (40..=50).collect::<Vec<_>>());
        let report = verify(&journal.path).unwrap();
        assert!(report.is_clean());
        assert_eq!((report.bytes(), report.records(), report.last_seq()), (text.len() as u64, 50, Some(50)));
    }
}

/// DESIGN 4: a segment is frames of whole lines of up to 4 MiB, or of one longer line, and any zstd reads it.
#[test]
fn a_segment_of_many_frames_is_read_from_any_place() {
    let mut text = sealed(1..=3000, 2000);
    let long = internals::sealed(format!("{{\"x\":\"{}\"}}", "y".repeat(9 << 20)).as_bytes(), 3001, 0);
    text.extend_from_slice(&long);
    text.extend_from_slice(&sealed(3002..=6000, 2000));
    let bytes = ours(&text);
    assert!(bytes.len() < text.len() / 20, "it is compressed");
    assert_eq!(zstd::decode_all(&bytes[..]).unwrap(), text);
    let journal = TestJournal::with_bytes(&bytes);
    for seq in [1, 2, 1999, 3000, 3001, 3002, 5999, 6000] {
        let first = Reader::options().from(Start::Seq(seq)).open(&journal.path).unwrap().records::<Value>().next().unwrap().unwrap();
        assert_eq!(first.mark.seq, Some(seq));
        let last = Reader::options().from(Start::Last(6001 - seq)).open(&journal.path).unwrap().records::<Value>().next().unwrap().unwrap();
        assert_eq!(last.mark, first.mark);
    }
    let plain = TestJournal::with_bytes(&text);
    let said = |report: Report| (report.bytes(), report.lines(), report.sealed(), report.findings_total(), report.good().offset);
    assert_eq!(said(verify(&journal.path).unwrap()), said(verify(&plain.path).unwrap()));
}

/// A journal goes on over segments of either kind: reading, positions, resuming and the next number.
#[test]
fn compressed_segments_are_read_and_continued() {
    let journal = TestJournal::missing();
    for (number, range) in [(1, 1..=10), (2, 11..=20), (3, 21..=30)] {
        internals::compress(&segment(&journal, number), &sealed(range, 10)).unwrap();
    }
    assert_eq!(journal.open().append(&7).unwrap().seq(), Some(31));
    assert_eq!(numbers(&journal.path), (1..=31).collect::<Vec<_>>());
    assert_eq!(numbers_from(&journal.path, Start::Last(12)), (20..=31).collect::<Vec<_>>());
    for seq in 1..=31 {
        assert_eq!(numbers_from(&journal.path, Start::Seq(seq)), (seq..=31).collect::<Vec<_>>());
    }
    let marks: Vec<_> = Reader::open(&journal.path).unwrap().records::<Value>().map(|record| record.unwrap().mark).collect();
    for (at, mark) in marks.iter().enumerate() {
        assert_eq!(numbers_from(&journal.path, Start::After(*mark)).len(), 30 - at);
    }
    let report = verify(&journal.path).unwrap();
    assert_eq!((report.is_clean(), report.records(), report.findings_total()), (true, 31, 0));
    assert_eq!(untorn::resume(&journal.path).unwrap().writer.next_seq(), Some(32));
}

/// A crash inside `archive` may leave records twice, also if the segment was compressed.
#[test]
fn records_that_are_also_in_a_compressed_segment_are_read_once() {
    for compress in [ours, foreign] {
        let journal = TestJournal::with_bytes(sealed(1..=20, 10));
        fs::write(segment(&journal, 1), compress(&sealed(1..=12, 10))).unwrap();
        assert_eq!(numbers(&journal.path), (1..=20).collect::<Vec<_>>());
        assert_eq!(verify(&journal.path).unwrap().records(), 20);
    }
}

/// P5: whatever of a compressed file is gone, what is before it is read, and that something is gone is told.
#[test]
fn a_compressed_file_cut_at_any_byte_gives_what_is_before_the_cut_and_tells_the_rest() {
    let text = sealed(1..=40, 10);
    for whole in [ours(&text), foreign(&text), gzip(&text)] {
        let journal = TestJournal::with_bytes(&whole);
        let mut without_table = 0;
        for cut in (5..whole.len()).rev() {
            fs::write(&journal.path, &whole[..cut]).unwrap();
            let (numbers, damage) = readable(&journal.path);
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "cut at {cut}");
            let report = verify(&journal.path).unwrap();
            assert_eq!(report.records(), numbers.len() as u64);
            // Cut behind its last frame, a file of ours lacks nothing but the table.
            if numbers.len() == 40 && damage.is_empty() {
                without_table += 1;
                continue;
            }
            assert_eq!((damage.count(Code::Unreadable), report.count(Code::Unreadable)), (1, 1), "cut at {cut}: {damage}");
            assert!(!report.is_clean());
        }
        assert!(without_table <= 1);
    }
}

/// P5: a damaged frame hides no record of another one.
#[test]
fn a_damaged_frame_hides_no_other() {
    let text = sealed(1..=6000, 2000);
    let whole = ours(&text);
    let journal = TestJournal::missing();
    for at in (30..whole.len() - 100).step_by(whole.len() / 23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&journal.path, &damaged).unwrap();
        let (numbers, damage) = readable(&journal.path);
        assert_eq!(damage.count(Code::Unreadable), 1, "byte {at}: {damage}");
        let lost = 6000 - numbers.len();
        assert!((1..2200).contains(&lost), "byte {at}: {lost} records are lost");
        for threads in [1, 3] {
            let report = VerifyOptions::new().threads(threads).run(&journal.path, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
            assert_eq!((report.records(), report.count(Code::Unreadable)), (numbers.len() as u64, 1));
            let finding = report.findings().iter().find(|finding| finding.code == Code::Unreadable).unwrap();
            assert!(finding.message.starts_with("cannot be decompressed: the frame at byte "), "{}", finding.message);
        }
        let mut reader = Reader::open(&journal.path).unwrap();
        while let Some(mut line) = reader.next_line().unwrap() {
            if line.verdict() == Verdict::Corrupt(Code::Unreadable) {
                assert_eq!(line.bytes(), b"", "nothing is made up");
            }
        }
    }
}

/// The last frame of a segment is damaged: the journal behind it is still read and written.
#[test]
fn a_damaged_segment_hides_no_later_one() {
    let journal = TestJournal::with_bytes(sealed(11..=20, 10));
    let mut damaged = ours(&sealed(1..=10, 10));
    damaged[20] ^= 1;
    fs::write(segment(&journal, 1), damaged).unwrap();
    let (numbers, damage) = readable(&journal.path);
    assert_eq!((numbers, damage.count(Code::Unreadable)), ((11..=20).collect(), 1));
    assert_eq!(journal.open().append(&7).unwrap().seq(), Some(21));
}

#[test]
fn a_seek_table_that_lies_is_not_believed() {
    let text = sealed(1..=3000, 2000);
    let whole = ours(&text);
    let journal = TestJournal::missing();
    let table = whole.len() - 9 - 8 * 2;
    for at in table - 8..whole.len() {
        for bit in [0x01, 0x80] {
            let mut lying = whole.clone();
            lying[at] ^= bit;
            fs::write(&journal.path, &lying).unwrap();
            let (numbers, damage) = readable(&journal.path);
            assert_eq!(numbers.len(), 3000, "byte {at}");
            // What no longer is a skippable frame is damage behind the last record.
            assert!(damage.lines() <= 1, "byte {at}: {damage}");
        }
    }
    // A table that says there is nothing, one that claims all memory, and one that swaps sizes.
    let entry = |compressed: u32, content: u32| [compressed.to_le_bytes(), content.to_le_bytes()].concat();
    let frames = &whole[..table - 8];
    for (entries, count) in [(vec![], 0), (vec![entry(frames.len() as u32, u32::MAX)], 1), (vec![entry(1, 1); 3], 3), (vec![], u32::MAX)] {
        let body = entries.concat();
        let following = (body.len() as u32 + 9).to_le_bytes();
        let lying = [frames, b"\x5e\x2a\x4d\x18", &following, &body, &count.to_le_bytes(), b"\0\xb1\xea\x92\x8f"].concat();
        fs::write(&journal.path, lying).unwrap();
        assert_eq!(numbers(&journal.path).len(), 3000);
    }
}

#[test]
fn rubbish_behind_the_magic_is_damage() {
    for magic in [&b"\x28\xb5\x2f\xfd"[..], b"\x1f\x8b\x08\x00", b"\x50\x2a\x4d\x18", b"\x5e\x2a\x4d\x18\xff\xff\xff\xff"] {
        for rubbish in [&b""[..], b"{\"n\":1}\n", &[0xff; 100], &[0; 100], &[0x80; 30]] {
            let journal = TestJournal::with_bytes([magic, rubbish].concat());
            let (numbers, damage) = readable(&journal.path);
            assert_eq!((numbers.len(), damage.lines()), (0, 1), "{}{}: {damage}", magic.escape_ascii(), rubbish.escape_ascii());
            assert!(!verify(&journal.path).unwrap().is_clean());
        }
    }
}

/// A little file that holds very much takes memory by the line limit, not by what it holds.
#[test]
fn a_bomb_is_read_in_bounded_memory() {
    let zeros = 300 << 20;
    let bomb = |mut encoder: zstd::Encoder<'static, Vec<u8>>| {
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), zeros), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let mut sized = zstd::Encoder::new(Vec::new(), 1).unwrap();
    sized.set_pledged_src_size(Some(zeros)).unwrap();
    for bytes in [bomb(zstd::Encoder::new(Vec::new(), 1).unwrap()), bomb(sized)] {
        assert!(bytes.len() < 1 << 20);
        let journal = TestJournal::with_bytes(bytes);
        let report = VerifyOptions::new().line_bytes_max(1 << 20).run(&journal.path, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!((report.bytes(), report.count(Code::TornTail)), (zeros, 1));
    }
}

#[test]
fn nothing_is_ever_written_to_a_compressed_file() {
    for bytes in [ours(&sealed(1..=3, 10)), foreign(b"{}\n"), gzip(b"{}\n")] {
        let journal = TestJournal::with_bytes(&bytes);
        let opened = Writer::open(&journal.path).unwrap_err();
        assert_eq!(opened.kind(), ErrorKind::Compressed);
        assert!(opened.to_string().contains("decompress it first, as with `"), "{opened}");
        assert_eq!(RepairOptions::new().plan(&journal.path).unwrap_err().kind(), ErrorKind::Compressed);
        assert_eq!((journal.bytes(), journal.quarantine()), (bytes, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to a compressed file, reading ends, no record is made up, and verifying says the same as reading.
    #[test]
    fn any_change_to_a_compressed_file_is_survived(kind in 0..3_usize, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6)) {
        let text = sealed(1..=60, 30);
        let mut bytes = [ours, foreign, gzip][kind](&text);
        for (at, value, what) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match what {
                0 => bytes.truncate(at.max(4)),
                1 => bytes.insert(at, value),
                2 => drop(bytes.drain(at..(at + usize::from(value)).min(bytes.len()))),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
            }
        }
        let journal = TestJournal::with_bytes(&bytes);
        let mut records = Reader::open(&journal.path).unwrap().records::<Value>();
        let mut count = 0;
        for record in records.by_ref() {
            let record = record.unwrap();
            prop_assert!(record.mark.seq.is_none_or(|seq| record.value["n"] == seq && (1..=60).contains(&seq)));
            count += 1;
        }
        let report = verify(&journal.path).unwrap();
        prop_assert_eq!(report.records(), count);
        prop_assert_eq!(report.is_clean(), records.damage().is_empty());
    }
}
