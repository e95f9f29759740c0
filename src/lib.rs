//! A crash-safe, append-only JSON Lines journal: nothing torn, nothing glued, nothing lost.
//!
//! Agents, services and experiments keep what happened as JSON Lines, one record per line. Written with `write` and `flush`, such a file breaks:
//! a kill, a full disk or a second process leaves half a record, the next one is glued to it, and readers lose both, or everything behind them.
//! `untorn` appends a record whole or not at all, repairs a torn tail before it goes on, and reads on past damage that others left. The file
//! stays what it was: plain text that `jq`, Python or DuckDB read as it stands.
//!
//! # What survives a crash?
//!
//! | | [`Sync`](Durability::Sync), the default | [`Interval`](Durability::Interval) | [`Os`](Durability::Os) |
//! |---|---|---|---|
//! | the process is killed | every appended record | every appended record | every appended record |
//! | the system crashes, or the power fails | every appended record | those before the last sync | those that the system had written, usually all but the last half minute |
//!
//! *Appended* means that [`append`](Writer::append) has returned. The record under way at that moment is there whole, or it is not there: a piece
//! of it is never read as a record, and the next opening moves it to quarantine. Of records that were not synced, a power cut may also take an
//! earlier one and leave a later one; in a sealed journal that shows as a gap in the numbers.
//!
//! # An append failed: where is my record, and what may I do next?
//!
//! [`Error::left`] says what of the record is in the file. The records before it are as they were.
//!
//! | left | what it means | next |
//! |---|---|---|
//! | [`Nothing`](Left::Nothing) | no byte of it is in the file | append it again, when the cause is gone |
//! | [`Whole`](Left::Whole) | it is in the file, perhaps not on the disk | do not append it again; [`reopen`](Writer::reopen) proves it or says what cannot be proved |
//! | [`Fragment`](Left::Fragment) | a piece of it stays, on a line of its own | append it again |
//! | [`Unknown`](Left::Unknown) | the file cannot be read, or lacks only an LF that could not be written | [`reopen`](Writer::reopen), look whether it is there, and only then append it again |
//!
//! [`Error::kind`] says why:
//!
//! | kind | what to do |
//! |---|---|
//! | [`NoSpace`](ErrorKind::NoSpace) | make room and append again; the same writer goes on |
//! | [`Locked`](ErrorKind::Locked) | wait, or end the process that the message names |
//! | [`DurabilityUnknown`](ErrorKind::DurabilityUnknown) | the sync failed: [`reopen`](Writer::reopen), and never append this record again |
//! | [`Poisoned`](ErrorKind::Poisoned) | an earlier failure forbids to go on: [`reopen`](Writer::reopen), then append |
//! | [`Encode`](ErrorKind::Encode), [`NotJson`](ErrorKind::NotJson), [`SealedPayload`](ErrorKind::SealedPayload), [`TooLong`](ErrorKind::TooLong) | this record cannot be appended; the next one can |
//! | [`NotSealed`](ErrorKind::NotSealed) | the file is in plain form, which has neither numbers nor batches |
//! | [`NewerFormat`](ErrorKind::NewerFormat) | the file is not touched; a newer version of `untorn` reads it |
//! | [`NotAFile`](ErrorKind::NotAFile), [`ReadOnly`](ErrorKind::ReadOnly) | nothing is touched; another path, or other permissions |
//! | [`Stranger`](ErrorKind::Stranger), [`HardLinked`](ErrorKind::HardLinked) | not repaired: end the process that is named, or remove the second name |
//! | [`Io`](ErrorKind::Io) | [`raw_os_error`](Error::raw_os_error) has the system's code; what is left decides |
//!
//! # Opening moved bytes away, or reading passed some over: what is lost?
//!
//! Opening changes the end of the file and nothing else, and [`TailRepair`] says what it did. The bytes are in the file's `.quarantine`, durable
//! there before they were cut, with the offset that they had. Records that were acknowledged as durable are never among them.
//!
//! Damage further up is never touched by opening. Reading passes over it and counts it in [`Damage`]; no damaged line hides the good ones behind it.
//! [`verify`](fn@verify) lists it with line, byte and reason. [`plan_repair`] shows what a repair would take out and which records it would save from
//! damaged lines, [`apply`](RepairPlan::apply) does exactly that or says that the file has [`Changed`](ErrorKind::Changed), and [`undo_repair`] gives
//! the old file back.
//!
//! # A recorder
//!
//! ```
//! use untorn::{Batch, Resumed};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Event {
//!     role: String,
//!     text: String,
//! }
//! let event = |role: &str, text: &str| Event { role: role.into(), text: text.into() };
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("session.jsonl");
//! # untorn::Writer::open(&path)?.append(&event("user", "hi"))?;
//! // Whatever ended the last run, the tail is whole now, and nobody else may write.
//! let Resumed { repair, reader, mut writer, .. } = untorn::resume(&path)?;
//! println!("{repair}");
//!
//! let mut records = reader.records::<Event>();
//! for record in records.by_ref() {
//!     println!("{}", record?.value.text);
//! }
//! println!("{}", records.damage());
//!
//! // On the disk when it returns.
//! writer.append(&event("user", "what is in src?"))?;
//!
//! // Both or none, whatever happens in between.
//! let mut batch = Batch::new();
//! batch.add(&event("call", "ls src"))?.add(&event("result", "lib.rs"))?;
//! writer.append_batch(&batch)?;
//! writer.close()?;
//!
//! assert!(untorn::verify(&path)?.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//!
//! 1. **Nothing is glued.** No record shares a line with another record's bytes, whatever failed before it.
//! 2. **What was acknowledged as durable is there** after a crash: once, in order, byte for byte.
//! 3. **A rollback takes back the writer's own bytes only**, and only while they are the last of the file.
//! 4. **Nothing is lost by a repair.** What it removes is durable in quarantine first, and the two give the old file back.
//! 5. **Damage does not hide good records.** Readers go on behind it and say how much there was.
//! 6. **Reading does not write**, and takes no lock: it works on read-only files and beside a live writer.
//! 7. **Errors are loud and exact.** Path, byte, kind and the system's code, and what of the record is in the file.
//! 8. **Time and memory do not grow with the journal**, for opening, appending and resuming.
//! 9. **Any JSON Lines tool reads a journal**, as it stands.
//!
//! # Where to look
//!
//! | the question | the answer |
//! |---|---|
//! | How do I get there from what I have? | [`guide::migrating`] |
//! | How does the command stand in a pipe? | [`guide::pipes`] |
//! | What are the bytes? | [`mod@format`], and `src/format/` |
//! | How is a record appended? | [`Writer`]; `src/writer/commit.rs` from lock to acknowledgement, `src/append.rs` the write |
//! | Who may write? | [`Lock`], `src/lock.rs` |
//! | Who else is at work on it? | [`lock_holder`], [`Others`], `src/others.rs` |
//! | What does an append cost, and what to choose when? | [`guide::cost`] |
//! | How do many threads or tasks append? | [`SharedWriter`] and `AsyncWriter`; `src/group_commit/` |
//! | What if a write fails halfway? | [`Rollback`], `src/rollback.rs` |
//! | What if a sync fails? | [`Writer::reopen`], `src/writer/reopen.rs` |
//! | What does opening change on my disk? | [`TailRepair`], `src/tail.rs` |
//! | What does a repair change, and how? | [`RepairPlan`], `src/repair.rs`; `src/swap.rs` for a file that is replaced |
//! | Where do removed bytes go, and how do they come back? | `src/quarantine.rs`; [`undo_repair`], `src/undo.rs` |
//! | How does a segment become an archived one? | [`rotate`](fn@rotate), `src/rotate.rs` |
//! | How do old records leave the active segment, and the disk? | [`archive`](fn@archive), `src/archive.rs`; [`prune`](fn@prune), `src/prune.rs`; [`Scopes`] for loops |
//! | How is a journal taken up again? | [`resume`](fn@resume), `src/resume.rs` |
//! | How is it read? | [`Reader`], [`Records`] and [`Line`], `src/reader/` |
//! | What if it is compressed? | `src/sys/content/` reads, `src/compressor.rs` writes |
//! | How are records read as they appear? | [`Follower`], [`FollowEvent`]; `src/follow/` |
//! | How does each record come at least once? | [`Consumer`], [`Ticket`]; `src/consumer/` |
//! | How far has a consumer come? | [`Checkpoint`], [`Restored`]; `src/checkpoint/`, `src/fingerprint.rs` |
//! | How is state saved, and taken up again? | [`Snapshot`], `src/snapshot/` |
//! | How is a small file replaced? | `src/generations.rs` |
//! | Which files belong to it? | [`Position`], `src/segment.rs`, `src/format/name.rs` |
//! | What is wrong with this line? | [`Code`], `src/judge.rs`; `src/salvage.rs` for the records inside it |
//! | Is the file whole? | [`verify`](fn@verify), `src/verify/` |
//! | What did the system do? | `src/sys/`, the only user of `std::fs` |
//!
//! # Features
//!
//! - `tokio`, the only one that is on by default: `AsyncWriter` and the futures.
//! - `zstd` and `gzip`: compressed journals and segments are read like plain ones. They are told by their bytes, not by their names. Files of zstd
//!   frames with a seek table are read in place; any other is decompressed on opening, into a temporary file that has no name.
//! - `cli`: the command `untorn`, with both.
//! - `notify`: the system wakes followers as soon as a file changes; part of `cli`.
//! - `sim`: an in-memory disk whose every call can fail and whose power can be cut, for tests; outside SemVer.
//!
//! # Limits
//!
//! - The lock is advisory. A process that appends without it, a *stranger*, can land between two pieces of a short write: that line is corrupt,
//!   nothing of either record is lost, and the append says so. No system call cuts a file "only if its size is still this", so a stranger that
//!   appends in the instant before a cut loses what it wrote; [`Rollback::Fence`] never cuts.
//! - Strangers are recognised in `/proc`, so only on this machine, and only where `/proc` may be read.
//! - On network file systems neither the lock nor the place where an append lands is sure. Keep journals on a local disk.
//! - The CRC finds accidents. It is no proof against intent, and a line does not say which journal it belongs to.
//! - A limit on the size of files (`ulimit -f`) kills the process with `SIGXFSZ` unless it ignores that signal; a library must not decide that. The
//!   next opening repairs the tail.
//! - After `fork` without `exec` the child shares the writer's descriptor and its lock. Let only one of the two use it.
//! - Linux only, so far.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(target_os = "linux"))]
compile_error!("untorn is built for Linux so far: locks, presence and durability are proved nowhere else");

