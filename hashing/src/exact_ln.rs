//! A natural logarithm that is the same on every machine.
//!
//! The platform's `ln` may differ in its last bit between libraries, and a last bit decides who owns a
//! slot when two scores almost tie. This one uses only IEEE 754 addition, multiplication and division,
//! which are exact to the bit everywhere. Rejected: fixed-point integers (slower, and no more exact), and
//! comparing hashes without a logarithm, which is possible at equal weights only.

/// 2·(s + s³/3 + s⁵/5 + …) = ln((1 + s)/(1 − s)); |s| ≤ 3 − 2√2, so that the last term kept is below 2⁻⁵³.
const TERMS: [f64; 12] = [
    1.0 / 23.0,
    1.0 / 21.0,
    1.0 / 19.0,
    1.0 / 17.0,
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
    1.0,
];

/// `-ln(u)` for the number `u` in (0, 1) whose binary digits are the top 52 bits of `hash`, and a last 1.
///
/// For uniform hashes this is exponentially distributed, and always positive and finite.
#[inline]
pub(crate) fn neg_ln(hash: u64) -> f64 {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    let unit_interval = ((hash >> 12 << 1) | 1) as f64 * UNIT;
    let bits = unit_interval.to_bits();
    // A normal number between 2⁻⁵³ and 1: its exponent field is between 970 and 1022.
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = TERMS.iter().fold(0.0, |sum, term| sum * square + term);
    -(f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_platform_to_the_last_bits() {
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..100_000 {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit_interval = ((hash >> 12 << 1) | 1) as f64 / (1_u64 << 53) as f64;
            let (ours, theirs) = (neg_ln(hash), -unit_interval.ln());
            assert!((ours - theirs).abs() <= 4.0 * f64::EPSILON * theirs.max(0.5), "{ours} {theirs}");
        }
    }

    #[test]
    fn the_ends_are_positive_and_finite() {
        assert_eq!(neg_ln(u64::MAX), 1.0 / (1_u64 << 53) as f64);
        assert!((neg_ln(0) - 53.0 * std::f64::consts::LN_2).abs() < 1e-12);
    }
}
