//! Hundreds of seeded fleets with every fault at once. `SLIPRING_SEED=17 cargo test …` replays one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use slipring_hashing::{HashPair, Placement, Weight};

use super::super::{Beat, Change, Core, Event, Instance, State};
use super::ms;
use super::settings;
use super::world::{Faults, Sabotage, World};
use crate::config::RespawnName;
use crate::fleet::core::Settings;

const SEEDS: u64 = 300;
/// Of user and fault actions, before the faults stop.
const ACTIONS: usize = 120;

/// A world as the seed wants it.
fn world(seed: u64, sabotage: Sabotage) -> World {
    let mut rng = SmallRng::seed_from_u64(seed);
    let settings = Settings {
        failures: rng.random_range(1..=3),
        task_batch: rng.random_range(1..=4),
        request_batch: rng.random_range(1..=4),
        respawn_name: if rng.random() { RespawnName::Same } else { RespawnName::New },
        max_replicas: 8,
        seed,
        ..settings()
    };
    let placement =
        if seed.is_multiple_of(16) { Placement::Rendezvous } else { Placement::contract(HashPair::Given) };
    let names = &["a", "b", "c", "d", "e"][..rng.random_range(0..=5)];
    let mut world = World::new(seed, settings, placement, names);
    let mut likely = |most: f64| if rng.random() { rng.random_range(0.0..most) } else { 0.0 };
    world.faults = Faults {
        spawn_is_slow: likely(0.3),
        spawn_fails: likely(0.4),
        exits_on_start: likely(0.4),
        hangs_on_start: likely(0.2),
        exit_is_lost: likely(0.9),
        told_again: likely(0.3),
        stop_fails: likely(0.4),
        beat_is_slow: likely(0.3),
    };
    world.corpses_stay = rng.random();
    world.sabotage = sabotage;
    world
}

/// Users and bad luck.
fn act(world: &mut World, past: &mut Vec<Instance>) {
    past.extend(world.core.members().map(|(instance, ..)| instance.clone()));
    let names = world.core.names();
    let someone = names.choose(&mut world.rng).cloned().unwrap_or_default();
    match world.rng.random_range(0..13) {
        0 | 1 => {
            let n = world.rng.random_range(1..=3);
            let hostnames =
                ["a", "b", "c", "x", "y"].choose_multiple(&mut world.rng, n).map(ToString::to_string);
            let hostnames = hostnames.take(n.saturating_sub(1)).collect();
            if let Ok(names) = world.core.names_to_add(&Change { n, hostnames }, world.now) {
                world.add(names);
            }
        }
        2 => {
            let n = world.rng.random_range(1..=2);
            if let Ok(names) = world.core.names_to_remove(&Change { n, hostnames: Vec::new() }) {
                world.give(Event::Remove { names });
            }
        }
        3..=5 => world.kill(&someone),
        6 => world.hang(&someone),
        7 => (0..names.len().div_ceil(2)).for_each(|i| world.kill(&names[i])),
        8 if world.rng.random_bool(0.2) => world.restart(),
        9 => {
            // Every step is a ring: some seeds are enough.
            let slow = if world.settings.seed % 64 == 48 { world.rng.random_range(0..=2) * 600 } else { 0 };
            world.settings.slow_start = ms(slow);
            world.settings.failures = world.rng.random_range(1..=3);
            world.settings.backoff.max = ms(world.rng.random_range(100..=1000));
            world.fault("other settings", "");
            let settings = Box::new(world.settings.clone());
            world.give(Event::Configured { settings, ticket: 0 });
        }
        _ => {
            let Some(instance) = past.choose(&mut world.rng).cloned() else { return };
            let present = |core: &Core| core.members().any(|(i, ..)| i.incarnation == instance.incarnation);
            world.fault("late or false report", &instance.name);
            match world.rng.random_range(0..3) {
                0 => world.give(Event::Refused { instance }),
                // A life that is over has been reported on; of the present one the world itself speaks the truth.
                1 if !present(&world.core) && !world.watch.asks(&instance) => {
                    world.give(Event::Beat { instance, beat: Beat::Refused });
                }
                2 if !present(&world.core) => world.give(Event::Exited { instance, why: "late".into() }),
                _ => {}
            }
        }
    }
}

