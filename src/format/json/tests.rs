use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Lines as agents record them: nested, escaped, with text beyond ASCII.
const REAL_LINES: [&str; 4] = [
    r#"{"type":"user","timestamp":"2024-01-01T00:00:00Z","message":{"content":"Fix the login bug"},"cwd":"/tmp/app"}"#,
    r#"{"type":"event_msg","payload":{"info":{"total":{"in":12,"out":-0.5e+3}},"limits":[null,true,false,[],{}]}}"#,
    r#"{"id":"7","text":"naïve → “quoted” \"twice\"\n\tand \ud83d\ude00 😀","parts":[{"k":"\\"},{"k":"\u00e9"}]}"#,
    r#" [ 1 , 2.5 , { "a" : [ ] , "b" : { } } , "" , "longer than the sixty-four bytes that are looked at together, by a word or two" ] "#,
];

/// serde_json as the second opinion. It skips strings without looking at their encoding, so that is asked first.
fn serde_json_accepts(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn reason(text: impl AsRef<[u8]>) -> Option<Reason> {
    validate(text.as_ref()).err().map(|invalid| invalid.reason)
}

#[test]
fn the_byte_that_does_not_fit_is_told() {
    for (text, at) in [("{\"a\":x}", 5), ("[1,2", 4), ("x", 0)] {
        assert_eq!(validate(text.as_bytes()).unwrap_err().at(), at, "{text}");
    }
}

fn compacted(text: &[u8]) -> String {
    let mut bytes = Vec::new();
    compact(text, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The texts of one folder of JSONTestSuite, with their names.
fn suite(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/conformance/JSONTestSuite").join(folder);
    let texts: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    assert!(!texts.is_empty());
    texts
}

#[test]
fn the_json_test_suite_is_answered_as_the_rfc_says() {
    for (name, text) in suite("test_parsing") {
        // Where the suite leaves a choice: any UTF-8 without a byte order mark, whatever its numbers and escapes say.
        let expected = match name.split_at(2).0 {
            "y_" => true,
            "n_" => false,
            _ => str::from_utf8(&text).is_ok_and(|text| !text.starts_with('\u{feff}')),
        };
        assert_eq!(validate(&text).is_ok(), expected, "{name}");
    }
}

#[test]
fn texts_that_parsers_change_are_all_json_if_they_are_utf8() {
    for (name, text) in suite("test_transform") {
        assert_eq!(validate(&text).is_ok(), str::from_utf8(&text).is_ok(), "{name}");
    }
}

#[test]
fn a_value_is_known_by_its_kind() {
    let cases = [
        ("{}", Kind::Object),
        (" [1]", Kind::Array),
        ("\"\"", Kind::String),
        ("-0.0E-0", Kind::Number),
        ("null", Kind::Literal),
        ("true ", Kind::Literal),
        ("\r\n\tfalse", Kind::Literal),
    ];
    for (text, kind) in cases {
        assert_eq!(validate(text.as_bytes()), Ok(Valid { kind, lone_surrogate: false }), "{text}");
    }
}

#[test]
fn a_refusal_says_where_and_why() {
    let cases: [(&[u8], usize, Reason); 23] = [
        (b"", 0, Reason::EndsEarly),
        (b" \t", 2, Reason::EndsEarly),
        (b"-", 1, Reason::EndsEarly),
        (b"\"\\u12", 5, Reason::EndsEarly),
        (b"\"\xe2\x82", 3, Reason::EndsEarly),
        (b"\"\xff\"", 1, Reason::NotUtf8),
        (b"\"\xe2\x82\"", 1, Reason::NotUtf8),
        (b"\"\xe2\x82\n\"", 1, Reason::NotUtf8),
        (b"\"a\xff", 2, Reason::NotUtf8),
        (b"[\xff", 1, Reason::NotUtf8),
        (b"\xef\xbb\xbf{}", 0, Reason::ExpectedValue),
        (b"\"\n\"", 1, Reason::ControlCharacter),
        (b"\"123456789\0\"", 10, Reason::ControlCharacter),
        (b"\"\\x\"", 2, Reason::UnknownEscape),
        (b"\"\\u00g0\"", 5, Reason::UnknownEscape),
        (b"[,", 1, Reason::ExpectedValue),
        (b"NaN", 0, Reason::ExpectedValue),
        (b"trap", 2, Reason::ExpectedValue),
        (b"{1:2}", 1, Reason::ExpectedKey),
        (b"{\"a\",", 4, Reason::ExpectedColon),
        (b"[1}", 2, Reason::ExpectedCommaOrEnd),
        (b"1.x", 2, Reason::ExpectedDigit),
        (b"{}{", 2, Reason::TrailingBytes),
    ];
    for (text, at, reason) in cases {
        assert_eq!(validate(text), Err(Invalid { at, reason }), "{}", text.escape_ascii());
    }
}

#[test]
fn only_unpaired_surrogate_escapes_are_noted() {
    let cases = [
        (r#""\ud83d\ude00""#, false),
        (r#""\ud83d""#, true),
        (r#""\ude00""#, true),
        (r#""\ud83d\ud83d\ude00""#, true),
        (r#""\ud83d\n""#, true),
        (r#""\\ud83d""#, false),
        (r#"{"\uDEAD":1}"#, true),
        (r#"["\uD800",""]"#, true),
    ];
    for (text, lone_surrogate) in cases {
        assert_eq!(validate(text.as_bytes()).unwrap().lone_surrogate, lone_surrogate, "{text}");
    }
}

#[test]
fn every_prefix_of_a_text_is_whole_or_ends_early() {
    for line in REAL_LINES {
        for cut in 0..line.len() {
            let prefix = &line.as_bytes()[..cut];
            assert_eq!(is_fragment(prefix), !serde_json_accepts(prefix), "cut at byte {cut} of {line}");
            assert!(matches!(reason(prefix), None | Some(Reason::EndsEarly)), "cut at byte {cut} of {line}");
        }
    }
}

#[test]
fn a_string_is_refused_for_a_special_byte_wherever_it_stands() {
    for at in 0..200 {
        for (byte, expected) in [(b'\n', Reason::ControlCharacter), (b'"', Reason::TrailingBytes), (0xFF, Reason::NotUtf8)] {
            let mut text = format!("\"{}\"", "é".repeat(100)).into_bytes();
            text.splice(1 + at / 2 * 2..1 + at / 2 * 2, [byte]);
            assert_eq!(reason(&text), Some(expected), "{}", text.escape_ascii());
        }
    }
}

#[test]
fn the_first_value_ends_where_its_last_byte_does() {
    for (text, end) in [("{}{}", 2), (" [1] x", 4), ("12,", 2), ("1.5e3}", 5), ("\"a\"\"b\"", 3), ("nullnull", 4)] {
        assert_eq!(first_value(text.as_bytes()).unwrap().1, end, "{text}");
    }
    assert_eq!(first_value(b"\"\xc3\xa9\"\xff").unwrap().1, 4);
}

#[test]
fn the_first_key_is_given_as_it_is_written() {
    let cases: [(&str, Option<&str>); 8] = [
        (r#"{"type":1}"#, Some("type")),
        (" { \"\" : 1 }", Some("")),
        (r#"{"a\"b":1}"#, Some(r#"a\"b"#)),
        (r#"{"a"#, None),
        (r#"{}"#, None),
        (r#"["a"]"#, None),
        (r#"{1"#, None),
        ("", None),
    ];
    for (text, key) in cases {
        assert_eq!(first_key(text.as_bytes()), key.map(str::as_bytes), "{text}");
    }
}

#[test]
fn compacting_touches_nothing_but_white_space_between_tokens() {
    assert_eq!(compacted(b" { \"a b\\\" c\" : [ 1.0 ,\r\n\t\"\\\\\" ] } \n"), r#"{"a b\" c":[1.0,"\\"]}"#);
    for line in &REAL_LINES[..2] {
        assert_eq!(compacted(line.as_bytes()), *line);
    }
}

#[test]
fn a_hundred_million_open_brackets_end_early_and_nothing_else() {
    let text = vec![b'['; 100_000_000];
    assert_eq!(validate(&text), Err(Invalid { at: text.len(), reason: Reason::EndsEarly }));
}

#[test]
fn every_level_remembers_which_bracket_closes_it() {
    for depth in (1..200).chain([1000]) {
        let opened: String = (0..depth).map(|level| if level % 3 == 0 { "[" } else { "{\"k\":" }).collect();
        let closed: String = (0..depth).rev().map(|level| if level % 3 == 0 { "]" } else { "}" }).collect();
        assert_eq!(reason(format!("{opened}0{closed}")), None, "depth {depth}");
        let swapped = closed.replace(']', "!").replace('}', "]").replace('!', "}");
        assert_eq!(reason(format!("{opened}0{swapped}")), Some(Reason::ExpectedCommaOrEnd), "depth {depth}");
    }
}

/// Tokens and pieces of tokens, so that many of their rows are nearly JSON.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\"k\"",
        b"\"k\":",
        b"0",
        b"1",
        b"-",
        b".",
        b"e",
        b"+",
        b"E5",
        b"true",
        b"null",
        b"fals",
        b" ",
        b"\t",
        b"\r",
        b"\x0c",
        b"\0",
        b"u00e9",
        b"\\ud83d",
        b"\\ude00",
        b"\\n",
        b"\x7f",
        b"\xc3\xa9",
        b"\xc3",
        b"\xa9",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"abcdefgh",
        b"[1,{\"a\":2}]",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

/// A real line with one byte changed, dropped or doubled.
fn mutated_line() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(&REAL_LINES[..]), any::<prop::sample::Index>(), any::<u8>(), 0..3_u8).prop_map(|(line, at, byte, change)| {
        let mut line = line.as_bytes().to_vec();
        let at = at.index(line.len());
        match change {
            0 => line[at] = byte,
            1 => drop(line.remove(at)),
            _ => line.insert(at, line[at]),
        }
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn serde_json_agrees_on_what_is_json(text in prop_oneof![almost_json(), mutated_line()]) {
        prop_assert_eq!(validate(&text).is_ok(), serde_json_accepts(&text), "{}", text.escape_ascii());
    }

    #[test]
    fn the_first_value_is_json_by_itself_and_ends_whatever_follows(text in almost_json()) {
        if let Ok((valid, end)) = first_value(&text) {
            prop_assert_eq!(validate(&text[..end]), Ok(valid));
        }
    }

    #[test]
    fn a_refused_byte_is_refused_whatever_follows(text in prop_oneof![almost_json(), mutated_line()], tail in almost_json()) {
        match validate(&text) {
            Err(Invalid { reason: Reason::EndsEarly, at }) => prop_assert_eq!(at, text.len()),
            Err(Invalid { reason: Reason::NotUtf8, at }) => prop_assert!(str::from_utf8(&text).unwrap_err().valid_up_to() <= at),
            Err(invalid) => prop_assert_eq!(validate(&[&text[..], &tail].concat()), Err(invalid)),
            Ok(_) => {}
        }
    }

    #[test]
    fn compacting_agrees_with_serde_json(text in almost_json()) {
        // serde_json rewrites escapes and numbers, so its own text is what must come back after white space is put in.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) else { return Ok(()) };
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(compacted(pretty.as_bytes()), value.to_string());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&compacted(&text)).unwrap(), value);
    }
}
