//! How much the best block can score at most.

mod by_counts;
mod by_moments;
mod moments;
mod quadratic;

use rayon::prelude::*;

pub(super) use self::by_counts::upper_bound as quick;
use super::ascent::Block;
use super::counts::Tally;
use super::problem::Problem;
use super::step::Step;
use crate::error::Error;
use crate::name::Named;

/// Groups are searched through if no more than so many p-values have to be looked at.
const SEARCH: usize = 1 << 31;

/// How to bound what blocks score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBound {
    /// By how many small p-values each image and each node has.
    Quick,
    /// Also by how they meet: for few images, or few nodes, every subset of them is tried, so that the best block of
    /// all is found; else by which small p-values the images, or the nodes, share in pairs and in threes.
    Close,
}

impl Named for GroupBound {
    const WHAT: &'static str = "bound";
    const ALL: &'static [(&'static str, Self)] = &[("quick", GroupBound::Quick), ("close", GroupBound::Close)];
}

/// Compute a closer bound than the quick one, no less than the block's score, and the best block if that is found;
/// infinite where the group is too large for it.
pub(super) fn close(problem: &Problem<'_>, block: Block) -> Result<(Block, f64), Error> {
    if is_small(problem) {
        let better = best_block(problem, block.score)?;
        let best = block.or_better(better);
        let score = best.score;
        return Ok((best, score));
    }
    let bound = by_moments::upper_bound(problem, block.score)?;
    Ok((block, bound))
}

/// Whether every subset of the short side can be tried.
fn is_small(problem: &Problem<'_>) -> bool {
    let Problem { elements, index, .. } = problem;
    // About half of the pairs are in a subset, and each block of levels takes some time as well.
    let work = elements.pairs(0, elements.n_levels()).len() / 2 + 16 * index.ends.len();
    let n_lines = elements.shape[index.short];
    n_lines < 32 && work <= SEARCH >> n_lines
}

/// The block that scores highest of all, from the best members of the other side for every subset of the short one; the
/// empty one if none scores more than `floor`.
fn best_block(problem: &Problem<'_>, floor: f64) -> Result<Block, Error> {
    let Problem { elements, index, sizes, .. } = problem;
    let blocks = (1_u32..1 << elements.shape[index.short]).into_par_iter().map(|subset| {
        if !sizes[index.short].allow(subset.count_ones() as usize) {
            return Ok(Block::default());
        }
        let fixed: Vec<u32> = (0..32).filter(|line| subset >> line & 1 == 1).collect();
        let free = 1 - index.short;
        let tally = Tally::new(problem, free, &fixed)?;
        let Some(choice) = Step::new(problem, free, &fixed, &tally).exact(floor)? else { return Ok(Block::default()) };
        let mut block = Block { score: choice.score, alpha: choice.alpha, ..Block::default() };
        block.sides[free] = choice.members;
        block.sides[index.short] = fixed;
        Ok(block)
    });
    blocks.try_reduce(Block::default, |a, b| Ok(a.or_better(b)))
}
