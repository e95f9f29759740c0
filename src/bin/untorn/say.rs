//! Words for people: everything on stderr goes through here.

use std::{error::Error as _, fmt::Display, io::Write};

use anstyle::{AnsiColor, Color, Style};
use untorn::{ErrorKind, Severity};

use crate::{exit::Failure, text::Shown};

const fn bold(color: AnsiColor) -> Style {
    Style::new().bold().fg_color(Some(Color::Ansi(color)))
}

// Colours that read on light and dark alike: no yellow or cyan without bold, no white, no black.
const ERROR: Style = bold(AnsiColor::Red);
const WARNING: Style = bold(AnsiColor::Yellow);
const NOTICE: Style = bold(AnsiColor::Blue);
const HINT: Style = bold(AnsiColor::Cyan);
const GOOD: Style = bold(AnsiColor::Green);

/// Headings, and what stands out without being good or bad.
pub(crate) const TITLE: Style = Style::new().bold().underline();
pub(crate) const STRONG: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();

pub(crate) fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Error => ERROR,
        Severity::Warning => WARNING,
        Severity::Notice => NOTICE,
    }
}

pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

pub(crate) fn good(text: impl Display) -> String {
    styled(GOOD, text)
}

pub(crate) fn bad(text: impl Display) -> String {
    styled(ERROR, text)
}

/// Lines that may have colours in them. That stderr is gone or full is nothing that could be told.
pub(crate) fn lines(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// One line of a command that may stand in a pipeline, so it says whose it is.
pub(crate) fn message(text: impl Display) {
    lines(format_args!("untorn: {text}"));
}

/// What the user can do next.
pub(crate) fn hint(text: impl Display) {
    lines(format_args!("{} {}", styled(HINT, "hint:"), Shown(text)));
}

/// What could not be done and why, the whole chain in one line, and what to do about it.
pub(crate) fn failure(failure: &Failure) {
    match failure {
        Failure::System(attempt, cause) => message(Shown(format_args!("cannot {attempt}: {cause}"))),
        Failure::Journal(error) => {
            message(Shown(chain(error)));
            if let Some(rollback) = error.rollback_error() {
                message(Shown(chain(rollback)));
            }
            if let Some(way_out) = way_out(error) {
                hint(way_out);
            }
        }
    }
}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &untorn::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn way_out(error: &untorn::Error) -> Option<String> {
    let text = match error.kind() {
        ErrorKind::Locked => "`--lock-wait forever` waits until the journal is free".to_owned(),
        ErrorKind::NewerFormat => format!("this is untorn {}; a newer one wrote that line and can read it", env!("CARGO_PKG_VERSION")),
        ErrorKind::NotSealed => "only a sealed journal has numbers and batches; one is made by `untorn append --format sealed NEW`".to_owned(),
        ErrorKind::DurabilityUnknown => "check the disk; then `untorn verify` shows which records are there".to_owned(),
        ErrorKind::NoSpace => "nothing that is whole was lost; append again when there is room".to_owned(),
        _ => return None,
    };
    Some(text)
}
