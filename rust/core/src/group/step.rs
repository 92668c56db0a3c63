//! One step of the ascent: one side of the block is fixed, the other is chosen, exactly over all thresholds.
//!
//! For a fixed threshold the best subset of one side is a prefix in the order of the counts of small p-values that its
//! members have on the fixed side (the LTSS property, Neill 2012). Members with equal counts come all or not at all:
//! along them the statistics are convex, or fall and then rise, so that their ends suffice.

use super::counts::{MemberCounts, Order, Runs, Sides, Tally};
use super::problem::{Problem, SideLimits};
use crate::error::Error;

/// Levels that are bounded together in a block that may hold something better.
const FEW_LEVELS: usize = 8;

/// The members of the free side that score highest, and the threshold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub score: f64,
    pub alpha: f64,
    /// Increasing.
    pub members: Vec<u32>,
}

/// A step to take: to choose among the free side for given members of the other one.
#[derive(Debug)]
pub(super) struct Step<'a> {
    problem: &'a Problem<'a>,
    sides: Sides<'a>,
    fixed: &'a [u32],
    tally: &'a Tally,
}

impl<'a> Step<'a> {
    pub fn new(problem: &'a Problem<'a>, free: usize, fixed: &'a [u32], tally: &'a Tally) -> Self {
        Step { problem, sides: Sides::new(problem.elements, free, fixed), fixed, tally }
    }

    /// Choose over all thresholds; None where nothing scores more than `floor`.
    ///
    /// First the ends of blocks of levels are scored, and what each block can hold is bounded. Then the blocks that can
    /// hold something better than what was found are looked into.
    pub fn exact(&self, floor: f64) -> Result<Option<Choice>, Error> {
        let Problem { elements, index, interrupt, .. } = self.problem;
        let mut best = Candidate { score: floor, ..Candidate::default() };
        let mut bounds = Vec::with_capacity(index.ends.len());
        let mut runs = Runs::default();
        for block in 0..index.ends.len() {
            interrupt.check()?;
            let (start, end) = index.levels(block);
            runs.of_block(self.tally, block);
            bounds.push(self.bound(elements.alphas[start], &runs, best.score));
            if bounds[block] > best.score {
                best.update(self.best_at(elements.alphas[end - 1], end, &runs, best.score));
            }
        }
        let (mut counts, mut n_counted, mut at_best) = (self.no_counts(), 0, Vec::new());
        for (block, bound) in bounds.into_iter().enumerate() {
            interrupt.check()?;
            let (start, end) = index.levels(block);
            let is_within = |best: &Candidate| (start + 1..=end).contains(&best.n_levels);
            if bound <= best.score && !is_within(&best) {
                continue;
            }
            self.advance(&mut counts, n_counted, block)?;
            n_counted = block + 1;
            self.look_into(&mut counts, (start, end), &mut best, &mut runs);
            if is_within(&best) {
                counts.take_pairs(&self.sides, best.n_levels, end);
                at_best.clone_from(&counts.each);
                counts.add_pairs(&self.sides, best.n_levels, end);
            }
        }
        Ok(best.choice(&at_best))
    }

    /// The same over the thresholds of the coarse grid only.
    pub fn coarse(&self, floor: f64) -> Result<Option<Choice>, Error> {
        let Problem { index, interrupt, .. } = self.problem;
        let mut best = Candidate { score: floor, ..Candidate::default() };
        let mut best_block = 0;
        let mut runs = Runs::default();
        for (alpha, block) in &index.coarse_grid {
            interrupt.check()?;
            runs.of_block(self.tally, *block);
            if best.update(self.best_at(*alpha, index.ends[*block], &runs, best.score)) {
                best_block = *block;
            }
        }
        if best.size == 0 {
            return Ok(None);
        }
        let mut counts = self.no_counts();
        self.advance(&mut counts, 0, best_block + 1)?;
        Ok(best.choice(&counts.each))
    }

