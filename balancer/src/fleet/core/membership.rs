//! Joining: the remembered members at the start, and `/add`, which takes effect whole or not at all.
//!
//! The newcomers of one `/add` are launched first and join the ring together once the runtime has started every
//! one of them; if it cannot start one, the others are stopped again and the caller reads why. The caller is
//! answered when all are live (or have died at least once: healing has them then), at the latest after the start
//! timeout, so that a client that adds and then counts requests finds them spread over everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use slipring_hashing::{Member as RingMember, PlacementError, ReplicaId, Table, Weight};

use super::member::{Member, Phase};
use super::{Command, Core, Found, News, Remembered, SpawnFailure, Ticket};

/// An `/add` under way.
#[derive(Clone, Debug)]
pub(super) struct Addition {
    ticket: Ticket,
    members: Vec<ReplicaId>,
    joined: bool,
    pub(super) deadline: Duration,
}

impl Addition {
    pub(super) fn forget(&mut self, id: ReplicaId) {
        self.members.retain(|member| *member != id);
    }
}

/// A member as the ring knows it: points come from the identity alone.
pub(crate) fn ring_member(id: ReplicaId) -> RingMember {
    RingMember { id, weight: Weight::ONE, label: id.number().to_string().into() }
}

/// The same of one that may be listed by its name: then that is its label, because its address is who it is.
pub(super) fn listed_member(listed: &BTreeMap<String, Weight>, id: ReplicaId, name: &str) -> RingMember {
    match listed.get(name) {
        Some(&weight) => RingMember { id, weight, label: name.into() },
        None => ring_member(id),
    }
}

impl Core {
    /// Takes up the remembered members: those among `found` that run are adopted, the others are spawned, and
    /// what belongs to nobody is removed. Members without a usable memory of their slots are placed anew.
    ///
    /// # Errors
    /// When the ring cannot hold them.
    pub fn begin(
        &mut self,
        remembered: &[Remembered],
        found: Vec<Found>,
        now: Duration,
    ) -> Result<Vec<Command>, PlacementError> {
        let routed: Vec<_> = remembered.iter().filter(|r| self.is_routed(&r.name)).collect();
        let (table, misfit) = place(&self.table, &self.settings.listed, &routed)?;
        self.table = Arc::new(table);
        if let Some(misfit) = misfit {
            let why = format!(
                "the remembered slots do not fit the ring ({misfit}): members were placed anew, and keys have moved"
            );
            self.tell(News::Warning { why });
        }
        self.next_incarnation = found.iter().map(|f| f.instance.incarnation).max().map_or(1, |last| last + 1);
        for Remembered { id, name, .. } in remembered {
            let id = *id;
            let lives = found.iter().filter(|f| f.instance.id == id && f.instance.name == *name);
            let survivor = lives.max_by_key(|f| (f.running.is_some(), f.instance.incarnation));
            let instance = match survivor {
                Some(survivor) => survivor.instance.clone(),
                None => self.incarnate(id, name.clone()),
            };
            let mut member = Member::new(instance, now);
            (member.joined, member.first) = (true, true);
            match survivor.map(|survivor| survivor.running.clone()) {
                Some(Some(running)) => {
                    member.phase = Phase::Starting { deadline: now + self.settings.start_timeout };
                    member.running = Some(running);
                    self.tell(News::Adopted { replica: name.clone(), id: id.number() });
                }
                Some(None) => {
                    member.phase = Phase::Removing { respawn_at: now };
                    self.stops.push_back((member.instance.clone(), Duration::ZERO));
                }
                None => self.tell(News::Added { replica: name.clone(), id: id.number() }),
            }
            self.order.push(id);
            self.members.insert(id, member);
        }
        self.remove_orphans(found);
        self.out.push(Command::Remember);
        self.publish();
        self.pump(now);
        Ok(std::mem::take(&mut self.out))
    }

