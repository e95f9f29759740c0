//! What must hold of a quarantine, told without the library's own reader.

use std::path::Path;

use base64::Engine as _;
use untorn::{TailRepair, sim::SimDisk};

/// P4: what was cut off is in quarantine, byte for byte, exactly once in the repair that took it.
pub(crate) fn check(disk: &SimDisk, before: &[u8], repair: &TailRepair) -> Result<(), String> {
    let Some(removed) = repair.removed() else { return Ok(()) };
    let range = removed.start.offset as usize..removed.end.offset as usize;
    let quarantine = disk.durable_file(repair.quarantine().unwrap_or(Path::new(""))).ok_or("no durable quarantine")?;
    let entries: Vec<serde_json::Value> = quarantine.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let last = entries.iter().rposition(|entry| entry.get("before_len").is_some()).ok_or("no repair in quarantine")?;
    let (last, entries) = entries[last..].split_first().ok_or("no repair in quarantine")?;
    // Where a crash spoilt a line, the range is kept once more, behind the others.
    let mut kept: Vec<_> = entries.iter().filter(|entry| entry["repair"] == last["repair"] && entry.get("len").is_some()).collect();
    kept.sort_by_key(|entry| entry["offset"].as_u64());
    let mut at = range.start;
    for entry in kept {
        let len = entry["len"].as_u64().unwrap() as usize;
        let bytes = bytes(entry, len);
        if entry["offset"] != at || before.get(at..at + len) != Some(&bytes[..]) {
            return Err(format!("quarantine is wrong at byte {at}: {entry}"));
        }
        at += len;
    }
    if at == range.end { Ok(()) } else { Err(format!("quarantine ends at byte {at}, not {}", range.end)) }
}

/// All ranges that a quarantine keeps, of whichever repair: where they stood, and their bytes.
pub(crate) fn kept(quarantine: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let entries = quarantine.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    entries.filter_map(|entry| Some((entry["offset"].as_u64()? as usize, bytes(&entry, entry["len"].as_u64()? as usize)))).collect()
}

fn bytes(entry: &serde_json::Value, len: usize) -> Vec<u8> {
    match (entry.get("text"), entry.get("base64")) {
        (Some(text), _) => text.as_str().unwrap().as_bytes().to_vec(),
        (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64.as_str().unwrap()).unwrap(),
        (None, None) => vec![0; len],
    }
}
