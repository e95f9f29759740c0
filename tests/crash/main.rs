//! The crash rig: every promise attacked by every fault that a disk is known to have.
//!
//! A [`script`] of appends runs on a simulated disk and keeps a ledger of what it was told. [`faults`] makes each call of it fail, in every way;
//! [`power`] cuts the power before each call and tries every state that the disk could be in; [`strangers`] lets a process that knows of no lock
//! write between any two calls. Whatever happened, [`promises`] then holds the file against the ledger.
//!
//! What is explored is printed as plain lines: `cargo test --features sim --test crash -- --nocapture`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that fails should say where"
)]

mod faults;
mod power;
mod promises;
mod quarantine;
mod script;
mod strangers;
