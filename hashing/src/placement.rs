//! The choice of a placement, and how a table comes out of it.

use crate::{
    HashPair, Member, PlacementError, Probing, Table, ketama, maglev, rendezvous,
    slots::{Ring, Rules},
    table::Layout,
};

/// How replicas are laid out over slots.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// The contract's ring. It ignores weights, and remembers who came first.
    Slots {
        /// The hash functions.
        pair: HashPair,
        /// Slots of the ring, 1 to 65,536.
        slots: u32,
        /// Slots that each replica claims, 1 to `slots`.
        virtual_servers: u32,
        /// Where to look when a slot is taken.
        probing: Probing,
    },
    /// Weighted highest-random-weight over 65,536 slots: the default, even and without needless moves.
    Rendezvous,
    /// Maglev over 65,537 slots: the most even; a change moves a few keys needlessly.
    Maglev,
    /// Key for key what nginx's `hash … consistent` chooses.
    Ketama,
}

impl Default for Placement {
    /// [`Placement::Rendezvous`].
    fn default() -> Self {
        Self::Rendezvous
    }
}

impl Placement {
    /// The contract's ring: 512 slots, 9 virtual servers a replica, linear probing.
    #[must_use]
    pub fn contract(pair: HashPair) -> Self {
        Self::Slots { pair, slots: 512, virtual_servers: 9, probing: Probing::Linear }
    }

    /// How many replicas fit at the most: 56 on the contract's ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match *self {
            Self::Slots { slots, virtual_servers, .. } => {
                slots.checked_div(virtual_servers).unwrap_or(0) as usize
            }
            Self::Rendezvous => rendezvous::CAPACITY,
            Self::Maglev => maglev::CAPACITY,
            Self::Ketama => ketama::CAPACITY,
        }
    }

    /// The name that configuration uses: `slots`, `rendezvous`, `maglev` or `ketama`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slots { .. } => "slots",
            Self::Rendezvous => "rendezvous",
            Self::Maglev => "maglev",
            Self::Ketama => "ketama",
        }
    }

    /// The table for a set of members. The order of the list does not matter: the slot ring places in order
    /// of identity.
    ///
    /// # Errors
    /// Two members with one identity (for ketama also: one label), more than fit, or a ring without slots.
    pub fn build(&self, members: &[Member]) -> Result<Table, PlacementError> {
        let members = self.checked(members.to_vec())?;
        let (owners, layout) = match *self {
            Self::Slots { pair, slots, virtual_servers, probing } => {
                let mut ring = Ring::new(Rules::new(pair, slots, virtual_servers, probing)?);
                members.iter().for_each(|member| ring.place(member.id));
                (ring.owners(), Layout::Slots(ring))
            }
            Self::Rendezvous => {
                let (owners, costs) = rendezvous::Costs::build(&members);
                (owners, Layout::Rendezvous(costs))
            }
            Self::Maglev => (maglev::build(&members), Layout::Maglev),
            Self::Ketama => {
                let (owners, points) = ketama::Points::build(&members);
                (owners, Layout::Ketama(points))
            }
        };
        Ok(Table { placement: self.clone(), members, owners, layout })
    }

    /// The slot ring that has the persisted claims of its members (see [`Table::claims`]). Other placements
    /// have no history: they ignore the claims and [build](Self::build).
    ///
    /// # Errors
    /// As `build`; and claims that are out of range, double, or not one for each virtual server.
    pub fn restore(&self, members: &[(Member, Vec<u32>)]) -> Result<Table, PlacementError> {
        let list: Vec<Member> = members.iter().map(|(member, _)| member.clone()).collect();
        let Self::Slots { pair, slots, virtual_servers, probing } = *self else {
            return self.build(&list);
        };
        let list = self.checked(list)?;
        let mut ring = Ring::new(Rules::new(pair, slots, virtual_servers, probing)?);
        for (member, claims) in members {
            ring.restore(member.id, claims)?;
        }
        let owners = ring.owners();
        Ok(Table { placement: self.clone(), members: list, owners, layout: Layout::Slots(ring) })
    }

    /// The members in order of identity, if they can be placed at all.
    pub(crate) fn checked(&self, mut members: Vec<Member>) -> Result<Vec<Member>, PlacementError> {
        if let Self::Slots { pair, slots, virtual_servers, probing } = *self {
            Rules::new(pair, slots, virtual_servers, probing)?;
        }
        members.sort_by_key(|member| member.id);
        if let Some(twins) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(PlacementError::DuplicateId(twins[0].id));
        }
        if members.len() > self.capacity() {
            return Err(PlacementError::Full { members: members.len(), capacity: self.capacity() });
        }
        if *self == Self::Ketama {
            ketama::check_labels(&members)?;
        }
        Ok(members)
    }
}
