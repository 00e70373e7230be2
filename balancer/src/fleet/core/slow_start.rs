//! A member that is new, or back, gets its share in steps: caches are cold, and a start is not over with the first
//! heartbeat.
//!
//! The steps are weights of the ring. On rendezvous a lower weight gives exactly the keys away that others had while the
//! member was dead, so nothing moves that would not move anyway, and only later. Leaving out a part of the requests at
//! random was the alternative: it would send the same key here and there. The first members of a fleet have no colleagues
//! who could do their work meanwhile; they begin with everything.

use std::sync::Arc;
use std::time::Duration;

use slipring_hashing::{ReplicaId, Weight};

use super::Core;
use super::member::Member;
use super::membership::listed_member;

/// From a tenth to everything.
const STEPS: u32 = 10;

/// How far a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warming {
    since: Duration,
    /// From 1, below [`STEPS`].
    step: u32,
}

impl Core {
    /// A member's life begins to count.
    pub(super) fn begin_slowly(&mut self, id: ReplicaId, now: Duration) {
        let slowly = !self.settings.slow_start.is_zero();
        let Some(member) = self.members.get_mut(&id) else { return };
        let slowly = slowly && (member.restarts > 0 || !member.first);
        member.warming = slowly.then_some(Warming { since: now, step: 1 });
        self.settle_weights();
    }

    /// Takes the steps that are due.
    pub(super) fn warm_up(&mut self, now: Duration) {
        let whole = self.settings.slow_start;
        let mut stepped = false;
        for member in self.members.values_mut() {
            let Some(warming) = &mut member.warming else { continue };
            let step = (warming.step..STEPS).find(|&step| now < warming.since + whole * step / STEPS);
            stepped |= step != Some(warming.step);
            match step {
                Some(step) => warming.step = step,
                None => member.warming = None,
            }
        }
        if stepped {
            self.settle_weights();
        }
    }

    /// When the next steps are due.
    pub(super) fn warmer(&self) -> impl Iterator<Item = Duration> {
        let whole = self.settings.slow_start;
        let warming = self.members.values().filter_map(|member| member.warming);
        warming.map(move |warming| warming.since + whole * warming.step / STEPS)
    }

    /// Lets the ring know of every weight that is another now. The dead have no warmth and lose nothing by it: who is
    /// passed over owns no key.
    pub(super) fn settle_weights(&mut self) {
        let weights =
            self.members.values().filter(|m| m.joined && m.is_up()).map(|m| (m.instance.id, self.weight(m)));
        let other =
            |(id, weight): &(ReplicaId, Weight)| self.table.member(*id).is_some_and(|m| m.weight != *weight);
        let others: Vec<_> = weights.filter(other).collect();
        for (id, weight) in &others {
            self.table = Arc::new(self.table.reweighted(*id, *weight));
        }
        if !others.is_empty() {
            self.publish();
        }
    }

    fn weight(&self, member: &Member) -> Weight {
        let Member { instance, warming, .. } = member;
        let whole = listed_member(&self.settings.listed, instance.id, &instance.name).weight;
        let part = |warming: &Warming| whole.get() * f64::from(warming.step) / f64::from(STEPS);
        let part = warming.as_ref().map(part);
        part.map_or(whole, |part| Weight::new(part).unwrap_or(Weight::MIN))
    }
}
