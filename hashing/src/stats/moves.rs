//! What a change of membership moves.

use crate::{Key, Placement, ReplicaId, Table, ketama, table::Layout};

/// Keys between two different placements are compared on this many ids.
const SAMPLE: u32 = 65_536;

/// What a change moved, as shares of the key space.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Moves {
    /// Keys whose owner is another one.
    pub moved: f64,
    /// The least that any placement would have to move: what the weights say that newcomers and growing
    /// members must gain, or leavers and shrinking ones lose.
    pub ideal: f64,
    /// Keys that moved between two members which are in both tables, at the weight they had.
    pub needless: f64,
}

/// Compares two tables.
///
/// Exact when both follow one placement (for the slot ring with SHA-256 as exact as
/// [`Table::shares`]); between different placements it is counted on 65,536 fixed ids.
#[must_use]
pub fn moves(before: &Table, after: &Table) -> Moves {
    let mut moves = Moves { moved: 0.0, ideal: ideal(before, after), needless: 0.0 };
    for (share, old, new) in pieces(before, after) {
        if old != new {
            moves.moved += share;
            let unchanged = |id: Option<ReplicaId>| id.is_some_and(|id| stays(id, before, after));
            if unchanged(old) && unchanged(new) {
                moves.needless += share;
            }
        }
    }
    moves
}

/// The key space cut so finely that neither table changes owner within a piece.
fn pieces(before: &Table, after: &Table) -> Vec<(f64, Option<ReplicaId>, Option<ReplicaId>)> {
    if before.placement() != after.placement() {
        let ids = (0..SAMPLE).map(Key::Id);
        return ids.map(|id| (1.0 / f64::from(SAMPLE), before.route(id), after.route(id))).collect();
    }
    if let (Layout::Ketama(old), Layout::Ketama(new)) = (&before.layout, &after.layout) {
        let mut points = [old.hashes(), new.hashes()].concat();
        points.sort_unstable();
        points.dedup();
        return ketama::arcs(&points)
            .map(|(hash, share)| (share, before.owner(old.slot_of(hash)), after.owner(new.slot_of(hash))))
            .collect();
    }
    let slots = (0..).zip(before.slot_shares());
    slots.map(|(slot, share)| (share, before.owner(slot), after.owner(slot))).collect()
}

/// Whether a member is in both tables with one weight, as far as the placement looks at weights.
fn stays(id: ReplicaId, before: &Table, after: &Table) -> bool {
    let weightless = matches!(after.placement(), Placement::Slots { .. });
    match (before.member(id), after.member(id)) {
        (Some(old), Some(new)) => weightless || old.weight == new.weight,
        _ => false,
    }
}

fn ideal(before: &Table, after: &Table) -> f64 {
    let (mut gained, mut lost) = (0.0, 0.0);
    for member in after.members() {
        gained += (due(after, member.id) - due(before, member.id)).max(0.0);
    }
    for member in before.members() {
        lost += (due(before, member.id) - due(after, member.id)).max(0.0);
    }
    f64::max(gained, lost)
}

/// The share that a member should have.
fn due(table: &Table, id: ReplicaId) -> f64 {
    let weightless = matches!(table.placement(), Placement::Slots { .. });
    let weight = |id| match table.member(id) {
        Some(_) if weightless => 1.0,
        Some(member) => member.weight.get(),
        None => 0.0,
    };
    let total: f64 = table.members().iter().map(|member| weight(member.id)).sum();
    if total == 0.0 { 0.0 } else { weight(id) / total }
}
