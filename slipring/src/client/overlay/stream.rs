//! Records as the overlay streams them: passed on as they come, and counted, because a stream that has ended early
//! looks like one that is over.

use std::io::Write;

use http_body_util::{BodyExt as _, Limited};
use hyper::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

use super::Failure;
use crate::client::call::{Answer, Call, PATIENCE, Session};
use crate::text::counted;

/// Bytes of a refusal.
const LARGEST_REFUSAL: usize = 1 << 20;

/// See [`super::format::Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ndjson,
    Csv,
}

impl Kind {
    fn accept(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

/// What a stream says of itself, before its records or behind them.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    matched: Option<u64>,
    returned: Option<u64>,
    missing: Option<u64>,
}

impl Counts {
    fn learn(&mut self, fields: &HeaderMap) {
        let number = |name: &str| fields.get(name)?.to_str().ok()?.parse().ok();
        self.matched = number("x-slipring-matched").or(self.matched);
        self.returned = number("x-slipring-returned").or(self.returned);
        self.missing = number("x-slipring-missing").or(self.missing);
    }
}

/// A stream that is over, and whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streamed {
    pub(super) matched: u64,
    pub(super) returned: u64,
    pub(super) missing: u64,
}

/// Counts lines; in CSV one between quotes is none.
#[derive(Debug)]
struct Lines {
    kind: Kind,
    quoted: bool,
    count: u64,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'"' if self.kind == Kind::Csv => self.quoted = !self.quoted,
                b'\n' if !self.quoted => self.count += 1,
                _ => {}
            }
        }
    }

    fn records(&self) -> u64 {
        self.count.saturating_sub(u64::from(self.kind == Kind::Csv))
    }
}

pub(super) async fn run(
    session: &mut Session<'_>,
    question: Value,
    kind: Kind,
    out: &mut impl Write,
) -> Result<Streamed, Failure> {
    let answer = session.open(&Call::query(question, kind.accept())).await?;
    let (head, mut body) = answer.into_parts();
    if !head.status.is_success() {
        let whole = timeout(PATIENCE, Limited::new(body, LARGEST_REFUSAL).collect()).await;
        let bytes = whole.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        return Err(Failure::of(&Answer::new(&head, &bytes)));
    }
    let (mut counts, mut lines) = (Counts::default(), Lines { kind, quoted: false, count: 0 });
    counts.learn(&head.headers);
    loop {
        let frame = match timeout(PATIENCE, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(broken(&lines, &error.to_string())),
            Err(_) => return Err(broken(&lines, &format!("nothing for {PATIENCE:?}"))),
        };
        match frame.into_data() {
            Ok(data) => {
                lines.take(&data);
                out.write_all(&data)?;
            }
            Err(frame) => counts.learn(&frame.into_trailers().unwrap_or_default()),
        }
    }
    match counts {
        Counts { matched: Some(matched), returned: Some(returned), missing: Some(missing) } => {
            match lines.records() == returned {
                true => Ok(Streamed { matched, returned, missing }),
                false => Err(broken(&lines, &format!("they should be {returned}"))),
            }
        }
        _ => Err(broken(&lines, "it does not say of how many")),
    }
}

fn broken(lines: &Lines, why: &str) -> Failure {
    Failure::Incomplete(format!("it ended after {}: {why}", counted(lines.records(), "record")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_between_quotes_is_none() {
        let count = |kind, text: &str| {
            let mut lines = Lines { kind, quoted: false, count: 0 };
            text.as_bytes().chunks(3).for_each(|piece| lines.take(piece));
            lines.records()
        };
        assert_eq!(count(Kind::Csv, "a,b\n1,\"two\nlines, \"\"quoted\"\"\"\n3,4\n"), 2);
        assert_eq!(count(Kind::Csv, ""), 0);
        assert_eq!(count(Kind::Ndjson, "{\"a\":\"\\\"\"}\n{}\n"), 2);
    }
}
