//! The command as a process: its streams and signals, its exit status, and what it leaves when it is killed or the disk is full.
//!
//! A test that needs what this machine lacks says so on a line of its own: `skipped: NAME: reason`.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails should say where"
)]

mod consume;
mod corpus;
mod follow;
mod full_disk;
mod interrupts;
mod killed;
mod lines;
mod moments;
mod pipes;
mod readme;
mod repaired;
mod streams;
mod support;
mod terminal;
