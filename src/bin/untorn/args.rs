//! The command line: its shape, and the values that several commands take.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Parser, Subcommand, ValueEnum,
    builder::Styles,
    error::{ContextKind, ContextValue},
};
use jiff::fmt::friendly::SpanParser;
use untorn::{Durability, Format, LockWait};

use crate::{
    cmd::{append, archive, cat, checkpoint, completions, consume, prune, repair, rotate, seal, snapshot, stat, tail, verify},
    exit::{self, Exit, Stop},
    output, say,
    text::Shown,
};

const STYLES: Styles = Styles::plain().header(say::TITLE).usage(say::TITLE).literal(say::STRONG);

/// A crash-safe, append-only JSON Lines journal: nothing torn, nothing glued, nothing lost.
///
/// Records go to stdout, words to stderr.
#[derive(Debug, Parser)]
#[command(name = "untorn", version, styles = STYLES, max_term_width = 80, after_help = exit::help())]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Line {
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: When,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Append(append::Args),
    Cat(cat::Args),
    Tail(tail::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Stat(stat::Args),
    Consume(consume::Args),
    Rotate(rotate::Args),
    Archive(archive::Args),
    Prune(prune::Args),
    Seal(seal::Seal),
    Unseal(seal::Unseal),
    Checkpoint(checkpoint::Args),
    Snapshot(snapshot::Args),
    Completions(completions::Completions),
    Man(completions::Man),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// Reads the command line and settles the colours; or prints the help that was asked for, or what is wrong.
pub(crate) fn parse() -> Result<Command, Exit> {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(usage) if usage.use_stderr() => {
            say::lines(shown(usage).render().ansi().to_string().trim_end());
            return Err(Exit::Failed);
        }
        Err(help) => return Err(Exit::Done.and(print(&help)).unwrap_or_default()),
    };
    let choice = match line.color {
        When::Auto => anstream::ColorChoice::Auto,
        When::Always => anstream::ColorChoice::Always,
        When::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    Ok(line.command)
}

fn print(help: &clap::Error) -> Result<Exit, Stop> {
    let mut stdout = anstream::AutoStream::auto(io::stdout());
    let printed = write!(stdout, "{}", help.render().ansi()).and_then(|()| stdout.flush());
    printed.map(|()| Exit::Done).map_err(output::stop)
}

/// A usage error in which no argument can touch the terminal.
fn shown(mut usage: clap::Error) -> clap::Error {
    let given = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg, ContextKind::InvalidValue, ContextKind::TrailingArg];
    for kind in given {
        let Some(ContextValue::String(argument)) = usage.get(kind) else { continue };
        let shown = Shown(argument).to_string();
        if shown != *argument {
            usage.insert(kind, ContextValue::String(shown));
            // It would have the argument in it as well.
            usage.remove(ContextKind::Suggested);
        }
    }
    usage
}

/// A journal to append to.
pub(crate) fn journal(argument: OsString) -> Result<PathBuf, String> {
    if argument == "-" { Err("records cannot be appended to stdout; `./-` names a file".to_owned()) } else { Ok(argument.into()) }
}

/// A file that is to be created.
pub(crate) fn new_file(argument: OsString) -> Result<PathBuf, String> {
    if argument == "-" { Err("it is a file that appears whole or not at all; `./-` names one".to_owned()) } else { Ok(argument.into()) }
}

pub(crate) fn durability(argument: &str) -> Result<Durability, String> {
    match argument {
        "always" => Ok(Durability::Sync),
        "never" => Ok(Durability::Os),
        _ => duration(argument).map(Durability::Interval),
    }
}

pub(crate) fn lock_wait(argument: &str) -> Result<LockWait, String> {
    match argument {
        "never" => Ok(LockWait::Never),
        "forever" => Ok(LockWait::Forever),
        _ => duration(argument).map(LockWait::For),
    }
}

pub(crate) fn duration(argument: &str) -> Result<Duration, String> {
    SpanParser::new().parse_unsigned_duration(argument).map_err(|_| "not a duration such as `500ms`, `2s` or `1m`".to_owned())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FormArg {
    /// What the file has already; sealed for a new one
    Auto,
    /// Each line carries its number and its CRC
    Sealed,
    /// Each line is the payload and nothing else
    Plain,
}

impl From<FormArg> for Format {
    fn from(form: FormArg) -> Format {
        match form {
            FormArg::Auto => Format::Auto,
            FormArg::Sealed => Format::Sealed,
            FormArg::Plain => Format::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [("500ms", 500), ("2s", 2000), ("1m", 60_000), ("1m 30s", 90_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "2", "-1s", "soon", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
