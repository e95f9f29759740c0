//! Journals of the released format, byte for byte: what they hold, and that the same records give the same bytes again.
//!
//! See `tests/fixtures/v1/README.md`. The CRCs are computed here once more, bit by bit, and by zlib where Python is at hand.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that fails should say where"
)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::Engine as _;
use serde_json::Value;
use tempfile::TempDir;
use untorn::{Batch, Consumer, Delivery, Durability, Format, Position, Reader, Restored, Snapshot, Verdict, Writer, checkpoints, inspect_snapshot};

/// One journal, and how many records were appended at a time.
struct Golden {
    name: &'static str,
    format: Format,
    batches: &'static [usize],
}

const JOURNALS: [Golden; 5] = [
    Golden { name: "sealed", format: Format::Sealed, batches: &[1; 8] },
    Golden { name: "plain", format: Format::Plain, batches: &[1; 7] },
    Golden { name: "batch", format: Format::Sealed, batches: &[1, 3, 1, 1] },
    Golden { name: "wrapped", format: Format::Sealed, batches: &[1; 10] },
    Golden { name: "empty-object", format: Format::Sealed, batches: &[1, 1, 1, 2] },
];

/// Journals that were repaired: what the crash left is beside them.
const REPAIRED: [&str; 2] = ["torn", "unterminated"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(name: &str) -> String {
    String::from_utf8(bytes(name)).expect("it is UTF-8")
}

/// The payloads of a journal's records, and their numbers.
fn read(path: &Path) -> (Vec<String>, Vec<Option<u64>>) {
    let mut reader = Reader::open(path).unwrap();
    let (mut payloads, mut numbers) = (Vec::new(), Vec::new());
    while let Some(mut line) = reader.next_line().unwrap() {
        if line.verdict() != Verdict::Blank {
            payloads.push(String::from_utf8(line.payload().expect("every line is a record").to_vec()).unwrap());
            numbers.push(line.mark().seq);
        }
    }
    assert!(reader.damage().is_empty(), "{}", reader.damage());
    (payloads, numbers)
}

#[test]
fn golden_journals_give_back_their_payloads() {
    for Golden { name, format, .. } in JOURNALS {
        let (payloads, numbers) = read(&path(&format!("{name}.jsonl")));
        assert_eq!(payloads, text(&format!("{name}.payloads")).lines().collect::<Vec<_>>(), "{name}");
        let sealed: Vec<_> = (1..=payloads.len() as u64).map(|seq| (format == Format::Sealed).then_some(seq)).collect();
        assert_eq!(numbers, sealed, "{name}");
    }
    let (payloads, numbers) = read(&path("bom-crlf.jsonl"));
    assert_eq!(payloads, text("bom-crlf.payloads").lines().collect::<Vec<_>>());
    assert_eq!(numbers, [Some(1), None, Some(2)]);
}

#[test]
fn the_same_payloads_give_the_same_bytes() {
    for Golden { name, format, batches } in JOURNALS {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j.jsonl");
        let mut writer = Writer::options().format(format).durability(Durability::Os).open(&journal).unwrap();
        let payloads = text(&format!("{name}.payloads"));
        let mut payloads = payloads.lines();
        for records in batches {
            let mut batch = Batch::new();
            for payload in payloads.by_ref().take(*records) {
                batch.add_json(payload.as_bytes()).unwrap();
            }
            assert_eq!(batch.len(), *records, "{name}");
            match format {
                Format::Plain => writer.append_all(&batch).1.unwrap(),
                _ => drop(writer.append_batch(&batch).unwrap()),
            }
        }
        assert_eq!(payloads.next(), None, "{name}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), text(&format!("{name}.jsonl")), "{name}");
    }
}

#[test]
fn golden_journals_are_taken_up_as_they_are() {
    for name in JOURNALS.iter().map(|golden| golden.name).chain(["bom-crlf"]).chain(REPAIRED) {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j.jsonl");
        let before = bytes(&format!("{name}.jsonl"));
        fs::write(&journal, &before).unwrap();
        let last = read(&journal).1.into_iter().flatten().last();
        let mut writer = Writer::open(&journal).unwrap();
        assert!(writer.tail_repair().is_clean(), "{name}: {}", writer.tail_repair());
        let appended = writer.append(&Value::Null).unwrap();
        assert_eq!(appended.seq(), last.map(|last| last + 1), "{name}");
        assert!(fs::read(&journal).unwrap().starts_with(&before), "{name}");
    }
}

/// The seals of all golden lines: the bytes that each covers, and what it says of them.
fn seals() -> Vec<(Vec<u8>, String)> {
    let names = JOURNALS.iter().map(|golden| golden.name).chain(["bom-crlf"]).chain(REPAIRED);
    let all: String = names.map(|name| text(&format!("{name}.jsonl"))).collect();
    let lines = all.lines().map(|line| line.trim_start_matches('\u{feff}').trim_end());
    let seals = lines.filter_map(|line| line.rsplit_once(",\"_crc\":\""));
    seals.map(|(covered, crc)| (covered.as_bytes().to_vec(), crc.trim_end_matches("\"}").to_owned())).collect()
}

/// CRC-32 as IEEE 802.3 has it, one bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let one_bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| one_bit(crc)))
}

#[test]
fn every_seal_is_the_crc_of_ieee_802_3() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let seals = seals();
    assert!(seals.len() > 30, "only {} sealed lines", seals.len());
    for (covered, crc) in seals {
        assert_eq!(format!("{:08x}", crc32(&covered)), crc, "{}", String::from_utf8_lossy(&covered));
    }
}

