//! Waves over live units: what one takes, and how soon a skewed start is balanced by each strategy. The units are processes
//! of the executable in `SLIPRING`, each with one thread, on this machine's loopback.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The contract's tree, whose ports are 8000 and those after it.
const SEED: &str = include_str!("../topologies/seed.json");
const UNITS: usize = 8;
const WAVES: usize = 1_000;
/// What half of the Echo waves are to stay below.
const AIM: Duration = Duration::from_millis(2);
/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    ports: Vec<u16>,
    balancer: u16,
    children: Vec<Child>,
    _state: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Cluster {
    fn start(executable: &str, strategy: &str) -> io::Result<Self> {
        let bound: Vec<_> =
            (0..=UNITS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let mut ports: Vec<_> =
            bound.iter().map(|listener| Ok(listener.local_addr()?.port())).collect::<io::Result<_>>()?;
        let balancer = ports.pop().unwrap_or_default();
        drop(bound);
        let state = tempfile::TempDir::new()?;
        let tree = ports.iter().zip(8000..).fold(SEED.to_owned(), |tree, (port, usual)| {
            tree.replace(&format!("\"port\": {usual},"), &format!("\"port\": {port},"))
        });
        let config = json!({"rebalance_interval": 0, "task_time": 600, "strategy": strategy}).to_string();
        let mut cluster = Self { ports, balancer, children: Vec::new(), _state: state };
        let processes = cluster.ports.iter().map(|port| ("unit", *port)).chain([("balancer", balancer)]);
        for (role, port) in processes.collect::<Vec<_>>() {
            let mut command = Command::new(executable);
            command.args(["waves", role, &tree, &config, "--port", &port.to_string()]);
            if role == "unit" {
                command.arg("--state").arg(cluster._state.path());
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
            cluster.children.push(command.spawn()?);
        }
        cluster.until("all units are linked", |cluster| {
            let units = http("GET", cluster.balancer, "/units").ok()?;
            let all = units["units"].as_array()?;
            all.iter()
                .all(|unit| unit["is_live"] == json!(true) && unit["link"] == unit["parent"])
                .then_some(())
        })?;
        Ok(cluster)
    }

    fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> io::Result<T> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            std::thread::yield_now();
        }
        Err(io::Error::other(format!("not within {PATIENCE:?}: {what}")))
    }

    fn wave(&self, algorithm: &str) -> io::Result<Value> {
        http("POST", self.balancer, &format!("/wave?algorithm={algorithm}"))
    }
}

fn http(method: &str, port: u16, path: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    body.and_then(|body| serde_json::from_str(body).ok()).ok_or_else(|| io::Error::other(answer))
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn loads(tree: &Value, all: &mut Vec<(u64, u64)>) {
    all.push((tree["load"].as_u64().unwrap_or(0), tree["cpu"].as_u64().unwrap_or(1)));
    for child in tree["children"].as_array().into_iter().flatten() {
        loads(child, all);
    }
}

fn main() -> io::Result<()> {
    let Ok(executable) = std::env::var("SLIPRING") else {
        println!("SKIPPED: SLIPRING=the executable (make bench sets it)");
        return Ok(());
    };
    println!("eight units as processes on the loopback, {WAVES} waves of each kind, one after another:");
    println!("{:<10}{:>10}{:>10}{:>10}  messages", "wave", "p50 ms", "p99 ms", "max ms");
    let cluster = Cluster::start(&executable, "tree")?;
    for algorithm in ["echo", "finn", "barrier"] {
        let (mut took, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..WAVES {
            let record = cluster.wave(algorithm)?;
            if record["is_complete"] != json!(true) {
                return Err(io::Error::other(format!("not complete: {record}")));
            }
            took.push(record["took_us"].as_u64().unwrap_or(u64::MAX));
            messages.push(record["messages"].as_u64().unwrap_or(0));
        }
        took.sort_unstable();
        messages.sort_unstable();
        let ms = |percent| Duration::from_micros(percentile(&took, percent)).as_secs_f64() * 1e3;
        let (least, most) = (messages[0], messages[WAVES - 1]);
        let aim = match algorithm {
            "finn" => ", at most 224".to_owned(),
            "echo" => {
                let is_met = Duration::from_micros(percentile(&took, 50)) < AIM;
                format!(
                    ", always 14; p50 is to be under {AIM:?}: it {}",
                    if is_met { "is" } else { "IS NOT" }
                )
            }
            _ => ", always 7".to_owned(),
        };
        println!("{algorithm:<10}{:>10.3}{:>10.3}{:>10.3}  {least} to {most}{aim}", ms(50), ms(99), ms(100));
    }
    drop(cluster);
    println!(
        "\n76 tasks at one leaf of 8 cores, 38 cores in all; until each unit is within one task of two a core:"
    );
    println!("{:<10}{:>8}{:>14}{:>10}", "strategy", "waves", "tasks moved", "ms");
    for strategy in ["tree", "heap", "stealing"] {
        let cluster = Cluster::start(&executable, strategy)?;
        http("POST", cluster.balancer, &format!("/tasks?unit={}&n=76", cluster.ports[6]))?;
        let (started, mut waves, mut moved) = (Instant::now(), 0, 0);
        let balanced = loop {
            let answer = http("POST", cluster.balancer, "/rebalance")?;
            waves += 1;
            moved += answer["moved"].as_u64().unwrap_or(0);
            let mut all = Vec::new();
            loads(&http("GET", cluster.balancer, "/echo")?, &mut all);
            if all.iter().all(|(load, cpu)| load.abs_diff(2 * cpu) <= 1) {
                break true;
            }
            if answer["moved"] == json!(0) || waves == 500 {
                break false;
            }
        };
        let note = if balanced { "" } else { "  never: nothing more is moved" };
        let ms = started.elapsed().as_secs_f64() * 1e3;
        println!("{strategy:<10}{waves:>8}{moved:>14}{ms:>10.1}{note}");
    }
    Ok(())
}
