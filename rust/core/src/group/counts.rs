//! How many small p-values the members of one side have on the other: at the ends of blocks, and level by level.

use super::elements::{Elements, Pair};
use super::problem::Problem;
use crate::error::Error;

/// Entries of a tally that may be kept.
const KEPT: usize = 1 << 16;

/// What a step needs to know of each block of levels: the counts of the free side at its end.
///
/// If the free side is the long one, how many members have at least 0, 1, ... small p-values on the fixed side, as there
/// are fewer such numbers than members; else how many each member has.
#[derive(Debug)]
pub(super) struct Tally {
    pub is_at_least: bool,
    width: usize,
    rows: Vec<u32>,
}

impl Tally {
    /// Count for the given members of the side that is not `free`.
    pub fn new(problem: &Problem<'_>, free: usize, fixed: &[u32]) -> Result<Self, Error> {
        let Problem { elements, index, interrupt, .. } = problem;
        let n_blocks = index.ends.len();
        let is_at_least = free != index.short;
        let width = if is_at_least { fixed.len() + 2 } else { elements.shape[free] };
        let mut tally = Tally { is_at_least, width, rows: vec![0; n_blocks * width] };
        if is_at_least {
            let mut counts = MemberCounts::new(elements.shape[free], fixed.len(), Order::AtLeast);
            for (block, row) in tally.rows.chunks_exact_mut(width).enumerate() {
                interrupt.check()?;
                for member in fixed {
                    counts.add(index.others(block, *member));
                }
                row.copy_from_slice(&counts.at_least);
            }
        } else {
            interrupt.check()?;
            for cell in fixed.iter().flat_map(|member| index.cells(*member)) {
                tally.rows[*cell as usize] += 1;
            }
            for n in width..tally.rows.len() {
                tally.rows[n] += tally.rows[n - width];
            }
        }
        Ok(tally)
    }

    /// Whether to keep it costs little.
    pub fn is_small(&self) -> bool {
        self.rows.len() <= KEPT
    }

    pub fn row(&self, block: usize) -> &[u32] {
        &self.rows[block * self.width..][..self.width]
    }
}

/// How many members have equal counts, by decreasing count.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// A count, and how many members have it.
    pub runs: Vec<(u32, u32)>,
    sorted: Vec<u32>,
}

impl Runs {
    /// Those at the end of a block.
    pub fn of_block(&mut self, tally: &Tally, block: usize) {
        if tally.is_at_least {
            self.of_at_least(tally.row(block));
        } else {
            self.of_row(tally.row(block));
        }
    }

    /// Those of counts.
    pub fn of_counts(&mut self, counts: &MemberCounts) {
        match (&counts.at_least[..], &counts.sorted[..]) {
            ([], _) => self.of_row(&counts.each),
            (at_least, []) => self.of_at_least(at_least),
            (_, [sorted @ .., _]) => self.of_sorted(sorted),
        }
    }

    fn of_row(&mut self, counts: &[u32]) {
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted.extend_from_slice(counts);
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        self.of_sorted(&sorted);
        self.sorted = sorted;
    }

    #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
    fn of_at_least(&mut self, at_least: &[u32]) {
        self.runs.clear();
        let differences = at_least.windows(2).enumerate().map(|(count, pair)| (count as u32, pair[0] - pair[1]));
        self.runs.extend(differences.rev().filter(|(_, members)| *members > 0));
    }

    #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
    fn of_sorted(&mut self, sorted: &[u32]) {
        self.runs.clear();
        self.runs.extend(sorted.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len() as u32)));
    }
}

/// What is kept besides counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// Nothing.
    None,
    /// How many members have at least so many: if there are more members than counts.
    AtLeast,
    /// That, and the counts by decreasing count, if few are added at a time: as one more or one less moves a count by one
    /// run, they stay in order.
    Sorted,
}

