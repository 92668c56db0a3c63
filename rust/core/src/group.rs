//! The group scan: the images x nodes block with the highest score, by alternating ascent from several starts, and a
//! bound that says how far the global optimum can be.
//!
//! A block of images R and nodes C scores phi(alpha, `n_alpha`, |R||C|), `n_alpha` of its p-values being at most alpha.
//! For fixed images the best nodes are found exactly over all thresholds, and the reverse ([`step`]); to alternate
//! until nothing improves leads to a local optimum (McFowland et al. 2013; the paper, section 3.2).

mod bound;
mod counts;
mod elements;
mod lines;
mod step;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::ArrayView2;
use rayon::prelude::*;

use self::bound::upper_bound;
use self::counts::Tally;
use self::elements::{Elements, IMAGES, NODES};
use self::lines::Lines;
use self::step::{Choice, Step};
use crate::background::Background;
use crate::pvalue::{AlphaMax, Ranking};
use crate::rank::{Membership, one_p_value};
use crate::statistic::Statistic;
use crate::value::{Value, Values};
use crate::{Error, Interrupt};

/// How many members one side of a block may have: at least `min`, which is at least 1, and at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideLimits {
    min: usize,
    max: usize,
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
    fn within(self, what: &'static str, n: usize) -> Result<Self, Error> {
        if self.min > n {
            return Err(Error::TooFew { what, min: self.min, received: n });
        }
        Ok(SideLimits { min: self.min, max: self.max.min(n) })
    }

    fn allow(self, n: usize) -> bool {
        (self.min..=self.max).contains(&n)
    }
}

impl Default for SideLimits {
    fn default() -> Self {
        SideLimits { min: 1, max: usize::MAX }
    }
}

/// What to search for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GroupOptions {
    /// What a block is scored by.
    pub statistic: Statistic,
    /// The largest threshold.
    pub alpha_max: AlphaMax,
    /// How many images a block may have.
    pub images: SideLimits,
    /// How many nodes a block may have.
    pub nodes: SideLimits,
    /// Whether to compute the upper bound.
    pub with_bound: bool,
}

/// Where the ascents begin. A start need not keep to the limits; what is returned does.
#[derive(Debug, Clone, Copy)]
pub struct Starts<'a> {
    /// Subsets of the images, one row a start: (starts, images). None may be empty.
    pub images: ArrayView2<'a, bool>,
    /// Whether to begin from all nodes as well; this start comes first.
    pub all_nodes: bool,
}

/// The highest-scoring block that was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupScan {
    /// The score, 0 where no block scores more.
    pub score: f64,
    /// The threshold, 0 for an empty block.
    pub alpha: f64,
    /// The block's images, increasing.
    pub images: Vec<i64>,
    /// The block's nodes, increasing.
    pub nodes: Vec<i64>,
    /// No block scores more than this, if that was asked for.
    pub upper_bound: Option<f64>,
}

/// What ascents and bound share.
#[derive(Debug, Clone, Copy)]
struct Problem<'a> {
    elements: &'a Elements,
    lines: &'a Lines,
    statistic: Statistic,
    sizes: [SideLimits; 2],
    interrupt: &'a Interrupt,
}

impl Problem<'_> {
    /// The first member of side `free` of those with the most small p-values on the fixed side; None if all have none.
    fn most_small(&self, free: usize, fixed: &[u32]) -> Option<u32> {
        let mut counts = vec![0_u32; self.elements.shape[free]];
        for pair in self.elements.pairs(0, self.elements.n_levels()) {
            counts[pair[free] as usize] += u32::from(fixed.binary_search(&pair[1 - free]).is_ok());
        }
        let most = *counts.iter().max()?;
        (0..).zip(counts).find(|(_, count)| *count == most && most > 0).map(|(member, _)| member)
    }
}

/// Scan a group of p-values that came from anywhere: (images, nodes), each in (0, 1].
///
/// # Errors
///
/// If a p-value is NaN or not in (0, 1], there is no node, a start is empty or of another number of images, or no block
/// keeps to the limits.
pub fn scan_group_p_values(
    p_values: &ArrayView2<'_, f64>,
    starts: &Starts<'_>,
    options: &GroupOptions,
    interrupt: &Interrupt,
) -> Result<GroupScan, Error> {
    if p_values.ncols() == 0 {
        return Err(Error::NoNodes);
    }
    let elements = Elements::from_p_values(p_values, options.alpha_max, interrupt)?;
    scan_elements(&elements, starts, options, interrupt)
}

