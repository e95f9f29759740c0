//! The conservation law: every byte that a repair takes out is in quarantine, at its place, and no other byte is touched.

use proptest::prelude::*;
use untorn::{RepairOptions, Unterminated, undo_repair};

use super::{newest_repair, sealed};
use crate::support::TestJournal;

const FRAGMENTS: &[&[u8]] = &[
    b"{\"id\":1,\"te",
    b"{",
    b"}",
    b"[",
    b"\"",
    b"{\"other\":2}",
    b"12",
    b"true",
    b"[3]",
    b"\"s\"",
    b"\xE6\x87",
    b" ",
    b"\r\n",
    b"\0\0\0",
    b"\xEF\xBB\xBF",
    b"x",
];

/// Parts of lines, healthy and not, that come together in any order.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let seq = 1..12_u64;
    prop_oneof![
        4 => (0..3_u8).prop_map(|id| format!("{{\"id\":{id}}}").into_bytes()),
        4 => (seq.clone(), 0..3_u64).prop_map(|(seq, more)| sealed(&format!("{{\"id\":{seq}"), seq, more).into_bytes()),
        1 => seq.prop_map(|seq| sealed("{\"id\":0", seq, 0).replace("id", "ie").into_bytes()),
        8 => Just(b"\n".to_vec()),
        2 => prop::sample::select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        1 => (60..80_usize).prop_map(|len| vec![0; len]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(part(), 0..24).prop_map(|parts| parts.concat())
}

/// Whether a line without its LF is healthy, told without the library. One that only looks as if it were sealed is not.
fn is_healthy(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    let text = text.trim_end_matches([' ', '\t', '\r']);
    let sealed = text.strip_suffix("\"}").and_then(|rest| rest.rsplit_once(",\"_crc\":\""));
    match sealed {
        Some((covered, crc)) => text.starts_with('{') && crc == format!("{:08x}", crc32fast::hash(covered.as_bytes())),
        None if text.contains("_seq") => false,
        None => text.trim_start_matches([' ', '\t', '\r']).is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
    }
}

/// See the module.
fn conserves(before: &[u8], options: &RepairOptions) {
    let journal = TestJournal::with_bytes(before);
    let plan = options.plan(&journal.path).expect("a plan");
    let (is_empty, salvaged) = (plan.is_empty(), plan.salvaged());
    let repaired = plan.apply().expect("a repair");
    let after = journal.bytes();
    let kept = newest_repair(&journal);
    assert_eq!(repaired.changed, !is_empty);
    assert_eq!(repaired.remaining, 0);
    assert!(options.plan(&journal.path).unwrap().is_empty(), "a second repair is a no-op");
    let report = untorn::verify(&journal.path).expect("a report");
    assert!(report.is_clean(), "{:?} in {:?}", report.findings(), String::from_utf8_lossy(&journal.bytes()));
    // Everything that is not there any more is in quarantine, at its offset; and nothing is there that was not.
    assert_eq!(kept.applied_to(before), after);
    // Healthy lines stay byte for byte, but for those of a batch whose end is missing.
    let mut start = 0;
    for line in before.split_inclusive(|byte| *byte == b'\n') {
        let range = start..start + line.len();
        start = range.end;
        let Some(text) = line.strip_suffix(b"\n") else { continue };
        let text = if range.start == 0 { text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text) } else { text };
        let touched =
            kept.ranges.iter().find(|(offset, bytes, reason)| *offset < range.end && range.start < offset + bytes.len() && reason != "open-batch");
        let split = kept.added.iter().any(|offset| range.contains(offset) && *offset > range.start);
        assert!(!is_healthy(text) || (touched.is_none() && !split), "a healthy line was touched: {:?}", String::from_utf8_lossy(line));
    }
    // Every line that is left is healthy, so what was salvaged is a whole record on a line of its own.
    let text = after.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&after);
    assert!(text.is_empty() || text.ends_with(b"\n"));
    for line in text.split(|byte| *byte == b'\n') {
        assert!(is_healthy(line), "left behind: {:?}", String::from_utf8_lossy(line));
    }
    assert_eq!(repaired.salvaged, salvaged);
    if !is_empty {
        undo_repair(&journal.path).expect("it can be undone");
        assert_eq!(journal.bytes(), before, "the original is rebuilt");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// P4: nothing is lost by a repair, nothing is invented, and it can be taken back.
    #[test]
    fn repair_conserves_every_byte(before in file()) {
        conserves(&before, &RepairOptions::new());
    }

    #[test]
    fn repair_without_salvage_conserves_every_byte(before in file()) {
        conserves(&before, RepairOptions::new().without_salvage().unterminated(Unterminated::Quarantine).without_backup());
    }

    #[test]
    fn bytes_out_of_nowhere_are_conserved(before in prop::collection::vec(prop::sample::select(b"{}[]\",:1e\\ \n\n\0\xEF\xBB\xBFx".to_vec()), 0..60)) {
        conserves(&before, &RepairOptions::new());
    }
}

/// S2-06, X-07: a sealed and a plain file cut at every byte, and with every byte overwritten.
#[test]
fn damage_at_every_byte_is_conserved() {
    let lines = format!("{}\n{}\n{{\"id\":\"\u{e9}\"}}\n{}\n", sealed("{\"id\":1", 1, 1), sealed("{\"id\":2", 2, 0), sealed("{\"id\":3", 3, 0));
    for at in 0..=lines.len() {
        conserves(&lines.as_bytes()[..at], &RepairOptions::new());
        let mut changed = lines.clone().into_bytes();
        if let Some(place) = changed.get_mut(at) {
            *place = [b'\n', 0, b'}'][at % 3];
        }
        conserves(&changed, &RepairOptions::new());
    }
}
