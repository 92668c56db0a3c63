//! The group scan: the images x nodes block with the highest score, by alternating ascent from several starts, and a
//! bound that says how far the global optimum can be.
//!
//! A block of images R and nodes C scores phi(alpha, `n_alpha`, |R||C|), `n_alpha` of its p-values being at most alpha.
//! For fixed images the best nodes are found exactly over all thresholds, and the reverse ([`step`]); to alternate
//! until nothing improves leads to a local optimum (McFowland et al. 2013; the paper, section 3.2).

mod ascent;
mod bound;
mod counts;
mod elements;
mod pair_index;
mod problem;
mod step;

use ndarray::ArrayView2;
use rayon::prelude::*;

use self::ascent::{Block, StepCache, ascend};
pub use self::bound::GroupBound;
use self::elements::{Elements, IMAGES, NODES};
use self::pair_index::PairIndex;
use self::problem::Problem;
pub use self::problem::SideLimits;
use crate::background::{Background, check_most, check_n_nodes};
use crate::bins::Membership;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::pvalue::{AlphaMax, Ranking};
use crate::statistic::Statistic;
use crate::value::{Value, Values};

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
    /// How to bound what blocks score, if that is asked for.
    pub bound: Option<GroupBound>,
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
    check_n_nodes(p_values.ncols())?;
    check_most("inputs", p_values.nrows(), u32::MAX as usize)?;
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
        self.check_nodes(images, interrupt)?;
        check_most("inputs", images.dim().0, u32::MAX as usize)?;
        self.check_scan(ranking, options.alpha_max)?;
        ranking.ties.check_one_p_value()?;
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
    let index = &PairIndex::new(elements, elements.block_ends(), interrupt)?;
    let problem = Problem { elements, index, statistic: options.statistic, sizes, interrupt };
    let steps = StepCache::new(problem);
    let (found, quick) = rayon::join(
        || begin.par_iter().map(|(side, members)| ascend(&steps, *side, members)).collect::<Result<Vec<_>, Error>>(),
        || options.bound.map(|_| bound::quick(&problem)).transpose(),
    );
    let mut best = found?.into_iter().flatten().flatten().fold(Block::default(), Block::or_better);
    // Rounding may not let the bound fall below a score that was reached.
    let mut upper_bound = quick?.map(|quick| quick.max(best.score));
    if let (Some(quick), Some(GroupBound::Close)) = (upper_bound, options.bound)
        && quick > best.score
    {
        let close;
        (best, close) = bound::close(&problem, best)?;
        upper_bound = Some(close.min(quick.max(best.score)));
    }
    let Block { score, alpha, sides: [images, nodes] } = best;
    Ok(GroupScan { score, alpha, images: indices(images), nodes: indices(nodes), upper_bound })
}

/// Who is among the members.
fn members(is_member: impl Iterator<Item = bool>) -> Vec<u32> {
    (0..).zip(is_member).filter(|(_, is_member)| *is_member).map(|(n, _)| n).collect()
}

fn indices(members: Vec<u32>) -> Vec<i64> {
    members.into_iter().map(i64::from).collect()
}
