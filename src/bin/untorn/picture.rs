//! A short picture of a place in a file: the bytes around it on one line, carets under it on the next.
//!
//! Control bytes, invalid UTF-8 and characters that reorder text are spelled out, so that a damaged file cannot touch the terminal.

use std::{
    fmt::{self, Display, Write},
    ops::Range,
};

use anstyle::Style;

use crate::{
    say::{FAINT, styled},
    text,
};

/// The columns for the line number; longer numbers take what they need.
const NUMBER_COLUMNS: usize = 5;

/// However narrow the terminal is, the line is shown over so many columns.
const ROOM_MIN: usize = 20;

/// What stands in front of the place is shown over at least so many columns, if there is so much.
const BEFORE_COLUMNS: usize = 24;

/// A place, and the bytes of its line around it.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) number: Option<u64>,
    pub(crate) bytes: Vec<u8>,
    /// The line starts, or ends, where `bytes` does.
    pub(crate) starts: bool,
    pub(crate) ends: bool,
    /// What the carets stand under; if it is empty, the byte there, or the end.
    pub(crate) place: Range<usize>,
    /// What the place stands for, if that is more of the same byte than `bytes` has.
    pub(crate) repeated: Option<u64>,
    pub(crate) label: String,
    pub(crate) style: Style,
    /// How wide it may be.
    pub(crate) columns: usize,
}

/// What is shown as one: a character, or a run of a byte that is spelled out.
#[derive(Clone, Debug)]
struct Cell {
    text: String,
    columns: usize,
    range: Range<usize>,
}

impl Cell {
    fn columns(cells: &[Cell]) -> usize {
        cells.iter().map(|cell| cell.columns).sum()
    }
}

impl Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.map(|number| number.to_string()).unwrap_or_default();
        let width = NUMBER_COLUMNS.max(number.len() + 1);
        let room = self.columns.saturating_sub(width + " | ".len()).max(ROOM_MIN);
        let cells = self.cells();
        let first = cells.iter().position(|cell| cell.range.end > self.place.start).unwrap_or(cells.len());
        let past = cells.iter().position(|cell| cell.range.start >= self.place.end).unwrap_or(cells.len()).max(first);
        let (before, rest) = cells.split_at(first);
        let (marked, after) = rest.split_at(past - first);
        let marked_columns = Cell::columns(marked).clamp(1, room / 2);

        // One column on either side is for the sign that more is there.
        let free = room - 2 - marked_columns;
        let for_before = Cell::columns(before).min(BEFORE_COLUMNS.max(free.saturating_sub(Cell::columns(after)))).min(free);
        let shown_before = fitting(before.iter().rev(), for_before);
        let shown_after = fitting(marked.iter().chain(after), free - for_before + marked_columns);
        let mut line = String::new();
        if !self.starts || shown_before < before.len() {
            line.push('…');
        }
        let mut column = line.chars().count();
        for cell in before.iter().skip(before.len() - shown_before) {
            line.push_str(&cell.text);
            column += cell.columns;
        }
        for cell in rest.iter().take(shown_after) {
            line.push_str(&cell.text);
        }
        if !self.ends || shown_after < rest.len() {
            line.push('…');
        }
        let gutter = |number: &str| styled(FAINT, format_args!("{number:>width$} |"));
        writeln!(f, "{} {line}", gutter(&number))?;
        write!(f, "{} {}", gutter(""), self.carets(column, marked_columns, room))
    }
}

/// How many of the cells fit into so many columns.
fn fitting<'a>(cells: impl Iterator<Item = &'a Cell>, columns: usize) -> usize {
    let mut left = columns;
    cells.take_while(|cell| left.checked_sub(cell.columns).inspect(|rest| left = *rest).is_some()).count()
}

