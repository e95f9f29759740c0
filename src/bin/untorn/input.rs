//! Lines of stdin as they come in: all that are there are given at once, and nothing is waited for while one is.
//!
//! A thread of its own reads, so that lines come in while others are being synced, and ^C is heard between two groups. A line over the limit is
//! told as soon as it is, and passed over without being kept.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::{exit::Stop, interrupt};

const CHUNK_BYTES: usize = 256 << 10;

/// How many chunks may wait to be taken.
const CHUNKS_MAX: usize = 4;

/// A group is no larger than this and one chunk, unless it is one line.
const GROUP_BYTES: usize = 1 << 20;

const BOM: &[u8] = b"\xEF\xBB\xBF";

pub(crate) struct Input {
    events: Receiver<Event>,
    /// For the thread that reads, until it is started.
    sender: Option<SyncSender<Event>>,
    interrupted: Arc<AtomicBool>,
    buffer: Vec<u8>,
    /// Where `buffer` starts in the stream.
    base: u64,
    /// Where the next line starts in `buffer`.
    next: usize,
    /// No LF is between `next` and here.
    searched: usize,
    /// How many lines were given.
    given: u64,
    line_bytes_max: usize,
    /// The bytes up to the next LF belong to a line that is over the limit.
    passing_over: bool,
    ended: bool,
}

enum Event {
    Bytes(Vec<u8>),
    Ended,
    Failed(io::Error),
    Interrupted,
}

/// What waiting gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is at least one line.
    Lines,
    Ended,
    Interrupted,
}

/// One line of stdin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) place: Place,
    /// Without LF, and without a byte order mark; of a line over the limit, what there is of it.
    pub(crate) bytes: &'a [u8],
    pub(crate) is_over_limit: bool,
}

