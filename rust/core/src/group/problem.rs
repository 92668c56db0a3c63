//! What a group scan is about: the p-values, the statistic, and the limits on the sides of a block.

use super::elements::Elements;
use super::pair_index::PairIndex;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::statistic::Statistic;

/// How many members one side of a block may have: at least `min`, which is at least 1, and at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideLimits {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl SideLimits {
    /// Limits of a side that is called `what` in messages; None is no limit.
    ///
    /// # Errors
    ///
    /// If a limit is 0, or the smaller one is the larger.
    pub fn new(what: &'static str, min: Option<usize>, max: Option<usize>) -> Result<Self, Error> {
        let (min, max) = (min.unwrap_or(1), max.unwrap_or(usize::MAX));
        if min == 0 || max < min {
            return Err(Error::SideLimits { what, min, max });
        }
        Ok(SideLimits { min, max })
    }

    /// The same limits where there are no more than `n` to choose from.
    pub(super) fn within(self, what: &'static str, n: usize) -> Result<Self, Error> {
        if self.min > n {
            return Err(Error::TooFew { what, min: self.min, received: n });
        }
        Ok(SideLimits { min: self.min, max: self.max.min(n) })
    }

    pub(super) fn allow(self, n: usize) -> bool {
        (self.min..=self.max).contains(&n)
    }
}

impl Default for SideLimits {
    fn default() -> Self {
        SideLimits { min: 1, max: usize::MAX }
    }
}

/// What ascents and bound share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub elements: &'a Elements,
    pub index: &'a PairIndex,
    pub statistic: Statistic,
    pub sizes: [SideLimits; 2],
    pub interrupt: &'a Interrupt,
}

impl Problem<'_> {
    /// A little more than a score, as [`Statistic::bound`]: no block's exceeds it by rounding.
    pub fn bound(&self, score: f64) -> f64 {
        let [n_images, n_nodes] = self.elements.shape;
        self.statistic.bound(score, n_images * n_nodes)
    }

    /// The first member of side `free` of those with the most small p-values on the fixed side; None if all have none.
    pub fn most_small(&self, free: usize, fixed: &[u32]) -> Option<u32> {
        let mut counts = vec![0_u32; self.elements.shape[free]];
        for pair in self.elements.pairs(0, self.elements.n_levels()) {
            counts[pair[free] as usize] += u32::from(fixed.binary_search(&pair[1 - free]).is_ok());
        }
        let most = *counts.iter().max()?;
        (0..).zip(counts).find(|(_, count)| *count == most && most > 0).map(|(member, _)| member)
    }
}
