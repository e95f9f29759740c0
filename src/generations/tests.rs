#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should say where")]

use super::*;
use crate::sim::{Bounds, Fault, How, OpKind, OpMatch, SimDisk};

const PATH: &str = "/c/indexer/checkpoint.jsonl";
const PREVIOUS: &str = "/c/indexer/checkpoint.jsonl.previous";

/// The content of one generation; no piece of it is another one's.
fn content(number: u8) -> Vec<u8> {
    let line = format!("generation {number} of a file that is larger than one sector {}", "=".repeat(600));
    format!("{line}{:08x}\n", crc32fast::hash(line.as_bytes())).into_bytes()
}

fn decode(path: &Path, bytes: &[u8]) -> Result<u8> {
    (0..9).find(|number| content(*number) == bytes).ok_or_else(|| Error::new(ErrorKind::Corrupt, Attempt::Read).on(path).detail("it is damaged"))
}

fn generations(disk: &SimDisk) -> Generations {
    Generations::new(&Disk { sim: Some(disk.clone()) }, Path::new(PATH), 1 << 20, Attempt::Read, Attempt::Repair)
}

fn save(disk: &SimDisk, number: u8) -> Result<()> {
    save_with(&mut generations(disk), number)
}

fn save_with(generations: &mut Generations, number: u8) -> Result<()> {
    generations.replace(&content(number), |generations| generations.is_whole(|path, bytes| decode(path, bytes).is_ok()))
}

fn loaded(disk: &SimDisk) -> Option<u8> {
    generations(disk).load(decode).unwrap_or_else(|error| panic!("{error}")).map(|loaded| loaded.value)
}

/// A disk with so many generations saved one after the other, all durable.
fn disk_with(saved: u8) -> SimDisk {
    let disk = SimDisk::new();
    (0..saved).for_each(|number| save(&disk, number).unwrap());
    disk.sync();
    disk
}

fn leftovers(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|path| path.to_str().unwrap().contains("-tmp-")).collect()
}

/// The disks that a power cut may leave before each op of a save, and after the last.
fn images_while_saving(before: &SimDisk, number: u8, ready: impl Fn(&SimDisk)) -> Vec<SimDisk> {
    let probe = before.kill();
    ready(&probe);
    save(&probe, number).unwrap();
    let images = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for op in 0..=probe.ops() {
        let disk = before.kill();
        disk.sync();
        ready(&disk);
        let found = std::sync::Arc::clone(&images);
        let look = move |disk: &SimDisk| found.lock().unwrap().extend(disk.crash_images(&Bounds::every(97)).chain([disk.kill()]));
        disk.before(OpMatch::nth(op), look.clone());
        save(&disk, number).unwrap();
        if op == probe.ops() {
            look(&disk);
        }
    }
    std::mem::take(&mut images.lock().unwrap())
}

/// S0-26, S0-27, F38: after a crash at any step the loaded value is the old one or the new one, and what the crash left goes with the next save.
#[test]
fn a_crash_at_any_step_leaves_the_old_generation_or_the_new() {
    for saved in 0..3 {
        let before = disk_with(saved);
        let old = saved.checked_sub(1);
        let images = images_while_saving(&before, saved, |_| {});
        assert!(images.len() > 30, "{} images", images.len());
        for image in images {
            let found = loaded(&image);
            assert!(found == old || found == Some(saved), "{found:?} of {saved}: {:?}", image.origin().map(ToString::to_string));
            assert!(old.is_none() || image.read_file(PATH).is_some(), "the current name never vanishes");
            save(&image, 8).unwrap();
            assert_eq!(loaded(&image.crash_now()), Some(8));
            assert_eq!(leftovers(&image), Vec::<PathBuf>::new());
            if let Some(found) = found {
                assert_eq!(decode(Path::new(PREVIOUS), &image.read_file(PREVIOUS).unwrap()).unwrap(), found);
            }
        }
    }
}

#[test]
fn without_hard_links_one_generation_is_there_at_any_step() {
    let before = disk_with(2);
    let no_links = |disk: &SimDisk| disk.fail(Fault { at: OpMatch::every(OpKind::Link), how: How::Errno(1) });
    for image in images_while_saving(&before, 2, no_links) {
        let found = loaded(&image);
        assert!(found == Some(1) || found == Some(2), "{found:?}: {:?}", image.origin().map(ToString::to_string));
        no_links(&image);
        save(&image, 8).unwrap();
        assert_eq!(loaded(&image.crash_now()), Some(8));
        assert_eq!(leftovers(&image), Vec::<PathBuf>::new());
    }
}

