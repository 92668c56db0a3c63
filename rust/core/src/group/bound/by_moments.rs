//! What no block exceeds, given which small p-values the images share in pairs and in threes as well.
//!
//! The work grows with the third power of the shorter side: for a longer one by pairs alone, for the longest not at all.
//! The bound is found by branch and bound over ranges of levels, and stops at a fixed number of them.

use std::collections::BinaryHeap;
use std::sync::Arc;

use rayon::prelude::*;

use super::super::problem::{Problem, SideLimits};
use super::by_counts::{CountTable, middle};
use super::moments::{Bits, Moments};
use crate::bounded::Bounded;
use crate::error::Error;

/// How many ranges are looked into at once, whatever the number of threads: the bound must not depend on it.
const AT_ONCE: usize = 4;
/// How many nanoseconds the moments of all levels may take together, about.
const WORK: usize = 4_000_000_000;
/// For at least so many levels there must be time: with fewer, pairs alone bound more closely than threes, and the
/// quick bound is hardly worse than pairs.
const LEVELS_OF_THREES: usize = 48;
const LEVELS_OF_PAIRS: usize = 16;
/// By which share a bound may exceed the lowest that the search would find.
const TOLERANCE: f64 = 1e-3;

/// Compute the bound, no less than `score`; infinite where it takes too long.
pub(super) fn upper_bound(problem: &Problem<'_>, score: f64) -> Result<f64, Error> {
    let counts = &CountTable::new(problem)?;
    let (n_lines, n_others) = (counts.lines.ncols(), problem.elements.shape[1 - counts.short]);
    // Nanoseconds as measured: most go to the matrices of threes, and to the spectra.
    let square = n_lines.saturating_pow(2);
    let of_threes = WORK / square.saturating_mul(n_lines).saturating_mul(140 + n_others / 160);
    let of_pairs = WORK / square.saturating_mul(10 * n_lines + n_others / 160);
    match (of_threes, of_pairs) {
        (LEVELS_OF_THREES.., _) => Search { problem, counts, score, with_threes: true }.upper_bound(of_threes),
        (_, LEVELS_OF_PAIRS..) => Search { problem, counts, score, with_threes: false }.upper_bound(of_pairs),
        _ => Ok(f64::INFINITY),
    }
}

/// A range of entries, both ends included.
struct Range {
    entries: (usize, usize),
    /// Those of the last entry.
    limits: Arc<Limits>,
}

impl Range {
    fn is_one(&self) -> bool {
        self.entries.0 == self.entries.1
    }
}

struct Search<'a> {
    problem: &'a Problem<'a>,
    counts: &'a CountTable,
    score: f64,
    with_threes: bool,
}

impl Search<'_> {
    /// Bound scores over all entries, of which about so many may be looked at.
    fn upper_bound(&self, mut left: usize) -> Result<f64, Error> {
        let floor = self.problem.bound(self.score);
        let Some(last) = self.counts.alphas.len().checked_sub(1) else { return Ok(floor) };
        let mut ranges = BinaryHeap::from([self.range((0, last), None)?]);
        while let Some(top) = ranges.peek() {
            if top.part.is_one() || left < AT_ONCE {
                break;
            }
            left -= AT_ONCE;
            let mut highest = Vec::with_capacity(AT_ONCE);
            while highest.len() < AT_ONCE && ranges.peek().is_some_and(|range| !range.part.is_one()) {
                highest.extend(ranges.pop());
            }
            let halves = highest.par_iter().map(|range| self.halves(range)).collect::<Result<Vec<_>, Error>>()?;
            ranges.extend(halves.into_iter().flatten().filter(|range| range.bound > floor));
        }
        Ok(ranges.peek().map_or(floor, |top| top.bound))
    }

    fn halves(&self, range: &Bounded<Range>) -> Result<[Bounded<Range>; 2], Error> {
        let (first, last) = range.part.entries;
        let middle = middle(&self.counts.alphas, first, last);
        let mut halves =
            [self.range((first, middle), None)?, self.range((middle + 1, last), Some(Arc::clone(&range.part.limits)))?];
        for half in &mut halves {
            half.bound = half.bound.min(range.bound);
        }
        Ok(halves)
    }

    /// Bound scores over entries: none has more small p-values than at the last, nor a smaller threshold than the first.
    fn range(&self, entries: (usize, usize), limits: Option<Arc<Limits>>) -> Result<Bounded<Range>, Error> {
        let Search { problem, counts, score, with_threes } = *self;
        problem.interrupt.check()?;
        let limits = limits.unwrap_or_else(|| Arc::new(Limits::new(problem, counts, entries.1, with_threes)));
        let alpha = counts.alphas[entries.0];
        let sizes = [counts.short, 1 - counts.short].map(|side| problem.sizes[side]);
        let phi = |n_alpha: u64, n: u64| problem.statistic.phi(alpha, n_alpha, n.max(n_alpha));
        Ok(Bounded { bound: problem.bound(limits.highest(sizes, score, phi)), part: Range { entries, limits } })
    }
}

