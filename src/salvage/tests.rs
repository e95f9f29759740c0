use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::format::seal::Opening;
use crate::format::verdict::Judged;

const PLAIN: [&str; 3] = [
    r#"{"type":"user","text":"say \"{hi}\" {","list":[{"type":1},{"b":[2]}],"last":{"type":"x"}}"#,
    r#"{"type":"tool","args":{"path":"C:\\","deep":[[{}]]}}"#,
    r#"{"id":7,"text":"naïve"}"#,
];

/// The sealed line of `payload`, without its LF.
fn sealed(payload: &str, seq: u64) -> Vec<u8> {
    let opening = Opening::of(payload.as_bytes());
    let mut line = Vec::new();
    seal::write(&mut line, payload.as_bytes(), opening, opening.crc(payload.as_bytes()), seq, 0);
    line.pop();
    line
}

/// What is salvaged of a line that stands between the records 9 and 100 of a journal with the lines of [`PLAIN`].
fn salvaged(line: &[u8]) -> Salvage {
    let mut first_keys = FirstKeys::default();
    PLAIN.iter().for_each(|line| first_keys.learn(line.as_bytes()));
    salvage(line, &Context { first_keys: &first_keys, after: Some(9), before: Some(100) })
}

/// The bytes of what is salvaged.
fn texts(line: &[u8]) -> Vec<&[u8]> {
    salvaged(line).records.into_iter().map(|record| &line[record.range]).collect()
}

fn code(line: &[u8]) -> Code {
    salvaged(line).code
}

/// C1, C2: of a record cut anywhere and the next one, or the same again, the second is kept.
#[test]
fn a_sealed_record_behind_a_fragment_cut_at_any_byte_is_kept() {
    let first = sealed(PLAIN[0], 41);
    for second in [sealed(PLAIN[1], 42), sealed("[1,2]", 42), sealed("{}", 42), first.clone()] {
        for cut in 1..first.len() {
            let line = [&first[..cut], &second].concat();
            assert_eq!(texts(&line), [&second], "cut at byte {cut}");
            assert_eq!(code(&line), Code::Spliced, "cut at byte {cut}");
        }
    }
}

/// C1, C2: a plain record cannot be told from a nested object only where the line goes on as JSON.
#[test]
fn a_plain_record_behind_a_fragment_cut_at_any_byte_is_kept_unless_it_could_be_nested() {
    for second in PLAIN {
        for cut in 1..PLAIN[0].len() {
            let line = [&PLAIN[0].as_bytes()[..cut], second.as_bytes()].concat();
            if json::is_fragment(&line) {
                assert!(texts(&line).is_empty(), "cut at byte {cut}");
                assert_eq!(code(&line), Code::NotJson, "cut at byte {cut}");
            } else {
                assert_eq!(texts(&line), [second.as_bytes()], "cut at byte {cut}");
                assert_eq!(code(&line), Code::Spliced, "cut at byte {cut}");
            }
        }
    }
}

/// C1: retries can tear more than once before one is whole.
#[test]
fn several_fragments_before_a_record_do_not_hide_it() {
    let (first, second) = (sealed(PLAIN[0], 41), sealed(PLAIN[1], 42));
    for cut in 1..first.len() {
        for other in [1, 20, cut, first.len() - 1] {
            assert_eq!(texts(&[&first[..cut], &first[..other], &second].concat()), [&second], "cut at {cut} and {other}");
        }
    }
    let line = format!("{}{}{}", &PLAIN[0][..30], &PLAIN[1][..9], PLAIN[1]);
    assert_eq!(texts(line.as_bytes()), [PLAIN[1].as_bytes()]);
}

