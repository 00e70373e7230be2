//! What a reload may change: of every key one other value.

use std::collections::BTreeSet;

use super::*;

/// Every key with a value that is not its default, and what else has to be set beside it on both sides.
const OTHERS: &[(&str, &str, &str)] = &[
    ("admin.max_connections", "7", ""),
    ("admin.max_watchers", "7", ""),
    ("admin.token", "\"0123456789abcdef\"", ""),
    ("drain_timeout", "\"7s\"", ""),
    ("fleet.backoff_max", "\"7s\"", ""),
    ("fleet.backoff_min", "\"7ms\"", ""),
    ("fleet.backoff_reset", "\"7s\"", ""),
    ("fleet.failures", "7", ""),
    ("fleet.heartbeat_interval", "\"7s\"", ""),
    ("fleet.heartbeat_path", "\"/alive\"", ""),
    ("fleet.heartbeat_timeout", "\"7ms\"", ""),
    ("fleet.max_replicas", "7", ""),
    ("fleet.reconcile_interval", "\"7s\"", ""),
    ("fleet.request_batch", "7", ""),
    ("fleet.respawn_name", "\"new\"", ""),
    ("fleet.slow_start", "\"7s\"", ""),
    ("fleet.stop_timeout", "\"7s\"", ""),
    ("fleet.task_batch", "7", ""),
    ("log.access", "\"json\"", ""),
    ("log.file", "\"access.log\"", ""),
    ("log.sample", "0.5", ""),
    ("otel.sample", "0.5", ""),
    ("proxy.accept_proxy_protocol", "true", ""),
    ("proxy.body_grace", "\"7s\"", ""),
    ("proxy.bounded_load", "1.5", ""),
    ("proxy.burst_per_client", "7", ""),
    ("proxy.connection_window", "777777", ""),
    ("proxy.half_closed_timeout", "\"7s\"", ""),
    ("proxy.stream_window", "77777", ""),
    ("proxy.connect_timeout", "\"7s\"", ""),
    ("proxy.eject_failures", "7", ""),
    ("proxy.eject_on_5xx", "true", ""),
    ("proxy.eject_success_rate", "0.7", ""),
    ("proxy.eject_time", "\"7s\"", ""),
    ("proxy.eject_time_max", "\"77s\"", ""),
    ("proxy.first_byte_timeout", "\"7s\"", ""),
    ("proxy.header_timeout", "\"7s\"", ""),
    ("proxy.idle_timeout", "\"7s\"", ""),
    ("proxy.key", "[\"client\"]", ""),
    ("proxy.max_attempts", "7", ""),
    ("proxy.max_body_bytes", "7", ""),
    ("proxy.max_connections", "7", ""),
    ("proxy.max_connections_per_client", "7", ""),
    ("proxy.max_connections_per_replica", "7", ""),
    ("proxy.max_ejected", "0.7", ""),
    ("proxy.max_header_bytes", "7000", ""),
    ("proxy.max_header_fields", "7", ""),
    ("proxy.max_requests_per_connection", "7", ""),
    ("proxy.max_requests_per_second_per_client", "7", ""),
    ("proxy.max_resets", "7", ""),
    ("proxy.max_streams", "7", ""),
    ("proxy.max_waiting_per_replica", "7", ""),
    ("proxy.min_body_rate", "7", ""),
    ("proxy.paths", "[\"/*\"]", ""),
    ("proxy.replica_idle_timeout", "\"7s\"", ""),
    ("proxy.retry_budget", "0.7", ""),
    ("proxy.trusted", "[]", ""),
    ("proxy.tunnel_timeout", "\"7s\"", ""),
    ("proxy.send_proxy_protocol", "true", OTHERS_REPLICAS),
    ("proxy.upstream_ca", "\"seven\"", "proxy.upstream_tls = \"off\"\n"),
    ("proxy.upstream_certificate", "\"seven\"", IDENTITY),
    ("proxy.upstream_key", "\"seven\"", IDENTITY),
    ("proxy.upstream_name", "\"seven\"", "proxy.upstream_tls = \"off\"\n"),
    ("proxy.upstream_tls", "\"insecure\"", OTHERS_REPLICAS),
    ("fleet.upstreams", "[\"10.0.0.1:80\", \"10.0.0.2:80\"]", "fleet.runtime = \"static\"\n"),
];

