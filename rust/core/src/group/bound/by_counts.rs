//! What no block exceeds, given how many small p-values each image and each node has.
//!
//! A block of r images and c nodes has at most min(sum of the r largest min(c, row count), sum of the c largest min(r,
//! column count)) p-values up to alpha. The bound is the highest score that any r, c and alpha have with that many,
//! found by branch and bound over ranges of r and alpha.

use std::collections::BinaryHeap;

use ndarray::{Array2, Ix2, s};

use super::super::problem::Problem;
use crate::bounded::Bounded;
use crate::error::Error;
use crate::memory::zeros;

/// Entries of the tables of counts: beyond that several levels share one.
const TABLE: usize = 1 << 23;
/// Pieces of a curve that may be looked at; after them the bound stays as it is, valid though not as low as might be.
const BUDGET: usize = 1 << 21;

/// Compute the bound; 0 where there is no p-value up to `alpha_max`.
pub(in crate::group) fn upper_bound(problem: &Problem<'_>) -> Result<f64, Error> {
    let counts = CountTable::new(problem)?;
    if counts.alphas.is_empty() {
        return Ok(0.0);
    }
    let (short, long) = (counts.short, 1 - counts.short);
    let mut budget = BUDGET;
    let mut evaluate = |levels, lines| {
        let bound = counts.bound(problem, long, levels, lines, &mut budget);
        (Bounded { bound, part: Region { levels, lines } }, budget)
    };
    let mut cells = BinaryHeap::new();
    cells.push(evaluate((0, counts.alphas.len() - 1), (problem.sizes[short].min, problem.sizes[short].max)).0);
    while let Some(top) = cells.pop() {
        problem.interrupt.check()?;
        let Some(parts) = top.part.split(&counts.alphas) else { return Ok(top.bound) };
        for (levels, lines) in parts {
            let (mut cell, budget) = evaluate(levels, lines);
            if budget == 0 {
                return Ok(top.bound);
            }
            cell.bound = cell.bound.min(top.bound);
            cells.push(cell);
        }
    }
    Ok(0.0)
}

/// Ranges of levels and of numbers of lines, both ends included.
#[derive(Debug, Clone, Copy)]
struct Region {
    levels: (usize, usize),
    lines: (usize, usize),
}

impl Region {
    /// Two halves, by what varies more over the cell; None if there is nothing to halve.
    #[allow(clippy::type_complexity)]
    fn split(&self, alphas: &[f64]) -> Option<[((usize, usize), (usize, usize)); 2]> {
        let ((first, last), (least, most)) = (self.levels, self.lines);
        if first == last && least == most {
            return None;
        }
        let spread = alphas[last] / alphas[first];
        if least == most || first < last && spread > most as f64 / least as f64 {
            let middle = middle(alphas, first, last);
            Some([((first, middle), self.lines), ((middle + 1, last), self.lines)])
        } else {
            let middle = usize::midpoint(least, most);
            Some([(self.levels, (least, middle)), (self.levels, (middle + 1, most))])
        }
    }
}

/// Where to halve levels `first` to `last`: the last of the lower half.
pub(super) fn middle(alphas: &[f64], first: usize, last: usize) -> usize {
    let mean = geometric_mean(alphas[first], alphas[last]);
    (first + alphas[first..last].partition_point(|alpha| *alpha <= mean)).max(first + 1) - 1
}

fn geometric_mean(a: f64, b: f64) -> f64 {
    let product = a * b;
    if product.is_normal() { product.sqrt() } else { a.sqrt() * b.sqrt() } // too small a product is rounded, to 0 even
}

/// Counts of small p-values after each level, or after every few levels.
pub(super) struct CountTable {
    /// The side with fewer members; these are the lines.
    pub short: usize,
    /// The p-value of the first of the levels that share an entry.
    pub alphas: Vec<f64>,
    /// How many levels there are up to the end of each entry.
    pub ends: Vec<usize>,
    /// Whether no two levels share one.
    exact: bool,
    /// How many small p-values each line has: (entries, lines).
    pub lines: Array2<u32>,
    /// How many members of the other side have at least 1, 2, ... small p-values: (entries, lines).
    pub at_least: Array2<u32>,
}

impl CountTable {
    pub fn new(problem: &Problem<'_>) -> Result<Self, Error> {
        let elements = problem.elements;
        let short = usize::from(elements.shape[1] < elements.shape[0]);
        let n_lines = elements.shape[short];
        let n_entries = elements.n_levels().min((TABLE / (2 * n_lines)).max(1));
        let share = elements.n_levels().div_ceil(n_entries.max(1)).max(1);
        let n_entries = elements.n_levels().div_ceil(share);
        let mut counts = CountTable {
            short,
            alphas: elements.alphas.iter().copied().step_by(share).collect(),
            ends: (1..=n_entries).map(|entry| elements.n_levels().min(entry * share)).collect(),
            exact: share == 1,
            lines: zeros(Ix2(n_entries, n_lines))?,
            at_least: zeros(Ix2(n_entries, n_lines))?,
        };
        let (mut lines, mut at_least) = (vec![0_u32; n_lines], vec![0_u32; n_lines]);
        let mut others = vec![0_u32; elements.shape[1 - short]];
        for entry in 0..n_entries {
            problem.interrupt.check()?;
            for pair in elements.pairs(entry * share, counts.ends[entry]) {
                lines[pair[short] as usize] += 1;
                let other = &mut others[pair[1 - short] as usize];
                at_least[*other as usize] += 1;
                *other += 1;
            }
            counts.lines.slice_mut(s![entry, ..]).assign(&ndarray::aview1(&lines));
            counts.at_least.slice_mut(s![entry, ..]).assign(&ndarray::aview1(&at_least));
        }
        Ok(counts)
    }