impl Picture {
    /// The carets, with the label on whichever side it fits.
    fn carets(&self, column: usize, columns: usize, room: usize) -> String {
        let carets = "^".repeat(columns);
        let label = self.label.chars().count();
        if label == 0 || column + columns + 1 + label <= room {
            let text = format!("{carets} {}", self.label);
            format!("{:column$}{}", "", styled(self.style, text.trim_end()))
        } else if label < column {
            let indent = column - label - 1;
            format!("{:indent$}{}", "", styled(self.style, format_args!("{} {carets}", self.label)))
        } else {
            format!("{:column$}{}", "", styled(self.style, carets))
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        let mut at = 0;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let end = at + c.len_utf8();
                match text::width(c) {
                    Some(columns) => cells.push(Cell { text: c.into(), columns, range: at..end }),
                    None => push_escaped(&mut cells, text::escaped(c), at..end),
                }
                at = end;
            }
            for byte in chunk.invalid() {
                push_escaped(&mut cells, format!(r"\x{byte:02x}"), at..at + 1);
                at += 1;
            }
        }
        self.number_runs(&mut cells);
        cells
    }

    /// Says how long each run is: `\0×457`.
    fn number_runs(&self, cells: &mut [Cell]) {
        for cell in cells.iter_mut().filter(|cell| cell.columns == 0 && !cell.text.is_empty() && cell.text.starts_with('\\')) {
            let own = cell.range.len() as u64;
            let count = self.repeated.filter(|_| cell.range.start == self.place.start).unwrap_or(own);
            if count > 1 {
                let _ = write!(cell.text, "×{}", text::grouped(count));
            }
            cell.columns = cell.text.chars().count();
        }
    }
}

/// Adds what is spelled out to the run before it, if that is of the same byte. Its columns are counted when the run is complete.
fn push_escaped(cells: &mut Vec<Cell>, text: String, range: Range<usize>) {
    match cells.last_mut() {
        Some(run) if run.text == text && range.len() == 1 => run.range.end = range.end,
        _ => cells.push(Cell { text, columns: 0, range }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal;

    fn picture(bytes: &[u8], place: Range<usize>, label: &str) -> Picture {
        let style = Style::new();
        Picture {
            number: Some(7),
            bytes: bytes.to_vec(),
            starts: true,
            ends: true,
            place,
            repeated: None,
            label: label.to_owned(),
            style,
            columns: terminal::COLUMNS,
        }
    }

    fn lines(picture: &Picture) -> Vec<String> {
        anstream::adapter::strip_str(&picture.to_string()).to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_caret_stands_under_the_byte() {
        assert_eq!(lines(&picture(b"{\"a\":nul}", 8..9, "here")), ["    7 | {\"a\":nul}", "      |         ^ here"]);
        assert_eq!(lines(&picture("{\"ä日\":x".as_bytes(), 9..10, "")), ["    7 | {\"ä日\":x", "      |        ^"]);
        assert_eq!(lines(&picture(b"abc", 3..3, "ends")), ["    7 | abc", "      |    ^ ends"]);
    }

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let shown = lines(&picture(b"\0\0\0{\x1b[2J\xff\xff\xc3\"\r", 0..3, "run"));
        assert_eq!(shown, ["    7 | \\0×3{\\x1b[2J\\xff×2\\xc3\"\\r", "      | ^^^^ run"]);
    }

    #[test]
    fn any_place_in_any_line_fits_into_any_terminal() {
        let long: Vec<u8> = (0..300u32).flat_map(|n| char::from_u32(0x4e00 + n * 13 % 7 + n % 2).unwrap().to_string().into_bytes()).collect();
        for columns in [40, 41, 60, 80, 81, 160] {
            for at in (0..=long.len()).step_by(if columns == 80 { 1 } else { 7 }) {
                for label in ["", "a label of some thirty columns"] {
                    let picture = Picture { columns, ..picture(&long, at..at, label) };
                    for line in lines(&picture) {
                        let used: usize = line.chars().map(|c| text::width(c).unwrap()).sum();
                        assert!(used <= columns, "{used} columns of {columns} at byte {at}: {line}");
                    }
                }
            }
        }
    }
}