    /// The same over a coarse grid of the fixed side's own p-values.
    pub fn own(&self, floor: f64) -> Result<Option<Choice>, Error> {
        let Problem { elements, interrupt, .. } = self.problem;
        let mut best = Candidate { score: floor, ..Candidate::default() };
        let (mut counts, mut n_counted, mut at_best) = (self.no_counts(), 0, Vec::new());
        let mut runs = Runs::default();
        for (alpha, end) in elements.coarse_grid(|pair| self.sides.has(*pair)) {
            interrupt.check()?;
            counts.add_pairs(&self.sides, n_counted, end);
            n_counted = end;
            runs.of_counts(&counts);
            if best.update(self.best_at(alpha, end, &runs, best.score)) {
                at_best.clone_from(&counts.each);
            }
        }
        Ok(best.choice(&at_best))
    }

    fn no_counts(&self) -> MemberCounts {
        let (elements, n_free) = (self.problem.elements, self.problem.elements.shape[self.sides.free]);
        let order = if self.tally.is_at_least {
            Order::AtLeast
        } else if FEW_LEVELS * elements.pairs(0, elements.n_levels()).len() < 2 * n_free * elements.n_levels() {
            Order::Sorted
        } else {
            Order::None // there would be more to keep in order than to sort
        };
        MemberCounts::new(n_free, self.fixed.len(), order)
    }

    /// Count the levels from `start` to `end`, and score each, unless none of a few can be better.
    fn look_into(
        &self,
        counts: &mut MemberCounts,
        (start, end): (usize, usize),
        best: &mut Candidate,
        runs: &mut Runs,
    ) {
        let alphas = &self.problem.elements.alphas;
        for first in (start..end).step_by(FEW_LEVELS) {
            let last = end.min(first + FEW_LEVELS);
            counts.add_pairs(&self.sides, first, last);
            runs.of_counts(counts);
            if last - first == 1 {
                best.update(self.best_at(alphas[first], last, runs, best.score));
            } else if self.bound(alphas[first], runs, best.score) > best.score {
                counts.take_pairs(&self.sides, first, last);
                for (level, alpha) in (first..last).zip(&alphas[first..last]) {
                    counts.add_pairs(&self.sides, level, level + 1);
                    runs.of_counts(counts);
                    best.update(self.best_at(*alpha, level + 1, runs, best.score));
                }
            }
        }
    }

    /// Count the blocks `from` to `to`, the latter not among them.
    fn advance(&self, counts: &mut MemberCounts, from: usize, to: usize) -> Result<(), Error> {
        if !self.tally.is_at_least {
            if from < to {
                counts.set(self.tally.row(to - 1));
            }
            return Ok(());
        }
        for block in from..to {
            self.problem.interrupt.check()?;
            for member in self.fixed {
                counts.add(self.problem.index.others(block, *member));
            }
        }
        Ok(())
    }

    /// What no subset exceeds at thresholds from alpha on, with no larger counts; 0 if that is less than `floor`.
    ///
    /// For scores fall with alpha and grow with the counts.
    fn bound(&self, alpha: f64, runs: &Runs, floor: f64) -> f64 {
        let n = self.fixed.len() * self.problem.elements.shape[self.sides.free];
        let bound = |score| self.problem.statistic.bound(score, n);
        bound(self.best_at(alpha, 0, runs, 2.0 * floor - bound(floor)).score)
    }

