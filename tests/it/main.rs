//! What the library promises, one file per concept; a test's name is the claim it proves.
//!
//! Tests run side by side in one process, so none changes the environment (S0-42): what a test needs is a parameter. `.ci/run` looks.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a test that fails should say where"
)]

mod append;
mod archive;
#[cfg(feature = "zstd")]
mod compress;
#[cfg(all(feature = "sim", feature = "zstd", feature = "gzip"))]
mod compressed;
#[cfg(feature = "sim")]
mod consumer;
#[cfg(feature = "sim")]
mod consumer_model;
#[cfg(feature = "sim")]
mod consumer_sources;
#[cfg(feature = "sim")]
mod durability;
#[cfg(feature = "sim")]
mod follow;
#[cfg(all(feature = "sim", feature = "tokio"))]
mod group_commit;
#[cfg(feature = "sim")]
mod hostile;
mod lock;
mod open;
mod prune;
mod reader;
#[cfg(feature = "sim")]
mod regressions;
#[cfg(feature = "sim")]
mod repair;
mod rotate;
mod scopes;
#[cfg(feature = "sim")]
mod snapshot;
mod support;
mod undo;
#[cfg(feature = "sim")]
mod verify;
mod workflow_loop;
