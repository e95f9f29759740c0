//! Findings on stderr: `path:line:column: severity[code]: text (byte N)`, and a picture of the place below.

use std::{
    fmt::{self, Display},
    ops::Range,
    path::Path,
};

use untorn::{Code, Finding, Progress, Result, Severity};

use crate::{
    picture::Picture,
    say::{self, STRONG, style_of, styled},
    source::Source,
    terminal,
    text::{self, Shown},
};

/// How many bytes on either side of a place are looked at; a picture shows fewer.
const AROUND_BYTES: u64 = 400;

/// The most that is read at once.
const BLOCK_BYTES: u64 = 64 << 10;

/// How far the end of a line, or of a run of NULs, is looked for.
const LOOK_BYTES: u64 = 16 << 20;

/// The first line of a finding.
pub(crate) struct Head<'a> {
    pub(crate) path: &'a Path,
    /// Line and column, from 1; unknown if the file was not read from its start.
    pub(crate) line: Option<(u64, u64)>,
    pub(crate) severity: Severity,
    pub(crate) code: &'a str,
    pub(crate) message: &'a str,
    pub(crate) offset: u64,
}

impl Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.line.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        let place = styled(STRONG, format_args!("{}{place}:", Shown(self.path.display())));
        let class = styled(style_of(self.severity), format_args!("{}[{}]:", self.severity, self.code));
        write!(f, "{place} {class} {} (byte {})", Shown(self.message), text::grouped(self.offset))
    }
}

/// Tells that a line of stdin is no record. `at` is a byte of the line, `start` where the line starts in the stream.
pub(crate) fn refused_line(number: u64, at: usize, start: u64, code: &str, message: &str, line: &[u8]) {
    let head =
        Head { path: Path::new("stdin"), line: Some((number, at as u64 + 1)), severity: Severity::Error, code, message, offset: start + at as u64 };
    say::message(head);
    if line.is_empty() {
        return;
    }
    let text = line.trim_ascii_end();
    let at = at.min(text.len());
    let around = usize::try_from(AROUND_BYTES).unwrap_or(usize::MAX);
    let (from, to) = (at.saturating_sub(around), text.len().min(at + around));
    say::lines(Picture {
        number: Some(number),
        bytes: text.get(from..to).unwrap_or_default().to_vec(),
        starts: from == 0,
        ends: to == text.len(),
        place: at - from..to.min(at + 1) - from,
        repeated: None,
        label: String::new(),
        style: style_of(Severity::Error),
        columns: terminal::columns(),
    });
}

/// Tells a finding; with a picture of the place, if there is something to see. `file` reads the file that it is in.
pub(crate) fn tell(finding: &Finding, file: &Progress<'_>, source: &Source, with_content: bool) {
    let path = source.name(&finding.path);
    let severity = finding.severity();
    let line = Some((finding.line, finding.column));
    say::lines(Head { path, line, severity, code: finding.code.as_str(), message: &finding.message, offset: finding.offset });
    if with_content && let Ok(Some(picture)) = picture(finding, file) {
        // A file that cannot be read again has been told of already, or will be.
        say::lines(picture);
    }
}

/// Where to look, and what to say there.
struct Look {
    /// Bytes of the file.
    place: Range<u64>,
    /// How long the run is of which the place has the first byte.
    repeated: Option<u64>,
    label: String,
}

impl Look {
    fn at(place: Range<u64>, label: impl Into<String>) -> Look {
        Look { place, repeated: None, label: label.into() }
    }
}

