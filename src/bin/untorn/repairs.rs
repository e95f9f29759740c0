//! What is said of repairs: the plan, the outcome, a row for each of many files, and what all come to.

use std::{fmt::Display, path::Path};

use untorn::{Action, Code, Process, RepairMethod, RepairPlan, Repaired, Report, Undone, What};

use crate::{
    cmd::repair::Done,
    say::{self, bad, good, notable},
    summary,
    text::{self, Shown, count, grouped},
};

/// How many ranges of a plan are listed; of the others, how many there are.
const RANGES_MAX: usize = 20;

/// How many lines with salvaged records are named.
const LINES_MAX: usize = 4;

/// What a look at the repaired file gave.
pub(crate) enum Verified {
    /// In words that also tell of warnings.
    Clean(String),
    /// So many lines are damaged.
    Damaged(u64),
    /// It could not be read again.
    Unreadable,
    Interrupted,
}

impl Verified {
    pub(crate) fn of(report: &Report) -> Verified {
        match (report.is_complete(), report.is_clean()) {
            (false, _) => Verified::Interrupted,
            (true, true) => Verified::Clean(summary::clean(report)),
            (true, false) => Verified::Damaged(summary::errors(report)),
        }
    }

    /// Whether it was clean, if it was looked at to its end.
    pub(crate) fn is_clean(&self) -> Option<bool> {
        match self {
            Verified::Clean(_) => Some(true),
            Verified::Damaged(_) => Some(false),
            Verified::Unreadable | Verified::Interrupted => None,
        }
    }
}

impl Verified {
    /// In the room that a row has.
    fn word(&self) -> String {
        match self {
            Verified::Clean(_) => good("clean"),
            Verified::Damaged(lines) => bad(count(*lines, "error")),
            Verified::Unreadable | Verified::Interrupted => "not verified".to_owned(),
        }
    }
}

impl Display for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verified::Clean(words) => write!(f, "verified: {words}"),
            Verified::Damaged(lines) => write!(f, "verified: {}", bad(count(*lines, "error"))),
            Verified::Unreadable => f.write_str("not verified: it could not be read again"),
            Verified::Interrupted => f.write_str("not verified: interrupted"),
        }
    }
}

pub(crate) fn nothing_to_do(name: &Path) {
    say::lines(format_args!("{}: {}, nothing to do", Shown(name.display()), good("clean")));
}

/// Says what a repair would do, and who would be in its way.
pub(crate) fn plan(name: &Path, plan: &RepairPlan, at_work: Option<Process>) {
    say::lines(format_args!("{}: {}, nothing is changed yet", Shown(name.display()), notable("plan")));
    let terminated = terminated(plan.actions());
    let counts = [plan.kept(), plan.salvaged(), plan.removed_bytes()];
    let width = counts.iter().map(|count| grouped(*count).len()).max().unwrap_or_default();
    let row = |label: &str, number: u64, what: &dyn Display| say::lines(format_args!("  {label:<9} {:>width$} {what}", grouped(number)));
    row("keep", plan.kept(), &format_args!("{}, byte for byte", plural(plan.kept(), "record")));
    if plan.salvaged() > 0 {
        row("salvage", plan.salvaged(), &format_args!("{}, from {}", plural(plan.salvaged(), "record"), salvaged_lines(plan.actions())));
    }
    if let Some(action) = terminated {
        row("terminate", 1, &format_args!("record, on line {}, which lacks its LF", grouped(action.line)));
    }
    if plan.removed_bytes() > 0 {
        let quarantine = plan.quarantine();
        row("remove", plan.removed_bytes(), &format_args!("{}, into {}", plural(plan.removed_bytes(), "byte"), Shown(quarantine.display())));
        ranges(plan.actions());
    }
    let how = match plan.how() {
        RepairMethod::InPlace => "in place (damage at the end)",
        _ => "rewrite (damage in the middle)",
    };
    let free = plan.space().free.map(|free| format!(", {} free", text::size(free))).unwrap_or_default();
    say::lines(format_args!("  how       {how}; needs {}{free}", text::size(plan.space().needed)));
    if plan.backs_up() {
        say::lines(format_args!("  backup    {}.bak-TIME", Shown(name.display())));
    }
    if let Some(process) = at_work {
        say::lines(format_args!("  {}      {} is at work on it", notable("live"), Shown(process)));
    }
}

