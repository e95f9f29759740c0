//! The crash rig: every promise attacked by every fault that a disk is known to have.
//!
//! On a simulated disk, a [`script`] of appends runs and keeps a ledger of what it was told. [`faults`] makes each call of it fail, in every way;
//! [`power`] cuts the power before each call and tries every state that the disk could be in; [`strangers`] lets a process that knows of no lock
//! write between any two calls; [`storm`] does several of these at once, by chance. On the real one, [`syscalls`] does the same to the command as it ships, [`kills`] kills many of it at one
//! journal, [`shutdown`] cuts the power of real file systems, and [`writeback`] lets their syncs fail. Whatever happened, [`promises`] then holds
//! the file against the ledger.
//!
//! `README.md` beside this file says which fault is tried where. What is explored is printed as plain lines:
//! `cargo test --release --features sim,cli --test crash -- --nocapture`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that fails should say where"
)]

#[cfg(feature = "cli")]
mod appender;
mod chance;
mod crashes;
mod faults;
mod history;
#[cfg(feature = "cli")]
mod kills;
mod lane;
mod mount;
mod owners;
mod power;
mod promises;
mod quarantine;
mod repair;
mod saves;
mod script;
mod shutdown;
mod shutdown_history;
mod storm;
mod strangers;
#[cfg(feature = "cli")]
mod syscalls;
mod table;
mod weather;
mod writeback;
