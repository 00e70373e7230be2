//! Reports in any order, about anybody, true or not: the core neither panics nor contradicts itself.

use proptest::collection::vec;
use proptest::prelude::*;
use slipring_hashing::{HashPair, Placement, ReplicaId};

use super::super::{Beat, Change, Core, Event, Found, Instance, Remembered, SpawnFailure};
use super::script::running;
use super::{ms, settings};
use crate::config::RespawnName;
use crate::fleet::core::Settings;

/// What happens, to which identity, in which of its lives (counted back from the latest), and how long after the last.
type Step = (u8, u16, u64, u64);

fn event(core: &mut Core, (kind, id, back, _): Step, ticket: u64) -> Option<Event> {
    let member = core.views().into_iter().find(|view| view.id == ReplicaId(id));
    let name = member.as_ref().map_or_else(|| format!("r{id}"), |member| member.name.clone());
    let incarnation = member.map_or(back, |member| member.incarnation.saturating_sub(back));
    let instance = Instance { id: ReplicaId(id), name: name.clone(), incarnation };
    let found =
        |alive: bool| Found { running: alive.then(|| running(incarnation)), instance: instance.clone() };
    let change = |hostnames: &[String]| Change { n: 1 + usize::from(id % 3), hostnames: hostnames.to_vec() };
    Some(match kind {
        0 | 1 => Event::Spawned { running: running(incarnation), instance },
        2 => Event::SpawnFailed { instance, failure: SpawnFailure::new("no", "no") },
        3 => Event::Exited { instance, why: "gone".into() },
        4 => Event::Refused { instance },
        5 => Event::Beat { instance, beat: Beat::Missed("no".into()) },
        6 if id == 0 => Event::Served { instance },
        6 | 7 => Event::Beat { instance, beat: Beat::Good },
        8 => Event::Drained { instance },
        9 | 10 => Event::Stopped { instance },
        11 => Event::StopFailed { instance, why: "no".into() },
        12 => Event::Observed { asked: ms(ticket * 50), found: vec![found(back % 2 == 0)] },
        13 => Event::Add { ticket, names: core.names_to_add(&change(&[]), ms(0)).ok()? },
        14 => Event::Add { ticket, names: core.names_to_add(&change(&[name]), ms(0)).ok()? },
        15 => Event::Remove { names: core.names_to_remove(&change(&[])).ok()? },
        16 if id == 0 && back == 0 => Event::Shutdown,
        _ => Event::Tick,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_report_at_any_time_leaves_the_core_sound(
        steps in vec((0_u8..17, 0_u16..5, 0_u64..4, 0_u64..1500), 0..120),
        batch in 1_usize..4,
        same in any::<bool>(),
    ) {
        let respawn_name = if same { RespawnName::Same } else { RespawnName::New };
        let settings = Settings { task_batch: batch, request_batch: batch, respawn_name, max_replicas: 6, ..settings() };
        let mut core = Core::new(settings, Placement::contract(HashPair::Given).build(&[]).unwrap());
        let member = |id: u16| Remembered { id: ReplicaId(id), name: format!("r{id}"), claims: Vec::new() };
        core.begin(&[member(0), member(1), member(3)], Vec::new(), ms(0)).unwrap();
        let mut now = ms(0);
        for (ticket, step) in (1..).zip(steps) {
            now += ms(step.3);
            if let Some(event) = event(&mut core, step, ticket) {
                core.handle(event, now);
                core.check_invariants();
                prop_assert!(core.next_deadline(now).is_none_or(|at| at > now));
            }
        }
    }
}
