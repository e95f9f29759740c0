//! Words for people: everything on stderr goes through here.

use std::{error::Error as _, fmt::Display, io::Write};

use anstyle::{AnsiColor, Color, Style};
use untorn::{ErrorKind, Severity};

use crate::{exit::Failure, progress, text::Shown};

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

pub(crate) fn good<T: Display>(text: T) -> String {
    styled(GOOD, text)
}

pub(crate) fn bad<T: Display>(text: T) -> String {
    styled(ERROR, text)
}

pub(crate) fn notable<T: Display>(text: T) -> String {
    styled(NOTICE, text)
}

/// Lines that may have colours in them. That stderr is gone or full is nothing that could be told.
pub(crate) fn lines(text: impl Display) {
    // As a whole: piece by piece, a line would be as many system calls, and could be mixed with another process's.
    let text = format!("{text}\n");
    let mut stderr = std::io::stderr().lock();
    progress::erase(&mut stderr);
    let _ = match anstream::AutoStream::choice(&stderr) {
        anstream::ColorChoice::Never => stderr.write_all(anstream::adapter::strip_str(&text).to_string().as_bytes()),
        _ => stderr.write_all(text.as_bytes()),
    };
}

/// One line of a command that may stand in a pipeline, so it says whose it is.
pub(crate) fn message(text: impl Display) {
    lines(format_args!("untorn: {text}"));
}

/// What the user can do next.
pub(crate) fn hint(text: impl Display) {
    lines(format_args!("{} {}", styled(HINT, "hint:"), Shown(text)));
}

/// What could not be done and why, and what to do about it.
pub(crate) fn failure(failure: &Failure) {
    match failure {
        Failure::System(attempt, cause) => message(Shown(format_args!("cannot {attempt}: {cause}"))),
        Failure::Journal(cause) => {
            error(cause);
            way_out(cause);
        }
    }
}

/// What went wrong with a journal and why, the whole chain in one line.
pub(crate) fn error(error: &untorn::Error) {
    message(Shown(chain(error)));
    if let Some(rollback) = error.rollback_error() {
        message(Shown(chain(rollback)));
    }
}

/// An error and its causes, each said once.
fn chain(error: &untorn::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What to do about an error, where the user can do something.
pub(crate) fn way_out(error: &untorn::Error) {
    match error.kind() {
        ErrorKind::Locked => hint("`--lock-wait forever` waits until the journal is free"),
        ErrorKind::NameInUse => hint("a name belongs to one process at a time; end that one, or take another name"),
        ErrorKind::NewerFormat => hint(format_args!("this is untorn {}; a newer one reads that line", env!("CARGO_PKG_VERSION"))),
        ErrorKind::NotSealed => hint("only a sealed journal has numbers and batches; `untorn seal IN OUT` makes a sealed copy"),
        ErrorKind::NoSpace => hint("make room, and do again what was not done"),
        ErrorKind::DurabilityUnknown => hint("check the disk; after that, `untorn verify` shows which records are there"),
        _ => {}
    }
}
