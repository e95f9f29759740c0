//! Compressing archived segments, each in its place. The plain file goes only when the compressed one is durable and was read back.
//!
//! Under a lock on the archived file itself, so that appends go on, and that nobody prunes it meanwhile:
//!
//! 1. temporary files of a try that crashed are removed;
//! 2. a temporary file gets the compressed content, and is synced. Crash here: a stale temporary file;
//! 3. it is read back from the disk and compared, byte for byte. Crash here: the same;
//! 4. it is renamed to the segment's name with `.zst` behind it, which nothing may have, and the directory is synced. Crash here: there are twins,
//!    of which readers take the plain one; the next try compares them and goes on with the next step;
//! 5. the plain file is removed, unless it has changed meanwhile, and the directory is synced. Crash here: the twins, or the compressed one.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    compressor::Compressor,
    edits,
    error::{Attempt, Error, ErrorKind, Result},
    format::name::{self, ArchivedName},
    segment::{self, Segments},
    swap::Fresh,
    sys::{Disk, File},
};

/// One archived segment that was compressed.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// The compressed file.
    pub path: PathBuf,
    /// The number of the segment.
    pub segment: u64,
    /// How large it is now.
    pub bytes: u64,
    /// How large it was.
    pub bytes_before: u64,
}

/// Compresses the archived segments of a journal that are not compressed yet. Records, positions and marks stay what they are.
///
/// Writers may be at work. After a crash, the next call goes on where it was.
///
/// # Durability
///
/// A plain segment is removed only after its compressed twin is durable and was read back.
///
/// # Errors
///
/// [`Locked`](ErrorKind::Locked) if another process compresses the same segment; [`Stranger`](ErrorKind::Stranger) if a process that does not take the
/// lock still writes into it; [`Changed`](ErrorKind::Changed) if what was read back is not what was written. The plain segment stays then, and so do
/// those behind it.
pub fn compress_archived(path: impl AsRef<Path>) -> Result<Vec<Compressed>> {
    compress_on(&Disk::default(), path.as_ref())
}

pub(crate) fn compress_on(disk: &Disk, path: &Path) -> Result<Vec<Compressed>> {
    let segments = Segments::open(disk, path, true)?;
    let newest = segments.archived().last().map(|newest| newest.number);
    let mut done = Vec::new();
    for named in segments.archived().iter().filter(|named| !named.compressed) {
        // What an interrupted archive left at the head of the active segment is told by the end of this one.
        let is_needed = Some(named.number) == newest && segments.active_origin().start > 0;
        if !is_needed {
            done.extend(compress(&segments, *named)?);
        }
    }
    Ok(done)
}

/// `None` if somebody else has done it, or pruned the segment, in between.
fn compress(segments: &Segments, named: ArchivedName) -> Result<Option<Compressed>> {
    let (place, disk) = (segments.place(), segments.disk());
    let path = segments.path_of(named);
    let target = segments.path_of(ArchivedName { compressed: true, ..named });
    let failed = |error| Error::io(Attempt::Compress, &path, error);
    let refused = |kind| Error::new(kind, Attempt::Compress).on(&path);
    let name = path.file_name().unwrap_or_default();
    let plain = match disk.open_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        plain => plain.map_err(failed)?,
    };
    if !plain.try_lock().map_err(failed)? {
        return Err(refused(ErrorKind::Locked).detail("another process compresses it"));
    }
    let (id, bytes_before) = (plain.id().map_err(failed)?, plain.size().map_err(failed)?);
    if place.dir.id_of(name).map_err(failed)? != Some(id) {
        return Ok(None);
    }
    let refuse_strangers = || match disk.strangers(id).first() {
        Some(stranger) => Err(refused(ErrorKind::Stranger).detail(format!("{stranger} has it open for writing without taking the lock"))),
        None => Ok(()),
    };
    refuse_strangers()?;
    for leftover in place.dir.names().map_err(failed)?.iter().filter(|leftover| name::is_temporary(name, leftover)) {
        disk.remove_file(&path.with_file_name(leftover)).map_err(failed)?;
    }
    let mut fresh = Fresh::create_as(place, name, &plain).map_err(failed)?;
    let mut compressor = Compressor::new(&fresh.file).map_err(failed)?;
    edits::read_range(&plain, 0..bytes_before, |bytes| compressor.write(bytes)).map_err(failed)?;
    let bytes = compressor.finish().map_err(failed)?;
    fresh.file.date_like(&plain);
    fresh.file.sync_data().map_err(failed)?;
    fresh.file.forget_cache(0);
    compare(disk, fresh.path(), &plain, &path)?;
    match fresh.rename_new(&target) {
        // A try that crashed has left it. Ours is removed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => compare(disk, &target, &plain, &path)?,
        renamed => renamed.map_err(failed)?,
    }
    place.dir.sync().map_err(failed)?;
    refuse_strangers()?;
    if plain.size().map_err(failed)? != bytes_before {
        return Err(refused(ErrorKind::Changed).detail("it has become longer while it was compressed"));
    }
    disk.remove_file(&path).map_err(failed)?;
    place.dir.sync().map_err(failed)?;
    tracing::debug!(path = %target.display(), bytes_before, bytes, "compressed a segment");
    Ok(Some(Compressed { path: target, segment: named.number, bytes, bytes_before }))
}

