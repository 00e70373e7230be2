//! Keys of the ring: how keys are placed on replicas.

use slipring_hashing::{HashPair, Placement};

use super::keys::Effect::AtRestart;
use super::parse;
use super::reader::Reader;

pub(super) fn read(r: &mut Reader<'_>) -> Placement {
    r.section("ring", "How keys are placed on replicas.");
    let chosen = r.key(
        "ring.placement",
        AtRestart,
        "rendezvous",
        "rendezvous | maglev | ketama | slots (the original's ring, see hash).",
        parse::one_of(&["rendezvous", "maglev", "ketama", "slots"]),
    );
    let hash = r.key(
        "ring.hash",
        AtRestart,
        "",
        "given | modified | sha256: selects `slots` with this hash pair. HASH_NUM=0|1|2 does the same.",
        parse::hash_pair,
    );
    let slots = r.key(
        "ring.slots",
        AtRestart,
        "512",
        "Of the `slots` placement: 1 to 65536.",
        parse::number(1_u32..=65_536),
    );
    let virtual_servers = r.key(
        "ring.virtual_servers",
        AtRestart,
        "9",
        "Points of one replica among the slots: 1 to 1024.",
        parse::number(1_u32..=1024),
    );
    let probing = r.key("ring.probing", AtRestart, "linear", "linear | quadratic.", parse::probing);
    if virtual_servers > slots {
        r.mistake(
            &["ring.virtual_servers", "ring.slots"],
            "ring.virtual_servers of at most ring.slots, or no replica fits",
        );
    }
    // What is set nearer is what is meant: HASH_NUM beside a file that holds every default selects its ring.
    let (hash_rank, placement_rank) = (r.rank("ring.hash"), r.rank("ring.placement"));
    if hash.is_some() && chosen != "slots" && hash_rank == placement_rank {
        r.mistake(
            &["ring.placement"],
            "\"slots\" (or leave it out): ring.hash or HASH_NUM selects that placement",
        );
    }
    match (chosen.as_str(), hash.filter(|_| hash_rank <= placement_rank || chosen == "slots")) {
        ("slots", pair) | (_, pair @ Some(_)) => {
            Placement::Slots { pair: pair.unwrap_or(HashPair::Given), slots, virtual_servers, probing }
        }
        ("maglev", None) => Placement::Maglev,
        ("ketama", None) => Placement::Ketama,
        (_, None) => Placement::Rendezvous,
    }
}
