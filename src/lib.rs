//! A crash-safe, append-only JSON Lines journal.

pub(crate) mod format;
