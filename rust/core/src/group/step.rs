//! One step of the ascent: one side of the block is fixed, the other is chosen, exactly over all thresholds.
//!
//! For a fixed threshold the best subset of one side is a prefix in the order of the counts of small p-values that its
//! members have on the fixed side (the LTSS property, Neill 2012). Members with equal counts come all or not at all:
//! along them the statistics are convex, or fall and then rise, so that their ends suffice.

use super::elements::Elements;
use super::{Problem, SideLimits};
use crate::Error;
use crate::statistic::Statistic;

/// Parts of a block of levels that may hold something better.
const PARTS: usize = 4;

/// The members of the free side that score highest, and the threshold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub score: f64,
    pub alpha: f64,
    pub members: Vec<bool>,
}

/// Choose the members of side `free` for the given members of the other side; None where nothing scores.
///
/// Counts go up once, to score the ends of blocks of levels and to bound what each block can hold. On the way down the
/// blocks that can hold something better than what was found are looked into.
pub(super) fn exact_step(
    problem: &Problem<'_>,
    block_ends: &[usize],
    free: usize,
    fixed: &[bool],
) -> Result<Option<Choice>, Error> {
    let alphas = &problem.elements.alphas;
    let mut sweep = Sweep::new(problem, free, fixed);
    let mut best = Best::default();
    let mut bounds = Vec::with_capacity(block_ends.len());
    for end in block_ends {
        problem.interrupt.check()?;
        let start = sweep.n_levels;
        sweep.go_to(*end);
        best.update(sweep.best_at(alphas[end - 1], best.score));
        let may_hold = if end - start > 1 { sweep.best_at(alphas[start], best.score).score } else { 0.0 };
        bounds.push(problem.statistic.bound(may_hold, sweep.n_p_values()));
    }
    if let Some(first) = bounds.iter().position(|bound| *bound > best.score) {
        for n in (first..bounds.len()).rev() {
            problem.interrupt.check()?;
            let start = if n > 0 { block_ends[n - 1] } else { 0 };
            if bounds[n] > best.score { sweep.look_into(start, &mut best) } else { sweep.go_to(start) }
        }
    }
    Ok(sweep.choice(best))
}

/// The same over a few thresholds only, each given with the number of levels up to it.
pub(super) fn coarse_step(
    problem: &Problem<'_>,
    thresholds: &[(f64, usize)],
    free: usize,
    fixed: &[bool],
) -> Result<Option<Choice>, Error> {
    let mut sweep = Sweep::new(problem, free, fixed);
    let mut best = Best::default();
    for (alpha, n_levels) in thresholds {
        problem.interrupt.check()?;
        sweep.go_to(*n_levels);
        best.update(sweep.best_at(*alpha, best.score));
    }
    Ok(sweep.choice(best))
}

/// The best so far: of equal scores that with the smaller threshold, then that with fewer members.
#[derive(Debug, Clone, Copy, Default)]
struct Best {
    score: f64,
    alpha: f64,
    n_levels: usize,
    size: usize,
}

impl Best {
    fn update(&mut self, other: Best) {
        #[allow(clippy::float_cmp)] // equal scores are equal to the bit
        if other.score > self.score || other.score == self.score && other.alpha < self.alpha {
            *self = other;
        }
    }
}

/// Counts of the free side, as they are once the first few levels have been counted.
struct Sweep<'a> {
    elements: &'a Elements,
    n_fixed: usize,
    limits: SideLimits,
    statistic: Statistic,
    /// Members of the free side, one for each small p-value they have on the fixed side, by level.
    members: Vec<u32>,
    /// Where each level's begin, and where the last one's end.
    offsets: Vec<usize>,
    n_levels: usize,
    /// How many small p-values each member of the free side has on the fixed side.
    counts: Vec<u32>,
    /// How many members have at least 0, 1, ... of them, where there are fewer such numbers than members.
    at_least: Option<Vec<u32>>,
    /// The counts in decreasing order, as they were for so many levels.
    sorted: (usize, Vec<u32>),
}

