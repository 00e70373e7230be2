//! Load: requests sent on a schedule ([`open`]) or as fast as they are answered ([`closed`]).
//!
//! Neither mode knows HTTP: both take a function that sends one request, so the tests run them on a
//! paused clock, and another protocol can be driven with the same schedule. [`client`] is that function
//! for HTTP.

pub mod client;
pub mod closed;
pub mod open;
pub mod pace;

#[cfg(test)]
mod tests;
