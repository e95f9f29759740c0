//! What a power cut can leave: every way in which the changes since the last sync may have reached the platter.
//!
//! An image is one choice of the names that survive and one way to tear a file. While one file is torn in every way, the others that have changes
//! are as they were at their last sync or as they were at the cut, in all combinations if they are few.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
    ops::Range,
    sync::Arc,
};

use super::{
    SimDisk,
    content::Content,
    inode::{Change, Inode},
    names::{Map, Names},
    state::State,
};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// Subsets of more changes than this would not be counted in a lifetime.
const EXHAUSTIVE_MAX: usize = 16;
/// Of more other files than this only all or none are as they were at the cut.
const OTHERS_MAX: usize = 4;

/// A way in which changes reach the platter only in part.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tear {
    /// The first bytes of them, and the file ends there.
    Cut,
    /// The first bytes of them, and NULs up to a size that a later write gave the file.
    SizeBeforeData,
    /// Their bytes, as far as they fit into the old size of the file.
    DataBeforeSize,
    /// All of them, but one sector is noise.
    Garbage,
    /// All of them, but one sector has what stood there before.
    Stale,
    /// All of them, but a part before the last was not written: it is as at the last sync, or NULs where the file was shorter since.
    Missing,
}

impl Tear {
    /// Every way.
    pub const ALL: &'static [Tear] = &[Tear::Cut, Tear::SizeBeforeData, Tear::DataBeforeSize, Tear::Garbage, Tear::Stale, Tear::Missing];
}

/// How many of the possible images are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A write is torn at every so many bytes, and always before its first and its last byte and at every sector. Default: 1.
    pub stride: usize,
    /// The ways in which files are torn, beside the two that always are: nothing or all of the changes. Default: every way.
    pub tears: Vec<Tear>,
    /// Up to so many changes of names, every subset of them may survive, never more than 16. Default: 6.
    pub names_exhaustive_max: usize,
    /// Of more changes of names, those before each point in time may survive, and so many subsets drawn at random. Default: 64.
    pub names_sampled: usize,
    /// What random subsets and garbage are drawn from; the same seed gives the same images. Default: 1.
    pub seed: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { stride: 1, tears: Tear::ALL.to_vec(), names_exhaustive_max: 6, names_sampled: 64, seed: 1 }
    }
}

impl Bounds {
    /// Tears writes at every so many bytes.
    pub fn every(stride: usize) -> Bounds {
        Bounds { stride, ..Bounds::default() }
    }

    fn cuts_at(&self, write: &Range<usize>, offset: usize) -> bool {
        let bytes = offset - write.start;
        bytes.is_multiple_of(self.stride.max(1)) || offset.is_multiple_of(SECTOR_BYTES) || offset + 1 == write.end
    }

    /// For each choice of names, which of the pending changes survive.
    fn choices(&self, changes: usize) -> Vec<Vec<bool>> {
        if changes <= self.names_exhaustive_max.min(EXHAUSTIVE_MAX) {
            return (0..1_usize << changes).map(|mask| (0..changes).map(|bit| mask >> bit & 1 == 1).collect()).collect();
        }
        let mut noise = Noise(self.seed);
        let in_order = (0..=changes).map(|survive| (0..changes).map(|index| index < survive).collect());
        let sampled = (0..self.names_sampled).map(|_| (0..changes).map(|_| noise.next() & 1 == 1).collect());
        in_order.chain(sampled).collect()
    }
}

/// A stream of numbers that look random: splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// One file torn in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Torn {
    /// The first `whole` changes, so many bytes of the next, and the sizes of all before `sized`.
    First {
        whole: usize,
        bytes: usize,
        sized: usize,
    },
    InOldSize {
        whole: usize,
    },
    Garbage(Range<usize>),
    Stale(Range<usize>),
    Missing(Range<usize>),
}

impl Torn {
    /// As at the last sync.
    const OLD: Torn = Torn::First { whole: 0, bytes: 0, sized: 0 };

