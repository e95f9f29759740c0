//! How large records are: exactly for the first million, and from then on to within one percent, so that memory stays bounded.

use std::collections::BTreeMap;

/// So many sizes are remembered one by one.
const EXACT_MAX: usize = 1 << 20;

/// Beyond, sizes that agree in so many leading bits are counted together.
const BITS: u32 = 8;

/// The sizes of records.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    exact: Vec<u64>,
    /// How many sizes there are of each kind, the smallest of which is the key; empty as long as all are exact.
    rounded: BTreeMap<u64, u64>,
    bytes: u64,
    max: u64,
}

/// How the bytes are shared out among the records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The sizes that 50, 90 and 99 percent of the records do not exceed.
    pub(crate) percentiles: [u64; 3],
    /// How much of all bytes the largest one percent of the records have.
    pub(crate) largest_percent: u64,
}

impl Sizes {
    pub(crate) fn add(&mut self, size: u64) {
        self.bytes += size;
        self.max = self.max.max(size);
        if !self.is_exact() {
            *self.rounded.entry(rounded(size)).or_default() += 1;
            return;
        }
        self.exact.push(size);
        if self.exact.len() > EXACT_MAX {
            for size in std::mem::take(&mut self.exact) {
                *self.rounded.entry(rounded(size)).or_default() += 1;
            }
        }
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.rounded.is_empty()
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// `None` if there are no records.
    pub(crate) fn share(&self) -> Option<Share> {
        let mut counted = self.rounded.clone();
        for size in &self.exact {
            *counted.entry(*size).or_default() += 1;
        }
        let records: u64 = counted.values().sum();
        if records == 0 {
            return None;
        }
        let percentiles = [50, 90, 99].map(|percent| {
            let mut left = (records * percent).div_ceil(100);
            let found = counted.iter().find(|(_, count)| {
                let is_here = left <= **count;
                left = left.saturating_sub(**count);
                is_here
            });
            found.map_or(self.max, |(size, _)| *size)
        });
        let mut left = records.div_ceil(100);
        let mut largest = 0;
        for (size, count) in counted.iter().rev() {
            let taken = left.min(*count);
            largest += taken * size;
            left -= taken;
        }
        Some(Share { percentiles, largest_percent: (100 * largest).checked_div(self.bytes).unwrap_or_default() })
    }
}

/// The smallest size that agrees with this one in its leading bits.
fn rounded(size: u64) -> u64 {
    let dropped = (u64::BITS - size.leading_zeros()).saturating_sub(BITS);
    size >> dropped << dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(all: impl IntoIterator<Item = u64>) -> Sizes {
        let mut sizes = Sizes::default();
        all.into_iter().for_each(|size| sizes.add(size));
        sizes
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_sizes() {
        assert_eq!(sizes([]).share(), None);
        assert_eq!(sizes([7]).share(), Some(Share { percentiles: [7, 7, 7], largest_percent: 100 }));
        assert_eq!(sizes((1..=200).rev()).share(), Some(Share { percentiles: [100, 180, 198], largest_percent: 1 }));
    }

    #[test]
    fn beyond_a_million_records_sizes_are_within_one_percent() {
        let all = sizes((0..3 * EXACT_MAX as u64).map(|n| n * 7919 % 1_000_003));
        assert!(!all.is_exact());
        assert!(all.rounded.len() < 4000);
        let [p50, p90, p99] = all.share().unwrap().percentiles;
        for (found, expected) in [(p50, 500_000), (p90, 900_000), (p99, 990_000)] {
            assert!(u64::abs_diff(found, expected) <= expected / 100, "{found} for {expected}");
        }
    }
}
