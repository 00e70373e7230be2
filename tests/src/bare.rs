//! Replicas that speak HTTP in bytes of a test's choosing: they read nothing, break off, contradict themselves.
//!
//! Like [`crate::replica`] they are the test's own executable: each file of tests that uses them has a test
//! [`PROGRAM`], which does nothing but call [`serve_if_asked`]. What they saw they tell at their own address, past
//! the balancer: see [`Bare`].

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;

use crate::balancer::{Balancer, Setup};
use crate::http::Http;
use crate::wait::wait_until;

/// The test that is the program.
pub const PROGRAM: &str = "bare_program";
const ASKED: &str = "TEST_BARE_REPLICA";
/// A write that moves nothing for so long is blocked.
const BLOCKED: Duration = Duration::from_millis(300);
/// To a listener whose queue is full nobody connects.
const CONNECT: Duration = Duration::from_millis(200);
/// Until a replica saw something.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets a balancer's replicas be this program; all paths lead to them.
#[must_use]
pub fn program(setup: Setup) -> Setup {
    let executable = std::env::current_exe().expect("tests are files");
    let command = format!("{},{PROGRAM},--exact,--nocapture", executable.display());
    setup.set("process.command", command).set("proxy.paths", "/*").env(ASKED, "1")
}

/// What a replica saw of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests.
    pub came: u64,
    /// Requests whose connection the other side ended while they were under way.
    pub ended: u64,
    /// Connections that the other side ended some time after such a request.
    pub closed: u64,
    /// Under way.
    pub open: u64,
    /// The most that were under way at a time.
    pub most: u64,
    /// Bytes of answers' bodies that were sent.
    pub sent: u64,
    /// Whether the last piece of a body finds no reader.
    pub blocked: bool,
}

/// One replica, asked past the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Bare {
    /// Itself.
    pub http: Http,
}

impl Bare {
    /// All of a balancer's replicas, in their order.
    pub async fn all(balancer: &Balancer) -> Vec<Self> {
        let views = balancer.admin.get("/replicas").await.json();
        let views = views["replicas"].as_array().expect("a list").iter();
        let address = |view: &Value| view["address"].as_str().expect("it runs").parse().expect("an address");
        views.map(|view| Self { http: Http { address: address(view) } }).collect()
    }

    /// The only one.
    pub async fn only(balancer: &Balancer) -> Self {
        let all = Self::all(balancer).await;
        assert_eq!(all.len(), 1);
        all[0]
    }

    /// What it saw of `path`.
    pub async fn seen(&self, path: &str) -> Seen {
        let seen = self.http.get(&format!("/seen?path={path}")).await.json();
        let count = |key: &str| seen[key].as_u64().expect("a count");
        Seen {
            came: count("came"),
            ended: count("ended"),
            closed: count("closed"),
            open: count("open"),
            most: count("most"),
            sent: count("sent"),
            blocked: seen["blocked"] == true,
        }
    }

    /// Waits until what it saw of `path` is as `wanted`.
    pub async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        wait_until(what, PATIENCE, async || {
            let seen = self.seen(path).await;
            if wanted(&seen) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
        .await
    }
}

/// Is the program, if a balancer started this process.
pub fn serve_if_asked() {
    let (Ok(_), Ok(port)) = (std::env::var(ASKED), std::env::var("PORT")) else { return };
    let port: u16 = port.parse().expect("PORT is a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the balancer found a free port");
    let address = listener.local_addr().expect("it is bound");
    let replica = Arc::new(Replica::default());
    for number in 1.. {
        let Ok((stream, _)) = listener.accept() else { continue };
        if replica.full.load(Ordering::SeqCst) {
            drop(stream);
            let _queue = fill(&listener, address);
            loop {
                std::thread::park();
            }
        }
        let replica = replica.clone();
        std::thread::spawn(move || {
            let connection = Connection { replica, number, address, input: BufReader::new(stream) };
            drop(connection.serve()); // an error is the other side's end
        });
    }
}

/// Leaves no room for a connection: nobody accepts, and the queue is full.
fn fill(listener: &TcpListener, address: SocketAddr) -> Vec<TcpStream> {
    SockRef::from(listener).listen(0).expect("it listens");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT) {
        queue.push(stream);
    }
    queue
}

#[derive(Debug, Default)]
struct Replica {
    seen: Mutex<BTreeMap<String, Seen>>,
    full: AtomicBool,
}

impl Replica {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, path: &str, note: impl FnOnce(&mut Seen)) {
        note(self.seen().entry(path.to_owned()).or_default());
    }
}

struct Connection {
    replica: Arc<Replica>,
    /// Counts connections.
    number: u64,
    address: SocketAddr,
    input: BufReader<TcpStream>,
}

