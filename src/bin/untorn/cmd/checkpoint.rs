//! `untorn checkpoint`: how far consumers have come, and the way to make one start anew.

use std::path::{Path, PathBuf};

use serde::Serialize;
use untorn::{ConsumerState, ErrorKind, SourceState};

use crate::{
    exit::{Exit, Stop, help},
    interrupt,
    output::Output,
    say::{self, STRONG, bad, notable, styled},
    text::{self, Shown, count, grouped},
};

/// Show how far consumers have come, or make one start anew
#[derive(Debug, clap::Args)]
#[command(after_help = help(), subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Show),
    Reset(Reset),
}

/// Show the state that each consumer has saved last
///
/// Nothing is written, so the consumers may be at work.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
struct Show {
    /// The directory with the checkpoints, or the one of a single consumer
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Only the consumer of this name
    #[arg(long)]
    name: Option<String>,

    /// Print one JSON object for each consumer
    #[arg(long)]
    json: bool,
}

/// Make consumers start anew, with the first record kept of each source
///
/// Nothing is asked. The state that a consumer had is kept beside the new one.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
struct Reset {
    /// The directory with the checkpoints, or the one of a single consumer
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    which: Which,

    /// Print one JSON object for each consumer
    #[arg(long)]
    json: bool,
}

/// All of them only if that is said.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The consumer of this name
    #[arg(long)]
    name: Option<String>,

    /// All consumers in the directory
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    match &args.command {
        Command::Show(args) => show(args),
        Command::Reset(args) => reset(args),
    }
}

/// One consumer, as its files tell.
struct Consumer {
    name: String,
    /// Its own directory.
    dir: PathBuf,
    state: untorn::Result<ConsumerState>,
}

/// The consumers in a directory, or the one that was asked for.
fn consumers(dir: &Path, name: Option<&str>) -> Result<Vec<Consumer>, Stop> {
    let mut found = Vec::new();
    for state in untorn::checkpoints(dir)? {
        let file = match &state {
            Ok(state) => Some(state.path.as_path()),
            Err(error) => error.path(),
        };
        let dir = file.and_then(Path::parent).unwrap_or(dir).to_owned();
        // `.` is the directory of a consumer too.
        let named = std::path::absolute(&dir).ok().and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned()));
        let consumer = Consumer { name: named.unwrap_or_default(), dir, state };
        if name.is_none_or(|name| name == consumer.name) {
            found.push(consumer);
        }
    }
    if found.is_empty() {
        let who = name.map_or("no consumer".to_owned(), |name| format!("no consumer `{name}`"));
        say::message(Shown(format_args!("{who} has saved anything in `{}`", dir.display())));
        return if name.is_some() { Err(Stop::Told) } else { Ok(found) };
    }
    Ok(found)
}

fn show(args: &Show) -> Result<Exit, Stop> {
    let mut output = Output::new();
    let mut exit = Exit::Done;
    for consumer in consumers(&args.dir, args.name.as_deref())? {
        match &consumer.state {
            Ok(state) => {
                if args.json {
                    output.json(&ToldState::of(&consumer.name, state))?;
                } else {
                    tell(&consumer.name, state);
                }
                if let Some(why) = &state.fell_back {
                    say::error(why);
                    say::message(format_args!("{}: the state before the last one is shown, and used", Shown(&consumer.name)));
                    exit = exit.max(Exit::Damage);
                }
            }
            Err(error) => {
                say::error(error);
                if error.kind() == ErrorKind::Corrupt {
                    let dir = consumer.dir.parent().unwrap_or(Path::new(""));
                    let name = Path::new(&consumer.name);
                    say::hint(format_args!(
                        "the consumer will start anew; `untorn checkpoint reset {} --name {}` writes a whole state",
                        text::quoted(dir),
                        text::quoted(name)
                    ));
                }
                exit = exit.max(if error.kind() == ErrorKind::Corrupt { Exit::Damage } else { Exit::Failed });
            }
        }
    }
    output.flush()?;
    Ok(exit)
}

