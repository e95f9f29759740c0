//! What a verification comes to: a few lines for one journal, one line for each of many, one for all.

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::{Duration, Instant},
};

use untorn::{Code, Report, Severity};

use crate::{
    compressed,
    say::{self, bad, good, notable},
    source::Source,
    text::{self, Shown, count, grouped},
};

/// The columns for a path in a row; on a terminal a longer one loses its beginning.
const PATH_COLUMNS: usize = 25;

/// The columns for the codes in a row.
const CODES_COLUMNS: usize = 14;

/// `sealed` if any record is, `plain` if all are, `empty` if there is none.
pub(crate) fn form(report: &Report) -> &'static str {
    match (report.is_sealed(), report.plain()) {
        (true, _) => "sealed",
        (false, 0) => "empty",
        (false, _) => "plain",
    }
}

/// The same for people: what has bytes but no record is not empty.
pub(crate) fn in_words(form: &'static str, bytes: u64) -> &'static str {
    if form == "empty" && bytes > 0 { "no whole record" } else { form }
}

/// Says what one journal holds and how much of it is damaged, and what to do next.
pub(crate) fn of_journal(source: &Source, report: &Report, damaged_places: u64) {
    let name = source.name(report.path());
    let path = Shown(name.display());
    if report.is_clean() {
        say::lines(format_args!("{path}: {}, {}", clean(report), holds(report)));
        return;
    }
    let form = in_words(form(report), report.bytes());
    say::lines(format_args!("{path}: {form}, {} and {}{}", count(report.bytes(), "byte"), count(report.lines(), "line"), tail(report)));
    let good = report.good();
    let segment = if good.path.file_name() == report.path().file_name() { String::new() } else { format!(" of {}", Shown(good.path.display())) };
    let records = count(report.records(), "whole record");
    say::lines(format_args!("  good up to  byte {} (line {}){segment}; {records}", grouped(good.offset), grouped(good.line)));
    if damaged_places == 0 {
        say::lines(format_args!("  damaged     no bytes, but {}", count(severities(report, Severity::Warning), "warning")));
        return;
    }
    let salvageable = match report.salvageable() {
        0 => "none of it can be salvaged".to_owned(),
        records => format!("{} can be salvaged", count(records, "more record")),
    };
    let places = count(damaged_places, "place");
    say::lines(format_args!("  damaged     {} in {places}; {salvageable}", count(report.damaged_bytes(), "byte")));
    if report.count(Code::NewerFormat) > 0 {
        say::hint(format_args!("this is untorn {}; a newer one reads those lines", env!("CARGO_PKG_VERSION")));
    } else if let Some(kind) = compressed::of_file(source.path()) {
        say::hint(format_args!("it is compressed; `untorn repair` takes what `{} {}` gives", kind.undo, text::quoted(name)));
    } else if let Source::Named(_) = source {
        say::hint(format_args!("`untorn repair {}` shows what would be done", text::quoted(name)));
    }
}

/// `clean`, and what is worth knowing beside it.
pub(crate) fn clean(report: &Report) -> String {
    let what = match (report.is_live(), severities(report, Severity::Warning)) {
        (false, 0) => return good("clean"),
        (false, warnings) => format!(", {}", count(warnings, "warning")),
        (true, 0) => ", a writer is at work".to_owned(),
        (true, warnings) => format!(", {}, a writer is at work", count(warnings, "warning")),
    };
    format!("{}{what}", good("clean"))
}

fn holds(report: &Report) -> String {
    if form(report) == "empty" {
        return format!("{}, no records", count(report.bytes(), "byte"));
    }
    let numbers = match (report.first_seq(), report.last_seq()) {
        (Some(first), Some(last)) => format!(", #{} to #{}", grouped(first), grouped(last)),
        _ => String::new(),
    };
    format!("{}, {}, {}{numbers}", form(report), count(report.bytes(), "byte"), count(report.records(), "record"))
}

/// What stands behind the last LF.
fn tail(report: &Report) -> &'static str {
    if report.count(Code::TornTail) > 0 {
        ", with a torn tail"
    } else if report.count(Code::Unterminated) > 0 {
        ", the last one without LF"
    } else {
        ""
    }
}

