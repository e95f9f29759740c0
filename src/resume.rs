//! Resuming: repair the tail, read what is there, and go on writing behind it, as three values that do not know of each other.

use std::path::Path;

use crate::{
    error::Result,
    lock::Lock,
    reader::{ReadOptions, Reader},
    tail::TailRepair,
    writer::{Options, Writer},
};

/// A journal taken up again: what was done to its tail, its records, and a writer that continues after them.
///
/// The three are independent: the reader may be moved to another thread, or dropped, while the writer appends. The reader ends where the writer
/// began, so it never gives what the writer appends.
#[non_exhaustive]
#[derive(Debug)]
pub struct Resumed {
    /// What was done to the tail before anything was read.
    pub repair: TailRepair,
    /// Reads the records that were there, from the first one on.
    pub reader: Reader,
    /// Appends after them.
    pub writer: Writer,
}

/// Takes up a journal that may have been left in the middle of a record: see [`Options::resume`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("session.jsonl");
/// // A recorder that died in the middle of its second record.
/// std::fs::write(&path, concat!(r#"{"text":"hi","_seq":1,"_crc":"72ce66d0"}"#, "\n", r#"{"text":"he"#))?;
///
/// let untorn::Resumed { repair, reader, mut writer, .. } = untorn::resume(&path)?;
/// assert_eq!(repair.removed_bytes(), 11);
/// let texts: Vec<serde_json::Value> = reader.records().map(|record| Ok(record?.value)).collect::<untorn::Result<_>>()?;
/// assert_eq!(texts, [serde_json::json!({"text": "hi"})]);
/// assert_eq!(writer.append(&serde_json::json!({"text": "again"}))?.seq(), Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of [`Options::resume`].
pub fn resume(path: impl AsRef<Path>) -> Result<Resumed> {
    Writer::options().resume(path)
}

impl Options {
    /// Opens the journal as [`open`](Options::open) does, and gives its records and a writer that continues after them.
    ///
    /// The lock is held for the writer's life unless [`lock`](Options::lock) said otherwise: whoever resumes a session expects to be alone in it.
    ///
    /// # Durability
    ///
    /// As for [`open`](Options::open).
    ///
    /// # Errors
    ///
    /// As for [`open`](Options::open); [`Locked`](crate::ErrorKind::Locked) says that another writer is at work.
    pub fn resume(&self, path: impl AsRef<Path>) -> Result<Resumed> {
        let writer = self.open_as(path.as_ref(), Lock::Held)?;
        let mut options = ReadOptions::default();
        options.on(self.disk.clone()).line_bytes_max(self.line_bytes_max).until(writer.end());
        let reader = options.open(writer.path())?;
        Ok(Resumed { repair: writer.tail_repair().clone(), reader, writer })
    }

    /// [`resume`](Options::resume) for a task; [`Writer::into_async`] makes of the writer one for tasks.
    ///
    /// # Errors
    ///
    /// As for [`resume`](Options::resume).
    ///
    /// # Cancel safety
    ///
    /// Nothing happens before the first poll. Dropped after that, the journal is opened, its tail repaired, and closed again in the background.
    #[cfg(feature = "tokio")]
    pub fn resume_async(&self, path: impl AsRef<Path>) -> crate::Opening<Resumed> {
        let (options, path) = (self.clone(), path.as_ref().to_owned());
        crate::Opening::new(&path.clone(), move || options.resume(path))
    }
}
