//! How much of what the machine can do is left: ours against a floor, in one run.
//!
//! A figure alone says more of the machine than of the code, and what else the machine does changes from second to second. So ours and its
//! floors take turns, some hundredths of a second each, many times over. Each turn of ours is divided by the turns of the floor on both sides of
//! it, and passed over if those two tell of different machines: disks change their pace for seconds. The median of the ratios is what counts; the
//! quarters beside it show how sure it is.

use std::time::{Duration, Instant};

/// How often, how long, and what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Turns of each.
    pub rounds: usize,
    /// How long one turn takes, about.
    pub turn: Duration,
    /// Only rows whose name has this in it.
    pub filter: Option<String>,
    /// Only rows that have a goal.
    pub only_goals: bool,
    /// Each operation once, to see that it works.
    pub is_test: bool,
    /// Short turns, small files.
    pub is_quick: bool,
    /// How large the largest file is.
    pub largest_bytes: u64,
    /// Where a picture goes.
    pub svg: Option<String>,
    /// Where a table in Markdown goes.
    pub markdown: Option<String>,
}

/// What `--help` says.
const HELP: &str = "\
usage: [FILTER] [--quick] [--ratios | --goals] [--largest-gib N] [--svg FILE] [--markdown FILE]

  FILTER            only rows with this in their name
  --quick           short turns and small files
  --ratios          the ratios only, without criterion's statistics
  --goals           the rows that have a goal, without criterion's statistics
  --largest-gib N   the largest file; 10, or 1 with --quick
  --svg FILE        where the picture goes, of those that draw one
  --markdown FILE   where the table goes too, of those that write one
";

impl Settings {
    /// From the command line, and whether criterion is to measure too.
    pub fn from_args() -> (Settings, bool) {
        let mut settings = Settings {
            rounds: 31,
            turn: Duration::from_millis(40),
            filter: None,
            only_goals: false,
            is_test: true,
            is_quick: false,
            largest_bytes: 0,
            svg: None,
            markdown: None,
        };
        let mut is_ratios = false;
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match &*arg {
                // Given by `cargo bench`, and not by `cargo test`.
                "--bench" => settings.is_test = false,
                "--test" => settings.is_test = true,
                "--quick" => settings.is_quick = true,
                "--ratios" => is_ratios = true,
                "--goals" => settings.only_goals = true,
                "--largest-gib" => {
                    settings.largest_bytes = args.next().and_then(|gib| gib.parse::<u64>().ok()).map_or_else(|| usage(2), |gib| gib << 30)
                }
                "--svg" => settings.svg = Some(args.next().unwrap_or_else(|| usage(2))),
                "--markdown" => settings.markdown = Some(args.next().unwrap_or_else(|| usage(2))),
                "--help" | "-h" => usage(0),
                filter if !filter.starts_with('-') => settings.filter = Some(filter.to_owned()),
                _ => {}
            }
        }
        if settings.is_quick {
            (settings.rounds, settings.turn) = (7, Duration::from_millis(8));
        }
        if settings.largest_bytes == 0 {
            settings.largest_bytes = if settings.is_quick || settings.is_test { 1 << 30 } else { 10 << 30 };
        }
        if settings.is_test {
            (settings.rounds, settings.turn) = (1, Duration::ZERO);
        }
        let is_criterion = !is_ratios && !settings.only_goals && !settings.is_test;
        (settings, is_criterion)
    }

    /// Whether a row is asked for.
    pub fn wants(&self, name: &str, has_goal: bool) -> bool {
        (has_goal || !self.only_goals) && self.filter.as_ref().is_none_or(|filter| name.contains(filter))
    }

    /// How large a file is that is read from start to end.
    pub fn pass_bytes(&self) -> u64 {
        match (self.is_test, self.is_quick) {
            (true, _) => 1 << 20,
            (false, true) => 16 << 20,
            (false, false) => 256 << 20,
        }
    }
}

fn usage(code: i32) -> ! {
    print!("{HELP}");
    std::process::exit(code);
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records in a second.
    Records,
    /// Bytes in a second.
    Bytes,
    /// The time of one.
    Each,
    /// The most memory at any moment.
    Peak,
}

