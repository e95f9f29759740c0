//! Text that is safe and easy to read on a terminal.

use std::{
    fmt::{self, Write},
    path::Path,
};

use unicode_width::UnicodeWidthChar;

pub(crate) use crate::words::{count, grouped};

/// A number of bytes in the unit that a person would use: `650 bytes`, `3.1 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10_000 {
        return count(bytes, "byte");
    }
    // Tenths of the unit, so that no rounding can say 1000.0 KB.
    let mut tenths = bytes / 100;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while tenths >= 10_000 {
        tenths /= 1000;
        unit = units.next();
    }
    let unit = unit.copied().unwrap_or_default();
    if tenths < 100 { format!("{}.{} {unit}", tenths / 10, tenths % 10) } else { format!("{} {unit}", tenths / 10) }
}

/// The same where room is short: `650 B`.
pub(crate) fn short_size(bytes: u64) -> String {
    let size = size(bytes);
    size.split_once(" byte").map_or(size.clone(), |(number, _)| format!("{number} B"))
}

/// A path as a word that a shell takes back as that path, whatever bytes are in it. `$'…'` is known to bash, zsh and ksh, and to POSIX since 2024.
pub(crate) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let dot = if bytes.starts_with(b"-") { "./" } else { "" };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./-+:@%=,".contains(c);
    match path.to_str() {
        Some(path) if !path.is_empty() && path.chars().all(is_plain) => format!("{dot}{path}"),
        Some(path) if path.chars().all(|c| width(c).is_some()) => format!("'{dot}{}'", path.replace('\'', r"'\''")),
        _ => format!("$'{dot}{}'", bytes.iter().map(|byte| spelled(*byte)).collect::<String>()),
    }
}

/// A byte inside of `$'…'`. With three digits, an octal escape ends before whatever follows.
fn spelled(byte: u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    }
}

/// Text of one line, in which nothing can move the cursor, change colours or reorder what is shown.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            if width(c).is_none() { f.write_str(&escaped(c))? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

/// How many columns a character takes; `None` if it must not be shown as it is.
pub(crate) fn width(c: char) -> Option<usize> {
    let reorders = matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if reorders || c == '\u{feff}' { None } else { c.width() }
}

/// A character that must not be shown as it is, spelled out.
pub(crate) fn escaped(c: char) -> String {
    match c {
        '\0' => r"\0".to_owned(),
        '\t' => r"\t".to_owned(),
        '\r' => r"\r".to_owned(),
        '\n' => r"\n".to_owned(),
        c if c.is_ascii() => format!(r"\x{:02x}", u32::from(c)),
        c => c.escape_unicode().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_round_up_to_a_thousand() {
        for (bytes, text) in
            [(1, "1 byte"), (9999, "9,999 bytes"), (10_000, "10 KB"), (999_999, "999 KB"), (1_000_000, "1.0 MB"), (8_123_456_789, "8.1 GB")]
        {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(size(u64::MAX), "18 EB");
    }

    #[test]
    fn a_shell_takes_a_quoted_path_back() {
        assert_eq!(quoted(Path::new("a/b-c.jsonl")), "a/b-c.jsonl");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
        assert_eq!(quoted(Path::new("-rf")), "./-rf");
        assert_eq!(quoted(Path::new("- f")), "'./- f'");
        assert_eq!(quoted(Path::new("a\n'b\\\x1b7")), r"$'a\012\'b\\\0337'");
        assert_eq!(quoted(Path::new("caf\u{e9}")), "'caf\u{e9}'");
    }

    #[test]
    fn nothing_shown_moves_the_cursor() {
        assert_eq!(Shown("a\x1b[2J\r\u{202e}\u{9b}b\x7f\n").to_string(), "a\\x1b[2J\\r\\u{202e}\\u{9b}b\\x7f\\n");
    }
}
