//! How every connection is set that carries requests or answers.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Small messages leave at once, and a peer that takes nothing of what was sent for `unread` loses its connection.
///
/// The kernel watches the second (TCP_USER_TIMEOUT), and it sees what no timer above the socket sees: that a slow
/// reader does read, although room for more appears only now and then.
///
/// # Errors
/// When the connection has ended.
pub fn prepare(stream: &TcpStream, unread: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(unread))
}
