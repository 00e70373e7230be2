//! Requests that somebody could read differently (`tests/data/smuggling`), sent through a balancer to a replica that
//! reads by the letter: each is refused, or arrives as exactly one request with one meaning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use slipring_tests::raw::{Message, Odd, Raw, Sent, replica};
use slipring_tests::{Setup, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const CORPUS: &str = include_str!("../data/smuggling/requests.txt");
const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    One,
    Two,
}

#[derive(Clone, Debug)]
struct Case {
    name: String,
    fate: Fate,
    bytes: String,
    body: String,
}

impl Case {
    fn parse(line: &str) -> Self {
        let mut columns = line.splitn(4, " |");
        let mut column = || columns.next().unwrap_or_default();
        let (name, fate) = (column().to_owned(), column().trim());
        let fate = match fate {
            "refused" => Fate::Refused,
            "one" => Fate::One,
            "two" => Fate::Two,
            other => panic!("{name}: what is '{other}'?"),
        };
        let (bytes, body) = (column(), column());
        let text = |column: &str| column.strip_prefix(' ').unwrap_or(column).to_owned();
        Self { name, fate, bytes: text(bytes), body: text(body) }
    }

    fn bytes(&self, id: &str) -> Vec<u8> {
        unescaped(&self.bytes, id)
    }

    /// The method and the path that the replica is to see.
    fn asked(&self, id: &str) -> (String, String) {
        let text = String::from_utf8_lossy(&self.bytes(id)).into_owned();
        let mut words = text.trim_start().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        (method.to_owned(), path.to_owned())
    }
}

fn unescaped(text: &str, id: &str) -> Vec<u8> {
    let text = text.replace("{host}", "Host: a\\r\\n").replace("{id}", id);
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let mut used = first.len_utf8();
        match first {
            '\\' => {
                used = 2;
                match rest.as_bytes()[1] {
                    b'r' => bytes.push(b'\r'),
                    b'n' => bytes.push(b'\n'),
                    b't' => bytes.push(b'\t'),
                    b'0' => bytes.push(0),
                    b'\\' => bytes.push(b'\\'),
                    b'x' => {
                        bytes.push(u8::from_str_radix(&rest[2..4], 16).expect("two digits"));
                        used = 4;
                    }
                    other => panic!("what is \\{}?", char::from(other)),
                }
            }
            '{' => {
                let (inside, _) = rest[1..].split_once('}').expect("what opens closes");
                let (what, times) = inside.split_once('*').expect("something times a number");
                bytes.extend_from_slice(what.repeat(times.parse().expect("a number")).as_bytes());
                used = inside.len() + 2;
            }
            _ => bytes.extend_from_slice(&rest.as_bytes()[..used]),
        }
        rest = &rest[used..];
    }
    bytes
}

fn corpus() -> Vec<Case> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<_> = lines.map(Case::parse).collect();
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert!(names.len() == cases.len() && cases.len() >= 150, "{} cases of different names", cases.len());
    cases
}

/// What a replica got, and how many connections it has.
#[derive(Debug, Default)]
struct Recorder {
    whole: Vec<Message>,
    odd: Vec<Odd>,
    open: usize,
}

async fn record(recorder: Arc<Mutex<Recorder>>, mut connection: Raw) {
    recorder.lock().expect("sound").open += 1;
    loop {
        match connection.message(Sent::Request).await {
            Ok(request) => {
                let answer = match request.start.starts_with("HEAD ") {
                    true => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
                    false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                };
                recorder.lock().expect("sound").whole.push(request);
                connection.say(answer).await;
            }
            Err(odd) => {
                let mut recorder = recorder.lock().expect("sound");
                recorder.odd.push(odd);
                recorder.open -= 1;
                return;
            }
        }
    }
}

/// Sends each case `behind` which something may follow; what each client heard, and what the replica got by case.
async fn send(cases: &[Case], behind: &str) -> (Vec<String>, BTreeMap<String, Vec<Message>>) {
    let recorder = Arc::new(Mutex::new(Recorder::default()));
    let listener = recorder.clone();
    let address = replica(move |connection, _| record(listener.clone(), connection)).await;
    // Whoever says nothing more is let go after a second.
    let setup = Setup::fixed(SLIPRING, &[address]).set("proxy.header_timeout", "1s");
    let mut balancer = setup.set("proxy.idle_timeout", "1s").start().await;
    let heard = join_all(cases.iter().map(async |case| {
        let mut client = Raw::connect(balancer.main.address).await;
        let bytes = [case.bytes(&case.name), unescaped(behind, &case.name)].concat();
        client.say(bytes).await; // it may refuse before it has read everything
        String::from_utf8_lossy(&client.rest().await).into_owned()
    }))
    .await;
    balancer.kill().await;
    wait_until("the replica has heard all", LONG, async || {
        let open = recorder.lock().expect("sound").open;
        if open == 0 { Ok(()) } else { Err(format!("{open} connections")) }
    })
    .await;
    let recorder = std::mem::take(&mut *recorder.lock().expect("sound"));
    for odd in &recorder.odd {
        assert!(!matches!(odd, Odd::Malformed(_)), "the balancer sent this: {odd:?}");
    }
    let mut by_case = BTreeMap::<String, Vec<Message>>::new();
    for request in recorder.whole {
        let path = request.target().trim_start_matches('/');
        let id = path.split(['/', '?', '\\']).next().unwrap_or_default();
        let id =
            ["-smuggled", "-second", "-innocent"].iter().find_map(|end| id.strip_suffix(end)).unwrap_or(id);
        let known = cases.iter().any(|case| case.name == id);
        assert!(known, "nobody sent this: {request:?}");
        by_case.entry(id.to_owned()).or_default().push(request);
    }
    (heard, by_case)
}