/// Which side of a block is free, and which members are on the fixed one.
#[derive(Debug)]
pub(super) struct Sides<'a> {
    elements: &'a Elements,
    pub free: usize,
    /// 1 for members of the fixed side that are in the block, else 0.
    is_fixed: Vec<u32>,
}

impl<'a> Sides<'a> {
    pub fn new(elements: &'a Elements, free: usize, fixed: &[u32]) -> Self {
        let mut is_fixed = vec![0; elements.shape[1 - free]];
        for member in fixed {
            is_fixed[*member as usize] = 1;
        }
        Sides { elements, free, is_fixed }
    }

    /// Whether the pair's member of the fixed side is in the block.
    pub fn has(&self, pair: Pair) -> bool {
        self.is_fixed[pair[1 - self.free] as usize] == 1
    }
}

/// Counts of the free side.
#[derive(Debug)]
pub(super) struct MemberCounts {
    /// How many small p-values each member has on the fixed side.
    pub each: Vec<u32>,
    /// How many members have at least 0, 1, ... of them, or nothing.
    at_least: Vec<u32>,
    /// The counts by decreasing count, and one entry more; or nothing.
    sorted: Vec<u32>,
}

impl MemberCounts {
    #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
    pub fn new(n_free: usize, n_fixed: usize, order: Order) -> Self {
        let mut at_least = vec![0; if order == Order::None { 0 } else { n_fixed + 2 }];
        if let Some(all) = at_least.first_mut() {
            *all = n_free as u32;
        }
        MemberCounts {
            each: vec![0; n_free],
            at_least,
            sorted: vec![0; if order == Order::Sorted { n_free + 1 } else { 0 }],
        }
    }

    /// Set them to those of a tally that tells how many each member has.
    #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
    pub fn set(&mut self, counts: &[u32]) {
        self.each.copy_from_slice(counts);
        if self.sorted.is_empty() {
            return;
        }
        let sorted = &mut self.sorted[..counts.len()];
        sorted.copy_from_slice(counts);
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        self.at_least[1..].fill(0);
        let mut reached = self.at_least.len() - 1;
        for (n, count) in sorted.iter().enumerate() {
            self.at_least[*count as usize + 1..=reached].fill(n as u32);
            reached = *count as usize;
        }
        self.at_least[1..=reached].fill(counts.len() as u32);
    }

    /// Count these once more, where it is kept how many members have at least so many.
    pub fn add(&mut self, members: &[u32]) {
        for member in members {
            let count = &mut self.each[*member as usize];
            *count += 1;
            self.at_least[*count as usize] += 1;
        }
    }

    /// Count levels `from` to `to`, the latter not among them.
    pub fn add_pairs(&mut self, sides: &Sides<'_>, from: usize, to: usize) {
        // Whether a p-value is on the fixed side is hard to predict: add 0 if it is not.
        for pair in sides.elements.pairs(from, to) {
            let is_fixed = sides.is_fixed[pair[1 - sides.free] as usize];
            let count = &mut self.each[pair[sides.free] as usize];
            if self.sorted.is_empty() {
                *count += is_fixed;
                if let Some(at_least) = self.at_least.get_mut(*count as usize) {
                    *at_least += is_fixed;
                }
            } else {
                // The first of those that have as many.
                let first = &mut self.at_least[*count as usize + 1];
                self.sorted[*first as usize] += is_fixed;
                *first += is_fixed;
                *count += is_fixed;
            }
        }
    }

    /// Take them back.
    pub fn take_pairs(&mut self, sides: &Sides<'_>, from: usize, to: usize) {
        for pair in sides.elements.pairs(from, to) {
            let is_fixed = sides.is_fixed[pair[1 - sides.free] as usize];
            let count = &mut self.each[pair[sides.free] as usize];
            if let Some(end) = self.at_least.get_mut(*count as usize) {
                *end -= is_fixed;
                if let Some(last) = self.sorted.get_mut(*end as usize) {
                    *last -= is_fixed;
                }
            }
            *count -= is_fixed;
        }
    }
}
