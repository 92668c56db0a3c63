//! Ranks to p-values: the tails, the ranges, what ties mean, and the grid of thresholds that p-values can take.
//!
//! With M background values, c of them at least as large as x, the upper-tail p-value of x is (c + 1) / (M + 1)
//! (the paper, section 3.1). The lower tail counts those at most as large. The two-sided p-value is twice the smaller
//! of both, at most 1. Where background values equal x the p-value has a range, from (number larger) / (M + 1) up to
//! that value (McFowland et al. 2013), and [`Ties`] says which part of it counts.

use crate::error::Error;
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

/// Which part of its range a p-value takes where background values equal the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    /// The upper end: every tie counts as at least as extreme (the paper).
    #[default]
    Upper,
    /// The middle.
    Midrank,
    /// Any of the grid's points within, with the same chance.
    Random,
    /// All of it: a node counts with the share of its range that lies below alpha (McFowland et al. 2013).
    Range,
}

impl Named for Ties {
    const WHAT: &'static str = "treatment of ties";
    const ALL: &'static [(&'static str, Self)] =
        &[("upper", Ties::Upper), ("midrank", Ties::Midrank), ("random", Ties::Random), ("range", Ties::Range)];
}

impl Ties {
    /// Refuse ties that keep their range where each value needs one p-value.
    pub(crate) fn check_one_p_value(self) -> Result<(), Error> {
        if self == Ties::Range { Err(Error::Ranges) } else { Ok(()) }
    }
}

/// How values are turned into p-values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ranking {
    /// Which values are extreme.
    pub tail: Tail,
    /// What ties mean.
    pub ties: Ties,
    /// Seeds [`Ties::Random`]. The draws depend on it and on the image alone, not on the images beside it.
    pub seed: u64,
}

impl Ranking {
    /// So many background values that are more extreme put the beginning of a value's range beyond all of `n_bins` bins.
    pub(crate) fn depth_of_ranges(self, n_bins: usize) -> usize {
        let reach = if self.ties == Ties::Midrank { n_bins.div_ceil(2) } else { n_bins };
        if self.tail == Tail::TwoSided { reach.div_ceil(2) } else { reach }
    }
}

impl From<Tail> for Ranking {
    fn from(tail: Tail) -> Self {
        Ranking { tail, ..Ranking::default() }
    }
}

/// A p-value's range in steps of 1 / (M + 1): from `low`, exclusive, to `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GridRange {
    pub low: usize,
    pub high: usize,
}

impl GridRange {
    /// The range of a value that `larger` of `n_samples` background values exceed, `smaller` fall below and the
    /// others equal, in a grid of `n_steps`.
    pub fn new(tail: Tail, larger: usize, smaller: usize, n_samples: usize, n_steps: usize) -> Self {
        let upper = (larger, n_samples - smaller + 1);
        let lower = (smaller, n_samples - larger + 1);
        let (low, high) = match tail {
            Tail::Upper => upper,
            Tail::Lower => lower,
            Tail::TwoSided => (2 * upper.0.min(lower.0), (2 * upper.1.min(lower.1)).min(n_steps)),
        };
        GridRange { low, high }
    }

    /// The place of its middle in the grid of [`thresholds`], counted from 0.
    pub fn midrank(self) -> usize {
        self.low + self.high - 1
    }

