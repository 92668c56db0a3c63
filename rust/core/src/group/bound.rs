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

/// Groups are searched through if no more than so many p-values have to be looked at: seconds.
const SEARCH: usize = 1 << 30;
/// What a subset of lines takes however few p-values it has, as a number of these; and what each block of levels takes.
const SUBSET: usize = 512;
const BLOCK: usize = 16;

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
    // About half of the pairs are in a subset.
    let work = elements.pairs(0, elements.n_levels()).len() / 2 + BLOCK * index.ends.len() + SUBSET;
    let n_lines = elements.shape[index.short];
    n_lines < 32 && work <= SEARCH >> n_lines
}

/// The block that scores highest of all, from the best members of the other side for every subset of the short one; the
/// empty one if none scores more than `floor`.
fn best_block(problem: &Problem<'_>, floor: f64) -> Result<Block, Error> {
    let Problem { elements, index, sizes, interrupt, .. } = problem;
    let blocks = (1_u32..1 << elements.shape[index.short]).into_par_iter().map(|subset| {
        interrupt.check()?;
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

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::super::elements::Elements;
    use super::super::pair_index::PairIndex;
    use super::super::problem::SideLimits;
    use super::*;
    use crate::interrupt::Interrupt;
    use crate::pvalue::AlphaMax;
    use crate::statistic::Statistic;

    #[test]
    fn subsets_take_time_that_hold_nothing() {
        for (n_images, n_small, is_expected) in [(20, 0, true), (20, 20, true), (22, 1, false), (31, 0, false)] {
            let mut p = Array2::ones((n_images, 40));
            p.diag_mut().iter_mut().take(n_small).for_each(|p| *p = 0.1);
            let (alpha_max, interrupt) = (AlphaMax::default(), &Interrupt::default());
            let elements = &Elements::from_p_values(&p.view(), alpha_max, interrupt).expect("p-values");
            let index = &PairIndex::new(elements, elements.block_ends(), interrupt).expect("an index");
            let sizes = [SideLimits::default(); 2];
            let problem = Problem { elements, index, statistic: Statistic::BerkJones, sizes, interrupt };
            assert_eq!(is_small(&problem), is_expected, "{n_images} {n_small}");
            interrupt.set();
            assert_eq!(best_block(&problem, 0.0).expect_err("it was stopped"), Error::Interrupted);
        }
    }
}
