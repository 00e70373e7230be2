//! Late news of an earlier life changes nothing.

use super::script::check;
use super::{ms, settings};
use crate::fleet::core::Settings;

/// Every kind of report about the life before, with nothing to come of it.
const LATE: &str = "
     missed a#1    |
     beat-refused a#1 |
     good a#1      |
     refused a#1   |
     exits a#1     |
     spawned a#1   |
     fails a#1     |
     drained a#1   |
     stopped a#1   |
     stop-fails a#1 |";

#[test]
fn late_news_changes_nothing_in_any_phase() {
    for (before, state) in [
        ("fails a#2 |", "respawning"),
        ("", "starting"),
        ("spawned a#2 | ask a#2", "starting"),
        ("live a#2 | ask a#2", "live"),
        ("live a#2 | ask a#2\n wait 1000 | ask a#2\n missed a#2 |", "suspect"),
        ("live a#2 | ask a#2\n exits a#2 | kill a#2", "flatlined"),
    ] {
        check(
            settings(),
            &format!(
                "begin a       | remember, spawn a#1
                 live a        | ask a#1
                 exits a       | kill a#1
                 stopped a     | spawn a#2
                 {before}
                 {LATE}
                 state         | a={state}"
            ),
        );
    }
}

#[test]
fn late_news_changes_nothing_for_those_who_leave() {
    check(
        settings(),
        &format!(
            "begin a       | remember, spawn a#1
             live a        | ask a#1
             exits a       | kill a#1
             stopped a     | spawn a#2
             rm a          | remember
             {LATE}
             spawned a#2   | stop a#2
             {LATE}
             views         | a:1=stopped
             stopped a#2   |
             empty         | true"
        ),
    );
}

#[test]
fn news_that_comes_twice_counts_once() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         spawned a     |
         fails a       |
         stopped a     |
         drained a     |
         stop-fails a  |
         state         | a=live
         exits a       | kill a#1
         exits a       |
         refused a     |
         stopped a     | spawn a#2
         stopped a#1   |
         state         | a=starting
         rm a          | remember
         stopped a#2   |
         views         | a:1=draining",
    );
}

#[test]
fn a_stranger_with_a_members_incarnation_is_a_stranger() {
    check(
        Settings { heartbeat_interval: ms(5000), ..settings() },
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         wait 100      |
         sees @50 a#1 x:9#1 | kill x#1
         state         | a=live",
    );
}
