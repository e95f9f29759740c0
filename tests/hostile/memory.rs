//! How much memory was taken: the most that was resident at a time, as the system counts it.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};

use crate::MEMORY_BYTES;

/// What a run may take: so much, and the longest line.
pub(crate) fn allowed(longest_line: u64) -> u64 {
    MEMORY_BYTES + longest_line
}

/// The most that any child of this process had so far; what this process had when it started the child counts too.
pub(crate) fn most_of_children() -> u64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss().unsigned_abs() << 10
}

/// Of this process, since it was last [forgotten](forget_peak); `None` where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    read("VmHWM:")
}

/// What is resident now.
pub(crate) fn now() -> Option<u64> {
    read("VmRSS:")
}

/// Makes the peak what is resident now; whether that can be done. See proc_pid_clear_refs(5).
pub(crate) fn forget_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

fn read(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