/// Those that need a restart.
const FIXED: &[(&str, &str, &str)] = &[
    ("admin.client_ca", "\"seven\"", ADMIN_TLS),
    ("admin.listen", "\"127.0.0.1:7\"", ""),
    ("admin.tls_certificate", "\"seven\"", ADMIN_TLS),
    ("admin.tls_key", "\"seven\"", ADMIN_TLS),
    ("admin.trust_gateway", "false", ""),
    ("analyse.lease", "\"7s\"", "analyse.store = \"sqlite:seven\"\n"),
    ("analyse.store", "\"sqlite:seven\"", ""),
    ("analyse.workers", "7", "analyse.store = \"sqlite:seven\"\n"),
    ("docker.fleet", "\"seven\"", ""),
    ("docker.image", "\"seven\"", ""),
    ("docker.network", "\"seven\"", ""),
    ("docker.port", "7", ""),
    ("docker.socket", "\"/seven\"", ""),
    ("fleet.replicas", "7", ""),
    ("fleet.runtime", "\"process\"", ""),
    ("fleet.start_timeout", "\"7s\"", ""),
    ("listen", "\"0.0.0.0:7\"", ""),
    ("otel.endpoint", "\"http://127.0.0.1:7\"", ""),
    ("otel.service", "\"seven\"", ""),
    ("overlay.arguments", "[\"--seven\"]", "overlay.topology = \"seven.json\"\n"),
    ("overlay.dataset_root", "\"seven\"", "overlay.topology = \"seven.json\"\n"),
    ("overlay.topology", "\"seven.json\"", ""),
    ("waves.config", "\"seven\"", "waves.topology = \"seven.json\"\n"),
    ("waves.host", "\"127.0.0.7\"", "waves.topology = \"seven.json\"\n"),
    ("waves.port", "7777", "waves.topology = \"seven.json\"\n"),
    ("waves.state", "\"seven\"", "waves.topology = \"seven.json\"\n"),
    ("waves.topology", "\"seven.json\"", ""),
    ("process.command", "[\"seven\"]", ""),
    ("proxy.workers", "7", ""),
    ("reuse_port", "true", ""),
    ("ring.hash", "\"given\"", "ring.placement = \"slots\"\n"),
    ("ring.placement", "\"maglev\"", ""),
    ("ring.probing", "\"quadratic\"", ""),
    ("ring.slots", "7000", ""),
    ("ring.virtual_servers", "7", ""),
    ("state", "\"seven\"", ""),
    ("tls.certificate", "\"seven\"", TLS),
    ("tls.key", "\"seven\"", TLS),
    ("tls.listen", "\"0.0.0.0:7\"", TLS),
];

const OTHERS_REPLICAS: &str = "fleet.runtime = \"static\"\nfleet.upstreams = [\"10.0.0.1:80\"]\n";
const IDENTITY: &str =
    "proxy.upstream_tls = \"off\"\nproxy.upstream_certificate = \"c\"\nproxy.upstream_key = \"k\"\n";

const ADMIN_TLS: &str = "admin.tls_certificate = \"c\"\nadmin.tls_key = \"k\"\n";
const TLS: &str = "tls.listen = \"0.0.0.0:443\"\ntls.certificate = \"c\"\ntls.key = \"k\"\n";

/// A file that sets `key`, perhaps in a pool, in the place of what the beginning says of it.
fn file(beginning: &str, key: &str, value: &str) -> String {
    let rest: Vec<_> = beginning.lines().filter(|line| !line.starts_with(&format!("{key} ="))).collect();
    format!("{}\n{key} = {value}\n", rest.join("\n"))
}

fn between(before: &str, after: &str) -> Result<Difference, NeedsRestart> {
    Difference::between(&load(before, &[], &[]).unwrap(), &load(after, &[], &[]).unwrap())
}

fn beginning(key: &str, beginning: &str) -> String {
    match key {
        "fleet.upstreams" => format!("{beginning}fleet.upstreams = [\"10.0.0.1:80\"]\n"),
        _ => beginning.to_owned(),
    }
}

