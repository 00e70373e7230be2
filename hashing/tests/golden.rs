//! Golden vectors: what places data must not drift, whatever is rewritten.
//!
//! Every vector has a source outside this crate: the contract (`spec/balancer.md`, section Ring), a real nginx
//! (`data/record-ketama.sh`), or an implementation of its own in Python on top of hashlib and xxHash's
//! reference code (`data/record-tables.py`). A failure here means that a released Slipring and this one would
//! route keys to different replicas; it is never fixed by recording again.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

use sha2::{Digest, Sha256};
use slipring_hashing::{HashPair, Key, Member, Placement, Probing, ReplicaId, Weight};

fn members(weights: &[f64]) -> Vec<Member> {
    let numbered = (0..).zip(weights);
    numbered.map(|(id, &weight)| Member::new(ReplicaId(id), Weight::new(weight).unwrap(), "")).collect()
}

/// The fields of every line that is no comment.
fn rows(csv: &str) -> impl Iterator<Item = Vec<&str>> {
    csv.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(',').collect())
}

/// `a:b c:d` as pairs.
fn pairs(field: &str) -> Vec<(u32, u32)> {
    let items = field.split(' ').map(|item| item.split_once(':').unwrap());
    items.map(|(left, right)| (left.parse().unwrap(), right.parse().unwrap())).collect()
}

#[test]
fn the_contracts_occupied_slots() {
    let expected = "29:1 32:2 34:1 37:2 38:3 41:1 42:3 44:2 49:3 50:1 53:2 58:3 61:1 64:2 69:3 74:1 77:2 82:3 \
                    89:1 92:2 97:3 106:1 109:2 114:3 125:1 128:2 133:3";
    let table = Placement::contract(HashPair::Given).build(&members(&[1.0; 3])).unwrap();
    let occupied: Vec<_> = table.occupied().iter().map(|(slot, id)| (*slot, id.number())).collect();
    assert_eq!(occupied, pairs(expected));
}

#[test]
fn the_contracts_lookups_walk_clockwise() {
    let table = Placement::contract(HashPair::Given).build(&members(&[1.0; 3])).unwrap();
    // Beyond the last occupied slot, 133, the walk goes round to 29, which is replica 1's.
    for (id, slot, number) in
        [(1012, 137, 1), (234_280, 161, 1), (234, 457, 1), (12, 185, 1), (0, 17, 1), (3, 32, 2)]
    {
        assert_eq!(table.slot_of(Key::Id(id)), slot, "H({id})");
        assert_eq!(table.route(Key::Id(id)).map(ReplicaId::number), Some(number), "owner of {slot}");
    }
    let order: Vec<_> = table.preference(35).map(ReplicaId::number).collect();
    assert_eq!(order, [2, 3, 1], "37:2 38:3 41:1");
}

#[test]
fn rings_of_twenty_replicas() {
    let mut checked = 0;
    for row in rows(include_str!("data/rings.csv")) {
        let [pair, probing, requests, occupied] = row[..] else { panic!("{row:?}") };
        let pair: HashPair = pair.parse().unwrap();
        let probing: Probing = probing.parse().unwrap();
        let placement = Placement::Slots { pair, slots: 512, virtual_servers: 9, probing };
        let table = placement.build(&members(&[1.0; 20])).unwrap();
        let ours: Vec<_> = table.occupied().iter().map(|(slot, id)| (*slot, id.number())).collect();
        assert_eq!(ours, pairs(occupied), "{pair} {probing}");
        for (id, slot) in pairs(requests) {
            assert_eq!(table.slot_of(Key::Id(id)), slot, "{pair}: H({id})");
        }
        checked += 1;
    }
    assert_eq!(checked, 6, "three pairs, two probings");
}

#[test]
fn keys_are_routed_alike_for_ever() {
    let tables = [Placement::Rendezvous, Placement::Maglev]
        .map(|placement| placement.build(&members(&[1.0; 3])).unwrap());
    let mut checked = 0;
    for row in rows(include_str!("data/keys.csv")) {
        let [kind, number, hash, ref routes @ ..] = row[..] else { panic!("{row:?}") };
        let number: u32 = number.parse().unwrap();
        let bytes: Vec<u8> = (0..number).map(|i| (i * 7 % 251) as u8).take(5000).collect();
        let key = if kind == "id" { Key::Id(number) } else { Key::Bytes(&bytes) };
        assert_eq!(format!("{:016x}", key.hash64()), hash, "{kind} {number}");
        assert_eq!(routes.len(), tables.len());
        for (table, route) in tables.iter().zip(routes) {
            let ours = [(table.slot_of(key), table.route(key).unwrap().number())];
            assert_eq!(ours[..], pairs(route), "{kind} {number} by {}", table.placement().name());
        }
        checked += 1;
    }
    assert_eq!(checked, 21, "fifteen lengths, six ids");
}

#[test]
fn tables_are_filled_alike_for_ever() {
    let mut checked = 0;
    for row in rows(include_str!("data/tables.csv")) {
        let [name, weights, first, digest] = row[..] else { panic!("{row:?}") };
        let placement = if name == "maglev" { Placement::Maglev } else { Placement::Rendezvous };
        assert_eq!(placement.name(), name);
        let weights: Vec<f64> = weights.split(' ').map(|weight| weight.parse().unwrap()).collect();
        let table = placement.build(&members(&weights)).unwrap();
        let owners: Vec<u32> = (0..table.slots()).map(|slot| table.owner(slot).unwrap().number()).collect();
        let spelled: Vec<String> = owners[..64].iter().map(u32::to_string).collect();
        assert_eq!(spelled.join(" "), first, "{name} {weights:?}");
        let bytes: Vec<u8> = owners.iter().flat_map(|owner| owner.to_le_bytes()).collect();
        let ours: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(ours, digest, "{name} {weights:?}");
        checked += 1;
    }
    assert_eq!(checked, 6, "two placements, three memberships");
}

#[test]
fn ketama_answers_as_nginx_did() {
    let csv = include_str!("data/ketama-nginx.csv");
    let servers = csv.lines().filter_map(|line| line.strip_prefix("# server,")?.split_once(','));
    let list: Vec<Member> = (0..)
        .zip(servers)
        .map(|(id, (label, weight))| {
            Member::new(ReplicaId(id), Weight::new(weight.parse().unwrap()).unwrap(), label)
        })
        .collect();
    assert!(list.len() >= 3 && list.iter().any(|member| member.weight != Weight::ONE));
    let table = Placement::Ketama.build(&list).unwrap();
    let mut checked = 0;
    for row in rows(csv) {
        let [key, server] = row[..] else { panic!("{row:?}") };
        let ours = table.route(Key::from(key)).and_then(|id| table.member(id)).unwrap();
        assert_eq!(&*ours.label, server, "{key}");
        checked += 1;
    }
    assert_eq!(checked, 1000);
}