#[test]
fn every_seal_is_the_crc_that_zlib_gives() {
    const PROGRAM: &str = "import sys, zlib\nfor line in sys.stdin: print('%08x' % zlib.crc32(bytes.fromhex(line)))";
    let python = Command::new("python3").args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = python else { return println!("skipped: every_seal_is_the_crc_that_zlib_gives: no python3") };
    let seals = seals();
    let mut input = python.stdin.take().unwrap();
    for (covered, _) in &seals {
        let hex: String = covered.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(input, "{hex}").unwrap();
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    let given = String::from_utf8(output.stdout).unwrap();
    assert_eq!(given.lines().collect::<Vec<_>>(), seals.iter().map(|(_, crc)| crc).collect::<Vec<_>>());
}

/// Takes out the LFs that a repair added, and puts the bytes that it removed back where they were.
fn undo(after: &[u8], quarantine: &str) -> Vec<u8> {
    let lines = quarantine.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut edits: Vec<Value> = lines.filter(|line| line["offset"].is_u64()).collect();
    edits.sort_by_key(|edit| (edit["offset"].as_u64(), edit["added"].is_null()));
    let mut after = after.iter();
    let mut before = Vec::new();
    for edit in edits {
        before.extend(after.by_ref().take(edit["offset"].as_u64().unwrap() as usize - before.len()));
        if edit["added"] == "\n" {
            assert_eq!(after.next(), Some(&b'\n'));
            continue;
        }
        let len = edit["len"].as_u64().unwrap() as usize;
        let removed = match (&edit["text"], &edit["base64"], &edit["nul"]) {
            (Value::String(text), Value::Null, Value::Null) => text.clone().into_bytes(),
            (Value::Null, Value::String(base64), Value::Null) => base64::prelude::BASE64_STANDARD.decode(base64).unwrap(),
            (Value::Null, Value::Null, Value::Bool(true)) => vec![0; len],
            _ => panic!("{edit} does not have its bytes in one form"),
        };
        assert_eq!((removed.len(), format!("{:08x}", crc32(&removed)).as_str()), (len, edit["crc"].as_str().unwrap()));
        before.extend(removed);
    }
    before.extend(after);
    before
}

/// P4: nothing is lost by a repair.
#[test]
fn a_repaired_journal_and_its_quarantine_give_the_torn_one_back() {
    for name in REPAIRED {
        let rebuilt = undo(&bytes(&format!("{name}.jsonl")), &text(&format!("{name}.jsonl.quarantine")));
        assert_eq!(rebuilt, bytes(&format!("{name}.before")), "{name}");
    }
}

/// The library itself takes the repair back too.
#[test]
fn a_golden_repair_can_be_undone() {
    for name in REPAIRED {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j.jsonl");
        fs::write(&journal, bytes(&format!("{name}.jsonl"))).unwrap();
        fs::write(dir.path().join("j.jsonl.quarantine"), bytes(&format!("{name}.jsonl.quarantine"))).unwrap();
        untorn::undo_repair(&journal).unwrap();
        assert_eq!(fs::read(&journal).unwrap(), bytes(&format!("{name}.before")), "{name}");
    }
}

#[test]
fn the_same_crash_is_repaired_in_the_same_way() {
    for name in REPAIRED {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("j.jsonl");
        fs::write(&journal, bytes(&format!("{name}.before"))).unwrap();
        drop(Writer::open(&journal).unwrap());
        assert_eq!(fs::read(&journal).unwrap(), bytes(&format!("{name}.jsonl")), "{name}");
        let without_times = |quarantine: &str| -> Vec<Value> {
            let lines = quarantine.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let timeless = lines.map(|mut line| {
                let members = line.as_object_mut().unwrap();
                assert!(members.remove("repair").is_some());
                members.remove("at");
                line
            });
            timeless.collect()
        };
        let kept = fs::read_to_string(dir.path().join("j.jsonl.quarantine")).unwrap();
        assert_eq!(without_times(&kept), without_times(&text(&format!("{name}.jsonl.quarantine"))), "{name}");
    }
}

/// The state in the golden snapshot.
fn state(turns: u64, open: &[&str]) -> Value {
    serde_json::json!({"turns": turns, "open": open})
}

/// A directory with the golden journal, what was saved of it, and one of the saved files spoiled, if any is.
fn saved(spoiled: Option<&str>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("checkpoints/indexer")).unwrap();
    let names = ["state.snapshot", "checkpoints/indexer/checkpoint.jsonl"];
    for name in names.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.previous")]).chain(["sealed.jsonl".to_owned()]) {
        let mut bytes = bytes(&name);
        if spoiled == Some(&*name) {
            bytes[20] ^= 1;
        }
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn a_golden_snapshot_gives_its_state_and_says_what_it_covers() {
    let dir = saved(None);
    let path = dir.path().join("state.snapshot");
    let info = inspect_snapshot(&path).unwrap();
    assert_eq!((info.generation, &*info.saved_at, info.bytes), (3, "2026-11-21T04:02:44Z", 25));
    assert_eq!(info.journal, Path::new("/var/log/50%/sealed.jsonl"));
    let line = text("sealed.jsonl").lines().take(3).map(|line| line.len() as u64 + 1).sum();
    assert_eq!((info.through.seq, info.through.start), (Some(4), Position { segment: 1, offset: line }));

    let mut snapshot = Snapshot::<Value>::open(&path, dir.path().join("sealed.jsonl")).unwrap();
    let restored = snapshot.restore().unwrap().unwrap();
    assert_eq!((restored.state, restored.through, restored.is_proved), (state(4, &["é"]), info.through, true));
    assert!(restored.fell_back.is_none());
    // What is saved next has the next number, and keeps this one.
    snapshot.save(&state(5, &[]), info.through).unwrap();
    assert_eq!(inspect_snapshot(&path).unwrap().generation, 4);
    assert_eq!(fs::read(path.with_extension("snapshot.previous")).unwrap(), bytes("state.snapshot"));

    let dir = saved(Some("state.snapshot"));
    let restored = Snapshot::<Value>::open(dir.path().join("state.snapshot"), dir.path().join("sealed.jsonl")).unwrap().restore().unwrap().unwrap();
    assert_eq!((restored.state, restored.through.seq, restored.fell_back.is_some()), (state(2, &[]), Some(2), true));
}

#[test]
fn a_golden_checkpoint_is_taken_up_behind_its_record() {
    for (spoiled, generation, last) in [(None, 7, 5), (Some("checkpoints/indexer/checkpoint.jsonl"), 6, 3)] {
        let dir = saved(spoiled);
        let state = checkpoints(dir.path().join("checkpoints")).unwrap().pop().unwrap().unwrap();
        assert_eq!((&*state.name, state.generation, state.fell_back.is_some()), ("indexer", generation, spoiled.is_some()));
        let [source] = &state.sources[..] else { panic!("{:?}", state.sources) };
        assert_eq!((source.checkpoint.seq(), source.rejected), (Some(last), 1));
        assert_eq!(source.checkpoint.path(), Some(Path::new("/var/log/50%/sealed.jsonl")));

        // The journal is somewhere else by now: the record proves itself.
        let found = Reader::options().from(untorn::Start::Checkpoint(source.checkpoint.clone())).open(dir.path().join("sealed.jsonl")).unwrap();
        assert!(matches!(found.restored(), Some(Restored::Renamed { .. })), "{:?}", found.restored());
        let mut rest = found;
        assert_eq!(rest.next_line().unwrap().unwrap().mark().seq, Some(last + 1));
    }
}

/// The same records, saved today: the same members in the same order, whatever the machine and the time are.
#[test]
fn what_is_saved_has_the_shape_of_what_was() {
    let dir = saved(None);
    let journal = dir.path().join("sealed.jsonl");
    // What stands before a colon, in order.
    let shape = |line: &str| -> Vec<String> {
        let words = line.split("\":").filter_map(|before| before.rsplit_once('"'));
        words.map(|(_, name)| name.to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let through = inspect_snapshot(dir.path().join("state.snapshot")).unwrap().through;
    let path = dir.path().join("new.snapshot");
    Snapshot::open(&path, &journal).unwrap().save(&serde_json::json!({"turns": 4}), through).unwrap();
    let golden = text("state.snapshot").lines().next().map(str::to_owned).unwrap();
    assert_eq!(shape(fs::read_to_string(&path).unwrap().lines().next().unwrap()), shape(&golden));

    let mut consumer = Consumer::options("indexer", dir.path().join("new")).file(&journal).open().unwrap();
    while let Some(delivery) = consumer.next(Duration::ZERO).unwrap() {
        if let Delivery::Record(_, _, ticket) = delivery {
            ticket.ack();
        }
    }
    consumer.close().unwrap();
    let written = fs::read_to_string(dir.path().join("new/indexer/checkpoint.jsonl")).unwrap();
    assert_eq!(shape(&written), shape(&text("checkpoints/indexer/checkpoint.jsonl")));
}
