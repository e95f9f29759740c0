//! What was delivered and not settled yet, and so how far each source is acknowledged.
//!
//! Only unsettled records are kept. Each remembers the record in front of it: once it is the first that is not settled, that one is the watermark.
//! So acknowledgements may come in any order, and what is kept does not grow with what was acknowledged. A source that was truncated or replaced
//! begins a new generation, in which tickets of the old one move nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{follow::stop::Bell, position::Mark};

/// The duty to settle one record. Dropping it is [`hold`](Ticket::hold).
#[must_use = "a record whose ticket is dropped comes again after a restart, and holds back the checkpoint until then"]
#[derive(Debug)]
pub struct Ticket {
    ledger: Arc<Ledger>,
    source: usize,
    generation: u64,
    index: u64,
}

impl Ticket {
    /// The record is done with: it does not come again, once a checkpoint that covers it is saved.
    pub fn ack(self) {
        self.ledger.settle(&self, false);
    }

    /// The record is passed over for good, and counted as rejected.
    pub fn reject(self) {
        self.ledger.settle(&self, true);
    }

    /// The record comes again now, from the same consumer.
    pub fn release(self) {
        self.ledger.release(&self);
    }

    /// The record comes again after a restart. Until then the checkpoint stays in front of it, and it counts as in flight.
    pub fn hold(self) {}
}

#[derive(Debug)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Books {
    sources: Vec<Book>,
    /// Unsettled records of all sources, and their bytes.
    records: usize,
    bytes: usize,
    /// In the order in which they were released.
    released: VecDeque<(usize, u64, u64)>,
    /// Somebody waits for a record to be settled.
    is_awaited: bool,
    is_closed: bool,
}

/// One source.
#[derive(Debug, Default)]
struct Book {
    generation: u64,
    next: u64,
    /// The record delivered last, or acknowledged before this run.
    last: Option<Mark>,
    unsettled: BTreeMap<u64, Entry>,
    /// Of the unsettled records.
    bytes: usize,
    /// Of those in front of the watermark.
    rejected: u64,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    /// The record in front of it.
    before: Option<Mark>,
    bytes: usize,
    /// How many settled records between it and the next entry were rejected.
    rejected_behind: u64,
}

/// How far a source is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) generation: u64,
    pub(super) watermark: Option<Mark>,
    pub(super) rejected: u64,
}

