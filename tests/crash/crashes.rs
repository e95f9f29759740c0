//! Every disk that a crash may leave, each once; and how they are tried on all processors.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    iter::Sum,
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use untorn::sim::{Bounds, OpMatch, SimDisk};

/// The same for disks with the same files.
pub(crate) fn content(disk: &SimDisk) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in disk.files() {
        (disk.read_file(&path), path).hash(&mut hasher);
    }
    hasher.finish()
}

/// Crashes `run` before each call; and what that left, before every `step`-th call of the next run. `holds` looks at each disk, and says whether
/// there is something left to crash. How many disks there were.
pub(crate) fn twice(
    disk: &SimDisk,
    [first, second]: &[Bounds; 2],
    step: usize,
    run: impl Fn(&SimDisk) + Sync,
    holds: impl Fn(&SimDisk) -> bool + Sync,
) -> usize {
    side_by_side(ops_of(disk, &run), |index| {
        let mut states = 0;
        for image in crashed_before(index, disk, first, &run) {
            states += 1;
            if !holds(&image) {
                continue;
            }
            for index in ((index + states) % step..ops_of(&image, &run)).step_by(step) {
                for image in crashed_before(index, &image, second, &run) {
                    states += 1;
                    holds(&image);
                }
            }
        }
        states
    })
}

/// Every disk that a crash before op `index` of `run` could leave. The disk that is given stays as it is.
pub(crate) fn crashed_before(index: usize, disk: &SimDisk, bounds: &Bounds, run: impl Fn(&SimDisk)) -> Vec<SimDisk> {
    let images = all_before(index, disk, bounds, run);
    let mut seen = HashSet::new();
    images.into_iter().filter(|image| seen.insert(content(image))).collect()
}

/// The same, also those with the same files.
pub(crate) fn all_before(index: usize, disk: &SimDisk, bounds: &Bounds, run: impl Fn(&SimDisk)) -> Vec<SimDisk> {
    let disk = disk.kill();
    let images = Arc::new(Mutex::new(Vec::new()));
    let (taken, bounds) = (images.clone(), bounds.clone());
    disk.before(OpMatch::nth(index), move |disk| {
        // The killed one comes first: of two with the same files it has more ways to crash.
        taken.lock().unwrap().extend([disk.kill()].into_iter().chain(disk.crash_images(&bounds)));
    });
    run(&disk);
    images.lock().unwrap().drain(..).collect()
}

/// How many calls `run` makes.
pub(crate) fn ops_of(disk: &SimDisk, run: impl Fn(&SimDisk)) -> usize {
    let disk = disk.kill();
    run(&disk);
    disk.ops()
}

/// Tries each of so many, on as many threads as there are processors, and adds up what they say.
pub(crate) fn side_by_side<T: Sum + Send>(count: usize, try_one: impl Fn(usize) -> T + Sync) -> T {
    let next = AtomicUsize::new(0);
    let some = || (0..count).map(|_| next.fetch_add(1, Ordering::Relaxed)).take_while(|index| *index < count).map(&try_one).sum::<T>();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..thread::available_parallelism().map_or(1, NonZero::get)).map(|_| scope.spawn(some)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    })
}
