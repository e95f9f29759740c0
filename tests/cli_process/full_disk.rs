//! Disks and limits that are full in the middle of a record.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Place, append, assert_clean, cat, is_installed, run, skipped, untorn};

/// Records of 100 bytes to 70 KB.
fn records() -> Vec<String> {
    let sizes = [100, 4000, 70_000, 333, 9000, 65_536, 100, 30_000, 70_000, 1000, 50_000, 100];
    sizes.iter().enumerate().map(|(n, size)| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(*size))).collect()
}

/// How many of the records are in the journal: the first ones, whole.
fn appended(path: &Path, records: &[String]) -> usize {
    let found = cat(path);
    let count = found.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(found, records[..count].concat().as_bytes(), "{count} records");
    count
}

/// F07, S2-16, X-16: a limit on the size of files is an error with a name, and nothing of the record stays.
#[test]
fn a_file_size_limit_is_told_and_nothing_is_torn() {
    if !is_installed("prlimit") {
        return skipped("a_file_size_limit_is_told_and_nothing_is_torn", "there is no prlimit");
    }
    let records = records();
    for limit in [1, 99, 150, 4097, 70_000, 100_000, 200_000] {
        let place = Place::new();
        let path = place.path();
        let mut command = Command::new("prlimit");
        command.arg(format!("--fsize={limit}")).arg(env!("CARGO_BIN_EXE_untorn")).args(["append", "--sync", "never"]).arg(&path);
        let ran = run(&mut command, records.concat().as_bytes());
        assert_eq!(ran.code, Some(2), "limit {limit}: {}", ran.stderr);
        assert!(ran.stderr.contains("File too large (os error 27)"), "{}", ran.stderr);
        let there = appended(&path, &records);
        assert!(ran.stderr.contains(&format!("{there} record")), "limit {limit}, {there} records there: {}", ran.stderr);
        assert_clean(&path);
        assert_eq!(append(&path, records[there..].concat().as_bytes()).code, Some(0));
        assert_eq!(appended(&path, &records), records.len());
    }
}

/// A file system in memory, of 256 KiB.
struct SmallDisk {
    place: Place,
}

impl SmallDisk {
    fn mount() -> Result<SmallDisk, String> {
        let place = Place::new();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(place.join("")).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(SmallDisk { place }),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn path(&self) -> PathBuf {
        self.place.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.place.join("")).status();
    }
}

/// F01, F02, X-08, X-09, X-16: a full disk is told, nothing torn stays, and appending goes on when there is room.
#[test]
fn a_full_disk_is_told_nothing_is_torn_and_it_heals() {
    let records = records();
    for ballast_kib in [0, 60, 100, 160, 183, 200, 240] {
        let disk = match SmallDisk::mount() {
            Ok(disk) => disk,
            Err(reason) => return skipped("a_full_disk_is_told_nothing_is_torn_and_it_heals", &reason),
        };
        let path = disk.path();
        let ballast = disk.place.join("ballast");
        fs::write(&ballast, vec![0; ballast_kib << 10]).unwrap();
        let ran = run(untorn().args(["append", "--json"]).arg(&path), records.concat().as_bytes());
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("No space left on device (os error 28)"), "{}", ran.stderr);
        let there = appended(&path, &records);
        assert!(ran.stderr.contains(&format!("{there} record")), "{there} records there: {}", ran.stderr);
        assert_eq!(ran.stdout.iter().filter(|byte| **byte == b'\n').count(), there, "acknowledged");
        assert_clean(&path);

        fs::remove_file(&ballast).unwrap();
        let ran = append(&path, records[there..].concat().as_bytes());
        let now = appended(&path, &records);
        if ballast_kib > 0 {
            assert!(now > there, "with {ballast_kib} KiB more, {now} records: {}", ran.stderr);
        }
        assert_clean(&path);
    }
}

/// What is decompressed goes into a temporary file: without room for it, or without its directory, the error names the place, and nothing stays there.
#[test]
fn no_room_to_decompress_is_told_with_the_place() {
    let place = Place::new();
    let path = place.join("old.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    encoder.write_all(&b"{\"n\":1}\n".repeat(100_000)).unwrap();
    encoder.finish().unwrap();
    let cat = |temporary: &Path| run(untorn().arg("cat").arg(&path).env("TMPDIR", temporary), b"");
    assert_eq!(cat(&place.join("")).code, Some(0));
    assert_eq!(fs::read_dir(place.join("")).unwrap().count(), 1);

    let missing = place.join("missing");
    let ran = cat(&missing);
    let told = format!("its content goes into a temporary file in `{}`, or where TMPDIR says", missing.display());
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);

    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => return skipped("no_room_to_decompress_is_told_with_the_place", &reason),
    };
    let ran = cat(&disk.place.join(""));
    assert_eq!((ran.code, &ran.stdout[..]), (Some(2), &b""[..]));
    assert!(ran.stderr.contains("No space left on device (os error 28)") && ran.stderr.contains("TMPDIR"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(disk.place.join("")).unwrap().count(), 0);
}