/// How many lines were found to be damaged.
pub(crate) fn errors(report: &Report) -> u64 {
    severities(report, Severity::Error)
}

/// How many lines were found to be as bad as this.
fn severities(report: &Report, severity: Severity) -> u64 {
    report.codes().filter(|(code, _)| code.severity() == severity).map(|(_, count)| count).sum()
}

/// One line for a journal among many; none if there is nothing to say of it.
pub(crate) fn row(name: &Path, report: &Report) {
    let path = fitting(name);
    if !report.is_clean() {
        let errors = severities(report, Severity::Error);
        let warnings = severities(report, Severity::Warning);
        let (found, worst) = if errors > 0 { (count(errors, "error"), Severity::Error) } else { (count(warnings, "warning"), Severity::Warning) };
        let bytes = count(report.damaged_bytes(), "byte");
        let salvageable = format!("{} salvageable", grouped(report.salvageable()));
        let found = say::styled(say::style_of(worst), format_args!("{found:<9}"));
        say::lines(format_args!("{path}  {found} {bytes:>11}  {salvageable:>13}  {}", codes(report, worst)));
    } else if report.count(Code::InFlight) > 0 {
        say::lines(format_args!("{path}  {} in-flight: a writer is at work", notable(format_args!("{:<9}", "live"))));
    }
}

/// The codes that are at least so bad, as many as fit.
fn codes(report: &Report, severity: Severity) -> String {
    let codes = report.codes().filter(|(code, _)| code.severity() >= severity).map(|(code, _)| code.as_str());
    let codes = codes.collect::<Vec<_>>().join(" ");
    match codes.get(..CODES_COLUMNS) {
        Some(start) if codes.len() > CODES_COLUMNS => format!("{start}…"),
        _ => codes,
    }
}

/// A path in a row.
pub(crate) fn fitting(path: &Path) -> String {
    let path = Shown(path.display()).to_string();
    let columns = path.chars().count();
    if columns > PATH_COLUMNS && io::stderr().is_terminal() {
        let end: String = path.chars().skip(columns - PATH_COLUMNS + 1).collect();
        return format!("…{end}");
    }
    format!("{path:<PATH_COLUMNS$}")
}

/// What many verifications come to.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) unreadable: u64,
    clean: u64,
    damaged: u64,
    live: u64,
    bytes: u64,
    since: Instant,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals { unreadable: 0, clean: 0, damaged: 0, live: 0, bytes: 0, since: Instant::now() }
    }
}

impl Totals {
    /// Counts a journal once: as damaged, else as live, else as clean.
    pub(crate) fn add(&mut self, report: &Report) {
        self.bytes += report.bytes();
        match (report.is_clean(), report.is_live()) {
            (false, _) => self.damaged += 1,
            (true, true) => self.live += 1,
            (true, false) => self.clean += 1,
        }
    }

    pub(crate) fn journals(&self) -> u64 {
        self.clean + self.damaged + self.live + self.unreadable
    }
}

/// Says what all journals come to. How long it took is said if anybody noticed.
pub(crate) fn of_all(totals: &Totals) {
    let took = totals.since.elapsed();
    let took = if took < Duration::from_secs(1) { String::new() } else { format!(" in {} s", grouped(took.as_secs())) };
    let told = |number: u64, what: &str, style: fn(String) -> String| {
        let text = format!("{} {what}", grouped(number));
        if number == 0 { text } else { style(text) }
    };
    say::lines(format_args!(
        "{}, {}{took}: {}, {}, {}, {}",
        count(totals.journals(), "journal"),
        text::size(totals.bytes),
        told(totals.clean, "clean", good),
        told(totals.damaged, "damaged", bad),
        told(totals.live, "live", notable),
        told(totals.unreadable, "unreadable", bad),
    ));
}