pub(crate) fn terminated(actions: &[Action]) -> Option<&Action> {
    actions.iter().find(|action| action.what == What::Terminate)
}

fn plural(number: u64, one: &str) -> String {
    if number == 1 { one.to_owned() } else { format!("{one}s") }
}

/// `line 7`, `lines 412 and 977`, `lines 1, 2, 3, 4 and 17 more`.
fn salvaged_lines(actions: &[Action]) -> String {
    let mut lines: Vec<u64> = actions.iter().filter(|action| action.what == What::Salvage).map(|action| action.line).collect();
    lines.dedup();
    let (named, more) = lines.split_at(lines.len().min(LINES_MAX));
    let mut names: Vec<String> = named.iter().map(|line| grouped(*line)).collect();
    if !more.is_empty() {
        names.push(format!("{} more", grouped(more.len() as u64)));
    }
    match names.split_last() {
        Some((last, [])) => format!("line {last}"),
        Some((last, first)) => format!("lines {} and {last}", first.join(", ")),
        None => String::new(),
    }
}

/// Lists what is removed, in columns.
fn ranges(actions: &[Action]) {
    let removed: Vec<&Action> = actions.iter().filter(|action| action.what == What::Remove).collect();
    let listed = removed.get(..removed.len().min(RANGES_MAX)).unwrap_or_default();
    let width = |number: fn(&Action) -> u64| listed.iter().map(|action| grouped(number(action)).len()).max().unwrap_or_default();
    let (lines, offsets, lens) = (width(|action| action.line), width(|action| action.offset), width(|action| action.len));
    for action in listed {
        let more = if action.lines > 1 { format!(", {} lines", grouped(action.lines)) } else { String::new() };
        let (line, offset, len) = (grouped(action.line), grouped(action.offset), grouped(action.len));
        say::lines(format_args!("              line {line:>lines$}  byte {offset:>offsets$}  {len:>lens$}  {}{more}", what_it_is(action.reason)));
    }
    if removed.len() > listed.len() {
        say::lines(format_args!("              … and {}", count((removed.len() - listed.len()) as u64, "more range")));
    }
}

/// What is removed where a line has this code; what is salvaged of the line is not part of it.
fn what_it_is(reason: Code) -> &'static str {
    match reason {
        Code::Spliced => "torn record",
        Code::Glued => "glued records",
        Code::NulRun => "NUL run",
        Code::TornTail => "torn tail",
        Code::Unterminated => "behind the last record",
        Code::OpenBatch => "unfinished batch",
        Code::CrcMismatch => "bytes that fail their seal",
        Code::NotJson => "no JSON",
        Code::NotUtf8 => "no UTF-8",
        Code::TooLong => "line over the limit",
        code => code.as_str(),
    }
}

/// `1,203 records, 2 of them salvaged`.
fn records(repaired: &Repaired) -> String {
    let Repaired { kept, salvaged, .. } = *repaired;
    let of_them = if salvaged > 0 { format!(", {} of them salvaged", grouped(salvaged)) } else { String::new() };
    format!("{}{of_them}", count(kept + salvaged, "record"))
}

/// Says what a repair did.
pub(crate) fn repaired(name: &Path, done: &Done) {
    let Repaired { removed_bytes, len_before, len_after, late_bytes, remaining, .. } = done.repaired;
    say::lines(format_args!("{}: {}, {}; {}", Shown(name.display()), good("repaired"), records(&done.repaired), done.verified));
    let lfs = (len_after + removed_bytes).saturating_sub(len_before + late_bytes);
    let lfs = if lfs > 0 { format!(" + {}", count(lfs, "LF")) } else { String::new() };
    let late = if late_bytes > 0 { format!(" + {} written meanwhile", grouped(late_bytes)) } else { String::new() };
    let in_quarantine = if removed_bytes > 0 { format!(" + {} in quarantine", grouped(removed_bytes)) } else { String::new() };
    say::lines(format_args!("  bytes       {} before{late}{lfs} = {} now{in_quarantine}", grouped(len_before), grouped(len_after)));
    if let (Some(quarantine), Some(repair)) = (&done.repaired.quarantine, &done.repaired.repair) {
        let ranges = count(done.ranges as u64, "range");
        say::lines(format_args!("  quarantine  {} ({ranges}, repair {repair})", Shown(quarantine.display())));
    }
    if let Some(backup) = &done.repaired.backup {
        say::lines(format_args!("  backup      {}", Shown(backup.display())));
    }
    if remaining > 0 {
        say::lines(format_args!("  remaining   {} written meanwhile; repair once more", count(remaining, "damaged place")));
    }
}

