//! What only the lines before can tell: line numbers, the numbers of records, batches, equal neighbours.
//!
//! Runs come in the order of the file, whoever judged them, and how a file is divided into runs changes nothing in the report.

use super::{
    Flow, Stop,
    chunk::{Kind, Oddities, Print, Run, SealedRun},
    corrupt::Examiner,
    numbers::Numbers,
    record::{Lines, Note, Recorder},
    report::Report,
};
use crate::{format::verdict::Code, segment::Segment, words};

/// What is known of the lines so far.
pub(super) struct Merge<'a> {
    pub(super) recorder: Recorder<'a>,
    pub(super) numbers: Numbers,
    /// The last record, if it was plain.
    plain: Option<Print>,
    pub(super) batch: Option<OpenBatch>,
    /// Terminated lines of this segment so far.
    pub(super) lines: u64,
    /// Where the next line starts.
    pub(super) offset: u64,
    line_bytes_max: u64,
    /// The end of the bytes after the last LF, if there are any.
    pub(super) tail_end: Option<u64>,
}

/// A batch of which more lines must follow.
pub(super) struct OpenBatch {
    /// From its first line to its last one so far.
    pub(super) lines: Lines,
    /// Bytes of its own lines.
    bytes: u64,
    pub(super) records: u64,
    last: u64,
    end: u64,
    /// Lines that are neither its own nor blank stand among or behind its lines.
    pub(super) mixed: bool,
    /// One of its lines is not there, or they are longer than a line may be: nothing that follows makes it whole.
    broken: bool,
}

