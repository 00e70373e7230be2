//! `grpc-timeout` is at most eight digits and a unit, and means what a simpler reader of the same words says.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::http2::grpc::deadline;

/// Nanoseconds, digit by digit.
fn nanoseconds(text: &[u8]) -> Option<u128> {
    let (unit, digits) = text.split_last()?;
    let factor = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1000,
        b'n' => 1,
        _ => return None,
    };
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u128::from(byte - b'0'));
    let count = digits.iter().map(digit).try_fold(0, |count, digit| Some(count * 10 + digit?))?;
    Some(count * factor)
}

fuzz_target!(|input: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]);
    assert_eq!(deadline(&headers).map(|timeout: Duration| timeout.as_nanos()), nanoseconds(input));
});