pub(crate) fn written(name: &Path, repaired: &Repaired, out: &Path) {
    let Repaired { removed_bytes, len_after, .. } = *repaired;
    say::lines(format_args!("{}: {}, {}, {}", Shown(out.display()), good("written"), records(repaired), count(len_after, "byte")));
    say::lines(format_args!("  left out    {} of {}, which is as it was", count(removed_bytes, "byte"), Shown(name.display())));
}

pub(crate) fn undone(name: &Path, undone: &Undone) {
    let path = Shown(name.display());
    match undone {
        Undone::Restored { repair, len, late_bytes, .. } => {
            let late = if *late_bytes > 0 { format!(", and {} written meanwhile", grouped(*late_bytes)) } else { String::new() };
            say::lines(format_args!("{path}: {}, {} as before repair {repair}{late}", good("restored"), count(*len, "byte")));
        }
        Undone::Beside { repair, original, len, .. } => {
            let original = Shown(original.display());
            say::lines(format_args!("{path}: {}, because it has grown since repair {repair}", notable("left as it is")));
            say::lines(format_args!("  original    {original} ({})", count(*len, "byte")));
        }
        _ => say::lines(format_args!("{path}: no repair to take back")),
    }
}

pub(crate) fn plan_row(name: &Path, plan: &RepairPlan) {
    let bytes = count(plan.removed_bytes(), "byte");
    let how = if plan.how() == RepairMethod::InPlace { "in place" } else { "rewrite" };
    row(name, &notable(format_args!("{:<8}", "plan")), format_args!("{bytes:>11} out  {:>5} salvaged  {how}", grouped(plan.salvaged())));
}

pub(crate) fn repaired_row(name: &Path, done: &Done) {
    let Repaired { removed_bytes, salvaged, .. } = done.repaired;
    let bytes = count(removed_bytes, "byte");
    row(name, &good("repaired"), format_args!("{bytes:>11} out  {:>5} salvaged  {}", grouped(salvaged), done.verified.word()));
}

/// Says of a segment that it was not looked at.
pub(crate) fn left_out(name: &Path) {
    say::lines(format_args!("{}: {}, it is compressed; `untorn verify` checks it too", Shown(name.display()), notable("left out")));
}

pub(crate) fn left_out_row(name: &Path) {
    row(name, &notable("left out"), " compressed");
}

pub(crate) fn live_row(name: &Path, process: &Process) {
    row(name, &notable(format_args!("{:<8}", "live")), format_args!("skipped: {} is at work", Shown(process)));
}

fn row(name: &Path, word: &str, rest: impl Display) {
    say::lines(format_args!("{}  {word} {rest}", summary::fitting(name)));
}

/// What many files come to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) clean: u64,
    pub(crate) planned: u64,
    pub(crate) repaired: u64,
    pub(crate) undone: u64,
    pub(crate) live: u64,
    pub(crate) left_out: u64,
    pub(crate) failed: u64,
}

impl Totals {
    pub(crate) fn files(&self) -> u64 {
        let Totals { clean, planned, repaired, undone, live, left_out, failed } = self;
        clean + planned + repaired + undone + live + left_out + failed
    }
}

/// Says what all files come to; only `clean` also if there is none.
pub(crate) fn of_all(totals: &Totals) {
    let mut parts = vec![format!("{} {}", grouped(totals.clean), if totals.undone > 0 { "as they were" } else { "clean" })];
    let mut add = |number: u64, what: &str, style: fn(String) -> String| {
        if number > 0 {
            parts.push(style(format!("{} {what}", grouped(number))));
        }
    };
    add(totals.planned, "to repair", bad);
    add(totals.repaired, "repaired", good);
    add(totals.undone, "restored", good);
    add(totals.live, "live", notable);
    add(totals.left_out, "left out", notable);
    add(totals.failed, "failed", bad);
    say::lines(format_args!("{}: {}", count(totals.files(), "file"), parts.join(", ")));
}