#[test]
fn every_key_says_when_a_change_of_it_takes_effect_and_does_so() {
    let listed: BTreeSet<_> = OTHERS.iter().chain(FIXED).map(|(key, ..)| (*key).to_owned()).collect();
    let there: BTreeSet<_> = load("", &[], &[]).unwrap().keys.0.into_keys().collect();
    assert_eq!(listed, there, "each key once: among those that a reload may change, or among the others");
    for (key, value, others) in OTHERS {
        let before = beginning(key, others);
        let difference =
            between(&before, &file(&before, key, value)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(difference.keys.iter().map(|change| &*change.key).collect::<Vec<_>>(), [*key]);
    }
    // What a build cannot do it says, whatever it had before.
    let can = |key: &str| crate::proxy::trace::IS_BUILT || key != "otel.endpoint";
    for (key, value, others) in FIXED.iter().filter(|(key, ..)| can(key)) {
        let error = between(others, &file(others, key, value)).expect_err(key);
        assert_eq!(error.0.iter().map(|change| &*change.key).collect::<Vec<_>>(), [*key]);
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    }
}

#[test]
fn a_key_that_a_reload_may_change_changes_what_is_obeyed() {
    for (key, value, others) in OTHERS.iter().filter(|(key, ..)| *key != "admin.token") {
        let before = beginning(key, others);
        let config = |text: &str| format!("{:?}", load(text, &[], &[]).unwrap());
        assert_ne!(config(&before), config(&file(&before, key, value)), "{key}");
    }
}

#[test]
fn the_same_in_other_words_is_the_same() {
    let before =
        "listen = \"0.0.0.0:5000\"\nproxy.key = \"uri\"\nfleet.heartbeat_interval = \"1s\"\nlog.sample = 1";
    let after = "[fleet]\nheartbeat_interval = \"1000ms\"\n[proxy]\nkey = [\"uri\"]\n[log]\nsample = 1.0";
    assert_eq!(between(before, after), Ok(Difference::default()));
}

#[test]
fn pools_come_go_change_and_stay() {
    let pool = |name: &str, rest: &str| format!("[pool.{name}]\nroutes = \"/{name}\"\n{rest}\n");
    let before =
        ["proxy.key = \"path\"\n".to_owned(), pool("a", ""), pool("b", "proxy.key = \"uri\""), pool("c", "")];
    let own = "proxy.key = \"client\"\nring.placement = \"maglev\"";
    let after = [
        "proxy.key = \"client\"\n".to_owned(),
        pool("b", "proxy.key = \"uri\""),
        pool("c", "fleet.failures = 9"),
        pool("d", own),
    ];
    let difference = between(&before.concat(), &after.concat()).unwrap();
    assert_eq!(
        difference.keys.iter().map(|change| &*change.key).collect::<Vec<_>>(),
        ["pool.c.fleet.failures", "proxy.key"]
    );
    let PoolChanges { added, removed, changed } = difference.pools;
    assert_eq!(
        (added, removed, changed),
        (vec!["d".into()], vec!["a".into()], vec!["default".into(), "c".into()])
    );
}

#[test]
fn of_a_pool_that_runs_the_same_keys_are_fixed() {
    let pool = |rest: &str| format!("[pool.a]\nroutes = \"/a\"\n{rest}\n");
    for (before, after, told) in [
        ("", "ring.placement = \"maglev\"", "pool.a.ring.placement: \"maglev\", was \"rendezvous\""),
        ("", "docker.fleet = \"x\"", "pool.a.docker.fleet: \"x\", was \"\""),
        ("", "process.command = [\"a\", \"b\"]", "pool.a.process.command: \"a, b\", was \"\""),
        ("", "fleet.upstreams = \"10.0.0.1:80\"", "pool.a.fleet.runtime: \"static\", was \"auto\""),
        ("fleet.upstreams = \"10.0.0.1:80\"", "", "pool.a.fleet.runtime: \"auto\", was \"static\""),
    ] {
        let error = between(&pool(before), &pool(after)).unwrap_err().to_string();
        assert!(error.contains(told), "{told} is missing from\n{error}");
    }
    let both = between(&pool(""), &format!("ring.placement = \"ketama\"\n{}", pool(""))).unwrap_err();
    assert_eq!(both.0.len(), 1, "what a pool inherits is told once: {both}");
}

#[test]
fn secrets_are_compared_and_not_told() {
    let token = |token: &str| format!("admin.token = \"{token}\"");
    let difference = between(&token("0123456789abcdef"), &token("fedcba9876543210")).unwrap();
    let told = format!("{difference:?} {}", serde_json::to_string(&difference).unwrap());
    assert!(
        told.contains("admin.token") && !told.contains("0123456789") && !told.contains("9876543210"),
        "{told}"
    );
    let config = load(&token("0123456789abcdef"), &[], &[]).unwrap();
    assert!(!format!("{config:?}").contains("0123456789"));
}
