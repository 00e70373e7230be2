//! A small HTTP client that hides nothing: one connection a request, every header in sight.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// No answer takes longer, not even one to a change of many replicas.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The sending half of a connection.
pub type Sending<B = Full<Bytes>> = SendRequest<B>;

/// One server.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Reads an answer to its end.
    pub async fn read(response: Response<hyper::body::Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        Ok(Self { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    /// Its body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are text")
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {:?}", self.status, self.body))
    }

    /// A header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none());
        only.map(|value| value.to_str().expect("headers are text"))
    }

    /// Who answered.
    pub fn replica(&self) -> &str {
        self.header("x-slipring-replica").unwrap_or_else(|| panic!("no replica answered: {self:?}"))
    }
}

impl Http {
    /// A request to this server.
    pub fn request(&self, method: Method, path: &str) -> Builder {
        Request::builder().method(method).uri(path).header(HOST, self.address.to_string())
    }

    /// A connection of one's own, if it comes to be in any reasonable time.
    pub async fn connect<B>(&self) -> Result<Sending<B>, String>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = timeout(PATIENCE, TcpStream::connect(self.address))
            .await
            .map_err(|_| format!("no connection within {PATIENCE:?}"))?
            .map_err(|error| format!("no connection: {error}"))?;
        // Ends with a reset: the kernel need not remember tens of thousands of ended connections for minutes.
        stream.set_zero_linger().map_err(|error| format!("no connection: {error}"))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| format!("no connection: {error}"))?;
        tokio::spawn(connection); // what goes wrong reaches the request
        Ok(sender)
    }

    /// Sends one request over a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let exchange = async {
            let mut sender = self.connect().await?;
            let response =
                sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
            Answer::read(response).await.map_err(|error| format!("half an answer: {error}"))
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
    }

    /// One request with a body, which is answered.
    pub async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.with_headers(method, path, &[], body).await
    }

    /// One request with headers and a body, which is answered.
    pub async fn with_headers(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = self.request(method.clone(), path);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("host") {
                request.headers_mut().expect("tests send valid requests").remove(HOST);
            }
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("tests send valid requests");
        self.send(request)
            .await
            .unwrap_or_else(|error| panic!("{method} {path} at {}: {error}", self.address))
    }

    /// `GET`, which is answered.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }
}

/// The sending half of a connection of HTTP/2.
pub type Streams = hyper::client::conn::http2::SendRequest<crate::upstream::Answering>;

impl Http {
    /// HTTP/2 over bytes that lead to this server, or straight in the clear.
    pub async fn streams_over<T>(&self, bytes: T) -> Streams
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let executor = hyper_util::rt::TokioExecutor::new();
        let shaken = hyper::client::conn::http2::handshake(executor, TokioIo::new(bytes)).await;
        let (sender, connection) = shaken.expect("HTTP/2 begins");
        tokio::spawn(connection); // what goes wrong reaches the request
        sender
    }

    /// HTTP/2 in the clear, by prior knowledge.
    pub async fn streams(&self) -> Streams {
        self.streams_over(TcpStream::connect(self.address).await.expect("it listens")).await
    }

    /// A request to this server as HTTP/2 has it.
    pub fn stream(&self, method: Method, path: &str) -> Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }
}
