//! How a process forwards, cuts results into chunks, and lets requests in.

use std::str::FromStr;

use serde::Deserialize;

/// In which order the next processes are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// One after another, starting one further at each query.
    RoundRobin,
    /// All at once.
    Parallel,
    /// The least busy first.
    Capacity,
}

/// How many records a chunk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// Always the same number.
    Fixed,
    /// More in larger results.
    Adaptive,
    /// By what was asked for.
    QueryBased,
}

/// Who is let in when it becomes crowded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fairness {
    /// Both limits are hard.
    Strict,
    /// A team may pass its limit while the others need little.
    Weighted,
    /// Strict when it is crowded, weighted below.
    Hybrid,
}

/// An unknown name; the message lists those that are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is none of {known}")]
pub struct UnknownName {
    given: String,
    known: String,
}

macro_rules! named {
    ($($type:ident { $($variant:ident = $name:literal),+ })+) => {$(
        impl $type {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As configuration and metrics write it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownName { given: text.to_owned(), known: [$($name),+].join(", ") }),
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

named! {
    Forwarding { RoundRobin = "round_robin", Parallel = "parallel", Capacity = "capacity" }
    Chunking { Fixed = "fixed", Adaptive = "adaptive", QueryBased = "query_based" }
    Fairness { Strict = "strict", Weighted = "weighted", Hybrid = "hybrid" }
    Profile { Baseline = "baseline", Parallel = "parallel", Balanced = "balanced" }
}

/// A set of strategies with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What the original does without strategies.
    Baseline,
    /// Everything at once.
    Parallel,
    /// By load.
    Balanced,
}

/// All of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategies {
    /// In which order the next processes are asked.
    pub forwarding: Forwarding,
    /// Whether they are asked concurrently, in that order.
    pub async_forwarding: bool,
    /// How many records a chunk has.
    pub chunking: Chunking,
    /// Who is let in.
    pub fairness: Fairness,
    /// Records of a chunk, to begin with.
    pub chunk_size: usize,
}

impl Default for Strategies {
    fn default() -> Self {
        Profile::Baseline.strategies()
    }
}

impl Profile {
    /// What it stands for.
    pub fn strategies(self) -> Strategies {
        let (forwarding, async_forwarding, chunking, fairness) = match self {
            Self::Baseline => (Forwarding::RoundRobin, false, Chunking::Fixed, Fairness::Strict),
            Self::Parallel => (Forwarding::Parallel, true, Chunking::Adaptive, Fairness::Strict),
            Self::Balanced => (Forwarding::Capacity, true, Chunking::QueryBased, Fairness::Weighted),
        };
        Strategies { forwarding, async_forwarding, chunking, fairness, chunk_size: 200 }
    }
}

/// What a command line says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// All of them at once; the others go before it.
    pub profile: Option<Profile>,
    /// See [`Strategies`].
    pub forwarding: Option<Forwarding>,
    /// See [`Strategies`].
    pub async_forwarding: Option<bool>,
    /// See [`Strategies`].
    pub chunking: Option<Chunking>,
    /// See [`Strategies`].
    pub fairness: Option<Fairness>,
    /// See [`Strategies`].
    pub chunk_size: Option<usize>,
}

impl Overrides {
    /// The strategies that hold then.
    pub fn apply(self, file: Strategies) -> Strategies {
        let base = match self.profile {
            Some(profile) => Strategies { chunk_size: file.chunk_size, ..profile.strategies() },
            None => file,
        };
        Strategies {
            forwarding: self.forwarding.unwrap_or(base.forwarding),
            async_forwarding: self.async_forwarding.unwrap_or(base.async_forwarding),
            chunking: self.chunking.unwrap_or(base.chunking),
            fairness: self.fairness.unwrap_or(base.fairness),
            chunk_size: self.chunk_size.unwrap_or(base.chunk_size),
        }
    }
}

impl Strategies {
    /// Records of a chunk of a result with `records` of them, of a question for at most `limit`.
    ///
    /// Source: the overlay's contract. What asks for no limit asks for all there are.
    pub fn records_per_chunk(&self, records: usize, limit: Option<u64>) -> usize {
        let base = self.chunk_size;
        match self.chunking {
            Chunking::Fixed => base,
            Chunking::Adaptive => match records {
                0..=100 => 50,
                101..=500 => base,
                501..=2000 => base.saturating_mul(2),
                _ => 1000,
            },
            Chunking::QueryBased => {
                let wanted = limit.map_or(records, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
                base.max((wanted / 10).min(500))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_as_large_as_the_contract_says() {
        let sized = |chunking, records, limit| {
            Strategies { chunking, ..Strategies::default() }.records_per_chunk(records, limit)
        };
        for (records, size) in
            [(0, 50), (100, 50), (101, 200), (500, 200), (501, 400), (2000, 400), (2001, 1000)]
        {
            assert_eq!(sized(Chunking::Fixed, records, None), 200);
            assert_eq!(sized(Chunking::Adaptive, records, None), size, "{records}");
        }
        for (limit, size) in
            [(Some(10), 200), (Some(2000), 200), (Some(3000), 300), (Some(1_000_000), 500), (None, 400)]
        {
            assert_eq!(sized(Chunking::QueryBased, 4000, limit), size, "{limit:?}");
        }
    }

    #[test]
    fn what_is_said_on_the_command_line_goes_before_the_profile_and_that_before_the_file() {
        let file = Strategies { chunk_size: 77, ..Strategies::default() };
        assert_eq!(Overrides::default().apply(file), file);
        let overrides = Overrides {
            profile: Some(Profile::Balanced),
            forwarding: Some(Forwarding::Parallel),
            ..Overrides::default()
        };
        let expected =
            Strategies { forwarding: Forwarding::Parallel, chunk_size: 77, ..Profile::Balanced.strategies() };
        assert_eq!(overrides.apply(file), expected);
    }

    #[test]
    fn a_name_that_is_none_is_told_those_that_are() {
        let words = "fastest".parse::<Forwarding>().unwrap_err().to_string();
        assert_eq!(words, "'fastest' is none of round_robin, parallel, capacity");
    }
}
