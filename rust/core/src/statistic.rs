//! The scan statistics: what a share of small p-values is worth. All that one of them needs stands in this file.
//!
//! Another one is a variant with its source, its name, its formula, how far rounding may take it, and lines of the table
//! that the test at the end checks. Where it has no short cut, the last two functions need nothing.

use crate::name::Named;

/// A non-parametric scan statistic phi(alpha, `n_alpha`, n) (the paper, section 3.1 and table 3).
///
/// `n_alpha` of n p-values are at most alpha, where n alpha are expected. Every statistic is 0 where there are
/// no more than that, grows with `n_alpha` and falls with alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statistic {
    /// n KL(`n_alpha` / n, alpha), KL(x, y) = x ln(x / y) + (1 - x) ln((1 - x) / (1 - y)) (Berk and Jones 1979).
    #[default]
    BerkJones,
    /// (`n_alpha` - n alpha) / sqrt(n alpha (1 - alpha)) (Donoho and Jin 2004).
    HigherCriticism,
    /// (`n_alpha` - n alpha) / sqrt(n) (Kolmogorov 1933, as McFowland et al. 2013 scale it).
    KolmogorovSmirnov,
}

impl Named for Statistic {
    const WHAT: &'static str = "statistic";
    const ALL: &'static [(&'static str, Self)] = &[
        ("berk-jones", Statistic::BerkJones),
        ("higher-criticism", Statistic::HigherCriticism),
        ("kolmogorov-smirnov", Statistic::KolmogorovSmirnov),
    ];
}

impl Statistic {
    /// The score of n p-values of which `n_alpha` are at most alpha.
    #[must_use]
    pub fn phi(self, alpha: f64, n_alpha: u64, n: u64) -> f64 {
        self.phi_of_shares(alpha, n_alpha as f64, n as f64)
    }

    /// The same where a p-value may count in part.
    #[must_use]
    pub fn phi_of_shares(self, alpha: f64, n_alpha: f64, n: f64) -> f64 {
        let excess = n_alpha - n * alpha;
        if excess <= 0.0 {
            return 0.0; // also keeps alpha = 1 away from the divisions below
        }
        match self {
            Statistic::BerkJones => (n * kullback_leibler(n_alpha / n, alpha)).max(0.0),
            Statistic::HigherCriticism => excess / (n * alpha * (1.0 - alpha)).sqrt(),
            Statistic::KolmogorovSmirnov => excess / n.sqrt(),
        }
    }

    /// A little more than a score of at most n p-values, so that no score it should bound exceeds it by rounding.
    ///
    /// Berk-Jones' two terms cancel where the excess is small: its error is relative to n then, not to the score.
    pub(crate) fn bound(self, score: f64, n: usize) -> f64 {
        match self {
            Statistic::BerkJones => score * (1.0 + 1e-12) + n as f64 * 1e-12,
            Statistic::HigherCriticism | Statistic::KolmogorovSmirnov => score * (1.0 + 1e-12),
        }
    }

    /// The score of one p-value that is alpha, if the score of k of them is k times that, to the bit.
    ///
    /// A short cut: a table of these spares a logarithm for each subset.
    pub(crate) fn score_of_one(self, alpha: f64) -> Option<f64> {
        (self == Statistic::BerkJones).then(|| self.phi(alpha, 1, 1))
    }

    /// Whether the score is certainly below `floor`; false where only the score itself tells.
    ///
    /// A short cut: most subsets are far from the best, and no logarithm is needed to see that.
    pub(crate) fn is_below(self, floor: f64, alpha: f64, n_alpha: u64, n: u64) -> bool {
        self == Statistic::BerkJones && berk_jones_is_below(floor, alpha, n_alpha as f64, n as f64)
    }
}

/// Two upper bounds of the Berk-Jones score, each compared with `floor`.
fn berk_jones_is_below(floor: f64, alpha: f64, n_alpha: f64, n: f64) -> bool {
    let rounding = n * 1e-12; // what it may take, besides a share of the score
    // Divergence is no more than the square of Higher Criticism.
    let (excess, variance) = (n_alpha - n * alpha, n * alpha * (1.0 - alpha));
    if excess * excess * (1.0 + 1e-9) < (floor - rounding) * variance {
        return true;
    }
    let (more, less) = (n_alpha / (n * alpha), (n - n_alpha) / (n * (1.0 - alpha)));
    if more <= 1.0 {
        return floor > 0.0;
    }
    // ln y <= (y - 1)(y + 5) / (4y + 2) for y >= 1, and ln y <= 2 (y - 1) / (y + 1) for y <= 1: Pade approximants.
    let ones = n_alpha * (more - 1.0) * (more + 5.0) / (4.0 * more + 2.0);
    let others = (n - n_alpha) * 2.0 * (less - 1.0) / (less + 1.0);
    (ones + others) * (1.0 + 1e-9) + rounding < floor
}

/// The divergence of a Bernoulli(y) from a Bernoulli(x), 0 < x <= 1, 0 < y < 1, in nats.
fn kullback_leibler(x: f64, y: f64) -> f64 {
    let ones = x * ln_ratio(x, y);
    if x < 1.0 { ones + (1.0 - x) * ln_ratio(1.0 - x, 1.0 - y) } else { ones }
}

