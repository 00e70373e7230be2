//! Calls of the administration that come on the main port.

use std::task::Poll;
use std::time::SystemTime;

use http_body_util::BodyExt;
use httpdate::HttpDate;
use tower::ServiceExt;

use super::Talk;
use crate::admin::PAYLOAD_TIMEOUT;
use crate::proxy::access_log::Tally;
use crate::proxy::error::{ProxyError, Refusal};
use crate::proxy::exchange::{Client, ClientFailure};
use crate::proxy::wire::Version;
use crate::proxy::wire::request::{Request, RequestError};

/// The largest body of such a call, in bytes.
const LARGEST_CALL: usize = 64 * 1024;

impl Talk {
    /// Answers a call of the administration. Whether another request may follow.
    pub(super) async fn administer(&mut self, request: http::Request<()>) -> bool {
        let to_head = request.method() == http::Method::HEAD;
        let body = match self.call_body(&request).await {
            Ok(body) => body,
            Err(error) => {
                self.client.keep_alive = false;
                return self.refuse(&error.into(), to_head).await;
            }
        };
        let mut request = request.map(|()| axum::body::Body::from(body));
        request.extensions_mut().insert(axum::extract::ConnectInfo(self.place.whose.caller()));
        let answered: Result<_, std::convert::Infallible> =
            self.worker.front.contract.clone().oneshot(request).await;
        let (head, body) = match answered {
            Ok(answer) => answer.into_parts(),
            Err(never) => match never {},
        };
        let Ok(body) = body.collect().await else { return false };
        let body = body.to_bytes();
        let tally = Tally::default();
        tally.status.set(head.status.as_u16());
        tally.bytes.set(body.len() as u64);
        self.log(&tally);
        self.client.keep_alive &= self.worker.draining.get().is_none();
        write_answer(self.client.out.bytes(), &head, &body, self.client.keep_alive, to_head);
        self.flush().await.is_ok() && self.client.keep_alive
    }

    async fn call_body(&mut self, request: &http::Request<()>) -> Result<Vec<u8>, ProxyError> {
        // RFC 9110 section 15.2: whoever speaks HTTP/1.0 knows no such answer.
        let expects = request.headers().get(http::header::EXPECT);
        if self.client.version == Version::Http11
            && expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            self.client.out.bytes().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            if self.flush().await.is_err() {
                return Err(ProxyError::BadBody);
            }
        }
        let patience = self.worker.pools().config.idle_timeout.min(PAYLOAD_TIMEOUT);
        let (client, ticket) = (&mut self.client, &self.ticket);
        let mut body = Vec::new();
        ticket.set(patience);
        std::future::poll_fn(|cx| {
            loop {
                match client.poll_body(cx) {
                    Poll::Ready(Ok(Some(count))) => {
                        if body.len() + count > LARGEST_CALL {
                            return Poll::Ready(Err(ProxyError::LargeCall(LARGEST_CALL)));
                        }
                        body.extend_from_slice(&client.body()[..count]);
                        client.took(count);
                    }
                    Poll::Ready(Ok(None)) => {
                        client.put_last_chunk(&mut Vec::new());
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(ClientFailure::TooLarge)) => {
                        return Poll::Ready(Err(ProxyError::TooLarge));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(ProxyError::BadBody)),
                    Poll::Pending if ticket.has_expired(cx) => {
                        return Poll::Ready(Err(ProxyError::SlowCall(patience)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        ticket.unset();
        Ok(body)
    }
}

/// The request as the administration takes it.
pub(super) fn as_http(request: &Request<'_>) -> Result<http::Request<()>, Refusal> {
    let mut built = http::Request::builder().method(request.method).uri(request.target.path_and_query);
    for field in request.fields {
        built = built.header(field.name, field.value);
    }
    built.body(()).map_err(|_| ProxyError::BadRequest(RequestError::Syntax).into())
}

fn write_answer(
    out: &mut Vec<u8>,
    head: &http::response::Parts,
    body: &[u8],
    keep_alive: bool,
    to_head: bool,
) {
    use std::io::Write as _;
    let reason = head.status.canonical_reason().unwrap_or_default();
    write!(out, "HTTP/1.1 {} {reason}\r\n", head.status.as_str()).expect("writing into memory");
    for (name, value) in &head.headers {
        if *name != http::header::CONTENT_LENGTH && *name != http::header::TRANSFER_ENCODING {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    let length = match head.headers.get(http::header::CONTENT_LENGTH).filter(|_| to_head) {
        Some(length) => String::from_utf8_lossy(length.as_bytes()).into_owned(),
        None => body.len().to_string(),
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // RFC 9110 section 6.6.1: of what is answered here we are the origin.
    write!(out, "Date: {}\r\n", HttpDate::from(SystemTime::now())).expect("writing into memory");
    write!(out, "Content-Length: {length}\r\nConnection: {connection}\r\n\r\n").expect("writing into memory");
    if !to_head {
        out.extend_from_slice(body);
    }
}