    /// The best subset at this threshold, if it scores no less than `floor`; else a score of 0.
    fn best_at(&self, alpha: f64, n_levels: usize, runs: &Runs, floor: f64) -> Candidate {
        let mut best = Candidate { alpha, n_levels, ..Candidate::default() };
        let SideLimits { min, max } = self.problem.sizes[self.sides.free];
        let (statistic, n_fixed) = (self.problem.statistic, self.fixed.len());
        let useless = n_fixed as f64 * alpha;
        let (mut size, mut n_alpha) = (0_usize, 0_u64);
        for (count, members) in &runs.runs {
            // Members that have no more small p-values than are to be expected lower every score.
            if size >= max || size >= min && f64::from(*count) <= useless {
                break;
            }
            let end = size + *members as usize;
            let ends = [min, max, end];
            for candidate in if min < end && size < min || max < end { &ends[..] } else { &ends[2..] } {
                if *candidate > size && *candidate <= end && (min..=max).contains(candidate) {
                    let n_alpha = n_alpha + u64::from(*count) * (candidate - size) as u64;
                    let n = *candidate as u64 * n_fixed as u64;
                    if statistic.is_below(floor.max(best.score), alpha, n_alpha, n) {
                        continue;
                    }
                    let score = statistic.phi(alpha, n_alpha, n);
                    if score > best.score {
                        (best.score, best.size) = (score, *candidate);
                    }
                }
            }
            n_alpha += u64::from(*count) * u64::from(*members);
            size = end;
        }
        if best.score < floor { Candidate::default() } else { best }
    }
}

/// The best so far: of equal scores that with the smaller threshold, then that with fewer members.
#[derive(Debug, Clone, Copy, Default)]
struct Candidate {
    score: f64,
    alpha: f64,
    n_levels: usize,
    size: usize,
}

impl Candidate {
    fn update(&mut self, other: Candidate) -> bool {
        #[allow(clippy::float_cmp)] // equal scores are equal to the bit
        let is_better = other.score > self.score || other.score == self.score && other.alpha < self.alpha;
        if is_better {
            *self = other;
        }
        is_better
    }

