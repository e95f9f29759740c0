//! Files as the model sees them: lists of pieces, a path, archived segments, a lock for each file.

/// Who writes. The stranger takes no lock.
pub(crate) type Author = u8;

pub(crate) const STRANGER: Author = 9;

/// One record: its author, and how many that author began before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) author: Author,
    pub(crate) count: u8,
}

/// The smallest things a write is made of. A line is a head and the tail of the same record, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    Head(Record),
    /// The rest of the line, with its LF.
    Tail(Record),
    Lf,
}

impl Piece {
    fn ends_a_line(self) -> bool {
        !matches!(self, Piece::Head(_))
    }

    fn record(self) -> Option<Record> {
        match self {
            Piece::Head(record) | Piece::Tail(record) => Some(record),
            Piece::Lf => None,
        }
    }
}

/// An inode: an index into [`Disk::files`].
pub(crate) type FileId = usize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) files: Vec<Vec<Piece>>,
    pub(crate) locks: Vec<Option<Author>>,
    /// What the journal's path names.
    pub(crate) named: Option<FileId>,
    pub(crate) archived: Vec<FileId>,
    /// What was taken out of the journal on purpose.
    pub(crate) quarantine: Vec<Piece>,
}

impl Disk {
    pub(crate) fn create(&mut self, content: Vec<Piece>, locked_by: Option<Author>) -> FileId {
        self.files.push(content);
        self.locks.push(locked_by);
        self.files.len() - 1
    }

    pub(crate) fn lock(&mut self, file: FileId, who: Author) -> bool {
        let is_free = self.locks[file].is_none();
        if is_free {
            self.locks[file] = Some(who);
        }
        is_free
    }

    /// What the kernel does for a process that ends.
    pub(crate) fn unlock_all(&mut self, who: Author) {
        for lock in self.locks.iter_mut().filter(|lock| **lock == Some(who)) {
            *lock = None;
        }
    }

    pub(crate) fn size(&self, file: FileId) -> usize {
        self.files[file].len()
    }

    /// The end of the last whole line.
    pub(crate) fn boundary(&self, file: FileId) -> usize {
        self.files[file].iter().rposition(|piece| piece.ends_a_line()).map_or(0, |last| last + 1)
    }

    pub(crate) fn append(&mut self, file: FileId, pieces: &[Piece]) {
        self.files[file].extend_from_slice(pieces);
    }

    /// The files that are the journal, oldest first.
    fn journal(&self) -> impl Iterator<Item = &Vec<Piece>> {
        self.archived.iter().chain(self.named.iter()).map(|file| &self.files[*file])
    }

    fn lines(&self) -> impl Iterator<Item = &[Piece]> {
        self.journal().flat_map(|file| file.split_inclusive(|piece| piece.ends_a_line()))
    }

    /// How many lines of the journal are this record and nothing else.
    pub(crate) fn times(&self, record: Record) -> usize {
        self.lines().filter(|line| **line == [Piece::Head(record), Piece::Tail(record)]).count()
    }

    /// Whether some lock-taker's record begins behind other bytes of its line. A stranger may do that to us; we never do.
    pub(crate) fn has_glued(&self) -> bool {
        let ours = |piece: &Piece| matches!(piece, Piece::Head(record) if record.author != STRANGER);
        self.lines().any(|line| line.iter().skip(1).any(ours))
    }

    /// Whether a piece is still somewhere: in the journal or in quarantine.
    pub(crate) fn has(&self, piece: Piece) -> bool {
        self.journal().flatten().chain(&self.quarantine).any(|found| *found == piece)
    }

    /// The records of which some piece stands in the file.
    pub(crate) fn records_in(&self, file: FileId) -> impl Iterator<Item = Record> {
        self.files[file].iter().filter_map(|piece| piece.record())
    }
}
