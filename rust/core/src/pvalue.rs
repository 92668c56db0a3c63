//! Ranks to p-values: the tails, the ranges, and the grid of thresholds that p-values can take.
//!
//! With M background values, c of them at least as large as x, the upper-tail p-value of x is (c + 1) / (M + 1)
//! (the paper, section 3.1). The lower tail counts those at most as large. The two-sided p-value is twice the smaller
//! of both, at most 1.

use crate::Error;
use crate::name::Named;

/// Which values are extreme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// Large values.
    #[default]
    Upper,
    /// Small values.
    Lower,
    /// Both.
    TwoSided,
}

impl Named for Tail {
    const WHAT: &'static str = "tail";
    const ALL: &'static [(&'static str, Self)] =
        &[("upper", Tail::Upper), ("lower", Tail::Lower), ("two-sided", Tail::TwoSided)];
}

impl Tail {
    /// The p-value of rank `rank` (the number of background values at least as extreme) among `n_samples` values.
    #[must_use]
    pub fn p_value(self, rank: usize, n_samples: usize) -> f64 {
        let one_sided = (rank + 1) as f64 / (n_samples + 1) as f64;
        self.both_sides(one_sided)
    }

    /// The lower end of the p-value's range: as if every tied background value were less extreme.
    #[must_use]
    pub fn p_min(self, n_more_extreme: usize, n_samples: usize) -> f64 {
        let one_sided = n_more_extreme as f64 / (n_samples + 1) as f64;
        self.both_sides(one_sided)
    }

    fn both_sides(self, one_sided: f64) -> f64 {
        match self {
            Tail::Upper | Tail::Lower => one_sided,
            Tail::TwoSided => (2.0 * one_sided).min(1.0),
        }
    }

    pub(crate) fn looks_up(self) -> bool {
        self != Tail::Lower
    }

    pub(crate) fn looks_down(self) -> bool {
        self != Tail::Upper
    }
}

/// The largest threshold that a scan may choose: a number in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct AlphaMax(f64);

impl AlphaMax {
    /// The threshold itself.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for AlphaMax {
    /// 0.5, as in the paper (figure 2).
    fn default() -> Self {
        AlphaMax(0.5)
    }
}

impl TryFrom<f64> for AlphaMax {
    type Error = Error;

    fn try_from(value: f64) -> Result<Self, Error> {
        if value > 0.0 && value <= 1.0 { Ok(AlphaMax(value)) } else { Err(Error::AlphaMax(value)) }
    }
}

/// The p-values up to `alpha_max` that ranks can lead to, in increasing order: one entry a rank, beginning with rank 0.
///
/// Two-sided ranks beyond the middle all mean p = 1; they share the last entry.
#[must_use]
pub fn thresholds(tail: Tail, n_samples: usize, alpha_max: AlphaMax) -> Vec<f64> {
    let mut grid: Vec<f64> =
        (0..=n_samples).map(|rank| tail.p_value(rank, n_samples)).take_while(|p| *p <= alpha_max.get()).collect();
    grid.dedup();
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_max_is_checked() {
        for bad in [0.0, -0.1, 1.0 + 1e-15, f64::NAN, f64::INFINITY] {
            assert!(AlphaMax::try_from(bad).is_err(), "{bad}");
        }
        assert!(AlphaMax::try_from(1.0).is_ok());
    }

    #[test]
    fn thresholds_end_at_alpha_max() {
        let grid = |tail, m, alpha_max| thresholds(tail, m, AlphaMax::try_from(alpha_max).expect("in range"));
        assert_eq!(grid(Tail::Upper, 3, 0.5), [0.25, 0.5]);
        assert_eq!(grid(Tail::Upper, 3, 0.499), [0.25]);
        assert_eq!(grid(Tail::Lower, 3, 1.0), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(grid(Tail::TwoSided, 4, 1.0), [0.4, 0.8, 1.0]);
        assert_eq!(grid(Tail::TwoSided, 3, 1.0), [0.5, 1.0]);
        assert_eq!(grid(Tail::Upper, 3, 0.2), [0.0; 0]);
        assert_eq!(grid(Tail::Upper, 0, 1.0), [1.0]);
    }
}
