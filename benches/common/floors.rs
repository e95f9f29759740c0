//! What the work costs at least: the system calls alone, the serialiser alone, the reading alone, each made by hand and with no promise kept.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use rustix::fs::{AtFlags, FlockOperation, StatxFlags, flock, statx};

use super::{
    ratio::timed,
    records::{Message, Records},
    scratch::Scratch,
};

/// A new file, open for appending.
pub fn appendable(path: &Path) -> File {
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path).unwrap()
}

/// Turns of an append by hand: `append` is called for record after record with a file that is new in each turn. The first call is not timed.
pub fn appends<'a>(scratch: &'a Scratch, mut append: impl FnMut(&mut File, u64, &OsStr) + 'a) -> impl FnMut(u64) -> Duration + 'a {
    move |count| {
        let path = scratch.fresh();
        let name = path.file_name().unwrap();
        let mut file = appendable(&path);
        append(&mut file, 0, name);
        let took = timed(|| {
            for number in 1..=count {
                append(&mut file, number, name);
            }
        });
        std::fs::remove_file(&path).unwrap();
        took
    }
}

/// One `write` for each line.
pub fn write<'a>(scratch: &'a Scratch, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    appends(scratch, |file, number, _| put(file, records.line(number)))
}

/// One `write` and one `fdatasync` for each line.
pub fn write_sync<'a>(scratch: &'a Scratch, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    appends(scratch, |file, number, _| {
        put(file, records.line(number));
        file.sync_data().unwrap();
    })
}

/// `flock`, `lseek`, `write` and `flock` for each line.
pub fn flock_lseek_write<'a>(scratch: &'a Scratch, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    appends(scratch, |file, number, _| {
        flock(&*file, FlockOperation::LockExclusive).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        put(file, records.line(number));
        flock(&*file, FlockOperation::Unlock).unwrap();
    })
}

/// Each record serialised into one buffer, and written.
pub fn serialise_write<'a>(scratch: &'a Scratch, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    let mut line = Vec::new();
    appends(scratch, move |file, number, _| {
        line.clear();
        serde_json::to_writer(&mut line, records.typed(number)).unwrap();
        line.push(b'\n');
        put(file, &line);
    })
}

/// Each record serialised and sealed, and appended by the system calls of an append under a lock of its own: `flock`, `statx` by name, `lseek`,
/// `write`, `lseek`, `flock`.
pub fn locked_by_hand<'a>(scratch: &'a Scratch, records: &'a Records) -> impl FnMut(u64) -> Duration + 'a {
    let mut line = Vec::new();
    let dir = File::open(scratch.path()).unwrap();
    appends(scratch, move |file, number, name| {
        seal(&mut line, records.typed(number), number);
        flock(&*file, FlockOperation::LockExclusive).unwrap();
        statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        put(file, &line);
        file.stream_position().unwrap();
        flock(&*file, FlockOperation::Unlock).unwrap();
    })
}

/// A sealed line, made the straight way.
fn seal(line: &mut Vec<u8>, record: &Message, number: u64) {
    line.clear();
    serde_json::to_writer(&mut *line, record).unwrap();
    line.pop();
    write!(line, ",\"_seq\":{number}").unwrap();
    let crc = crc32fast::hash(line);
    writeln!(line, ",\"_crc\":\"{crc:08x}\"}}").unwrap();
}

/// So many lines copied into one buffer, and one `write` for them.
pub fn batch_write<'a>(scratch: &'a Scratch, records: &'a Records, batch: u64) -> impl FnMut(u64) -> Duration + 'a {
    let mut buffer = Vec::new();
    appends(scratch, move |file, number, _| {
        buffer.clear();
        (0..batch).for_each(|at| buffer.extend_from_slice(records.line(number + at)));
        put(file, &buffer);
    })
}