/// C3, X-01: whole records without an LF between them are all kept.
#[test]
fn glued_records_are_split() {
    for between in ["", " ", "\r"] {
        let line = PLAIN.join(between);
        assert_eq!(texts(line.as_bytes()), PLAIN.map(str::as_bytes));
        assert_eq!(code(line.as_bytes()), Code::Glued);

        let records = [sealed(PLAIN[0], 41), PLAIN[1].into(), sealed("7", 42), sealed(PLAIN[2], 43)];
        let line = records.join(between.as_bytes());
        assert_eq!(texts(&line), records);
        assert_eq!(code(&line), Code::Glued);
    }
    assert_eq!(texts(br#"{"new":1}[2]{}"#), [&br#"{"new":1}"#[..], b"[2]", b"{}"], "no healthy line is asked");
}

/// C3: what a fragment ends, or parts, keeps its whole records.
#[test]
fn whole_records_on_either_side_of_a_fragment_are_kept() {
    let [first, third, second] = PLAIN;
    for cut in 1..third.len() {
        let fragment = &third[..cut];
        assert_eq!(texts(format!("{first}{second}{fragment}").as_bytes()), [first.as_bytes(), second.as_bytes()], "cut at byte {cut}");
        let line = format!("{first}{fragment}{second}");
        if !json::is_fragment(&line.as_bytes()[first.len()..]) {
            assert_eq!(texts(line.as_bytes()), [first.as_bytes(), second.as_bytes()], "cut at byte {cut}");
        }
    }
}

/// Of two records behind a fragment only the last is sure to be one: the other could be nested in a second fragment.
#[test]
fn a_plain_record_between_a_fragment_and_another_record_is_left_to_the_quarantine() {
    let [first, second, third] = PLAIN;
    let line = format!("{}{first}{second}", &third[..12]);
    assert_eq!(texts(line.as_bytes()), [second.as_bytes()]);
}

/// C7, C8, C9: NULs are no part of a record, and hide none.
#[test]
fn nul_runs_are_stripped_on_either_side() {
    let nuls = "\0".repeat(700);
    assert_eq!(salvaged(nuls.as_bytes()), Salvage { code: Code::NulRun, records: Vec::new() });
    let numbered = String::from_utf8(sealed(PLAIN[0], 42)).unwrap();
    for record in [numbered.as_str(), PLAIN[0], r#"{"new":1}"#, "[1]", r#""text""#, "null"] {
        for line in [format!("{nuls}{record}"), format!("{record}{nuls}"), format!("\0 {record} {nuls}")] {
            assert_eq!(texts(line.as_bytes()), [record.as_bytes()]);
            assert_eq!(code(line.as_bytes()), Code::NulRun);
        }
    }
    assert_eq!(texts(format!("{}{nuls}{}", PLAIN[0], PLAIN[1]).as_bytes()), [PLAIN[0].as_bytes(), PLAIN[1].as_bytes()]);
    assert!(texts(b"12\0\0").is_empty(), "a number may have lost digits");
}

/// C9: a hole may have torn the record before it, so that what follows could be a piece of the same record.
#[test]
fn behind_a_torn_record_and_nuls_only_what_begins_as_healthy_lines_do_is_kept() {
    let torn = &PLAIN[0][..20];
    assert_eq!(texts(format!("{torn}\0\0{}", PLAIN[1]).as_bytes()), [PLAIN[1].as_bytes()]);
    for piece in [r#"{"new":1}"#, "[1]", r#""text""#] {
        assert!(texts(format!("{torn}\0\0{piece}").as_bytes()).is_empty(), "{piece}");
    }
}

/// C11: the outer record is lost, the inner one is proved by its CRC wherever it was written.
#[test]
fn a_sealed_record_inside_a_torn_one_is_kept() {
    let (outer, inner) = (sealed(PLAIN[0], 41), sealed(PLAIN[1], 42));
    for cut in 1..outer.len() {
        let line = [&outer[..cut], &inner, &outer[cut..]].concat();
        assert_eq!(texts(&line), [&inner], "cut at byte {cut}");
        assert_eq!(salvaged(&line).records[0].seq, Some(42));
        assert_eq!(code(&line), Code::Spliced, "cut at byte {cut}");
    }
}

/// C11: without a CRC nothing proves the inner record, and no piece of the outer one may pass for a record.
#[test]
fn a_plain_record_torn_by_another_yields_no_piece_of_itself() {
    let (outer, inner) = (PLAIN[0].as_bytes(), PLAIN[1].as_bytes());
    for cut in 1..outer.len() {
        let line = [&outer[..cut], inner, &outer[cut..]].concat();
        assert!(json::validate(&line).is_ok() || texts(&line).iter().all(|text| *text == inner), "cut at byte {cut}");
    }
}

#[test]
fn one_changed_byte_invents_no_record() {
    for healthy in [PLAIN.map(Vec::from), PLAIN.map(|payload| sealed(payload, 42))].concat() {
        for at in 0..healthy.len() {
            for byte in 0..=u8::MAX {
                let mut line = healthy.clone();
                line[at] = byte;
                if matches!(Judged::of(&Framed::new(&line, false)), Judged::CrcMismatch | Judged::NotJson(_)) {
                    assert!(texts(&line).is_empty(), "{}", line.escape_ascii());
                }
            }
        }
    }
}

#[test]
fn every_cut_of_a_record_is_a_fragment_that_yields_nothing() {
    for record in PLAIN.map(Vec::from).into_iter().chain(PLAIN.map(|payload| sealed(payload, 42))) {
        for cut in 1..record.len() {
            assert!(texts(&record[..cut]).is_empty(), "cut at byte {cut}");
        }
    }
}

#[test]
fn a_sealed_record_is_trusted_only_between_the_numbers_of_its_neighbours() {
    for (seq, trusted) in [(9, false), (10, true), (99, true), (100, false)] {
        let line = [&b"{\"torn"[..], &sealed(PLAIN[0], seq)].concat();
        assert_eq!(salvaged(&line).records.len(), usize::from(trusted), "number {seq}");
        assert_eq!(code(&line), if trusted { Code::Spliced } else { Code::CrcMismatch });
    }
}

#[test]
fn the_highest_number_in_a_line_is_found_whatever_follows_it() {
    let line = [&sealed("{}", 7)[..], b"{\"torn", &sealed(PLAIN[0], 12), b"\0", &sealed("{}", 3)].concat();
    assert_eq!(highest_number(&line, None), Some(12));
    assert_eq!(highest_number(&line, Some(11)), Some(12));
    assert_eq!(highest_number(&line, Some(12)), None);
    assert_eq!(highest_number(PLAIN[0].as_bytes(), None), None);
}

/// A record that was appended with somebody else's sealed line in it is one record.
#[test]
fn a_sealed_record_in_the_payload_of_a_whole_one_is_not_taken_out() {
    let outer = sealed(&format!("[{0},{0}]", String::from_utf8(sealed("{}", 42)).unwrap()), 43);
    assert_eq!(texts(&[b"{\"torn", &outer[..]].concat()), [&outer]);
}

#[test]
fn a_good_crc_over_what_is_no_json_is_not_trusted() {
    let line = [&b"{\"torn"[..], &sealed(r#"{"a":nul}"#, 42)].concat();
    assert!(texts(&line).is_empty());
}

#[test]
fn a_line_gets_the_first_code_that_fits() {
    let mut flipped = sealed(PLAIN[0], 42);
    flipped[3] ^= 1;
    let cases: [(&[u8], Code); 7] = [
        (b"{\"a\":\0}", Code::NulRun),
        (b"{}{}{\xFF", Code::Glued),
        (b"{\"a\":\xFF{\"type\":1}", Code::Spliced),
        (b"{\"a\":\"\xFF\"}", Code::NotUtf8),
        (&flipped, Code::CrcMismatch),
        (b"{\"a\":NaN}", Code::NotJson),
        (b"{\"type\":1}}", Code::NotJson),
    ];
    for (line, expected) in cases {
        assert_eq!(code(line), expected, "{}", line.escape_ascii());
    }
}

#[test]
fn the_first_keys_are_bounded() {
    let mut first_keys = FirstKeys::default();
    for key in 0..2 * FirstKeys::KEYS_MAX {
        first_keys.learn(format!("{{\"{key}\":1}}").as_bytes());
    }
    first_keys.learn(format!("{{\"{}\":1}}", "k".repeat(FirstKeys::KEY_BYTES_MAX + 1)).as_bytes());
    assert_eq!(first_keys.0.len(), FirstKeys::KEYS_MAX);
    assert!(first_keys.begin(b"{\"0\":2}"));
}

/// A seal whose record is lost costs a search through the line; a few of them, as torn records leave, change nothing.
#[test]
fn seals_without_a_record_do_not_hide_one() {
    let record = sealed(PLAIN[0], 42);
    for orphans in 1..SEARCHES_MAX {
        let line = [&record[..], r#","_seq":50,"_crc":"00000000"}"#.repeat(orphans).as_bytes()].concat();
        assert_eq!(texts(&line), [&record], "behind {orphans}");
    }
}

/// In quadratic time, some of these lines would take an hour.
#[test]
fn a_hostile_line_takes_time_in_proportion_to_its_length() {
    let seal = r#","_seq":50,"_crc":"00000000"}"#;
    let record = String::from_utf8(sealed("{}", 50)).unwrap();
    let parts = [
        "{",
        "[",
        "}",
        "{\"a\":",
        "{\"type\":",
        "\"",
        "\\\"",
        "\\",
        "\0",
        "[\0",
        "{}\0",
        "{}",
        "{\"type\":1}",
        "{\"type\":1",
        "}{",
        "x{\"type\":1}",
        "\u{e9}",
        r#","_crc":""#,
        seal,
        &format!("{{\"type\":1{seal}"),
        &format!("\"{seal}"),
        &format!("[{seal}"),
        &record,
        &format!("{{\"a\":{record}"),
    ];
    for part in parts {
        for end in ["", "{\"type\":1}"] {
            let line = part.repeat((1 << 20) / part.len()) + end;
            let started = Instant::now();
            salvaged(line.as_bytes());
            highest_number(line.as_bytes(), None);
            assert!(started.elapsed() < Duration::from_secs(10), "a line of `{}`", part.escape_debug());
        }
    }
}

/// A piece of a line, and whether it is a whole sealed record.
fn piece() -> impl Strategy<Value = (Vec<u8>, bool)> {
    // No payload nests an object that begins as a plain record: that one could pass for it at the end of the line.
    let record = (prop::sample::select(&PLAIN[1..]), 10..100_u64).prop_map(|(payload, seq)| sealed(payload, seq));
    let fragment = (record.clone(), any::<prop::sample::Index>()).prop_map(|(record, cut)| record[..cut.index(record.len())].to_vec());
    prop_oneof![
        record.prop_map(|record| (record, true)),
        fragment.prop_map(|fragment| (fragment, false)),
        (0..9_usize).prop_map(|nuls| (vec![0; nuls], false)),
    ]
}

/// Anything that a line may be made of.
fn patchwork() -> impl Strategy<Value = Vec<u8>> {
    let scraps =
        prop::sample::select(vec![&b"{"[..], b"}", b"[", b"]", b"\"", b"\\", b",", b" ", b"\0", b"1", b"{\"type\":1}", b"\xFF", b"\xC3\xA9"]);
    let plain = (prop::sample::select(&PLAIN[..]), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(line, cut, whole)| line.as_bytes()[..if whole { line.len() } else { cut.index(line.len()) }].to_vec());
    prop::collection::vec(prop_oneof![scraps.prop_map(<[u8]>::to_vec), plain, piece().prop_map(|(bytes, _)| bytes)], 0..10)
        .prop_map(|pieces| pieces.concat())
}

/// A repair salvaged a record with a damaged seal when white space stood before it, and the next repair had to take it out.
#[test]
fn white_space_hides_no_damaged_seal() {
    for space in ["", " ", "\r\r", "\t \r"] {
        for damaged in ["{\"n\":1,\"_seq\":-1,\"_crc\":\"286437d1\"}", "{\"n\":1,\"_seq\":7,\"_crc\":\"286437d1\"}"] {
            let line = format!("{{\"n\":0}}{space}{damaged}");
            assert_eq!(texts(line.as_bytes()), [b"{\"n\":0}"], "{line:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn every_whole_sealed_record_is_kept_and_nothing_else(pieces in prop::collection::vec(piece(), 1..8)) {
        let line: Vec<u8> = pieces.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let whole: Vec<_> = pieces.iter().filter(|(_, whole)| *whole).map(|(bytes, _)| &bytes[..]).collect();
        prop_assert_eq!(texts(&line), whole, "{}", line.escape_ascii());
    }

    #[test]
    fn salvaged_records_are_whole_in_order_and_apart(line in patchwork()) {
        let Salvage { code, records } = salvaged(&line);
        let mut end = 0;
        for record in &records {
            prop_assert!(record.range.start >= end);
            end = record.range.end;
            let text = &line[record.range.clone()];
            prop_assert!(json::validate(text).is_ok());
            prop_assert_eq!(text.trim_ascii(), text);
            match seal::shape(text) {
                Shape::Sealed(seal) => {
                    prop_assert!(seal.holds(text));
                    prop_assert_eq!(record.seq, Some(seal.seq));
                }
                shape => prop_assert_eq!((shape, record.seq), (Shape::Plain, None)),
            }
        }
        prop_assert!(records.iter().filter_map(|record| record.seq).max() <= highest_number(&line, Some(9)));
        prop_assert!(code == Code::NulRun || (code == Code::Glued) == (records.len() > 1));
    }
}
