//! `untorn repair`: damage is taken out of journals, and what can be trusted of it is kept.
//!
//! What is done to a journal is done file by file, archived segments first. ^C waits for the file at hand.

use std::{
    ffi::{OsStr, OsString},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use untorn::{Action, ErrorKind, Process, RepairMethod, RepairOptions, RepairPlan, Repaired, Undone, Unterminated, VerifyOptions, What};

use crate::{
    args, compressed,
    exit::{Exit, Failure, Stop, help},
    interrupt::{self, Step},
    journals,
    new_file::{self, NewFile},
    output::Output,
    progress::Progress,
    repairs::{self, Totals, Verified},
    say,
    source::Source,
    text,
};

/// How often a file is planned for again because it changed before the repair had its lock.
const TRIES_MAX: u32 = 5;

/// Take damage out of journals, and keep every byte of it
///
/// Without `--write`, `--output` or `--undo`, the plan is shown and nothing is changed. Whole records inside damaged lines get lines of their own;
/// each byte that is taken out is kept in FILE.quarantine first.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Repair the journals in directories; those that somebody is writing are named and left alone
    #[arg(short, long)]
    recursive: bool,

    /// Do what the plan says
    #[arg(long, conflicts_with_all = ["output", "undo"])]
    write: bool,

    /// Leave FILE alone, and write what a repair would leave into a new file
    #[arg(long, value_name = "OUT", conflicts_with_all = ["undo", "recursive"], value_parser = OsStringValueParser::new().try_map(args::new_file))]
    output: Option<PathBuf>,

    /// Take back the newest repair of each file; once more, the one before
    #[arg(long)]
    undo: bool,

    /// Do not keep the old file, which the quarantine can rebuild
    #[arg(long)]
    no_backup: bool,

    /// Take damaged lines out whole, also where there are records in them
    #[arg(long)]
    no_salvage: bool,

    /// Take out a last record that lacks only its LF
    #[arg(long)]
    drop_unterminated: bool,

    /// Repair although a process that does not take the lock has the file open for writing
    #[arg(long)]
    force: bool,

    /// Show no part of what is in the files; of a repair, only places and counts are ever shown
    #[arg(long)]
    no_content: bool,

    /// Print one JSON object for each file
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    interrupt::end_between_steps();
    let mut run = Run { args, output: Output::new(), exit: Exit::Done, totals: Totals::default() };
    let targets = journals::named(&args.files, args.recursive, &mut |path, error| {
        say::failure(&Failure::System(format!("list `{}`", path.display()), error));
        run.exit = Exit::Failed;
        run.totals.failed += 1;
    });
    for target in targets {
        let Some(exit) = run.journal(&target) else { return Ok(run.exit) };
        run.exit = exit;
        if interrupt::is_requested() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(run.close())
}

/// One run of the command.
struct Run<'a> {
    args: &'a Args,
    output: Output,
    exit: Exit,
    totals: Totals,
}

/// What was done to a file, or is to be.
enum Outcome {
    Clean(RepairPlan),
    Planned(RepairPlan),
    Repaired(Done),
    /// A new file has what a repair would leave.
    Written(Repaired),
    /// Left alone, because of who is at work on it.
    Live(RepairPlan, Process),
    Undone(Undone),
    /// Compressed, so it is not looked at.
    LeftOut,
}

/// A repair that was done.
pub(crate) struct Done {
    pub(crate) repaired: Repaired,
    /// How many ranges are in quarantine.
    pub(crate) ranges: usize,
    pub(crate) verified: Verified,
}

