//! Names of replicas: what is one, and how a random one is drawn.

use rand::Rng;

/// A DNS label (RFC 1123): a replica's name is its hostname and its alias on the network.
pub fn is_valid(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(|&byte| inner(byte)) && edge(bytes.first()) && edge(bytes.last())
}

/// Whether Docker takes it as a name, of whatever length.
pub(crate) fn is_docker_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// `Server-XXX-YYY`, or with a pool's name before it: a random three-digit number and the milliseconds of the clock. When
/// all thousand of this millisecond are `taken`, the next millisecond's are tried.
pub fn random(prefix: &str, rng: &mut impl Rng, unix_ms: u64, taken: impl Fn(&str) -> bool) -> String {
    let first = rng.random_range(0..900_u64);
    (0..)
        .flat_map(|later: u64| (0..900).map(move |n| (later, n)))
        .map(|(later, n)| format!("{prefix}-{}-{:03}", 100 + (first + n) % 900, (unix_ms + later) % 1000))
        .take(900_000)
        .find(|name| !taken(name))
        .unwrap_or_else(|| format!("{prefix}-{}-{unix_ms}", 100 + first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    #[test]
    fn dns_labels_and_nothing_else() {
        for good in ["S5", "a", "Server-1", &"x".repeat(63), "5"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a_b", "a b", "é", &"x".repeat(64), "a/b", "a\n"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn random_names_have_the_contracts_shape_and_never_repeat() {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
        let mut taken = HashSet::new();
        for _ in 0..2000 {
            let name = random("Server", &mut rng, 1_700_000_000_042, |name| taken.contains(name));
            let digits: Vec<_> = name.strip_prefix("Server-").unwrap().split('-').collect();
            assert!(digits.iter().all(|part| part.len() == 3 && part.parse::<u16>().is_ok()), "{name}");
            assert!(is_valid(&name));
            assert!(taken.insert(name));
        }
        assert!(taken.iter().filter(|name| name.ends_with("-042")).count() == 900);
    }
}
