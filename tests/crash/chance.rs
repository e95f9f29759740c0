//! Chance that can be repeated: the seed is printed, and `UNTORN_SEED` sets it.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
};

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(what: &str) -> Chance {
        Chance::seeded(what, RandomState::new().hash_one(what))
    }

    /// With this seed, unless another one is given.
    pub(crate) fn seeded(what: &str, seed: u64) -> Chance {
        let given = std::env::var("UNTORN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(seed);
        println!("{what}: UNTORN_SEED={seed}");
        Chance(seed | 1)
    }

    /// What gives the same once more.
    #[allow(dead_code, reason = "not every test that has it passes it on")]
    pub(crate) fn seed(&self) -> u64 {
        self.0
    }

    /// Another one, which goes its own way.
    pub(crate) fn fork(&mut self) -> Chance {
        // Mixed, because what the generator gives is where it stands: the other one would go the same way, one step ahead.
        let mixed = (self.next() ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Chance((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) | 1)
    }

    #[allow(dead_code, reason = "not every test that has it chooses")]
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.within(0..of.len() as u64) as usize]
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
