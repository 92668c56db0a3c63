//! The exact scan of single images: the subset of nodes and the threshold that score highest, in linear time.
//!
//! For a fixed threshold alpha the best subset of one image is all nodes with p <= alpha (the LTSS property, Neill
//! 2012; the paper, section 3.2). So only as many subsets need a look as there are distinct p-values.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::background::{Background, check_n_nodes};
use crate::bins::Membership;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::options::{ScanOptions, Scope};
use crate::pvalue::{AlphaMax, Ranking, Ties, n_thresholds, thresholds};
use crate::range::{self, RANGE_IMAGES};
use crate::result::{BestSubset, Found, NodeSubsets, Scan, Scorer};
use crate::statistic::Statistic;
use crate::value::{Value, Values};

impl<V: Value> Background<V> {
    /// Scan images, either ones that are not in the background, or background images, each among all the others: the
    /// scores of clean images that were not seen.
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, the background is compact and did not keep
    /// what this scan looks at, or an image that should be in the background is seen not to be.
    pub fn scan(
        &self,
        images: &Values<'_>,
        options: &ScanOptions,
        membership: Membership,
        with_nodes: bool,
        interrupt: &Interrupt,
    ) -> Result<Scan, Error> {
        self.check_nodes(images, interrupt)?;
        self.check_scan(options.ranking, options.alpha_max)?;
        let bins = self.bins(images, options.ranking, options.alpha_max, membership, interrupt)?;
        let (n_images, n_nodes) = images.dim();
        if options.ranking.ties == Ties::Range {
            let found = images.in_tiles(RANGE_IMAGES, |rows| {
                range::scan_images(self, images, rows, options, &bins, with_nodes, interrupt)
            })?;
            return Ok(Scan::of(found, with_nodes));
        }
        let scorer = Scorer::new(bins.thresholds(), options, n_nodes, n_images);
        let best = self.map_histograms(images, &bins, interrupt, |_, histogram| Ok(scorer.best(histogram)))?;
        let nodes = if with_nodes {
            let thresholds = bins.thresholds();
            let last = |best: &BestSubset| thresholds.partition_point(|threshold| *threshold < best.alpha);
            let last: Vec<_> = best.iter().map(|best| (best.size > 0).then(|| last(best))).collect();
            self.nodes_up_to(images, &bins, &last, interrupt)?
        } else {
            vec![Vec::new(); n_images]
        };
        let found = best.into_iter().zip(nodes).map(|(best, nodes)| Found { best, nodes });
        Ok(Scan::of(found, with_nodes))
    }

    /// The nodes of each image whose p-values are at most a threshold of its own, as that of a scan over more nodes than
    /// are here.
    ///
    /// # Errors
    ///
    /// As for [`Background::scan`], if there is not one threshold in 0 to `alpha_max` for each image, and for ties that
    /// keep their range.
    pub fn nodes_within(
        &self,
        images: &Values<'_>,
        up_to: &[f64],
        ranking: Ranking,
        alpha_max: AlphaMax,
        membership: Membership,
        interrupt: &Interrupt,
    ) -> Result<NodeSubsets, Error> {
        self.check_nodes(images, interrupt)?;
        self.check_scan(ranking, alpha_max)?;
        ranking.ties.check_one_p_value()?;
        let (n_images, alpha_max_) = (images.dim().0, alpha_max.get());
        let wrong = |received| Error::Thresholds { expected: n_images, alpha_max: alpha_max_, received };
        if up_to.len() != n_images {
            return Err(wrong(format!("{} of them", up_to.len())));
        }
        if let Some(n) = up_to.iter().position(|alpha| !(*alpha >= 0.0 && *alpha <= alpha_max_)) {
            return Err(wrong(format!("{} at input {n}", up_to[n])));
        }
        let bins = self.bins(images, ranking, alpha_max, membership, interrupt)?;
        let place = |alpha: &f64| bins.thresholds().partition_point(|threshold| threshold <= alpha).checked_sub(1);
        let last: Vec<_> = up_to.iter().map(place).collect();
        Ok(NodeSubsets::of(self.nodes_up_to(images, &bins, &last, interrupt)?))
    }
}

