//! State taken up again: the snapshot, and the records after it.

use serde::{Serialize, de::DeserializeOwned};

use super::{RestoredState, Snapshot};
use crate::{
    error::{Attempt, Error, ErrorKind, Result},
    format::LINE_BYTES_MAX_DEFAULT,
    position::Mark,
    reader::{Record, Start, records},
    resume::Resumed,
    segment::Segments,
};

impl<S: Serialize + DeserializeOwned> Snapshot<S> {
    /// The state through the last record of the journal: the snapshot, and the records after it folded in. Without a snapshot that can be used, all
    /// records are.
    ///
    /// The journal is the one that was resumed; its reader is at the end afterwards, and has counted the damage that was passed over. A record
    /// that is no `T` is given to `fold` as an error, and folding goes on if that returns `Ok`. The result is what folding all records gives, or an
    /// error: never a state with a gap. [`refused`](Snapshot::refused) tells why a newer snapshot was not used.
    ///
    /// # Errors
    ///
    /// [`Pruned`](ErrorKind::Pruned) if records between the snapshot, or the beginning, and the first record kept are gone; what `fold` returns; as
    /// [`restore`](Snapshot::restore), if the system failed or the state is no `S`; or the journal cannot be read.
    pub fn recover<T: DeserializeOwned>(&mut self, resumed: &mut Resumed, mut fold: impl FnMut(&mut S, Result<Record<T>>) -> Result<()>) -> Result<S>
    where
        S: Default,
    {
        let reader = &mut resumed.reader;
        self.refused = None;
        self.generation = None;
        let (start, mut state) = match self.restore_in(Some(reader.segments())) {
            Ok(Some(RestoredState { state, through, is_proved: true, .. })) => (Start::After(through), state),
            Ok(Some(RestoredState { state, through, .. })) => {
                self.check_gap(reader.segments(), Some(&through))?;
                (Start::Beginning, state)
            }
            // The journal itself has the state, if all of it is kept.
            Err(error) if self.refused.is_none() => return Err(error),
            Ok(None) | Err(_) => {
                self.check_gap(reader.segments(), None)?;
                (Start::Beginning, S::default())
            }
        };
        reader.go_to(&start)?;
        reader.skip_corrupt();
        while let Some(record) = records::next(reader)? {
            fold(&mut state, record)?;
        }
        Ok(state)
    }

    /// Refuses a journal whose first record does not follow on the one that a state covers, or is not the first of all.
    fn check_gap(&self, segments: &Segments, through: Option<&Mark>) -> Result<()> {
        let is_first_segment = segments.oldest()?.number == 1;
        let covered = through.map(|mark| mark.seq);
        let is_whole = match (first_sealed(segments)?, covered) {
            // What stands in front of it may have been record 1, damaged by now: that is no gap of ours.
            (Some(first), None) => first.seq == 1 || is_first_segment && first.is_behind_others,
            (Some(first), Some(Some(covered))) => first.seq <= covered.saturating_add(1),
            // Without numbers nothing shows whether records are missing, but for the number of the first segment.
            (None, None) => is_first_segment,
            (_, Some(_)) => false,
        };
        if is_whole {
            return Ok(());
        }
        let after = through.map_or("there is no snapshot".to_owned(), |mark| format!("the snapshot covers {}", super::named(mark)));
        let error = Error::new(ErrorKind::Pruned, Attempt::Read).on(segments.path());
        let error = error.detail(format!("{after}, and records behind that are no longer kept"));
        Err(match &self.refused {
            Some(refused) => error.earlier(refused.clone()),
            None => error,
        })
    }
}

/// The first sealed line of a journal.
struct First {
    seq: u64,
    /// Whether other lines stand in front of it.
    is_behind_others: bool,
}

fn first_sealed(segments: &Segments) -> Result<Option<First>> {
    let mut is_behind_others = false;
    for number in segments.numbers() {
        let segment = segments.get(number)?;
        let first = segment.stretch(LINE_BYTES_MAX_DEFAULT).first_sealed(u64::MAX).map_err(|error| segment.failed(error))?;
        is_behind_others |= first.map_or(segment.len() > 0, |first| first.span.start > segment.start);
        if let Some(first) = first {
            return Ok(Some(First { seq: first.seal.seq, is_behind_others }));
        }
    }
    Ok(None)
}
