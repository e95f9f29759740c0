//! The bytes after the last LF, as verify finds them: how far they are filling, and what stands before it.

use std::io;

use memchr::memchr;

use super::chunk::Source;
use crate::format::{BOM, tail};

const BLOCK_BYTES: u64 = 64 << 10;

/// The bytes of a file after its last LF, a byte order mark at the start of the file left out.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) start: u64,
    /// From here on there are only NULs and white space.
    pub(super) rest_end: u64,
    /// The first NUL from there on.
    pub(super) nul: Option<u64>,
    pub(super) end: u64,
    pub(super) kind: tail::Tail,
    /// None of it if it is longer than a line may be: then it is never judged whole.
    pub(super) rest: Vec<u8>,
}

impl Tail {
    /// Looks at the bytes from the last boundary on. Filling may be longer than memory, so it is read backwards, block by block.
    pub(super) fn find(source: &Source<'_>, boundary: u64) -> io::Result<Tail> {
        let end = source.range.end;
        let has_bom = boundary == 0 && source.read(0..end.min(BOM.len() as u64))? == BOM;
        let start = if has_bom { BOM.len() as u64 } else { boundary };
        let mut rest_end = end;
        let mut nul = None;
        while rest_end > start {
            let from = rest_end.saturating_sub(BLOCK_BYTES).max(start);
            let block = source.read(from..rest_end)?;
            let kept = block.iter().rposition(|byte| !tail::Tail::is_filling(*byte)).map_or(0, |last| last + 1);
            let filling = block.get(kept..).unwrap_or_default();
            rest_end = from + kept as u64;
            nul = memchr(0, filling).map(|at| rest_end + at as u64).or(nul);
            if kept > 0 {
                break;
            }
        }
        let judged = end - boundary < source.line_bytes_max;
        let rest = if judged { source.read(start..rest_end)? } else { Vec::new() };
        let kind = if judged { tail::Tail::of(&rest) } else { tail::Tail::Torn };
        Ok(Tail { start, rest_end, nul, end, kind, rest })
    }

    pub(super) fn is_over_limit(&self) -> bool {
        self.rest.is_empty() && self.rest_end > self.start
    }
}