    /// As at the power cut.
    fn new(inode: &Inode) -> Torn {
        Torn::First { whole: inode.pending().len(), bytes: 0, sized: 0 }
    }

    fn apply(&self, inode: &Inode, seed: u64) -> Vec<u8> {
        match self {
            Torn::First { whole, bytes, sized } => inode.replayed_to(*whole, *bytes, *sized),
            Torn::InOldSize { whole } => inode.replayed_in_old_size(*whole),
            Torn::Garbage(range) => {
                let mut noise = Noise(seed ^ range.start as u64);
                refilled(inode, range, |_| noise.next().to_le_bytes().first().copied().unwrap_or(0))
            }
            Torn::Stale(range) => refilled(inode, range, |offset| inode.stale_byte(offset)),
            Torn::Missing(range) => refilled(inode, range, |offset| inode.unwritten_byte(offset)),
        }
    }
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Torn::First { whole, bytes, sized: 0 } => write!(f, "has {whole} changes and {bytes} bytes"),
            Torn::First { whole, bytes, sized } => write!(f, "has {whole} changes and {bytes} bytes, and NULs to the size after {sized}"),
            Torn::InOldSize { whole } => write!(f, "has {whole} changes in its old size"),
            Torn::Garbage(range) => write!(f, "has garbage at {range:?}"),
            Torn::Stale(range) => write!(f, "has old bytes at {range:?}"),
            Torn::Missing(range) => write!(f, "lacks what was written at {range:?}"),
        }
    }
}

/// All changes, with other bytes in a range.
fn refilled(inode: &Inode, range: &Range<usize>, mut byte_at: impl FnMut(usize) -> u8) -> Vec<u8> {
    let mut content = inode.replayed();
    for (offset, byte) in content.iter_mut().enumerate().take(range.end).skip(range.start) {
        *byte = byte_at(offset);
    }
    content
}

/// Every way to tear the file, first those in which it is whole.
fn all_torn(inode: &Inode, bounds: &Bounds) -> Vec<Torn> {
    let mut all = vec![Torn::OLD, Torn::new(inode)];
    for tear in &bounds.tears {
        match tear {
            // The first point is before all changes, which is whole.
            Tear::Cut => all.extend(cuts(inode, bounds).skip(1).map(|(whole, bytes)| Torn::First { whole, bytes, sized: 0 })),
            Tear::SizeBeforeData => {
                let steps = inode.pending().len();
                let sizes = |whole: usize| BTreeSet::from([whole + 1, steps]);
                let sized = cuts(inode, bounds).flat_map(|(whole, bytes)| sizes(whole).into_iter().map(move |sized| (whole, bytes, sized)));
                all.extend(sized.map(|(whole, bytes, sized)| Torn::First { whole, bytes, sized }));
            }
            // Without a cut and a write over old bytes the old size shows nothing new.
            Tear::DataBeforeSize => {
                let old = inode.durable().len();
                let changes = inode.pending().iter().enumerate();
                all.extend(changes.filter(|(_, change)| change.range().start < old).map(|(step, _)| Torn::InOldSize { whole: step + 1 }));
            }
            Tear::Garbage => all.extend(dirty(inode).into_iter().flat_map(sectors).map(Torn::Garbage)),
            Tear::Stale => {
                let shows_old_bytes = |range: &Range<usize>| range.clone().any(|offset| inode.stale_byte(offset) != 0);
                all.extend(dirty(inode).into_iter().flat_map(sectors).filter(shows_old_bytes).map(Torn::Stale));
            }
            Tear::Missing => all.extend(missing(inode).into_iter().map(|(start, end)| Torn::Missing(start..end))),
        }
    }
    all
}

