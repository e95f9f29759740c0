use std::{collections::BTreeSet, ffi::OsStr, sync::mpsc, thread};

use super::*;
use crate::{
    error::{Attempt, Error},
    sys::Disk,
};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOSPC: i32 = 28;
const ELOOP: i32 = 40;

fn errno<T: fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    Error::io(Attempt::Read, Path::new(""), result.unwrap_err()).raw_os_error()
}

/// A disk with one file `j`, and a handle that appends to it.
fn journal(bytes: &str) -> (SimDisk, SimFile) {
    let disk = SimDisk::new();
    disk.write_file("j", bytes).unwrap();
    let file = disk.open_append(Path::new("j")).unwrap();
    (disk, file)
}

fn text(disk: &SimDisk) -> String {
    String::from_utf8(disk.read_file("j").unwrap()).unwrap()
}

/// What `j` can hold after a power cut.
fn images(disk: &SimDisk, tears: &[Tear]) -> BTreeSet<Vec<u8>> {
    let bounds = Bounds { tears: tears.to_vec(), ..Bounds::default() };
    disk.crash_images(&bounds).map(|image| image.read_file("j").unwrap()).collect()
}

fn set<const N: usize>(images: [&[u8]; N]) -> BTreeSet<Vec<u8>> {
    images.into_iter().map(<[u8]>::to_vec).collect()
}

mod files {
    use super::*;

    #[test]
    fn a_write_lands_behind_what_others_have_written() {
        let (disk, mine) = journal("a");
        let other = disk.open_append(Path::new("j")).unwrap();
        other.write(b"bb").unwrap();
        mine.write(b"c").unwrap();
        disk.append_raw("j", "d").unwrap();
        assert_eq!(text(&disk), "abbcd");
    }

    #[test]
    fn the_position_is_just_past_the_own_last_byte() {
        let (disk, mine) = journal("a");
        mine.write(b"bc").unwrap();
        disk.append_raw("j", "d").unwrap();
        assert_eq!(mine.position().unwrap(), 3);
        assert_eq!(mine.size().unwrap(), 4);
        assert_eq!(mine.position().unwrap(), 4, "finding the size seeks to the end");
    }

    #[test]
    fn the_real_disk_and_the_simulated_one_agree() {
        let dir = tempfile::tempdir().unwrap();
        let simulated = Disk { sim: Some(SimDisk::new()) };
        let [real, simulated] = [Disk::default(), simulated].map(|disk| calls_and_answers(&disk, dir.path()));
        assert_eq!(real, simulated);
    }

    /// A walk through all calls, with what each has answered.
    fn calls_and_answers(disk: &Disk, dir: &Path) -> Vec<String> {
        let path = dir.join("j");
        let mut answers = Vec::new();
        let mut answer = |what: &dyn fmt::Debug| answers.push(format!("{what:?}"));
        answer(&disk.open_append(&path).map_err(|error| error.kind()).map(drop));
        let file = disk.create_append(&path, 0o600).unwrap();
        answer(&disk.create_append(&path, 0o600).map_err(|error| error.kind()).map(drop));
        answer(&(file.kind().unwrap(), file.mode().unwrap(), disk.kind(&path).unwrap(), disk.kind(dir).unwrap()));
        answer(&(file.write(b"hello ").unwrap(), file.write(b"world").unwrap(), file.position().unwrap()));
        let (reader, rewriter) = (disk.open_read(&path).unwrap(), disk.open_rewrite(&path).unwrap());
        answer(&(file.cut(8), file.size().unwrap(), file.write(b"").unwrap(), file.position().unwrap()));
        answer(&(rewriter.write_at(b"J", 0).unwrap(), rewriter.write_at(b"!", 10).unwrap(), rewriter.size().unwrap(), rewriter.position().unwrap()));
        answer(&(rewriter.write(b"?").unwrap(), file.write_at(b"appended", 0).unwrap(), file.position().unwrap()));
        answer(&(reader.write(b"x").map_err(|error| error.raw_os_error()), reader.cut(0).map_err(|error| error.raw_os_error())));
        let mut all = [0; 64];
        let read = reader.read_full_at(&mut all, 0).unwrap();
        answer(&(String::from_utf8_lossy(&all[..read]), reader.read_at(&mut [0; 8], 1000).unwrap()));
        answer(&(file.try_lock().unwrap(), file.try_lock().unwrap(), reader.try_lock().unwrap(), file.unlock(), reader.try_lock().unwrap()));
        let held = disk.open_dir(dir).unwrap();
        let id = held.id_of(OsStr::new("j")).unwrap();
        answer(&(id == Some(file.id().unwrap()), held.id_of(OsStr::new("k")).unwrap().is_none(), held.names().unwrap()));
        answer(&(held.sync(), file.sync_data(), disk.read_link(&path).map_err(|error| error.raw_os_error())));
        answer(&disk.open_append(&path.join("below")).map_err(|error| error.raw_os_error()).map(drop));
        answer(&disk.open_append(dir).map_err(|error| error.raw_os_error()).map(drop));
        answers
    }