/// How much is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InFlight {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Ledger {
    pub(super) fn new(bell: Arc<Bell>) -> Ledger {
        Ledger { books: Mutex::default(), bell }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a book for one more source.
    pub(super) fn add(&self) -> usize {
        let mut books = self.books();
        books.sources.push(Book::default());
        books.sources.len() - 1
    }

    /// Begins with what was acknowledged in earlier runs.
    pub(super) fn begin(&self, source: usize, generation: u64, acknowledged: Option<Mark>, rejected: u64) {
        if let Some(book) = self.books().sources.get_mut(source) {
            *book = Book { generation, last: acknowledged, rejected, ..Book::default() };
        }
    }

    /// Begins a new generation, in which earlier tickets count for nothing; what is acknowledged is not known until [`go_on_from`](Ledger::go_on_from).
    pub(super) fn reset(&self, source: usize) {
        let mut books = self.books();
        let Some(book) = books.sources.get_mut(source) else { return };
        let (forgotten, bytes) = (std::mem::take(&mut book.unsettled), book.bytes);
        *book = Book { generation: book.generation.saturating_add(1), rejected: book.rejected, next: book.next, ..Book::default() };
        books.records -= forgotten.len();
        books.bytes -= bytes;
    }

    /// After a reset: what is acknowledged all the same, since its records are still there.
    pub(super) fn go_on_from(&self, source: usize, acknowledged: Option<Mark>) {
        if let Some(book) = self.books().sources.get_mut(source) {
            book.last = acknowledged;
        }
    }

    /// Enters a record that is delivered for the first time.
    pub(super) fn deliver(self: &Arc<Ledger>, source: usize, mark: Mark, bytes: usize) -> Ticket {
        let mut books = self.books();
        let (mut generation, mut index) = (0, 0);
        if let Some(book) = books.sources.get_mut(source) {
            (generation, index) = (book.generation, book.next);
            book.next += 1;
            let before = book.last.replace(mark);
            book.unsettled.insert(index, Entry { mark, before, bytes, rejected_behind: 0 });
            book.bytes += bytes;
            books.records += 1;
            books.bytes += bytes;
        }
        Ticket { ledger: Arc::clone(self), source, generation, index }
    }

    fn settle(&self, ticket: &Ticket, is_rejected: bool) {
        let mut books = self.books();
        if books.is_closed {
            return;
        }
        let Some(book) = books.sources.get_mut(ticket.source).filter(|book| book.generation == ticket.generation) else { return };
        let Some(entry) = book.unsettled.remove(&ticket.index) else { return };
        book.bytes -= entry.bytes;
        let rejected = entry.rejected_behind + u64::from(is_rejected);
        match book.unsettled.range_mut(..ticket.index).next_back() {
            Some((_, before)) => before.rejected_behind += rejected,
            None => book.rejected += rejected,
        }
        books.records -= 1;
        books.bytes -= entry.bytes;
        if std::mem::take(&mut books.is_awaited) {
            drop(books);
            self.bell.ring();
        }
    }

    fn release(&self, ticket: &Ticket) {
        let mut books = self.books();
        if !books.is_closed {
            books.released.push_back((ticket.source, ticket.generation, ticket.index));
            drop(books);
            self.bell.ring();
        }
    }

    /// The next record that is to come again.
    pub(super) fn released(self: &Arc<Ledger>) -> Option<(Mark, Ticket)> {
        let mut books = self.books();
        loop {
            let (source, generation, index) = books.released.pop_front()?;
            let book = books.sources.get(source).filter(|book| book.generation == generation);
            if let Some(entry) = book.and_then(|book| book.unsettled.get(&index)) {
                return Some((entry.mark, Ticket { ledger: Arc::clone(self), source, generation, index }));
            }
        }
    }

    /// Takes note that a record that was to come again is not to be had now; it is tried again.
    pub(super) fn again(&self, ticket: &Ticket) {
        self.books().released.push_front((ticket.source, ticket.generation, ticket.index));
    }

    /// The same, behind the others that are to come again.
    pub(super) fn later(&self, ticket: &Ticket) {
        self.books().released.push_back((ticket.source, ticket.generation, ticket.index));
    }

    pub(super) fn source_of(ticket: &Ticket) -> usize {
        ticket.source
    }

    pub(super) fn acknowledged(&self, source: usize) -> Acknowledged {
        let books = self.books();
        books.sources.get(source).map_or(Acknowledged::default(), |book| Acknowledged {
            generation: book.generation,
            watermark: book.unsettled.values().next().map_or(book.last, |first| first.before),
            rejected: book.rejected,
        })
    }

    /// How much is in flight, if it is not less than this: then a ring tells when something was settled.
    pub(super) fn at_least(&self, records: usize, bytes: usize) -> Option<InFlight> {
        let mut books = self.books();
        let in_flight = InFlight { records: books.records, bytes: books.bytes };
        let is_much = in_flight.records > 0 && (in_flight.records >= records || in_flight.bytes >= bytes);
        books.is_awaited |= is_much;
        is_much.then_some(in_flight)
    }

    /// How much of one source is in flight, with its oldest record, if it is not less than this: then a ring tells when something was settled.
    pub(super) fn at_least_of(&self, source: usize, records: usize, bytes: usize) -> Option<(Mark, InFlight)> {
        let mut books = self.books();
        let book = books.sources.get(source)?;
        let in_flight = InFlight { records: book.unsettled.len(), bytes: book.bytes };
        let (_, oldest) = book.unsettled.first_key_value().filter(|_| in_flight.records >= records || in_flight.bytes >= bytes)?;
        let oldest = oldest.mark;
        books.is_awaited = true;
        Some((oldest, in_flight))
    }

    /// The oldest unsettled record: of the source that has waited longest for one of its records.
    pub(super) fn oldest(&self) -> Option<(usize, Mark)> {
        let books = self.books();
        let firsts = books.sources.iter().enumerate().filter_map(|(source, book)| Some((source, book, book.unsettled.iter().next()?)));
        // How many records of its source were delivered since says best how long a record has been waiting.
        let oldest = firsts.max_by_key(|(_, book, (index, _))| book.next - **index);
        oldest.map(|(source, _, (_, entry))| (source, entry.mark))
    }

    /// From now on tickets change nothing.
    pub(super) fn close(&self) {
        self.books().is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn mark(number: u64) -> Mark {
        Mark { seq: Some(number), start: Position::new(1, number), end: Position::new(1, number + 1), crc: 0 }
    }

    /// S0-44: what is kept for each record goes when it is settled, in whatever order, so a long run costs no more than what is in flight.
    #[test]
    fn what_was_settled_takes_no_room() {
        let ledger = Arc::new(Ledger::new(Arc::default()));
        let source = ledger.add();
        for batch in 0..1_000 {
            let mut tickets: Vec<_> = (1..=10).map(|record| ledger.deliver(source, mark(batch * 10 + record), 100)).collect();
            assert!(ledger.at_least(11, usize::MAX).is_none(), "batch {batch}");
            while !tickets.is_empty() {
                tickets.swap_remove(tickets.len() / 2).ack();
            }
        }
        assert!(ledger.books().sources.iter().all(|book| book.unsettled.is_empty()));
        assert!(ledger.at_least(0, 0).is_none());
        assert_eq!(ledger.acknowledged(source).watermark, Some(mark(10_000)));
    }
}
