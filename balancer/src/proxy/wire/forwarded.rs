//! Where a request came from, as it is told to a replica: what trusted proxies said of it, and our own word after theirs.
//!
//! One place for all protocols: what a client may claim must not depend on how it claims it.

use super::emit::Arrival;
use super::fields::{Known, known, list};
use super::request::Request;

/// What is told.
#[derive(Debug)]
pub struct Forwarded<'a> {
    host: &'a [u8],
    arrival: &'a Arrival<'a>,
    forwarded: Vec<u8>,
    forwarded_for: Vec<u8>,
    forwarded_host: Option<&'a [u8]>,
    forwarded_proto: Option<&'a [u8]>,
}

impl<'a> Forwarded<'a> {
    /// Of `request`, which arrived like that. Whoever is not trusted has said nothing.
    pub fn of(request: &Request<'a>, arrival: &'a Arrival<'a>) -> Self {
        let mut said = Self {
            host: request.host(),
            arrival,
            forwarded: Vec::new(),
            forwarded_for: Vec::new(),
            forwarded_host: None,
            forwarded_proto: None,
        };
        if !arrival.trusted || !request.said.forwarded {
            return said;
        }
        for field in request.fields {
            match known(field.name) {
                Some(Known::Forwarded) => join(&mut said.forwarded, field.value),
                Some(Known::ForwardedFor) => join(&mut said.forwarded_for, field.value),
                Some(Known::ForwardedHost) => said.forwarded_host = Some(field.value),
                Some(Known::ForwardedProto) => said.forwarded_proto = Some(field.value),
                _ => {}
            }
        }
        said
    }

    /// The fields, for protocols whose fields are not text.
    pub fn fields(&self) -> [(&'static str, Vec<u8>); 4] {
        let written = |write: fn(&Self, &mut Vec<u8>)| {
            let mut value = Vec::new();
            write(self, &mut value);
            value
        };
        [
            ("forwarded", written(Self::put_forwarded)),
            ("x-forwarded-for", written(Self::put_for)),
            ("x-forwarded-host", self.host().to_vec()),
            ("x-forwarded-proto", self.proto().to_vec()),
        ]
    }

    /// Writes the fields as HTTP/1 has them.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Forwarded: ");
        self.put_forwarded(out);
        out.extend_from_slice(b"\r\nX-Forwarded-For: ");
        self.put_for(out);
        for part in [&b"\r\nX-Forwarded-Host: "[..], self.host(), b"\r\nX-Forwarded-Proto: ", self.proto()] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// RFC 7239.
    fn put_forwarded(&self, out: &mut Vec<u8>) {
        if !self.forwarded.is_empty() {
            out.extend_from_slice(&self.forwarded);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"for=");
        out.extend_from_slice(self.arrival.client.node().as_bytes());
        if !self.host.is_empty() && !self.host.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(self.host);
            out.push(b'"');
        }
        out.extend_from_slice(b";proto=");
        out.extend_from_slice(self.own_proto());
    }

    fn put_for(&self, out: &mut Vec<u8>) {
        if !self.forwarded_for.is_empty() {
            out.extend_from_slice(&self.forwarded_for);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(self.arrival.client.forwarded_for().as_bytes());
    }

    fn host(&self) -> &[u8] {
        self.forwarded_host.unwrap_or(self.host)
    }

    fn proto(&self) -> &[u8] {
        self.forwarded_proto.unwrap_or(self.own_proto())
    }

    fn own_proto(&self) -> &'static [u8] {
        if self.arrival.tls { b"https" } else { b"http" }
    }
}

fn join(earlier: &mut Vec<u8>, value: &[u8]) {
    for item in list(value) {
        if !earlier.is_empty() {
            earlier.extend_from_slice(b", ");
        }
        earlier.extend_from_slice(item);
    }
}
