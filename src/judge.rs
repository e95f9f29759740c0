//! What one line of a file is, told by its own bytes; its neighbours are not asked.
//!
//! The last bytes of a file may lack their LF. They are a record only if they cannot be the beginning of a longer one: a seal that holds, or a
//! plain object, array or string. NULs and white space behind it are what some file systems leave after a power cut.

use std::ops::Range;

use crate::{
    format::{
        json::Kind,
        line::Framed,
        seal::Seal,
        tail::Tail,
        verdict::{Code, Judged, Verdict},
    },
    scan::Span,
};

/// One line, found and judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) span: Span,
    /// Of a corrupt line the code is the plainest one; what stands on the line tells more.
    pub(crate) verdict: Verdict,
    /// The seal of a line whose verdict is [`Verdict::Sealed`].
    pub(crate) seal: Option<Seal>,
    /// The bytes of the line without byte order mark and surrounding white space, and without NULs behind them if the line has no LF.
    pub(crate) text: Range<usize>,
    /// NULs, with white space or without, stand between the text and the end of the file.
    pub(crate) nuls_behind: bool,
}

impl Found {
    /// Judges `bytes`, which are what `span` names without LF.
    pub(crate) fn of(span: Span, bytes: &[u8]) -> Found {
        let kept = if span.terminated { bytes } else { without_nuls(bytes) };
        let nuls_behind = bytes.get(kept.len()..).unwrap_or_default().contains(&0);
        let framed = Framed::new(kept, span.start == 0);
        let end = framed.bom + framed.text.len();
        let text = end - framed.payload().len()..end;
        let judged = if span.too_long || span.lost { None } else { Some(Judged::of(&framed)) };
        let seal = match judged {
            Some(Judged::Sealed(seal)) => Some(seal),
            _ => None,
        };
        let verdict = match judged {
            Some(Judged::Sealed(_)) => Verdict::Sealed,
            Some(Judged::Newer) => Verdict::Corrupt(Code::NewerFormat),
            Some(Judged::Blank) if !nuls_behind => Verdict::Blank,
            Some(Judged::Plain(valid)) if span.terminated || !matches!(valid.kind, Kind::Number | Kind::Literal) => Verdict::Plain,
            _ if !span.terminated => Verdict::Torn,
            None if span.lost => Verdict::Corrupt(Code::Unreadable),
            None => Verdict::Corrupt(Code::TooLong),
            Some(Judged::CrcMismatch) => Verdict::Corrupt(Code::CrcMismatch),
            Some(_) => Verdict::Corrupt(Code::NotJson),
        };
        Found { span, verdict, seal, text, nuls_behind }
    }

    pub(crate) fn is_record(&self) -> bool {
        matches!(self.verdict, Verdict::Sealed | Verdict::Plain)
    }

    /// Just past the line; of a record without LF, just past its last byte.
    pub(crate) fn end(&self) -> u64 {
        if self.is_record() && !self.span.terminated { self.span.start + self.text.end as u64 } else { self.span.end }
    }

    /// Bytes behind a record without LF that only a crash leaves there.
    pub(crate) fn torn_behind(&self) -> Option<Range<u64>> {
        (self.is_record() && self.nuls_behind).then(|| self.end()..self.span.end)
    }
}

/// `bytes` without the longest suffix of NULs and white space.
fn without_nuls(bytes: &[u8]) -> &[u8] {
    let kept = bytes.iter().rposition(|byte| !Tail::is_filling(*byte)).map_or(0, |last| last + 1);
    bytes.get(..kept).unwrap_or_default()
}
