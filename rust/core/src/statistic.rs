//! The scan statistics: what a share of small p-values is worth.

use crate::name::Named;

/// A non-parametric scan statistic phi(alpha, `n_alpha`, n) (the paper, section 3.1 and table 3).
///
/// `n_alpha` of n p-values are at most alpha, where n alpha were to be expected. Every statistic is 0 where no more
/// than that are, grows with `n_alpha` and falls with alpha.
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

    /// A little more than a score of at most n p-values, so that no score it should bound exceeds it by rounding.
    ///
    /// Berk-Jones' two terms cancel where the excess is small: its error is relative to n then, not to the score.
    pub(crate) fn bound(self, score: f64, n: usize) -> f64 {
        match self {
            Statistic::BerkJones => score * (1.0 + 1e-12) + n as f64 * 1e-12,
            Statistic::HigherCriticism | Statistic::KolmogorovSmirnov => score * (1.0 + 1e-12),
        }
    }

    /// The same where a p-value may count in part.
    pub(crate) fn phi_of_shares(self, alpha: f64, n_alpha: f64, n: f64) -> f64 {
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
    use super::*;

    #[test]
    fn values_worked_out_by_hand() {
        // 4 p-values of 4 are at most 1/4.
        assert_eq!(Statistic::BerkJones.phi(0.25, 4, 4), 4.0 * 4.0_f64.ln());
        assert_eq!(Statistic::HigherCriticism.phi(0.25, 4, 4), 3.0 / 0.75_f64.sqrt());
        assert_eq!(Statistic::KolmogorovSmirnov.phi(0.25, 4, 4), 1.5);
        // 3 of 4 are at most 1/2.
        let expected = 4.0 * (0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln());
        assert_eq!(Statistic::BerkJones.phi(0.5, 3, 4), expected);
        assert_eq!(Statistic::HigherCriticism.phi(0.5, 3, 4), 1.0);
        assert_eq!(Statistic::KolmogorovSmirnov.phi(0.5, 3, 4), 0.5);
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
