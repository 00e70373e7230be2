//! What a pool of given members, or of workers, tells of itself: the stream of one of them, followed while somebody watches.
//!
//! Each `data:` line is a JSON object about all members, and is passed on as it is. The balancer does not know what an
//! overlay's metrics or a wave are; that what it passes on is one JSON object of a bounded length is all it looks at.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, HOST};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::Admin;
use super::super::given;
use super::event;
use crate::proxy::forward::Pool;
use crate::proxy::upstream::Upstream;

/// Bytes of one object.
const LONGEST: usize = 1 << 20;
/// How long a member may take to begin its stream.
const WITHIN: Duration = Duration::from_secs(5);
/// After a stream that ended, before the next.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that lines are left out.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Something a pool said of itself.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) pool: Arc<str>,
    pub(super) about: About,
    pub(super) frame: Bytes,
}

/// What something that was said is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    /// How things are: what was said before is old.
    State,
    /// Something that was done. What is said of the same one later takes the place of what was said of it before.
    Wave(Option<String>),
    /// What is said once, and not to those who come later.
    Passing,
}

/// Of an object only what it is about.
#[derive(Deserialize)]
struct Object {
    kind: Option<String>,
    id: Option<serde_json::Value>,
}

/// Listens to a pool for as long as it is there. It is known by its name alone: one who watches does not keep a pool
/// that is gone.
pub(super) async fn listen(admin: Admin, name: Arc<str>, tell: mpsc::Sender<Said>) {
    let mut last = String::new();
    let mut left_out = LeftOut::default();
    loop {
        let Some(pool) = admin.pools.load().by_name(&name).cloned() else { return };
        let kind = pool.config.told_kind().unwrap_or_default();
        let why = match given::first_live(&pool) {
            None => "none of its members that take calls is live".to_owned(),
            Some(member) => match pool.config.watch(&member.instance.name) {
                None => return, // and none of the others
                Some(path) => {
                    let follower = Follower { admin: &admin, name: &name, kind, tell: &tell };
                    let request = follower.begin(&pool, &member, path);
                    let begun = tokio::time::timeout(WITHIN, request).await;
                    drop(pool);
                    match begun {
                        Err(_) => format!("{} began no stream within {WITHIN:?}", member.instance.name),
                        Ok(Err(why)) => why,
                        Ok(Ok(answered)) => {
                            last.clear();
                            tokio::select! {
                                why = follower.follow(answered, &mut left_out) => why,
                                () = member.given_up() => format!("{} died", member.instance.name),
                            }
                        }
                    }
                }
            },
        };
        // Said once, and again when it is another reason.
        if why != last {
            let frame = event("pool", &json!({ "pool": &*name, "kind": kind, "why": why }).to_string());
            if tell.send(Said { pool: name.clone(), about: About::State, frame }).await.is_err() {
                return;
            }
            last = why;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Follower<'a> {
    admin: &'a Admin,
    name: &'a Arc<str>,
    kind: &'a str,
    tell: &'a mpsc::Sender<Said>,
}

impl Follower<'_> {
    async fn begin(&self, pool: &Pool, member: &Upstream, path: &str) -> Result<given::Answered, String> {
        let who = &member.instance.name;
        let request = Request::get(path).header(HOST, member.address.to_string());
        let request = request.header(ACCEPT, "text/event-stream").body(Full::default());
        let request = request.map_err(|error| format!("{who} cannot be asked for {path}: {error}"))?;
        let answered = given::ask(pool, member, request, WITHIN).await;
        let answered = answered.map_err(|error| format!("{who} tells nothing: {error}"))?;
        let status = answered.response.status();
        if status.is_success() { Ok(answered) } else { Err(format!("{who} answers {path} with {status}")) }
    }

    /// Passes on what comes; why it ended.
    async fn follow(&self, answered: given::Answered, left_out: &mut LeftOut) -> String {
        let given::Answered { response, connection } = answered;
        let mut body = response.into_body();
        let mut lines = Lines::default();
        while let Some(frame) = body.frame().await {
            let data = match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue, // trailers
                Err(error) => return format!("its stream broke off: {error}"),
            };
            for line in lines.take(&data) {
                let passed = match &line {
                    Line::Whole(line) => match line.strip_prefix("data:") {
                        Some(object) => self.pass(object.trim()).await,
                        None => Some(()),
                    },
                    Line::TooLong => self.leave_out(left_out).await,
                };
                if passed.is_none() {
                    return String::new(); // nobody watches
                }
            }
        }
        drop(connection);
        "its stream ended".to_owned()
    }

    async fn pass(&self, object: &str) -> Option<()> {
        let Some(about) = about(object) else {
            self.admin.metrics.watched("refused").inc();
            tracing::debug!(pool = &**self.name, "what is no JSON object is not passed on");
            return Some(());
        };
        self.admin.metrics.watched("passed").inc();
        // A carriage return between its tokens would end the line.
        self.say(about, "data", &object.replace('\r', " ")).await
    }

    /// A line that was too long: what comes behind it is heard. It is said at most once a minute: who says such a line may
    /// say many.
    async fn leave_out(&self, left_out: &mut LeftOut) -> Option<()> {
        self.admin.metrics.watched("too_long").inc();
        let Some(count) = left_out.count(Instant::now()) else { return Some(()) };
        let words = format!("{count} of its records had more than {LONGEST} bytes and are left out");
        tracing::warn!(pool = &**self.name, "{words}");
        self.say(About::Passing, "note", &json!(words).to_string()).await
    }

    async fn say(&self, about: About, key: &str, json: &str) -> Option<()> {
        let (pool, kind) = (json!(&**self.name), json!(self.kind));
        let frame = event("pool", &format!("{{\"pool\":{pool},\"kind\":{kind},\"{key}\":{json}}}"));
        self.tell.send(Said { pool: self.name.clone(), about, frame }).await.ok()
    }
}

