//! A link: one WebSocket, as frames in and frames out. Both ends know within [`SILENCE`] that the other one is gone, also when
//! it does not say so.

use std::future::Future;
use std::time::Duration;

use axum::extract::ws as served;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite as dialed;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::frame::{Frame, LONGEST};

/// How often each end says that it is there.
const PING: Duration = Duration::from_millis(400);
/// How long an end may be silent.
pub(crate) const SILENCE: Duration = Duration::from_millis(1_500);
/// How long it may take to connect.
pub(crate) const CONNECTING: Duration = Duration::from_millis(800);
/// How long somebody may be silent who is no unit: its library may answer pings only when it is asked for messages.
pub(crate) const STRANGERS_SILENCE: Duration = Duration::from_secs(60);
/// Frames that wait to be sent; one more and the other end is too slow to be linked with.
pub(crate) const WAITING: usize = 4_096;
/// Mistakes on one link before it is closed.
const PATIENCE: u32 = 16;

/// Where frames for a link are put.
pub(crate) type Outbox = mpsc::Sender<Frame>;

/// What comes in over a link.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A frame.
    Frame(Frame),
    /// Something that is none; why.
    Rejected(Rejected),
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is no JSON, or the frame of that route has other fields.
    NotAFrame,
    /// It is not text.
    Binary,
    /// It is longer than [`LONGEST`]; the link is closed.
    TooLong,
}

impl Rejected {
    /// For metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotAFrame => "not_a_frame",
            Self::Binary => "binary",
            Self::TooLong => "too_long",
        }
    }
}

/// Why a peer cannot be reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DialError {
    /// No connection.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// No answer in time.
    #[error("no answer within {CONNECTING:?}")]
    Late,
    /// A connection, and no WebSocket.
    #[error("no WebSocket there")]
    Handshake(#[source] Box<dialed::Error>),
}

/// A connection that was dialed.
pub(crate) type Dialed = WebSocketStream<TcpStream>;

/// Connects to a unit.
///
/// # Errors
/// When nobody answers there, in time, as a WebSocket.
pub(crate) async fn dial(authority: &str) -> Result<Dialed, DialError> {
    dial_path(authority, "/ws").await
}

/// Connects to somebody's WebSocket.
///
/// # Errors
/// As [`dial`].
pub(crate) async fn dial_path(authority: &str, path: &str) -> Result<Dialed, DialError> {
    let connecting = async {
        let stream = TcpStream::connect(authority).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let config = WebSocketConfig::default().max_message_size(Some(LONGEST)).max_frame_size(Some(LONGEST));
        let (socket, _) = client_async_with_config(format!("ws://{authority}{path}"), stream, Some(config))
            .await
            .map_err(|error| DialError::Handshake(Box::new(error)))?;
        Ok(socket)
    };
    timeout(CONNECTING, connecting).await.unwrap_or(Err(DialError::Late))
}

/// What both kinds of WebSocket have in common.
pub(crate) trait Wire: Sized + Send + 'static {
    /// Text.
    fn text(text: String) -> Self;
    /// A ping.
    fn ping() -> Self;
    /// What it is.
    fn read(&self) -> Read<'_>;
}

/// What a message is.
pub(crate) enum Read<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes that are no text.
    Binary,
    /// A sign of life.
    Alive,
    /// The end.
    Close,
}

impl Wire for served::Message {
    fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn ping() -> Self {
        Self::Ping(Vec::new().into())
    }

    fn read(&self) -> Read<'_> {
        match self {
            Self::Text(text) => Read::Text(text.as_str()),
            Self::Binary(_) => Read::Binary,
            Self::Ping(_) | Self::Pong(_) => Read::Alive,
            Self::Close(_) => Read::Close,
        }
    }
}

impl Wire for dialed::Message {
    fn text(text: String) -> Self {
        Self::Text(text.into())
    }

    fn ping() -> Self {
        Self::Ping(Vec::new().into())
    }

    fn read(&self) -> Read<'_> {
        match self {
            Self::Text(text) => Read::Text(text.as_str()),
            Self::Binary(_) => Read::Binary,
            Self::Ping(_) | Self::Pong(_) | Self::Frame(_) => Read::Alive,
            Self::Close(_) => Read::Close,
        }
    }
}

/// Whether an error of a link says that a message was too long.
pub(crate) trait TooLong {
    /// It does.
    fn is_too_long(&self) -> bool;
}

impl TooLong for dialed::Error {
    fn is_too_long(&self) -> bool {
        matches!(self, Self::Capacity(_))
    }
}

impl TooLong for axum::Error {
    fn is_too_long(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<dialed::Error>().is_some_and(TooLong::is_too_long) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Who is told what comes in.
pub(crate) trait Hear: Send {
    /// Something came. False ends the link.
    fn hear(&mut self, inbound: Inbound) -> impl Future<Output = bool> + Send;

    /// How long the other end may be silent.
    fn silence(&self) -> Duration {
        SILENCE
    }
}

/// Carries frames until one end goes, is silent, or makes too many mistakes; or until nobody sends any more.
pub(crate) async fn carry<S, M, E>(socket: S, mut out: mpsc::Receiver<Frame>, ear: &mut impl Hear)
where
    M: Wire,
    E: TooLong + Send,
    S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Send,
{
    let (mut sink, mut stream) = socket.split();
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut deadline = Instant::now() + ear.silence();
    let mut mistakes = 0;
    loop {
        tokio::select! {
            frame = out.recv() => {
                let Some(frame) = frame else { break };
                let sending = async {
                    sink.feed(M::text(frame.text())).await?;
                    while let Ok(next) = out.try_recv() {
                        sink.feed(M::text(next.text())).await?;
                    }
                    sink.flush().await
                };
                if !matches!(timeout(SILENCE, sending).await, Ok(Ok(()))) {
                    return;
                }
            }
            message = stream.next() => {
                deadline = Instant::now() + ear.silence();
                let inbound = match message {
                    None => return,
                    Some(Err(error)) => {
                        if error.is_too_long() {
                            ear.hear(Inbound::Rejected(Rejected::TooLong)).await;
                        }
                        return;
                    }
                    Some(Ok(message)) => match message.read() {
                        Read::Text(text) => match serde_json::from_str(text) {
                            Ok(frame) => Inbound::Frame(frame),
                            Err(error) => {
                                tracing::debug!(%error, "a message is no frame");
                                Inbound::Rejected(Rejected::NotAFrame)
                            }
                        },
                        Read::Binary => Inbound::Rejected(Rejected::Binary),
                        Read::Alive => continue,
                        Read::Close => return,
                    },
                };
                mistakes += u32::from(matches!(inbound, Inbound::Rejected(_)));
                if !ear.hear(inbound).await || mistakes > PATIENCE {
                    break;
                }
                // Who it is decides how long it may be silent.
                deadline = Instant::now() + ear.silence();
            }
            _ = pings.tick() => {
                if !matches!(timeout(SILENCE, sink.send(M::ping())).await, Ok(Ok(()))) {
                    return;
                }
            }
            () = sleep_until(deadline) => return,
        }
    }
    // A farewell; whoever does not read it learns from the connection.
    drop(timeout(PING, sink.close()).await);
}