    #[test]
    fn a_file_without_a_name_lives_while_it_is_open() {
        let (disk, file) = journal("a");
        let id = file.id().unwrap();
        disk.write_file("new", "n").unwrap();
        disk.rename("new", "j").unwrap();
        file.write(b"b").unwrap();
        let mut both = [0; 2];
        assert_eq!((file.read_at(&mut both, 0).unwrap(), &both), (2, b"ab"));
        assert_eq!((text(&disk), file.id().unwrap()), ("n".to_owned(), id));
        assert_ne!(disk.open_dir(Path::new("")).unwrap().id_of(OsStr::new("j")).unwrap(), Some(id));
    }

    #[test]
    fn a_link_is_read_and_followed_by_readers_only() {
        let (disk, _file) = journal("a");
        disk.symlink("../j", "dir/link").unwrap();
        disk.symlink("round", "round").unwrap();
        disk.symlink("j", "near").unwrap();
        assert_eq!(disk.read_link(Path::new("dir/link")).unwrap(), Path::new("../j"));
        assert_eq!(disk.kind(Path::new("near")).unwrap(), Some(FileKind::Link));
        assert_eq!(errno(disk.open_append(Path::new("near"))), Some(ELOOP));
        assert_eq!(errno(disk.open_read(Path::new("round"))), Some(ELOOP));
        assert_eq!(disk.open_read(Path::new("near")).unwrap().size().unwrap(), 1);
    }

