//! The rank search, the hot loop: how many background values are at least, or at most, as large as a test value.

use std::ops::Range;

use ndarray::{Array2, Array3, ArrayView1, Axis, Ix2, Ix3, s};
use rayon::prelude::*;

use crate::background::{Background, NODE_BLOCK};
use crate::memory::zeros;
use crate::name::Named;
use crate::pvalue::{AlphaMax, Ranking, Steps, Tail, Ties, thresholds};
use crate::simd::{InstructionSet, NodeBlock, rank_rows};
use crate::ties::TieBreaker;
use crate::value::{KeyBlock, Value, Values};
use crate::{Error, Interrupt};

/// Values of a tile of images whose ranks are in memory together.
const TILE_VALUES: usize = 1 << 24;
/// Images that share one walk through the index: the more, the less often it is read.
const MAX_TILE_IMAGES: usize = 1536;
/// So few images are not shared out among threads; the nodes are.
const FEW_IMAGES: usize = 256;

/// `partition_point` compiles to a binary search without branches.
fn count_at_least<K: Ord>(sorted: &[K], key: &K) -> usize {
    sorted.len() - sorted.partition_point(|value| value < key)
}

fn count_at_most<K: Ord>(sorted: &[K], key: &K) -> usize {
    sorted.partition_point(|value| value <= key)
}

/// The number of background values at least as extreme, at most as many as `top` and `bottom` hold.
fn rank<K: Ord>(tail: Tail, top: &[K], bottom: &[K], at_least: &K, at_most: &K) -> usize {
    match tail {
        Tail::Upper => count_at_least(top, at_least),
        Tail::Lower => count_at_most(bottom, at_most),
        Tail::TwoSided => count_at_least(top, at_least).min(count_at_most(bottom, at_most)),
    }
}

/// The range of a value among a whole column.
fn steps<K: Ord>(tail: Tail, column: &[K], at_least: &K, at_most: &K, membership: Membership) -> Steps {
    let larger = column.len() - count_at_most(column, at_most);
    let smaller = column.len() - count_at_least(column, at_least);
    let (own, n_ranked) = (membership.own_values(), membership.n_ranked(column.len()));
    Steps::new(tail, larger, smaller, column.len() - own, n_ranked + 1)
}

/// Whether no value of a column is that of the image, which therefore is not a row of the background.
fn is_missing<K: Ord>(column: &[K], at_least: &K, at_most: &K) -> bool {
    count_at_least(column, at_least) + count_at_most(column, at_most) <= column.len()
}

/// Who is ranked among the background images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Membership {
    /// Images that are not among them.
    #[default]
    Outside,
    /// Background images, each among the others: its own value does not count (leave-one-out).
    Inside,
    /// The same for null scores: a rank among M - 1 images gets the p-value that it has among M, as it would outside.
    ///
    /// A few extreme ranks can decide a score, and then many images share it: one node at the smallest p-value, say. If
    /// that p-value were 1 / M here and 1 / (M + 1) outside, every such image outside would exceed all of these.
    Calibrating,
}

impl Named for Membership {
    const WHAT: &'static str = "membership";
    const ALL: &'static [(&'static str, Self)] =
        &[("outside", Membership::Outside), ("inside", Membership::Inside), ("calibrating", Membership::Calibrating)];
}

impl Membership {
    pub(crate) fn own_values(self) -> usize {
        usize::from(self != Membership::Outside)
    }

    /// The number of background images whose grid of p-values counts.
    pub(crate) fn n_ranked(self, n_samples: usize) -> usize {
        if self == Membership::Inside { n_samples - 1 } else { n_samples }
    }
}

/// The bins of a rank histogram: one for each threshold up to `alpha_max`.
#[derive(Debug, Clone)]
pub(crate) struct Bins {
    ranking: Ranking,
    membership: Membership,
    thresholds: Vec<f64>,
}

impl Bins {
    /// The bins for ranks among `n_samples` background images, or among all but one of them.
    pub fn new(ranking: Ranking, alpha_max: AlphaMax, n_samples: usize, membership: Membership) -> Self {
        let thresholds = thresholds(ranking, membership.n_ranked(n_samples), alpha_max);
        Bins { ranking, membership, thresholds }
    }

    /// The p-value of each bin, increasing.
    pub fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }

    /// Number of bins.
    pub fn n_bins(&self) -> usize {
        self.thresholds.len()
    }

    /// Background values of a node that decide in which bin, if any, an image falls.
    fn depth(&self) -> usize {
        self.n_bins() + self.membership.own_values()
    }

    /// Whether two-sided ranks beyond the last bin's belong to the last bin as well: all of them mean p = 1.
    #[allow(clippy::float_cmp)] // p-values are capped at exactly 1
    fn last_is_open(&self) -> bool {
        self.ranking.tail == Tail::TwoSided && self.thresholds.last() == Some(&1.0)
    }
}

