//! Other settings while the fleet runs.

use slipring_hashing::{Placement, Weight};

use super::script::{check, check_on};
use super::{ms, settings};
use crate::fleet::backoff::BackoffPolicy;
use crate::fleet::core::Settings;

#[test]
fn shorter_times_count_from_now_on() {
    check(
        Settings { heartbeat_interval: ms(60_000), heartbeat_timeout: ms(900), ..settings() },
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         deadline      | 60000
         set interval=1000 |
         deadline      | 1000
         wait 1000     | ask a#1, ask b#2
         set failures=1 |
         missed a      | kill a#1
         state         | a=flatlined b=live
         set interval=60000 |
         good b        |
         wait 1000     | ask b#2",
    );
}

#[test]
fn who_waits_for_its_backoff_waits_no_longer_than_the_new_one_says() {
    let backoff = BackoffPolicy { min: ms(60_000), max: ms(60_000), reset: ms(10_000) };
    check(
        Settings { backoff, ..settings() },
        "begin a       | remember, spawn a#1
         spawned a     | ask a#1
         exits a       | kill a#1
         stopped a#1   | spawn a#2
         spawned a     | ask a#2
         exits a       | kill a#2
         stopped a#2   |
         deadline      | 60000
         set backoff=50 |
         deadline      | 50
         wait 50       | spawn a#3",
    );
}

#[test]
fn batches_that_shrink_wait_for_what_is_under_way() {
    check(
        Settings { task_batch: 3, ..settings() },
        "begin a b c d | remember, spawn a#1, spawn b#2, spawn c#3
         set tasks=1   |
         spawned a     | ask a#1
         spawned b     | ask b#2
         spawned c     | spawn d#4, ask c#3
         set most=2 tasks=5 |
         state         | a=starting b=starting c=starting d=starting",
    );
}

fn listed(names: &[&str]) -> Settings {
    Settings { listed: names.iter().map(|name| ((*name).to_owned(), Weight::ONE)).collect(), ..settings() }
}

#[test]
fn members_follow_the_list() {
    check_on(
        &Placement::Rendezvous,
        listed(&["a", "b", "c"]),
        "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
         live a b c    | ask a#1, ask b#2, ask c#3
         ring          | changed
         set list=a,b,c |
         ring          | same
         set list=a,b:2.5,d | remember, spawn d#4, drain c#3
         weights       | a=1.00 b=2.50
         ring          | changed
         views         | a:1=live b:2=live d:3=starting c:3=draining
         spawned d     | remember, ask d#4
         weights       | a=1.00 b=2.50 d=1.00
         good d        | answer 99: a b d
         drained c#3   | stop c#3
         stopped c#3   |
         rm a          | remember, drain a#1
         set list=a,b,d |
         names         | b d
         weights       | b=1.00 d=1.00",
    );
}

#[test]
fn one_that_is_listed_again_waits_until_it_is_gone() {
    check_on(
        &Placement::Rendezvous,
        listed(&["a", "b"]),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         set list=a    | remember, drain b#2
         set list=a,b  |
         drained b#2   | stop b#2
         stopped b#2   | spawn b#3
         spawned b     | remember, ask b#3
         names         | a b",
    );
}

#[test]
fn one_that_is_no_longer_listed_before_it_has_joined_holds_nobody_up() {
    check_on(
        &Placement::Rendezvous,
        listed(&["a"]),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         set list=a,b,c | spawn b#2, spawn c#3
         spawned c#3   | ask c#3
         names         | a
         set list=a,c  | remember, remember
         names         | a c
         good c#3      | answer 99: a c
         spawned b#2   | stop b#2
         stopped b#2   |
         views         | a:1=live c:3=live
         set list=a,c,d | spawn d#4
         set list=a,c  | remember
         spawned d#4   | stop d#4
         stopped d#4   |
         views         | a:1=live c:3=live
         deadline      | 1000",
    );
}

#[test]
fn nobody_joins_a_fleet_that_shuts_down() {
    check_on(
        &Placement::Rendezvous,
        listed(&["a"]),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         shutdown      | drain a#1
         set list=a,b  |
         drained a     | stop a#1
         stopped a     |
         empty         | true",
    );
}