    /// The share of the range up to `step`.
    pub fn overlap(self, step: usize) -> f64 {
        if step >= self.high { 1.0 } else { step.saturating_sub(self.low) as f64 / (self.high - self.low) as f64 }
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

/// The p-values up to `alpha_max` that ranks can lead to, in increasing order.
///
/// With [`Ties::Upper`] one entry a rank, beginning with rank 0; two-sided ranks beyond the middle all mean p = 1 and
/// share the last entry. With the others every step of 1 / (M + 1), or of half of that for [`Ties::Midrank`].
///
/// # Panics
///
/// If `n_samples` is above [`MOST_SAMPLES`] or so many numbers do not fit in memory: see [`n_thresholds`].
#[must_use]
pub fn thresholds(ranking: Ranking, n_samples: usize, alpha_max: AlphaMax) -> Vec<f64> {
    let Ranking { tail, ties, .. } = ranking;
    let n_steps = n_samples + 1;
    let fine = |parts: usize| (1..=parts * n_steps).map(move |step| step as f64 / (parts * n_steps) as f64);
    let small = |p: &f64| *p <= alpha_max.get();
    let mut grid: Vec<f64> = match ties {
        Ties::Upper => (0..=n_samples).map(|rank| tail.p_value(rank, n_samples)).take_while(small).collect(),
        Ties::Midrank => fine(2).take_while(small).collect(),
        Ties::Random | Ties::Range => fine(1).take_while(small).collect(),
    };
    grid.dedup();
    grid
}

/// The largest number of background images: with more, two thresholds could be the same float.
pub const MOST_SAMPLES: usize = (1 << 52) - 1;

/// How many [`thresholds`] there are, without making them.
///
/// # Errors
///
/// If `n_samples` is above [`MOST_SAMPLES`].
pub fn n_thresholds(ranking: Ranking, n_samples: usize, alpha_max: AlphaMax) -> Result<usize, Error> {
    check_n_samples(n_samples)?;
    let Ranking { tail, ties, .. } = ranking;
    let n_steps = if ties == Ties::Midrank { 2 * (n_samples + 1) } else { n_samples + 1 };
    let p_value = |n: usize| match ties {
        Ties::Upper => tail.p_value(n, n_samples),
        Ties::Midrank | Ties::Random | Ties::Range => (n + 1) as f64 / n_steps as f64,
    };
    // p-values grow with n, each another below 1; 1 itself may come several times, and counts once.
    let (mut n_below, mut end) = (0, n_steps);
    while n_below < end {
        let middle = usize::midpoint(n_below, end);
        let p = p_value(middle);
        if p < 1.0 && p <= alpha_max.get() { n_below = middle + 1 } else { end = middle }
    }
    Ok(n_below + usize::from(alpha_max.get() >= 1.0))
}

/// Refuse more background images than can be ranked.
pub(crate) fn check_n_samples(n_samples: usize) -> Result<(), Error> {
    let (most, received) = (MOST_SAMPLES, n_samples);
    if received <= most { Ok(()) } else { Err(Error::Samples { most, received }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn thresholds_are_counted_without_making_them(
            (n_samples, rank) in prop_oneof![0_usize..40, 0_usize..3000].prop_flat_map(|m| (Just(m), 0..=2 * m + 1)),
            anything in 0.0..=1.0,
        ) {
            let on_the_grid = [1, 2].map(|parts| (rank + 1) as f64 / (parts * (n_samples + 1)) as f64);
            let near = on_the_grid.iter().flat_map(|p| [p.next_down(), *p, p.next_up()]);
            for alpha_max in near.chain([anything, 1.0, 5e-324]).filter_map(|p| AlphaMax::try_from(p).ok()) {
                for (_, tail) in Tail::ALL {
                    for (_, ties) in Ties::ALL {
                        let ranking = Ranking { tail: *tail, ties: *ties, seed: 0 };
                        let expected = thresholds(ranking, n_samples, alpha_max).len();
                        prop_assert_eq!(n_thresholds(ranking, n_samples, alpha_max), Ok(expected));
                    }
                }
            }
        }
    }

    #[test]
    fn many_thresholds_are_counted_at_once() {
        let count = |ties, n_samples| n_thresholds(Ranking { ties, ..Ranking::default() }, n_samples, AlphaMax(0.5));
        assert_eq!(count(Ties::Upper, MOST_SAMPLES), Ok(1 << 51));
        assert_eq!(count(Ties::Midrank, MOST_SAMPLES), Ok(1 << 52));
        for n_samples in [MOST_SAMPLES + 1, 1 << 63, usize::MAX] {
            let error = Error::Samples { most: MOST_SAMPLES, received: n_samples };
            assert_eq!(count(Ties::Upper, n_samples), Err(error));
        }
    }

    #[test]
    fn alpha_max_is_checked() {
        for bad in [0.0, -0.1, 1.0 + 1e-15, f64::NAN, f64::INFINITY] {
            assert!(AlphaMax::try_from(bad).is_err(), "{bad}");
        }
        assert!(AlphaMax::try_from(1.0).is_ok());
    }

    #[test]
    fn thresholds_end_at_alpha_max() {
        let grid =
            |tail: Tail, m, alpha_max| thresholds(tail.into(), m, AlphaMax::try_from(alpha_max).expect("in range"));
        assert_eq!(grid(Tail::Upper, 3, 0.5), [0.25, 0.5]);
        assert_eq!(grid(Tail::Upper, 3, 0.499), [0.25]);
        assert_eq!(grid(Tail::Lower, 3, 1.0), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(grid(Tail::TwoSided, 4, 1.0), [0.4, 0.8, 1.0]);
        assert_eq!(grid(Tail::TwoSided, 3, 1.0), [0.5, 1.0]);
        assert_eq!(grid(Tail::Upper, 3, 0.2), [0.0; 0]);
        assert_eq!(grid(Tail::Upper, 0, 1.0), [1.0]);
    }

    #[test]
    fn ties_refine_the_grid() {
        let grid = |tail, ties| thresholds(Ranking { tail, ties, seed: 0 }, 3, AlphaMax::default());
        assert_eq!(grid(Tail::Upper, Ties::Midrank), [0.125, 0.25, 0.375, 0.5]);
        assert_eq!(grid(Tail::TwoSided, Ties::Upper), [0.5]);
        assert_eq!(grid(Tail::TwoSided, Ties::Range), [0.25, 0.5]);
    }

    #[test]
    fn ranges_overlap_with_thresholds() {
        let zero = GridRange::new(Tail::Lower, 3, 0, 7, 8); // four of seven tie
        assert_eq!(zero, GridRange { low: 0, high: 5 });
        assert_eq!([0, 1, 5, 7].map(|step| zero.overlap(step)), [0.0, 0.2, 1.0, 1.0]);
        assert_eq!(GridRange::new(Tail::Upper, 3, 0, 7, 8), GridRange { low: 3, high: 8 });
        assert_eq!(GridRange::new(Tail::TwoSided, 3, 0, 7, 8), GridRange { low: 0, high: 8 });
    }
}