    /// Bound the scores of blocks of `least` to `most` lines over entries `first` to `last`.
    ///
    /// None has more small p-values than `most` lines have with the last entry's counts, a curve over the number c of
    /// members of the other side that is the smaller of two concave, piecewise linear ones; and none has fewer p-values
    /// than `least` times c. Scores are convex along a line, or fall and then rise, so that the ends of the pieces
    /// tell.
    fn bound(
        &self,
        problem: &Problem<'_>,
        long: usize,
        (first, last): (usize, usize),
        (least, most): (usize, usize),
        budget: &mut usize,
    ) -> f64 {
        let alpha = self.alphas[first];
        let is_exact = self.exact && first == last && least == most;
        let at_least = self.at_least.row(last);
        let mut lines: Vec<u64> = self.lines.row(last).iter().map(|count| u64::from(*count)).collect();
        lines.sort_unstable_by(|a, b| b.cmp(a));
        let limits = problem.sizes[long];
        let (min, max) = (limits.min as u64, limits.max as u64);
        let least = least as u64;
        let useless = least as f64 * alpha;

        let mut best = 0.0_f64;
        let mut visit = |c: u64, n_alpha: u64| {
            if (min..=max).contains(&c) {
                best = best.max(problem.statistic.phi(alpha, n_alpha, (least * c).max(n_alpha)));
            }
        };
        let mut from = Point::default();
        let (mut line_slope, mut other_slope) = (most, most);
        while from.c < max {
            while line_slope > 0 && lines[line_slope - 1] <= from.c {
                line_slope -= 1;
            }
            while other_slope > 0 && u64::from(at_least[other_slope - 1]) <= from.c {
                other_slope -= 1;
            }
            let is_diluted = from.n_alpha() <= least * from.c && line_slope.max(other_slope) as f64 <= useless;
            if from.c >= min && is_diluted {
                break; // more members only dilute what there is
            }
            let mut end = if from.c < min { min } else { max };
            if line_slope > 0 {
                end = end.min(lines[line_slope - 1]);
            }
            if other_slope > 0 {
                end = end.min(u64::from(at_least[other_slope - 1]));
            }
            *budget = budget.saturating_sub(1);
            let slopes = (line_slope as u64, other_slope as u64);
            let to = from.advanced(end - from.c, slopes);
            if let Some(steps) = from.steps_to_crossing(to, slopes) {
                let before = from.advanced(steps, slopes);
                let after = before.advanced(1, slopes);
                visit_piece(from, before, least, &mut visit);
                visit(after.c, after.n_alpha());
                visit_piece(after, to, least, &mut visit);
            } else {
                visit_piece(from, to, least, &mut visit);
            }
            from = to;
        }
        if is_exact { best } else { problem.bound(best) }
    }
}

/// Two curves at c.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    c: u64,
    /// Sum of the largest min(c, count of a line).
    by_lines: u64,
    /// Sum of the c largest min(lines, count of another member).
    by_others: u64,
}

impl Point {
    fn n_alpha(self) -> u64 {
        self.by_lines.min(self.by_others)
    }

    fn advanced(self, steps: u64, slopes: (u64, u64)) -> Self {
        Point {
            c: self.c + steps,
            by_lines: self.by_lines + steps * slopes.0,
            by_others: self.by_others + steps * slopes.1,
        }
    }

    /// Where the smaller of both curves becomes the larger before `to`: the last whole step before that.
    fn steps_to_crossing(self, to: Point, slopes: (u64, u64)) -> Option<u64> {
        let crosses = self.by_lines < self.by_others && to.by_lines > to.by_others
            || self.by_lines > self.by_others && to.by_lines < to.by_others;
        crosses.then(|| self.by_lines.abs_diff(self.by_others) / slopes.0.abs_diff(slopes.1))
    }
}

/// Visit what can be highest on a piece along which the smaller curve is straight: its end, and where `least` lines
/// begin to have fewer small p-values than p-values.
fn visit_piece(from: Point, to: Point, least: u64, visit: &mut impl FnMut(u64, u64)) {
    visit(to.c, to.n_alpha());
    let (start, end) = (from.n_alpha(), to.n_alpha());
    if start > least * from.c && end < least * to.c {
        let slope = (end - start) / (to.c - from.c);
        let steps = (start - least * from.c) / (least - slope);
        for steps in [steps, steps + 1] {
            if from.c + steps <= to.c {
                visit(from.c + steps, start + slope * steps);
            }
        }
    }
}
