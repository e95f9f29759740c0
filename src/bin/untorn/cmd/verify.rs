//! `untorn verify`: what is damaged in journals, and where.

use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal},
    ops::ControlFlow,
    path::Path,
};

use serde::Serialize;
use untorn::{ErrorKind, Finding, Report, Severity, VerifyOptions};

use crate::{
    exit::{Exit, Failure, Stop, help},
    finding, interrupt, journals,
    output::Output,
    progress::Progress,
    say,
    source::Source,
    summary::{self, Totals},
    text::{self, Shown},
};

/// How many findings of one journal are told; of the others, how many there are.
const FINDINGS_MAX: u64 = 50;

/// Check journals, and tell what is damaged and where
///
/// Nothing is written and no lock is taken, so it works on read-only files and beside a live writer.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Args {
    /// The journals; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<OsString>,

    /// Check the journals in directories: each once, one line for each that is damaged
    #[arg(short, long)]
    recursive: bool,

    /// Take warnings for damage, and parse sealed lines as JSON too
    #[arg(long)]
    strict: bool,

    /// Print the names of damaged journals, and nothing else
    #[arg(short = 'l', long, conflicts_with_all = ["quiet", "json"])]
    names: bool,

    /// Like `-l`, each name ended by a NUL, for `xargs -0`
    #[arg(short = '0', long, conflicts_with_all = ["quiet", "json"])]
    null: bool,

    /// Say nothing of what is found; the exit status tells
    #[arg(short, long)]
    quiet: bool,

    /// Show no part of what is in the files
    #[arg(long)]
    no_content: bool,

    /// Print one JSON object for each journal
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit, Stop> {
    interrupt::end_at_once();
    let mut options = VerifyOptions::new();
    if args.strict {
        options.strict();
    }
    let mut run = Run { args, options, output: Output::new(), exit: Exit::Done, totals: Totals::default() };
    for target in run.targets() {
        let verified = run.verify(&target);
        match run.exit.and(verified) {
            Some(exit) => run.exit = exit,
            None => return Ok(run.exit),
        }
    }
    run.close()
}

/// One run of the command.
struct Run<'a> {
    args: &'a Args,
    options: VerifyOptions,
    output: Output,
    exit: Exit,
    totals: Totals,
}

impl Run<'_> {
    fn targets(&mut self) -> Vec<OsString> {
        journals::named(&self.args.files, self.args.recursive, &mut |path, error| {
            say::failure(&Failure::System(format!("list `{}`", path.display()), error));
            self.exit = Exit::Failed;
            self.totals.unreadable += 1;
        })
    }

    fn verify(&mut self, target: &OsStr) -> Result<Exit, Stop> {
        let source = Source::open(target).inspect_err(|_| self.totals.unreadable += 1)?;
        let tells_findings = !(self.args.recursive || self.is_silent());
        let mut teller = Teller {
            source: &source,
            with_content: !self.args.no_content,
            limit: if tells_findings { FINDINGS_MAX } else { 0 },
            told: 0,
            damaged_places: 0,
        };
        let mut progress = Progress::of(source.name(source.path()));
        let verified = self.options.run(source.path(), &mut |at| {
            source.opened();
            progress.at(at.bytes_done, at.bytes_total);
            teller.tell(&at);
            ControlFlow::Continue(())
        });
        drop(progress);
        let report = match verified {
            Ok(report) => report,
            Err(error) => {
                self.totals.unreadable += 1;
                return Err(self.explained(error, target));
            }
        };
        self.totals.add(&report);
        self.print(&source, &report)?;
        if tells_findings {
            teller.close(report.findings_total());
            summary::of_journal(&source, &report, teller.damaged_places);
            if self.args.files.len() > 1 && report.findings_total() > 0 {
                say::lines("");
            }
        } else if self.args.recursive && !self.is_silent() {
            summary::row(source.name(report.path()), &report);
        }
        Ok(if report.is_clean() { Exit::Done } else { Exit::Damage })
    }

    /// What goes to stdout for one journal.
    fn print(&mut self, source: &Source, report: &Report) -> Result<(), Stop> {
        let name = source.name(report.path());
        if self.args.json {
            self.output.json(&Verified::of(name, report))?;
        } else if self.args.null && !report.is_clean() {
            self.output.ended(name.as_os_str().as_encoded_bytes(), 0)?;
        } else if self.args.names && !report.is_clean() {
            let is_shown = io::stdout().is_terminal();
            let shown = is_shown.then(|| Shown(name.display()).to_string());
            self.output.line(shown.as_deref().map_or(name.as_os_str().as_encoded_bytes(), str::as_bytes))?;
        }
        self.output.flush()
    }

    fn is_silent(&self) -> bool {
        self.args.quiet || self.args.names || self.args.null || self.args.json
    }

    /// A failure, told with the option that would have helped.
    fn explained(&self, error: untorn::Error, target: &OsStr) -> Stop {
        if error.kind() == ErrorKind::NotAFile && Path::new(target).is_dir() && !self.args.recursive {
            say::error(&error);
            say::hint(format_args!("`untorn verify -r {}` checks the journals in it", text::quoted(Path::new(target))));
            return Stop::Told;
        }
        error.into()
    }

    fn close(self) -> Result<Exit, Stop> {
        if !self.is_silent() && (self.args.recursive || self.totals.journals() > 1) {
            summary::of_all(&self.totals);
            if self.args.recursive && self.exit == Exit::Damage {
                let files: Vec<_> = self.args.files.iter().map(|file| text::quoted(Path::new(file))).collect();
                say::hint(format_args!("`untorn verify -rl {}` prints only the names of damaged journals", files.join(" ")));
            }
        }
        Ok(self.exit)
    }
}

