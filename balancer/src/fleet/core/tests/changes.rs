//! `/add` and `/rm`.

use super::script::check;
use super::{ms, settings};
use crate::config::RespawnName;
use crate::fleet::core::Settings;

#[test]
fn an_addition_joins_as_one_and_is_answered_when_all_are_live() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         ring          | changed
         add 1 b c     | spawn b#2, spawn c#3
         spawned c#3   | ask c#3
         good c#3      |
         names         | a
         ring          | same
         views         | a:1=live b:2=starting c:3=live
         spawned b#2   | remember, ask b#2
         names         | a b c
         ring          | changed
         good b        | answer 1: a b c",
    );
}

#[test]
fn an_addition_is_answered_at_the_latest_after_the_start_timeout() {
    check(
        Settings { start_timeout: ms(500), ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         add 1 b       | spawn b#2
         wait 100      |
         spawned b#2   | remember, ask b#2
         wait 399      |
         wait 1        | answer 1: a b
         state         | a=live b=starting
         add 2 c       | spawn c#3
         wait 500      | kill b#2, ask a#1
         spawned c#3   | remember, answer 2: a b c, ask c#3",
    );
}

#[test]
fn an_addition_is_answered_when_its_members_have_died_once_since_healing_has_them_then() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         add 1 b c     | spawn b#2, spawn c#3
         spawned b#2   | ask b#2
         spawned c#3   | remember, ask c#3
         exits b       | kill b#2
         good c        | answer 1: a b c",
    );
}

#[test]
fn one_spawn_that_fails_takes_the_whole_addition_back() {
    check(
        Settings { task_batch: 2, ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         ring          | changed
         add 1 b c d   | spawn b#2, spawn c#3
         spawned b#2   | spawn d#4, ask b#2
         news          | added a, spawning a, started a, live a, spawning b, spawning c, started b, spawning d
         fails c#3     | answer 1: error, drain b#2
         ring          | same
         views         | a:1=live b:2=draining d:4=draining
         drained b#2   | stop b#2
         add 2 e f g   | spawn e#5
         spawned d#4   | stop d#4, spawn f#6
         stopped d#4   |
         stopped b#2   |
         live e#5 f#6  | spawn g#7, ask e#5, ask f#6
         views         | a:1=live e:2=live f:3=live g:4=starting
         live g#7      | remember, ask g#7, answer 2: a e f g",
    );
}

#[test]
fn a_rolled_back_spawn_frees_its_name_and_its_place_in_the_batch() {
    check(
        Settings { task_batch: 1, ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         add 1 b       | spawn b#2
         fails b#2     | answer 1: error
         views         | a:1=live
         add 2 b       | spawn b#3
         live b#3      | remember, ask b#3, answer 2: a b",
    );
}

#[test]
fn a_removal_drains_then_stops_then_forgets() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         ring          | changed
         rm a          | remember, drain a#1
         names         | b
         ring          | changed
         views         | b:2=live a:1=draining
         wait 1000     | ask b#2
         drained a     | stop a#1
         drained a     |
         stopped a     |
         views         | b:2=live
         remember      | b:2
         ring          | same",
    );
}

#[test]
fn a_replica_that_ends_while_it_drains_is_removed_at_once() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         rm a          | remember, drain a#1
         exits a       | kill a#1
         drained a     |
         stopped a     |
         empty         | true",
    );
}

#[test]
fn the_lowest_free_identity_is_used_again() {
    check(
        settings(),
        "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
         live a b c    | ask a#1, ask b#2, ask c#3
         rm b a        | remember, drain a#1, drain b#2
         add 1 d e f   | spawn d#4, spawn e#5, spawn f#6
         live d#4 e#5 f#6 | ask d#4, ask e#5, remember, ask f#6, answer 1: c d e f
         remember      | c:3 d:1 e:2 f:4",
    );
}

#[test]
fn an_addition_is_not_kept_waiting_by_the_next_owner_of_its_identity() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         add 1 b c     | spawn b#2, spawn c#3
         spawned b#2   | ask b#2
         spawned c#3   | remember, ask c#3
         rm b          | remember, drain b#2
         add 2 d       | spawn d#4
         good c        | answer 1: a c
         live d#4      | remember, ask d#4, answer 2: a c d",
    );
}

#[test]
fn a_name_waits_until_its_last_owner_is_gone() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         rm a          | remember, drain a#1
         add 1 a c     | spawn c#4
         live c#4      | ask c#4
         drained a#1   | stop a#1
         stopped a#1   | spawn a#3
         live a#3      | remember, ask a#3, answer 1: b a c
         remember      | b:2 a:1 c:3",
    );
}

#[test]
fn a_removal_while_spawning_stops_what_comes_of_it() {
    check(
        settings(),
        "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
         rm a b        | remember
         views         | c:3=starting a:1=draining b:2=draining
         exits a       |
         spawned a     | stop a#1
         fails b       |
         stopped a     |
         views         | c:3=starting",
    );
}

#[test]
fn a_removal_while_the_corpse_is_removed_or_the_backoff_runs_leaves_nothing() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         exits a       | kill a#1
         rm a          | remember
         add 1 a       |
         stopped a#1   | spawn a#3
         fails a#3     | answer 1: error
         fails b       |
         exits b       | kill b#2
         stopped b     | spawn b#4
         fails b       |
         rm b          | remember
         empty         | true
         wait 10000    |",
    );
}

#[test]
fn a_draining_replica_of_a_fleet_with_new_names_is_not_revived() {
    check(
        Settings { respawn_name: RespawnName::New, ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         rm a          | remember, drain a#1
         refused a     |
         missed a      |
         exits a       | kill a#1
         stopped a     |
         empty         | true",
    );
}

#[test]
fn readers_see_the_smaller_ring_before_anyone_waits_for_the_last_request() {
    use super::super::{Command, Core, Event, Remembered};
    use slipring_hashing::{Placement, ReplicaId};

    let member = |id: u16| Remembered { id: ReplicaId(id), name: format!("r{id}"), claims: Vec::new() };
    let mut core = Core::new(settings(), Placement::Maglev.build(&[]).unwrap());
    core.begin(&[member(0), member(1)], Vec::new(), ms(0)).unwrap();
    let running: Vec<_> = core.members().map(|(instance, ..)| instance.clone()).collect();
    for instance in running {
        let running = super::script::running(instance.incarnation);
        core.handle(Event::Spawned { instance, running }, ms(1));
    }
    let commands = core.handle(Event::Remove { names: vec!["r0".into(), "r1".into()] }, ms(2));
    let publish = commands.iter().rposition(|command| *command == Command::Publish).unwrap();
    let drain = commands.iter().position(|command| matches!(command, Command::Drain { .. })).unwrap();
    assert!(publish < drain, "{commands:?}");
}