fn first_status(heard: &str) -> u16 {
    let heads = heard.split("HTTP/1.1 ").skip(1);
    let mut statuses = heads.filter_map(|head| head.get(..3)?.parse::<u16>().ok());
    statuses.find(|status| *status >= 200).unwrap_or_default()
}

fn problems(case: &Case, heard: &str, got: &[Message]) -> Vec<String> {
    let status = first_status(heard);
    let mut problems = Vec::new();
    let expected = match case.fate {
        Fate::Refused => 0,
        Fate::One => 1,
        Fate::Two => 2,
    };
    if got.len() != expected {
        problems.push(format!("{} requests arrived", got.len()));
    }
    match (case.fate, status) {
        (Fate::Refused, 0 | 400..) | (Fate::One | Fate::Two, 200) => {}
        _ => problems.push(format!("the client heard {status}")),
    }
    if let Some(first) = got.first() {
        let (method, path) = case.asked(&case.name);
        if first.start != format!("{method} {path} HTTP/1.1") {
            problems.push("it arrived as another".to_owned());
        }
        if first.body != unescaped(&case.body, &case.name) {
            problems.push("its body is another".to_owned());
        }
    }
    problems.extend(got.iter().flat_map(unclean));
    problems
}

/// What no request that goes on may say.
fn unclean(request: &Message) -> Vec<String> {
    let mut problems = Vec::new();
    if request.field("host").is_none() {
        problems.push("not one Host".to_owned());
    }
    for gone in ["te", "keep-alive", "proxy-connection", "http2-settings", "x-a"] {
        if request.fields.iter().any(|(name, _)| name == gone) {
            problems.push(format!("{gone} went on"));
        }
    }
    let upgrade = request.field("upgrade").unwrap_or_default().to_ascii_lowercase();
    if upgrade.contains("h2c") || (request.field("connection").is_some() && upgrade.is_empty()) {
        problems.push(format!("upgrade to '{upgrade}' went on"));
    }
    if request.trailers.to_ascii_lowercase().contains("content-length") {
        problems.push("a trailer frames".to_owned());
    }
    problems
}

fn report(bad: &[String]) {
    assert!(bad.is_empty(), "{} of the cases:\n{}", bad.len(), bad.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_or_arrives_as_one() {
    let cases = corpus();
    let (heard, mut got) = send(&cases, "").await;
    let bad = cases.iter().zip(&heard).filter_map(|(case, heard)| {
        let got = got.remove(&case.name).unwrap_or_default();
        let problems = problems(case, heard, &got);
        (!problems.is_empty())
            .then(|| format!("{}: {problems:?}\n  heard {heard:?}\n  got {got:?}", case.name))
    });
    report(&bad.collect::<Vec<_>>());
}

/// What follows may become part of an unfinished body; it never becomes anything else that nobody sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_stays_what_it_is() {
    let cases = corpus();
    let (_, mut got) = send(&cases, "GET /{id}-innocent HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n").await;
    let mut bad = Vec::new();
    for case in &cases {
        let got = got.remove(&case.name).unwrap_or_default();
        let (method, path) = case.asked(&case.name);
        let mut allowed = BTreeMap::from([
            (format!("{method} {path} HTTP/1.1"), 1),
            (format!("GET /{}-innocent HTTP/1.1", case.name), 1),
        ]);
        if case.fate == Fate::Two {
            allowed.insert(format!("GET /{}-second HTTP/1.1", case.name), 1);
        }
        for request in &got {
            match allowed.get_mut(&request.start) {
                Some(left) if *left > 0 => *left -= 1,
                _ => bad.push(format!("{}: nobody sent {request:?}; all: {got:?}", case.name)),
            }
        }
        if got.iter().any(|request| request.target().ends_with("-innocent") && !request.body.is_empty()) {
            bad.push(format!("{}: the innocent has a body: {got:?}", case.name));
        }
    }
    report(&bad);
}
