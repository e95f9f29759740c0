//! A file of zstd frames with a seek table: any byte of its content costs one frame.
//!
//! The table is read on opening, and proved: the frames fill the file up to the table, each begins where the table says, and each says itself that
//! its content is as long. A table that fails in anything is not used, and nothing is allocated because it says so. Frames are decompressed when
//! they are asked for, up to that length and no further, and a few are kept, so that walking over the content decompresses each once.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    num::NonZero,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use zstd::zstd_safe;

use super::{File, Stream, is_of_system};
use crate::{
    format::{
        LF,
        seek_table::{self, Entry, FOOTER_BYTES, Layout},
    },
    words,
};

/// A frame with a larger content is not read in place, since all of it would be in memory at once: no line is longer by default.
const CONTENT_BYTES_MAX: u32 = 64 << 20;

/// A frame's header is no longer than this.
const FRAME_HEADER_BYTES: usize = 18;

/// What frames that are kept have together, unless there is only one.
const KEPT_BYTES_PER_THREAD: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Frames {
    /// Where each frame starts, in the file and in the content. Ascending; behind the last, where it ends.
    starts: Vec<Start>,
    kept: Mutex<Kept>,
    /// Why a frame could not be decompressed, of those that were asked for.
    lost: Mutex<BTreeMap<usize, String>>,
    /// Set behind the first entry of `lost`: most files have none, and are asked at every line.
    has_lost: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    in_file: u64,
    in_content: u64,
}

/// The frames that were asked for last, the latest one last.
#[derive(Debug)]
struct Kept {
    frames: Vec<(usize, Arc<Vec<u8>>)>,
    frames_max: usize,
}

impl Frames {
    /// Reads the table at the end of a file; `None` if there is none that tells the truth.
    pub(super) fn find(file: &File) -> io::Result<Option<Frames>> {
        let size = file.size()?;
        let Some(entries) = table(file, size)? else { return Ok(None) };
        let mut starts = vec![Start { in_file: 0, in_content: 0 }];
        let mut at = Start { in_file: 0, in_content: 0 };
        for entry in entries {
            if !is_proved(file, at.in_file, entry)? {
                return Ok(None);
            }
            at = Start { in_file: at.in_file + u64::from(entry.compressed), in_content: at.in_content + u64::from(entry.content) };
            starts.push(at);
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Each thread that verifies walks over one stretch of the content, which may begin in the frame that another's ends in.
        let kept = Kept { frames: Vec::new(), frames_max: threads + 2 };
        Ok(Some(Frames { starts, kept: Mutex::new(kept), lost: Mutex::default(), has_lost: AtomicBool::new(false) }))
    }

    pub(super) fn len(&self) -> u64 {
        self.starts.last().map_or(0, |end| end.in_content)
    }

    pub(super) fn read_at(&self, file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.len() || into.is_empty() {
            return Ok(0);
        }
        let index = self.index_of(offset);
        let Some([start, end]) = self.starts.get(index..).and_then(|starts| starts.first_chunk()) else { return Ok(0) };
        let content = self.frame(file, index, *start, *end)?;
        let from = usize::try_from(offset - start.in_content).unwrap_or(usize::MAX);
        let found = content.get(from..).unwrap_or_default();
        let len = found.len().min(into.len());
        if let (Some(into), Some(found)) = (into.get_mut(..len), found.get(..len)) {
            into.copy_from_slice(found);
        }
        Ok(len)
    }

    pub(super) fn lost(&self, range: &Range<u64>) -> Option<String> {
        if !self.has_lost.load(Ordering::Acquire) || range.is_empty() {
            return None;
        }
        let lost = unpoisoned(&self.lost);
        let frames = self.index_of(range.start)..=self.index_of(range.end - 1);
        let (index, why) = lost.range(frames).next()?;
        let at = self.starts.get(*index).map_or(0, |start| start.in_file);
        Some(format!("the frame at byte {} of the compressed file: {why}", words::grouped(at)))
    }

    /// The frame that has this byte of the content, which is before its end.
    fn index_of(&self, offset: u64) -> usize {
        self.starts.partition_point(|start| start.in_content <= offset).saturating_sub(1)
    }

    fn frame(&self, file: &File, index: usize, start: Start, end: Start) -> io::Result<Arc<Vec<u8>>> {
        if let Some(content) = unpoisoned(&self.kept).get(index) {
            return Ok(content);
        }
        // Not under the lock: threads decompress side by side.
        let content = match decompress(file, start, end)? {
            Ok(content) => Arc::new(content),
            Err(why) => {
                unpoisoned(&self.lost).insert(index, why);
                self.has_lost.store(true, Ordering::Release);
                Arc::new(stand_in(end.in_content - start.in_content))
            }
        };
        unpoisoned(&self.kept).keep(index, &content);
        Ok(content)
    }
}

impl Kept {
    fn get(&mut self, index: usize) -> Option<Arc<Vec<u8>>> {
        let at = self.frames.iter().rposition(|(kept, _)| *kept == index)?;
        let found = self.frames.remove(at);
        let content = found.1.clone();
        self.frames.push(found);
        Some(content)
    }