    #[test]
    fn what_may_not_be_written_is_not_opened_for_writing() {
        let (disk, _file) = journal("a");
        disk.set_mode("j", 0o444).unwrap();
        assert_eq!(disk.open_append(Path::new("j")).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        disk.mkdir("locked").unwrap();
        disk.set_mode("locked", 0o555).unwrap();
        assert_eq!(disk.create_append(Path::new("locked/j"), 0o600).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        disk.open_read(Path::new("j")).unwrap();
    }

    #[test]
    fn a_new_name_replaces_another_only_if_asked_to() {
        let (disk, _file) = journal("a");
        disk.write_file("k", "k").unwrap();
        let [j, k] = ["j", "k"].map(Path::new);
        assert_eq!(disk.rename_new(k, j).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.hard_link(k, j).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.replace(k, j).unwrap();
        assert_eq!((text(&disk), disk.files()), ("k".to_owned(), vec![j.to_owned()]));
        disk.hard_link(j, k).unwrap();
        disk.remove_file(j).unwrap();
        assert_eq!(disk.files(), [k]);
        disk.create_dir(Path::new("d")).unwrap();
        assert_eq!(disk.create_dir(Path::new("d")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}

mod locks {
    use super::*;

    #[test]
    fn two_handles_exclude_each_other() {
        let (disk, first) = journal("");
        let second = disk.as_process(4242, "recorder").open_append(Path::new("j")).unwrap();
        assert!(second.try_lock().unwrap());
        assert!(!first.try_lock().unwrap());
        assert_eq!(disk.lock_holder(first.id().unwrap()).unwrap().to_string(), "process 4242 (recorder)");
        drop(second);
        assert!(first.try_lock().unwrap(), "closing the file frees its lock");
    }

    #[test]
    fn a_lock_is_waited_for() {
        let (disk, first) = journal("");
        first.lock().unwrap();
        let second = disk.open_append(Path::new("j")).unwrap();
        let (sender, receiver) = mpsc::channel();
        disk.before(OpMatch::nth_of(OpKind::Lock, 1), move |_| sender.send(()).unwrap());
        thread::scope(|scope| {
            let waits = scope.spawn(|| second.lock().and_then(|()| second.write(b"second")));
            receiver.recv().unwrap();
            first.write(b"first ").unwrap();
            first.unlock().unwrap();
            waits.join().unwrap().unwrap();
        });
        assert_eq!(text(&disk), "first second");
    }

    #[test]
    fn strangers_are_those_who_write_without_showing_presence() {
        let (disk, file) = journal("");
        file.show_presence();
        let id = file.id().unwrap();
        let _reader = disk.as_process(7, "tail").open_read(Path::new("j")).unwrap();
        assert_eq!(disk.strangers(id), []);
        let shell = disk.as_process(4242, "sh").open_raw("j").unwrap();
        shell.append("x").unwrap();
        assert_eq!(disk.strangers(id), [Process { pid: 4242, name: Some("sh".to_owned()) }]);
        drop(shell);
        assert_eq!(disk.strangers(id), []);
    }
}

mod faults {
    use super::*;

    fn fault(at: OpMatch, how: How) -> Fault {
        Fault { at, how }
    }

    #[test]
    fn an_error_comes_once_or_for_ever() {
        let (disk, file) = journal("");
        disk.fail(fault(OpMatch::nth_of(OpKind::Write, 1), How::Errno(EIO)));
        disk.fail(fault(OpMatch::nth_of(OpKind::Write, 3).and_later(), How::Errno(ENOSPC)));
        let outcomes = ["a", "b", "c", "d", "e"].map(|bytes| file.write(bytes.as_bytes()).map_err(|error| error.raw_os_error()));
        assert_eq!(outcomes, [Ok(1), Err(Some(EIO)), Ok(1), Err(Some(ENOSPC)), Err(Some(ENOSPC))]);
        disk.heal();
        file.write(b"f").unwrap();
        assert_eq!(text(&disk), "acf");
    }

    #[test]
    fn every_call_can_fail() {
        let calls = |disk: &Disk| -> io::Result<()> {
            let path = Path::new("dir/j");
            let dir = disk.open_dir(Path::new("dir"))?;
            disk.create_append(path, 0o600)?;
            dir.sync()?;
            dir.names()?;
            dir.id_of(OsStr::new("j"))?;
            disk.kind(path)?;
            disk.open_read(path)?.read_at(&mut [0], 0)?;
            disk.open_rewrite(path)?.write_at(b"x", 0)?;
            let file = disk.open_append(path)?;
            file.id()?;
            file.kind()?;
            file.mode()?;
            file.size()?;
            file.try_lock()?;
            file.lock()?;
            file.write(b"x")?;
            file.position()?;
            file.cut(1)?;
            file.sync_data()?;
            file.unlock()
        };
        let disk = SimDisk::new();
        calls(&Disk { sim: Some(disk.clone()) }).unwrap();
        assert!(disk.ops() > 20);
        for op in 0..disk.ops() {
            let failing = SimDisk::new();
            failing.fail(fault(OpMatch::nth(op), How::Errno(EIO)));
            let failed = calls(&Disk { sim: Some(failing.clone()) });
            assert_eq!(errno(failed), Some(EIO), "{}", disk.log()[op]);
            assert_eq!(failing.log()[op].outcome, Outcome::Failed(EIO));
            assert_eq!(failing.ops(), op + 1);
        }
    }

    #[test]
    fn a_short_write_says_how_much_it_wrote() {
        let (disk, file) = journal("");
        disk.fail(fault(OpMatch::nth_of(OpKind::Write, 0), How::Short(2)));
        assert_eq!((file.write(b"abc").unwrap(), file.position().unwrap()), (2, 2));
        assert_eq!(text(&disk), "ab");
    }

    #[test]
    fn a_write_can_land_and_yet_fail() {
        let (disk, file) = journal("");
        disk.fail(fault(OpMatch::nth_of(OpKind::Write, 0), How::ErrorAfter { bytes: 2, errno: EIO }));
        assert_eq!(errno(file.write(b"abc")), Some(EIO));
        assert_eq!(text(&disk), "ab");
        let write = disk.log().pop().unwrap();
        assert_eq!((write.moved, write.outcome), (Some(0..2), Outcome::Failed(EIO)));
    }

    /// The log said of a write that failed at once that it had moved bytes: those of a stranger who wrote right before it.
    #[test]
    fn what_a_stranger_writes_before_a_call_is_not_told_of_the_call() {
        let (disk, file) = journal("");
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::Write, 0), how: How::Errno(EIO) });
        disk.before(OpMatch::nth_of(OpKind::Write, 0), |disk| disk.append_raw("j", "x").unwrap());
        assert_eq!(errno(file.write(b"abc")), Some(EIO));
        assert_eq!((disk.log().last().unwrap().moved.clone(), text(&disk)), (None, "x".to_owned()));
    }

    #[test]
    fn a_file_that_was_opened_in_vain_is_closed() {
        let (disk, file) = journal("");
        file.show_presence();
        disk.fail(fault(OpMatch::nth_of(OpKind::OpenAppend, 1), How::ErrorAfter { bytes: 0, errno: EIO }));
        assert_eq!(errno(disk.open_append(Path::new("j"))), Some(EIO));
        assert_eq!(disk.strangers(file.id().unwrap()), []);
    }

    #[test]
    fn a_lying_sync_makes_nothing_durable() {
        let (disk, file) = journal("a");
        disk.fail(fault(OpMatch::every(OpKind::SyncData), How::LyingSync));
        file.write(b"b").unwrap();
        file.sync_data().unwrap();
        assert_eq!((text(&disk), disk.durable_file("j").unwrap()), ("ab".to_owned(), b"a".to_vec()));
        disk.heal();
        file.sync_data().unwrap();
        assert_eq!(disk.durable_file("j").unwrap(), b"ab", "an honest sync catches up");
    }

    #[test]
    fn bytes_dropped_by_a_failed_sync_are_read_until_the_cache_forgets_them() {
        let (disk, file) = journal("a");
        disk.fail(fault(OpMatch::nth_of(OpKind::SyncData, 0), How::SyncFailsAndDrops(EIO)));
        file.write(b"bc").unwrap();
        assert_eq!(errno(file.sync_data()), Some(EIO));
        file.sync_data().unwrap();
        file.write(b"d").unwrap();
        assert_eq!((text(&disk), disk.durable_file("j").unwrap()), ("abcd".to_owned(), b"a\0\0".to_vec()));
        disk.drop_caches();
        assert_eq!(text(&disk), "a\0\0d");
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_nothing() {
        let (disk, file) = journal("abc");
        disk.set_capacity(Some(5));
        assert_eq!(file.write(b"defg").unwrap(), 2);
        assert_eq!(errno(file.write(b"fg")), Some(ENOSPC));
        assert_eq!(disk.open_rewrite(Path::new("j")).unwrap().write_at(b"ABCDE", 0).unwrap(), 5, "no new bytes");
        file.cut(1).unwrap();
        assert_eq!(file.write(b"xyz").unwrap(), 3);
        assert_eq!(text(&disk), "Axyz");
    }

    #[test]
    fn an_interruption_is_told_by_writes_alone() {
        let (disk, file) = journal("");
        disk.fail(fault(OpMatch::nth_of(OpKind::Write, 0), How::Errno(EINTR)));
        disk.fail(fault(OpMatch::nth_of(OpKind::SyncData, 0), How::Errno(EINTR)));
        assert_eq!(errno(file.write(b"a")), Some(EINTR));
        file.sync_data().unwrap();
        let syncs: Vec<_> = disk.log().into_iter().filter(|op| op.kind == OpKind::SyncData).map(|op| op.outcome).collect();
        assert_eq!(syncs, [Outcome::Failed(EINTR), Outcome::Done]);
    }

    #[test]
    fn a_fault_can_wait_for_a_path() {
        let (disk, file) = journal("");
        disk.fail(fault(OpMatch::every(OpKind::Write).on("k"), How::Errno(EIO)));
        file.write(b"a").unwrap();
        assert_eq!(errno(disk.create_append(Path::new("k"), 0o600).unwrap().write(b"a")), Some(EIO));
    }

    #[test]
    fn a_stranger_can_come_between_any_two_calls() {
        let (disk, file) = journal("one\n");
        disk.before(OpMatch::nth_of(OpKind::Cut, 0), |disk| {
            disk.append_raw("j", "strange\n").unwrap();
            disk.open_append(Path::new("j")).unwrap().write(b"even ops\n").unwrap();
        });
        let size = file.size().unwrap();
        file.cut(size).unwrap();
        assert_eq!(text(&disk), "one\n", "the cut came after the stranger and took its bytes");
        let kinds: Vec<_> = disk.log().iter().map(|op| op.kind).collect();
        assert_eq!(kinds, [OpKind::OpenAppend, OpKind::Size, OpKind::Cut, OpKind::OpenAppend, OpKind::Write]);
    }

    #[test]
    fn the_log_reads_well() {
        let (disk, file) = journal("a");
        disk.fail(fault(OpMatch::nth_of(OpKind::SyncData, 0), How::Errno(EIO)));
        file.write(b"bcd").unwrap();
        file.sync_data().unwrap_err();
        let log: Vec<_> = disk.log().iter().map(Op::to_string).collect();
        assert_eq!(log, ["OpenAppend `j`", "Write `j`, 3 bytes: bytes 1 to 4", "SyncData `j`: Input/output error (os error 5)"]);
    }
}

mod crashes {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_sync_any_first_bytes_may_be_there() {
        let (disk, file) = journal("a");
        file.write(b"bc").unwrap();
        file.write(b"d").unwrap();
        assert_eq!(images(&disk, &[Tear::Cut]), set([b"a", b"ab", b"abc", b"abcd"]));
        file.sync_data().unwrap();
        assert_eq!(images(&disk, Tear::ALL), set([b"abcd"]));
    }

    #[test]
    fn the_size_may_come_before_the_data() {
        let (disk, file) = journal("a");
        file.write(b"bc").unwrap();
        file.write(b"d").unwrap();
        let torn = images(&disk, &[Tear::SizeBeforeData]);
        assert_eq!(torn, set([b"a", b"a\0\0", b"a\0\0\0", b"ab\0", b"ab\0\0", b"abc\0", b"abcd"]));
    }

    #[test]
    fn a_cut_may_not_be_there_although_later_bytes_are() {
        let (disk, file) = journal("old old");
        file.cut(3).unwrap();
        file.write(b"new").unwrap();
        let torn = images(&disk, &[Tear::Cut, Tear::DataBeforeSize]);
        assert_eq!(torn, set([b"old old", b"old", b"oldn", b"oldne", b"oldnew", b"oldnewd"]));
    }

    #[test]
    fn bytes_lost_by_a_failed_sync_are_in_no_image() {
        let (disk, file) = journal("a");
        disk.fail(Fault { at: OpMatch::nth_of(OpKind::SyncData, 0), how: How::SyncFailsAndDrops(EIO) });
        file.write(b"b").unwrap();
        file.sync_data().unwrap_err();
        file.write(b"c").unwrap();
        assert_eq!(images(&disk, Tear::ALL.split_first().unwrap().1), set([b"a", b"a\0", b"a\0\0", b"a\0c", &garbled(&disk)]));
        file.sync_data().unwrap();
        assert_eq!(images(&disk, Tear::ALL), set([b"a\0c"]));
    }

    /// The one image with garbage in it.
    fn garbled(disk: &SimDisk) -> Vec<u8> {
        images(disk, &[Tear::Garbage]).difference(&images(disk, &[])).next().unwrap().clone()
    }

    #[test]
    fn where_a_file_was_cut_an_unwritten_part_may_be_nul_or_old() {
        let (disk, file) = journal("old old");
        file.cut(3).unwrap();
        file.write(b"abc").unwrap();
        file.write(b"d").unwrap();
        assert_eq!(images(&disk, &[Tear::Missing]), set([b"old old", b"oldabcd", b"old\0\0\0d"]));
        assert_eq!(images(&disk, &[Tear::Stale]), set([b"old old", b"oldabcd"]), "all in one sector");
    }

    #[test]
    fn a_write_over_old_bytes_may_be_half_there() {
        let (disk, _file) = journal("aaaa");
        disk.open_rewrite(Path::new("j")).unwrap().write_at(b"bb", 1).unwrap();
        assert_eq!(images(&disk, Tear::ALL.split_last().unwrap().1).len(), 4, "old, half, new, garbage");
        assert_eq!(images(&disk, &[Tear::Cut]), set([b"aaaa", b"abaa", b"abba"]));
    }

    #[test]
    fn a_sector_may_be_garbage_stale_or_missing() {
        let (disk, file) = journal(&"o".repeat(2000));
        file.cut(100).unwrap();
        file.sync_data().unwrap();
        file.write(&[b'n'; 1500]).unwrap();
        let whole = disk.read_file("j").unwrap();
        let with = |range: std::ops::Range<usize>, byte: u8| {
            let mut bytes = whole.clone();
            bytes[range].fill(byte);
            bytes
        };
        let [stale, missing] = [Tear::Stale, Tear::Missing].map(|tear| images(&disk, &[tear]));
        for sector in [100..512, 512..1024, 1024..1536, 1536..1600] {
            assert!(stale.contains(&with(sector.clone(), b'o')), "stale {sector:?}");
        }
        for part in [100..512, 512..1024, 1024..1536, 100..1024, 100..1536] {
            assert!(missing.contains(&with(part.clone(), 0)), "missing {part:?}");
        }
        for garbled in images(&disk, &[Tear::Garbage]).iter().filter(|image| image.len() > 100 && **image != whole) {
            let differ: Vec<_> = (0..whole.len()).filter(|offset| whole[*offset] != garbled[*offset]).collect();
            assert_eq!(differ[0].max(100) / 512, differ[differ.len() - 1] / 512, "one sector");
        }
    }

    #[test]
    fn an_unsynced_rename_may_or_may_not_be_there() {
        let (disk, _file) = journal("old");
        disk.write_file("new", "new").unwrap();
        disk.rename("new", "j").unwrap();
        assert_eq!(images(&disk, Tear::ALL), set([b"old", b"new"]));
        disk.open_dir(Path::new("")).unwrap().sync().unwrap();
        assert_eq!(images(&disk, Tear::ALL), set([b"new"]));
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_be_gone() {
        let disk = SimDisk::new();
        disk.create_dir(Path::new("dir")).unwrap();
        let file = disk.create_append(Path::new("dir/j"), 0o600).unwrap();
        file.write(b"a").unwrap();
        file.sync_data().unwrap();
        let there = || disk.crash_images(&Bounds::default()).map(|image| image.files().len()).collect::<BTreeSet<_>>();
        assert_eq!(there(), BTreeSet::from([0, 1]));
        disk.open_dir(Path::new("dir")).unwrap().sync().unwrap();
        assert_eq!(there(), BTreeSet::from([0, 1]), "the directory itself may be gone");
        disk.open_dir(Path::new("")).unwrap().sync().unwrap();
        assert_eq!(there(), BTreeSet::from([1]));
    }

    #[test]
    fn any_of_few_changes_of_names_may_be_there_and_many_are_sampled() {
        let disk = SimDisk::new();
        let survivors = |disk: &SimDisk| disk.crash_images(&Bounds::default()).map(|image| image.files()).collect::<BTreeSet<_>>();
        ["a", "b", "c", "d", "e", "f"].iter().for_each(|name| disk.append_raw(name, "").unwrap());
        assert_eq!(survivors(&disk).len(), 64);
        ["g", "h", "i", "j"].iter().for_each(|name| disk.append_raw(name, "").unwrap());
        let sampled = survivors(&disk);
        assert!((11..=75).contains(&sampled.len()));
        assert_eq!(sampled, survivors(&disk), "one seed gives the same images");
    }

    #[test]
    fn two_unsynced_files_are_torn_independently() {
        let (disk, file) = journal("a");
        disk.write_file("k", "x").unwrap();
        file.write(b"bc").unwrap();
        disk.append_raw("k", "yz").unwrap();
        let bounds = Bounds { tears: vec![Tear::Cut], ..Bounds::default() };
        let pairs = disk.crash_images(&bounds).map(|image| ["j", "k"].map(|path| String::from_utf8(image.read_file(path).unwrap()).unwrap()));
        let pairs: Vec<_> = pairs.map(|[j, k]| format!("{j} {k}")).collect();
        let distinct: BTreeSet<_> = pairs.iter().map(String::as_str).collect();
        assert_eq!(distinct, BTreeSet::from(["a x", "a xyz", "ab x", "ab xyz", "abc x", "abc xyz", "a xy", "abc xy"]));
        assert_eq!(distinct.len(), pairs.len());
    }

    #[test]
    fn a_killed_process_leaves_every_byte_and_no_lock() {
        let (disk, file) = journal("a");
        file.lock().unwrap();
        file.write(b"b").unwrap();
        let after = disk.kill();
        assert_eq!(text(&after), "ab");
        assert!(after.open_append(Path::new("j")).unwrap().try_lock().unwrap());
        assert_eq!(after.durable_file("j").unwrap(), b"a", "the power may still be cut");
        file.write(b"c").unwrap();
        assert_eq!(text(&after), "ab", "the old handle stays with the old disk");
    }

    #[test]
    fn an_image_tells_what_happened_to_it() {
        let (disk, file) = journal("a");
        file.write(b"bc").unwrap();
        disk.append_raw("k", "").unwrap();
        let bounds = Bounds { tears: vec![Tear::Cut], ..Bounds::default() };
        let image = disk.crash_images(&bounds).last().unwrap();
        assert_eq!(image.origin().unwrap().to_string(), "power cut (seed 1), changes of names +, `j` has 0 changes and 1 bytes");
        let again = image.crash_now();
        assert_eq!(again.origin().unwrap().to_string(), format!("{}; then power cut", image.origin().unwrap()));
    }

    /// One step of a writer.
    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<u8>),
        Sync,
        CutUnsynced,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop::collection::vec(b'a'..=b'z', 1..600);
        prop::collection::vec(prop_oneof![4 => bytes.prop_map(Step::Append), 1 => Just(Step::Sync), 1 => Just(Step::CutUnsynced)], 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn synced_bytes_are_in_every_image_and_no_byte_comes_from_nowhere(steps in steps()) {
            let (disk, file) = journal("");
            let mut synced = Vec::new();
            // Every byte that was ever written at an offset.
            let mut written: Vec<BTreeSet<u8>> = Vec::new();
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        file.write(&bytes).unwrap();
                        let start = text(&disk).len() - bytes.len();
                        written.resize(written.len().max(start + bytes.len()), BTreeSet::new());
                        written[start..].iter_mut().zip(bytes).for_each(|(there, byte)| { there.insert(byte); });
                    }
                    Step::Sync => {
                        file.sync_data().unwrap();
                        synced = text(&disk).into_bytes();
                    }
                    Step::CutUnsynced => file.cut(synced.len() as u64).unwrap(),
                }
            }
            let bounds = Bounds { tears: Tear::ALL.iter().copied().filter(|tear| *tear != Tear::Garbage).collect(), ..Bounds::every(7) };
            for image in disk.crash_images(&bounds) {
                let bytes = image.read_file("j").unwrap();
                prop_assert!(bytes.starts_with(&synced), "{}", image.origin().unwrap());
                for (offset, byte) in bytes.iter().enumerate() {
                    prop_assert!(*byte == 0 || written[offset].contains(byte), "byte {offset}: {}", image.origin().unwrap());
                }
            }
        }
    }
}

#[test]
fn a_disk_can_be_shared_among_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<SimDisk>();
}