impl<'a> Merge<'a> {
    pub(super) fn new(recorder: Recorder<'a>, line_bytes_max: u64) -> Merge<'a> {
        Merge { recorder, line_bytes_max, numbers: Numbers::default(), plain: None, batch: None, lines: 0, offset: 0, tail_end: None }
    }

    /// Goes on with another segment, at a boundary with `lines` lines before it.
    pub(super) fn begin(&mut self, segment: &Segment, lines: u64) {
        (self.offset, self.lines, self.tail_end) = (segment.start, lines, None);
        self.recorder.begin(segment);
    }

    /// Where the bytes end that were judged.
    pub(super) fn end(&self) -> u64 {
        self.tail_end.unwrap_or(self.offset)
    }

    pub(super) fn into_report(mut self, complete: bool) -> Report {
        let report = &mut self.recorder.report;
        report.complete = complete;
        (report.first_seq, report.last_seq) = (self.numbers.first(), self.numbers.last());
        report.findings.sort_by_key(|finding| (finding.segment, finding.offset));
        self.recorder.report
    }

    /// Takes the next run.
    pub(super) fn run(&mut self, run: &Run, examiner: &mut Examiner<'_>) -> Flow {
        if run.start != self.offset {
            return Err(Stop::Shrunk);
        }
        if run.kind == Kind::Tail {
            self.tail_end = Some(run.end);
            return Ok(());
        }
        let lines = Lines { line: self.lines + 1, lines: run.lines, start: run.start, end: run.end };
        self.lines += run.lines;
        self.offset = run.end;
        self.recorder.report.lines += run.lines;
        if let Kind::Corrupt(corrupt) = &run.kind {
            self.mix_batch();
            let note = examiner.note(&lines, corrupt, self.numbers.last())?;
            return self.recorder.add(&lines, run.oddities.notes(&lines).chain([note]).collect());
        }
        let first = Lines { lines: 1, end: run.first_end, ..lines };
        let of_first = self.place(run, &lines)?;
        let notes = self.notes(run, &first).chain(of_first).collect();
        self.recorder.add(&first, notes)?;
        if !run.is_of_batch() {
            self.end_batch()?;
        }
        if run.lines > 1 {
            let others = Lines { line: lines.line + 1, lines: run.lines - 1, start: run.first_end, end: run.end };
            let notes = self.notes(run, &others).collect();
            self.recorder.add(&others, notes)?;
        }
        self.end_batch()
    }

    /// Counts a run of records or blank lines, and compares its first line with the lines before.
    pub(super) fn place(&mut self, run: &Run, lines: &Lines) -> Flow<Option<Note>> {
        let first = Lines { lines: 1, end: run.first_end, ..*lines };
        let report = &mut self.recorder.report;
        let found = match &run.kind {
            Kind::Sealed(sealed) => {
                report.sealed += lines.lines;
                self.join_batch(sealed, lines, &first)?;
                self.plain = None;
                self.numbers.go_on(sealed)
            }
            Kind::Plain { first, last } => {
                report.plain += lines.lines;
                self.mix_batch();
                let is_equal = self.plain.replace(*last) == Some(*first);
                is_equal.then(|| (Code::Duplicate, "equal to the record before it".to_owned()))
            }
            Kind::Blank => {
                report.blank += lines.lines;
                None
            }
            Kind::Corrupt(_) | Kind::Tail => None,
        };
        Ok(found.map(|(code, message)| Note::on(&first, code, message)))
    }

    /// What is worth knowing about each line of a run.
    pub(super) fn notes(&self, run: &Run, lines: &Lines) -> impl Iterator<Item = Note> + use<> {
        let own = match run.kind {
            Kind::Blank => Some((Code::Blank, "nothing but white space")),
            Kind::Plain { .. } if self.numbers.last().is_some() => Some((Code::PlainInSealed, "no seal, in a sealed journal")),
            _ => None,
        };
        let own = own.map(|(code, message)| Note::on(lines, code, message));
        run.oddities.notes(lines).chain(own)
    }

    /// Counts sealed lines to the batch they belong to. A line that belongs to none ends one that is not whole.
    fn join_batch(&mut self, run: &SealedRun, lines: &Lines, first: &Lines) -> Flow {
        if self.batch.as_ref().is_some_and(|batch| !batch.takes(run)) {
            self.leave_batch()?;
        }
        if self.batch.is_none()
            && let Some(end) = run.batch_end
        {
            let lines = Lines { end: lines.start, ..*lines };
            self.batch = Some(OpenBatch { lines, bytes: 0, records: 0, last: run.first - 1, end, mixed: false, broken: false });
        }
        let Some(batch) = &mut self.batch else { return Ok(()) };
        // Behind the last line of a batch, records of no batch may stand in the same run.
        let own = if run.batch_end.is_some() { *lines } else { *first };
        batch.broken |= run.first != batch.last + 1 || own.end - batch.lines.start > self.line_bytes_max;
        batch.lines.end = own.end;
        batch.bytes += own.end - own.start;
        batch.records += own.lines;
        batch.last = run.batch_end.map_or(run.first, |_| run.last);
        Ok(())
    }

    /// Is done with the batch if its last line was counted, once all that is to say of that line was said.
    pub(super) fn end_batch(&mut self) -> Flow {
        match &self.batch {
            Some(batch) if batch.last < batch.end => Ok(()),
            Some(batch) if batch.broken => self.leave_batch(),
            _ => {
                self.batch = None;
                Ok(())
            }
        }
    }

    fn mix_batch(&mut self) {
        if let Some(batch) = &mut self.batch {
            batch.mixed = true;
        }
    }

    /// Reports the batch whose end is missing, if there is one.
    pub(super) fn leave_batch(&mut self) -> Flow {
        let Some(batch) = self.withhold_batch() else { return Ok(()) };
        let message = format!("a batch up to #{} is not whole", words::grouped(batch.end));
        let note = Note { len: batch.bytes, count: batch.records, ..Note::on(&batch.lines, Code::OpenBatch, message) };
        self.recorder.add_alone(&batch.lines, note)
    }

    /// Takes back what was counted of the open batch.
    pub(super) fn withhold_batch(&mut self) -> Option<OpenBatch> {
        let batch = self.batch.take()?;
        self.recorder.report.sealed -= batch.records;
        self.numbers.give_up_to(batch.end);
        Some(batch)
    }
}

impl OpenBatch {
    /// Whether the first line of a run is one of the batch, be it the next one or not.
    fn takes(&self, run: &SealedRun) -> bool {
        run.first > self.last && run.batch_end.unwrap_or(run.first) == self.end
    }
}

impl Oddities {
    fn notes(self, lines: &Lines) -> impl Iterator<Item = Note> + use<> {
        let known = [
            (self.bom, Code::Bom, "byte order mark"),
            (self.crlf, Code::Crlf, "CR before the LF"),
            (self.lone_surrogate, Code::LoneSurrogate, "escape of half a surrogate pair"),
        ];
        let lines = *lines;
        known.into_iter().filter(|(is_there, ..)| *is_there).map(move |(_, code, message)| Note::on(&lines, code, message))
    }
}