/// For each node the keys that a value has to pass to fall in a bin, for the vector instructions.
struct Extremes {
    above: Vec<u32>,
    below: Vec<u32>,
}

impl Extremes {
    /// The thresholds of all nodes, in whole lines; none where vector instructions do not search such values.
    fn of<V: Value>(background: &Background<V>, bins: &Bins) -> Self {
        let Ranking { tail, ties, .. } = bins.ranking;
        let n = background.n_nodes().next_multiple_of(NODE_BLOCK);
        if ties != Ties::Upper || V::lanes(&[]).is_none() {
            return Extremes { above: Vec::new(), below: Vec::new() };
        }
        let (mut above, mut below) = (vec![u32::MAX; n], vec![0; n]);
        let depth = bins.depth();
        let everyone = bins.last_is_open();
        for node in 0..background.n_nodes() {
            let (top, bottom) = (background.top(node, depth), background.bottom(node, depth));
            if tail.looks_up() && depth > 0 {
                let all = everyone || top.len() < depth;
                above[node] = if all { 0 } else { V::lanes(top).map_or(0, |top| top[0]) };
            }
            if tail.looks_down() && depth > 0 {
                let all = everyone || bottom.len() < depth;
                below[node] = if all { u32::MAX } else { V::lanes(bottom).map_or(0, |bottom| bottom[depth - 1]) };
            }
        }
        Extremes { above, below }
    }

    fn block<'a, V: Value>(
        &'a self,
        background: &'a Background<V>,
        bins: &Bins,
        nodes: &Range<usize>,
    ) -> Option<NodeBlock<'a>> {
        if self.above.is_empty() {
            return None;
        }
        background.lanes(bins.ranking.tail, nodes, &self.above, &self.below)
    }
}

/// Images that are worked on together.
fn image_tiles(n_images: usize, n_nodes: usize) -> Vec<Range<usize>> {
    let mut size = (TILE_VALUES / n_nodes).clamp(8, MAX_TILE_IMAGES);
    if n_images > FEW_IMAGES {
        size = size.min(n_images.div_ceil(rayon::current_num_threads()));
    }
    (0..n_images).step_by(size).map(|start| start..n_images.min(start + size)).collect()
}

