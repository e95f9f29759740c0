//! A crash-safe, append-only JSON Lines journal.

#[cfg(not(target_os = "linux"))]
compile_error!("untorn is built for Linux so far: locks, presence and durability are proved nowhere else");

mod active;
mod append;
mod damage;
mod encode;
mod error;
pub mod format;
mod judge;
mod lock;
mod neighbours;
mod position;
mod quarantine;
mod reader;
mod resume;
mod rollback;
mod salvage;
mod scan;
mod seek;
mod segment;
mod sys;
mod tail;
mod verify;
mod writer;

#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "sim")]
pub use sys::sim;

pub use damage::{Damage, DamagedPlace};
pub use encode::Batch;
pub use error::{Error, ErrorKind, Left, Result};
pub use format::{
    json::Invalid as InvalidJson,
    verdict::{Code, Severity, Verdict},
};
pub use lock::{Lock, LockWait};
pub use position::{Appended, Mark, Position};
pub use reader::{Line, OnCorrupt, ReadOptions, Reader, Record, Records, Start};
pub use resume::{Resumed, resume};
pub use rollback::Rollback;
pub use tail::{TailRepair, Unterminated};
pub use verify::{FINDINGS_MAX_DEFAULT, Finding, Good, Progress, Report, VerifyOptions, verify};
pub use writer::{Durability, Format, Options, Writer};