/// One way to do the work: does it so many times and says how long that took, set-up left out.
pub struct Subject<'a> {
    /// What it is called.
    pub name: String,
    /// How many units one operation does.
    pub amount: u64,
    /// So many operations.
    pub round: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl Subject<'_> {
    /// One turn of so many operations: units per second.
    pub fn turn(&mut self, count: u64) -> f64 {
        let took = (self.round)(count);
        (self.amount * count) as f64 / took.as_secs_f64().max(1e-9)
    }
}

/// What a row must show.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Only shown.
    Shown,
    /// The ratio is at least this.
    Ratio(f64),
    /// One takes at most this long, whatever the floor.
    AtMost(Duration),
}

impl Goal {
    /// Whether there is anything to reach.
    pub fn is_one(self) -> bool {
        !matches!(self, Goal::Shown)
    }
}

/// Ours, and what it is held against.
pub struct Row<'a> {
    /// What it is called.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// Ours.
    pub ours: Subject<'a>,
    /// Each with its goal.
    pub floors: Vec<(Subject<'a>, Goal)>,
}

impl<'a> Row<'a> {
    /// A row that counts `amount` units with each operation.
    pub fn new(name: impl Into<String>, unit: Unit, amount: u64, round: impl FnMut(u64) -> Duration + 'a) -> Row<'a> {
        let ours = Subject { name: "untorn".into(), amount, round: Box::new(round) };
        Row { name: name.into(), unit, ours, floors: Vec::new() }
    }

    /// Holds it against a floor that counts as many units with each operation.
    pub fn against(self, name: &str, goal: Goal, round: impl FnMut(u64) -> Duration + 'a) -> Row<'a> {
        let amount = self.ours.amount;
        self.against_amount(name, goal, amount, round)
    }

    /// Holds it against a floor that counts `amount` units with each operation.
    pub fn against_amount(mut self, name: &str, goal: Goal, amount: u64, round: impl FnMut(u64) -> Duration + 'a) -> Row<'a> {
        self.floors.push((Subject { name: name.into(), amount, round: Box::new(round) }, goal));
        self
    }

    /// Whether the settings ask for it.
    pub fn is_wanted(&self, settings: &Settings) -> bool {
        settings.wants(&self.name, self.floors.iter().any(|(_, goal)| goal.is_one()))
    }

    /// Measures, taking turns.
    pub fn measure(&mut self, settings: &Settings) -> Vec<Line> {
        let mut subjects: Vec<&mut Subject<'a>> = std::iter::once(&mut self.ours).chain(self.floors.iter_mut().map(|(floor, _)| floor)).collect();
        let rates = take_turns(&mut subjects, settings);
        let ours = &rates[0];
        let line = |((floor, goal), rates): (&(Subject<'a>, Goal), &Vec<f64>)| Line {
            name: self.name.clone(),
            unit: self.unit,
            ours: median(ours.clone()),
            floor_name: floor.name.clone(),
            floor: median(rates.clone()),
            ratio: Spread::of(ratios(ours, rates)),
            goal: *goal,
        };
        self.floors.iter().zip(&rates[1..]).map(line).collect()
    }
}

/// The rates of each subject, turn by turn, in units per second. All but the first have one turn more: before each of the first one's, and at the end.
pub fn take_turns(subjects: &mut [&mut Subject<'_>], settings: &Settings) -> Vec<Vec<f64>> {
    let counts: Vec<u64> = subjects.iter_mut().map(|subject| count_for(subject, settings.turn)).collect();
    let mut rates = vec![Vec::with_capacity(settings.rounds + 1); subjects.len()];
    for round in 0..=settings.rounds {
        for at in (1..subjects.len()).chain((round < settings.rounds).then_some(0)) {
            rates[at].push(subjects[at].turn(counts[at]));
        }
    }
    rates
}

/// How far the turns on both sides may be apart.
const PACES_MAX: f64 = 1.5;

/// Each turn of ours by those of the floor on both sides.
fn ratios(ours: &[f64], floor: &[f64]) -> Vec<f64> {
    let turns: Vec<_> = ours.iter().zip(floor.windows(2)).map(|(ours, sides)| (*ours, sides[0], sides[1])).collect();
    steady(&turns)
}

/// The ratios of turns, each with the floor's turns before and after it, but for those where these two are too far apart.
pub fn steady(turns: &[(f64, f64, f64)]) -> Vec<f64> {
    let ratios = |kept: &dyn Fn(f64) -> bool| -> Vec<f64> {
        turns
            .iter()
            .filter(|(_, before, after)| kept((before / after).ln().abs()))
            .map(|(ours, before, after)| ours / (before * after).sqrt())
            .collect()
    };
    let steady = ratios(&|apart| apart <= PACES_MAX.ln());
    if steady.is_empty() { ratios(&|_| true) } else { steady }
}

/// How many operations fill a turn.
pub fn count_for(subject: &mut Subject<'_>, turn: Duration) -> u64 {
    let mut count = 1;
    loop {
        // The machine may have had something else to do.
        let mut took = (subject.round)(count);
        for _ in 0..2 {
            if (turn / 4..turn * 4).contains(&took) {
                took = took.min((subject.round)(count));
            }
        }
        if took >= turn / 4 {
            let fill = turn.as_secs_f64() / took.as_secs_f64().max(1e-9);
            return ((count as f64 * fill) as u64).max(1);
        }
        count *= 4;
    }
}

/// The middle of some figures, and the quarters beside it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// A quarter is below.
    pub low: f64,
    /// Half are below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
    /// How many there are.
    pub turns: usize,
}

impl Spread {
    /// Of figures in any order.
    pub fn of(mut figures: Vec<f64>) -> Spread {
        figures.sort_by(f64::total_cmp);
        let at = |part: usize| figures[(figures.len() - 1) * part / 4];
        Spread { low: at(1), median: at(2), high: at(3), turns: figures.len() }
    }
}

/// The middle of some figures.
pub fn median(figures: Vec<f64>) -> f64 {
    Spread::of(figures).median
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// The row's name.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// Our rate.
    pub ours: f64,
    /// What it is held against.
    pub floor_name: String,
    /// Its rate.
    pub floor: f64,
    /// Ours by the floor's.
    pub ratio: Spread,
    /// What it must show.
    pub goal: Goal,
}

impl Line {
    /// Whether the goal is met; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::Shown => None,
            Goal::Ratio(least) => Some(self.ratio.median >= least),
            Goal::AtMost(most) => Some(1.0 / self.ours <= most.as_secs_f64()),
        }
    }

    fn goal(&self) -> String {
        let goal = match self.goal {
            Goal::Shown => return String::new(),
            Goal::Ratio(least) => format!(">= {least:.2}"),
            Goal::AtMost(most) => format!("<= {} us", most.as_micros()),
        };
        format!("{goal}  {}", if self.is_met() == Some(true) { "ok" } else { "below" })
    }

    /// Prints it, under the columns of [`print_head`].
    pub fn print(&self) {
        let Spread { low, median, high, turns } = self.ratio;
        let (ours, floor) = (rate(self.unit, self.ours), rate(self.unit, self.floor));
        println!(
            "{:<44} {ours:>12}   {:<44} {floor:>12} {median:>8.3} {:>17} {turns:>5}  {}",
            self.name,
            self.floor_name,
            format!("{low:.3}-{high:.3}"),
            self.goal()
        );
    }
}

/// The columns' names.
pub fn print_head() {
    println!("\n{:<44} {:>12}   {:<44} {:>12} {:>8} {:>17} {:>5}  goal", "what", "untorn", "against", "", "ratio", "quarters", "turns");
}

/// A rate as people say it.
pub fn rate(unit: Unit, rate: f64) -> String {
    match unit {
        Unit::Each => format!("{:.1} us", 1e6 / rate),
        Unit::Peak => format!("{:.1} MiB", 1.0 / rate / f64::from(1 << 20)),
        Unit::Bytes => format!("{:.0} MiB/s", rate / f64::from(1 << 20)),
        Unit::Records if rate >= 1e6 => format!("{:.2} M/s", rate / 1e6),
        Unit::Records if rate >= 1e4 => format!("{:.0} k/s", rate / 1e3),
        Unit::Records => format!("{rate:.0} /s"),
    }
}

/// How long it takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
