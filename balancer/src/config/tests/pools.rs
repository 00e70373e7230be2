use std::time::Duration;

use slipring_hashing::Weight;

use super::*;

/// The mistakes of a file, in the words that a user reads.
fn report(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, environment, flags).unwrap_err().to_string()
}

#[track_caller]
fn check(file: &str, pieces: &[&str]) {
    let report = report(file, &[], &[]);
    for piece in pieces {
        assert!(report.contains(piece), "{piece:?} is missing from the report on\n{file}\n{report}");
    }
    assert!(report.contains("\n1 mistake in"), "one mistake is told once:\n{report}");
}

const TWO: &str = "
fleet.replicas = 5
fleet.failures = 7
fleet.heartbeat_interval = \"2s\"
proxy.key = [\"path\"]
proxy.first_byte_timeout = \"3s\"
docker.fleet = \"mine\"
process.command = [\"app\"]
[ring]
placement = \"maglev\"
[pool.api]
routes = [\"api.example.com/*\", \"/api/*\"]
ring.placement = \"ketama\"
proxy.key = \"uri\"
fleet = { upstreams = [\"10.0.0.1:80 weight=2.5\", \"[::1]:81\"], heartbeat_path = \"\" }
[pool.b-2]
routes = \"/b/*\"
fleet.failures = 1
fleet.heartbeat_interval = \"100ms\"
docker.fleet = \"other\"
";

#[test]
fn a_pool_has_what_it_sets_and_else_what_the_balancer_has() {
    let config = load(TWO, &[], &[]).unwrap();
    let [api, b] = &config.pools[..] else { panic!("{:?}", config.pools) };
    assert_eq!((&*api.name, &*b.name), ("api", "b-2"));
    assert_eq!(api.placement, Placement::Ketama);
    assert_eq!((&b.placement, &config.main.placement), (&Placement::Maglev, &Placement::Maglev));
    let keys = |pool: &PoolConfig| pool.forward.key.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((keys(api), keys(b)), (vec!["uri".to_owned()], vec!["path".to_owned()]));
    assert_eq!((api.fleet.failures, b.fleet.failures), (7, 1));
    assert_eq!(b.forward.first_byte_timeout, Duration::from_secs(3));
    assert_eq!(
        b.fleet.heartbeat_timeout,
        Duration::from_millis(90),
        "a shorter interval brings its timeout along"
    );
    assert_eq!(api.fleet.heartbeat_timeout, Duration::from_millis(900));
    assert_eq!(b.process.command, ["app"]);
    assert_eq!(b.fleet.replicas, 3, "how many there are is each pool's own");
    assert_eq!((api.fleet.runtime, b.fleet.runtime), (RuntimeChoice::Static, RuntimeChoice::Auto));
    assert!(api.fleet.heartbeat_path.is_none() && b.fleet.heartbeat_path.is_some());
    let listed: Vec<_> =
        api.fleet.upstreams.iter().map(|l| (l.address.to_string(), l.weight.get())).collect();
    assert_eq!(listed, [("10.0.0.1:80".to_owned(), 2.5), ("[::1]:81".to_owned(), Weight::ONE.get())]);
    assert_eq!(api.docker.fleet.as_deref(), Some("mine/api"));
    assert_eq!(b.docker.fleet.as_deref(), Some("other"));
    let state = |pool: &PoolConfig| pool.state.clone().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        (state(api), state(&config.main)),
        (".slipring/state-api.json".into(), ".slipring/state.json".into())
    );
    assert_eq!((api.full_name("x"), config.main.full_name("x")), ("api/x".into(), "x".into()));
}

#[test]
fn the_environment_and_flags_set_a_pools_keys() {
    let env = [("SLIPRING_POOL_B_2_FLEET_FAILURES", "8"), ("SLIPRING_FLEET_FAILURES", "9")];
    let config =
        load(TWO, &env, &[("pool.b-2.ring.placement", "rendezvous"), ("pool.c.routes", "c/*,/c")]).unwrap();
    assert_eq!(config.pools.iter().map(|pool| pool.fleet.failures).collect::<Vec<_>>(), [9, 8, 9]);
    assert_eq!(config.pools[1].placement, Placement::Rendezvous);
    assert_eq!(config.pools[2].routes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c/*", "/c"]);
}

#[test]
fn hash_num_is_inherited_and_a_pools_own_placement_goes_before_it() {
    let config = load(TWO, &[("HASH_NUM", "1")], &[]).unwrap();
    let contract = Placement::contract(HashPair::Modified);
    assert_eq!([&config.pools[0].placement, &config.pools[1].placement], [&Placement::Ketama, &contract]);
}

#[test]
fn mistakes_in_pools_are_told_with_their_lines() {
    for (file, pieces) in [
        (
            "[pool.a]\nroutes = [\"a\"]",
            &["slipring.toml:2:11", "`pool.a.routes`", "a path behind the host"][..],
        ),
        ("[pool.a]\nroutes = [\"*a/*\"]", &["slipring.toml:2:11", "a host name without a port"]),
        ("[pool.a]\nroutes = []", &["slipring.toml:2:1", "at least one route"]),
        ("[pool.a]", &["slipring.toml:1:7", "at least one route"]),
        ("[pool.A]\nroutes = \"/a\"", &["slipring.toml:1:7", "`pool.A`", "lower-case letters"]),
        ("[pool.default]\nroutes = \"/a\"", &["slipring.toml:1:7", "another name"]),
        (
            "[pool.a]\nroutes = \"/a\"\n[pool.b]\nroutes = [\"/a\"]",
            &["slipring.toml:4:1", "pool a has `/a` already"],
        ),
        ("[pool.a]\nroutes = [\"H/*\", \"h/*\"]", &["slipring.toml:2:18", "pool a has `h/*` already"]),
        ("[pool.a]\nroutes = [\"/add\"]", &["slipring.toml:2:11", "a host before `/add`"]),
        ("[pool.a]\nroutes = \"/a\"\nfleet.failures = 0", &["slipring.toml:3:", "`pool.a.fleet.failures`"]),
        (
            "[pool.a]\nroutes = \"/a\"\nfleet.failurs = 1",
            &["slipring.toml:3:", "the key is called `pool.a.fleet.failures`"],
        ),
        (
            "[pool.a]\nroutes = \"/a\"\nproxy.workers = 1",
            &["slipring.toml:3:", "`proxy.workers` is the whole balancer's"],
        ),
        (
            "[pool.a]\nroutes = \"/a\"\nfleet.runtime = \"static\"",
            &["slipring.toml:3:", "addresses, with fleet.runtime"],
        ),
        (
            "[pool.a]\nroutes = \"/a\"\nfleet.runtime = \"docker\"\nfleet.upstreams = \"10.0.0.1:80\"",
            &["slipring.toml:4:", "only with it"],
        ),
        (
            "fleet.replicas = 1\nfleet.max_replicas = 2\n[pool.a]\nroutes = \"/a\"",
            &["slipring.toml:3:7", "at most 2"],
        ),
        (
            "[pool.a]\nroutes = \"/a\"\nfleet.upstreams = [\"10.0.0.1:80 weight=0\"]",
            &["slipring.toml:3:", "weight=2"],
        ),
        (
            "[pool.a]\nroutes = \"/a\"\nfleet.upstreams = [\"10.0.0.1:80\", \"10.0.0.1:80 weight=2\"]",
            &["slipring.toml:3:", "each of them once"],
        ),
        (
            "ring.hash = \"given\"\n[pool.a]\nroutes = \"/a\"\nfleet.upstreams = [\"10.0.0.1:80 weight=2\"]",
            &["slipring.toml:4:", "the `slots` ring knows none"],
        ),
        (
            "fleet.slow_start = \"10s\"\n[pool.a]\nroutes = \"/a\"\nring.hash = \"given\"",
            &["slipring.toml:4:", "`pool.a.ring.hash`", "the `slots` ring knows no weights"],
        ),
        ("[pool.a]\nroutes = \"/a\"\nfleet.slow_start = \"1us\"", &["slipring.toml:3:", "or 0s for none"]),
        (
            "[pool.a]\nroutes = \"/a\"\ndocker.fleet = \"x\"\n[pool.b]\nroutes = \"/b\"\ndocker.fleet = \"x\"",
            &["slipring.toml:4:7", "pool a has this one"],
        ),
        ("fleet.failures = 0\n[pool.a]\nroutes = \"/a\"", &["slipring.toml:1:", "`fleet.failures`"]),
        ("ring.slots = 4\n[pool.a]\nroutes = \"/a\"", &["slipring.toml:1:", "`ring.slots`"]),
    ] {
        check(file, pieces);
    }
}

#[test]
fn of_a_list_over_several_lines_the_item_is_blamed_that_is_wrong() {
    for (key, wrong, expected) in [
        ("routes", "*a/*", "a host name without a port"),
        ("routes", "/first", "pool a has `/first` already"),
        ("routes", "/rm", "a host before `/rm`"),
        ("proxy.key", "cokie:a", "cookie:NAME"),
        ("fleet.upstreams", "10.0.0.1", "a list of addresses"),
    ] {
        let good = match key {
            "proxy.key" => "client",
            "fleet.upstreams" => "10.0.0.1:80",
            _ => "/first",
        };
        let routes = if key == "routes" { "" } else { "routes = \"/a\"\n" };
        let list = format!("{key} = [\n  \"{good}\", # as it should be\n\n  \"{wrong}\",\n]\n");
        let told = report(&format!("[pool.a]\n{list}{routes}"), &[], &[]);
        assert!(told.contains("slipring.toml:5:3") && told.contains(expected), "{key} {wrong}:\n{told}");
    }
}

#[test]
fn a_variable_sets_only_keys_of_pools_that_are_there() {
    let told = report(TWO, &[("SLIPRING_POOL_X_FLEET_FAILURES", "1")], &[]);
    assert!(
        told.contains("SLIPRING_POOL_X_FLEET_FAILURES") && told.contains("begins with [pool.NAME]"),
        "{told}"
    );
    let told = report(TWO, &[("SLIPRING_POOL_B_2_FLEET_FAILURS", "1")], &[]);
    assert!(told.contains("`pool.b-2.fleet.failures`"), "{told}");
}

#[test]
fn there_may_be_so_many_pools_and_no_more() {
    let pools =
        |count: usize| (0..count).map(|n| format!("[pool.p{n}]\nroutes = \"/{n}\"\n")).collect::<String>();
    assert_eq!(load(&pools(MOST_POOLS), &[], &[]).unwrap().pools.len(), MOST_POOLS);
    check(&pools(MOST_POOLS + 1), &["at most 64 pools"]);
}
