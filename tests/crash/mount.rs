//! Real file systems for a test: mounted when made, unmounted when dropped, also by a test that fails. Needs root.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// How long to wait until nobody uses what is to be unmounted.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(20);

/// A mounted file system.
pub(crate) struct Mount {
    at: TempDir,
}

/// What a real file system is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) mkfs: &'static [&'static str],
    pub(crate) options: &'static str,
    pub(crate) mib: u64,
}

impl Mount {
    pub(crate) fn tmpfs(mib: u64) -> Result<Mount, String> {
        Mount::new(|at| run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at)))
    }

    /// Mounts an image on a loop device, which goes when the mount does.
    pub(crate) fn image(image: &Path, options: &str) -> Result<Mount, String> {
        Mount::new(|at| run(Command::new("mount").args(["-o", &format!("loop,{options}")]).args([image, at])))
    }

    /// Unmounts, and mounts an image in the same place.
    pub(crate) fn replace(&self, image: &Path, options: &str) -> Result<(), String> {
        self.unmount()?;
        run(Command::new("mount").args(["-o", &format!("loop,{options}")]).args([image, self.path()]))
    }

    fn unmount(&self) -> Result<(), String> {
        let umount = |how: &[&str]| run(Command::new("umount").args(how).arg(self.path()));
        // A process that another test starts has our descriptors until it executes its program. Were the image let go only then, the next mount of it
        // would be of the same file system, which was shut down.
        let unmounted = (0..TRIES).find_map(|_| umount(&[]).map_err(|_| thread::sleep(PAUSE)).ok());
        unmounted.map_or_else(|| umount(&["--lazy"]), Ok)
    }

    fn new(mount: impl FnOnce(&Path) -> Result<(), String>) -> Result<Mount, String> {
        let at = tempfile::tempdir().unwrap();
        mount(at.path())?;
        Ok(Mount { at })
    }

    pub(crate) fn path(&self) -> &Path {
        self.at.path()
    }

    /// Changes the options of what is mounted.
    pub(crate) fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path())).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = self.unmount() {
            println!("still mounted: {}: {why}", self.path().display());
        }
    }
}

impl Kind {
    /// Makes an image of this kind: a sparse file.
    pub(crate) fn image_in(&self, dir: &Path) -> Result<PathBuf, String> {
        let image = dir.join("image");
        let (program, arguments) = self.mkfs.split_first().unwrap();
        File::create(&image).and_then(|file| file.set_len(self.mib << 20)).map_err(|error| error.to_string())?;
        run(Command::new(program).args(arguments).arg(&image))?;
        Ok(image)
    }
}

/// Runs a command; what it said if it failed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
