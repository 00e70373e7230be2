//! Units, live: real sockets, real frames, one process.

mod cluster;
mod hostile;
mod moves;
mod waves;
