use super::*;

pub(crate) const SIX: &str = include_str!("../../topologies/baseline.json");

fn mistakes(edit: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut file = serde_json::from_str(SIX).unwrap();
    edit(&mut file);
    match Topology::parse(&file.to_string()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_contracts_six_processes() {
    let six = Topology::parse(SIX).unwrap();
    assert_eq!(six.strategies, Strategies::default());
    let described: Vec<_> = six
        .processes
        .values()
        .map(|p| format!("{} {} {} {} {:?}", p.id, p.role.name(), p.team, p.port, p.neighbors))
        .collect();
    assert_eq!(
        described,
        [
            "A leader green 60051 [B, E]",
            "B team_leader green 60052 [A, C, D]",
            "C worker green 60053 [B]",
            "D worker pink 60054 [B, E]",
            "E team_leader pink 60055 [A, F, D]",
            "F worker pink 60056 [E]",
        ]
    );
}

#[test]
fn a_file_without_strategies_has_the_originals() {
    assert_eq!(mistakes(|file| drop(file.as_object_mut().unwrap().remove("strategies"))), "");
}

#[test]
fn the_shipped_profiles_are_the_contracts() {
    for (profile, text) in [
        (Profile::Baseline, SIX),
        (Profile::Parallel, include_str!("../../topologies/parallel.json")),
        (Profile::Balanced, include_str!("../../topologies/balanced.json")),
    ] {
        assert_eq!(Topology::parse(text).unwrap().strategies, profile.strategies(), "{}", profile.name());
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let words = mistakes(|file| {
        file["strategies"]["forwarding_strategy"] = "fastest".into();
        file["strategies"]["chunk_sise"] = 3.into();
        file["processes"]["B"]["neighbors"] = serde_json::json!(["A", "C", "X"]);
        file["processes"]["E"]["neighbors"] = serde_json::json!(["A"]);
        file["processes"]["E"]["role"] = "leader".into();
        file["processes"]["F"]["port"] = 60054.into();
        file["processes"]["D"]["date_bounds"] = serde_json::json!(["20200821", "20200901"]);
        file["processes"]["C"]["date_bounds"] = serde_json::json!({"start": 20_200_901, "end": "20200910"});
    });
    assert_eq!(
        words,
        "strategies.chunk_sise: there is no such strategy; there are forwarding_strategy, async_forwarding, \
         chunking_strategy, fairness_strategy, chunk_size\n\
         strategies.forwarding_strategy: 'fastest' is none of round_robin, parallel, capacity\n\
         processes.F.port: 60054 is D's already on 127.0.0.1\n\
         processes.B.neighbors: there is no process 'X'\n\
         processes: 2 leaders (A, E) instead of 1; \"leaders\": N says how many are meant\n\
         processes.D: no way leads to it from the leader A\n\
         processes.D: no way leads to it from the leader E\n\
         processes.F: no way leads to it from the leader A\n\
         processes.F: no way leads to it from the leader E\n\
         processes.D.date_bounds: 20200821–20200901 overlaps 20200901–20200910 of C"
    );
}

#[test]
fn a_worker_with_two_parents_has_two_ways() {
    let six = Topology::parse(SIX).unwrap();
    let ways = |from: &str, to: &str, hops: &[&str]| {
        let hops: Vec<_> = hops.iter().map(|&hop| ProcessId::from(hop)).collect();
        format!("{:?}", six.paths(&from.into(), &to.into(), &hops))
    };
    assert_eq!(ways("A", "D", &[]), "[[B, D], [E, D]]");
    assert_eq!(ways("A", "C", &[]), "[[B, C], [E, D, B, C]]");
    assert_eq!(ways("B", "F", &["A"]), "[[D, E, F]]");
    assert_eq!(ways("C", "C", &[]), "[[]]");
}

#[test]
fn dates_are_split_as_in_the_contract() {
    let six = Topology::parse(SIX).unwrap();
    let days = |month: u32, days: std::ops::RangeInclusive<u32>| {
        days.map(move |day| Date::from_number(20_200_000 + month * 100 + day).unwrap())
    };
    let exist: Vec<_> = days(8, 10..=10).chain(days(8, 14..=31)).chain(days(9, 1..=24)).collect();
    assert_eq!(exist.len(), 43);
    let held = |id: &str| six.dates_of(six.process(id).unwrap(), &exist);
    let shape = |id: &str| {
        let held = held(id);
        (held.len(), held[0].number(), held[held.len() - 1].number())
    };
    assert_eq!(shape("C"), (8, 20_200_810, 20_200_820));
    assert_eq!(shape("D"), (18, 20_200_821, 20_200_907));
    assert_eq!(shape("F"), (17, 20_200_908, 20_200_924));
}

#[test]
fn with_a_ring_each_date_is_on_as_many_workers_as_asked_for_and_one_that_goes_moves_only_its_own() {
    let ring = |without: Option<&str>| {
        let mut file: serde_json::Value = serde_json::from_str(SIX).unwrap();
        file["placement"] = "ring".into();
        file["replicas"] = 2.into();
        let clone = |file: &mut serde_json::Value, id: &str, port: u16| {
            let mut process = file["processes"]["D"].clone();
            process["id"] = id.into();
            process["port"] = port.into();
            file["processes"][id] = process;
            for parent in ["B", "E"] {
                file["processes"][parent]["neighbors"].as_array_mut().unwrap().push(id.into());
            }
        };
        clone(&mut file, "G", 60057);
        clone(&mut file, "H", 60058);
        if let Some(gone) = without {
            file["processes"].as_object_mut().unwrap().remove(gone);
            for parent in ["B", "E"] {
                file["processes"][parent]["neighbors"].as_array_mut().unwrap().retain(|n| n != gone);
            }
        }
        Topology::parse(&file.to_string()).unwrap()
    };
    let exist: Vec<_> = (1..=30).map(|day| Date::from_number(20_200_900 + day).unwrap()).collect();
    let holders = |topology: &Topology, date: Date| -> Vec<String> {
        let holds = |worker: &&Process| topology.dates_of(worker, &exist).contains(&date);
        topology.workers().filter(holds).map(|worker| worker.id.to_string()).collect()
    };
    let (all, fewer) = (ring(None), ring(Some("G")));
    for &date in &exist {
        let (before, after) = (holders(&all, date), holders(&fewer, date));
        assert_eq!((before.len(), after.len()), (2, 2));
        assert!(
            before.iter().all(|holder| holder == "G" || after.contains(holder)),
            "{date}: {before:?} {after:?}"
        );
    }
}

#[test]
fn one_port_is_not_had_twice_under_two_names() {
    let at = |host: &'static str, other: &'static str| {
        mistakes(move |file| {
            file["processes"]["D"]["host"] = host.into();
            file["processes"]["F"]["host"] = other.into();
            file["processes"]["F"]["port"] = 60054.into();
        })
    };
    let doubled = "processes.F.port: 60054 is D's already on 127.0.0.1, which is localhost";
    assert_eq!(at("localhost", "127.0.0.1"), doubled);
    for (host, other) in [
        ("::1", "LocalHost."),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("Host", "host."),
    ] {
        assert!(at(host, other).starts_with("processes.F.port: 60054 is D's already on "), "{host} {other}");
    }
    assert_eq!(at("10.0.0.1", "10.0.0.2") + &at("127.0.0.1", "::1"), "");
}

#[test]
fn what_is_there_twice_is_a_mistake() {
    let twice = SIX.replacen("\"C\":", "\"D\":", 1);
    let words = Topology::parse(&twice).unwrap_err().to_string();
    assert!(words.contains("processes.D: it is there twice; one of them has to go"), "{words}");
    let teams = SIX.replacen(
        "\"processes\"",
        "\"teams\": {\"x\": [\"20200101\", \"20200102\"], \"x\": [\"20200103\", \"20200104\"]}, \"processes\"",
        1,
    );
    assert_eq!(
        Topology::parse(&teams).unwrap_err().to_string(),
        "teams.x: it is there twice; one of them has to go"
    );
}

#[test]
fn a_way_that_is_too_long_is_called_so() {
    // P1 … Pn between B and C.
    let chain = |between: u32| {
        mistakes(move |file| {
            let mut last = "B".to_owned();
            file["processes"]["B"]["neighbors"] = serde_json::json!(["A", "D"]);
            for number in 1..=between {
                let mut process = file["processes"]["B"].clone();
                process["id"] = format!("P{number}").into();
                process["port"] = (1000 + number).into();
                process["neighbors"] = serde_json::json!([]);
                file["processes"][&last]["neighbors"]
                    .as_array_mut()
                    .unwrap()
                    .push(format!("P{number}").into());
                last = format!("P{number}");
                file["processes"][&last] = process;
            }
            file["processes"][&last]["neighbors"].as_array_mut().unwrap().push("C".into());
        })
    };
    assert_eq!(chain(6), "");
    assert_eq!(
        chain(7),
        "processes.C: the shortest way to it from the leader A has 9 steps; 8 are the most: make it the neighbor of \
         somebody nearer"
    );
}

#[test]
fn a_ring_of_more_workers_than_it_can_hold_is_refused_and_does_not_panic() {
    let words = mistakes(|file| {
        file["placement"] = "ring".into();
        for number in 0..1030_u16 {
            let id = format!("w{number}");
            let mut process = file["processes"]["C"].clone();
            process["id"] = id.as_str().into();
            process["port"] = (1000 + number).into();
            file["processes"]["B"]["neighbors"].as_array_mut().unwrap().push(id.as_str().into());
            file["processes"][&id] = process;
        }
    });
    assert!(words.contains("placement: these workers have no place on a ring: "), "{words}");
}