impl<V: Value> Background<V> {
    /// Scan a group of images that are not in the background.
    ///
    /// # Errors
    ///
    /// As for [`Background::scan`] and [`scan_group_p_values`], and if ties are to keep their range.
    pub fn scan_group(
        &self,
        images: &Values<'_>,
        ranking: Ranking,
        starts: &Starts<'_>,
        options: &GroupOptions,
        interrupt: &Interrupt,
    ) -> Result<GroupScan, Error> {
        self.check_nodes(images)?;
        self.check_scan(ranking, options.alpha_max)?;
        one_p_value(ranking.ties)?;
        let bins = self.bins(images, ranking, options.alpha_max, Membership::Outside, interrupt)?;
        let elements = Elements::from_background(self, images, &bins, options.alpha_max, interrupt)?;
        scan_elements(&elements, starts, options, interrupt)
    }
}

fn scan_elements(
    elements: &Elements,
    starts: &Starts<'_>,
    options: &GroupOptions,
    interrupt: &Interrupt,
) -> Result<GroupScan, Error> {
    let [n_images, n_nodes] = elements.shape;
    let sizes = [options.images.within("images", n_images)?, options.nodes.within("nodes", n_nodes)?];
    if starts.images.ncols() != n_images {
        return Err(Error::Start(format!("{} images where the group has {n_images}", starts.images.ncols())));
    }
    let mut begin: Vec<_> =
        starts.images.rows().into_iter().map(|row| (IMAGES, members(row.iter().copied()))).collect();
    if starts.all_nodes {
        begin.insert(0, (NODES, members((0..n_nodes).map(|_| true))));
    }
    if let Some(n) = begin.iter().position(|(_, members)| members.is_empty()) {
        return Err(Error::Start(format!("start {n} is empty")));
    }
    let lines = &Lines::new(elements, elements.block_ends(), interrupt)?;
    let problem = Problem { elements, lines, statistic: options.statistic, sizes, interrupt };
    let steps = Steps { problem, known: Mutex::default() };
    let (found, bound) = rayon::join(
        || begin.par_iter().map(|(side, members)| ascend(&steps, *side, members)).collect::<Result<Vec<_>, Error>>(),
        || options.with_bound.then(|| upper_bound(&problem)).transpose(),
    );
    let mut best = Block::default();
    for block in found?.into_iter().flatten().flatten() {
        if block.score > best.score {
            best = block; // of equal scores the first start's
        }
    }
    let Block { score, alpha, sides: [images, nodes] } = best;
    // Rounding may not let the bound fall below a score that was reached.
    let upper_bound = bound?.map(|bound| bound.max(score));
    Ok(GroupScan { score, alpha, images: indices(images), nodes: indices(nodes), upper_bound })
}

/// A block on its way up.
#[derive(Debug, Clone, Default)]
struct Block {
    score: f64,
    alpha: f64,
    /// Members among the images and among the nodes, increasing.
    sides: [Vec<u32>; 2],
}

/// The steps that were taken: ascents from different starts soon meet, and what one has found the other need not.
struct Steps<'a> {
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
    /// The step on each grid, with the score that it was to exceed.
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

impl Steps<'_> {
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
fn ascend(steps: &Steps<'_>, side: usize, members: &[u32]) -> Result<Vec<Option<Block>>, Error> {
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
/// Where nothing scores for the start, as if most p-values are 1, go on from who has most small p-values on its side.
fn climb(steps: &Steps<'_>, mut block: Block, mut free: usize, grid: Grid) -> Result<Option<Block>, Error> {
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

/// Who is among the members.
fn members(is_member: impl Iterator<Item = bool>) -> Vec<u32> {
    (0..).zip(is_member).filter(|(_, is_member)| *is_member).map(|(n, _)| n).collect()
}

fn indices(members: Vec<u32>) -> Vec<i64> {
    members.into_iter().map(i64::from).collect()
}