impl<'a> Sweep<'a> {
    fn new(problem: &Problem<'a>, free: usize, fixed: &[bool]) -> Self {
        let elements = problem.elements;
        let n_fixed = fixed.iter().filter(|member| **member).count();
        let n_free = elements.shape[free];
        let totals = elements.totals[1 - free].iter().zip(fixed);
        let n_members: usize = totals.map(|(total, is_fixed)| if *is_fixed { *total } else { 0 }).sum();
        // Whether a p-value is on the fixed side is hard to predict: write them all, and move on if it is.
        let mut members = vec![0; n_members + 1];
        let mut offsets = Vec::with_capacity(elements.n_levels() + 1);
        let mut n = 0;
        offsets.push(n);
        for level in 0..elements.n_levels() {
            for pair in elements.pairs(level, level + 1) {
                members[n] = pair[free];
                n += usize::from(fixed[pair[1 - free] as usize]);
            }
            offsets.push(n);
        }
        let at_least = (n_fixed <= n_free).then(|| {
            let mut at_least = vec![0; n_fixed + 2];
            #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
            let all = n_free as u32;
            at_least[0] = all;
            at_least
        });
        Sweep {
            elements,
            n_fixed,
            limits: problem.sizes[free],
            statistic: problem.statistic,
            members,
            offsets,
            n_levels: 0,
            counts: vec![0; n_free],
            at_least,
            sorted: (0, vec![0; n_free]),
        }
    }

    /// How many p-values there are on the fixed side.
    fn n_p_values(&self) -> usize {
        self.n_fixed * self.counts.len()
    }

    /// Count levels, or take levels back, until the first `n_levels` are counted.
    fn go_to(&mut self, n_levels: usize) {
        let (here, there) = (self.offsets[self.n_levels], self.offsets[n_levels]);
        self.n_levels = n_levels;
        let counts = &mut self.counts;
        if let Some(at_least) = &mut self.at_least {
            for member in self.members.get(here..there).unwrap_or_default() {
                let count = &mut counts[*member as usize];
                *count += 1;
                at_least[*count as usize] += 1;
            }
            for member in self.members.get(there..here).unwrap_or_default() {
                let count = &mut counts[*member as usize];
                at_least[*count as usize] -= 1;
                *count -= 1;
            }
        } else {
            for member in self.members.get(here..there).unwrap_or_default() {
                counts[*member as usize] += 1;
            }
            for member in self.members.get(there..here).unwrap_or_default() {
                counts[*member as usize] -= 1;
            }
        }
    }

    /// Take back the levels from `start` on, and look at each exactly, unless none can hold something better.
    fn look_into(&mut self, start: usize, best: &mut Best) {
        let end = self.n_levels;
        let alpha = self.elements.alphas[start];
        // Scores fall with alpha and grow with the counts: no level scores more than the first one's alpha with the
        // last one's counts would.
        let n = self.n_p_values();
        let most = self.best_at(alpha, 2.0 * best.score - self.statistic.bound(best.score, n));
        if end - start == 1 {
            best.update(most);
        } else if self.statistic.bound(most.score, n) > best.score {
            let part = (end - start).div_ceil(PARTS);
            for start in (start..end).step_by(part).rev() {
                self.look_into(start, best);
            }
        }
        self.go_to(start);
    }

    /// The best subset at this threshold, if it scores no less than `floor`; else a score of 0.
    fn best_at(&mut self, alpha: f64, floor: f64) -> Best {
        let mut best = Best { alpha, n_levels: self.n_levels, ..Best::default() };
        let SideLimits { min, max } = self.limits;
        let (statistic, n_fixed) = (self.statistic, self.n_fixed);
        let useless = n_fixed as f64 * alpha;
        let (mut size, mut n_alpha) = (0_usize, 0_u64);
        // Members with equal counts; true means that no others need a look.
        let mut add = |count: u32, members: usize| {
            // Members that have no more small p-values than are to be expected lower every score.
            if size >= min && f64::from(count) <= useless {
                return true;
            }
            let end = size + members;
            let ends = [min, max, end];
            for candidate in if min < end && size < min || max < end { &ends[..] } else { &ends[2..] } {
                if *candidate > size && *candidate <= end && (min..=max).contains(candidate) {
                    let n_alpha = n_alpha + u64::from(count) * (candidate - size) as u64;
                    let n = *candidate as u64 * n_fixed as u64;
                    if at_most(statistic, alpha, n_alpha, n) < floor.max(best.score) {
                        continue;
                    }
                    let score = statistic.phi(alpha, n_alpha, n);
                    if score > best.score {
                        (best.score, best.size) = (score, *candidate);
                    }
                }
            }
            n_alpha += u64::from(count) * members as u64;
            size = end;
            size >= max
        };
        if let Some(at_least) = &self.at_least {
            for (count, pair) in at_least.windows(2).enumerate().rev() {
                #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
                if pair[0] > pair[1] && add(count as u32, (pair[0] - pair[1]) as usize) {
                    break;
                }
            }
        } else {
            let (n_levels, sorted) = &mut self.sorted;
            if *n_levels != self.n_levels {
                *n_levels = self.n_levels;
                sorted.clone_from(&self.counts);
                sorted.sort_unstable_by(|a, b| b.cmp(a));
            }
            for members in sorted.chunk_by(|a, b| a == b) {
                if add(members[0], members.len()) {
                    break;
                }
            }
        }
        best
    }

