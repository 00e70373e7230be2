//! Where in a block something of interest stands: a bit for each of 64 bytes.
//!
//! Sixteen bytes at a time, which every processor that matters can do without asking which one it is: wider registers
//! would need `unsafe` to call what only some of them have, and reading the file costs more than this does.

use wide::u8x16;

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// Of a block: where lines end, and where a tag may begin.
///
/// Each `[` of a tag is among the candidates; not each candidate begins a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masks {
    pub(super) newlines: u64,
    pub(super) candidates: u64,
}

#[inline(always)]
pub(super) fn masks(block: &[u8; BLOCK]) -> Masks {
    let (newline, bracket) = (u8x16::splat(b'\n'), u8x16::splat(b'['));
    let (mut newlines, mut brackets, mut letters) = (0_u64, 0_u64, 0_u64);
    for (quarter, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u8x16::new(*bytes);
        let mask = |bytes: u8x16| u64::from(bytes.to_bitmask()) << (quarter * 16);
        newlines |= mask(bytes.simd_eq(newline));
        brackets |= mask(bytes.simd_eq(bracket));
        // The bit that letters have and digits have not, moved to where the mask is taken from.
        letters |= mask(bytes + bytes);
    }
    // What follows the last byte is not known here.
    Masks { newlines, candidates: brackets & (letters >> 1 | 1 << 63) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK, masks};

    proptest! {
        #[test]
        fn each_end_of_a_line_and_each_tag_is_named(
            block in prop::array::uniform32(prop::sample::select(b"\n\n[[IWED2 \x00\x0b\x5a\x5c\xff\x8a\xdb".to_vec())),
            noise in prop::array::uniform32(any::<u8>()),
        ) {
            let block: [u8; BLOCK] = std::array::from_fn(|at| if at % 2 == 0 { block[at / 2] } else { noise[at / 2] });
            let found = masks(&block);
            for (at, &byte) in block.iter().enumerate() {
                let bit = |mask: u64| mask >> at & 1 == 1;
                prop_assert_eq!(bit(found.newlines), byte == b'\n');
                let tag = byte == b'[' && block.get(at + 1).is_none_or(|next| b"IWED".contains(next));
                prop_assert!(!tag || bit(found.candidates));
                prop_assert!(!bit(found.candidates) || byte == b'[');
            }
        }
    }
}
