//! What the benches share: the records, the files, the floors, and how ours is held against them.
//!
//! Each bench is a list of [`Row`]s. A row is measured twice: by criterion, which keeps what it measured and says what changed since the last run;
//! and against its floors in turns ([`ratio`]), which is what the goals are about.

pub mod floors;
pub mod ratio;
pub mod records;
pub mod scratch;
pub mod svg;

use std::time::Duration;

use criterion::{Criterion, Throughput};

use ratio::{Goal, Line, Row, Settings, Spread, Subject, Unit};

/// Measures rows and prints what came of them.
pub struct Bench {
    /// What was asked for.
    pub settings: Settings,
    criterion: Option<Criterion>,
    lines: Vec<Line>,
}

impl Bench {
    /// From the command line.
    pub fn from_args() -> Bench {
        let (settings, is_criterion) = Settings::from_args();
        let criterion = is_criterion.then(|| {
            let times = Criterion::default().warm_up_time(settings.turn * 5).measurement_time(settings.turn * 25).sample_size(20);
            times.without_plots().configure_from_args()
        });
        Bench { settings, criterion, lines: Vec::new() }
    }

    /// Measures a row, if it is asked for. Returns the ratio to its first floor.
    pub fn row(&mut self, mut row: Row<'_>) -> Option<f64> {
        if !row.is_wanted(&self.settings) {
            return None;
        }
        if let Some(criterion) = &mut self.criterion {
            let subjects = std::iter::once(&mut row.ours).chain(row.floors.iter_mut().map(|(floor, _)| floor));
            subjects.for_each(|subject| statistics(criterion, &row.name, row.unit, subject));
        }
        let lines = row.measure(&self.settings);
        self.print(lines)
    }

    /// Measures the most memory that a pass takes, against another one.
    pub fn peak(
        &mut self,
        name: &str,
        floor_name: &str,
        goal: Goal,
        mut pass: impl FnMut(u64) -> Duration,
        mut other: impl FnMut(u64) -> Duration,
    ) -> Option<f64> {
        if !self.settings.wants(name, goal.is_one()) {
            return None;
        }
        let [floor, ours] = [&mut other as &mut dyn FnMut(u64) -> Duration, &mut pass].map(memory_of);
        let ratio = Spread::of(vec![floor / ours]);
        let (ours, floor) = (1.0 / ours, 1.0 / floor);
        self.print(vec![Line { name: name.into(), unit: Unit::Peak, ours, floor_name: floor_name.into(), floor, ratio, goal }])
    }

    fn print(&mut self, lines: Vec<Line>) -> Option<f64> {
        if self.lines.is_empty() || self.criterion.is_some() {
            ratio::print_head();
        }
        lines.iter().for_each(Line::print);
        let first = lines.first().map(|line| line.ratio.median);
        self.lines.extend(lines);
        first
    }

    /// Names what cannot be measured here.
    pub fn skip(&self, name: &str, reason: &str) {
        if self.settings.filter.as_ref().is_none_or(|filter| name.contains(filter)) {
            println!("skipped: {name}: {reason}");
        }
    }

    /// Says how many goals were met.
    pub fn end(self) {
        let met = |is_met| self.lines.iter().filter(|line| line.is_met() == Some(is_met)).count();
        if let Some(criterion) = self.criterion {
            criterion.final_summary();
        }
        if met(true) + met(false) > 0 {
            println!("\n{} goals reached, {} below", met(true), met(false));
        }
    }
}

/// The most bytes that the process had in memory during one pass.
fn memory_of(pass: &mut dyn FnMut(u64) -> Duration) -> f64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    pass(1);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}

fn statistics(criterion: &mut Criterion, row: &str, unit: Unit, subject: &mut Subject<'_>) {
    let mut group = criterion.benchmark_group(row);
    match unit {
        Unit::Records => drop(group.throughput(Throughput::Elements(subject.amount))),
        Unit::Bytes => drop(group.throughput(Throughput::Bytes(subject.amount))),
        Unit::Each | Unit::Peak => {}
    }
    group.bench_function(&subject.name, |bencher| bencher.iter_custom(|count| (subject.round)(count)));
    group.finish();
}