fn tell(name: &str, state: &ConsumerState) {
    let (saves, sources) = (grouped(state.generation), count(state.sources.len() as u64, "source"));
    let name = styled(STRONG, Shown(name));
    say::lines(format_args!("{name}: {sources}, saved {} (generation {saves})", Shown(&state.saved_at)));
    let shown = |source: &SourceState| {
        let path = source.checkpoint.path().map_or("path unknown".to_owned(), |path| Shown(path.display()).to_string());
        (path, place(source))
    };
    let rows: Vec<(String, String)> = state.sources.iter().map(shown).collect();
    let width = rows.iter().map(|(path, _)| path.chars().count()).max().unwrap_or_default();
    for ((path, place), source) in rows.iter().zip(&state.sources) {
        let rejected = match source.rejected {
            0 => String::new(),
            rejected => format!(", {}", bad(format_args!("{} rejected", grouped(rejected)))),
        };
        say::lines(format_args!("  {path:<width$}  {place}{rejected}"));
    }
}

/// The last acknowledged record, by its number or by where it ends.
fn place(source: &SourceState) -> String {
    let Some(mark) = source.checkpoint.mark() else { return notable("nothing acknowledged yet") };
    match mark.seq {
        Some(seq) => format!("#{}", grouped(seq)),
        None if mark.end.segment == 1 => format!("byte {}", grouped(mark.end.offset)),
        None => format!("segment {}, byte {}", grouped(mark.end.segment), grouped(mark.end.offset)),
    }
}

fn reset(args: &Reset) -> Result<Exit, Stop> {
    interrupt::end_between_steps();
    let mut output = Output::new();
    let mut exit = Exit::Done;
    let name = args.which.name.as_deref().filter(|_| !args.which.all);
    for consumer in consumers(&args.dir, name)? {
        let dir = consumer.dir.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let done = interrupt::unbroken(|| reset_one(&consumer, dir, args.json, &mut output).and_then(|exit| output.flush().map(|()| exit)));
        match exit.and(done) {
            Some(so_far) => exit = so_far,
            None => break,
        }
        if interrupt::is_requested() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit)
}

fn reset_one(consumer: &Consumer, dir: &Path, json: bool, output: &mut Output) -> Result<Exit, Stop> {
    let had = untorn::reset_checkpoint(dir, &consumer.name)?;
    let sources = had.as_ref().map_or(0, |had| had.sources.len() as u64);
    let previous = consumer.dir.join("checkpoint.jsonl.previous");
    if json {
        let previous = previous.to_string_lossy().into_owned();
        output.json(&ToldReset { schema: "untorn.checkpoint-reset.v1", name: &consumer.name, sources, was_damaged: had.is_none(), previous })?;
        return Ok(Exit::Done);
    }
    let name = styled(STRONG, Shown(&consumer.name));
    match &had {
        Some(_) => {
            say::lines(format_args!("{name}: starts anew with {}", count(sources, "source")));
            say::lines(format_args!("  the state that it had is in {}", Shown(previous.display())));
        }
        None => say::lines(format_args!("{name}: starts anew; the state that it had was damaged")),
    }
    Ok(Exit::Done)
}

/// What is printed of one consumer.
#[derive(Serialize)]
struct ToldState<'a> {
    schema: &'static str,
    name: &'a str,
    path: String,
    generation: u64,
    saved_at: &'a str,
    /// Why this is the state before the last one.
    fell_back: Option<String>,
    sources: Vec<ToldSource>,
}

#[derive(Serialize)]
struct ToldSource {
    path: Option<String>,
    seq: Option<u64>,
    crc: Option<String>,
    segment: Option<u64>,
    offset: Option<u64>,
    generation: u64,
    rejected: u64,
}

#[derive(Serialize)]
struct ToldReset<'a> {
    schema: &'static str,
    name: &'a str,
    sources: u64,
    was_damaged: bool,
    previous: String,
}

impl ToldState<'_> {
    fn of<'a>(name: &'a str, state: &'a ConsumerState) -> ToldState<'a> {
        let source = |source: &SourceState| {
            let mark = source.checkpoint.mark();
            ToldSource {
                path: source.checkpoint.path().map(|path| path.to_string_lossy().into_owned()),
                seq: source.checkpoint.seq(),
                crc: mark.map(|mark| format!("{:08x}", mark.crc)),
                segment: mark.map(|mark| mark.end.segment),
                offset: mark.map(|mark| mark.end.offset),
                generation: source.checkpoint.generation(),
                rejected: source.rejected,
            }
        };
        ToldState {
            schema: "untorn.checkpoint.v1",
            name,
            path: state.path.to_string_lossy().into_owned(),
            generation: state.generation,
            saved_at: &state.saved_at,
            fell_back: state.fell_back.as_ref().map(ToString::to_string),
            sources: state.sources.iter().map(source).collect(),
        }
    }
}
