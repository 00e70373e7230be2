//! Ketama as nginx's `hash $key consistent` has it, key for key: a member's label is what nginx's `server` line says.
//!
//! A server of weight `w` gets `160·w` points on a circle of 2³², each the CRC-32 of host, NUL, port and the
//! previous point; a key belongs to the first point at or after its own CRC-32. It is here for those who
//! come from nginx and want their caches to stay warm; it is uneven (some percent at 160 points), slower
//! to look up than a table, and depends on the label, so a server that is called something else moves. The appliance
//! labels its replicas with their numbers, which outlive their addresses: they are where nginx would have servers
//! named 1, 2, ….
//!
//! Source: `ngx_http_upstream_hash_module.c` (`ngx_http_upstream_init_chash`,
//! `ngx_http_upstream_find_chash_point`); checked against a thousand recorded answers of a real nginx,
//! `tests/data/ketama-nginx.csv`. nginx knows whole weights only; a fraction is rounded to whole points here.
//!
//! A *slot* of this placement is the index of a point. nginx finds it by bisection; a bucket index with two
//! buckets a point or more makes that one load and on average less than one further step.

use std::{collections::HashSet, sync::Arc};

use crate::{Member, PlacementError, ReplicaId};

/// The most members: with the largest weight each, ten million points.
pub(crate) const CAPACITY: usize = 256;
/// Points for each unit of weight.
const POINTS: f64 = 160.0;

/// The points in ascending order, all different, beside the table's owners.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Points {
    hashes: Vec<u32>,
    /// For each prefix of a hash the first point at or after the prefix with zeros behind it.
    buckets: Vec<u32>,
    shift: u32,
}

impl Points {
    /// Places `members`, which are in order of identity: where two want one point, the first keeps it.
    pub(crate) fn build(members: &[Member]) -> (Vec<ReplicaId>, Self) {
        let mut points: Vec<(u32, ReplicaId)> = members
            .iter()
            .flat_map(|member| points_of(&member.label, member.weight.get()).map(|hash| (hash, member.id)))
            .collect();
        points.sort_by_key(|&(hash, _)| hash);
        points.dedup_by_key(|&mut (hash, _)| hash);
        let (hashes, owners): (Vec<u32>, _) = points.into_iter().unzip();
        (owners, Self::index(hashes))
    }

    fn index(hashes: Vec<u32>) -> Self {
        let bits = (2 * hashes.len()).next_power_of_two().ilog2().clamp(1, 32);
        let shift = 32 - bits;
        let mut buckets = Vec::with_capacity(1 << bits);
        let mut point = 0;
        for prefix in 0..1_u64 << bits {
            while hashes.get(point).is_some_and(|&hash| u64::from(hash) < prefix << shift) {
                point += 1;
            }
            buckets.push(point as u32);
        }
        Self { hashes, buckets, shift }
    }

    pub(crate) fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// The first point at or after `hash`, round the circle; 0 when there is none at all.
    #[inline]
    pub(crate) fn slot_of(&self, hash: u32) -> u32 {
        let bucket = (hash >> self.shift) as usize;
        let mut point = self.buckets.get(bucket).map_or(0, |&first| first as usize);
        while self.hashes.get(point).is_some_and(|&at| at < hash) {
            point += 1;
        }
        if point < self.hashes.len() { point as u32 } else { 0 }
    }

    /// The share of the circle that ends at each point.
    pub(crate) fn slot_shares(&self) -> Vec<f64> {
        arcs(&self.hashes).map(|(_, share)| share).collect()
    }
}

/// Each point with the share of the circle between its predecessor and itself.
pub(crate) fn arcs(points: &[u32]) -> impl Iterator<Item = (u32, f64)> {
    const CIRCLE: f64 = (1_u64 << 32) as f64;
    let before = points.last().into_iter().chain(points);
    points.iter().zip(before).map(|(&point, &previous)| match point.wrapping_sub(previous) {
        0 => (point, 1.0),
        width => (point, f64::from(width) / CIRCLE),
    })
}

/// Two members with one label would want the very same points, and one of them would get none.
pub(crate) fn check_labels(members: &[Member]) -> Result<(), PlacementError> {
    let mut seen = HashSet::new();
    match members.iter().find(|member| !seen.insert(&member.label)) {
        Some(member) => Err(PlacementError::DuplicateLabel(Arc::clone(&member.label))),
        None => Ok(()),
    }
}

/// The points of one server: at least one, however small its weight.
fn points_of(label: &str, weight: f64) -> impl Iterator<Item = u32> {
    let (host, port) = host_and_port(label);
    let mut base = crc32fast::Hasher::new();
    base.update(host.as_bytes());
    base.update(&[0]);
    base.update(port.as_bytes());
    let count = (POINTS * weight).round().max(1.0) as usize;
    let mut previous = 0_u32;
    std::iter::repeat_with(move || {
        let mut hasher = base.clone();
        hasher.update(&previous.to_le_bytes());
        previous = hasher.finalize();
        previous
    })
    .take(count)
}

/// nginx's parse: a port is the digits behind the last colon, if nothing but digits is there; a `unix:` path
/// has none.
fn host_and_port(label: &str) -> (&str, &str) {
    match label.split_at_checked(5) {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("unix:") => (path, ""),
        _ => match label.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (label, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_split_as_nginx_does() {
        let cases = [
            ("127.0.0.1:8080", ("127.0.0.1", "8080")),
            ("localhost", ("localhost", "")),
            ("[::1]:80", ("[::1]", "80")),
            ("[::1]", ("[::1]", "")),
            ("host:", ("host", "")),
            ("unix:/run/a:80", ("/run/a:80", "")),
            ("UNIX:/run/a", ("/run/a", "")),
            ("", ("", "")),
        ];
        for (label, parts) in cases {
            assert_eq!(host_and_port(label), parts, "{label}");
        }
    }

    #[test]
    fn buckets_find_what_a_scan_finds() {
        for hashes in [vec![], vec![7], vec![0, u32::MAX], vec![5, 6, 7, 1 << 31, (1 << 31) + 1]] {
            let points = Points::index(hashes.clone());
            for key in [0, 1, 5, 6, 7, 8, 1 << 31, (1 << 31) + 1, (1 << 31) + 2, u32::MAX - 1, u32::MAX] {
                let expected = hashes.iter().position(|&hash| hash >= key).unwrap_or(0);
                assert_eq!(points.slot_of(key) as usize, expected, "{key} in {hashes:?}");
            }
        }
    }

    #[test]
    fn arcs_cover_the_circle() {
        for points in [vec![9], vec![0, 1], vec![3, 1 << 30, u32::MAX]] {
            assert_eq!(arcs(&points).map(|(_, share)| share).sum::<f64>(), 1.0);
        }
        assert_eq!(arcs(&[]).count(), 0);
    }
}
