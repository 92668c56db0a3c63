//! The alternating ascent: one side of a block and the other are chosen in turn until nothing improves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::counts::Tally;
use super::elements::NODES;
use super::problem::Problem;
use super::step::{Choice, Step};
use crate::error::Error;

/// A block on its way up.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub score: f64,
    pub alpha: f64,
    /// Members among the images and among the nodes, increasing.
    pub sides: [Vec<u32>; 2],
}

impl Block {
    /// The one that scores more, of equal scores this one.
    pub fn or_better(self, other: Block) -> Block {
        if other.score > self.score { other } else { self }
    }
}

/// The steps that were taken: ascents from different starts soon meet, and what one has found the other need not.
pub(super) struct StepCache<'a> {
    problem: Problem<'a>,
    known: Mutex<HashMap<Question, Arc<Mutex<Known>>>>,
}

/// Which side to choose, and the members of the other.
type Question = (usize, Vec<u32>);

/// What is known of a question.
#[derive(Debug, Default)]
struct Known {
    /// If it is small.
    tally: Option<Tally>,
    /// The step on each grid, with the score that it had to exceed.
    answers: [Option<(f64, Option<Choice>)>; 3],
}

/// The thresholds of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Grid {
    /// All.
    Exact,
    /// Every few of all.
    Coarse,
    /// Every few of those that the fixed side has.
    Own,
}

impl<'a> StepCache<'a> {
    /// Nothing is known yet.
    pub fn new(problem: Problem<'a>) -> Self {
        StepCache { problem, known: Mutex::default() }
    }

    /// Choose the members of side `free` for the given members of the other side, to score more than `floor`.
    fn choose(&self, grid: Grid, free: usize, fixed: &[u32], floor: f64) -> Result<Option<Choice>, Error> {
        let entry = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry((free, fixed.to_vec())).or_default())
        };
        let Known { tally: kept, answers } = &mut *entry.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = &mut answers[grid as usize];
        if let Some((exceeded, choice)) = answer
            && (choice.is_some() || *exceeded <= floor)
        {
            return Ok(choice.clone().filter(|choice| choice.score > floor));
        }
        let tally = match kept.take() {
            Some(tally) => tally,
            None => Tally::new(&self.problem, free, fixed)?,
        };
        let step = Step::new(&self.problem, free, fixed, &tally);
        let choice = match grid {
            Grid::Exact => step.exact(floor),
            Grid::Coarse => step.coarse(floor),
            Grid::Own => step.own(floor),
        }?;
        *kept = tally.is_small().then_some(tally);
        *answer = Some((floor, choice.clone()));
        Ok(choice)
    }
}

/// Climb from some members of one side until nothing improves; None where nothing scores.
///
/// Exact steps lead higher than coarse ones, step by step, but the hill they lead to may be a lower one. Hence the
/// second ascent of every start: first on a coarse grid, then on from there exactly, so that it ends no lower than a
/// coarse one. From nodes there is a third, on coarse grids that each step draws from its own p-values: that is how
/// ART's `Scanner.fgss_for_nets` climbs from all nodes, so that no score is below what it finds from there.
pub(super) fn ascend(steps: &StepCache<'_>, side: usize, members: &[u32]) -> Result<Vec<Option<Block>>, Error> {
    let mut block = Block::default();
    block.sides[side] = members.to_vec();
    let grids = [Grid::Exact, Grid::Coarse, Grid::Own];
    let climbs = grids[..if side == NODES { 3 } else { 2 }].par_iter().map(|grid| {
        match climb(steps, block.clone(), 1 - side, *grid)? {
            Some(block) if *grid != Grid::Exact => climb(steps, block, NODES, Grid::Exact),
            found => Ok(found),
        }
    });
    climbs.collect()
}

/// Choose the members of one side and the other in turn, until neither choice improves the score.
///
/// Where nothing scores for the start, as when most p-values are 1, go on from the member with the most small p-values.
fn climb(steps: &StepCache<'_>, mut block: Block, mut free: usize, grid: Grid) -> Result<Option<Block>, Error> {
    let mut n_settled = 0;
    while n_settled < 2 {
        let fixed = &block.sides[1 - free];
        match steps.choose(grid, free, fixed, block.score)? {
            Some(better) => {
                if steps.problem.sizes[1 - free].allow(fixed.len()) {
                    (block.score, block.alpha) = (better.score, better.alpha);
                } // else the start is no side of a block that may be returned, and its score does not count
                block.sides[free] = better.members;
                n_settled = 1;
            }
            None if block.score > 0.0 => n_settled += 1,
            None if block.sides[free].is_empty() => match steps.problem.most_small(free, fixed) {
                Some(member) => block.sides[free].push(member),
                None => return Ok(None),
            },
            None => return Ok(None),
        }
        free = 1 - free;
    }
    Ok(Some(block))
}
