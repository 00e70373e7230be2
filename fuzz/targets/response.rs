//! An answer's head means the same whatever follows it, and nothing before it is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::wire::fields::room;
use slipring_balancer::proxy::wire::response::Response;

/// Everything that it was understood as, and its length.
fn understood(input: &[u8], to_head: bool) -> Option<(String, usize)> {
    let mut storage = room();
    let (response, length) = Response::parse(input, &mut storage, to_head).ok()??;
    assert!(length <= input.len());
    Some((format!("{response:?} {}", response.keeps_alive()), length))
}

fuzz_target!(|input: &[u8]| {
    for to_head in [false, true] {
        let Some((meaning, length)) = understood(input, to_head) else { continue };
        let followed = [&input[..length], b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(
            understood(&followed, to_head),
            Some((meaning, length)),
            "what follows is another message's"
        );
        for end in 0..length {
            assert_eq!(understood(&input[..end], to_head), None, "half a head is none");
        }
    }
});
