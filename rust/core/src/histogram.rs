//! Rank histograms: how many nodes of an image have which rank. All that a scan needs to know of the values.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, Ix2, s};
use rayon::prelude::*;

use crate::background::Background;
use crate::index::NODE_BLOCK;
use crate::memory::zeros;
use crate::pvalue::{AlphaMax, Ranking, Ties};
use crate::rank::{Bins, Membership, one_p_value};
use crate::simd::{Extremes, InstructionSet, nodes_at_once, rank_rows};
use crate::value::{Value, Values};
use crate::{Error, Interrupt};

/// Values of a tile of images whose ranks are in memory together.
const TILE_VALUES: usize = 1 << 24;
/// Images that share one walk through the index: the more, the less often it is read.
const MAX_TILE_IMAGES: usize = 1536;
/// So few images are not shared out among threads; the nodes are.
const FEW_IMAGES: usize = 256;

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
        let Ranking { tail, ties, .. } = bins.ranking;
        let extremes = (ties == Ties::Upper).then(|| self.extremes(tail, bins.depth(), bins.last_is_open())).flatten();
        let found = tiles
            .par_iter()
            .map(|rows| {
                let shares = (0..self.n_nodes().div_ceil(share))
                    .into_par_iter()
                    .map(|n| {
                        let nodes = n * share..self.n_nodes().min((n + 1) * share);
                        self.list_bins(images, rows, nodes, bins, extremes.as_deref(), interrupt)
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
        extremes: Option<&Extremes>,
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let mut lists = vec![Vec::new(); rows.len()];
        let (Values::F32(view), Some(extremes)) = (images, extremes) else {
            return self.list_bins_plainly(images, rows, nodes, bins, lists, interrupt);
        };
        let set = InstructionSet::chosen()?;
        let size = nodes_at_once(rows.len());
        for start in nodes.clone().step_by(size) {
            interrupt.check()?;
            let in_block = start..nodes.end.min(start + size);
            let Some(block) = self.lanes(&in_block, extremes) else {
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
}