/// Refuses a compressed file whose content is not that of the plain one.
fn compare(disk: &Disk, compressed: &Path, plain: &File, path: &Path) -> Result<()> {
    let failed = |error| Error::io(Attempt::Compress, path, error);
    let file = disk.open_read(compressed).map_err(failed)?;
    let content = segment::content_of(compressed, file)?;
    let size = plain.size().map_err(failed)?;
    let mut is_same = content.size().map_err(failed)? == size && content.lost(&(0..size)).is_none();
    let mut offset = 0;
    let mut read_back = Vec::new();
    edits::read_range(plain, 0..size, |bytes| {
        read_back.resize(bytes.len(), 0);
        is_same = is_same && content.read_full_at(&mut read_back, offset)? == bytes.len() && read_back == bytes;
        offset += bytes.len() as u64;
        Ok(())
    })
    .map_err(failed)?;
    // What cannot be decompressed is known once it was read.
    if is_same && content.lost(&(0..size)).is_none() {
        return Ok(());
    }
    let detail = format!("`{}` does not have what it has", compressed.display());
    Err(Error::new(ErrorKind::Changed, Attempt::Compress).on(path).detail(detail))
}

#[cfg(all(test, feature = "sim"))]
#[allow(clippy::unwrap_used, reason = "a test that fails should say where")]
mod tests {
    use super::*;
    use crate::{
        Consumers, Keep, Reader, Writer,
        sim::{OpMatch, SimDisk},
    };

    const JOURNAL: &str = "/j/s.jsonl";

    /// Three archived segments of one record each.
    fn archived() -> SimDisk {
        let disk = SimDisk::new();
        disk.write_file("/j/other", "").unwrap();
        let mut writer = Writer::options().disk(&disk).open(JOURNAL).unwrap();
        for n in 1..=3_u64 {
            writer.append(&n).unwrap();
            writer.rotate().unwrap();
        }
        drop(writer);
        disk.kill()
    }

    fn compress(disk: &SimDisk) -> Result<Vec<Compressed>> {
        compress_on(&Disk { sim: Some(disk.clone()) }, JOURNAL.as_ref())
    }

    fn prune(disk: &SimDisk) -> Result<crate::Pruned> {
        Writer::options().disk(disk).open(JOURNAL)?.prune(&Keep::new(Consumers::None).records(1))
    }

    /// A segment that was pruned while it was compressed came back, and those behind it were gone: the journal had a hole.
    ///
    /// P2, F48: a prune before any call of a compression leaves no hole.
    #[test]
    fn a_segment_that_is_pruned_while_it_is_compressed_does_not_come_back() {
        let plain = archived();
        compress(&plain).unwrap();
        for op in 0..plain.ops() {
            let disk = archived();
            disk.before(OpMatch::nth(op), |disk| _ = prune(disk));
            let compressed = compress(&disk);
            disk.heal();
            let found = Reader::options().disk(&disk).open(JOURNAL).unwrap().records::<u64>().map(|record| record.unwrap().value);
            let found: Vec<u64> = found.collect();
            assert!((1..=3).collect::<Vec<_>>().ends_with(&found) && !found.is_empty(), "{found:?} after op {op}: {compressed:?}");
            assert!(prune(&disk).is_ok(), "op {op}");
        }
    }
}
