//! A header of the PROXY protocol means the same whatever follows it, and is none before it is whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::proxy_protocol::parse;

fuzz_target!(|input: &[u8]| {
    let Ok(Some(header)) = parse(input) else { return };
    assert!(header.length <= input.len());
    let followed = [&input[..header.length], b"GET / HTTP/1.1\r\n\r\n"].concat();
    assert_eq!(parse(&followed), Ok(Some(header)), "what follows is the client's");
    for end in 0..header.length {
        assert_eq!(parse(&input[..end]), Ok(None), "half a header is none");
    }
});
