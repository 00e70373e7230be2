use slipring_hashing::{HashPair, Placement};

use super::*;

mod analyse;
mod overlay;
mod pools;
mod reload;
mod upstream;

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sources {
        file: Some(("slipring.toml".to_owned(), file.to_owned())),
        environment: owned(environment),
        unreadable: Vec::new(),
        flags: owned(flags),
        files: false,
        overlay: None,
        waves: None,
    }
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&sources(file, environment, flags))
}

#[test]
fn the_example_holds_every_default_and_is_the_file_in_the_repository() {
    let example = Config::example();
    let from_example = load(&example, &[], &[]).unwrap();
    let from_nothing = Config::load(&Sources::default()).unwrap();
    assert_eq!(format!("{from_example:?}"), format!("{from_nothing:?}"));
    let shipped = include_str!("../../../slipring.example.toml");
    assert_eq!(example, shipped, "`make fix` writes slipring.example.toml anew");
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let file = "[fleet]\nreplicas = 4\nfailures = 9";
    let env = [("SLIPRING_FLEET_REPLICAS", "5")];
    assert_eq!(load(file, &[], &[]).unwrap().main.fleet.replicas, 4);
    assert_eq!(load(file, &env, &[]).unwrap().main.fleet.replicas, 5);
    let config = load(file, &env, &[("fleet.replicas", "6")]).unwrap();
    assert_eq!((config.main.fleet.replicas, config.main.fleet.failures), (6, 9));
}

