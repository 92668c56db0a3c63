//! The scan in which a tied node counts in part: with the share of its p-value's range that lies below alpha.
//!
//! For a fixed alpha a node's priority is that share, and the best subset is a prefix in its order (McFowland et al.
//! 2013, theorem 2; LTSS). Statistics are convex along nodes of equal priority, so that these are taken all or none,
//! and nodes with a share of at most alpha never help.
//!
//! Thresholds are searched by branch and bound: a range of them is bounded by its smallest alpha with the shares at its
//! largest, and halved while its bound exceeds what was reached.

use std::collections::BinaryHeap;
use std::ops::Range;

use crate::background::Background;
use crate::bins::Bins;
use crate::bounded::Bounded;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::options::{ScanOptions, Scope};
use crate::pvalue::GridRange;
use crate::result::{BestSubset, Found};
use crate::value::{Value, Values};

/// Images whose ranges are found together: their values of a node are searched for in the same column.
pub(crate) const RANGE_IMAGES: usize = 64;
/// Into so many classes shares are parted for a bound.
const CLASSES: usize = 128;

/// A range that counts in part at some thresholds.
struct Partial {
    range: GridRange,
    /// The first step at which it counts at all.
    first: usize,
    /// Of one step: what the share grows by.
    growth: f64,
}

/// The p-value ranges of one image, up to the largest threshold.
struct Ranges<'a> {
    grid: &'a [f64],
    options: &'a ScanOptions,
    n_nodes: usize,
    /// Number of steps to p = 1.
    n_steps: usize,
    /// How many ranges count in full from each step on, and not at all before. Later: from this step or an earlier one.
    full: Vec<usize>,
    /// Those that count in part, later by their first step.
    partial: Vec<Partial>,
}

/// The best prefix at one threshold: nodes with at least this share.
#[derive(Clone, Copy, Default)]
struct Prefix {
    score: f64,
    size: u64,
    step: usize,
    least_share: f64,
}

impl<'a> Ranges<'a> {
    fn new(grid: &'a [f64], options: &'a ScanOptions, n_nodes: usize, n_steps: usize) -> Self {
        Ranges { grid, options, n_nodes, n_steps, full: vec![0; grid.len() + 1], partial: Vec::new() }
    }

    fn add(&mut self, range: GridRange) {
        let GridRange { low, high } = range;
        let first = match self.options.scope {
            Scope::All => low + 1,
            // (step - low) / (high - low) > step / n_steps, in whole numbers.
            Scope::Subset => (self.n_steps * low).checked_div(self.n_steps + low - high).map_or(high, |step| step + 1),
        };
        if first >= high {
            if let Some(count) = self.full.get_mut(high) {
                *count += 1;
            }
        } else if first <= self.grid.len() {
            self.partial.push(Partial { range, first, growth: 1.0 / (high - low) as f64 });
        }
    }

    /// The best subset over all thresholds; of equal scores that of the smallest threshold.
    fn best(&mut self, interrupt: &Interrupt) -> Result<Prefix, Error> {
        for step in 1..self.full.len() {
            self.full[step] += self.full[step - 1];
        }
        self.partial.sort_unstable_by_key(|partial| partial.first);
        let (mut best, mut reached) = (Prefix::default(), 0.0_f64);
        let (mut regions, mut shares) = (BinaryHeap::new(), Vec::new());
        if !self.grid.is_empty() {
            regions.push(Bounded { bound: f64::INFINITY, part: (1, self.grid.len()) }); // both ends included
        }
        while let Some(Bounded { bound, part: (first, last) }) = regions.pop() {
            if bound < reached.max(best.score) {
                break;
            }
            interrupt.check()?;
            if first == last {
                let found = self.best_prefix(first, &mut shares);
                #[allow(clippy::float_cmp)] // equal scores are equal to the bit
                let is_first = found.score == best.score && found.step < best.step;
                if found.score > best.score || is_first {
                    best = found;
                }
                continue;
            }
            let middle = (first * last).isqrt().clamp(first, last - 1);
            for (first, last) in [(first, middle), (middle + 1, last)] {
                let (own, at_last) = self.bound(first, last);
                reached = reached.max(at_last);
                regions.push(Bounded { bound: own.min(bound), part: (first, last) });
            }
        }
        Ok(best)
    }

