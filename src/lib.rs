//! A crash-safe, append-only JSON Lines journal.

mod error;
pub mod format;
mod judge;
mod position;
mod reader;
mod scan;
mod seek;
mod segment;
mod sys;

pub use error::{Error, ErrorKind, Left, Result};
pub use format::verdict::{Code, Severity, Verdict};
pub use position::{Appended, Mark, Position};
pub use reader::{Damage, DamagedPlace, Line, OnCorrupt, ReadOptions, Reader, Record, Records, Start};
