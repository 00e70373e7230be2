//! A chunked body has the same data and the same end however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_balancer::proxy::wire::chunked::{Decoder, Piece};

const ROOM: usize = 8192;

/// Its data, and where it ends, if it does; `Err` once it is no chunked body. Pieces of `step` bytes arrive.
fn read(input: &[u8], step: usize) -> Result<(Vec<u8>, Option<usize>), ()> {
    let (mut decoder, mut data, mut used, mut arrived) = (Decoder::default(), Vec::new(), 0, 0);
    loop {
        match decoder.next(&input[used..arrived], ROOM).map_err(drop)? {
            Piece::End { skip, end } => {
                assert!(skip <= end && used + end <= arrived && decoder.is_done());
                return Ok((data, Some(used + end)));
            }
            Piece::Data { skip, len } => {
                assert!(used + skip + len <= arrived);
                data.extend_from_slice(&input[used + skip..used + skip + len]);
                used += skip + len;
                if skip + len == 0 || used == arrived {
                    if arrived == input.len() {
                        return Ok((data, None));
                    }
                    arrived = input.len().min(arrived + step);
                }
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let whole = read(input, input.len().max(1));
    for step in [1, 2, 3, 7] {
        assert_eq!(read(input, step), whole, "in pieces of {step}");
    }
});
