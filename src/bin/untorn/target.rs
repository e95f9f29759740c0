//! Whether a file is one to append to: told before it is opened, because opening repairs its end.
//!
//! The library opens any file that it is given. In a shell a slip of the completion names an archive or a program, and a torn tail would be found in it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::de::IgnoredAny;

use crate::{
    compressed,
    exit::Stop,
    journals, say,
    text::{self, Shown},
};

/// How much is looked at from either end.
const LOOK_BYTES: u64 = 64 << 10;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What repairs put behind a journal's name.
const BESIDE: [&str; 4] = [".quarantine", ".bak-", ".original-", ".untorn-tmp-"];

/// Refuses a file that is plainly no journal, or a part of another one. One that is missing, empty or damaged is none of those.
pub(crate) fn check(path: &Path) -> Result<(), Stop> {
    if path.is_dir() {
        return refused(path, "it is a directory", format_args!("name a journal in it; `untorn verify -r {}` finds them", text::quoted(path)));
    }
    let target = fs::read_link(path).map_or(path.to_owned(), |target| path.with_file_name(target));
    if let Some(journal) = journal_of(&target) {
        let why = format!("it belongs to `{}`", journal.display());
        return refused(path, &why, format_args!("`untorn append {}` appends to the journal", text::quoted(&journal)));
    }
    let (head, tail) = ends(path).map_err(|error| Stop::system(format!("read `{}`", path.display()), error))?;
    if let Some(compressed::Kind { undo, .. }) = compressed::by_bytes(&head).or_else(|| compressed::by_name(path)) {
        return refused(path, "it is compressed", format_args!("name another file; `{undo} {}` gives the records in it", text::quoted(path)));
    }
    if ![&head, &tail].into_iter().any(|bytes| may_be_of_journal(bytes)) {
        return refused(path, "it is no JSON Lines file", format_args!("name another file, or move this one away"));
    }
    Ok(())
}

/// The journal that a file is a part of, by its name; that journal must be there.
fn journal_of(path: &Path) -> Option<PathBuf> {
    let beside = || {
        let name = path.file_name()?.to_str()?;
        let at = BESIDE.iter().filter_map(|suffix| name.rfind(suffix)).max()?;
        Some(path.with_file_name(name.get(..at)?))
    };
    [journals::whole(path), beside()].into_iter().flatten().find(|journal| journal.is_file())
}

fn refused(path: &Path, why: &str, way_out: std::fmt::Arguments<'_>) -> Result<(), Stop> {
    say::message(Shown(format_args!("cannot append to `{}`: {why}", path.display())));
    say::hint(way_out);
    Err(Stop::Told)
}

/// The first and the last bytes. Of what is no file, or cannot be opened, none: opening it to append says what is wrong.
fn ends(path: &Path) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    if fs::metadata(path).is_ok_and(|found| found.is_file())
        && let Ok(mut file) = File::open(path)
    {
        file.by_ref().take(LOOK_BYTES).read_to_end(&mut head)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LOOK_BYTES)))?;
        file.take(LOOK_BYTES).read_to_end(&mut tail)?;
    }
    Ok((head, tail))
}

/// Whether there is a record, or a line that begins like one, or nothing but the NULs that a crash leaves.
fn may_be_of_journal(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let is_nothing = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    bytes.iter().all(is_nothing)
        || bytes.split(|byte| *byte == b'\n').any(|line| {
            let line = line.get(line.iter().take_while(|byte| is_nothing(byte)).count()..).unwrap_or_default();
            begins_like_a_record(line) || serde_json::from_slice::<IgnoredAny>(line).is_ok()
        })
}

/// `{"`, `[1` and the like; a brace behind an LF is in many a program too.
fn begins_like_a_record(line: &[u8]) -> bool {
    let Some((open, inside)) = line.split_first() else { return false };
    match (open, inside.trim_ascii_start().first()) {
        (b'{', next) => matches!(next, None | Some(0 | b'"' | b'}')),
        (b'[', next) => next.is_none_or(|next| b"\0\"{[]-tfn0123456789".contains(next)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_leaves_of_a_journal_is_still_one() {
        let cases: [&[u8]; 12] = [
            b"",
            BOM,
            b"\0\0\0\0",
            b" \r\n\n",
            b"{",
            b"{\"n\":1",
            b"[1,",
            b"\0\0\0{\"n\":1}\n",
            b"\xEF\xBB\xBF{\"n\":1}\r\n",
            b"7\n",
            b"rubbish\n\xff\xfe\n{\"n\":1}\n",
            b"rubbish\n{\"n\":1\xff\n",
        ];
        for bytes in cases {
            assert!(may_be_of_journal(bytes), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn programs_and_notes_are_no_journals() {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!may_be_of_journal(&program[..usize::try_from(LOOK_BYTES).unwrap()]));
        for bytes in [&b"# Notes\n\n- buy milk\n"[..], b"\x7fELF\x02\x01\x01\0\0\0", b"a,b\n1,2\n", b"PK\x03\x04\n{\x9c\n"] {
            assert!(!may_be_of_journal(bytes), "{}", bytes.escape_ascii());
        }
    }
}
