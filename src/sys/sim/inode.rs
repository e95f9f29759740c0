//! One inode: its bytes in the cache, those on the platter, and the changes that lie between the two.

use std::{ops::Range, sync::Arc};

use crate::sys::FileKind;

/// A change that no sync has made durable yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        offset: usize,
        bytes: Arc<[u8]>,
    },
    /// A write whose size reaches the platter and whose bytes never will: a failed sync has marked its pages clean.
    Lost(Range<usize>),
    Cut(usize),
}

/// A file, a directory or a link. A link's bytes are its target; a directory's names are kept elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: FileKind,
    pub(super) mode: u32,
    /// What a read sees.
    live: Arc<Vec<u8>>,
    /// What was on the platter after the last sync.
    durable: Arc<Vec<u8>>,
    /// What came after the last sync, oldest first. Replayed on `durable` it gives `live`, unless a failed sync lost some of it.
    pending: Vec<Change>,
    /// What stood on the platter from the end of `durable` on before it was cut: a stale sector shows it again.
    past: Vec<u8>,
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(content, *offset, bytes),
            Change::Lost(_) => self.apply_size(content),
            Change::Cut(len) => content.resize(*len, 0),
        }
    }

    /// The first bytes of a write and a size that just holds them; nothing of any other change.
    fn apply_first(&self, content: &mut Vec<u8>, count: usize) {
        if let Change::Write { offset, bytes } = self
            && count > 0
        {
            put(content, *offset, bytes.get(..count).unwrap_or(bytes));
        }
    }

    /// The change without its data: only what it does to the size.
    fn apply_size(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { .. } | Change::Lost(_) => content.resize(content.len().max(self.range().end), 0),
            Change::Cut(len) => content.resize(*len, 0),
        }
    }

    /// The bytes that a write covers; empty for a cut.
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Change::Write { offset, bytes } => *offset..offset + bytes.len(),
            Change::Lost(range) => range.clone(),
            Change::Cut(len) => *len..*len,
        }
    }
}

/// Writes bytes at an offset; a gap before them reads as NULs.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    content.resize(content.len().max(end), 0);
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl Inode {
    /// An inode whose bytes are durable.
    pub(super) fn new(kind: FileKind, mode: u32, bytes: Vec<u8>) -> Inode {
        let bytes = Arc::new(bytes);
        Inode { kind, mode, live: Arc::clone(&bytes), durable: bytes, pending: Vec::new(), past: Vec::new() }
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn pending(&self) -> &[Change] {
        &self.pending
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(Arc::make_mut(&mut self.live), offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.into() });
    }

    pub(super) fn cut(&mut self, len: usize) {
        Arc::make_mut(&mut self.live).resize(len, 0);
        self.pending.push(Change::Cut(len));
    }

    pub(super) fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        for change in self.pending.drain(..) {
            let before = durable.len();
            if let Change::Cut(len) = change
                && len < before
            {
                self.past.splice(..0, durable.drain(len..));
                continue;
            }
            change.apply(durable);
            let grown = durable.len() - before;
            self.past.drain(..grown.min(self.past.len()));
        }
    }

    /// What a failed sync can do: the pages count as clean, reads still show them, and no later sync writes them.
    pub(super) fn lose_pending_bytes(&mut self) {
        for change in &mut self.pending {
            *change = match change {
                Change::Write { .. } => Change::Lost(change.range()),
                Change::Lost(_) | Change::Cut(_) => continue,
            };
        }
    }

    /// Forgets cached pages that count as clean, so that reads show what the platter has.
    pub(super) fn drop_cache(&mut self) {
        self.live = Arc::new(self.replayed());
    }

    /// What a sync would make durable.
    pub(super) fn replayed(&self) -> Vec<u8> {
        self.replayed_to(self.pending.len(), 0, 0)
    }

    /// The `whole` first changes, `bytes` bytes of the next one, and the sizes of all before `sized`.
    pub(super) fn replayed_to(&self, whole: usize, bytes: usize, sized: usize) -> Vec<u8> {
        let mut content = self.durable.to_vec();
        for (step, change) in self.pending.iter().enumerate() {
            if step < whole {
                change.apply(&mut content);
                continue;
            }
            if step == whole {
                change.apply_first(&mut content, bytes);
            }
            if step < sized {
                change.apply_size(&mut content);
            }
        }
        content
    }

    /// The bytes of the `whole` first changes in a file that has kept its old size.
    pub(super) fn replayed_in_old_size(&self, whole: usize) -> Vec<u8> {
        let mut content = self.durable.to_vec();
        for change in self.pending.iter().take(whole).filter(|change| !matches!(change, Change::Cut(_))) {
            change.apply(&mut content);
        }
        content.truncate(self.durable.len());
        content
    }

    /// What stood at the offset on the platter before the pending changes.
    pub(super) fn stale_byte(&self, offset: usize) -> u8 {
        let past = || self.past.get(offset - self.durable.len());
        self.durable.get(offset).or_else(past).copied().unwrap_or(0)
    }

    /// What the offset shows if the pending writes there did not reach the platter: NULs from the lowest cut on.
    pub(super) fn unwritten_byte(&self, offset: usize) -> u8 {
        let cuts = self.pending.iter().filter(|change| matches!(change, Change::Cut(_)));
        let kept = cuts.map(|cut| cut.range().start).min().is_none_or(|cut| offset < cut);
        self.durable.get(offset).copied().filter(|_| kept).unwrap_or(0)
    }

    /// The same inode after a power cut that left its durable bytes.
    pub(super) fn settled(&self) -> Inode {
        let bytes = &self.durable;
        Inode { kind: self.kind, mode: self.mode, live: Arc::clone(bytes), durable: Arc::clone(bytes), pending: Vec::new(), past: Vec::new() }
    }

    /// The same inode after a power cut that left these bytes.
    pub(super) fn settled_as(&self, bytes: Vec<u8>) -> Inode {
        Inode::new(self.kind, self.mode, bytes)
    }
}
