//! A small HTTP/1.1 client for measuring: one deadline around everything, every failure counted by kind.
//!
//! Connections are kept and reused, last used first; one that the server closed in the meantime is
//! replaced and the request sent again, but only when hyper says that it never left. Nothing else is
//! retried: a load generator that retries reports on itself. Rejected: hyper-util's pooled client, which
//! retries and opens connections in the background by rules that a measurement cannot see.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Answers larger than this are a failure: the tester reads greetings and small JSON.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The header in which a Slipring balancer names the replica that answered.
const REPLICA_HEADER: &str = "x-slipring-replica";

/// Why a URL cannot be a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all.
    #[error("{url:?} is not a URL: write it as http://HOST:PORT")]
    Malformed {
        /// What was given.
        url: String,
    },
    /// Something else than `http://`.
    #[error("{url:?} is not plain HTTP, the only thing that is spoken here: write it as http://HOST:PORT")]
    Scheme {
        /// What was given.
        url: String,
    },
    /// The token holds characters that no header may hold.
    #[error("the admin token holds characters that an HTTP header cannot carry: check SLIPRING_ADMIN_TOKEN")]
    Token,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("cannot connect to {address}: is it running?")]
    Connect {
        /// Where to.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The request could not be written down.
    #[error("the request to {path:?} is malformed")]
    Request {
        /// Which path.
        path: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// The connection broke, or the answer was not HTTP.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper::Error),
    /// The body broke off or was too large.
    #[error("the answer's body broke off or is larger than {BODY_LIMIT} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

impl Failure {
    /// A word to count it under.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Failure::Connect { .. } => "connect",
            Failure::Request { .. } => "request",
            Failure::Exchange(_) => "exchange",
            Failure::Body(_) => "body",
            Failure::Timeout(_) => "timeout",
        }
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Who answered, as the balancer's header says.
    replica: Option<String>,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Who answered: the balancer's header, or the number in the greeting of a balancer that sends none.
    #[must_use]
    pub fn replica(&self) -> Option<String> {
        self.replica.clone().or_else(|| greeted_by(&self.body))
    }
}

/// `Server-3` from `{"message":"Hello from Server: 3",…}`.
fn greeted_by(body: &[u8]) -> Option<String> {
    let greeting: serde_json::Value = serde_json::from_slice(body).ok()?;
    let (_, name) = greeting.get("message")?.as_str()?.split_once("Hello from Server: ")?;
    Some(format!("Server-{}", name.trim()))
}

type Connection = SendRequest<Full<Bytes>>;

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    address: String,
    host: HeaderValue,
    token: Option<HeaderValue>,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client of the server at `url` (`http://HOST:PORT`). Each request, with connecting and reading its
    /// answer, gets `timeout`. The token goes out with every request but those of [`Client::get`].
    pub fn new(url: &str, token: Option<&str>, timeout: Duration) -> Result<Client, TargetError> {
        let malformed = || TargetError::Malformed { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        if uri.scheme_str() != Some("http") {
            return Err(TargetError::Scheme { url: url.to_owned() });
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| malformed())?;
        let token = token
            .filter(|token| !token.is_empty())
            .map(|token| HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| TargetError::Token))
            .transpose()?;
        Ok(Client { address, host, token, timeout, idle: Mutex::new(Vec::new()) })
    }

    /// `GET path`, with nothing but the host in its header: the request that is measured.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.within_deadline(|| self.request(Method::GET, path, None, false)).await
    }

    /// A call to the admin interface: with the token, and a JSON body if there is one.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, Failure> {
        let body = body.map(|json| Bytes::from(json.to_string()));
        self.within_deadline(|| self.request(method.clone(), path, body.clone(), true)).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
        with_token: bool,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if let Some(token) = self.token.as_ref().filter(|_| with_token) {
            request = request.header(AUTHORIZATION, token);
        }
        if json.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        request
            .body(Full::new(json.unwrap_or_default()))
            .map_err(|source| Failure::Request { path: path.to_owned(), source })
    }

    async fn within_deadline(
        &self,
        request: impl Fn() -> Result<Request<Full<Bytes>>, Failure>,
    ) -> Result<Answer, Failure> {
        let exchange = self.exchange(request);
        tokio::time::timeout(self.timeout, exchange).await.map_err(|_| Failure::Timeout(self.timeout))?
    }

    async fn exchange(
        &self,
        request: impl Fn() -> Result<Request<Full<Bytes>>, Failure>,
    ) -> Result<Answer, Failure> {
        while let Some(mut connection) = self.take_idle() {
            // Its last answer was read to the end, so it is ready at once or was closed meanwhile.
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.send_request(request()?).await {
                Ok(response) => return self.read(connection, response).await,
                // It never left: the server closed the connection first.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(Failure::Exchange(error)),
            }
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request()?).await.map_err(Failure::Exchange)?;
        self.read(connection, response).await
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let failed = |source| Failure::Connect { address: self.address.clone(), source };
        let stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Failure::Exchange)?;
        // Ends with the sender, or when the server hangs up; what went wrong reaches the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn read(
        &self,
        connection: Connection,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Answer, Failure> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(Failure::Body)?.to_bytes();
        if !connection.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        let replica = head.headers.get(REPLICA_HEADER).and_then(|name| name.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status, replica, body })
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