/// What an object is about; `None`: it is none, or no JSON at all.
fn about(object: &str) -> Option<About> {
    // A struct would also be read from a list.
    let Object { kind, id } = object.starts_with('{').then(|| serde_json::from_str(object).ok()).flatten()?;
    Some(match kind.as_deref() {
        Some("wave") => About::Wave(id.and_then(|id| id.as_str().map(str::to_owned))),
        _ => About::State,
    })
}

/// Lines that were too long since it was last said that there are such.
#[derive(Debug, Default)]
struct LeftOut {
    count: u64,
    told: Option<Instant>,
}

impl LeftOut {
    /// One more; how many there were, if that is to be said now.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
        is_due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// Without its end. Bytes that are no text cannot be JSON, and are refused as such.
    Whole(String),
    /// It had more bytes than are kept.
    TooLong,
}

/// Lines of a stream, each of a bounded length.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes what came, and gives the lines that it makes whole. Of one that is too long nothing is kept.
    fn take(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.is_too_long |= self.line.len() + piece.len() > LONGEST;
            if self.is_too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                whole.push(match std::mem::take(&mut self.is_too_long) {
                    true => Line::TooLong,
                    false => Line::Whole(String::from_utf8_lossy(&line).trim_end().to_owned()),
                });
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lines_are_the_same_however_they_come(text in "[a-c\n]{0,40}", cuts in proptest::collection::vec(0_usize..8, 0..20)) {
            let (mut lines, mut rest, mut told) = (Lines::default(), text.as_bytes(), Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                told.extend(lines.take(piece));
                rest = after;
            }
            told.extend(lines.take(rest));
            let whole = text.rfind('\n').map_or("", |at| &text[..=at]);
            proptest::prop_assert_eq!(told, whole.lines().map(|line| Line::Whole(line.to_owned())).collect::<Vec<_>>());
        }

        #[test]
        fn no_object_panics(bytes in proptest::collection::vec(0_u8..=255, 0..64)) {
            for line in Lines::default().take(&bytes) {
                if let Line::Whole(line) = line {
                    about(&line);
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_one_is_heard() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(&vec![b'x'; LONGEST]), []);
        assert_eq!(lines.take(b"x"), []);
        assert!(lines.line.capacity() == 0, "nothing of it is kept");
        let whole = |line: &str| Line::Whole(line.to_owned());
        assert_eq!(lines.take(b"x\nnext\nand"), [Line::TooLong, whole("next")]);
        assert_eq!(lines.take(b" so on\n"), [whole("and so on")]);
        let longest = [vec![b'y'; LONGEST - 1], b"\n".to_vec()].concat();
        assert_eq!(lines.take(&longest).len(), 1);
        assert_eq!(lines.take(b"\n"), [whole("")], "the longest one there may be was whole");
    }

    #[test]
    fn that_lines_are_left_out_is_said_once_a_minute_with_how_many_there_were() {
        let (mut left_out, began) = (LeftOut::default(), Instant::now());
        let told: Vec<_> =
            (0..130).filter_map(|second| left_out.count(began + Duration::from_secs(second))).collect();
        assert_eq!(told, [1, 60, 60]);
    }

    #[test]
    fn only_an_object_is_passed_on_and_a_wave_is_told_from_the_rest() {
        for (object, expected) in [
            (r#"{"kind":"wave","id":"1"}"#, Some(About::Wave(Some("1".into())))),
            (r#"{"kind":"wave","id":1}"#, Some(About::Wave(None))),
            (r#"{"kind":"units","units":[]}"#, Some(About::State)),
            (r#"{"processes":[]}"#, Some(About::State)),
            (r#"{"kind":1}"#, None),
            ("[\"wave\"]", None),
            ("{", None),
            ("", None),
            ("{} {}", None),
        ] {
            assert_eq!(about(object), expected, "{object}");
        }
    }
}