/// Tells findings as they come, up to a limit.
struct Teller<'a> {
    source: &'a Source,
    with_content: bool,
    limit: u64,
    told: u64,
    /// How many findings were errors.
    damaged_places: u64,
}

impl Teller<'_> {
    fn tell(&mut self, at: &untorn::Progress<'_>) {
        let Some(finding) = at.finding else { return };
        self.damaged_places += u64::from(finding.severity() == Severity::Error);
        if self.told == self.limit {
            return;
        }
        self.told += 1;
        finding::tell(finding, at, self.source, self.with_content);
    }

    fn close(&self, findings: u64) {
        let untold = findings - self.told.min(findings);
        if untold > 0 {
            say::lines(format_args!("… and {}; `--json` has more of them", text::count(untold, "more finding")));
        }
        if self.told > 0 {
            say::lines("");
        }
    }
}

/// What is printed for each journal.
#[derive(Serialize)]
struct Verified<'a> {
    schema: &'static str,
    path: String,
    format: &'static str,
    bytes: u64,
    lines: u64,
    records: u64,
    sealed: u64,
    plain: u64,
    blank: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    damaged_bytes: u64,
    clean: bool,
    live: bool,
    findings_total: u64,
    findings: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    code: &'static str,
    severity: &'static str,
    line: u64,
    column: u64,
    offset: u64,
    len: u64,
    count: u64,
    message: &'a str,
    salvageable: u64,
    /// The file of an archived segment, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_path: Option<String>,
}

impl Verified<'_> {
    fn of<'a>(name: &Path, report: &'a Report) -> Verified<'a> {
        Verified {
            schema: "untorn.verify.v1",
            path: name.to_string_lossy().into_owned(),
            format: summary::form(report),
            bytes: report.bytes(),
            lines: report.lines(),
            records: report.records(),
            sealed: report.sealed(),
            plain: report.plain(),
            blank: report.blank(),
            first_seq: report.first_seq(),
            last_seq: report.last_seq(),
            damaged_bytes: report.damaged_bytes(),
            clean: report.is_clean(),
            live: report.is_live(),
            findings_total: report.findings_total(),
            findings: report.findings().iter().map(|finding| Found::of(finding, report.path())).collect(),
        }
    }
}

impl Found<'_> {
    fn of<'a>(finding: &'a Finding, journal: &Path) -> Found<'a> {
        Found {
            code: finding.code.as_str(),
            severity: finding.severity().as_str(),
            line: finding.line,
            column: finding.column,
            offset: finding.offset,
            len: finding.len,
            count: finding.count,
            message: &finding.message,
            salvageable: finding.salvageable,
            segment_path: (finding.path.file_name() != journal.file_name()).then(|| finding.path.to_string_lossy().into_owned()),
        }
    }
}