/// The points at which the changes can break off: so many of them whole, and so many bytes of the next.
fn cuts(inode: &Inode, bounds: &Bounds) -> impl Iterator<Item = (usize, usize)> {
    inode.pending().iter().enumerate().flat_map(move |(whole, change)| {
        let range = change.range();
        let inside = range.clone().skip(1).filter(move |offset| matches!(change, Change::Write { .. }) && bounds.cuts_at(&range, *offset));
        let start = change.range().start;
        iter::once((whole, 0)).chain(inside.map(move |offset| (whole, offset - start)))
    })
}

/// The bytes that the pending writes cover and no later cut took away, as few ranges as possible.
fn dirty(inode: &Inode) -> Vec<Range<usize>> {
    let len = inode.replayed().len();
    let writes = inode.pending().iter().filter(|change| matches!(change, Change::Write { .. })).map(Change::range);
    let mut ranges: Vec<_> = writes.map(|range| range.start..range.end.min(len)).filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let joins = next.start <= range.end;
        if joins {
            range.end = range.end.max(next.end);
        }
        joins
    });
    ranges
}

/// A range, divided where sectors begin.
fn sectors(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let sectors = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
    sectors.map(move |sector| range.start.max(sector * SECTOR_BYTES)..range.end.min((sector + 1) * SECTOR_BYTES))
}

/// Parts that may be missing while something after them is there: one write, one sector, or all before a sector.
fn missing(inode: &Inode) -> BTreeSet<(usize, usize)> {
    let dirty = dirty(inode);
    let Some(end) = dirty.last().map(|range| range.end) else { return BTreeSet::new() };
    let mut parts: BTreeSet<_> = inode.pending().iter().map(|change| (change.range().start, change.range().end)).collect();
    for range in dirty {
        parts.extend(sectors(range.clone()).flat_map(|sector| [(sector.start, sector.end), (range.start, sector.end)]));
    }
    parts.retain(|(start, stop)| start < stop && *stop < end);
    parts
}

/// The disks that a power cut could leave. See [`SimDisk::crash_images`].
pub struct CrashImages(Box<dyn Iterator<Item = SimDisk> + Send>);

impl Iterator for CrashImages {
    type Item = SimDisk;

    fn next(&mut self) -> Option<SimDisk> {
        self.0.next()
    }
}

impl fmt::Debug for CrashImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashImages").finish_non_exhaustive()
    }
}

/// What a power cut did to a disk, in words.
#[derive(Clone, Debug)]
pub struct CrashOrigin {
    names: Arc<Map>,
    /// Which of the changes of names that were pending have survived.
    survived: Arc<[bool]>,
    torn: Vec<(u64, Torn)>,
    /// Unless nothing was drawn.
    seed: Option<u64>,
    earlier: Option<Arc<CrashOrigin>>,
}

impl fmt::Display for CrashOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(earlier) = &self.earlier {
            write!(f, "{earlier}; then ")?;
        }
        write!(f, "power cut")?;
        if let Some(seed) = self.seed {
            write!(f, " (seed {seed})")?;
        }
        if !self.survived.is_empty() {
            let survived = self.survived.iter().map(|survived| if *survived { '+' } else { '-' });
            write!(f, ", changes of names {}", survived.collect::<String>())?;
        }
        for (inode, torn) in &self.torn {
            let paths = self.names.iter().filter(|(_, named)| *named == inode);
            let paths: Vec<_> = paths.map(|(path, _)| path.display().to_string()).collect();
            write!(f, ", `{}` {torn}", paths.join("`, `"))?;
        }
        Ok(())
    }
}

/// Everything that the images of one disk have in common.
struct Scene {
    content: Content,
    capacity: Option<usize>,
    /// Of every file with pending changes.
    torn: BTreeMap<u64, Vec<Torn>>,
    seed: Option<u64>,
    earlier: Option<Arc<CrashOrigin>>,
}

/// One file torn in one way, and which of the others are as at the power cut.
#[derive(Clone, Copy)]
struct Arrangement {
    torn: usize,
    way: usize,
    others: u64,
}

