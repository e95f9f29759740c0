//! The findings as they are made: grouped, counted, told and kept.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use super::{
    Flow, Stop,
    report::{Finding, Good, Progress, Report},
};
use crate::{
    format::verdict::{Code, Severity},
    segment::Segment,
    sys::File,
    words,
};

/// Where a finding is, as far as its line goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// The number of the first one, from 1.
    pub(super) line: u64,
    pub(super) lines: u64,
    /// Where the first one starts.
    pub(super) start: u64,
    /// Just past the last one.
    pub(super) end: u64,
}

/// One code that fits all of some lines.
#[derive(Clone, Debug)]
pub(super) struct Note {
    pub(super) code: Code,
    /// The byte to look at, in the first line.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) count: u64,
    pub(super) salvageable: u64,
    pub(super) message: String,
}

impl Note {
    /// A note on all of the lines.
    pub(super) fn on(lines: &Lines, code: Code, message: impl Into<String>) -> Note {
        Note { code, at: lines.start, len: lines.end - lines.start, count: lines.lines, salvageable: 0, message: message.into() }
    }
}

/// Makes the report.
pub(super) struct Recorder<'a> {
    pub(super) report: Report,
    pub(super) bytes_done: u64,
    pub(super) bytes_total: u64,
    on: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    findings_max: usize,
    /// The segment that lines are added from.
    path: Arc<Path>,
    number: u64,
    /// Its file; `None` before the first one.
    file: Option<Arc<File>>,
    /// The codes of the last lines, one finding each; the next line joins if it has the same ones.
    group: Vec<Finding>,
    next_line: u64,
    damaged: bool,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(report: Report, findings_max: usize, on: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) -> Recorder<'a> {
        let Good { path, segment: number, .. } = report.good.clone();
        Recorder {
            report,
            bytes_done: 0,
            bytes_total: 0,
            on,
            findings_max,
            path,
            number,
            file: None,
            group: Vec::new(),
            next_line: 0,
            damaged: false,
        }
    }

    /// Goes on with the lines of another segment.
    pub(super) fn begin(&mut self, segment: &Segment) {
        (self.path, self.number, self.file) = (segment.path.clone(), segment.number, Some(segment.file.clone()));
    }

    /// Says that the segment is good up to here, unless there was damage before.
    pub(super) fn good_through(&mut self, offset: u64, line: u64) {
        if !self.damaged {
            self.report.good = Good { path: self.path.clone(), segment: self.number, offset, line };
        }
    }

    /// Adds lines behind the last ones; none of them is remarkable if there are no notes.
    pub(super) fn add(&mut self, lines: &Lines, mut notes: Vec<Note>) -> Flow {
        notes.sort_by_key(|note| (note.at, note.code));
        let same_codes = notes.iter().map(|note| note.code).eq(self.group.iter().map(|finding| finding.code));
        if !same_codes || self.next_line != lines.line {
            self.close_group()?;
        }
        if self.group.is_empty() {
            self.group = notes.into_iter().map(|note| self.finding(lines, note)).collect();
        } else {
            for (finding, note) in self.group.iter_mut().zip(notes) {
                finding.len += note.len;
                finding.count += note.count;
                finding.salvageable += note.salvageable;
            }
        }
        self.next_line = lines.line + lines.lines;
        Ok(())
    }

    /// Adds a finding that has no neighbours.
    pub(super) fn add_alone(&mut self, lines: &Lines, note: Note) -> Flow {
        self.close_group()?;
        let finding = self.finding(lines, note);
        self.tell(finding)
    }

    /// Tells the findings that nothing more can join.
    pub(super) fn close_group(&mut self) -> Flow {
        std::mem::take(&mut self.group).into_iter().try_for_each(|mut finding| {
            let others = finding.count.saturating_sub(1);
            if others > 0 {
                finding.message.push_str(&format!(", and {}", words::count(others, "more line")));
            }
            self.tell(finding)
        })
    }

    /// Says how far it has come.
    pub(super) fn through(&mut self, bytes_done: u64) -> Flow {
        self.bytes_done = bytes_done;
        self.say(None)
    }

    fn finding(&self, lines: &Lines, note: Note) -> Finding {
        Finding {
            code: note.code,
            path: self.path.clone(),
            segment: self.number,
            line: lines.line,
            column: note.at - lines.start + 1,
            offset: note.at,
            len: note.len,
            count: note.count,
            message: note.message,
            salvageable: note.salvageable,
        }
    }

    fn tell(&mut self, finding: Finding) -> Flow {
        let report = &mut self.report;
        *report.counts.entry(finding.code).or_default() += finding.count;
        report.findings_total += 1;
        report.salvageable += finding.salvageable;
        if finding.severity() == Severity::Error {
            report.damaged_bytes += finding.len;
            let offset = finding.offset - (finding.column - 1);
            // A batch without its end starts before findings that were told earlier.
            if !self.damaged || (finding.segment, offset) < (report.good.segment, report.good.offset) {
                report.good = Good { path: finding.path.clone(), segment: finding.segment, offset, line: finding.line - 1 };
                self.damaged = true;
            }
        }
        let said = self.say(Some(&finding));
        if self.report.findings.len() < self.findings_max {
            self.report.findings.push(finding);
        }
        said
    }

    fn say(&mut self, finding: Option<&Finding>) -> Flow {
        let file = self.file.as_deref().map(|file| (&*self.path, file));
        match (self.on)(Progress { bytes_done: self.bytes_done, bytes_total: self.bytes_total, finding, file }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Enough),
        }
    }
}
