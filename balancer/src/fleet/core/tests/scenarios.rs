//! Staged scenes in a simulated world: those whose point is a duration or a number.

use slipring_hashing::Placement;

use super::super::State;
use super::world::{Faults, World};
use super::{Settings, ms, settings};

fn world(settings: Settings, names: &[&str]) -> World {
    let mut world = World::new(7, settings, Placement::Rendezvous, names);
    world.run_until(ms(2000));
    assert!(all_live(&world), "{:#?}", world.core.views());
    world
}

fn all_live(world: &World) -> bool {
    world.core.members().all(|(_, state, _)| state == State::Live)
}

#[test]
fn a_quiet_fleet_asks_for_one_heartbeat_each_in_every_interval_and_does_nothing_else() {
    let mut world = world(settings(), &["a", "b", "c"]);
    let mut steps = 0;
    for interval in 1..20 {
        let before: u64 = world.watch.probes.values().sum();
        let end = ms(2000 + interval * 1000);
        while world.step(end) {
            steps += 1;
        }
        let probes = world.watch.probes.values().sum::<u64>() - before;
        assert_eq!(probes, 3, "in interval {interval}");
    }
    // Each heartbeat is a tick and an answer; each reconciliation a listing asked for, made and delivered.
    assert!(steps <= 20 * 3 * 2 + 7 * 3, "{steps} steps");
}

#[test]
fn a_hang_in_any_phase_of_the_heartbeat_cycle_is_found_in_time() {
    let Settings { heartbeat_interval: interval, heartbeat_timeout: timeout, failures, .. } = settings();
    // What is promised is interval × failures + timeout; a tenth of an interval for each repetition is left for a
    // busy machine.
    let bound = interval * failures + timeout - interval / 10 * (failures - 1);
    for phase in (0..2000).step_by(7) {
        let mut world = world(settings(), &["a", "b"]);
        let at = ms(2000 + phase);
        world.run_until(at);
        world.hang("a");
        world.run_until(at + bound);
        assert_eq!(world.watch.flatlined, 1, "hung at {at:?}");
        world.run_until(at + bound + ms(1000));
        assert!(all_live(&world), "hung at {at:?}");
    }
}

#[test]
fn half_of_ten_that_die_at_once_come_back_two_at_a_time() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut world = world(Settings { task_batch: 2, ..settings() }, &names);
    let ring = world.core.table().clone();
    let others = world.present().split_off(5);
    names[..5].iter().for_each(|name| world.kill(name));
    world.run_until(ms(2100));
    assert!(!all_live(&world));
    world.run_until(ms(6000));
    assert!(all_live(&world), "{:#?}", world.core.views());
    assert_eq!(world.watch.most_spawning, 2, "Watch asserts that it is never more");
    assert!(*world.core.table() == ring && world.core.names() == names);
    assert!(others.iter().all(|other| world.present().contains(other)), "the others were left alone");
}

#[test]
fn one_that_exits_on_start_costs_little_and_blocks_nobody() {
    let mut world = world(settings(), &["a", "b", "c"]);
    world.faults = Faults { exits_on_start: 1.0, ..Faults::default() };
    world.kill("a");
    let mut steps = 0;
    while world.step(ms(62_000)) {
        steps += 1;
        let state = |name| world.core.members().find(|(i, ..)| i.name == name).map(|(_, state, _)| state);
        assert_eq!((state("b"), state("c")), (Some(State::Live), Some(State::Live)));
    }
    let member = world.core.views().swap_remove(0);
    assert!((40..70).contains(&member.restarts), "a second apart, after the first few: {}", member.restarts);
    assert!(steps < 60 * 40, "{steps} steps in a minute");
    world.faults = Faults::default();
    world.run_until(ms(65_000));
    assert!(all_live(&world));
}

#[test]
fn heartbeats_keep_to_their_batch_and_still_reach_everyone() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut world = world(Settings { request_batch: 1, ..settings() }, &names);
    world.run_until(ms(12_000));
    assert!(all_live(&world) && world.watch.flatlined == 0);
    let least = world.watch.probes.values().min();
    assert!(least >= Some(&10), "{:?}", world.watch.probes);
}