/// Scan p-values that came from anywhere: (images, nodes), each in (0, 1].
///
/// # Errors
///
/// If a p-value is NaN or not in (0, 1], or there is no node.
pub fn scan_p_values(
    p_values: &ArrayView2<'_, f64>,
    statistic: Statistic,
    alpha_max: AlphaMax,
    scope: Scope,
    with_nodes: bool,
    interrupt: &Interrupt,
) -> Result<Scan, Error> {
    let (n_images, n_nodes) = p_values.dim();
    if n_nodes == 0 {
        return Err(Error::NoNodes);
    }
    check_n_nodes(n_nodes)?;
    let found = (0..n_images)
        .into_par_iter()
        .map(|image| {
            interrupt.check()?;
            let row = p_values.row(image);
            if let Some(node) = row.iter().position(|p| !(*p > 0.0 && *p <= 1.0)) {
                return Err(Error::PValue { received: row[node], image, node });
            }
            let mut small: Vec<f64> = row.iter().copied().filter(|p| *p <= alpha_max.get()).collect();
            small.sort_unstable_by(f64::total_cmp);
            #[allow(clippy::float_cmp)] // ties are equal to the bit
            let ties = small.chunk_by(|a, b| a == b).map(|group| (group[0], group.len() as u64));
            let best = BestSubset::of(ties, statistic, scope, n_nodes);
            let mut nodes = Vec::new();
            if with_nodes {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                nodes.extend((0..n_nodes).filter(|node| row[*node] <= best.alpha).map(|node| node as i32));
            }
            Ok(Found { best, nodes })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(Scan::of(found, with_nodes))
}

/// The rank histograms of some images over one set of nodes, as [`Background::rank_histogram`] counts them.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// One row an image.
    pub histograms: ArrayView2<'a, u32>,
    /// How its values were ranked.
    pub ranking: Ranking,
}

/// Scan the union of disjoint sets of nodes, from their rank histograms among the same `n_samples` background images.
///
/// Returns the scan, and how many nodes of each part are in the subset: (images, parts).
///
/// # Errors
///
/// If there is no part or no node, the parts differ in their number of images, one has another number of bins than its
/// ranking has thresholds up to `options.alpha_max`, or an image has more counts than there are nodes.
/// `options.ranking` is not looked at.
pub fn scan_histograms(
    parts: &[Part<'_>],
    n_samples: usize,
    n_nodes: usize,
    options: &ScanOptions,
    interrupt: &Interrupt,
) -> Result<(Scan, Array2<i64>), Error> {
    let (Some(first), 1..) = (parts.first(), n_nodes) else { return Err(Error::NoNodes) };
    let n_images = first.histograms.nrows();
    let mut grids = Vec::new();
    for part in parts {
        part.ranking.ties.check_one_p_value()?;
        let expected = (n_images, n_thresholds(part.ranking, n_samples, options.alpha_max)?);
        if part.histograms.dim() != expected {
            return Err(Error::Histograms { expected, received: part.histograms.dim() });
        }
        grids.push(thresholds(part.ranking, n_samples, options.alpha_max));
    }
    // Tails and ties differ in their grids; a threshold that two have in common is equal to the bit.
    let mut all: Vec<f64> = grids.concat();
    all.sort_unstable_by(f64::total_cmp);
    all.dedup();
    let places: Vec<Vec<usize>> = grids
        .iter()
        .map(|grid| grid.iter().map(|alpha| all.partition_point(|other| other < alpha)).collect())
        .collect();
    let found = (0..n_images)
        .into_par_iter()
        .map(|image| {
            interrupt.check()?;
            let mut counts = vec![0_u64; all.len()];
            for (part, places) in parts.iter().zip(&places) {
                let row = part.histograms.row(image);
                row.iter().zip(places).for_each(|(count, place)| counts[*place] += u64::from(*count));
            }
            let received = counts.iter().sum();
            if received > n_nodes as u64 {
                return Err(Error::Counts { image, expected: n_nodes, received });
            }
            let best = BestSubset::of(all.iter().copied().zip(counts), options.statistic, options.scope, n_nodes);
            let shares = parts.iter().zip(&grids).map(|(part, grid)| {
                let end = grid.partition_point(|alpha| *alpha <= best.alpha);
                part.histograms.row(image).iter().take(end).map(|count| i64::from(*count)).sum()
            });
            let shares = shares.collect();
            Ok((Found { best, nodes: Vec::new() }, shares))
        })
        .collect::<Vec<Result<(Found, Vec<i64>), Error>>>();
    // Of several errors the first.
    let (found, shares): (Vec<_>, Vec<_>) = found.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let shares = Array2::from_shape_fn((n_images, parts.len()), |(image, part)| shares[image][part]);
    Ok((Scan::of(found, false), shares))
}
