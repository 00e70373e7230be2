//! The data plane: a request comes in, its key finds a slot, the slot's first living replica answers it.
//!
//! [`front`] binds the port and starts the threads, [`worker`] is one of them, [`serve`] one client's connection on
//! it; [`forward`] decides who is asked, [`exchange`] carries one request over one connection. [`wire`] is HTTP/1
//! as bytes. It sees one [`crate::snapshot::Snapshot`] per offer and reports back only one thing: a connection
//! refused.

pub mod access_log;
mod again;
pub mod budget;
pub mod buffer;
pub mod calm;
pub mod client;
pub mod clients;
pub mod connection;
pub mod ejection;
pub mod error;
pub mod exchange;
mod farewell;
pub mod forward;
pub mod front;
pub mod http2;
pub mod key;
pub mod pool;
pub mod pools;
pub mod proxy_protocol;
pub mod route;
pub mod serve;
pub mod stream;
pub mod tls;
pub mod trace;
pub mod transport;
pub mod tunnel;
pub mod upstream;
pub mod upstream_tls;
pub mod watch;
pub mod whose;
pub mod wire;
pub mod worker;