    pub(super) fn add(&mut self, ticket: Ticket, names: Vec<String>, now: Duration) {
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let id = self.lowest_free();
            let instance = self.incarnate(id, name);
            self.members.insert(id, Member::new(instance, now));
            members.push(id);
        }
        let deadline = now + self.settings.start_timeout;
        self.additions.push(Addition { ticket, members, joined: false, deadline });
        self.publish();
    }

    fn lowest_free(&self) -> ReplicaId {
        let taken: BTreeSet<u16> = self.members.keys().map(|id| id.0).collect();
        ReplicaId((0..u16::MAX).find(|id| !taken.contains(id)).expect("max_replicas is far below 65,535"))
    }

    /// Lets the newcomers of an addition join once all of them were launched.
    pub(super) fn join_if_complete(&mut self, id: ReplicaId) {
        let launched = |id: &ReplicaId| {
            self.members.get(id).is_some_and(|m| !matches!(m.phase, Phase::Queued { .. } | Phase::Spawning))
        };
        let complete = |addition: &&mut Addition| {
            !addition.joined && addition.members.contains(&id) && addition.members.iter().all(launched)
        };
        let Some(addition) = self.additions.iter_mut().find(complete) else { return };
        addition.joined = true;
        let members = addition.members.clone();
        let mut table = Table::clone(&self.table);
        for &id in &members {
            let name = &self.members[&id].instance.name;
            let member = listed_member(&self.settings.listed, id, name);
            table = table.with(member).expect("room was checked when the addition was accepted");
        }
        self.table = Arc::new(table);
        for id in members {
            let member = self.members.get_mut(&id).expect("members of an addition are members");
            member.joined = true;
            let replica = member.instance.name.clone();
            self.order.push(id);
            self.tell(News::Added { replica, id: id.number() });
        }
        self.out.push(Command::Remember);
        self.publish();
    }

    /// Somebody who had not joined is gone: the others may be complete now, or nobody may be left.
    pub(super) fn join_those_left(&mut self) {
        self.additions.retain(|addition| addition.joined || !addition.members.is_empty());
        let waiting: Vec<_> = self.additions.iter().filter(|a| !a.joined).map(|a| a.members[0]).collect();
        waiting.into_iter().for_each(|id| self.join_if_complete(id));
    }

    /// A newcomer could not be launched: the whole addition is taken back. False if it had joined already.
    pub(super) fn roll_back(&mut self, id: ReplicaId, failure: &SpawnFailure) -> bool {
        let Some(at) = self.additions.iter().position(|a| !a.joined && a.members.contains(&id)) else {
            return false;
        };
        let addition = self.additions.remove(at);
        for id in addition.members {
            self.dismiss(id);
        }
        self.out.push(Command::Answer { ticket: addition.ticket, answer: Err(failure.clone()) });
        self.publish();
        true
    }

    /// Answers every addition whose members have settled, or whose time is over.
    pub(super) fn answer_additions(&mut self, now: Duration) {
        let settled = |id: &ReplicaId| {
            self.members.get(id).is_none_or(|m| {
                matches!(m.phase, Phase::Live | Phase::Suspect | Phase::Removing { .. }) || m.restarts > 0
            })
        };
        let (ended, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.additions)
            .into_iter()
            .partition(|a| a.joined && (now >= a.deadline || a.members.iter().all(settled)));
        self.additions = waiting;
        for addition in ended {
            let answer = Ok(self.names());
            self.out.push(Command::Answer { ticket: addition.ticket, answer });
        }
    }

    /// At shutdown nobody is left waiting.
    pub(super) fn refuse_additions(&mut self) {
        for addition in std::mem::take(&mut self.additions) {
            let failure = SpawnFailure::new("the balancer is shutting down", "try again when it runs");
            self.out.push(Command::Answer { ticket: addition.ticket, answer: Err(failure) });
        }
    }
}

/// The ring of the remembered members: with their slots if these are still good, else placed anew; and then what
/// was wrong with the slots, if there were any.
fn place(
    empty: &Table,
    listed: &BTreeMap<String, Weight>,
    remembered: &[&Remembered],
) -> Result<(Table, Option<PlacementError>), PlacementError> {
    let placement = empty.placement();
    let member = |r: &&Remembered| listed_member(listed, r.id, &r.name);
    let with_claims: Vec<_> = remembered.iter().map(|r| (member(r), r.claims.clone())).collect();
    placement.restore(&with_claims).map(|table| (table, None)).or_else(|misfit| {
        let members: Vec<_> = remembered.iter().map(member).collect();
        let remembered = remembered.iter().any(|r| !r.claims.is_empty());
        Ok((placement.build(&members)?, remembered.then_some(misfit)))
    })
}
