//! The figures against numbers worked out by hand, and the files against their shape.

use std::collections::BTreeMap;

use slipring_hashing::stats::uniform_stddev;

use super::distribution::{Balance, Distribution, Run, Tally, expected_stddev, uniform_band};
use super::failure::{FailureRun, Figures, Latency, Manner, Request, bucketed};
use super::{PlacementName, Report, load, save};

fn tally(i: usize, requests: u64, share: Option<f64>) -> Tally {
    Tally { name: format!("Server-{}", i + 1), requests, share }
}

fn run(placement: &str, counts: &[u64], shares: Option<&[f64]>) -> Run {
    let share = |i: usize| shares.map(|shares| shares[i]);
    let tallies = counts.iter().enumerate().map(|(i, &count)| tally(i, count, share(i))).collect();
    Run::new(placement, tallies, Vec::new(), BTreeMap::new(), 1.5)
}

fn distribution() -> Distribution {
    let mut second = run("given, \"odd\"", &[70, 20, 10], None);
    second.failures.insert("timeout".to_owned(), 3);
    let first = run("rendezvous", &[48, 52], Some(&[0.5, 0.5]));
    Distribution { requests: 100, concurrency: 10, runs: vec![first, second] }
}

#[test]
fn the_balance_of_counts() {
    let balance = Balance::of(&[tally(0, 40, Some(0.5)), tally(1, 60, Some(0.5))]);
    assert_eq!((balance.mean, balance.stddev), (50.0, 10.0));
    assert_eq!((balance.stddev_expected, balance.stddev_uniform), (Some(5.0), 5.0));
    let test = balance.chi_squared_placement.unwrap();
    assert_eq!((test.statistic, test.degrees_of_freedom), (Some(4.0), 1));
    assert!((0.03..0.06).contains(&test.p_value), "{}", test.p_value);
    assert_eq!(balance.chi_squared_uniform, test);

    let impossible = Balance::of(&[tally(0, 99, Some(1.0)), tally(1, 1, Some(0.0))]);
    let test = impossible.chi_squared_placement.unwrap();
    assert_eq!((test.statistic, test.p_value), (None, 0.0));

    let unknown = Balance::of(&[tally(0, 1, Some(1.0)), tally(1, 1, None)]);
    assert_eq!(unknown.chi_squared_placement, None, "one unknown share leaves no expectation");
}

#[test]
fn a_stranger_who_answers_is_counted_and_not_a_replica_of_the_ring() {
    let ring = vec![tally(0, 48, Some(0.5)), tally(1, 50, Some(0.5))];
    let run = Run::new("rendezvous", ring.clone(), vec![tally(8, 2, None)], BTreeMap::new(), 1.0);
    assert_eq!((run.n, run.answered(), run.replicas.len()), (2, 100, 3));
    assert_eq!(run.balance, Balance::of(&ring));
}

#[test]
fn equal_shares_deviate_like_uniform_hashing() {
    for n in 2..=6 {
        let shares = vec![1.0 / f64::from(n); n as usize];
        let uniform = uniform_stddev(10_000, n as usize);
        assert!((expected_stddev(10_000, &shares) - uniform).abs() < 1e-9);
        let (low, high) = uniform_band(10_000, n);
        assert!(low < uniform && uniform < high, "{n}: {low} {uniform} {high}");
    }
}

/// The lower edges were once an approximation's, which is wrong there: 0 for two replicas, 5.39 for three.
#[test]
fn the_band_holds_95_of_100_uniform_runs() {
    // √(χ²·n)/N with χ² from a table, at 0.025 and 0.975 with N − 1 degrees of freedom.
    let edges =
        [(2, 1.567, 112.07), (3, 7.501, 90.54), (4, 11.613, 76.44), (5, 13.920, 66.76), (6, 15.195, 59.70)];
    for (n, low, high) in edges {
        let band = uniform_band(10_000, n);
        assert!((band.0 - low).abs() < 0.005 && (band.1 - high).abs() < 0.05, "N = {n}: {band:?}");
    }
}