    fn keep(&mut self, index: usize, content: &Arc<Vec<u8>>) {
        self.frames.retain(|(kept, _)| *kept != index);
        self.frames.push((index, content.clone()));
        let bytes_max = self.frames_max * KEPT_BYTES_PER_THREAD;
        let bytes = |frames: &[(usize, Arc<Vec<u8>>)]| frames.iter().map(|(_, content)| content.len()).sum::<usize>();
        while self.frames.len() > 1 && (self.frames.len() > self.frames_max || bytes(&self.frames) > bytes_max) {
            self.frames.remove(0);
        }
    }
}

/// What may have panicked while it held a lock left nothing half done.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries of the table that ends the file, if they fill it.
fn table(file: &File, size: u64) -> io::Result<Option<Vec<Entry>>> {
    let read = |len: usize| {
        let mut bytes = vec![0; len];
        let Some(start) = size.checked_sub(len as u64) else { return Ok(None) };
        let read = file.read_full_at(&mut bytes, start)?;
        Ok::<_, io::Error>((read == len).then_some(bytes))
    };
    let Some(layout) = read(FOOTER_BYTES)?.and_then(|footer| Layout::of(&footer)) else { return Ok(None) };
    let Some(table) = read(layout.len())? else { return Ok(None) };
    let Some(entries) = layout.entries(&table) else { return Ok(None) };
    let entries: Vec<Entry> = entries.collect();
    let frames: u64 = entries.iter().map(|entry| u64::from(entry.compressed)).sum();
    Ok((frames.checked_add(table.len() as u64) == Some(size)).then_some(entries))
}

/// Whether a frame begins here and says that it has this content, and no more than may be in memory.
fn is_proved(file: &File, at: u64, entry: Entry) -> io::Result<bool> {
    let mut header = [0; FRAME_HEADER_BYTES];
    let read = file.read_full_at(&mut header, at)?;
    let header = header.get(..read).unwrap_or_default();
    if entry.content > CONTENT_BYTES_MAX || !header.starts_with(&seek_table::FRAME_MAGIC) {
        return Ok(false);
    }
    let says = zstd_safe::get_frame_content_size(header).ok().flatten();
    Ok(says == Some(u64::from(entry.content)))
}

/// The content of a frame, or why it cannot be had.
fn decompress(file: &File, start: Start, end: Start) -> io::Result<Result<Vec<u8>, String>> {
    let len = end.in_content - start.in_content;
    let stream = Stream { file, at: start.in_file, end: end.in_file };
    let mut decoder = zstd::Decoder::new(stream)?;
    let mut content = Vec::new();
    match decoder.by_ref().take(len + 1).read_to_end(&mut content) {
        Ok(read) if read as u64 == len => Ok(Ok(content)),
        Ok(_) => Ok(Err("it does not hold what the seek table says".to_owned())),
        Err(error) if is_of_system(&error) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// The line that stands where `len` bytes are lost.
fn stand_in(len: u64) -> Vec<u8> {
    let mut line = vec![0; usize::try_from(len).unwrap_or_default()];
    if let Some(last) = line.last_mut() {
        *last = LF;
    }
    line
}
