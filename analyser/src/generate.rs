//! Logs of the seed's shape, for those who have none: the same seed gives the same bytes.
//!
//! A line is `[2025-11-05T23:20:11.594011] [INFO] Configuration loaded`; its level is one of four, each as likely as the
//! others, its message one of eight, drawn apart. One of them is a trap: it speaks of an error at any level.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::count::Tally;
use crate::time::Time;

const LEVELS: [&str; 4] = ["INFO", "WARN", "ERROR", "DEBUG"];
const MESSAGES: [&str; 8] = [
    "Configuration loaded",
    "User logged in",
    "Disk read failed",
    "Memory allocation error",
    "Connection timed out",
    "Request processed",
    "Cache refreshed",
    "Service started",
];
/// 2025-11-05T23:20:11.594011, when the contract's first example was written.
const BEGIN: i64 = 1_762_384_811_594_011;
/// Lines are so far apart on average: a fifth of a second.
const APART_MICROS: u64 = 400_000;

/// How much to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many lines.
    Lines(u64),
    /// As many lines as fit into so many bytes.
    Bytes(u64),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Lines(5000)
    }
}

/// Writes one log and says what is in it. Of one seed each `node` has lines of its own.
///
/// # Errors
/// When `out` does not take it.
pub fn write_log(out: &mut impl Write, seed: u64, node: u64, amount: Amount) -> io::Result<Tally> {
    let mut random = StdRng::seed_from_u64(seed ^ node.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (lines, bytes) = match amount {
        Amount::Lines(lines) => (lines, u64::MAX),
        Amount::Bytes(bytes) => (u64::MAX, bytes),
    };
    let mut tally = Tally::default();
    let (mut now, mut written, mut line) = (BEGIN, 0, Vec::with_capacity(80));
    let (mut second, mut up_to_second) = (i64::MIN, String::new());
    while tally.lines < lines {
        let draw: u64 = random.random();
        now += (1 + (draw >> 32) % APART_MICROS) as i64;
        if now / 1_000_000 != second {
            second = now / 1_000_000;
            up_to_second = Time(second * 1_000_000).to_string();
        }
        let level = (draw & 3) as usize;
        line.clear();
        line.push(b'[');
        line.extend_from_slice(up_to_second.as_bytes());
        line.push(b'.');
        line.extend_from_slice(&six_digits(now % 1_000_000));
        line.extend_from_slice(b"] [");
        line.extend_from_slice(LEVELS[level].as_bytes());
        line.extend_from_slice(b"] ");
        line.extend_from_slice(MESSAGES[(draw >> 2 & 7) as usize].as_bytes());
        line.push(b'\n');
        written += line.len() as u64;
        if written > bytes {
            break;
        }
        out.write_all(&line)?;
        tally.lines += 1;
        *[&mut tally.info, &mut tally.warn, &mut tally.error, &mut tally.debug][level] += 1;
    }
    Ok(tally)
}

fn six_digits(mut number: i64) -> [u8; 6] {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Writes `node1.log`, `node2.log`, … into a folder, which is made if there is none, and says what is in them.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_folder(folder: &Path, seed: u64, files: u64, amount: Amount) -> io::Result<Tally> {
    std::fs::create_dir_all(folder)?;
    let mut sum = Tally::default();
    for node in 1..=files {
        let mut out =
            BufWriter::with_capacity(1 << 18, File::create(folder.join(format!("node{node}.log")))?);
        sum = sum + write_log(&mut out, seed, node, amount)?;
        out.flush()?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::{Amount, write_folder, write_log};
    use crate::count::{Counter, Tally};

    fn log(seed: u64, node: u64, amount: Amount) -> (Vec<u8>, Tally) {
        let mut bytes = Vec::new();
        let tally = write_log(&mut bytes, seed, node, amount).unwrap();
        (bytes, tally)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_other_nodes_others() {
        let (bytes, tally) = log(7, 1, Amount::default());
        assert_eq!(log(7, 1, Amount::default()), (bytes.clone(), tally));
        assert_ne!(log(7, 2, Amount::default()).0, bytes);
        assert_ne!(log(8, 1, Amount::default()).0, bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap().lines().next(),
            Some("[2025-11-05T23:20:11.844802] [ERROR] Service started")
        );
    }

    #[test]
    fn what_it_says_of_a_log_is_in_it() {
        let (bytes, tally) = log(1, 1, Amount::Bytes(100_000));
        assert!((99_920..=100_000).contains(&bytes.len()), "{}", bytes.len());
        let mut counter = Counter::default();
        counter.feed(&bytes);
        assert_eq!(counter.finish(), tally);
        let parts = [tally.info, tally.warn, tally.error, tally.debug];
        assert_eq!(parts.iter().sum::<u64>(), tally.lines);
        for part in parts {
            assert!(part * 5 > tally.lines, "each level is one of four: {tally:?}");
        }
    }

    #[test]
    fn ten_files_have_fifty_thousand_lines() {
        let folder = tempfile::tempdir().unwrap();
        let sum = write_folder(folder.path(), 1, 10, Amount::default()).unwrap();
        assert_eq!(sum.lines, 50_000);
        assert!(folder.path().join("node10.log").is_file());
    }
}