/// One fleet's whole story.
fn live_through(world: &mut World, seed: u64) {
    let mut past = Vec::new();
    for _ in 0..ACTIONS {
        let pause = world.rng.random_range(0..1200);
        world.run_until(world.now + ms(pause));
        act(world, &mut past);
    }
    if !seed.is_multiple_of(3) {
        world.faults = Faults::default();
        world.run_until(world.now + ms(30_000));
        assert_settled(world);
        let asked = |world: &World| world.watch.probes.values().sum::<u64>();
        let (before, members) = (asked(world), world.core.names().len() as u64);
        world.run_until(world.now + ms(3000));
        assert_settled(world);
        assert!((members * 2..=members * 3).contains(&(asked(world) - before)), "a quiet fleet only beats");
    }
    world.give(Event::Shutdown);
    world.run_until(world.now + ms(30_000));
    assert!(world.core.is_empty(), "a shutdown ends: {:#?}", world.core.views());
    assert_eq!(world.watch.unanswered(), 0, "every /add is answered");
    // Also what could not be stopped at first.
    let left: Vec<_> = world.present().into_iter().filter(|i| !world.watch.haunting.contains(i)).collect();
    assert!(left.is_empty(), "the world is empty: {left:?}");
}

fn assert_settled(world: &World) {
    let views = world.core.views();
    let names = world.core.names();
    assert!(
        views.len() == names.len() && views.iter().all(|v| v.state == State::Live),
        "all are live: {views:#?}"
    );
    let mut members: Vec<_> = world.core.members().map(|(instance, ..)| instance.clone()).collect();
    members.sort_by_key(|instance| instance.incarnation);
    assert_eq!(members, world.present(), "what runs is the members and nothing else");
    let whole = world.core.table().members().iter().all(|member| member.weight == Weight::ONE);
    assert!(whole, "everyone has its whole share: {:?}", world.core.table().members());
    assert_eq!(world.watch.unanswered(), 0, "every /add is answered");
    assert_eq!(world.watch.unfinished(), 0, "nothing is being spawned or stopped");
}

type Fired = BTreeMap<&'static str, u64>;

/// Lives through one seed; the error says what broke, and the last that happened.
fn run(seed: u64, sabotage: Sabotage) -> Result<Fired, String> {
    let mut world = world(seed, sabotage);
    let result = catch_unwind(AssertUnwindSafe(|| live_through(&mut world, seed)));
    let Err(panic) = result else { return Ok(world.watch.fired) };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
    let mut message = format!("SLIPRING_SEED={seed}: {text}\nthe last that happened:\n");
    for (at, line) in &world.log {
        writeln!(message, "{:>9.3} {line:?}", at.as_secs_f64()).unwrap();
    }
    Err(message)
}

#[test]
fn every_seed_heals_keeps_its_promises_and_ends_clean() {
    let chosen =
        std::env::var("SLIPRING_SEED").ok().map(|seed| seed.parse().expect("SLIPRING_SEED is a number"));
    let seeds = chosen.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut fired = Fired::new();
    for seed in seeds {
        for (fault, times) in run(seed, Sabotage::None).unwrap_or_else(|message| panic!("{message}")) {
            *fired.entry(fault).or_default() += times;
        }
    }
    let all = [
        "beat is slow",
        "exit is lost",
        "exits on start",
        "hangs on start",
        "haunt",
        "hung",
        "killed",
        "late or false report",
        "name is taken",
        "other settings",
        "restart",
        "spawn fails",
        "spawn is slow",
        "stop fails",
        "told again",
    ];
    assert!(
        chosen.is_some() || all.iter().all(|fault| fired.get(fault).is_some_and(|&times| times > 50)),
        "{fired:?}"
    );
}

#[test]
fn a_bug_put_back_is_seen() {
    for (sabotage, seen) in [
        (Sabotage::ForgetIncarnations, "all are live"),
        (Sabotage::LoseAnswers, "every /add is answered"),
        (Sabotage::LeaveRunning, "is spawned while"),
        (Sabotage::NeverReconcile, "what runs is the members and nothing else"),
    ] {
        let messages: Vec<_> = (0..40).filter_map(|seed| run(seed, sabotage).err()).collect();
        assert!(messages.iter().any(|message| message.contains(seen)), "{sabotage:?}: {messages:#?}");
        assert!(messages.iter().all(|message| message.starts_with("SLIPRING_SEED=")));
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let story = |seed| {
        let mut world = world(seed, Sabotage::None);
        live_through(&mut world, seed);
        format!("{:?}", world.log)
    };
    (0..5).for_each(|seed| assert_eq!(story(seed), story(seed)));
}
