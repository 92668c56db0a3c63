//! How much the best block can score at most.

mod by_counts;
mod by_moments;
mod moments;
mod quadratic;

use rayon::prelude::*;

pub(super) use self::by_counts::upper_bound as quick;
use super::counts::Tally;
use super::problem::Problem;
use super::step::Step;
use crate::error::Error;
use crate::name::Named;

/// Groups are searched through if no more than so many p-values have to be looked at.
const SEARCH: usize = 1 << 26;

/// How to bound what blocks score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupBound {
    /// By how many small p-values each image and each node has.
    #[default]
    Quick,
    /// Also by how they meet: for few images, or few nodes, by the best block for each subset of them, and else by
    /// which small p-values the images, or the nodes, share in pairs and in threes.
    Close,
}

impl Named for GroupBound {
    const WHAT: &'static str = "bound";
    const ALL: &'static [(&'static str, Self)] = &[("quick", GroupBound::Quick), ("close", GroupBound::Close)];
}

/// Compute a closer bound on what blocks score, no less than `score`; infinite where the group is too large for it.
pub(super) fn close(problem: &Problem<'_>, score: f64) -> Result<f64, Error> {
    match optimum(problem, score)? {
        Some(optimum) => Ok(optimum),
        None => by_moments::upper_bound(problem, score),
    }
}

/// The highest score of all blocks, from the best members of the other side for every subset of the short one; None
/// where that takes too long.
fn optimum(problem: &Problem<'_>, score: f64) -> Result<Option<f64>, Error> {
    let Problem { elements, index, sizes, .. } = problem;
    let (n_lines, n_pairs) = (elements.shape[index.short], elements.pairs(0, elements.n_levels()).len());
    let Some(subsets) = u32::try_from(n_lines).ok().and_then(|n| 1_u32.checked_shl(n)) else { return Ok(None) };
    // About half of the pairs are in a subset, and each block of levels takes some time as well.
    if (subsets as usize).saturating_mul(n_pairs / 2 + 16 * index.ends.len()) > SEARCH {
        return Ok(None);
    }
    let best = (1..subsets).into_par_iter().filter(|subset| sizes[index.short].allow(subset.count_ones() as usize));
    let best = best.map(|subset| {
        let fixed: Vec<u32> = (0..32).filter(|line| subset >> line & 1 == 1).collect();
        let free = 1 - index.short;
        let tally = Tally::new(problem, free, &fixed)?;
        let choice = Step::new(problem, free, &fixed, &tally).exact(score)?;
        Ok(choice.map_or(score, |choice| choice.score))
    });
    best.try_reduce(|| score, |a, b| Ok(a.max(b))).map(Some)
}