/// What README says of the original's pairs beside perfectly uniform hashing.
#[test]
fn the_originals_better_pairs_are_eight_to_thirty_five_times_as_uneven() {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for placement in [PlacementName::Modified, PlacementName::Sha256] {
        for n in 2..=6 {
            let shares = placement.shares(&(0..n).collect::<Vec<_>>()).unwrap();
            let ratio = expected_stddev(10_000, &shares) / uniform_stddev(10_000, usize::from(n));
            println!("{}, N = {n}: {ratio:.1}", placement.as_str());
            (least, most) = (least.min(ratio), most.max(ratio));
        }
    }
    assert!((8.0..10.0).contains(&least) && (33.0..35.0).contains(&most), "{least} to {most}");
}

#[test]
fn the_shares_of_every_placement_add_up() {
    for placement in PlacementName::ALL {
        for n in [1_u16, 3] {
            let ids: Vec<u16> = (0..n).collect();
            let shares = placement.shares(&ids).unwrap();
            assert_eq!(shares.len(), usize::from(n));
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{placement:?}: {shares:?}");
        }
        assert_eq!(placement.shares(&[1, 1]), None, "{placement:?} placed one identity twice");
    }
}

#[test]
fn shares_follow_the_order_asked_for() {
    let shares = PlacementName::Given.shares(&[0, 1, 2]).unwrap();
    let turned = PlacementName::Given.shares(&[2, 0, 1]).unwrap();
    assert_eq!(turned, [shares[2], shares[0], shares[1]]);
    assert!(shares[0] > 0.8, "the contract's first pair is known for its imbalance: {shares:?}");
}

#[test]
fn a_placement_is_selected_by_its_own_key() {
    assert_eq!(PlacementName::Given.setting(), "ring.hash=given");
    assert_eq!(PlacementName::Maglev.setting(), "ring.placement=maglev");
}

#[test]
fn buckets_count_what_falls_into_them() {
    assert_eq!(bucketed([0.0, 99.9, 100.0, 250.0, -1.0, 400.0], 100.0, 4), [2, 1, 1, 0]);
    assert_eq!(bucketed([], 100.0, 0), [0_u64; 0]);
}

#[test]
fn an_answer_that_was_under_way_is_no_recovery() {
    let requests = [
        request(0.0, 1.0, Ok("Server-2")),
        request(980.0, 22.0, Ok("Server-2")),
        request(1010.0, 40.0, Ok("Server-2")),
        request(1020.0, 5.0, Ok("Server-2")),
    ];
    let figures = Figures::of(&requests, "Server-2", 1000.0);
    assert_eq!((figures.last_answer_at, figures.recovered_at), (Some(1002.0), Some(1025.0)));
    let figures = Figures::of(&requests, "Server-1", 1000.0);
    assert_eq!((figures.last_answer_at, figures.recovered_at), (None, None));
}

/// Once the longest pause was taken for the gap: a replica that was back within twelve milliseconds was
/// reported gone for three seconds, because chance had left it without a request for longer than that.
#[test]
fn a_pause_by_chance_is_not_the_gap() {
    let dues = [980.0, 990.0, 1012.0, 1100.0, 2000.0];
    let requests = dues.map(|due| request(due, 1.0, Ok("Server-2")));
    assert_eq!(Figures::of(&requests, "Server-2", 1000.0).gap, Some(13.0));
}

fn request(due: f64, latency: f64, outcome: Result<&str, &str>) -> Request {
    let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
    Request { due, lateness: 0.25, latency, outcome }
}

fn failure_run() -> FailureRun {
    let mut requests = Vec::new();
    for i in 0..40 {
        let due = f64::from(i) * 25.0;
        let gone = (500.0..700.0).contains(&due);
        let name = if i % 2 == 0 && !gone { "Server-2" } else { "Server-1" };
        requests.push(request(due, if gone { 8.0 } else { 2.0 }, Ok(name)));
    }
    requests[20] = request(500.0, 12.0, Err("exchange"));
    let figures = Figures::of(&requests, "Server-2", 495.0);
    FailureRun {
        manner: Manner::Kill,
        placement: "rendezvous".to_owned(),
        rate: 40.0,
        replicas: vec!["Server-1".to_owned(), "Server-2".to_owned()],
        victim: "Server-2".to_owned(),
        struck_at: 495.0,
        fleet_complete_at: Some(690.0),
        figures,
        requests,
    }
}

