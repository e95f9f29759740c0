//! What must hold of a journal's bytes, whatever happened to it, told without the library's own reader.

use std::collections::HashMap;

/// One line of a journal, as its bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Its seal holds; or in a journal without seals, it is JSON.
    Sealed { seq: u64, more: u64, payload: String },
    /// Anything else.
    Other(Vec<u8>),
}

/// Splits at LFs and proves seals, the slow and simple way: by parsing JSON.
pub(crate) fn lines(bytes: &[u8]) -> Vec<Line> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(line).collect()
}

/// The lines of a journal without seals: whatever is JSON is a record, and its place stands for its number.
pub(crate) fn plain_lines(bytes: &[u8]) -> Vec<Line> {
    let record = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        serde_json::from_str::<serde::de::IgnoredAny>(text).ok().map(|_| text.to_owned())
    };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1..);
    lines.map(|(line, seq)| record(line).map_or_else(|| Line::Other(line.to_vec()), |payload| Line::Sealed { seq, more: 0, payload })).collect()
}

fn line(bytes: &[u8]) -> Line {
    sealed(bytes).unwrap_or_else(|| Line::Other(bytes.to_vec()))
}

fn sealed(bytes: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let (covered, crc) = text.strip_suffix("\"}")?.rsplit_once(",\"_crc\":\"")?;
    if crc != format!("{:08x}", crc32fast::hash(covered.as_bytes())) {
        return None;
    }
    let members = value.as_object()?;
    let number = |key: &str| members.get(key).map_or(Some(0), serde_json::Value::as_u64);
    let (open, _) = covered.rsplit_once("\"_seq\":")?;
    let payload = match open.strip_prefix("{\"_value\":") {
        Some(value) => value.strip_suffix(',')?.to_owned(),
        None => format!("{}}}", open.strip_suffix(',').unwrap_or(open)),
    };
    Some(Line::Sealed { seq: number("_seq")?, more: number("_more")?, payload })
}

/// The payloads that a reader gives out: those of whole batches and of records outside one, in order.
pub(crate) fn readable(lines: &[Line]) -> Vec<(u64, String)> {
    let last_of_batch: HashMap<u64, ()> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Sealed { seq, more: 0, .. } => Some((*seq, ())),
            _ => None,
        })
        .collect();
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Sealed { seq, more, payload } if last_of_batch.contains_key(&(seq + more)) => Some((*seq, payload.clone())),
            _ => None,
        })
        .collect()
}

/// What an append was told, or was never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is in the file; and on the disk, if `durable`.
    There { durable: bool },
    /// No byte of it counts.
    NotThere,
    /// Nothing that binds anybody.
    Unknown,
}

/// Holds the readable records of a file against what the appends were told. `power_cut`: what was not durable may be gone.
pub(crate) fn check(bytes: &[u8], ledger: &[(String, Told)], power_cut: bool) -> Result<(), String> {
    check_lines(&lines(bytes), ledger, power_cut)
}

/// The same of lines.
pub(crate) fn check_lines(lines: &[Line], ledger: &[(String, Told)], power_cut: bool) -> Result<(), String> {
    let found = readable(lines);
    let mut at = 0;
    for (payload, told) in ledger {
        let here = found.get(at).is_some_and(|(_, found)| found == payload);
        let must = matches!(told, Told::There { durable } if *durable || !power_cut);
        if must && !here {
            return Err(format!("{payload:.60} was acknowledged and is not there; found {:.80?} in its place", found.get(at)));
        }
        if here && *told == Told::NotThere {
            return Err(format!("{payload:.60} was said not to be in the file, and is"));
        }
        at += usize::from(here);
    }
    if let Some((_, payload)) = found.get(at) {
        return Err(format!("{payload:.60} is there out of order, twice or from nowhere"));
    }
    if !found.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(format!("numbers do not rise: {:?}", found.iter().map(|(seq, _)| seq).collect::<Vec<_>>()));
    }
    // P1: what an acknowledged record is told to be is a line of its own; a copy of it glued to other bytes would be a second one.
    for line in lines {
        let Line::Other(bytes) = line else { continue };
        for (payload, told) in ledger.iter().filter(|(payload, _)| payload.len() > 20) {
            let glued = matches!(told, Told::There { .. }) && memchr::memmem::find(bytes, payload.trim_end_matches('}').as_bytes()).is_some();
            if glued && !power_cut && !found.iter().any(|(_, found)| found == payload) {
                return Err(format!("{payload:.60} shares a line with other bytes"));
            }
        }
    }
    Ok(())
}