pub(super) fn images(content: &Content, capacity: Option<usize>, bounds: &Bounds, earlier: Option<Arc<CrashOrigin>>) -> CrashImages {
    let changed = content.inodes.iter().filter(|(_, inode)| !inode.pending().is_empty());
    let torn = changed.map(|(number, inode)| (*number, all_torn(inode, bounds))).collect();
    let scene = Arc::new(Scene { content: content.clone(), capacity, torn, seed: Some(bounds.seed), earlier });
    let choices = bounds.choices(content.names.pending());
    CrashImages(Box::new(choices.into_iter().flat_map(move |survived| Scene::images(&scene, survived.into()))))
}

pub(super) fn durable_image(content: &Content, capacity: Option<usize>, earlier: Option<Arc<CrashOrigin>>) -> SimDisk {
    let scene = Scene { content: content.clone(), capacity, torn: BTreeMap::new(), seed: None, earlier };
    let survived = vec![false; content.names.pending()];
    scene.image(&content.names.after_crash(|_| false), &survived.into(), Vec::new())
}

impl Scene {
    /// All images with one choice of names.
    fn images(scene: &Arc<Scene>, survived: Arc<[bool]>) -> impl Iterator<Item = SimDisk> + use<> {
        let scene = Arc::clone(scene);
        let names = scene.content.names.after_crash(|index| survived.get(index) == Some(&true));
        let named: BTreeSet<u64> = names.live().values().copied().collect();
        let files: Vec<u64> = scene.torn.keys().filter(|number| named.contains(number)).copied().collect();
        let arrangements = scene.arrangements(&files);
        arrangements.into_iter().map(move |arrangement| scene.image(&names, &survived, scene.arranged(&files, arrangement)))
    }

    fn arrangements(&self, files: &[u64]) -> Vec<Arrangement> {
        let Some(others) = files.len().checked_sub(1) else { return vec![Arrangement { torn: 0, way: 0, others: 0 }] };
        let masks: Vec<u64> = if others <= OTHERS_MAX { (0..1 << others).collect() } else { vec![0, u64::MAX] };
        let mut all = Vec::new();
        for (torn, file) in files.iter().enumerate() {
            let ways = self.torn.get(file).map_or(0, Vec::len);
            for others in &masks {
                // The first two ways leave the file whole: the first file has had them in all combinations with the others.
                let new = if torn == 0 { 0 } else { 2 };
                all.extend((new..ways).map(|way| Arrangement { torn, way, others: *others }));
            }
        }
        all
    }

    fn arranged(&self, files: &[u64], arrangement: Arrangement) -> Vec<(u64, Torn)> {
        let mut others = arrangement.others;
        let mut next_other = || {
            let whole = usize::from(others & 1 == 1);
            others >>= 1;
            whole
        };
        let ways = files.iter().enumerate().map(|(index, file)| (*file, if index == arrangement.torn { arrangement.way } else { next_other() }));
        ways.filter_map(|(file, way)| Some((file, self.torn.get(&file)?.get(way)?.clone()))).collect()
    }

    fn image(&self, names: &Names, survived: &Arc<[bool]>, torn: Vec<(u64, Torn)>) -> SimDisk {
        let after_crash = |number: u64| {
            let inode = self.content.inodes.get(&number)?;
            let torn = torn.iter().find(|(file, torn)| *file == number && *torn != Torn::OLD);
            Some((number, torn.map_or_else(|| inode.settled(), |(_, torn)| inode.settled_as(torn.apply(inode, self.seed.unwrap_or_default())))))
        };
        let inodes = names.live().values().filter_map(|number| after_crash(*number)).collect();
        let content = self.content.after_crash(names.clone(), inodes);
        let origin =
            CrashOrigin { names: Arc::clone(names.live()), survived: Arc::clone(survived), torn, seed: self.seed, earlier: self.earlier.clone() };
        SimDisk::with(State::of(content, self.capacity), Some(Arc::new(origin)))
    }
}