#[test]
fn hash_num_selects_the_contracts_ring() {
    for (number, pair) in [("0", HashPair::Given), ("1", HashPair::Modified), ("2", HashPair::Sha256)] {
        assert_eq!(load("", &[("HASH_NUM", number)], &[]).unwrap().main.placement, Placement::contract(pair));
    }
    assert_eq!(load("", &[], &[]).unwrap().main.placement, Placement::Rendezvous);
    assert_eq!(
        load("[ring]\nhash = \"sha256\"", &[], &[]).unwrap().main.placement,
        Placement::contract(HashPair::Sha256)
    );
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_lines() {
    let file = "listen = \"nowhere\"\n[fleet]\nreplicsa = 4\nfailures = 0\nheartbeat_timeout = \"2s\"\n[ring]\nhash_num = 2\n";
    let error = load(file, &[("HASH_NUM", "7"), ("SLIPRING_FLEET_REPLICA", "1")], &[("proxy.speed", "9")])
        .unwrap_err();
    let report = error.to_string();
    for piece in [
        "slipring.toml:1:1",
        "an address and a port",
        "slipring.toml:3:1",
        "the key is called `fleet.replicas`",
        "slipring.toml:4:1",
        "a whole number from 1 to 1000",
        "slipring.toml:5:1",
        "at most fleet.heartbeat_interval",
        "the key is called `ring.hash`",
        "environment variable HASH_NUM",
        "environment variable SLIPRING_FLEET_REPLICA",
        "there is no key `proxy.speed`",
        "command line",
    ] {
        assert!(report.contains(piece), "{piece:?} is missing from:\n{report}");
    }
    assert_eq!(error.mistakes().len(), 8, "{report}");
}

#[test]
fn a_shorter_interval_brings_its_timeout_along() {
    let interval = [("fleet.heartbeat_interval", "200ms")];
    let fleet = load("", &[], &interval).unwrap().main.fleet;
    assert_eq!(fleet.heartbeat_timeout, fleet.heartbeat_interval * 9 / 10);
    assert!(load("[fleet]\nheartbeat_timeout = \"900ms\"", &[], &interval).is_err(), "not if it was set");
}

#[test]
fn hash_num_goes_before_the_placement_of_a_file_and_a_flag_before_hash_num() {
    let example = Config::example();
    let given = Placement::contract(HashPair::Modified);
    assert_eq!(load(&example, &[("HASH_NUM", "1")], &[]).unwrap().main.placement, given);
    let flag = [("ring.placement", "maglev")];
    assert_eq!(load(&example, &[("HASH_NUM", "1")], &flag).unwrap().main.placement, Placement::Maglev);
    let both = "[ring]\nhash = \"given\"\nplacement = \"ketama\"";
    assert!(load(both, &[], &[]).unwrap_err().to_string().contains("slipring.toml:3:1"));
    assert!(load("", &[("HASH_NUM", "1"), ("SLIPRING_RING_PLACEMENT", "ketama")], &[]).is_err());
}

#[test]
fn of_two_keys_that_contradict_each_other_the_one_that_was_written_is_blamed() {
    for (file, line) in [
        ("[ring]\nslots = 4", "slipring.toml:2:1"),
        ("[fleet]\nbackoff_max = \"1ms\"", "slipring.toml:2:1"),
        ("[fleet]\nmax_replicas = 2", "slipring.toml:2:1"),
        ("[ring]\nhash = \"given\"\nslots = 18", "slipring.toml:3:1"),
        ("listen = \"0.0.0.0:0\"\nstate = \"\"\nfleet.runtime = \"docker\"", "slipring.toml:2:1"),
    ] {
        let report = load(file, &[], &[]).unwrap_err().to_string();
        assert!(report.contains(line) && !report.contains("the default"), "{file}:\n{report}");
    }
}

#[test]
fn a_token_is_not_printed_whatever_is_wrong_with_it() {
    for line in [
        "token = \"hunter2\"",
        "tokne = \"hunter2\"",
        "token = \"hunter2",
        "token = hunter2",
        "Token = \"hunter2\"",
    ] {
        let report = load(&format!("[admin]\n{line}\n"), &[], &[]).unwrap_err().to_string();
        assert!(!report.contains("hunter2") && report.contains("slipring.toml:2"), "{line}:\n{report}");
    }
}

#[test]
fn tls_on_the_admin_port_takes_a_certificate_and_its_key() {
    let pair = "[admin]\ntls_certificate = \"c\"\ntls_key = \"k\"\n";
    let client_ca =
        |file: &str| load(file, &[], &[]).unwrap().admin.tls.map(|files| files.client_ca.is_some());
    assert_eq!(client_ca(""), None);
    assert_eq!(client_ca(pair), Some(false));
    assert_eq!(client_ca(&format!("{pair}client_ca = \"a\"")), Some(true));
    for (half, line) in [
        ("tls_certificate = \"c\"", 2),
        ("tls_key = \"k\"", 2),
        ("client_ca = \"a\"", 2),
        ("client_ca = \"a\"\ntls_key = \"k\"", 3),
    ] {
        let report = load(&format!("[admin]\n{half}"), &[], &[]).unwrap_err().to_string();
        let place = format!("slipring.toml:{line}:1");
        assert!(report.contains(&place) && report.contains("with admin.tls_key"), "{half}:\n{report}");
    }
}

#[test]
fn traces_need_the_feature_and_say_so() {
    let told =
        load("[otel]\nendpoint = \"http://127.0.0.1:4318\"", &[], &[]).map_err(|error| error.to_string());
    match crate::proxy::trace::IS_BUILT {
        true => assert!(told.is_ok(), "{told:?}"),
        false => {
            let told = told.unwrap_err();
            assert!(
                told.contains("slipring.toml:2:1") && told.contains("built without the feature otel"),
                "{told}"
            );
        }
    }
    for wrong in
        ["https://127.0.0.1:4318", "127.0.0.1:4318", "http://", "http://user@host:4318", "http:///v1"]
    {
        let told = load(&format!("[otel]\nendpoint = \"{wrong}\""), &[], &[]).unwrap_err().to_string();
        assert!(told.contains("the address of a collector"), "{wrong}:\n{told}");
    }
    assert!(load("[otel]\nendpoint = \"\"\nsample = 0.1", &[], &[]).is_ok(), "what nothing is done with");
}

#[test]
fn more_replicas_than_the_ring_holds_are_refused() {
    let error = load("", &[("HASH_NUM", "0")], &[("fleet.replicas", "57")]).unwrap_err().to_string();
    assert!(error.contains("at most 56"), "{error}");
}

#[test]
fn text_that_is_not_toml_is_an_error_with_its_line() {
    let error = load("listen = \n[fleet", &[], &[]).unwrap_err().to_string();
    assert!(error.contains("slipring.toml:1"), "{error}");
    assert!(error.contains("not TOML"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", value in "\\PC{0,40}") {
        let _ = load(&text, &[("SLIPRING_PROXY_KEY", &value)], &[("proxy.paths", &value), (&format!("pool.{value}.routes"), &value)]).map_err(|e| e.to_string());
        let _ = load(&format!("listen = {value}\n[ring]\nhash = {value}\n[pool.{value}]\nroutes = {value}"), &[], &[]).map_err(|e| e.to_string());
    }
}
