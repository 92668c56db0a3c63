//! What a scan finds: for each image a score, a threshold and a subset.

use crate::options::{ScanOptions, Scope};
use crate::statistic::Statistic;

/// The highest-scoring subset of each of N images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scan {
    /// The score, 0 for an image without a node with p <= `alpha_max`.
    pub scores: Vec<f64>,
    /// The threshold: the subset is all nodes with p at most this. 0 for an empty subset.
    pub alphas: Vec<f64>,
    /// How many nodes the subset has.
    pub sizes: Vec<i64>,
    /// Which they are, if that was asked for.
    pub nodes: Option<NodeSubsets>,
}

/// A subset of nodes for each image, as the index arrays of a compressed sparse row matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSubsets {
    /// Where each image's nodes begin in `indices`; one more entry than there are images.
    pub indptr: Vec<i64>,
    /// The nodes, increasing within an image.
    pub indices: Vec<i32>,
}

impl NodeSubsets {
    pub(crate) fn of(nodes: impl IntoIterator<Item = Vec<i32>>) -> Self {
        let mut subsets = NodeSubsets { indptr: vec![0], indices: Vec::new() };
        for own in nodes {
            subsets.indices.extend(own);
            #[allow(clippy::cast_possible_wrap)] // no images have 2^63 nodes
            subsets.indptr.push(subsets.indices.len() as i64);
        }
        subsets
    }
}

impl Scan {
    pub(crate) fn of(found: impl IntoIterator<Item = Found>, with_nodes: bool) -> Self {
        let mut scan = Scan::default();
        let subsets = NodeSubsets::of(found.into_iter().map(|Found { best, nodes }| {
            scan.scores.push(best.score);
            scan.alphas.push(best.alpha);
            #[allow(clippy::cast_possible_wrap)] // no image has 2^63 nodes
            scan.sizes.push(best.size as i64);
            nodes
        }));
        scan.nodes = with_nodes.then_some(subsets);
        scan
    }
}

/// Thresholds that are bounded together before any is looked at.
const THRESHOLD_BLOCK: usize = 16;
/// Images that are scored without a table of logarithms.
const FEW_TO_SCORE: usize = 16;
/// One image's result.
pub(crate) struct Found {
    pub best: BestSubset,
    pub nodes: Vec<i32>,
}

/// The highest score, the threshold that gives it, and how many p-values are at most that.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct BestSubset {
    pub score: f64,
    pub alpha: f64,
    pub size: u64,
}

impl BestSubset {
    /// Look at each distinct p-value, increasing, with the number of nodes that have it; equal scores: the smaller wins.
    pub fn of(p_values: impl Iterator<Item = (f64, u64)>, statistic: Statistic, scope: Scope, n_nodes: usize) -> Self {
        let mut best = BestSubset::default();
        let mut n_alpha = 0;
        for (alpha, count) in p_values.filter(|(_, count)| *count > 0) {
            n_alpha += count;
            let n = match scope {
                Scope::Subset => n_alpha,
                Scope::All => n_nodes as u64,
            };
            let score = statistic.phi(alpha, n_alpha, n);
            if score > best.score {
                best = BestSubset { score, alpha, size: n_alpha };
            }
        }
        best
    }
}

/// Scores of histograms over thresholds, all with the same options.
pub(crate) struct Scorer<'a> {
    thresholds: &'a [f64],
    statistic: Statistic,
    scope: Scope,
    n_nodes: usize,
    /// For each threshold the score of one node, where a subset scores a multiple of that; empty where there is little to
    /// score.
    of_one: Vec<f64>,
}

impl<'a> Scorer<'a> {
    pub fn new(thresholds: &'a [f64], options: &ScanOptions, n_nodes: usize, n_images: usize) -> Self {
        let &ScanOptions { statistic, scope, .. } = options;
        let tabulated = if n_images > FEW_TO_SCORE { thresholds } else { &[] };
        let of_one = tabulated.iter().filter_map(|alpha| statistic.score_of_one(*alpha)).collect();
        Scorer { thresholds, statistic, scope, n_nodes, of_one }
    }

    /// The highest score of a histogram, as [`BestSubset::of`] finds it.
    pub fn best(&self, histogram: &[u32]) -> BestSubset {
        match (self.scope, &*self.of_one) {
            (Scope::Subset, of_one) if of_one.len() == self.thresholds.len() => {
                self.best_by(histogram, |n, n_alpha| n_alpha as f64 * of_one[n])
            }
            (Scope::Subset, _) => {
                self.best_by(histogram, |n, n_alpha| self.statistic.phi(self.thresholds[n], n_alpha, n_alpha))
            }
            (Scope::All, _) => {
                let n_nodes = self.n_nodes as u64;
                self.best_by(histogram, |n, n_alpha| self.statistic.phi(self.thresholds[n], n_alpha, n_nodes))
            }
        }
    }

    /// The same with a score for the n-th threshold and the number of nodes up to it, looking only where it can be.
    ///
    /// No score among some thresholds exceeds that of the smallest with the count at the largest: every statistic falls
    /// with alpha and grows with the number of nodes.
    fn best_by(&self, histogram: &[u32], score: impl Fn(usize, u64) -> f64) -> BestSubset {
        let mut reached = 0.0_f64;
        let mut n_alpha = 0;
        let blocks: Vec<_> = histogram
            .chunks(THRESHOLD_BLOCK)
            .enumerate()
            .map(|(n, counts)| {
                let before = n_alpha;
                n_alpha += u64::from(counts.iter().sum::<u32>()); // no image has 2^32 nodes
                if n_alpha == before {
                    return (before, 0.0);
                }
                reached = reached.max(score(n * THRESHOLD_BLOCK + counts.len() - 1, n_alpha));
                (before, self.statistic.bound(score(n * THRESHOLD_BLOCK, n_alpha), self.n_nodes))
            })
            .collect();
        let mut best = BestSubset::default();
        for (n, (before, bound)) in blocks.into_iter().enumerate() {
            if bound < reached || bound <= best.score {
                continue;
            }
            let mut n_alpha = before;
            for (n, count) in histogram.iter().enumerate().skip(n * THRESHOLD_BLOCK).take(THRESHOLD_BLOCK) {
                if *count > 0 {
                    n_alpha += u64::from(*count);
                    let score = score(n, n_alpha);
                    if score > best.score {
                        best = BestSubset { score, alpha: self.thresholds[n], size: n_alpha };
                    }
                }
            }
        }
        best
    }
}
