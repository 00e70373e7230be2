//! scratch
use slipring_plots::report::{distribution::*, failure::*, *};
use std::collections::BTreeMap;
fn main() {
    let mut runs = vec![];
    let mut seed = 12345u64;
    let mut rnd = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    for p in PlacementName::ALL {
        for n in 2..=6u16 {
            let ids: Vec<u16> = (0..n).collect();
            let sh = p.shares(&ids).unwrap();
            let mut c = vec![0u64; n as usize];
            for _ in 0..10000 {
                let mut x = rnd();
                let mut k = 0;
                while k + 1 < n as usize && x >= sh[k] {
                    x -= sh[k];
                    k += 1;
                }
                c[k] += 1;
            }
            runs.push(Run::new(
                p.as_str(),
                (0..n as usize)
                    .map(|i| Tally { name: format!("Server-{}", i + 1), requests: c[i], share: Some(sh[i]) })
                    .collect(),
                BTreeMap::new(),
                1.0,
            ));
        }
    }
    let d = Distribution { requests: 10000, concurrency: 100, runs };
    println!("{:?}", save(&d, std::path::Path::new("/tmp/demo")).unwrap());
    let mut reqs = vec![];
    for i in 0..6000 {
        let due = i as f64 * 2.0;
        let mut lat = 0.6 + rnd() * 0.8;
        let mut s = (rnd() * 3.0) as usize;
        if due > 4000.0 && due < 4230.0 {
            if s == 1 {
                s = (rnd() * 2.0) as usize * 2;
                lat += if due < 4020.0 { 6.0 * rnd() } else { 0.0 };
            }
        }
        reqs.push(Request {
            due,
            lateness: 0.4,
            latency: lat,
            outcome: if (4000.0..4003.0).contains(&due) {
                Err("exchange".into())
            } else {
                Ok(format!("Server-{}", s + 1))
            },
        });
    }
    let fig = Figures::of(&reqs, "Server-2", 4000.0);
    let f = FailureRun {
        placement: "rendezvous".into(),
        rate: 500.0,
        replicas: (1..=3).map(|i| format!("Server-{i}")).collect(),
        victim: "Server-2".into(),
        killed_at: 4000.0,
        fleet_complete_at: Some(4225.0),
        figures: fig,
        requests: reqs,
    };
    println!("{:?}", save(&f, std::path::Path::new("/tmp/demo")).unwrap());
}
