//! `traceparent` (W3C Trace Context, level 1): where a request belongs, as it came and as it goes on.

/// Bytes of one in the version that there is.
pub(super) const LENGTH: usize = 55;

/// Whether a trace is recorded.
pub(super) const SAMPLED: u8 = 1;

/// The span that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    /// Never all zero.
    pub(super) trace: [u8; 16],
    /// Never all zero.
    pub(super) span: [u8; 8],
    /// As they came.
    pub(super) flags: u8,
}

impl Parent {
    /// Section 3.2: what cannot be read is as if it were not there; a version that is not known yet is read as far as
    /// this one goes.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let version = byte(&known[..2])?;
        let goes_on = version > 0 && rest.first() == Some(&b'-');
        if version == 0xff || !(rest.is_empty() || goes_on) || [2, 35, 52].iter().any(|&at| known[at] != b'-')
        {
            return None;
        }
        let parent =
            Self { trace: bytes(&known[3..35])?, span: bytes(&known[36..52])?, flags: byte(&known[53..])? };
        (parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
    }

    /// Whether whoever began the trace wants it recorded.
    pub(super) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As it is written; recorded, since it is ours.
    pub(super) fn written(&self) -> [u8; LENGTH] {
        let mut text = [b'-'; LENGTH];
        text[..2].copy_from_slice(b"00");
        write(&mut text[3..35], &self.trace);
        write(&mut text[36..52], &self.span);
        // Of other bits this version does not say what they mean (section 3.2.2.5).
        write(&mut text[53..], &[SAMPLED]);
        text
    }
}

/// Two digits; lower case, as section 3.2 wants them.
fn byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    Some(digit(text[0])? << 4 | digit(text[1])?)
}

fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (into, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *into = byte(pair)?;
    }
    Some(bytes)
}

fn write(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification() {
        let parent = Parent::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(parent.trace[..3], [0x0a, 0xf7, 0x65]);
        assert_eq!((parent.span[7], parent.is_sampled()), (0x31, true));
        assert_eq!(parent.written(), EXAMPLE.as_bytes());
        let unsampled = EXAMPLE.replace("-01", "-00");
        assert!(!Parent::parse(unsampled.as_bytes()).unwrap().is_sampled());
        assert_eq!(
            Parent::parse(unsampled.as_bytes()).unwrap().written(),
            EXAMPLE.as_bytes(),
            "it is ours now"
        );
    }

    #[test]
    fn what_is_none_is_as_if_it_were_not_there() {
        for (from, to) in [
            ("00-0af", "ff-0af"),
            ("00-0af", "00_0af"),
            ("0af7", "0AF7"),
            ("0af7", "0xf7"),
            ("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            ("b7ad6b7169203331", "0000000000000000"),
            ("-01", ""),
            ("-01", "-0"),
            ("-01", "-01-more"),
            ("-01", "-011"),
        ] {
            let broken = EXAMPLE.replacen(from, to, 1);
            assert_eq!(Parent::parse(broken.as_bytes()), None, "{broken}");
        }
        let later = EXAMPLE.replacen("00-", "01-", 1);
        assert!(Parent::parse(format!("{later}-what.comes").as_bytes()).is_some(), "a later version goes on");
        assert!(Parent::parse(format!("{later}what").as_bytes()).is_none());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(trace: [u8; 16], span: [u8; 8], flags: u8, noise in "\\PC{0,60}") {
            let parent = Parent { trace, span, flags };
            let valid = trace != [0; 16] && span != [0; 8];
            let ours = Parent { flags: SAMPLED, ..parent };
            proptest::prop_assert_eq!(Parent::parse(&parent.written()), valid.then_some(ours));
            Parent::parse(noise.as_bytes());
        }
    }
}
