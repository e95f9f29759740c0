//! Typed records: the payloads of a reader's lines, decoded.

use std::{iter::FusedIterator, marker::PhantomData};

use serde::de::DeserializeOwned;

use super::Reader;
use crate::{damage::Damage, error::Result, format::verdict::Verdict, position::Mark};

/// One record, with the mark of its line.
#[non_exhaustive]
#[derive(Debug)]
pub struct Record<T> {
    /// The payload.
    pub value: T,
    /// The line: its place, number and CRC.
    pub mark: Mark,
}

/// The records of a journal as values of one type.
///
/// A decoder sees the payload, never the seal, so `deny_unknown_fields`, `flatten` and `RawValue` behave as they do on the value that was
/// appended. It owns its reader, so [`damage`](Records::damage) is still there after the loop.
///
/// Each item is a record or an [`Error`](crate::Error):
///
/// - [`ErrorKind::Decode`](crate::ErrorKind::Decode): this record is no `T`. The error has its mark; the next item is the next record.
/// - [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt): with [`OnCorrupt::Yield`](super::OnCorrupt::Yield) one corrupt line, and the next item goes on; with [`OnCorrupt::Stop`](super::OnCorrupt::Stop) the last item.
/// - any other: the system failed, and it is the last item.
///
/// ```
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Event {
///     text: String,
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// std::fs::write(&path, "{\"text\":\"hi\"}\n{\"text\":7}\n{\"te\n{\"text\":\"bye\"}\n")?;
/// let mut records = untorn::Reader::open(&path)?.records::<Event>();
/// let mut texts = Vec::new();
/// for record in records.by_ref() {
///     match record {
///         Ok(record) => texts.push(record.value.text),
///         Err(error) => assert_eq!((error.kind(), error.offset()), (untorn::ErrorKind::Decode, Some(14))),
///     }
/// }
/// assert_eq!(texts, ["hi", "bye"]);
/// assert_eq!(records.damage().lines(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Records<T> {
    reader: Reader,
    is_over: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Records<T> {
    pub(super) fn new(reader: Reader) -> Records<T> {
        Records { reader, is_over: false, record: PhantomData }
    }

    /// What was passed over so far.
    pub fn damage(&self) -> &Damage {
        self.reader.damage()
    }

    /// The reader, which goes on behind the last record given.
    pub fn into_reader(self) -> Reader {
        self.reader
    }
}

impl<T: DeserializeOwned> Iterator for Records<T> {
    type Item = Result<Record<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match next(&mut self.reader) {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                self.is_over = true;
                None
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(error))
            }
        }
    }
}

/// The next record, or why it is none; `None` at the end.
///
/// # Errors
///
/// As [`Reader::next_line`].
pub(crate) fn next<T: DeserializeOwned>(reader: &mut Reader) -> Result<Option<Result<Record<T>>>> {
    while let Some(mut line) = reader.next_line()? {
        match line.verdict() {
            Verdict::Sealed | Verdict::Plain | Verdict::Corrupt(_) => {
                let mark = line.mark();
                return Ok(Some(line.decode().map(|value| Record { value, mark })));
            }
            Verdict::Blank | Verdict::Torn => {}
        }
    }
    Ok(None)
}

impl<T: DeserializeOwned> FusedIterator for Records<T> {}
