//! A crash-safe, append-only JSON Lines journal.

mod error;
pub mod format;
mod position;
#[allow(dead_code, reason = "verifying and repairing are its users")]
mod salvage;
mod scan;
mod sys;

pub use error::{Error, ErrorKind, Left, Result};
pub use format::verdict::{Code, Severity, Verdict};
pub use position::{Appended, Mark, Position};