    /// What no subset at these steps exceeds, and what one at the last of them certainly reaches.
    ///
    /// The sums of the largest shares are known where a class of shares ends. In between they lie below two lines, of the
    /// largest and of the smallest share in the class; scores are quasi-convex, so that the corners tell.
    fn bound(&self, first: usize, last: usize) -> (f64, f64) {
        let mut n_full = self.full[last];
        let (mut counts, mut sums) = ([0_u32; CLASSES], [0.0; CLASSES]);
        for partial in self.up_to(last) {
            if partial.range.high <= last {
                n_full += 1;
                continue;
            }
            let share = (last - partial.range.low) as f64 * partial.growth;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // in 0 to 1
            let class = ((share * CLASSES as f64) as usize).min(CLASSES - 1);
            counts[class] += 1;
            sums[class] += share;
        }
        let (least, most) = (self.grid[first - 1], self.grid[last - 1]);
        let (mut sum, mut size) = (n_full as f64, n_full as f64);
        let (mut bound, mut reached) = (self.score(least, sum, size), self.score(most, sum, size));
        for (class, (count, own)) in counts.into_iter().zip(sums).enumerate().rev().filter(|(_, (count, _))| *count > 0)
        {
            let (width, count) = (1.0 / CLASSES as f64, f64::from(count));
            let smallest = class as f64 * width;
            let steep = ((own - smallest * count) / width).clamp(0.0, count);
            let corner = self.score(least, sum + (smallest + width) * steep, size + steep);
            (sum, size) = (sum + own, size + count);
            bound = bound.max(corner).max(self.score(least, sum, size));
            reached = reached.max(self.score(most, sum, size));
        }
        let statistic = self.options.statistic;
        let slack = statistic.bound(reached, self.n_nodes) - reached;
        (statistic.bound(bound, self.n_nodes), reached - slack)
    }

    /// The score of so many nodes with this sum of shares.
    fn score(&self, alpha: f64, sum: f64, size: f64) -> f64 {
        let n = match self.options.scope {
            Scope::Subset => size,
            Scope::All => self.n_nodes as f64,
        };
        self.options.statistic.phi_of_shares(alpha, sum, n)
    }

    /// Those that count at a step, in part or in full.
    fn up_to(&self, step: usize) -> &[Partial] {
        &self.partial[..self.partial.partition_point(|partial| partial.first <= step)]
    }

    /// The best subset at a step.
    fn best_prefix(&self, step: usize, shares: &mut Vec<f64>) -> Prefix {
        let alpha = self.grid[step - 1];
        let mut n_full = self.full[step];
        shares.clear();
        for partial in self.up_to(step) {
            let share = partial.range.overlap(step);
            if share >= 1.0 {
                n_full += 1;
            } else if share > if self.options.scope == Scope::Subset { alpha } else { 0.0 } {
                shares.push(share);
            }
        }
        shares.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut best = Prefix { step, ..Prefix::default() };
        let (mut sum, mut size) = (n_full as f64, n_full);
        let mut consider = |sum: f64, size: usize, least_share: f64| {
            let score = self.score(alpha, sum, size as f64);
            if score > best.score {
                best = Prefix { score, size: size as u64, step, least_share };
            }
        };
        consider(sum, size, 1.0);
        #[allow(clippy::float_cmp)] // equal shares are equal to the bit
        for tied in shares.chunk_by(|a, b| a == b) {
            size += tied.len();
            for share in tied {
                sum += share;
            }
            consider(sum, size, tied[0]);
        }
        best
    }
}

/// Scan some images.
pub(crate) fn scan_images<V: Value>(
    background: &Background<V>,
    images: &Values<'_>,
    rows: &Range<usize>,
    options: &ScanOptions,
    bins: &Bins,
    with_nodes: bool,
    interrupt: &Interrupt,
) -> Result<Vec<Found>, Error> {
    let n_nodes = background.n_nodes();
    let n_steps = bins.membership.n_ranked(background.n_samples()) + 1;
    let grid = bins.thresholds();
    let for_each_range = |visit: &mut dyn FnMut(usize, usize, GridRange)| {
        background.for_each_range(images, rows, 0..n_nodes, bins, interrupt, visit)
    };
    let mut ranges: Vec<_> = rows.clone().map(|_| Ranges::new(grid, options, n_nodes, n_steps)).collect();
    for_each_range(&mut |image, _, range| ranges[image].add(range))?;
    let best = ranges.iter_mut().map(|ranges| ranges.best(interrupt)).collect::<Result<Vec<_>, Error>>()?;
    let mut nodes = vec![Vec::new(); best.len()];
    if with_nodes {
        for_each_range(&mut |image, node, range| {
            let Prefix { size, step, least_share, .. } = best[image];
            if size > 0 && range.overlap(step) >= least_share {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                nodes[image].push(node as i32);
            }
        })?;
    }
    let found = best.iter().zip(nodes).map(|(Prefix { score, size, step, .. }, nodes)| {
        let alpha = if *size > 0 { grid[step - 1] } else { 0.0 };
        Found { best: BestSubset { score: *score, alpha, size: *size }, nodes }
    });
    Ok(found.collect())
}
