//! The class given to one line, and the codes of everything that can be found in a file.

use std::fmt;

use super::{json, line::Framed, seal};
use crate::seeded;

/// The class given to one line.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A record whose seal holds.
    Sealed,
    /// A record without a seal: valid JSON, written by others or in plain form.
    Plain,
    /// Nothing but white space.
    Blank,
    /// Bytes after the last LF, or a line of a batch whose end is missing.
    Torn,
    /// A terminated line that is no JSON value or fails its seal.
    Corrupt(Code),
}

/// A stable name for what was found.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Bytes after the last LF that are no whole record.
    TornTail,
    /// Such bytes while a writer is at work: no damage.
    InFlight,
    /// A whole last record without its LF.
    Unterminated,
    /// A batch whose end is missing.
    OpenBatch,
    /// A sealed line whose bytes changed.
    CrcMismatch,
    /// A terminated line that is no JSON value.
    NotJson,
    /// Invalid UTF-8.
    NotUtf8,
    /// A run of NUL bytes, with or without a record beside it.
    NulRun,
    /// A torn prefix with a whole record after it on the same line.
    Spliced,
    /// Two or more whole records on one line.
    Glued,
    /// A line over the limit.
    TooLong,
    /// A good CRC over seal members that this version does not know.
    NewerFormat,
    /// A part of a compressed file that cannot be decompressed.
    Unreadable,
    /// Numbers are missing.
    SeqGap,
    /// A number is lower than one before it.
    SeqRegression,
    /// A number was given twice.
    SeqDuplicate,
    /// A plain record equal to the one before it.
    Duplicate,
    /// A byte order mark at the start of the file.
    Bom,
    /// A line that ends in CR LF.
    Crlf,
    /// A blank line.
    Blank,
    /// A plain line in a journal of sealed lines.
    PlainInSealed,
    /// An escape that names half a surrogate pair.
    LoneSurrogate,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Legal, worth knowing.
    Notice,
    /// No damage by itself, but a sign of some.
    Warning,
    /// Damage.
    Error,
}

impl Code {
    /// The name in reports and in JSON; it never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::TornTail => "torn-tail",
            Code::InFlight => "in-flight",
            Code::Unterminated => "unterminated",
            Code::OpenBatch => "open-batch",
            Code::CrcMismatch => "crc-mismatch",
            Code::NotJson => "not-json",
            Code::NotUtf8 => "not-utf8",
            Code::NulRun => "nul-run",
            Code::Spliced => "spliced",
            Code::Glued => "glued",
            Code::TooLong => "too-long",
            Code::NewerFormat => "newer-format",
            Code::Unreadable => "unreadable",
            Code::SeqGap => "seq-gap",
            Code::SeqRegression => "seq-regression",
            Code::SeqDuplicate => "seq-duplicate",
            Code::Duplicate => "duplicate",
            Code::Bom => "bom",
            Code::Crlf => "crlf",
            Code::Blank => "blank",
            Code::PlainInSealed => "plain-in-sealed",
            Code::LoneSurrogate => "lone-surrogate",
        }
    }

    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Code::TornTail | Code::OpenBatch | Code::CrcMismatch | Code::NotJson | Code::NotUtf8 | Code::NulRun => Severity::Error,
            Code::Spliced | Code::Glued | Code::TooLong | Code::NewerFormat | Code::Unreadable => Severity::Error,
            Code::Unterminated | Code::SeqGap | Code::SeqRegression | Code::SeqDuplicate | Code::Duplicate => Severity::Warning,
            Code::InFlight | Code::Bom | Code::Crlf | Code::Blank | Code::PlainInSealed | Code::LoneSurrogate => Severity::Notice,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Severity {
    /// The word in reports and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one line's own bytes say, before its neighbours are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The seal holds.
    Sealed(seal::Seal),
    Plain(json::Valid),
    Blank,
    /// The seal does not hold, or one of its bytes is off.
    CrcMismatch,
    /// No JSON value; where and why.
    NotJson(json::Invalid),
    Newer,
}

impl Judged {
    /// Judges the bytes of one line: by its seal if it has the shape of one, else as JSON.
    #[inline]
    pub(crate) fn of(framed: &Framed<'_>) -> Judged {
        match framed.shape() {
            seal::Shape::Sealed(seal) if seeded::bug("lf-for-proof") || seal.holds(framed.text) => Judged::Sealed(seal),
            seal::Shape::Sealed(_) | seal::Shape::Near => Judged::CrcMismatch,
            seal::Shape::Newer => Judged::Newer,
            seal::Shape::Plain if framed.payload().is_empty() => Judged::Blank,
            seal::Shape::Plain => match json::validate(framed.payload()) {
                Ok(valid) => Judged::Plain(valid),
                Err(invalid) => Judged::NotJson(invalid),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports and JSON say these words, and who asks for the worst of several findings compares them.
    #[test]
    fn severities_have_words_and_an_order() {
        let words = [(Severity::Notice, "notice"), (Severity::Warning, "warning"), (Severity::Error, "error")];
        for (severity, word) in words {
            assert_eq!((severity.as_str(), severity.to_string().as_str()), (word, word));
            assert_eq!(format!("{severity:>8}"), format!("{word:>8}"));
        }
        assert!(words.is_sorted_by_key(|(severity, _)| *severity));
    }
}