impl<V: Value> Background<V> {
    /// Compute something from the rank histogram of each image, `bins.n_bins()` counts.
    ///
    /// Where there are fewer tiles of images than threads the nodes are shared out too. Counts are integers, so that
    /// their sum does not depend on how.
    pub(crate) fn map_histograms<R: Send>(
        &self,
        images: &Values<'_>,
        bins: &Bins,
        interrupt: &Interrupt,
        map: impl Fn(usize, &[u32]) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let tiles = image_tiles(images.dim().0, self.n_nodes());
        let n_shares = rayon::current_num_threads().div_ceil(tiles.len().max(1));
        let share = self.n_nodes().div_ceil(n_shares).next_multiple_of(NODE_BLOCK);
        let extremes = Extremes::of(self, bins);
        let found = tiles
            .par_iter()
            .map(|rows| {
                let shares = (0..self.n_nodes().div_ceil(share))
                    .into_par_iter()
                    .map(|n| {
                        let nodes = n * share..self.n_nodes().min((n + 1) * share);
                        self.list_bins(images, rows, nodes, bins, &extremes, interrupt)
                    })
                    .collect::<Result<Vec<_>, Error>>()?;
                rows.clone()
                    .into_par_iter()
                    .map_init(
                        || vec![0_u32; bins.n_bins()],
                        |histogram, image| {
                            histogram.fill(0);
                            for bin in shares.iter().flat_map(|lists| &lists[image - rows.start]) {
                                histogram[*bin as usize] += 1;
                            }
                            map(image, histogram)
                        },
                    )
                    .collect::<Result<Vec<_>, Error>>()
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// List the bins of each image's values, in any order, but for those beyond the last bin.
    fn list_bins(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        extremes: &Extremes,
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let mut lists = vec![Vec::new(); rows.len()];
        let Values::F32(view) = images else {
            return self.list_bins_plainly(images, rows, nodes, bins, lists, interrupt);
        };
        let set = InstructionSet::chosen()?;
        for start in nodes.clone().step_by(NODE_BLOCK) {
            interrupt.check()?;
            let in_block = start..nodes.end.min(start + NODE_BLOCK);
            let Some(block) = extremes.block(self, bins, &in_block) else {
                return self.list_bins_plainly(images, rows, nodes, bins, lists, interrupt);
            };
            if !rank_rows(set, &block, &view.slice(s![rows.clone(), in_block]), &mut lists) {
                return Err(images.not_a_number());
            }
        }
        let own = bins.membership.own_values();
        if own > 0 || bins.last_is_open() {
            #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
            let (own, last_bin) = (own as u32, (bins.n_bins() - 1) as u32);
            if lists.iter().flatten().any(|rank| *rank < own) {
                // An image that is not in the background: the plain way knows where.
                let none = vec![Vec::new(); rows.len()];
                return self.list_bins_plainly(images, rows, nodes, bins, none, interrupt);
            }
            lists.iter_mut().flatten().for_each(|rank| *rank = (*rank - own).min(last_bin));
        }
        Ok(lists)
    }

    fn list_bins_plainly(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        mut lists: Vec<Vec<u32>>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<u32>>, Error> {
        #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
        self.for_each_bin(images, rows, nodes, bins, interrupt, |image, _, bin| lists[image].push(bin as u32))?;
        Ok(lists)
    }

    /// Visit every value that falls in a bin: which of the images, which node, which bin.
    #[inline]
    pub(crate) fn for_each_bin(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        interrupt: &Interrupt,
        mut visit: impl FnMut(usize, usize, usize),
    ) -> Result<(), Error> {
        let (n_bins, depth, own) = (bins.n_bins(), bins.depth(), bins.membership.own_values());
        let Ranking { tail, ties, .. } = bins.ranking;
        if ties != Ties::Upper {
            let breaker = TieBreaker::new(bins.ranking, images, rows);
            return self.for_each_range(images, rows, nodes, tail, bins.membership, interrupt, |image, node, steps| {
                let bin = breaker.position(steps, image, node);
                if bin < n_bins {
                    visit(image, node, bin);
                }
            });
        }
        let last_bin = if bins.last_is_open() { n_bins - 1 } else { usize::MAX };
        for_each_node::<V>(images, rows, nodes, interrupt, |node, block, n| {
            let (top, bottom) = (self.top(node, depth), self.bottom(node, depth));
            for (image, (at_least, at_most)) in block.at_least(n).iter().zip(block.at_most(n)).enumerate() {
                // Most values are ordinary, and one comparison tells.
                if tail == Tail::Upper && top.len() == depth && top.first().is_none_or(|least| at_least <= least) {
                    continue;
                }
                let rank = rank(tail, top, bottom, at_least, at_most);
                if rank < own {
                    return Err(Error::NotInBackground { image: rows.start + image, node });
                }
                let bin = (rank - own).min(last_bin);
                if bin < n_bins {
                    visit(image, node, bin);
                }
            }
            Ok(())
        })
    }

    /// Visit the range of every value. Only whole backgrounds know them.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn for_each_range(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        tail: Tail,
        membership: Membership,
        interrupt: &Interrupt,
        mut visit: impl FnMut(usize, usize, Steps),
    ) -> Result<(), Error> {
        for_each_node::<V>(images, rows, nodes, interrupt, |node, block, n| {
            let column = self.all(node);
            for (image, (at_least, at_most)) in block.at_least(n).iter().zip(block.at_most(n)).enumerate() {
                if membership != Membership::Outside && is_missing(column, at_least, at_most) {
                    return Err(Error::NotInBackground { image: rows.start + image, node });
                }
                visit(image, node, steps(tail, column, at_least, at_most, membership));
            }
            Ok(())
        })
    }

    /// Nodes of one image whose p-value falls in bin `last` or an earlier one.
    pub(crate) fn nodes_up_to(
        &self,
        images: &Values<'_>,
        image: usize,
        bins: &Bins,
        last: usize,
        interrupt: &Interrupt,
    ) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        self.for_each_bin(images, &(image..image + 1), 0..self.n_nodes(), bins, interrupt, |_, node, bin| {
            if bin <= last {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                found.push(node as i32);
            }
        })?;
        Ok(found)
    }

    /// How many nodes of each image have which rank, up to `alpha_max`: (images, bins).
    ///
    /// Histograms of disjoint sets of nodes add up to that of their union.
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, or the background is compact and did not keep
    /// what this needs.
    pub fn rank_histogram(
        &self,
        images: &Values<'_>,
        ranking: Ranking,
        alpha_max: AlphaMax,
        membership: Membership,
        interrupt: &Interrupt,
    ) -> Result<Array2<u32>, Error> {
        self.check_nodes(images)?;
        self.check_scan(ranking, alpha_max)?;
        one_p_value(ranking.ties)?;
        let bins = Bins::new(ranking, alpha_max, self.n_samples(), membership);
        let mut histograms = zeros(Ix2(images.dim().0, bins.n_bins()))?;
        let counted = self.map_histograms(images, &bins, interrupt, |_, counts| Ok(counts.to_vec()))?;
        for (mut row, counts) in histograms.outer_iter_mut().zip(counted) {
            row.assign(&ArrayView1::from(&counts));
        }
        Ok(histograms)
    }

    /// The empirical p-value of every node of every image (the paper, section 3.1): (images, nodes).
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, the background is compact, or ties are to keep
    /// their range.
    pub fn p_values(&self, images: &Values<'_>, ranking: Ranking, interrupt: &Interrupt) -> Result<Array2<f64>, Error> {
        self.check_whole("p-values")?;
        one_p_value(ranking.ties)?;
        let m = self.n_samples();
        let whole = AlphaMax::try_from(1.0)?;
        let grid = thresholds(ranking, m, whole);
        let breaker = TieBreaker::new(ranking, images, &(0..images.dim().0));
        let p_values = self.for_each_value(images, interrupt, |image, node, column, at_least, at_most| {
            [if ranking.ties == Ties::Upper {
                ranking.tail.p_value(rank(ranking.tail, column, column, at_least, at_most), m)
            } else {
                grid[breaker.position(steps(ranking.tail, column, at_least, at_most, Membership::Outside), image, node)]
            }]
        })?;
        Ok(p_values.remove_axis(Axis(2)))
    }

    /// The range of every p-value, ties counted as less and as more extreme (McFowland et al. 2013):
    /// (images, nodes, 2).
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, or the background is compact.
    pub fn p_value_ranges(&self, images: &Values<'_>, tail: Tail, interrupt: &Interrupt) -> Result<Array3<f64>, Error> {
        self.check_whole("p-value ranges")?;
        let n_steps = (self.n_samples() + 1) as f64;
        self.for_each_value(images, interrupt, |_, _, column, at_least, at_most| {
            let Steps { low, high } = steps(tail, column, at_least, at_most, Membership::Outside);
            [low as f64 / n_steps, high as f64 / n_steps]
        })
    }

    /// Compute W numbers from each value and its node's whole column: (images, nodes, W).
    fn for_each_value<const W: usize>(
        &self,
        images: &Values<'_>,
        interrupt: &Interrupt,
        compute: impl Fn(usize, usize, &[V::Key], &V::Key, &V::Key) -> [f64; W] + Sync,
    ) -> Result<Array3<f64>, Error> {
        self.check_nodes(images)?;
        let n_images = images.dim().0;
        let size = n_images.div_ceil(rayon::current_num_threads()).clamp(1, MAX_TILE_IMAGES);
        let mut numbers = zeros(Ix3(n_images, self.n_nodes(), W))?;
        numbers.axis_chunks_iter_mut(Axis(0), size).into_par_iter().enumerate().try_for_each(
            |(n_tile, mut tile)| {
                let rows = n_tile * size..n_tile * size + tile.len_of(Axis(0));
                for_each_node::<V>(images, &rows, 0..self.n_nodes(), interrupt, |node, block, n| {
                    let keys = block.at_least(n).iter().zip(block.at_most(n));
                    for (image, (at_least, at_most)) in keys.enumerate() {
                        let numbers = compute(rows.start + image, node, self.all(node), at_least, at_most);
                        for (w, number) in numbers.into_iter().enumerate() {
                            tile[(image, node, w)] = number;
                        }
                    }
                    Ok(())
                })
            },
        )?;
        Ok(numbers)
    }
}

/// Refuse ties that keep their range where each value needs one p-value.
pub(crate) fn one_p_value(ties: Ties) -> Result<(), Error> {
    if ties == Ties::Range { Err(Error::Ranges) } else { Ok(()) }
}

/// Visit nodes in order with the keys of a few images, read block by block.
fn for_each_node<V: Value>(
    images: &Values<'_>,
    rows: &Range<usize>,
    nodes: Range<usize>,
    interrupt: &Interrupt,
    mut visit: impl FnMut(usize, &KeyBlock<V>, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut block = KeyBlock::new();
    for start in nodes.clone().step_by(NODE_BLOCK) {
        interrupt.check()?;
        let in_block = start..nodes.end.min(start + NODE_BLOCK);
        block.fill(images, rows, &in_block)?;
        for (n, node) in in_block.enumerate() {
            visit(node, &block, n)?;
        }
    }
    Ok(())
}
