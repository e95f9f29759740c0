//! What crashes, disks, editors and malice do to a file.

use std::io::Write;

use crate::chance::Chance;

/// Changes a file; what another one holds may be put into it.
type Way = fn(&mut Vec<u8>, &[u8], &mut Chance);

/// Changes a file in one way, and says in which.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) -> &'static str {
    let ways: [(&str, Way); 18] = [
        ("flip", |bytes, _, chance| flip(bytes, chance)),
        ("cut", cut),
        ("hole", hole),
        ("splice", splice),
        ("repeat", repeat),
        ("NUL run", nul_run),
        ("glue", glue),
        ("glued tiny records", tiny),
        ("deep nesting", nest),
        ("huge numbers", huge_numbers),
        ("huge sequence numbers", huge_seq),
        ("forged seals", forge),
        ("invalid UTF-8", invalid_utf8),
        ("BOM", bom),
        ("CR", cr),
        ("escape sequences", escapes),
        ("gzip", gzip),
        ("zstd", zstd),
    ];
    let (name, way) = ways[chance.within(0..ways.len() as u64) as usize];
    way(bytes, other, chance);
    name
}

/// A place in the file, or its end.
fn place(bytes: &[u8], chance: &mut Chance) -> usize {
    chance.within(0..bytes.len() as u64 + 1) as usize
}

/// A range of so many bytes, if there are so many.
fn range(bytes: &[u8], max: u64, chance: &mut Chance) -> std::ops::Range<usize> {
    let start = place(bytes, chance);
    start..bytes.len().min(start + chance.within(1..max) as usize)
}

fn insert(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.splice(at..at, what.iter().copied());
}

/// One of several, at some places.
fn insert_some(bytes: &mut Vec<u8>, of: &[&[u8]], chance: &mut Chance) {
    for _ in 0..chance.within(1..20) {
        let (at, which) = (place(bytes, chance), chance.within(0..of.len() as u64));
        insert(bytes, at, of[which as usize]);
    }
}

fn flip(bytes: &mut [u8], chance: &mut Chance) {
    for _ in 0..chance.within(1..9) {
        let at = place(bytes, chance);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << chance.within(0..8);
        }
    }
}

fn cut(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    bytes.truncate(place(bytes, chance));
}

fn hole(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    bytes.drain(range(bytes, 5000, chance));
}

fn splice(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = place(bytes, chance);
    insert(bytes, at, &other[range(other, 20_000, chance)]);
}

fn repeat(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let part = bytes[range(bytes, 300, chance)].to_vec();
    let at = place(bytes, chance);
    insert(bytes, at, &part.repeat(chance.within(2..2000) as usize));
}

fn nul_run(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let nuls = vec![0; chance.within(1..100_000) as usize];
    let range = range(bytes, nuls.len() as u64 + 1, chance);
    let range = if chance.within(0..2) == 0 { range.start..range.start } else { range };
    bytes.splice(range, nuls);
}

fn glue(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let kept = chance.within(0..10);
    bytes.retain(|byte| *byte != b'\n' || chance.within(0..10) < kept);
}

fn tiny(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let tiny: &[u8] = [&b"{}"[..], b"[]", b"{}{", b"1 ", b"{\"n\":1}"][chance.within(0..5) as usize];
    let at = place(bytes, chance);
    insert(bytes, at, &tiny.repeat(chance.within(1..200_000) as usize));
}

fn nest(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let depth = chance.within(1..100_000) as usize;
    let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")][chance.within(0..3) as usize];
    let mut nested = open.repeat(depth);
    if chance.within(0..2) == 0 {
        nested += "1";
        nested += &close.repeat(depth);
        nested.push('\n');
    }
    let at = place(bytes, chance);
    insert(bytes, at, nested.as_bytes());
}

fn huge_numbers(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let digits = "9".repeat(chance.within(1..50_000) as usize);
    let numbers = [format!("{{\"n\":{digits}}}\n"), format!("{{\"n\":-{digits}.{digits}e{digits}}}\n"), "1e999999999\n".to_owned(), digits];
    insert_some(bytes, &[numbers[chance.within(0..4) as usize].as_bytes()], chance);
}

/// Writes large numbers where sealed lines have theirs. Their CRC does not fit then.
fn huge_seq(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    const NUMBERS: [&str; 5] = ["18446744073709551615", "18446744073709551616", "0", "-1", "9223372036854775808"];
    let text = String::from_utf8_lossy(bytes).into_owned();
    let key = ["\"_seq\":", "\"_more\":"][chance.within(0..2) as usize];
    let mut parts = text.split(key);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        changed += key;
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_changed = chance.within(0..5) == 0;
        changed += if is_changed { NUMBERS[chance.within(0..5) as usize] } else { &part[..part.len() - rest.len()] };
        changed += rest;
    }
    *bytes = changed.into_bytes();
}

/// Lines that are sealed as they should be, with numbers and counts that nobody would give.
fn forge(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    const NUMBERS: [u64; 8] = [0, 1, 2, 3, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
    let mut lines = Vec::new();
    for _ in 0..chance.within(1..30) {
        let payload = ["{", "{\"a\":1,", "{\"a\":oops,", "{\"b\":\"\u{1b}[2J\",", "[", "{\"_v\":9,"][chance.within(0..6) as usize];
        let mut line = format!("{payload}\"_seq\":{}", NUMBERS[chance.within(0..8) as usize]);
        if chance.within(0..2) == 0 {
            line += &format!(",\"_more\":{}", NUMBERS[chance.within(0..8) as usize]);
        }
        let crc = crc32fast::hash(line.as_bytes());
        line += &format!(",\"_crc\":\"{crc:08x}\"}}\n");
        lines.extend_from_slice(line.as_bytes());
    }
    let at = place(bytes, chance);
    let at = memchr::memchr(b'\n', &bytes[at..]).map_or(at, |lf| at + lf + 1);
    insert(bytes, at, &lines);
}

fn invalid_utf8(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    insert_some(bytes, &[b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x80"], chance);
}

fn bom(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    insert(bytes, 0, [&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"][chance.within(0..4) as usize]);
    if chance.within(0..3) == 0 {
        insert_some(bytes, &[b"\xef\xbb\xbf"], chance);
    }
}

fn cr(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let end: &[u8] = [&b"\r\n"[..], b"\r", b"\n\r", b"\r\r\n"][chance.within(0..4) as usize];
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    *bytes = lines.join(end);
}

fn escapes(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    insert_some(bytes, &[b"\x1b]0;owned\x07", b"\x1b[2J\x1b[H", b"\xc2\x9b31m", b"\x08\x08", "\u{202e}".as_bytes(), b"\r", b"\n\x1b[31m{\n"], chance);
}

fn gzip(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    *bytes = encoder.finish().unwrap();
    let is_damaged = chance.within(0..2) == 0;
    if is_damaged {
        flip(bytes, chance);
    }
}

fn zstd(bytes: &mut Vec<u8>, _: &[u8], chance: &mut Chance) {
    *bytes = zstd::encode_all(&bytes[..], 1).unwrap();
    let is_damaged = chance.within(0..2) == 0;
    if is_damaged {
        flip(bytes, chance);
    }
}