impl Run<'_> {
    /// Deals with all files of one journal. `None` if nobody is left to read what would come next.
    fn journal(&mut self, target: &OsStr) -> Option<Exit> {
        let (source, files) = match self.files(target) {
            Ok(found) => found,
            Err(stop) => {
                self.totals.failed += 1;
                return self.exit.and(Err(stop));
            }
        };
        let mut exit = self.exit;
        let mut last = None;
        for file in files {
            let told = self.file(&source, &file, target).and_then(|(outcome, _step)| self.tell(&source, &file, &outcome).map(|exit| (exit, outcome)));
            self.totals.failed += u64::from(matches!(told, Err(Stop::Failed(_) | Stop::Told)));
            exit = exit.and(told.map(|(exit, outcome)| {
                if !matches!(outcome, Outcome::Clean(_) | Outcome::LeftOut) {
                    last = Some(outcome);
                }
                exit
            }))?;
            if interrupt::is_requested() {
                break;
            }
        }
        if let Some(outcome) = last.filter(|_| !(self.args.json || self.args.recursive)) {
            self.hint(target, &outcome);
        }
        Some(exit)
    }

    fn files(&self, target: &OsStr) -> Result<(Source, Vec<PathBuf>), Stop> {
        if target == "-" && (self.args.write || self.args.undo) {
            say::message("stdin cannot be repaired in place");
            say::hint("`--output OUT` writes what a repair leaves into a new file");
            return Err(Stop::Told);
        }
        let source = Source::open(target)?;
        let path = source.path().to_owned();
        let files = match &source {
            Source::Named(_) if path.is_dir() => vec![path],
            Source::Named(_) => {
                journals::files_of(&path).map_err(|error| Stop::system(format!("list the segments of `{}`", path.display()), error))?
            }
            Source::Stdin(_) => vec![path],
        };
        let plain = files.iter().filter(|file| compressed::of_file(file).is_none()).count();
        if self.args.output.is_some() && (plain > 1 || self.args.files.len() > 1) {
            say::message("`--output` is for one file; name one segment at a time");
            return Err(Stop::Told);
        }
        Ok((source, files))
    }

    /// Plans and does what is to be done to one file. What was changed is to be told before its step is over.
    fn file(&self, source: &Source, file: &Path, target: &OsStr) -> Result<(Outcome, Option<Step>), Stop> {
        let is_named = file == Path::new(target) && !self.args.recursive;
        if !is_named && compressed::of_file(file).is_some() {
            return Ok((Outcome::LeftOut, None));
        }
        let outcome = match &self.args.output {
            Some(out) => {
                new_file::refuse_existing(out)?;
                match self.plan(source, file) {
                    Ok(plan) => {
                        let step = Step::begin();
                        let new = NewFile::at(out)?;
                        let written = plan.write_to(new.draft());
                        if written.is_ok() {
                            new.install()?;
                        }
                        written.map(|written| (Outcome::Written(written), Some(step)))
                    }
                    Err(error) => Err(error),
                }
            }
            None if self.args.undo => {
                let step = Step::begin();
                self.options().undo(file).map(|undone| (Outcome::Undone(undone), Some(step)))
            }
            None => self.repair(source, file),
        };
        outcome.map_err(|error| explained(error, source.name(file)))
    }

    fn options(&self) -> RepairOptions {
        let mut options = RepairOptions::new();
        if self.args.no_backup {
            options.without_backup();
        }
        if self.args.no_salvage {
            options.without_salvage();
        }
        if self.args.drop_unterminated {
            options.unterminated(Unterminated::Quarantine);
        }
        if self.args.force {
            options.force();
        }
        options
    }

    fn plan(&self, source: &Source, file: &Path) -> untorn::Result<RepairPlan> {
        let mut progress = Progress::of(source.name(file));
        self.options().plan_with(file, &mut |at| progress.at(at.bytes_done, at.bytes_total))
    }

    fn repair(&self, source: &Source, file: &Path) -> untorn::Result<(Outcome, Option<Step>)> {
        let mut tries = 0;
        loop {
            let plan = self.plan(source, file)?;
            if plan.is_empty() {
                return Ok((Outcome::Clean(plan), None));
            }
            if self.args.recursive
                && let Some(process) = self.who_is_at_work(file)?
            {
                return Ok((Outcome::Live(plan, process), None));
            }
            if !self.args.write {
                return Ok((Outcome::Planned(plan), None));
            }
            let ranges = plan.actions().iter().filter(|action| action.what == What::Remove).count();
            tries += 1;
            // What was done must be told, so ^C does not end it while it is verified either; it only breaks that off.
            let step = Step::begin();
            match plan.apply().map(|repaired| Done { repaired, ranges, verified: verify(file) }) {
                Err(error) if error.kind() == ErrorKind::Changed && tries < TRIES_MAX => {}
                Err(error) => return Err(error),
                Ok(done) => return Ok((Outcome::Repaired(done), Some(step))),
            }
        }
    }

    /// Who would be disturbed by a repair, or would stop it.
    fn who_is_at_work(&self, file: &Path) -> untorn::Result<Option<Process>> {
        let strangers = if self.args.force { Vec::new() } else { untorn::strangers(file)? };
        strangers.into_iter().next().map_or_else(|| untorn::lock_holder(file), |stranger| Ok(Some(stranger)))
    }

    /// Says what was done, and counts it.
    fn tell(&mut self, source: &Source, file: &Path, outcome: &Outcome) -> Result<Exit, Stop> {
        let name = source.name(file);
        if self.args.json {
            self.print(name, outcome)?;
        }
        let (is_told, is_row) = (!self.args.json, self.args.recursive);
        Ok(match outcome {
            Outcome::Clean(_) => {
                self.totals.clean += 1;
                if is_told && !is_row {
                    repairs::nothing_to_do(name);
                }
                Exit::Done
            }
            Outcome::Planned(plan) => {
                self.totals.planned += 1;
                match (is_told, is_row) {
                    (true, true) => repairs::plan_row(name, plan),
                    (true, false) => repairs::plan(name, plan, self.who_is_at_work(file)?),
                    (false, _) => {}
                }
                Exit::Damage
            }
            Outcome::Repaired(done) => {
                let is_clean = done.repaired.remaining == 0 && done.verified.is_clean() != Some(false);
                self.totals.repaired += 1;
                match (is_told, is_row) {
                    (true, true) => repairs::repaired_row(name, done),
                    (true, false) => repairs::repaired(name, done),
                    (false, _) => {}
                }
                match done.verified {
                    Verified::Unreadable => Exit::Failed,
                    _ if is_clean => Exit::Done,
                    _ => Exit::Damage,
                }
            }
            Outcome::Written(repaired) => {
                self.totals.repaired += 1;
                if let Some(out) = self.args.output.as_ref().filter(|_| is_told) {
                    repairs::written(name, repaired, out);
                }
                Exit::Done
            }
            Outcome::LeftOut => {
                self.totals.left_out += 1;
                match (is_told, is_row) {
                    (true, true) => repairs::left_out_row(name),
                    (true, false) => repairs::left_out(name),
                    (false, _) => {}
                }
                Exit::Done
            }
            Outcome::Live(plan, process) => {
                self.totals.live += 1;
                if is_told {
                    repairs::live_row(name, process);
                }
                // What is unfinished at the end may be a line that is being written.
                if plan.how() == RepairMethod::InPlace { Exit::Done } else { Exit::Damage }
            }
            Outcome::Undone(undone) => {
                match undone {
                    Undone::Nothing => self.totals.clean += 1,
                    _ => self.totals.undone += 1,
                }
                if is_told && !(is_row && *undone == Undone::Nothing) {
                    repairs::undone(name, undone);
                }
                Exit::Done
            }
        })
    }

    fn print(&mut self, name: &Path, outcome: &Outcome) -> Result<(), Stop> {
        let path = name.to_string_lossy().into_owned();
        match outcome {
            Outcome::Clean(plan) | Outcome::Planned(plan) => self.output.json(&Told::planned(path, plan))?,
            Outcome::Live(plan, _) => self.output.json(&Told { live: true, ..Told::planned(path, plan) })?,
            Outcome::Written(repaired) => {
                // The journal itself has not changed, and nothing went to quarantine.
                let output = self.args.output.as_deref().map(shown);
                self.output.json(&Told { changed: false, output, ..Told::done(path, repaired) })?;
            }
            Outcome::Repaired(done) => {
                self.output.json(&Told { verified: done.verified.is_clean(), ..Told::done(path, &done.repaired) })?;
            }
            Outcome::Undone(undone) => self.output.json(&TakenBack::of(path, undone))?,
            Outcome::LeftOut => self.output.json(&Told { schema: Told::SCHEMA, path, compressed: true, ..Told::default() })?,
        }
        self.output.flush()
    }

    /// Says what can be done next with this journal.
    fn hint(&self, target: &OsStr, outcome: &Outcome) {
        let target = text::quoted(Path::new(target));
        match outcome {
            Outcome::Planned(_) if target == "-" => say::hint("`--output OUT` writes what a repair leaves into a new file"),
            Outcome::Planned(_) => say::hint(format_args!("`untorn repair --write{} {target}` does it, `--undo` takes it back", self.choices())),
            Outcome::Repaired(_) => say::hint(format_args!("`untorn repair --undo {target}` gives the old file back")),
            _ => {}
        }
    }

    /// The options that shape a plan, as they were given.
    fn choices(&self) -> String {
        let Args { no_backup, no_salvage, drop_unterminated, force, no_content, .. } = self.args;
        let choices = [
            (no_backup, " --no-backup"),
            (no_salvage, " --no-salvage"),
            (drop_unterminated, " --drop-unterminated"),
            (force, " --force"),
            (no_content, " --no-content"),
        ];
        choices.iter().filter(|(is_given, _)| **is_given).map(|(_, option)| *option).collect()
    }

    fn close(self) -> Exit {
        if !self.args.json && (self.args.recursive || self.totals.files() > 1) {
            repairs::of_all(&self.totals);
            if self.args.recursive && self.totals.planned > 0 {
                let files: Vec<_> = self.args.files.iter().map(|file| text::quoted(Path::new(file))).collect();
                say::hint(format_args!("`untorn repair -r --write{} {}` does it", self.choices(), files.join(" ")));
            }
        }
        self.exit
    }
}

