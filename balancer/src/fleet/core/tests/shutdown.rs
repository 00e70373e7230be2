//! The end.

use super::script::check;
use super::settings;
use crate::fleet::core::{Change, Core, Event, RequestError, Settings};
use slipring_hashing::Placement;

#[test]
fn shutdown_in_every_phase_ends_empty_and_keeps_the_memory() {
    let cases = [
        // before, at the shutdown, after it
        ("fails a | spawn a#2\n fails a |", "", ""), // its backoff runs
        ("", "", "spawned a | stop a#1\n stopped a |"),
        ("", "", "fails a |"),
        ("spawned a | ask a#1", "drain a#1", "drained a | stop a#1\n stopped a |"),
        ("live a | ask a#1", "drain a#1", "drained a | stop a#1\n missed a |\n stopped a |"),
        ("live a | ask a#1", "drain a#1", "exits a | kill a#1\n drained a |\n stopped a |"),
        (
            "live a | ask a#1\n wait 1000 | ask a#1\n missed a |",
            "drain a#1",
            "drained a | stop a#1\n stopped a |",
        ),
        ("live a | ask a#1\n exits a | kill a#1", "", "stopped a |"),
        ("live a | ask a#1\n rm a | remember, drain a#1\n drained a | stop a#1", "", "stopped a |"),
        ("sees @0 x#9 | kill x#9\n fails a | spawn a#2\n fails a |", "", "stopped x#9 |"),
    ];
    for (before, at_shutdown, after) in cases {
        check(
            settings(),
            &format!(
                "begin a       | remember, spawn a#1
                 {before}
                 shutdown      | {at_shutdown}
                 names         |
                 shutdown      |
                 {after}
                 empty         | true
                 wait 100000   |"
            ),
        );
    }
}

#[test]
fn shutdown_answers_those_who_wait_and_stops_what_they_asked_for() {
    check(
        Settings { task_batch: 1, ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         add 1 b c     | spawn b#2
         shutdown      | answer 1: error, drain a#1
         spawned b#2   | stop b#2
         drained a     |
         stopped b#2   | stop a#1
         empty         | false
         stopped a#1   |
         empty         | true",
    );
}

#[test]
fn a_stop_that_fails_at_the_end_is_tried_again_and_nobody_is_told_that_it_was_done() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         exits b       | kill b#2
         stop-fails b  | spawn b#3
         live b        | ask b#3
         news          | added a, added b, spawning a, spawning b, started a, live a, started b, live b, \
         flatlined b, stop_failed b, respawning b +0, spawning b, started b, live b
         shutdown      | drain a#1, drain b#3
         views         | a:1=draining b:2=draining
         drained a     | stop a#1
         stop-fails a  |
         drained b     | stop b#3
         stopped b#3   |
         views         | a:1=stopped
         empty         | false
         deadline      | 1000
         wait 1000     | kill b#2, kill a#1
         stop-fails a  |
         stopped b#2   |
         news          | draining a, draining b, stop_failed a, stopped b, stop_failed a
         wait 999      |
         wait 1        | kill a#1
         empty         | false
         stopped a     |
         empty         | true
         news          | stopped a"
            .replace("\\\n", "")
            .as_str(),
    );
}

#[test]
fn shutdown_refuses_changes() {
    let mut core = Core::new(settings(), Placement::Rendezvous.build(&[]).unwrap());
    core.begin(&[], Vec::new(), super::ms(0)).unwrap();
    core.handle(Event::Shutdown, super::ms(1));
    let change = Change { n: 1, hostnames: Vec::new() };
    assert_eq!(core.names_to_add(&change, super::ms(2)), Err(RequestError::ShuttingDown));
    assert_eq!(core.names_to_remove(&change), Err(RequestError::ShuttingDown));
}
