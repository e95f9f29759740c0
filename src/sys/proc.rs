//! What the system tells of other processes: who holds a lock, who has a file open for writing without ours.

use std::{fs, io, os::unix::fs::MetadataExt};

use nix::fcntl::{FcntlArg, fcntl};

use super::{FileId, Process};

/// The byte whose shared lock shows that a descriptor belongs to a writer of ours; far beyond the end of any file.
const PRESENCE_BYTE: i64 = 1 << 61;

/// The file systems that are shared between machines: NFS, SMB, CIFS, SMB2, 9P, AFS, Ceph. See statfs(2).
const NETWORK: [i64; 7] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x5346_414F, 0x00C3_6400];

/// An open-file-description lock: it lives as long as the descriptor, and is seen in `/proc/PID/fdinfo`. See fcntl_locking(2).
#[expect(clippy::cast_possible_truncation, reason = "both constants are small; the struct has them as `short`")]
pub(super) fn show_presence(file: &fs::File) -> io::Result<()> {
    if NETWORK.contains(&rustix::fs::fstatfs(file)?.f_type) {
        // There it would be a lock on the server, and keep our own writers out.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let lock =
        nix::libc::flock { l_type: nix::libc::F_RDLCK as i16, l_whence: nix::libc::SEEK_SET as i16, l_start: PRESENCE_BYTE, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))?;
    Ok(())
}

/// The list changes while it is read, and then a lock may be missing from it: so often it is read again.
const LOCKS_READ: usize = 3;

/// Who holds the exclusive lock of a file, where the system tells.
pub(super) fn lock_holder(id: FileId) -> Option<Process> {
    let shown = shown(id);
    (0..LOCKS_READ).find_map(|_| holder_among(&fs::read_to_string("/proc/locks").ok()?, &shown))
}

/// Reads `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 4242 fd:00:131 0 EOF`. See proc_locks(5).
fn holder_among(locks: &str, shown: &[FileId]) -> Option<Process> {
    locks.lines().find_map(|lock| {
        let mut words = lock.split_ascii_whitespace().skip(1);
        let (kind, _, mode, pid, file) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
        (kind == "FLOCK" && mode == "WRITE" && shown.iter().any(|shown| names(file, *shown))).then(|| process(pid.parse().ok()?)).flatten()
    })
}

/// Whether `major:minor:inode`, the first two hexadecimal, names the file.
fn names(text: &str, id: FileId) -> bool {
    let mut parts = text.split(':');
    let mut device = || u32::from_str_radix(parts.next()?, 16).ok();
    let (major, minor) = (device(), device());
    let inode = parts.next().and_then(|inode| inode.parse().ok());
    let device = major.zip(minor).map(|(major, minor)| rustix::fs::makedev(major, minor));
    (device, inode) == (Some(id.device), Some(id.inode))
}

fn process(pid: u32) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned());
    Some(Process { pid, name })
}

/// The descriptors that write without showing presence, of every process that may be looked at, as they were at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    descriptors: Vec<Descriptor>,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    pid: u32,
    number: u32,
    /// Linux before 5.14 does not show it: then the descriptor may be of any file.
    inode: Option<u64>,
}

impl Writing {
    pub(crate) fn look() -> Writing {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|found| found.file_name().to_str()?.parse().ok());
        Writing { descriptors: pids.flat_map(Descriptor::writing).collect() }
    }

    /// Who among them has the file open for writing, and still has.
    pub(crate) fn strangers(&self, id: FileId) -> Vec<Process> {
        if self.descriptors.is_empty() {
            return Vec::new();
        }
        let shown: Vec<u64> = shown(id).iter().map(|shown| shown.inode).collect();
        // Only a likely hit is worth a `stat`, which may hang on a dead network mount.
        let likely = self.descriptors.iter().filter(|found| found.inode.is_none_or(|inode| shown.contains(&inode)));
        let mut pids: Vec<u32> = likely.filter(|found| found.still_writes(id)).map(|found| found.pid).collect();
        pids.dedup();
        pids.into_iter().filter_map(process).collect()
    }
}

impl Descriptor {
    /// Those of one process.
    fn writing(pid: u32) -> Vec<Descriptor> {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let numbers = descriptors.filter_map(|found| found.file_name().to_str()?.parse().ok());
        numbers.filter_map(|number| Descriptor::read(pid, number)).collect()
    }

    fn read(pid: u32, number: u32) -> Option<Descriptor> {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        writes_without_presence(&info).then(|| Descriptor { pid, number, inode: value(&info, "ino:").and_then(|inode| inode.parse().ok()) })
    }

    /// By now its number may be another file's, or its presence be shown.
    fn still_writes(self, id: FileId) -> bool {
        Descriptor::read(self.pid, self.number).is_some() && opens(self.pid, self.number, id)
    }
}

/// What `/proc` may call the file, as it calls it for our own descriptors: on an overlay it shows the inode of the layer below, on btrfs the device
/// of the file system and not that of the subvolume.
fn shown(id: FileId) -> Vec<FileId> {
    let own = std::process::id();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let descriptors = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let numbers = descriptors.filter_map(|found| found.file_name().to_str()?.parse().ok());
    let own = numbers.filter(|number| opens(own, *number, id)).filter_map(|number| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let inode = value(&info, "ino:").and_then(|inode| inode.parse().ok()).unwrap_or(id.inode);
        let device = value(&info, "mnt_id:").and_then(|mount| device_of(&mounts, mount)).unwrap_or(id.device);
        Some(FileId { device, inode })
    });
    own.chain([id]).collect()
}

/// Reads `/proc/self/mountinfo`: `36 35 98:0 /mnt1 /mnt2 rw`. See proc_pid_mountinfo(5).
fn device_of(mounts: &str, mount: &str) -> Option<u64> {
    let found = mounts.lines().find_map(|line| line.strip_prefix(mount)?.strip_prefix(' '))?;
    let (major, minor) = found.split_ascii_whitespace().nth(1)?.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// What stands behind a name at the start of a line.
fn value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Reads one fdinfo: octal `flags:`, and a `lock:` line for every lock that the descriptor holds. See proc_pid_fdinfo(5).
fn writes_without_presence(info: &str) -> bool {
    let writes = value(info, "flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).is_some_and(|flags| flags & 0b11 != 0);
    let presence = format!(" {PRESENCE_BYTE} {PRESENCE_BYTE}");
    writes && !info.lines().any(|line| line.starts_with("lock:") && line.contains("OFDLCK") && line.ends_with(&presence))
}

fn opens(pid: u32, number: u32, id: FileId) -> bool {
    fs::metadata(format!("/proc/{pid}/fd/{number}")).is_ok_and(|found| found.is_file() && (found.dev(), found.ino()) == (id.device, id.inode))
}