    /// Who the best are: those with the largest counts, and of equal counts the first.
    fn choice(&mut self, best: Best) -> Option<Choice> {
        if best.size == 0 {
            return None;
        }
        self.go_to(best.n_levels);
        let mut counts = self.counts.clone();
        let (_, least, _) = counts.select_nth_unstable_by(best.size - 1, |a, b| b.cmp(a));
        let least = *least;
        let mut n_least = best.size - self.counts.iter().filter(|count| **count > least).count();
        let members = self.counts.iter().map(|count| {
            let is_next = *count == least && n_least > 0;
            n_least -= usize::from(is_next);
            *count > least || is_next
        });
        Some(Choice { score: best.score, alpha: best.alpha, members: members.collect() })
    }
}

/// What phi does not exceed, without logarithms: most subsets are far from the best, and this tells.
fn at_most(statistic: Statistic, alpha: f64, n_alpha: u64, n: u64) -> f64 {
    if statistic != Statistic::BerkJones {
        return f64::INFINITY; // phi is as cheap
    }
    let (n_alpha, n) = (n_alpha as f64, n as f64);
    let (more, less) = (n_alpha / (n * alpha), (n - n_alpha) / (n * (1.0 - alpha)));
    if more <= 1.0 {
        return 0.0;
    }
    // ln y <= (y - 1)(y + 5) / (4y + 2) for y >= 1, and ln y <= 2 (y - 1) / (y + 1) for y <= 1: Pade approximants.
    let ones = n_alpha * (more - 1.0) * (more + 5.0) / (4.0 * more + 2.0);
    let others = (n - n_alpha) * 2.0 * (less - 1.0) / (less + 1.0);
    (ones + others) * (1.0 + 1e-9) + n * 1e-12 // what rounding may take
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use super::super::elements::{IMAGES, NODES};
    use super::*;
    use crate::Interrupt;
    use crate::name::Named;
    use crate::pvalue::AlphaMax;

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
                    let members = (0..counts.len()).map(|n| order[..size].contains(&n)).collect();
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
            statistic in 0_usize..3,
            limits in (1_usize..3, 2_usize..20),
            alpha_max in prop_oneof![Just(1.0), Just(0.5), 0.01..1.0],
        ) {
            let alpha = |rank: u32| f64::from(rank % n_ranks + 1) / f64::from(n_ranks);
            let p = Array2::from_shape_fn((n, j), |(image, node)| alpha(ranks[image * 12 + node]));
            let alpha_max = AlphaMax::try_from(alpha_max).expect("in range");
            let interrupt = Interrupt::default();
            let elements = Elements::from_p_values(&p.view(), alpha_max, &interrupt).expect("p-values");
            let (_, statistic) = Statistic::ALL[statistic];
            for free in [IMAGES, NODES] {
                let (n_free, n_fixed) = (p.shape()[free], p.shape()[1 - free]);
                let limits = SideLimits { min: limits.0.min(n_free), max: limits.1.min(n_free) };
                for limits in [limits, SideLimits { min: 1, max: n_free }] {
                    let problem = Problem { elements: &elements, statistic, sizes: [limits; 2], interrupt: &interrupt };
                    let mut fixed: Vec<bool> = (0..n_fixed).map(|n| chosen >> n & 1 == 1).collect();
                    fixed[0] |= !fixed.contains(&true);
                    let expected = naive(&problem, &p, free, &fixed, &elements.alphas);
                    let by_size = |size| {
                        let last = elements.n_levels();
                        (0..last).step_by(size).skip(1).chain((last > 0).then_some(last)).collect()
                    };
                    for ends in [elements.block_ends(), by_size(1), by_size(2), by_size(64)] {
                        prop_assert_eq!(&exact_step(&problem, &ends, free, &fixed).expect("a step"), &expected);
                    }
                    let coarse = elements.coarse_grid();
                    let alphas: Vec<f64> = coarse.iter().map(|(alpha, _)| *alpha).collect();
                    let expected = naive(&problem, &p, free, &fixed, &alphas);
                    prop_assert_eq!(coarse_step(&problem, &coarse, free, &fixed).expect("a step"), expected);
                }
            }
        }
    }
}
