//! What a replica answers: a pure function of its identity and the request.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

/// A replica's number, with the greeting made once.
#[derive(Clone, Debug)]
pub struct ServerId {
    greeting: Bytes,
}

impl ServerId {
    /// The replica with this `SERVER_ID`.
    pub fn new(number: u64) -> Self {
        let greeting = format!(r#"{{"message":"Hello from Server: {number}","status":"successful"}}"#);
        Self { greeting: greeting.into() }
    }
}

/// Answers one request; the body of a request is never read.
///
/// `/home` greets with the replica's number, `/heartbeat` is 200 with an empty body; anything else is 404,
/// another method than GET or HEAD 405.
pub fn respond<B>(id: &ServerId, request: &Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = matches!(request.uri().path(), "/home" | "/heartbeat");
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = match request.uri().path() {
        "/home" if readable => json(StatusCode::OK, id.greeting.clone()),
        "/heartbeat" if readable => Response::new(Full::default()),
        _ if known => json(
            StatusCode::METHOD_NOT_ALLOWED,
            Bytes::from_static(br#"{"message":"<Error> this endpoint is read with GET","status":"failure"}"#),
        ),
        _ => json(
            StatusCode::NOT_FOUND,
            Bytes::from_static(
                br#"{"message":"<Error> this replica serves /home and /heartbeat","status":"failure"}"#,
            ),
        ),
    };
    if known && !readable {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn check(method: Method, path: &str, status: u16, body: &str) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let response = respond(&ServerId::new(3), &request).unwrap();
        assert_eq!(response.status(), status, "{path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes, body, "{path}");
    }

    #[tokio::test]
    async fn the_contract() {
        let greeting = r#"{"message":"Hello from Server: 3","status":"successful"}"#;
        check(Method::GET, "/home", 200, greeting).await;
        check(Method::GET, "/home?id=1", 200, greeting).await;
        check(Method::GET, "/heartbeat", 200, "").await;
        let unknown = r#"{"message":"<Error> this replica serves /home and /heartbeat","status":"failure"}"#;
        check(Method::GET, "/other", 404, unknown).await;
        let method = r#"{"message":"<Error> this endpoint is read with GET","status":"failure"}"#;
        check(Method::POST, "/home", 405, method).await;
    }

    #[test]
    fn the_wrong_method_is_told_the_right_ones() {
        for (path, allowed) in [("/home", Some("GET, HEAD")), ("/heartbeat", Some("GET, HEAD")), ("/a", None)]
        {
            let request = Request::builder().method(Method::DELETE).uri(path).body(()).unwrap();
            let response = respond(&ServerId::new(3), &request).unwrap();
            assert_eq!(response.headers().get(ALLOW).map(HeaderValue::as_bytes), allowed.map(str::as_bytes));
        }
    }
}
