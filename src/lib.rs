//! A crash-safe, append-only JSON Lines journal.

mod error;
pub mod format;
mod position;
mod sys;

pub use error::{Error, ErrorKind, Left, Result};
pub use format::verdict::{Code, Severity, Verdict};
pub use position::{Appended, Mark, Position};
#[cfg(feature = "sim")]
pub use sys::sim;
