//! Paths that two readers could take for different places.

/// Whether `path` has a segment `.` or `..`, in whatever writing a server behind here might read as one: encoded
/// (`%2e`), between backslashes or encoded slashes, with a parameter (`..;a`, which some servers cut off first).
///
/// A prefix means nothing on such a path: `/api/../x` is below `/api` for one reader and `/x` for the next.
/// Resolving it here and forwarding the bytes would let in what only we read that way; resolving it for the replica
/// would change what was asked for.
pub fn has_dot_segments(path: &str) -> bool {
    let mut rest = path.as_bytes();
    let mut segment = Segment::Dots(0);
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', &rest[1..]),
            },
            _ => (*first, behind),
        };
        rest = behind;
        segment = match (byte, segment) {
            (b'/' | b'\\', segment) if segment.is_dots() => return true,
            (b'/' | b'\\', _) => Segment::Dots(0),
            (b';', Segment::Dots(dots)) => Segment::Parameter(dots),
            (b'.', Segment::Dots(dots)) => Segment::Dots(dots + 1),
            (_, parameter @ Segment::Parameter(_)) => parameter,
            _ => Segment::Name,
        };
    }
    segment.is_dots()
}

#[derive(Clone, Copy)]
enum Segment {
    /// So many dots and nothing else yet.
    Dots(usize),
    /// A parameter behind so many dots.
    Parameter(usize),
    /// Anything else.
    Name,
}

impl Segment {
    fn is_dots(self) -> bool {
        matches!(self, Self::Dots(1 | 2) | Self::Parameter(1 | 2))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_in_every_writing() {
        for path in [
            "/..",
            "/.",
            "/./a",
            "/api/../x",
            "/api/..",
            "/api/%2e%2E/x",
            "/api/.%2e",
            "/api%2f..%2Fx",
            "/api\\..\\x",
            "/api/%5c../x",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/.;x",
            "..",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "/",
            "*",
            "",
            "/a.b",
            "/...",
            "/..a",
            "/a..",
            "/.well-known/x",
            "/%2",
            "/%zz/..a",
            "/a;../b",
            "//",
            "/a%2eb",
            "/%252e%252e/",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whoever_resolves_dots_stays_below_the_prefix(path in "(/|%2[eEfF]|%5c|\\.|;|a|\\\\){0,12}") {
            let path = format!("/api/{path}");
            if !has_dot_segments(&path) {
                // As a server that decodes first and resolves then.
                let mut decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
                decoded = decoded.replace("%5c", "/").replace('\\', "/");
                let mut resolved: Vec<&str> = Vec::new();
                for segment in decoded.split('/') {
                    match segment.split(';').next().unwrap_or_default() {
                        ".." => drop(resolved.pop()),
                        "." => {}
                        _ => resolved.push(segment),
                    }
                }
                proptest::prop_assert!(resolved.join("/").starts_with("/api"), "{path}: {resolved:?}");
            }
        }
    }
}
