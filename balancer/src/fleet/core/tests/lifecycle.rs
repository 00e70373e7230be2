//! One replica's life: started, live, suspect, flatlined, respawned.

use super::script::check;
use super::{ms, settings};
use crate::config::RespawnName;
use crate::fleet::core::Settings;

#[test]
fn a_first_start_spawns_everyone_and_serves_when_heartbeats_come() {
    check(
        settings(),
        "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
         names         | a b c
         ring          | changed
         spawned b     | ask b#2
         good b        |
         state         | a=starting b=live c=starting
         fails a       | spawn a#4
         live a c      | ask a#4, ask c#3
         state         | a=live b=live c=live
         remember      | a:1 b:2 c:3
         ring          | same",
    );
}

#[test]
fn a_killed_replica_is_respawned_at_once_under_its_name_and_moves_no_key() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         ring          | changed
         news          | added a, added b, spawning a, spawning b, started a, live a, started b, live b
         exits a       | kill a#1
         state         | a=flatlined b=live
         ring          | same
         stopped a     | spawn a#3
         live a        | ask a#3
         views         | a:1=live b:2=live
         ring          | same
         news          | flatlined a, respawning a +0, spawning a, started a, live a",
    );
}

#[test]
fn missed_heartbeats_make_a_replica_suspect_and_then_flatlined() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         wait 1000     | ask a#1
         missed a      |
         state         | a=suspect
         wait 1000     | ask a#1
         good a        |
         state         | a=live
         wait 900      | ask a#1
         missed a      |
         deadline      | 900
         wait 900      | ask a#1
         wait 500      |
         missed a      |
         wait 400      | ask a#1
         wait 500      |
         missed a      | kill a#1
         news          | added a, spawning a, started a, live a, suspect a 1, live a, suspect a 1, suspect a 2, flatlined a",
    );
}

#[test]
fn a_replica_that_exits_on_start_waits_ever_longer_and_blocks_nobody() {
    let lives = "
         begin a b     | remember, spawn a#1, spawn b#2
         live b        | ask b#2
         spawned a     | ask a#1
         exits a       | kill a#1
         stopped a     | spawn a#3
         spawned a     | ask a#3
         exits a       | kill a#3
         wait 40       |
         stopped a     |
         state         | a=respawning b=live
         deadline      | 60
         wait 59       |
         wait 1        | spawn a#4
         spawned a     | ask a#4
         exits a       | kill a#4
         stopped a     |
         wait 199      |
         wait 1        | spawn a#5
         fails a       |
         wait 400      | spawn a#6
         fails a       |
         wait 300      | ask b#2
         good b        |
         wait 500      | spawn a#7
         fails a       |
         wait 500      | ask b#2
         good b        |
         wait 500      | spawn a#8
         state         | a=starting b=live
         news          | added a, added b, spawning a, spawning b, started b, live b, started a, \
         flatlined a, respawning a +0, spawning a, started a, flatlined a, respawning a +60, spawning a, started a, \
         flatlined a, respawning a +200, spawning a, spawn_failed a, respawning a +400, spawning a, spawn_failed a, \
         respawning a +800, spawning a, spawn_failed a, respawning a +1000, spawning a
         live a        | ask a#8
         wait 10000    | ask b#2, ask a#8
         exits a       | kill a#8
         stopped a     | spawn a#9
         fails a       |
         news          | started a, live a, flatlined a, respawning a +0, spawning a, spawn_failed a, respawning a +100";
    check(settings(), &lives.replace("\\\n", ""));
}

#[test]
fn a_replica_without_a_heartbeat_is_given_up_after_the_start_timeout() {
    check(
        Settings { heartbeat_interval: ms(10_000), ..settings() },
        "begin a       | remember, spawn a#1
         wait 7000     |
         spawned a     | ask a#1
         beat-refused a |
         wait 20       | ask a#1
         missed a      |
         wait 20       | ask a#1
         wait 4959     |
         state         | a=starting
         wait 1        | kill a#1",
    );
}

#[test]
fn a_refused_connection_is_death_to_the_living_and_nothing_to_a_starting_one() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         refused a     |
         spawned a     | ask a#1
         refused a     |
         state         | a=starting b=starting
         good a        |
         refused a     | kill a#1
         refused a     |
         live b        | ask b#2
         wait 1000     | ask b#2
         missed b      |
         refused b     | kill b#2",
    );
}

#[test]
fn a_starting_replica_is_asked_often_and_the_first_good_heartbeat_ends_that() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         spawned a     | ask a#1
         wait 300      |
         beat-refused a | ask a#1
         beat-refused a |
         deadline      | 20
         wait 20       | ask a#1
         good a        |
         deadline      | 1000",
    );
}

#[test]
fn a_heartbeat_of_a_life_that_is_over_keeps_its_place_in_the_batch_until_it_ends() {
    check(
        Settings { request_batch: 1, ..settings() },
        "begin a b     | remember, spawn a#1, spawn b#2
         spawned a     | ask a#1
         spawned b     |
         exits a       | kill a#1
         wait 10       |
         stopped a     | spawn a#3
         spawned a     |
         wait 100      |
         missed a#1    | ask b#2
         rm b          | remember, drain b#2
         wait 100      |
         good b#2      | ask a#3",
    );
}

#[test]
fn an_exit_that_is_heard_of_before_the_spawn_counts() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         exits a       |
         state         | a=starting
         spawned a     | kill a#1
         why a         | it ended as soon as it had started: exit status: 1
         stopped a     | spawn a#2
         exits a       |
         fails a       |
         wait 100      | spawn a#3
         live a        | ask a#3
         state         | a=live",
    );
}

#[test]
fn a_new_name_keeps_identity_and_ring_and_is_remembered() {
    check(
        Settings { respawn_name: RespawnName::New, ..settings() },
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         ring          | changed
         exits a       | kill a#1
         stopped a     | remember, spawn new#3
         live new | ask new#3
         views         | new:1=live b:2=live
         remember      | new:1 b:2
         ring          | same",
    );
}

/// A heartbeat that times out is a guess, a request that is answered a fact.
#[test]
fn the_last_replica_stays_while_it_serves_whatever_its_heartbeats_say() {
    check(
        Settings { failures: 1, ..settings() },
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         wait 1000     | ask a#1, ask b#2
         serves a      |
         missed a      | kill a#1
         stopped a     | spawn a#3
         serves b      |
         missed b      |
         state         | a=starting b=suspect
         wait 900      | ask b#2
         serves b      |
         missed b      |
         state         | a=starting b=suspect
         live a        | ask a#3
         wait 900      | ask b#2
         serves b      |
         missed b      | kill b#2
         state         | a=live b=flatlined",
    );
}

#[test]
fn the_last_replica_goes_when_it_no_longer_serves() {
    check(
        Settings { failures: 1, ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         wait 1000     | ask a#1
         serves a      |
         missed a      |
         wait 900      | ask a#1
         wait 501      |
         missed a      | kill a#1
         stopped a     | spawn a#2
         live a        | ask a#2
         wait 1000     | ask a#2
         missed a      | kill a#2",
    );
}

#[test]
fn one_that_starts_and_gives_no_good_heartbeat_says_why() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         spawned a     | ask a#1
         why a         |
         missed a      |
         why a         | no answer
         state         | a=starting b=starting
         wait 20       | ask a#1
         good a        |
         why a         |
         spawned b     | ask b#2
         missed b      |
         wait 20       | ask b#2
         wait 5000     | ask a#1, kill b#2
         why b         | no good heartbeat within 5s of its start: no answer",
    );
}