/// Looks at a repaired file with fresh eyes.
fn verify(file: &Path) -> Verified {
    let mut options = VerifyOptions::new();
    let verified =
        options.active_only().run(file, &mut |_| if interrupt::is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    match verified {
        Ok(report) => Verified::of(&report),
        Err(error) => {
            say::error(&error);
            Verified::Unreadable
        }
    }
}

/// A failure, told with what would have helped.
fn explained(error: untorn::Error, file: &Path) -> Stop {
    let path = text::quoted(file);
    let hint = match error.kind() {
        ErrorKind::NotAFile if file.is_dir() => format!("`untorn repair -r {path}` repairs the journals in it"),
        ErrorKind::Stranger => "stop it first; with `--force`, what it writes later is only in the backup".to_owned(),
        ErrorKind::Locked => format!("try again when it has closed the journal; `untorn stat {path}` shows who has it"),
        ErrorKind::Changed => "somebody is writing to it; try again when that is over".to_owned(),
        ErrorKind::NoSpace => "make room and try again; the journal is as it was".to_owned(),
        ErrorKind::HardLinked | ErrorKind::ReadOnly => format!("`untorn repair --output OUT {path}` writes a repaired copy"),
        _ => return error.into(),
    };
    say::error(&error);
    say::hint(hint);
    Stop::Told
}

/// What is printed for each file.
#[derive(Default, Serialize)]
struct Told {
    schema: &'static str,
    path: String,
    changed: bool,
    kept: u64,
    salvaged: u64,
    terminated: bool,
    removed_bytes: u64,
    /// Where the removed bytes are, or would be.
    quarantine: Option<String>,
    backup: Option<String>,
    /// How much is left to be done.
    remaining: u64,
    /// Somebody is at work on the file, so it was left alone.
    live: bool,
    /// It is compressed, so it was left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<String>,
    /// Whether the file was found clean afterwards, if it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// What is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<Planned>>,
}

#[derive(Serialize)]
struct Planned {
    what: &'static str,
    reason: &'static str,
    line: u64,
    lines: u64,
    offset: u64,
    len: u64,
}

#[derive(Serialize)]
struct TakenBack {
    schema: &'static str,
    path: String,
    changed: bool,
    repair: Option<String>,
    /// The file that the original is in, if it is not in its place.
    original: Option<String>,
    bytes: Option<u64>,
    /// What was written meanwhile, without the lock.
    late_bytes: u64,
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Told {
    const SCHEMA: &str = "untorn.repair.v1";

    fn planned(path: String, plan: &RepairPlan) -> Told {
        Told {
            schema: Told::SCHEMA,
            path,
            kept: plan.kept(),
            salvaged: plan.salvaged(),
            terminated: repairs::terminated(plan.actions()).is_some(),
            removed_bytes: plan.removed_bytes(),
            quarantine: (plan.removed_bytes() > 0).then(|| shown(&plan.quarantine())),
            remaining: plan.actions().len() as u64,
            actions: (!plan.is_empty()).then(|| plan.actions().iter().map(Planned::of).collect()),
            ..Told::default()
        }
    }

    fn done(path: String, repaired: &Repaired) -> Told {
        let Repaired { changed, kept, salvaged, terminated, removed_bytes, remaining, quarantine, backup, repair, .. } = repaired;
        Told {
            schema: Told::SCHEMA,
            path,
            changed: *changed,
            kept: *kept,
            salvaged: *salvaged,
            terminated: *terminated,
            removed_bytes: *removed_bytes,
            quarantine: quarantine.as_deref().filter(|_| *removed_bytes > 0).map(shown),
            backup: backup.as_deref().map(shown),
            remaining: *remaining,
            repair: repair.clone(),
            ..Told::default()
        }
    }
}

impl Planned {
    fn of(action: &Action) -> Planned {
        let what = match action.what {
            What::Remove => "remove",
            What::Salvage => "salvage",
            What::Terminate => "terminate",
            _ => "change",
        };
        let Action { reason, line, lines, offset, len, .. } = *action;
        Planned { what, reason: reason.as_str(), line, lines, offset, len }
    }
}

impl TakenBack {
    fn of(path: String, undone: &Undone) -> TakenBack {
        let nothing = TakenBack { schema: "untorn.undo.v1", path, changed: false, repair: None, original: None, bytes: None, late_bytes: 0 };
        match undone {
            Undone::Restored { repair, len, late_bytes, .. } => {
                TakenBack { changed: true, repair: Some(repair.clone()), bytes: Some(*len), late_bytes: *late_bytes, ..nothing }
            }
            Undone::Beside { repair, original, len, .. } => {
                TakenBack { repair: Some(repair.clone()), original: Some(shown(original)), bytes: Some(*len), ..nothing }
            }
            _ => nothing,
        }
    }
}
