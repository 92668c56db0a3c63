//! The scan in which a tied node counts in part: with the share of its p-value's range that lies below alpha.
//!
//! For a fixed alpha a node's priority is that share, and the best subset is a prefix in its order (McFowland et al.
//! 2013, theorem 2; LTSS). Statistics are convex along nodes of equal priority, so that these are taken all or none,
//! and nodes with a share of at most alpha never help.

use crate::background::Background;
use crate::bins::Membership;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::options::{ScanOptions, Scope};
use crate::pvalue::{GridRange, thresholds};
use crate::result::{BestSubset, Found};
use crate::value::{Value, Values};

/// Thresholds that are bounded together before any is looked at.
const RANGE_BLOCK: usize = 32;

/// The p-value ranges of one image: those of one step as a histogram, the others one by one.
struct Ranges {
    n_nodes: usize,
    /// How many ranges of one step end at most at each step.
    n_narrow: Vec<usize>,
    wide: Vec<GridRange>,
}

/// The best prefix at one threshold: nodes with at least this share.
#[derive(Clone, Copy, Default)]
struct Prefix {
    score: f64,
    size: u64,
    least_share: f64,
}

impl Ranges {
    /// The best subset for `alpha`, each range cut off at `step`.
    fn best_prefix(&self, alpha: f64, step: usize, options: &ScanOptions, shares: &mut Vec<f64>) -> Prefix {
        let mut n_full = self.n_narrow[step];
        shares.clear();
        for range in &self.wide {
            let share = range.overlap(step);
            if share >= 1.0 {
                n_full += 1;
            } else if share > if options.scope == Scope::Subset { alpha } else { 0.0 } {
                shares.push(share);
            }
        }
        shares.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut best = Prefix::default();
        let (mut sum, mut size) = (n_full as f64, n_full);
        let mut consider = |sum: f64, size: usize, least_share: f64| {
            let n = match options.scope {
                Scope::Subset => size,
                Scope::All => self.n_nodes,
            };
            let score = options.statistic.phi_of_shares(alpha, sum, n as f64);
            if score > best.score {
                best = Prefix { score, size: size as u64, least_share };
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

/// Scan one image.
pub(crate) fn scan_image<V: Value>(
    background: &Background<V>,
    images: &Values<'_>,
    image: usize,
    options: &ScanOptions,
    membership: Membership,
    with_nodes: bool,
    interrupt: &Interrupt,
) -> Result<Found, Error> {
    let n_nodes = background.n_nodes();
    let grid = thresholds(options.ranking, membership.n_ranked(background.n_samples()), options.alpha_max);
    let for_each_range = |visit: &mut dyn FnMut(usize, GridRange)| {
        let (row, nodes) = (image..image + 1, 0..n_nodes);
        let tail = options.ranking.tail;
        background.for_each_range(images, &row, nodes, tail, membership, grid.len(), interrupt, |_, node, range| {
            visit(node, range);
        })
    };
    let mut ranges = Ranges { n_nodes, n_narrow: vec![0; grid.len() + 1], wide: Vec::new() };
    for_each_range(&mut |_, range| {
        if range.high == range.low + 1 {
            if let Some(count) = ranges.n_narrow.get_mut(range.high) {
                *count += 1;
            }
        } else if range.low < grid.len() {
            ranges.wide.push(range);
        }
    })?;
    for step in 1..=grid.len() {
        ranges.n_narrow[step] += ranges.n_narrow[step - 1];
    }

    // No score in a block exceeds that of its smallest alpha with the shares at its largest.
    let mut shares = Vec::new();
    let blocks: Vec<_> =
        (0..grid.len()).step_by(RANGE_BLOCK).map(|start| start..grid.len().min(start + RANGE_BLOCK)).collect();
    let mut bounds = Vec::with_capacity(blocks.len());
    let mut reached = 0.0_f64;
    for block in &blocks {
        interrupt.check()?;
        let bound = ranges.best_prefix(grid[block.start], block.end, options, &mut shares).score;
        bounds.push(options.statistic.bound(bound, n_nodes));
        reached = reached.max(ranges.best_prefix(grid[block.end - 1], block.end, options, &mut shares).score);
    }
    let (mut best, mut best_step) = (Prefix::default(), 0);
    for (block, _) in blocks.into_iter().zip(bounds).filter(|(_, bound)| *bound >= reached) {
        interrupt.check()?;
        for position in block {
            let found = ranges.best_prefix(grid[position], position + 1, options, &mut shares);
            if found.score > best.score {
                (best, best_step) = (found, position + 1);
            }
        }
    }

    let mut nodes = Vec::new();
    if with_nodes && best.size > 0 {
        for_each_range(&mut |node, range| {
            if range.overlap(best_step) >= best.least_share {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                nodes.push(node as i32);
            }
        })?;
    }
    let alpha = if best_step > 0 { grid[best_step - 1] } else { 0.0 };
    Ok(Found { best: BestSubset { score: best.score, alpha, size: best.size }, nodes })
}
