//! Members that are given for ever, of which only some take requests.

use slipring_hashing::Placement;

use super::script::check_on;
use super::{ms, settings};
use crate::fleet::core::{Core, Settings};
use crate::fleet::request::{Change, RequestError};
use crate::fleet::state::Duty;

/// `a` takes requests, `b` and `c` do not.
fn given() -> Settings {
    let duty = |name: &str| Duty { role: "any".into(), is_routed: name == "a" };
    Settings { duties: ["a", "b", "c"].map(|name| (name.to_owned(), duty(name))).into(), ..settings() }
}

#[test]
fn all_are_kept_alive_and_the_ring_holds_those_that_take_requests() {
    for placement in [Placement::Rendezvous, Placement::Maglev, Placement::Ketama] {
        check_on(
            &placement,
            Settings { slow_start: ms(1000), ..given() },
            "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
             ring          | changed
             live a b c    | ask a#1, ask b#2, ask c#3
             weights       | a=1.00
             exits b       | kill b#2
             state         | a=live b=flatlined c=live
             ring          | same
             stopped b#2   | spawn b#4
             spawned b     | ask b#4
             good b        |
             weights       | a=1.00
             views         | a:1=live b:2=live c:3=live
             names         | a b c
             shutdown      | drain a#1, drain b#4, drain c#3",
        );
    }
}

/// Those that take none would not stand in for it.
#[test]
fn the_last_that_serves_is_the_last_of_those_that_take_requests() {
    check_on(
        &Placement::Rendezvous,
        Settings { failures: 1, ..given() },
        "begin a b c   | remember, spawn a#1, spawn b#2, spawn c#3
         live a b c    | ask a#1, ask b#2, ask c#3
         wait 1000     | ask a#1, ask b#2, ask c#3
         serves a      |
         missed a      |
         state         | a=suspect b=live c=live
         missed b      | kill b#2",
    );
}

#[test]
fn nobody_joins_and_nobody_leaves() {
    let mut core = Core::new(given(), Placement::Rendezvous.build(&[]).unwrap());
    let change = Change { n: 1, hostnames: Vec::new() };
    assert_eq!(core.names_to_add(&change, ms(0)), Err(RequestError::Fixed));
    assert_eq!(core.names_to_remove(&change), Err(RequestError::Fixed));
    let mut free = Core::new(settings(), Placement::Rendezvous.build(&[]).unwrap());
    assert!(free.names_to_add(&change, ms(0)).is_ok(), "unless they are like any others");
}
