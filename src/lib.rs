//! A crash-safe, append-only JSON Lines journal.

mod error;
pub mod format;
mod position;

pub use error::{Error, ErrorKind, Left, Result};
pub use format::verdict::{Code, Severity, Verdict};
pub use position::{Appended, Mark, Position};