/// How many small p-values blocks have at most, at one threshold.
struct Limits {
    lines: Capped,
    others: Capped,
    moments: Moments,
}

impl Limits {
    fn new(problem: &Problem<'_>, counts: &CountTable, entry: usize, with_threes: bool) -> Self {
        let pairs = problem.elements.pairs(0, counts.ends[entry]).iter();
        let pairs = pairs.map(|pair| (pair[counts.short], pair[1 - counts.short]));
        let n_others = problem.elements.shape[1 - counts.short];
        Limits {
            lines: Capped::new(counts.lines.row(entry).iter()),
            others: Capped::new(counts.at_least.row(entry).iter()),
            moments: Moments::new(&Bits::new(counts.lines.ncols(), n_others, pairs), with_threes),
        }
    }

    fn n_alpha(&self, lines: usize, others: u64) -> u64 {
        let most = self.lines.sum(lines, others).min(self.others.sum(lines, others));
        self.moments.n_alpha(lines, others, most)
    }

    /// Bound scores over all numbers of lines and of others, by halving ranges of the latter; no less than `floor`.
    fn highest(&self, sizes: [SideLimits; 2], floor: f64, phi: impl Fn(u64, u64) -> f64) -> f64 {
        let [lines, others] = sizes;
        let (mut bound, mut reached) = (floor, floor);
        let mut open = Vec::new();
        for r in lines.min..=lines.max {
            open.push((others.min as u64, others.max as u64));
            while let Some((least, most)) = open.pop() {
                let n_alpha = self.n_alpha(r, most);
                let highest = phi(n_alpha, r as u64 * least);
                reached = reached.max(phi(n_alpha, r as u64 * most));
                if least == most || highest <= reached * (1.0 + TOLERANCE) {
                    bound = bound.max(highest);
                } else {
                    let middle = u64::midpoint(least, most);
                    open.extend([(least, middle), (middle + 1, most)]);
                }
            }
        }
        bound
    }
}

/// Sums of the largest of some numbers, none of which counts more than a cap.
struct Capped {
    /// Decreasing.
    values: Vec<u64>,
    /// Sums of the first 0, 1, ...
    sums: Vec<u64>,
}

impl Capped {
    fn new<'a>(values: impl Iterator<Item = &'a u32>) -> Self {
        let mut values: Vec<u64> = values.map(|value| u64::from(*value)).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        let mut sums = vec![0];
        for value in &values {
            sums.push(sums[sums.len() - 1] + value);
        }
        Capped { values, sums }
    }

    fn sum(&self, n: usize, cap: u64) -> u64 {
        let n_capped = self.values.partition_point(|value| *value > cap).min(n);
        n_capped as u64 * cap + self.sums[n] - self.sums[n_capped]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::super::elements::Elements;
    use super::super::super::pair_index::PairIndex;
    use super::super::best_block;
    use super::*;
    use crate::interrupt::Interrupt;
    use crate::name::Named;
    use crate::pvalue::AlphaMax;
    use crate::statistic::Statistic;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// `tests/group.rs` compares the best block with every block there is.
        #[test]
        fn no_block_exceeds_the_bounds(
            (n, j) in (1_usize..9, 1_usize..80),
            ranks in prop::collection::vec(1_u32..1000, 9 * 80),
            n_ranks in prop_oneof![3_u32..9, Just(100), Just(1000)],
            (_, statistic) in select(Statistic::ALL),
            limits in (1_usize..3, 2_usize..20),
            alpha_max in prop_oneof![Just(1.0), Just(0.5), 0.01..1.0],
            (images, nodes) in (0_usize..9, 0_usize..80),
        ) {
            let p = Array2::from_shape_fn((n, j), |(image, node)| {
                let rank = ranks[image * 80 + node] % n_ranks + 1;
                let rank = if image < images && node < nodes { rank.div_ceil(3) } else { rank };
                f64::from(rank) / f64::from(n_ranks)
            });
            let alpha_max = AlphaMax::try_from(alpha_max).expect("in range");
            let interrupt = &Interrupt::default();
            for p in [p.view(), p.t()] {
                let elements = &Elements::from_p_values(&p, alpha_max, interrupt).expect("p-values");
                let index = &PairIndex::new(elements, elements.block_ends(), interrupt).expect("an index");
                for (min, max) in [(1, usize::MAX), limits] {
                    let sizes = elements.shape.map(|n| SideLimits { min: min.min(n), max: max.min(n) });
                    let problem = Problem { elements, index, statistic, sizes, interrupt };
                    let counts = &CountTable::new(&problem).expect("a table");
                    let best = best_block(&problem, 0.0).expect("no error").score;
                    for with_threes in [false, true] {
                        let search = |score| Search { problem: &problem, counts, score, with_threes };
                        let bound = |score, left| search(score).upper_bound(left).expect("no error");
                        let (free, above) = (bound(0.0, 200), bound(best, 200));
                        prop_assert!(free >= best, "{free} {best}");
                        prop_assert!(above >= best && above <= free.max(best) * (1.0 + 2.0 * TOLERANCE));
                        prop_assert!(bound(0.0, 0) >= free);
                    }
                }
            }
        }
    }
}
