//! Numbers from a seed: the same seed gives the same numbers, on every machine and in every version.
//!
//! SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014): three lines, no state but a
//! counter. A crate would bring the machine's own randomness with it, which this one is not to know.

/// See the module.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and without, `end`. That one is as likely as another up to one part in 2^64/`end`.
    ///
    /// # Panics
    /// When `end` is 0: there is no such number.
    pub const fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "there is no number below 0");
        ((self.number() as u128 * end as u128) >> 64) as usize
    }

    /// Whether something that happens so many times in a hundred happens.
    pub const fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Any order of them.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_numbers() {
        let mut random = SplitMix64::new(1_234_567);
        let numbers: Vec<_> = (0..5).map(|_| random.number()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn a_shuffled_list_holds_what_it_held() {
        let mut list: Vec<_> = (0..100).collect();
        SplitMix64::new(7).shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
    }
}