fn picture(finding: &Finding, file: &Progress<'_>) -> Result<Option<Picture>> {
    let file = Excerpts { file };
    let start = finding.offset - (finding.column - 1);
    let Some(look) = file.look(finding, start)? else { return Ok(None) };
    let place = look.place;
    let from = place.start.saturating_sub(AROUND_BYTES).max(start);
    let before = file.read(from..place.start)?;
    let mut marked = file.read(place.clone())?;
    let behind = place.start + look.repeated.unwrap_or(place.end - place.start);
    let mut after = file.read(behind..behind + AROUND_BYTES)?;
    let ends_in_file = (after.len() as u64) < AROUND_BYTES;
    let lf = memchr::memchr(b'\n', &after);
    after.truncate(lf.unwrap_or(after.len()));
    if lf.is_some() && after.ends_with(b"\r") {
        after.pop();
    }
    let range = before.len()..before.len() + marked.len();
    let mut bytes = before;
    bytes.append(&mut marked);
    bytes.append(&mut after);
    Ok(Some(Picture {
        number: Some(finding.line),
        bytes,
        starts: from == start,
        ends: lf.is_some() || ends_in_file,
        place: range,
        repeated: look.repeated,
        label: look.label,
        style: style_of(finding.severity()),
        columns: terminal::columns(),
    }))
}

/// Parts of a file that a finding is in: of what it holds, if it is compressed.
struct Excerpts<'a> {
    file: &'a Progress<'a>,
}

impl Excerpts<'_> {
    /// Some bytes, fewer at the end of the file. Only ever asked for a few, or for a block.
    fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let len = range.end.saturating_sub(range.start).min(BLOCK_BYTES);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let read = self.file.read_at(&mut bytes, range.start)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Where to look, for each code; `start` is where its line starts. What is legal needs no picture.
    fn look(&self, finding: &Finding, start: u64) -> Result<Option<Look>> {
        let at = finding.offset;
        let end = at + finding.len;
        let byte = at..at + 1;
        Ok(Some(match finding.code {
            Code::TornTail => Look::at(end..end, "the file ends here"),
            Code::Unterminated => Look::at(end..end, "no LF"),
            Code::Spliced => Look::at(byte, format!("whole record; the {} before it are torn", text::count(at - start, "byte"))),
            Code::Glued => Look::at(byte, "the next record starts here"),
            Code::NulRun => {
                let run = self.length_while(at, |byte| byte == 0)?;
                Look { place: byte, repeated: Some(run), label: String::new() }
            }
            Code::NotJson | Code::NotUtf8 => {
                let ends_early = matches!(self.read(byte.clone())?.first(), None | Some(b'\n' | b'\r'));
                if ends_early { Look::at(at..at, "the line ends here") } else { Look::at(byte, "") }
            }
            Code::CrcMismatch => self.in_seal(start, |seal| between(seal, b"\"_crc\":\"", b"\""), "")?,
            Code::OpenBatch => self.in_seal(start, |seal| between(seal, b"\"_more\":", b","), "so many more were to come")?,
            Code::NewerFormat => self.in_seal(start, |seal| between(seal, b"\"_seq\":", b",\"_crc\""), "unknown to this version")?,
            Code::SeqGap | Code::SeqRegression | Code::SeqDuplicate => self.in_seal(start, |seal| between(seal, b"\"_seq\":", b","), "")?,
            Code::TooLong => Look::at(start..start, ""),
            _ => return Ok(None),
        }))
    }

    /// Looks at a member of the seal that ends the line; at the start of the line if the member is not there.
    fn in_seal(&self, start: u64, find: impl Fn(&[u8]) -> Option<Range<usize>>, label: &str) -> Result<Look> {
        let end = start + self.length_while(start, |byte| byte != b'\n')?;
        let from = end.saturating_sub(AROUND_BYTES).max(start);
        let found = find(&self.read(from..end)?);
        Ok(match found {
            Some(range) => Look::at(from + range.start as u64..from + range.end as u64, label),
            None => Look::at(start..start, label),
        })
    }

    fn length_while(&self, start: u64, holds: impl Fn(u8) -> bool) -> Result<u64> {
        let mut length = 0;
        while length < LOOK_BYTES {
            let block = self.read(start + length..start + length + BLOCK_BYTES)?;
            let run = block.iter().take_while(|byte| holds(**byte)).count();
            length += run as u64;
            if run < block.len() || block.is_empty() {
                break;
            }
        }
        Ok(length)
    }
}

/// The range behind the last `key`, up to `end`.
fn between(bytes: &[u8], key: &[u8], end: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memmem::rfind(bytes, key)? + key.len();
    let len = memchr::memmem::find(bytes.get(start..)?, end)?;
    Some(start..start + len)
}