/// S0-28, S0-29, F40, F55: whatever call fails, the error says whether the new generation is in place, and the next save succeeds.
#[test]
fn any_call_may_fail_and_the_error_says_what_is_in_place() {
    let errnos = [1, 5, 12, 13, 18, 22, 24, 27, 28, 30, 37, 122];
    let before = disk_with(2);
    let probe = before.kill();
    save(&probe, 2).unwrap();
    let mut synced_only_in_part = 0;
    for op in 0..probe.ops() {
        for errno in errnos {
            let done = [How::Errno(errno), How::ErrorAfter { bytes: 300, errno }, How::Short(5)];
            for how in done {
                let disk = before.kill();
                disk.sync();
                disk.fail(Fault { at: OpMatch::nth(op), how });
                let mut generations = generations(&disk);
                let saved = save_with(&mut generations, 2);
                disk.heal();
                let case = format!("{how:?} of {}", disk.log()[op]);
                match (&saved, loaded(&disk)) {
                    (Ok(()), found) => assert_eq!(found, Some(2), "{case}"),
                    (Err(error), found) if error.kind() == ErrorKind::DurabilityUnknown => {
                        synced_only_in_part += 1;
                        assert_eq!((found, error.raw_os_error()), (Some(2), Some(errno)), "{case}");
                    }
                    (Err(error), found) => {
                        let is_done = matches!(how, How::ErrorAfter { .. });
                        assert!(found == Some(1) || (is_done && found == Some(2)), "{found:?} after {case}");
                        assert!(error.raw_os_error().is_some(), "{case}");
                    }
                }
                save_with(&mut generations, 3).unwrap_or_else(|error| panic!("{error} after {case}"));
                assert_eq!(loaded(&disk.crash_now()), Some(3), "{case}");
                let previous = decode(Path::new(PREVIOUS), &disk.read_file(PREVIOUS).unwrap()).unwrap();
                assert!(previous == 1 || previous == 2, "{case}");
                save(&disk, 4).unwrap();
                assert_eq!(leftovers(&disk), Vec::<PathBuf>::new(), "{case}");
            }
        }
    }
    assert!(synced_only_in_part > 0);
}

/// S0-31: of a damaged generation the previous one is used, told, and not pushed out by the next save.
#[test]
fn a_damaged_generation_falls_back_and_is_not_kept() {
    let before = disk_with(2);
    for bit in 0..content(1).len() * 8 {
        let disk = before.kill();
        let mut bytes = content(1);
        bytes[bit / 8] ^= 1 << (bit % 8);
        disk.write_file(PATH, bytes).unwrap();
        let mut generations = generations(&disk);
        let found = generations.load(decode).unwrap().unwrap();
        assert_eq!((found.value, found.fell_back.map(|error| error.kind())), (0, Some(ErrorKind::Corrupt)));
        save_with(&mut generations, 2).unwrap();
        assert_eq!((disk.read_file(PATH), disk.read_file(PREVIOUS)), (Some(content(2)), Some(content(0))));
    }
}

#[test]
fn a_damaged_generation_is_not_kept_by_a_process_that_has_not_read_it() {
    let disk = disk_with(2);
    disk.write_file(PATH, "{").unwrap();
    save(&disk, 2).unwrap();
    assert_eq!((loaded(&disk), disk.read_file(PREVIOUS)), (Some(2), Some(content(0))));
}

#[test]
fn a_refused_generation_is_not_kept_even_if_the_save_has_to_be_tried_twice() {
    let disk = disk_with(2);
    let mut generations = generations(&disk);
    generations.load(decode).unwrap();
    generations.judge_current(false);
    disk.fail(Fault { at: OpMatch::every(OpKind::SyncData), how: How::Errno(28) });
    save_with(&mut generations, 2).unwrap_err();
    disk.heal();
    save_with(&mut generations, 2).unwrap();
    assert_eq!((loaded(&disk), disk.read_file(PREVIOUS)), (Some(2), Some(content(0))));
}

#[test]
fn if_no_generation_is_whole_the_damage_is_an_error() {
    let disk = disk_with(2);
    disk.write_file(PATH, "x").unwrap();
    disk.write_file(PREVIOUS, "y").unwrap();
    let error = generations(&disk).load(decode).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Corrupt, Some(Path::new(PATH))));
    assert_eq!(loaded(&SimDisk::new()), None);
}

/// S0-25, S0-29, S0-30: stale temporary files go, those of a save that is under way stay; their names are the whole name and more.
#[test]
fn only_stale_temporary_files_are_removed() {
    let disk = disk_with(1);
    disk.write_file(format!("{PATH}.untorn-tmp-7"), "stale").unwrap();
    disk.write_file(format!("{PATH}.untorn-tmp-8"), "in use").unwrap();
    let in_use = disk.open_raw(format!("{PATH}.untorn-tmp-8")).unwrap();
    assert!(in_use.try_lock().unwrap());
    // The name that this process tries first.
    disk.write_file(format!("{PATH}.untorn-tmp-{}", std::process::id()), "of an earlier process with this number").unwrap();
    save(&disk, 1).unwrap();
    assert_eq!(leftovers(&disk), [PathBuf::from(format!("{PATH}.untorn-tmp-8"))]);
}

#[test]
fn a_file_that_is_too_long_is_damage_and_not_read() {
    let disk = disk_with(2);
    disk.append_raw(PATH, vec![0; 2 << 20]).unwrap();
    let reads = disk.ops();
    assert_eq!(loaded(&disk), Some(0));
    let read: u64 = disk.log()[reads..].iter().filter_map(|op| op.moved.clone()).map(|moved| moved.end - moved.start).sum();
    assert_eq!(read, content(0).len() as u64);
}

/// S0-33: a directory is made with all that is above it, each name durable.
#[test]
fn a_directory_that_was_made_is_there_after_a_power_cut() {
    let disk = SimDisk::new();
    let on = Disk { sim: Some(disk.clone()) };
    make_dir(&on, Path::new("/a/b/c")).unwrap();
    make_dir(&on, Path::new("/a/b/c")).unwrap();
    let after = Disk { sim: Some(disk.crash_now()) };
    assert_eq!(after.kind(Path::new("/a/b/c")).unwrap(), Some(FileKind::Directory));
}
