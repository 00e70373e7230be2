//! Weights of members that are new, or back.

use slipring_hashing::{Key, Placement};

use super::script::check_on;
use super::world::World;
use super::{ms, settings};
use crate::fleet::core::{Settings, State};

fn slow() -> Settings {
    // Heartbeats are out of the way.
    Settings { heartbeat_interval: ms(100_000), slow_start: ms(1000), ..settings() }
}

#[test]
fn a_share_grows_in_ten_steps() {
    check_on(
        &Placement::Rendezvous,
        slow(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         weights       | a=1.00 b=1.00
         exits a       | kill a#1
         weights       | a=1.00 b=1.00
         stopped a#1   | spawn a#3
         spawned a     | ask a#3
         weights       | a=1.00 b=1.00
         good a        |
         weights       | a=0.10 b=1.00
         deadline      | 100
         wait 99       |
         weights       | a=0.10 b=1.00
         wait 1        |
         weights       | a=0.20 b=1.00
         wait 850      |
         weights       | a=1.00 b=1.00
         deadline      | 99050",
    );
}

#[test]
fn first_members_begin_with_everything_and_later_ones_do_not() {
    check_on(
        &Placement::Maglev,
        slow(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         weights       | a=1.00
         add 1 b       | spawn b#2
         spawned b     | remember, ask b#2
         weights       | a=1.00 b=1.00
         good b        | answer 1: a b
         weights       | a=1.00 b=0.10
         wait 450      |
         weights       | a=1.00 b=0.50
         missed b      |
         state         | a=live b=suspect
         wait 50       |
         weights       | a=1.00 b=0.60",
    );
}

#[test]
fn a_death_on_the_way_begins_it_anew() {
    check_on(
        &Placement::Rendezvous,
        slow(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         exits a       | kill a#1
         stopped a#1   | spawn a#3
         live a        | ask a#3
         wait 500      |
         weights       | a=0.60 b=1.00
         exits a       | kill a#3
         stopped a#3   |
         wait 100      | spawn a#4
         live a        | ask a#4
         weights       | a=0.10 b=1.00
         wait 100      |
         weights       | a=0.20 b=1.00",
    );
}

#[test]
fn other_settings_count_from_where_it_is() {
    check_on(
        &Placement::Rendezvous,
        slow(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         exits a       | kill a#1
         stopped a#1   | spawn a#3
         live a        | ask a#3
         wait 400      |
         weights       | a=0.50 b=1.00
         set slow=10000 |
         weights       | a=0.50 b=1.00
         deadline      | 4600
         set slow=0    |
         weights       | a=1.00 b=1.00
         set slow=1000 |
         exits a       | kill a#3
         stopped a#3   |
         wait 100      | spawn a#4
         set slow=0    |
         live a        | ask a#4
         weights       | a=1.00 b=1.00
         news          | added a, added b, spawning a, spawning b, started a, live a, started b, live b, flatlined a, \
         respawning a +0, spawning a, started a, live a, flatlined a, respawning a +100, spawning a, started a, live a",
    );
}

#[test]
fn a_listed_weight_is_what_it_grows_to() {
    check_on(
        &Placement::Ketama,
        slow(),
        "begin         | remember
         set list=a:4,b |  spawn a#1, spawn b#2
         live a b      | ask a#1, remember, ask b#2, answer 99: a b
         weights       | a=0.40 b=0.10
         set list=a:2,b |
         weights       | a=0.20 b=0.10
         wait 1000     |
         weights       | a=2.00 b=1.00",
    );
}

/// Whom the keys are with that a live member may answer for.
fn served_by(world: &World) -> Vec<Option<String>> {
    let live = |id| world.core.members().find(|(i, state, _)| i.id == id && *state == State::Live);
    let serving = |key: u32| {
        let table = world.core.table();
        table.preference(table.slot_of(Key::Id(key))).find_map(live).map(|(i, ..)| i.name.clone())
    };
    (0..2000).map(serving).collect()
}

/// The keys of the others never move, and those of the one that is back come back one by one and stay.
#[test]
fn keys_come_back_once_each_and_no_other_key_moves() {
    let settings = Settings { slow_start: ms(5000), ..settings() };
    let mut world = World::new(3, settings, Placement::Rendezvous, &["a", "b", "c"]);
    world.run_until(ms(2000));
    let whole = served_by(&world);
    world.kill("a");
    let (mut before, mut back) = (served_by(&world), Vec::new());
    for step in 0..80 {
        world.run_until(ms(2000 + step * 100));
        let now = served_by(&world);
        for ((whole, before), now) in whole.iter().zip(&before).zip(&now) {
            let was_its = whole.as_deref() == Some("a");
            assert!(
                before == now || (was_its && now.as_deref() == Some("a")) || before.as_deref() == Some("a")
            );
            assert!(was_its || whole == now, "a key of another one moved");
        }
        back.push(now.iter().filter(|name| name.as_deref() == Some("a")).count());
        before = now;
    }
    assert!(before == whole, "in the end everything is as it was");
    let mut steps = back.split_off(back.iter().position(|count| *count == 0).expect("it was dead"));
    steps.retain(|count| *count > 0);
    assert!(steps.is_sorted() && steps[0] * 4 < *steps.last().expect("it came back"), "{steps:?}");
    steps.dedup();
    assert_eq!(steps.len(), 10, "{steps:?}");
}
