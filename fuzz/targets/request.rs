//! A request's head means the same whatever follows it, and nothing before it is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::wire::fields::room;
use slipring_balancer::proxy::wire::request::Request;

/// Everything that it was understood as, and its length.
fn understood(input: &[u8]) -> Option<(String, usize)> {
    let mut storage = room();
    let (request, length) = Request::parse(input, &mut storage).ok()??;
    assert!(length <= input.len());
    Some((format!("{request:?} {:?} {}", request.host(), request.keeps_alive()), length))
}

fuzz_target!(|input: &[u8]| {
    let Some((meaning, length)) = understood(input) else { return };
    assert_eq!(
        understood(&input[..length]),
        Some((meaning.clone(), length)),
        "what follows is another message's"
    );
    let followed = [&input[..length], b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    assert_eq!(understood(&followed), Some((meaning, length)), "and so is any other");
    for end in 0..length {
        assert_eq!(understood(&input[..end]), None, "half a head is none");
    }
});