/// So many lines copied into one buffer, one `write` and one `fdatasync` for them.
pub fn batch_write_sync<'a>(scratch: &'a Scratch, records: &'a Records, batch: u64) -> impl FnMut(u64) -> Duration + 'a {
    let mut buffer = Vec::new();
    appends(scratch, move |file, number, _| {
        buffer.clear();
        (0..batch).for_each(|at| buffer.extend_from_slice(records.line(number + at)));
        put(file, &buffer);
        file.sync_data().unwrap();
    })
}

/// So many records serialised into one buffer, and one `write` for them.
pub fn batch_serialise_write<'a>(scratch: &'a Scratch, records: &'a Records, batch: u64) -> impl FnMut(u64) -> Duration + 'a {
    let mut buffer = Vec::new();
    appends(scratch, move |file, number, _| {
        buffer.clear();
        for at in 0..batch {
            serde_json::to_writer(&mut buffer, records.typed(number + at)).unwrap();
            buffer.push(b'\n');
        }
        put(file, &buffer);
    })
}

fn put(file: &mut File, bytes: &[u8]) {
    assert_eq!(file.write(bytes).unwrap(), bytes.len(), "the disk is full");
}

/// What one read asks for.
pub const READ_BYTES: usize = 64 << 10;

/// A buffer that starts on a page, where the kernel copies fastest.
#[derive(Debug)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Of so many bytes.
    pub fn new(len: usize) -> Aligned {
        let bytes = vec![0; len + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        Aligned { bytes, start, len }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Reads a part of a file in pieces.
pub fn read_pieces(file: &mut File, from: u64, to: u64, buffer: &mut Aligned, mut piece: impl FnMut(&[u8])) {
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut left = to - from;
    while left > 0 {
        let want = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let read = file.read(&mut buffer.get()[..want]).unwrap();
        assert!(read > 0, "the file became shorter");
        piece(&buffer.get()[..read]);
        left -= read as u64;
    }
}

/// Reads the file and does nothing with it.
pub fn read(path: &Path) -> impl FnMut(u64) -> Duration + use<> {
    passes(path, 1, |_| ())
}

/// Reads the file and finds its LFs, on some threads.
pub fn memchr(path: &Path, threads: u64) -> impl FnMut(u64) -> Duration + use<> {
    passes(path, threads, |piece| {
        std::hint::black_box(memchr::memchr_iter(b'\n', piece).count());
    })
}

fn passes<P: Fn(&[u8]) + Copy + Send>(path: &Path, threads: u64, piece: P) -> impl FnMut(u64) -> Duration + use<P> {
    let path = path.to_owned();
    move |count| {
        let len = std::fs::metadata(&path).unwrap().len();
        timed(|| {
            for _ in 0..count {
                std::thread::scope(|scope| {
                    let path = &path;
                    let part = move |thread: u64| {
                        let mut file = File::open(path).unwrap();
                        read_pieces(&mut file, len * thread / threads, len * (thread + 1) / threads, &mut Aligned::new(READ_BYTES), piece);
                    };
                    (1..threads).for_each(|thread| drop(scope.spawn(move || part(thread))));
                    part(0);
                });
            }
        })
    }
}

/// Reads the file and calls `line` for each line, without its LF.
pub fn lines<L: FnMut(&[u8])>(path: &Path, mut line: L) -> impl FnMut(u64) -> Duration + use<L> {
    let path = path.to_owned();
    let mut buffer = Aligned::new(READ_BYTES);
    let mut begun = Vec::new();
    move |count| {
        timed(|| {
            for _ in 0..count {
                let mut file = File::open(&path).unwrap();
                let len = file.metadata().unwrap().len();
                read_pieces(&mut file, 0, len, &mut buffer, |piece| {
                    let mut rest = piece;
                    while let Some(end) = memchr::memchr(b'\n', rest) {
                        if begun.is_empty() {
                            line(&rest[..end]);
                        } else {
                            begun.extend_from_slice(&rest[..end]);
                            line(&begun);
                            begun.clear();
                        }
                        rest = &rest[end + 1..];
                    }
                    begun.extend_from_slice(rest);
                });
            }
        })
    }
}
