//! A pool of given members, read by somebody else.

use super::*;
use crate::proxy::key::KeySource;

fn member(keys: OverlayKeys<'_>, name: &str, is_here: bool) -> FixedMember {
    let process = keys.arguments.to_vec();
    FixedMember {
        name: name.into(),
        role: "any".into(),
        is_routed: true,
        host: "10.0.0.1".into(),
        port: 1,
        is_here,
        process,
        container: Contained::default(),
        watch: None,
        links: Vec::new(),
        digest: 0,
    }
}

/// The file's name says what is in it.
fn reads(keys: OverlayKeys<'_>) -> Result<Vec<FixedMember>, Vec<(&'static str, String)>> {
    match keys.topology.to_str().unwrap() {
        "two" => Ok(vec![member(keys, "A", true), member(keys, "B", true)]),
        "far" => Ok(vec![member(keys, "A", true), member(keys, "B", false)]),
        "named" => Ok(vec![member(keys, "a_b", true), member(keys, "-", true)]),
        "many" => Ok((0..100).map(|n| member(keys, &format!("A{n}"), true)).collect()),
        _ => Err(vec![("overlay.topology", "one thing".into()), ("overlay.arguments", "another".into())]),
    }
}

fn read(rest: &str) -> Result<Config, ConfigError> {
    let file = format!("[pool.x]\nroutes = \"/x\"\n{rest}\n");
    Config::load(&Sources { overlay: Some(reads), ..sources(&file, &[], &[]) })
}

#[test]
fn the_members_are_those_that_were_read() {
    let config = read("overlay.topology = \"two\"\noverlay.arguments = [\"--a\", \"b\"]").unwrap();
    let pool = &config.pools[0];
    let members = &pool.overlay.as_ref().unwrap().members;
    assert_eq!(members.iter().map(|member| &*member.name).collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(members[0].process, ["--a", "b"]);
    assert!(config.main.overlay.is_none(), "an overlay is one pool's");
    assert_eq!(pool.fleet.runtime, RuntimeChoice::Process, "`auto` is no container");
    let segment = |key: &[KeySource]| key.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(segment(&pool.forward.key), ["segment:3"]);
    assert_eq!(segment(&config.main.forward.key), ["random"]);
}

#[test]
fn what_is_set_goes_before_what_an_overlay_would_have() {
    let file = "proxy.key = \"client\"\nfleet.runtime = \"static\"\nfleet.upstreams = \"10.0.0.1:80\"\n\
        [pool.x]\nroutes = \"/x\"\noverlay.topology = \"two\"\n";
    let config = Config::load(&Sources { overlay: Some(reads), ..sources(file, &[], &[]) }).unwrap();
    assert_eq!(config.pools[0].forward.key, config.main.forward.key, "inherited is set");
    assert_eq!(
        config.pools[0].fleet.runtime,
        RuntimeChoice::Process,
        "the balancer's own replicas are others"
    );
    let docker = read("overlay.topology = \"two\"\nfleet.runtime = \"docker\"").unwrap();
    assert_eq!(docker.pools[0].fleet.runtime, RuntimeChoice::Docker);
}

#[test]
fn the_examples_empty_topology_is_none() {
    let error = read("overlay.topology = \"\"\nfleet.runtime = \"auto\"\nfleet.upstreams = \"10.0.0.1:80\"");
    let told = error.unwrap_err().to_string();
    assert!(told.contains("addresses, with fleet.runtime = \"static\" and only with it"), "{told}");
    let upstreams = "overlay.topology = \"\"\nfleet.runtime = \"static\"\nfleet.upstreams = \"10.0.0.1:80\"";
    assert!(read(upstreams).unwrap().pools[0].overlay.is_none());
}

#[test]
fn mistakes_are_told_with_their_keys() {
    for (rest, count, pieces) in &[
        (
            "overlay.topology = \"bad\"\noverlay.arguments = [\"-\"]",
            2,
            &["slipring.toml:3:9", "one thing", "slipring.toml:4:9", "another"][..],
        ),
        ("overlay.topology = \"bad\"", 2, &["slipring.toml:3:9", "one thing", "another"]),
        ("overlay.topology = \"named\"", 2, &["'a_b' cannot be", "'-' cannot be"]),
        ("overlay.topology = \"many\"\nring.hash = \"given\"", 1, &["at most 56 processes"]),
        (
            "overlay.topology = \"far\"\nfleet.runtime = \"docker\"",
            1,
            &["slipring.toml:4:", "cannot be reached from 10.0.0.1, where B is"],
        ),
        ("overlay.topology = \"two\"\nfleet.runtime = \"static\"", 1, &["no addresses, and"]),
        ("overlay.topology = \"two\"\nfleet.upstreams = \"10.0.0.1:80\"", 1, &["no addresses, and"]),
        ("overlay.topology = \"two\"\nprocess.command = \"app\"", 1, &["no program beside"]),
        ("overlay.topology = \"two\"\ndocker.image = \"app\"", 1, &["no image beside"]),
        ("overlay.topology = \"two\"\nproxy.upstream_tls = \"insecure\"", 1, &["nor does an overlay"]),
        ("overlay.dataset_root = \"data\"", 1, &["overlay.topology beside it"]),
    ] {
        let error = read(rest).unwrap_err();
        let told = error.to_string();
        assert_eq!(error.mistakes().len(), *count, "each mistake is told once:\n{told}");
        for piece in *pieces {
            assert!(told.contains(piece), "{piece:?} is missing from\n{told}");
        }
    }
}

#[test]
fn other_members_under_the_same_name_need_a_restart() {
    let renamed: ReadOverlay = |keys| Ok(vec![member(keys, "A", true), member(keys, "C", true)]);
    let file = "[pool.x]\nroutes = \"/x\"\noverlay.topology = \"two\"\n";
    let load =
        |overlay| Config::load(&Sources { overlay: Some(overlay), ..sources(file, &[], &[]) }).unwrap();
    assert!(Difference::between(&load(reads), &load(reads)).is_ok());
    let told = Difference::between(&load(reads), &load(renamed)).unwrap_err();
    assert_eq!(told.0.iter().map(|change| &*change.key).collect::<Vec<_>>(), ["pool.x.overlay.topology"]);
}