    /// The best members: those with the largest counts, and of equal counts the first.
    fn choice(self, counts: &[u32]) -> Option<Choice> {
        if self.size == 0 {
            return None;
        }
        let mut sorted = counts.to_vec();
        let (_, least, _) = sorted.select_nth_unstable_by(self.size - 1, |a, b| b.cmp(a));
        let least = *least;
        let mut n_least = self.size - counts.iter().filter(|count| **count > least).count();
        // Which are among them is hard to predict for a processor: those that are not are overwritten.
        let (mut members, mut n_members) = (vec![0; self.size + 1], 0);
        for (member, count) in (0..).zip(counts) {
            members[n_members] = member;
            let is_next = *count == least && n_least > 0;
            n_least -= usize::from(is_next);
            n_members += usize::from(*count > least || is_next);
        }
        members.truncate(n_members);
        Some(Choice { score: self.score, alpha: self.alpha, members })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::elements::{Elements, IMAGES, NODES};
    use super::super::pair_index::PairIndex;
    use super::*;
    use crate::interrupt::Interrupt;
    use crate::name::Named;
    use crate::pvalue::AlphaMax;
    use crate::statistic::Statistic;

    /// Every threshold, every prefix that does not cut a tie or is as long as a limit.
    fn naive(problem: &Problem<'_>, p: &Array2<f64>, free: usize, fixed: &[bool], alphas: &[f64]) -> Option<Choice> {
        let n_fixed = fixed.iter().filter(|member| **member).count();
        let lines = if free == IMAGES { p.view() } else { p.t() };
        let limits = problem.sizes[free];
        let mut best: Option<Choice> = None;
        for alpha in alphas {
            let counts: Vec<usize> = lines
                .rows()
                .into_iter()
                .map(|line| line.iter().zip(fixed).filter(|(p, fixed)| **fixed && *p <= alpha).count())
                .collect();
            let mut order: Vec<usize> = (0..counts.len()).collect();
            order.sort_by_key(|n| std::cmp::Reverse(counts[*n]));
            for size in limits.min..=limits.max {
                let cuts_a_tie = size < order.len() && counts[order[size - 1]] == counts[order[size]];
                if cuts_a_tie && size != limits.min && size != limits.max {
                    continue;
                }
                let n_alpha: usize = order[..size].iter().map(|n| counts[*n]).sum();
                let score = problem.statistic.phi(*alpha, n_alpha as u64, (size * n_fixed) as u64);
                if score > best.as_ref().map_or(0.0, |best| best.score) {
                    let mut members: Vec<_> = order[..size].iter().map(|n| u32::try_from(*n).expect("small")).collect();
                    members.sort_unstable();
                    best = Some(Choice { score, alpha: *alpha, members });
                }
            }
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn blocks_of_levels_make_no_difference(
            (n, j) in (1_usize..8, 1_usize..12),
            ranks in prop::collection::vec(1_u32..1000, 8 * 12),
            n_ranks in prop_oneof![3_u32..9, Just(100), Just(1000)],
            chosen in 1_u32..1 << 12,
            statistic in select(Statistic::ALL),
            limits in (1_usize..3, 2_usize..20),
            alpha_max in prop_oneof![Just(1.0), Just(0.5), 0.01..1.0],
        ) {
            let alpha = |rank: u32| f64::from(rank % n_ranks + 1) / f64::from(n_ranks);
            let p = Array2::from_shape_fn((n, j), |(image, node)| alpha(ranks[image * 12 + node]));
            let alpha_max = AlphaMax::try_from(alpha_max).expect("in range");
            let interrupt = Interrupt::default();
            let elements = Elements::from_p_values(&p.view(), alpha_max, &interrupt).expect("p-values");
            let (_, statistic) = statistic;
            for free in [IMAGES, NODES] {
                let (n_free, n_fixed) = (p.shape()[free], p.shape()[1 - free]);
                let limits = SideLimits { min: limits.0.min(n_free), max: limits.1.min(n_free) };
                for limits in [limits, SideLimits { min: 1, max: n_free }] {
                    let mut fixed: Vec<bool> = (0..n_fixed).map(|n| chosen >> n & 1 == 1).collect();
                    fixed[0] |= !fixed.contains(&true);
                    let chosen: Vec<u32> = (0..).zip(&fixed).filter(|(_, fixed)| **fixed).map(|(n, _)| n).collect();
                    let by_size = |size| {
                        let last = elements.n_levels();
                        (0..last).step_by(size).skip(1).chain((last > 0).then_some(last)).collect()
                    };
                    for ends in [elements.block_ends(), by_size(1), by_size(2), by_size(64)] {
                        let index = &PairIndex::new(&elements, ends, &interrupt).expect("an index");
                        let sizes = [limits; 2];
                        let problem = Problem { elements: &elements, index, statistic, sizes, interrupt: &interrupt };
                        let tally = Tally::new(&problem, free, &chosen).expect("a tally");
                        let step = Step::new(&problem, free, &chosen, &tally);
                        let expected = naive(&problem, &p, free, &fixed, &elements.alphas);
                        let worse = expected.as_ref().map_or(0.0, |choice| choice.score * (1.0 - 1e-15));
                        prop_assert_eq!(&step.exact(0.0).expect("a step"), &expected);
                        prop_assert_eq!(&step.exact(worse).expect("a step"), &expected);
                        prop_assert_eq!(step.exact(worse / (1.0 - 1e-14)).expect("a step"), None);
                        let alphas: Vec<f64> = elements.coarse_grid(|_| true).iter().map(|(alpha, _)| *alpha).collect();
                        let expected = naive(&problem, &p, free, &fixed, &alphas);
                        prop_assert_eq!(step.coarse(0.0).expect("a step"), expected);
                        let mut alphas: Vec<f64> = p.indexed_iter()
                            .filter(|((image, node), p)| fixed[[*image, *node][1 - free]] && **p < alpha_max.get())
                            .map(|(_, p)| *p)
                            .collect();
                        alphas.sort_by(f64::total_cmp);
                        alphas.dedup();
                        let every = alphas.len() / 50 + 1;
                        alphas = alphas.into_iter().step_by(every).chain([alpha_max.get()]).collect();
                        let expected = naive(&problem, &p, free, &fixed, &alphas);
                        prop_assert_eq!(step.own(0.0).expect("a step"), expected);
                    }
                }
            }
        }
    }
}