#[test]
fn the_figures_of_a_failure() {
    let figures = failure_run().figures;
    assert_eq!(figures.answered, 39);
    assert_eq!(figures.failures, BTreeMap::from([("exchange".to_owned(), 1)]));
    assert_eq!((figures.last_answer_at, figures.recovered_at), (Some(452.0), Some(702.0)));
    assert_eq!(figures.gap, Some(207.0));
    let (during, calm) = (figures.during.unwrap(), figures.calm.unwrap());
    assert_eq!((during.p50, during.max), (8.0, 8.0));
    assert_eq!(calm, Latency { p50: 2.0, p99: 2.0, max: 2.0 });
    assert_eq!(figures.lateness_p99, 0.25);
}

#[test]
fn a_victim_that_stays_away_has_no_gap() {
    let requests = [request(0.0, 1.0, Ok("Server-2")), request(20.0, 1.0, Ok("Server-1"))];
    let figures = Figures::of(&requests, "Server-2", 10.0);
    assert_eq!((figures.recovered_at, figures.gap), (None, None));
    assert_eq!(figures.during.unwrap().max, 1.0);
}

#[test]
fn quantiles_of_few_values() {
    assert_eq!(Latency::of(vec![]), None);
    assert_eq!(Latency::of(vec![3.0]), Some(Latency { p50: 3.0, p99: 3.0, max: 3.0 }));
    let many = Latency::of((1..=200).rev().map(f64::from).collect()).unwrap();
    assert_eq!((many.p50, many.p99, many.max), (100.0, 198.0, 200.0));
}

#[test]
fn the_tables_of_a_distribution() {
    let [(_, counts), (_, balance)] = &distribution().tables()[..] else { panic!("two tables") };
    insta::assert_snapshot!(counts, @r#"
    placement,n,replica,requests,share,expected,uniform
    rendezvous,2,Server-1,48,0.500000,50.0,50.0
    rendezvous,2,Server-2,52,0.500000,50.0,50.0
    "given, ""odd""",3,Server-1,70,,,33.3
    "given, ""odd""",3,Server-2,20,,,33.3
    "given, ""odd""",3,Server-3,10,,,33.3
    "#);
    insta::assert_snapshot!(balance, @r#"
    placement,n,answered,failed,mean,stddev,stddev_expected,stddev_uniform,chi2_placement,p_placement,chi2_uniform,p_uniform
    rendezvous,2,100,0,50.0,2.00,5.00,5.00,0.160,0.689157,0.160,0.689157
    "given, ""odd""",3,100,3,33.3,26.25,,4.71,,,62.000,0.000000
    "#);
}

#[test]
fn the_table_of_a_failure() {
    let tables = failure_run().tables();
    let lines: Vec<&str> = tables[0].1.lines().collect();
    assert_eq!(lines.len(), 41);
    assert_eq!(lines[0], "due_ms,lateness_ms,latency_ms,replica,failure");
    assert_eq!(lines[1], "0.000,0.250,2.000,Server-2,");
    assert_eq!(lines[21], "500.000,0.250,12.000,,exchange");
}

#[test]
fn reports_survive_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("made/on/demand");
    let (first, second) = (distribution(), failure_run());
    let mut written = save(&first, &inner).unwrap();
    written.extend(save(&second, &inner).unwrap());
    assert_eq!(load::<Distribution>(&inner, "distribution").unwrap(), first);
    assert_eq!(load::<FailureRun>(&inner, "failure").unwrap(), second);
    let names: Vec<String> =
        written.iter().map(|path| path.strip_prefix(&inner).unwrap().display().to_string()).collect();
    let expected = "distribution.json distribution.csv balance.csv requests-n2.svg requests-n2.png \
                    requests-n3.svg requests-n3.png mean.svg mean.png stddev.svg stddev.png \
                    failure.json failure.csv failure.svg failure.png";
    assert_eq!(names.join(" "), expected);
    assert!(written.iter().all(|path| path.exists()));
}

#[test]
fn a_folder_without_a_report_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load::<FailureRun>(folder.path(), "failure").unwrap_err().to_string();
    assert!(missing.contains("failure.json") && missing.contains("tester failure"), "{missing}");
    std::fs::write(folder.path().join("failure.json"), "{}").unwrap();
    let wrong = load::<FailureRun>(folder.path(), "failure").unwrap_err().to_string();
    assert!(wrong.contains("measure again"), "{wrong}");
}
