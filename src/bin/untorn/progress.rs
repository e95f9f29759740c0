//! How far a long step is: one line on a terminal, rewritten in place, and gone before anything else is said.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    terminal,
    text::{self, Shown},
};

/// What is over sooner needs no progress.
const SHOW_AFTER: Duration = Duration::from_millis(500);

const SHOW_EVERY: Duration = Duration::from_millis(100);

/// The bar has as many, and half as many on a narrow terminal.
const BAR_COLUMNS: u64 = 20;
const NARROW_COLUMNS: usize = 60;

/// So much of a name is shown, or all of it, or none.
const NAME_COLUMNS_MIN: usize = 8;

/// Whether the line is on the screen.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// The progress of one step; dropping it takes the line away.
pub(crate) struct Progress {
    name: String,
    begun: Instant,
    /// When to show it next; never, if nobody looks.
    next: Option<Instant>,
}

impl Progress {
    pub(crate) fn of(path: &Path) -> Progress {
        let next = io::stderr().is_terminal().then(|| Instant::now() + SHOW_AFTER);
        Progress { name: Shown(path.display()).to_string(), begun: Instant::now(), next }
    }

    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if total == 0 || self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + SHOW_EVERY);
        let line = line(&self.name, done, total, now.duration_since(self.begun), terminal::columns());
        let _ = write!(io::stderr().lock(), "\r{line}\x1b[K");
        SHOWN.store(true, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        erase(&mut io::stderr().lock());
    }
}

/// The bar, how much of how much, how fast, how long still, and as much of the name's end as fits. The last column stays free, so that no terminal
/// wraps.
fn line(name: &str, done: u64, total: u64, elapsed: Duration, columns: usize) -> String {
    let bar_columns = if columns < NARROW_COLUMNS { BAR_COLUMNS / 2 } else { BAR_COLUMNS };
    let share = |column: u64| u128::from(column) * u128::from(total) < u128::from(done) * u128::from(bar_columns);
    let mut line: String = (0..bar_columns).map(|column| if share(column) { '█' } else { '░' }).collect();
    let millis = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(done) * 1000 / millis).unwrap_or(u64::MAX);
    let left = if rate == 0 { String::new() } else { format!("{} s left", text::grouped(total.saturating_sub(done).div_ceil(rate))) };
    let parts = [format!("{} of {}", text::size(done), text::size(total)), format!("{}/s", text::size(rate)), left];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if line.chars().count() + 2 + part.len() < columns {
            line.push_str("  ");
            line.push_str(part);
        }
    }
    let room = columns.saturating_sub(line.chars().count() + 3);
    let mut end = Vec::new();
    let mut used = 0;
    for c in name.chars().rev() {
        used += text::width(c).unwrap_or(0);
        if used > room {
            break;
        }
        end.push(c);
    }
    let end: String = end.into_iter().rev().collect();
    // A few letters of a long name tell nothing.
    let is_of_use = end == name || used > NAME_COLUMNS_MIN;
    if is_of_use && !end.is_empty() { format!("{line}  {end}") } else { line }
}

/// Takes the line off the screen, if it is there.
pub(crate) fn erase(stderr: &mut impl Write) {
    if SHOWN.swap(false, Ordering::Relaxed) {
        let _ = write!(stderr, "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_fast_and_how_long_still() {
        let shown = line("a/session.jsonl", 1_000_000_000, 4_000_000_000, Duration::from_secs(2), 80);
        assert_eq!(shown, "█████░░░░░░░░░░░░░░░  1.0 GB of 4.0 GB  500 MB/s  6 s left  a/session.jsonl");
    }

    #[test]
    fn the_line_fits_into_any_terminal() {
        let name = "logs/日本/".repeat(20);
        for columns in 40..=160 {
            for (done, total) in [(0, 1), (1, 3), (u64::MAX / 2, u64::MAX), (10, 5)] {
                let shown = line(&name, done, total, Duration::from_millis(700), columns);
                let used: usize = shown.chars().map(|c| text::width(c).unwrap()).sum();
                assert!(used < columns, "{used} columns of {columns}: {shown}");
            }
        }
    }
}
