//! A pool of workers: what it is started with, and what cannot be beside it.

use std::time::Duration;

use super::*;

fn read(rest: &str) -> Result<Config, ConfigError> {
    load(&format!("[pool.analyse]\n{rest}\n"), &[], &[])
}

#[test]
fn workers_need_no_route_and_are_this_executable_in_another_role() {
    let config = read("analyse.store = \"postgres://ann:secret@db/x\"\nanalyse.lease = \"600ms\"").unwrap();
    let pool = &config.pools[0];
    let analyse = pool.analyse.as_ref().unwrap();
    assert!(pool.routes.is_empty() && config.main.analyse.is_none());
    assert_eq!(pool.fleet.runtime, RuntimeChoice::Process, "`auto` is no container");
    assert_eq!((analyse.workers, analyse.lease), (1, Duration::from_millis(600)));
    assert_eq!(analyse.environment(), (STORE_VARIABLE, "postgres://ann:secret@db/x"));
    let arguments = analyse.arguments().join(" ");
    assert_eq!(arguments, "analyse worker --listen 127.0.0.1:0 --workers 1 --lease 600ms");
    assert!(!format!("{config:?}").contains("secret"), "a store's password is no argument, and is not told");
    assert_eq!((pool.watch("any"), pool.told_kind()), (Some(WATCH), Some("analyse")));
    assert_eq!((config.main.watch("any"), config.main.told_kind()), (None, None));
}

#[test]
fn what_cannot_be_is_told() {
    for (rest, words) in [
        ("analyse.store = \"memory:\"", "sqlite:PATH or postgres://"),
        ("analyse.store = \"sqlite:\"", "sqlite:PATH or postgres://"),
        ("routes = \"/x\"\nanalyse.workers = 2", "analyse.store beside it"),
        ("analyse.store = \"sqlite:a\"\nanalyse.lease = \"10ms\"", "200ms to 1h"),
        (
            "analyse.store = \"sqlite:a\"\nfleet.runtime = \"docker\"\ndocker.fleet = \"x\"",
            "a container sees no logs",
        ),
        ("analyse.store = \"sqlite:a\"\nfleet.upstreams = \"10.0.0.1:80\"", "no addresses"),
        ("analyse.store = \"sqlite:a\"\nprocess.command = [\"x\"]", "no program beside"),
    ] {
        let told = read(rest).unwrap_err().to_string();
        assert!(told.contains(words), "{words:?} is missing from the report on\n{rest}\n{told}");
    }
    // The variable of `slipring analyse` is not meant for the appliance.
    let told = load("", &[("SLIPRING_ANALYSE_STORE", "sqlite:a")], &[]).unwrap_err().to_string();
    assert!(told.contains("a pool of its own"), "{told}");
}