mod active;
mod append;
mod archive;
#[cfg(feature = "tokio")]
mod async_writer;
mod checkpoint;
#[cfg(feature = "zstd")]
mod compress;
#[cfg(feature = "zstd")]
mod compressor;
mod consumer;
mod damage;
mod edits;
mod encode;
mod error;
mod fingerprint;
mod follow;
pub mod format;
mod generations;
mod group_commit;
pub mod guide;
mod judge;
mod lock;
mod neighbours;
#[cfg(feature = "tokio")]
mod opening;
mod others;
mod position;
mod prune;
mod quarantine;
mod reader;
mod repair;
mod resume;
mod rollback;
mod rotate;
mod salvage;
mod scan;
mod scopes;
mod seeded;
mod seek;
mod segment;
mod shared_writer;
mod snapshot;
mod swap;
mod sys;
mod tail;
mod undo;
mod verify;
mod words;
mod writer;

#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "sim")]
pub use sys::sim;

pub use archive::{Archived, Before};
#[cfg(feature = "tokio")]
pub use async_writer::{AsyncWriter, Pending};
pub use checkpoint::{Checkpoint, ConsumerState, Restored, SourceState, checkpoints, reset_checkpoint};
#[cfg(feature = "zstd")]
pub use compress::{Compressed, compress_archived};
pub use consumer::{Consumer, ConsumerOptions, Delivery, Source, Ticket};
pub use damage::{Damage, DamagedPlace};
pub use encode::Batch;
pub use error::{Error, ErrorKind, Left, Result};
pub use follow::{FollowEvent, FollowOptions, Followed, Follower, Payload, Stopper};
pub use format::{
    json::Invalid as InvalidJson,
    verdict::{Code, Severity, Verdict},
};
pub use group_commit::{Queued, WriterState};
pub use lock::{Lock, LockWait};
#[cfg(feature = "tokio")]
pub use opening::Opening;
pub use others::{Others, lock_holder, strangers};
pub use position::{Appended, Mark, Position};
pub use prune::{Consumers, Keep, Pruned, PrunedSegment};
pub use reader::{Line, OnCorrupt, ReadOptions, Reader, Record, Records, Start};
pub use repair::{Action, RepairMethod, RepairOptions, RepairPlan, Repaired, Space, What, plan_repair};
pub use resume::{Resumed, resume};
pub use rollback::Rollback;
pub use rotate::Rotated;
pub use scopes::Scopes;
pub use shared_writer::SharedWriter;
pub use snapshot::{RestoredState, SNAPSHOT_BYTES_MAX_DEFAULT, Snapshot, SnapshotInfo, SnapshotObserver, inspect_snapshot};
pub use sys::Process;
pub use tail::{TailRepair, Unterminated};
pub use undo::{Undone, undo_repair};
pub use verify::{FINDINGS_MAX_DEFAULT, Finding, Good, Progress, Report, VerifyOptions, verify};
pub use writer::{Durability, Format, Options, Writer, archive, plan_archive, prune, rotate};

/// The examples of the README are run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