/// ln (x / y) of positive numbers, also where the ratio itself is beyond all floats, as 1 / 1e-310 is.
pub(crate) fn ln_ratio(x: f64, y: f64) -> f64 {
    let ratio = x / y;
    if ratio.is_finite() { ratio.ln() } else { x.ln() - y.ln() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Worked out by hand: alpha, `n_alpha`, n and the score.
    fn table(statistic: Statistic) -> [(f64, u64, u64, f64); 2] {
        let (all, some) = match statistic {
            Statistic::BerkJones => (4.0 * 4.0_f64.ln(), 4.0 * (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln())),
            Statistic::HigherCriticism => (3.0 / 0.75_f64.sqrt(), 1.0),
            Statistic::KolmogorovSmirnov => (1.5, 0.5),
        };
        [(0.25, 4, 4, all), (0.5, 3, 4, some)]
    }

    #[test]
    fn values_worked_out_by_hand() {
        for (name, statistic) in Statistic::ALL {
            for (alpha, n_alpha, n, expected) in table(*statistic) {
                assert_eq!(statistic.phi(alpha, n_alpha, n), expected, "{name} {alpha} {n_alpha} {n}");
            }
        }
    }

    proptest! {
        /// What the scans rely on, of every statistic.
        #[test]
        fn scores_fall_with_alpha_and_grow_with_the_small_p_values(
            (_, statistic) in select(Statistic::ALL),
            (alpha, larger) in (1e-6..1.0, 0.0..1.0),
            (n_alpha, others, more) in (0_u64..2000, 0_u64..2000, 0_u64..50),
        ) {
            let n = n_alpha + others;
            let bound = |score| statistic.bound(score, usize::try_from(n + more).unwrap());
            let score = statistic.phi(alpha, n_alpha, n);
            prop_assert!(statistic.phi(alpha + larger * (1.0 - alpha), n_alpha, n) <= bound(score));
            prop_assert!(score <= bound(statistic.phi(alpha, n_alpha + more.min(others), n)));
            prop_assert!(statistic.phi(alpha, n_alpha, n_alpha) <= bound(statistic.phi(alpha, n_alpha + more, n_alpha + more)));
            prop_assert!(!statistic.is_below(score, alpha, n_alpha, n));
            if let Some(of_one) = statistic.score_of_one(alpha) {
                prop_assert_eq!(n_alpha as f64 * of_one, statistic.phi(alpha, n_alpha, n_alpha));
            }
        }

        /// Members of a side with equal counts come all or not at all.
        #[test]
        fn between_two_sizes_no_score_exceeds_both(
            (_, statistic) in select(Statistic::ALL),
            alpha in 1e-6..1.0,
            (n_alpha, others) in (0_u64..200, 0_u64..200),
            (small, large, sizes) in (0_u64..20, 0_u64..20, prop::array::uniform3(0_u64..40)),
        ) {
            let mut sizes = sizes;
            sizes.sort_unstable();
            let n = |size: u64| n_alpha + others + size * (small + large);
            let [least, between, most] = sizes.map(|size| statistic.phi(alpha, n_alpha + size * small, n(size)));
            prop_assert!(between <= statistic.bound(least.max(most), usize::try_from(n(sizes[2])).unwrap()));
        }
    }

    #[test]
    fn no_p_value_is_too_small() {
        let subnormal = f64::from_bits; // in steps of 2^-1074
        for (alpha, exponent) in [(subnormal(1), 1074.0), (subnormal(1 << 34), 1040.0), (f64::MIN_POSITIVE, 1022.0)] {
            let expected = 3.0 * exponent * std::f64::consts::LN_2;
            assert!((Statistic::BerkJones.phi(alpha, 3, 3) / expected - 1.0).abs() < 1e-15, "{alpha}");
            let expected = 4.0 * (0.75 * (exponent * std::f64::consts::LN_2 + 0.75_f64.ln()) + 0.25 * 0.25_f64.ln());
            assert!((Statistic::BerkJones.phi(alpha, 3, 4) / expected - 1.0).abs() < 1e-14, "{alpha}");
            assert_eq!(Statistic::HigherCriticism.phi(alpha, 4, 4), 2.0 / alpha.sqrt());
            assert_eq!(Statistic::KolmogorovSmirnov.phi(alpha, 4, 4), 2.0);
        }
        assert_eq!(Statistic::BerkJones.phi(1e-310, 1, 1), -(1e-310_f64.ln()));
    }

    #[test]
    fn nothing_unexpected_scores_nothing() {
        for (_, statistic) in Statistic::ALL {
            for (alpha, n_alpha, n) in [(0.5, 2, 4), (0.5, 1, 4), (1.0, 4, 4), (0.3, 0, 4), (0.3, 0, 0)] {
                assert_eq!(statistic.phi(alpha, n_alpha, n), 0.0, "{statistic:?} {alpha} {n_alpha} {n}");
            }
        }
    }
}