/// Where a line stands in stdin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// From 1.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Input {
    /// Prepares to read stdin, which the first [`wait`](Input::wait) starts. From here on, ^C is heard there.
    pub(crate) fn stdin(line_bytes_max: u64) -> Input {
        let (sender, events) = sync_channel(CHUNKS_MAX);
        let interrupted = Arc::new(AtomicBool::new(false));
        let (flag, wake) = (interrupted.clone(), sender.clone());
        interrupt::end_after(move || {
            flag.store(true, Ordering::Relaxed);
            let _ = wake.send(Event::Interrupted);
        });
        Input { sender: Some(sender), ..Input::new(events, interrupted, line_bytes_max) }
    }

    fn new(events: Receiver<Event>, interrupted: Arc<AtomicBool>, line_bytes_max: u64) -> Input {
        let line_bytes_max = usize::try_from(line_bytes_max).unwrap_or(usize::MAX);
        let buffer = Vec::new();
        Input {
            events,
            sender: None,
            interrupted,
            buffer,
            base: 0,
            next: 0,
            searched: 0,
            given: 0,
            line_bytes_max,
            passing_over: false,
            ended: false,
        }
    }

    /// Whether there was a ^C.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits until there is a line, and takes what else has come in. What was given before is forgotten.
    pub(crate) fn wait(&mut self) -> Result<Waited, Stop> {
        if let Some(sender) = self.sender.take() {
            thread::spawn(move || read_on(&mut io::stdin().lock(), &sender));
        }
        self.buffer.drain(..self.next);
        self.base += self.next as u64;
        self.searched = self.searched.saturating_sub(self.next);
        self.next = 0;
        loop {
            let has_line = self.has_line();
            if self.is_interrupted() {
                return Ok(Waited::Interrupted);
            }
            if has_line && self.buffer.len() >= GROUP_BYTES {
                return Ok(Waited::Lines);
            }
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(_) if has_line => return Ok(Waited::Lines),
                Err(_) if self.ended => return Ok(Waited::Ended),
                Err(_) => self.events.recv().unwrap_or(Event::Ended),
            };
            match event {
                Event::Bytes(bytes) => self.take(&bytes),
                Event::Ended => self.ended = true,
                Event::Failed(error) => return Err(Stop::system("read stdin", error)),
                Event::Interrupted => return Ok(Waited::Interrupted),
            }
        }
    }

    /// The next line that has come in.
    pub(crate) fn next_line(&mut self) -> Option<Line<'_>> {
        let lf = self.find_lf();
        let end = match lf {
            Some(lf) => lf,
            None if self.has_line() => self.buffer.len(),
            None => return None,
        };
        let start = self.next;
        self.next = end + usize::from(lf.is_some());
        self.searched = self.next;
        let is_over_limit = end - start >= self.line_bytes_max;
        self.passing_over = is_over_limit && lf.is_none();
        self.given += 1;
        let bom = if self.given == 1 && self.buffer.starts_with(BOM) { BOM.len() } else { 0 };
        let bytes = self.buffer.get(start + bom..end).unwrap_or_default();
        let place = Place { number: self.given, offset: self.base + (start + bom) as u64, len: bytes.len() };
        Some(Line { place, bytes, is_over_limit })
    }

    /// The bytes of a line that was given since the last wait.
    pub(crate) fn again(&self, place: Place) -> &[u8] {
        let start = usize::try_from(place.offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.buffer.get(start..start.saturating_add(place.len)).unwrap_or_default()
    }

    fn has_line(&mut self) -> bool {
        let unfinished = self.buffer.len() - self.next;
        self.find_lf().is_some() || unfinished >= self.line_bytes_max || (self.ended && unfinished > 0)
    }

    fn find_lf(&mut self) -> Option<usize> {
        let from = self.searched.max(self.next);
        match memchr::memchr(b'\n', self.buffer.get(from..).unwrap_or_default()) {
            Some(at) => {
                self.searched = from + at;
                Some(from + at)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.passing_over {
            let over = memchr::memchr(b'\n', bytes).map(|lf| lf + 1);
            self.passing_over = over.is_none();
            let (passed, rest) = bytes.split_at(over.unwrap_or(bytes.len()));
            // Nothing is kept in front of these bytes: the line was given, and forgotten by the wait.
            self.base += passed.len() as u64;
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
    }
}

fn read_on(stdin: &mut impl Read, sender: &SyncSender<Event>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let event = match stdin.read(&mut chunk) {
            Ok(0) => Event::Ended,
            Ok(read) => {
                chunk.truncate(read);
                Event::Bytes(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Failed(error),
        };
        let goes_on = matches!(event, Event::Bytes(_));
        if sender.send(event).is_err() || !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]], line_bytes_max: u64) -> Vec<(u64, u64, Vec<u8>, bool)> {
        let (sender, events) = sync_channel(chunks.len() + 1);
        for chunk in chunks {
            sender.send(Event::Bytes(chunk.to_vec())).unwrap();
        }
        sender.send(Event::Ended).unwrap();
        let mut input = Input::new(events, Arc::default(), line_bytes_max);
        let mut lines = Vec::new();
        while input.wait().unwrap() == Waited::Lines {
            let mut places = Vec::new();
            while let Some(line) = input.next_line() {
                places.push((line.place, line.bytes.to_vec()));
                lines.push((line.place.number, line.place.offset, line.bytes.to_vec(), line.is_over_limit));
            }
            for (place, bytes) in places {
                assert_eq!(input.again(place), bytes);
            }
        }
        lines
    }

    #[test]
    fn any_division_into_chunks_gives_the_same_lines() {
        let text = b"\xEF\xBB\xBFab\n\nc\r\nlast";
        let whole = lines_of(&[text], 1000);
        assert_eq!(whole.iter().map(|line| &line.2[..]).collect::<Vec<_>>(), [&b"ab"[..], b"", b"c\r", b"last"]);
        assert_eq!(whole.iter().map(|line| (line.0, line.1)).collect::<Vec<_>>(), [(1, 3), (2, 6), (3, 7), (4, 10)]);
        for first in 3..text.len() {
            for second in first..text.len() {
                assert_eq!(lines_of(&[&text[..first], &text[first..second], &text[second..]], 1000), whole, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_line_over_the_limit_is_told_and_passed_over() {
        let text = b"a\n123456789\nb\n1234\n";
        for cut in 0..text.len() {
            let lines = lines_of(&[&text[..cut], &text[cut..]], 4);
            let told: Vec<_> = lines.iter().map(|line| (line.0, line.1, line.3)).collect();
            assert_eq!(told, [(1, 0, false), (2, 2, true), (3, 12, false), (4, 14, true)], "cut at byte {cut}");
        }
    }
}
