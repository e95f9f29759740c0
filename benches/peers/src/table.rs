//! Who takes part, what came of it, and how it is shown: as text, as Markdown, as a picture.

use std::{fmt::Write, time::Duration};

use crate::common::{
    ratio::{Settings, Spread, Subject, Unit, count_for, median, rate, steady},
    svg::{self, Bar},
};

/// Where the tables go, beside the terminal.
#[derive(Debug, Default)]
pub struct Files {
    markdown: Option<String>,
    svg: Option<String>,
}

/// From the command line.
pub fn options() -> (Settings, Files) {
    let (mut settings, _) = Settings::from_args();
    if settings.is_test {
        // There is no other way to run this than to measure.
        settings.is_test = false;
        (settings.rounds, settings.turn) = if settings.is_quick { (5, Duration::from_millis(8)) } else { (21, Duration::from_millis(40)) };
    }
    let (svg, markdown) = (settings.svg.clone(), settings.markdown.clone());
    (settings, Files { markdown, svg })
}

/// Those who do the same work.
pub struct Table<'a> {
    name: String,
    unit: Unit,
    machine: Option<Subject<'a>>,
    peers: Vec<Subject<'a>>,
}

impl<'a> Table<'a> {
    /// Without anybody.
    pub fn new(name: &str, unit: Unit) -> Table<'a> {
        Table { name: name.into(), unit, machine: None, peers: Vec::new() }
    }

    /// The work by hand, that all are held against.
    pub fn machine(&mut self, name: &str, amount: u64, round: impl FnMut(u64) -> Duration + 'a) {
        self.machine = Some(Subject { name: name.into(), amount, round: Box::new(round) });
    }

    /// One who takes part; an operation does so many units.
    pub fn add(&mut self, name: &str, amount: u64, round: impl FnMut(u64) -> Duration + 'a) {
        self.peers.push(Subject { name: name.into(), amount, round: Box::new(round) });
    }

    /// Lets all take turns.
    pub fn measure(mut self, settings: &Settings) -> Measured {
        let mut machine = self.machine.take().unwrap();
        let count = count_for(&mut machine, settings.turn);
        let counts: Vec<u64> = self.peers.iter_mut().map(|peer| count_for(peer, settings.turn)).collect();
        let mut turns = vec![Vec::new(); self.peers.len()];
        let mut before = machine.turn(count);
        let mut machine_rates = vec![before];
        for _ in 0..settings.rounds {
            for ((peer, count_of_peer), turns) in self.peers.iter_mut().zip(&counts).zip(&mut turns) {
                let theirs = peer.turn(*count_of_peer);
                let after = machine.turn(count);
                turns.push((theirs, before, after));
                machine_rates.push(after);
                before = after;
            }
        }
        let rows = self.peers.iter().zip(&turns).map(|(peer, turns)| {
            let rate = median(turns.iter().map(|(theirs, ..)| *theirs).collect());
            Row { name: peer.name.clone(), rate, ratio: Spread::of(steady(turns)) }
        });
        Measured { name: self.name, unit: self.unit, machine: machine.name, machine_rate: median(machine_rates), rows: rows.collect() }
    }
}

/// What came of a table.
#[derive(Debug)]
pub struct Measured {
    name: String,
    unit: Unit,
    machine: String,
    machine_rate: f64,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    rate: f64,
    ratio: Spread,
}

impl Row {
    fn is_ours(&self) -> bool {
        self.name.starts_with("untorn")
    }
}

impl Measured {
    /// As text.
    pub fn print(&self) {
        println!("\n{}", self.name);
        println!("  {:<38} {:>12} {:>8}", self.machine, rate(self.unit, self.machine_rate), "1");
        for Row { name, rate: units, ratio: Spread { low, median, high, .. } } in &self.rows {
            println!("  {name:<38} {:>12} {median:>8.3}   {low:.3}-{high:.3}", rate(self.unit, *units));
        }
    }

    fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n| | | ratio | quarters |\n|---|--:|--:|---|\n", self.name);
        writeln!(text, "| *by hand:* {} | {} | 1 | |", self.machine, rate(self.unit, self.machine_rate)).unwrap();
        for row in &self.rows {
            let name = if row.is_ours() { format!("**{}**", row.name) } else { row.name.clone() };
            let Spread { low, median, high, .. } = row.ratio;
            writeln!(text, "| {name} | {} | {median:.3} | {low:.3}–{high:.3} |", rate(self.unit, row.rate)).unwrap();
        }
        text
    }

    fn bars(&self) -> (String, Vec<Bar>) {
        let mut bars: Vec<Bar> = self.rows.iter().map(|row| bar(row.name.clone(), row.ratio.median, row.is_ours())).collect();
        bars.sort_by(|a, b| b.value.total_cmp(&a.value));
        bars.insert(0, bar(self.machine.clone(), 1.0, false));
        (self.name.clone(), bars)
    }
}

fn bar(name: String, value: f64, is_ours: bool) -> Bar {
    let label = if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    Bar { name, value, label, is_ours }
}

/// A goal that names a peer, or whoever is best of those who are not ours.
#[derive(Debug)]
pub struct Versus {
    /// In which table.
    pub table: &'static str,
    /// Which row is ours.
    pub ours: &'static str,
    /// Whose row it is held against.
    pub theirs: Option<&'static str>,
    /// How many times as fast.
    pub least: f64,
}

/// Says which goals are reached.
pub fn say_goals(tables: &[Measured], goals: &[Versus]) {
    println!();
    for goal in goals {
        let Some(table) = tables.iter().find(|table| table.name == goal.table) else { continue };
        let ours = table.rows.iter().find(|row| row.name == goal.ours).unwrap();
        let others = table.rows.iter().filter(|row| !row.is_ours() && goal.theirs.is_none_or(|theirs| row.name == theirs));
        let best = others.max_by(|a, b| a.ratio.median.total_cmp(&b.ratio.median)).unwrap();
        let times = ours.ratio.median / best.ratio.median;
        let verdict = if times >= goal.least { "ok" } else { "below" };
        println!("{}: {} is {times:.2} x {}   >= {:.2}  {verdict}", table.name, ours.name, best.name, goal.least);
    }
}

impl Files {
    /// Writes those that were asked for.
    pub fn write(&self, tables: &[Measured]) {
        if let Some(path) = &self.markdown {
            let text: Vec<String> = tables.iter().map(Measured::markdown).collect();
            std::fs::write(path, text.join("\n")).unwrap();
        }
        if let Some(path) = &self.svg {
            let groups: Vec<_> = tables.iter().map(Measured::bars).collect();
            std::fs::write(path, svg::bars("Speed, by the same work done by hand = 1", &groups)).unwrap();
        }
    }
}