struct Head {
    path: String,
    query: String,
    text: String,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.text.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Connection {
    fn serve(mut self) -> io::Result<()> {
        let mut last = false;
        let mut path = String::new();
        while let Some(head) = self.head()? {
            path.clone_from(&head.path);
            if path != "/seen" {
                self.replica.note(&path, |seen| {
                    seen.came += 1;
                    seen.open += 1;
                    seen.most = seen.most.max(seen.open);
                });
            }
            if last {
                return Ok(()); // the request came, and there is no answer
            }
            let answered = self.answer(&head);
            if path != "/seen" {
                self.replica.note(&path, |seen| {
                    seen.open -= 1;
                    seen.ended += u64::from(!matches!(answered, Ok(Next::Close | Next::Go | Next::Last)));
                });
            }
            match answered? {
                Next::Go => {}
                Next::Last => last = true,
                Next::Close | Next::Ended => return Ok(()),
            }
        }
        self.replica.note(&path, |seen| seen.closed += 1);
        Ok(())
    }

    fn head(&mut self) -> io::Result<Option<Head>> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if self.input.read_line(&mut text)? == 0 {
                return Ok(None);
            }
        }
        let target = text.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Some(Head { path: path.to_owned(), query: query.to_owned(), text }))
    }

    fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                self.input.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let mut piece = vec![0; size + 2];
                self.input.read_exact(&mut piece)?;
                if size == 0 {
                    return Ok(body);
                }
                body.extend_from_slice(&piece[..size]);
            }
        }
        let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        body.resize(length, 0);
        self.input.read_exact(&mut body)?;
        Ok(body)
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.input.get_mut().write_all(bytes.as_ref())
    }

    fn ok(&mut self, head: &Head, body: &str) -> io::Result<Next> {
        let length = body.len();
        let body = if head.text.starts_with("HEAD ") { "" } else { body };
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))?;
        Ok(Next::Go)
    }

    /// Reads nothing that it could use, until the other side ends the connection.
    fn wait_for_the_end(&mut self) -> Next {
        let mut nothing = [0; 1024];
        while self.input.get_mut().read(&mut nothing).is_ok_and(|bytes| bytes > 0) {}
        Next::Ended
    }

    fn answer(&mut self, head: &Head) -> io::Result<Next> {
        match head.path.as_str() {
            "/seen" => {
                let path = head.parameter("path").unwrap_or_default();
                let seen = self.replica.seen().get(path).cloned().unwrap_or_default();
                let seen = json!({ "came": seen.came, "ended": seen.ended,
                    "closed": seen.closed, "open": seen.open, "most": seen.most, "sent": seen.sent, "blocked": seen.blocked });
                self.ok(head, &seen.to_string())
            }
            // Takes the head of a request and nothing more, for as long as the replica lives.
            "/deaf" => loop {
                std::thread::park();
            },
            // Takes all of it and never answers.
            "/silent" => {
                self.body(head)?;
                Ok(self.wait_for_the_end())
            }
            "/die" => Ok(Next::Close),
            // Answers, and ends the connection without having said so.
            "/farewell" => {
                self.body(head)?;
                let number = self.number.to_string();
                self.ok(head, &number)?;
                self.input.get_mut().shutdown(Shutdown::Write)?;
                Ok(self.wait_for_the_end())
            }
            // Answers, and ends the connection when the next request comes.
            "/last" => {
                self.body(head)?;
                let number = self.number.to_string();
                self.ok(head, &number)?;
                Ok(Next::Last)
            }
            // Begins an answer and goes on no more.
            "/half" => {
                self.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")?;
                Ok(self.wait_for_the_end())
            }
            "/cut" => {
                self.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning")?;
                Ok(Next::Close)
            }
            "/cut-chunked" => {
                self.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n")?;
                Ok(Next::Close)
            }
            // Two lengths, of which the first counts (RFC 9112 section 6.3).
            "/both" => {
                let lengths = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
                self.send(format!("HTTP/1.1 200 OK\r\n{lengths}\r\nb\r\nhello world\r\n0\r\n\r\n"))?;
                Ok(Next::Close)
            }
            "/chunked" => {
                self.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
                )?;
                Ok(Next::Go)
            }
            "/plain" => self.ok(head, "hello world"),
            "/flood" => self.flood(head),
            "/full" => {
                self.replica.full.store(true, Ordering::SeqCst);
                self.ok(head, "full")?;
                drop(TcpStream::connect(self.address)); // `accept` looks up
                Ok(Next::Close)
            }
            // The request as it came, and the number of its connection.
            _ => {
                let body = self.body(head)?;
                let body = String::from_utf8_lossy(&body);
                let seen = json!({ "connection": self.number, "head": head.text, "body": body });
                self.ok(head, &seen.to_string())
            }
        }
    }

    fn flood(&mut self, head: &Head) -> io::Result<Next> {
        let bytes: usize = head.parameter("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"))?;
        self.input.get_mut().set_write_timeout(Some(BLOCKED))?;
        let piece = vec![b'x'; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            match self.input.get_mut().write(&piece[..piece.len().min(left)]) {
                Ok(written) => {
                    left -= written;
                    self.replica.note(&head.path, |seen| {
                        seen.sent += written as u64;
                        seen.blocked = false;
                    });
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    self.replica.note(&head.path, |seen| seen.blocked = true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Go)
    }
}

enum Next {
    /// The next request.
    Go,
    /// The next request, to be left unanswered.
    Last,
    /// The end, of our making.
    Close,
    /// The end that the other side made.
    Ended,
}
