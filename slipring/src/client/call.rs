//! One call to a balancer and its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::trust::{Files, TrustError, advice};

/// Longer than any change takes, and than an answer that streams stands still.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries of a client that waits.
const RETRY: Duration = Duration::from_millis(50);
/// Bodies are printed whole.
const LARGEST_BODY: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CallError {
    #[error(
        "'{0}' is no address of a balancer: it looks like http://127.0.0.1:5000 or https://127.0.0.1:5001"
    )]
    Url(String),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("no TLS with {url}{}", after_a_colon(advice(.source)))]
    Tls { url: String, source: std::io::Error },
    #[error("'{0}' cannot be asked for: a path looks like /home")]
    Request(String, #[source] hyper::http::Error),
    #[error("no balancer answers at {url}: start one with `make`, or say where it is with --url")]
    Connect { url: String, source: std::io::Error },
    #[error("the connection to {url} broke{}", after_a_colon(advice(.source)))]
    Broken { url: String, source: hyper::Error },
    #[error("the answer of {0} could not be read")]
    Body(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} did not answer within {PATIENCE:?}")]
    Timeout(String),
}

fn after_a_colon(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| format!(": {words}"))
}

pub(crate) struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
    accept: Option<&'static str>,
}

impl Call {
    pub(crate) fn rep() -> Self {
        Self::get("/rep")
    }

    pub(crate) fn add(n: u64, hostnames: &[String]) -> Self {
        Self {
            method: Method::POST,
            path: "/add".into(),
            body: Some(json!({ "n": n, "hostnames": hostnames })),
            accept: None,
        }
    }

    pub(crate) fn remove(n: u64, hostnames: &[String]) -> Self {
        Self {
            method: Method::DELETE,
            path: "/rm".into(),
            body: Some(json!({ "n": n, "hostnames": hostnames })),
            accept: None,
        }
    }

    pub(crate) fn reload() -> Self {
        Self { method: Method::POST, path: "/reload".into(), body: None, accept: None }
    }

    pub(crate) fn get(path: &str) -> Self {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Self { method: Method::GET, path, body: None, accept: None }
    }

    /// A question to an overlay.
    pub(crate) fn query(question: Value, accept: &'static str) -> Self {
        Self {
            method: Method::POST,
            path: "/overlay/query".into(),
            body: Some(question),
            accept: Some(accept),
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) replica: Option<String>,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(head: &Parts, body: &[u8]) -> Self {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status: head.status,
            replica: text("x-slipring-replica").map(str::to_owned),
            retry_after: text("retry-after").and_then(|seconds| seconds.parse().ok()),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// The body as a person reads it: words of several lines as lines.
    pub(crate) fn text(&self) -> String {
        let body: Option<Value> = serde_json::from_str(&self.body).ok();
        let words = body.as_ref().and_then(|body| body["message"].as_str());
        words.filter(|words| words.contains('\n')).map_or_else(|| self.body.clone(), str::to_owned)
    }

    pub(crate) fn to_json(&self) -> Value {
        let body = serde_json::from_str(&self.body).unwrap_or_else(|_| Value::String(self.body.clone()));
        json!({ "status": self.status.as_u16(), "replica": self.replica, "body": body })
    }
}

pub(crate) struct Balancer {
    url: String,
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token: Option<String>,
    wait: Duration,
}

impl Balancer {
    /// `files` are looked at for an https address only.
    pub(crate) fn new(
        url: &str,
        files: &Files,
        token: Option<String>,
        wait_seconds: u64,
    ) -> Result<Self, CallError> {
        let unusable = || CallError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| unusable())?;
        let authority = uri.authority().ok_or_else(unusable)?;
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (80, None),
            Some("https") => {
                let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|_| unusable())?;
                (443, Some((files.read()?, name)))
            }
            _ => return Err(unusable()),
        };
        let authority = match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:{port}"),
        };
        Ok(Self { url: url.to_owned(), authority, tls, token, wait: Duration::from_secs(wait_seconds) })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, CallError> {
        self.session().send(call).await
    }

    pub(crate) fn session(&self) -> Session<'_> {
        Session { balancer: self, link: None }
    }

    async fn connect(&self) -> Result<TcpStream, CallError> {
        let deadline = Instant::now() + self.wait;
        loop {
            match TcpStream::connect(&self.authority).await {
                Ok(stream) => return Ok(stream),
                Err(_) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
                Err(source) => return Err(CallError::Connect { url: self.url.clone(), source }),
            }
        }
    }

    async fn link(&self) -> Result<Link, CallError> {
        let stream = self.connect().await?;
        match &self.tls {
            None => self.speak(stream).await,
            Some((config, name)) => {
                let agreed = TlsConnector::from(config.clone()).connect(name.clone(), stream).await;
                let stream = agreed.map_err(|source| CallError::Tls { url: self.url.clone(), source })?;
                self.speak(stream).await
            }
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<Link, CallError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(self.broken())?;
        Ok(Link { sender, connection: tokio::spawn(connection) })
    }

    fn broken(&self) -> impl Fn(hyper::Error) -> CallError {
        |source| CallError::Broken { url: self.url.clone(), source }
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request =
            Request::builder().method(&call.method).uri(&call.path).header(HOST, &self.authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| CallError::Request(call.path.clone(), error))
    }
}

/// One call after another over one connection, which is made anew when the other side has ended it.
pub(crate) struct Session<'b> {
    balancer: &'b Balancer,
    link: Option<Link>,
}

struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<Result<(), hyper::Error>>,
}

impl Session<'_> {
    /// The whole answer.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<Answer, CallError> {
        let url = &self.balancer.url.clone();
        let whole = async {
            let answer = self.exchange(call).await?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST_BODY).collect().await;
            let body = body.map_err(|error| CallError::Body(url.clone(), error))?.to_bytes();
            Ok(Answer::new(&head, &body))
        };
        timeout(PATIENCE, whole).await.map_err(|_| CallError::Timeout(url.clone()))?
    }

    /// The head of the answer, whose body streams.
    pub(crate) async fn open(&mut self, call: &Call) -> Result<Response<Incoming>, CallError> {
        let url = &self.balancer.url;
        let late = || CallError::Timeout(url.clone());
        timeout(PATIENCE, self.exchange(call)).await.map_err(|_| late())?
    }

    async fn exchange(&mut self, call: &Call) -> Result<Response<Incoming>, CallError> {
        if let Some(mut link) = self.link.take()
            && link.sender.ready().await.is_ok()
        {
            match self.ask(link, call).await {
                // The other side may have ended the connection while nobody looked: that was no answer to this call.
                Err(CallError::Broken { .. }) if call.method == Method::GET => {}
                answer => return answer,
            }
        }
        let link = self.balancer.link().await?;
        self.ask(link, call).await
    }

    async fn ask(&mut self, mut link: Link, call: &Call) -> Result<Response<Incoming>, CallError> {
        match link.sender.send_request(self.balancer.request(call)?).await {
            Ok(answer) => {
                self.link = Some(link);
                Ok(answer)
            }
            // It knows no more than that the connection has ended; which knows why, if it failed by itself.
            Err(error) => {
                let cause = link.connection.await.ok().and_then(Result::err).unwrap_or(error);
                Err(self.balancer.broken()(cause))
            }
        }
    }
}
