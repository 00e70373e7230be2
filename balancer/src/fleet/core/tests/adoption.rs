//! What a new balancer finds running, and what reconciliation finds later.

use super::script::check;
use super::{ms, settings};
use crate::fleet::core::{Command, Core, News, Remembered, Settings, ring_member};
use slipring_hashing::{HashPair, Placement, ReplicaId};

#[test]
fn found_running_is_adopted_found_dead_is_replaced_and_strangers_are_removed() {
    check(
        settings(),
        "begin a b c found a#5 -b#6 x#9 | remember, kill b#6, kill x#9, spawn c#10, ask a#5
         state         | a=starting b=flatlined c=starting
         good a        |
         stopped x     |
         stopped b     | spawn b#11
         live b c      | ask b#11, ask c#10
         views         | a:1=live b:2=live c:3=live
         news          | adopted a, added c, orphan x, spawning c, live a, respawning b +0, spawning b, \
         started b, live b, started c, live c"
            .replace("\\\n", "")
            .as_str(),
    );
}

#[test]
fn of_two_lives_of_one_replica_the_running_one_and_then_the_latest_is_adopted() {
    for (found, kept) in [("a#5 -a#6", 5), ("-a#5 a#6", 6), ("a#5 a#6", 6), ("a#6 a#5", 6)] {
        let other = 11 - kept;
        check(
            settings(),
            &format!(
                "begin a found {found} | remember, kill a#{other}, ask a#{kept}
                 good a#{kept}         |
                 stopped a#{other}     |
                 state                 | a=live"
            ),
        );
    }
}

#[test]
fn a_member_waits_for_the_stranger_that_has_its_name() {
    check(
        settings(),
        "begin a b found a:7#4 | remember, kill a#4, spawn b#6
         stopped a#4   | spawn a#5
         live a b      | ask a#5, ask b#6
         views         | a:1=live b:2=live",
    );
}

#[test]
fn an_adopted_replica_that_never_answers_is_replaced_after_the_start_timeout() {
    check(
        settings(),
        "begin a found a#5 | remember, ask a#5
         wait 5000     | kill a#5
         stopped a     | spawn a#6",
    );
}

#[test]
fn what_vanished_is_respawned_and_what_is_nobodys_is_stopped() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         wait 500      |
         sees @500 a#1 -b#2 x#7 | kill b#2, kill x#7
         sees @500 a#1 -b#2 x#7 |
         stopped b     | spawn b#3
         stopped x#7   |
         live b        | ask b#3
         sees @500 a#1 |
         wait 100      |
         sees @600 b#3 | kill a#1
         news          | added a, added b, spawning a, spawning b, started a, live a, started b, live b, \
         flatlined b, orphan x, respawning b +0, spawning b, started b, live b, flatlined a"
            .replace("\\\n", "")
            .as_str(),
    );
}

#[test]
fn what_is_at_another_address_gets_no_request_at_the_old_one() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         wait 500      |
         sees @400 a#1 +b#2 | kill b#2
         state         | a=live b=flatlined
         stopped b     | spawn b#3",
    );
}

#[test]
fn a_listing_asked_before_the_launch_kills_nobody() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         wait 100      |
         sees @50      |
         spawned a     | ask a#1
         sees @90      |
         sees @100     |
         good a        |
         wait 1        |
         sees @101     | kill a#1",
    );
}

#[test]
fn what_could_not_be_stopped_is_tried_again_when_it_is_seen_and_holds_its_name() {
    check(
        settings(),
        "begin a b     | remember, spawn a#1, spawn b#2
         live a b      | ask a#1, ask b#2
         exits a       | kill a#1
         stop-fails a  | spawn a#3
         fails a       |
         rm b          | remember, drain b#2
         drained b     | stop b#2
         stop-fails b  |
         sees @0 -a#1 b#2 | kill a#1, kill b#2
         wait 100      |
         state         | a=respawning
         stop-fails a#1 | spawn a#4
         fails a       |
         sees @0 -a#1  | kill a#1
         stopped b     |
         wait 200      |
         stopped a#1   | spawn a#5
         live a        | ask a#5
         views         | a:1=live",
    );
}

#[test]
fn what_could_not_be_stopped_is_told_of_when_a_listing_shows_that_it_is_gone() {
    check(
        settings(),
        "begin a       | remember, spawn a#1
         live a        | ask a#1
         rm a          | remember, drain a#1
         drained a     | stop a#1
         stop-fails a  |
         views         | a:1=stopped
         wait 100      |
         sees @0       |
         views         | a:1=stopped
         news          | added a, spawning a, started a, live a, draining a, stop_failed a
         sees @50      |
         views         |
         news          | stopped a",
    );
}

#[test]
fn slots_that_cannot_be_are_dealt_anew_and_that_is_told() {
    let placement = Placement::contract(HashPair::Given);
    for (claims, told) in [(vec![], false), (vec![7], true), ((0..9).map(|n| n * 100).collect(), true)] {
        let mut core = Core::new(settings(), placement.build(&[]).unwrap());
        let member = Remembered { id: ReplicaId(0), name: "a".into(), claims };
        let commands = core.begin(&[member], Vec::new(), ms(0)).unwrap();
        let warned = |command: &Command| matches!(command, Command::Tell(News::Warning { why }) if why.contains("keys have moved"));
        assert_eq!(commands.iter().any(warned), told);
        assert_eq!(*core.table().clone(), placement.build(&[ring_member(ReplicaId(0))]).unwrap());
    }
}

#[test]
fn orphans_are_stopped_in_batches() {
    check(
        Settings { task_batch: 2, start_timeout: ms(60_000), ..settings() },
        "begin a found a#1 | remember, ask a#1
         good a        |
         sees @0 a#1 v#5 w#6 x#7 y#8 | kill v#5, kill w#6
         stopped w#6   | kill x#7
         stop-fails x#7 | kill y#8
         sees @0 a#1 v#5 x#7 y#8 |
         stopped v#5   | kill x#7",
    );
}
