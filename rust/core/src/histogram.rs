//! Rank histograms: how many nodes of an image have which rank. All that a scan needs to know of the values.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, Ix2};
use rayon::prelude::*;

use crate::background::Background;
use crate::bins::{Bins, Membership};
use crate::error::Error;
use crate::index::NODE_BLOCK;
use crate::interrupt::Interrupt;
use crate::memory::{Reused, zeros};
use crate::pvalue::{AlphaMax, Ranking};
use crate::search::sinks::Placed;
use crate::search::tile_ranks::{RankInt, TileRanks};
use crate::value::{Value, Values};

/// Values of a tile of images whose ranks are in memory together.
const TILE_VALUES: usize = 1 << 26;
/// Images that share one walk through the index: the more, the less often it is read.
const TILE_IMAGES: usize = 4096;
/// So much more often are the values of a deep background's node worth reading than those of an image.
const DEEP: usize = 16;
/// So few images are not shared out among threads; the nodes are.
const FEW_IMAGES: usize = 256;
/// Shares of the nodes for each thread, so that none waits long for another.
const SHARES: usize = 4;

/// How the work is divided: by nodes where there are many, for then the index is read once; or else by images.
struct Plan {
    /// Images that are worked on together.
    tiles: Vec<Range<usize>>,
    /// Nodes of a share, whole blocks.
    share: usize,
}

impl Plan {
    fn new(n_images: usize, n_nodes: usize, width: usize) -> Self {
        let n_threads = rayon::current_num_threads();
        let n_blocks = n_nodes.div_ceil(NODE_BLOCK);
        let many = n_blocks >= 2 * SHARES * n_threads;
        let mut size = (TILE_VALUES / n_nodes).clamp(8, TILE_IMAGES.max((width / DEEP).min(4 * TILE_IMAGES)));
        if !many && n_images > FEW_IMAGES {
            // As many tiles for each thread.
            size = n_images.div_ceil(n_images.div_ceil(size).next_multiple_of(n_threads));
        }
        let n_shares = match n_threads {
            1 => 1,
            _ if many => SHARES * n_threads,
            _ => n_threads.div_ceil(n_images.div_ceil(size).max(1)),
        };
        let tiles = (0..n_images).step_by(size).map(|start| start..n_images.min(start + size)).collect();
        Plan { tiles, share: n_blocks.div_ceil(n_shares) * NODE_BLOCK }
    }
}

impl<V: Value> Background<V> {
    /// Compute something from the rank histogram of each image, `bins.n_bins()` counts.
    ///
    /// Small work stays on this thread. Other work is shared out by nodes or by images; counts are integers, so that their
    /// sum does not depend on how.
    pub(crate) fn map_histograms<R: Send>(
        &self,
        images: &Values<'_>,
        bins: &Bins,
        interrupt: &Interrupt,
        map: impl Fn(usize, &[u32]) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        if self.largest_rank(bins) <= u16::LARGEST {
            self.map_histograms_of::<u16, R>(images, bins, interrupt, map)
        } else {
            self.map_histograms_of::<u32, R>(images, bins, interrupt, map)
        }
    }

    /// No rank that is noted, and no bin, exceeds this.
    fn largest_rank(&self, bins: &Bins) -> usize {
        if bins.last_is_open() { self.n_samples().max(bins.depth()) } else { bins.depth() }
    }

    fn map_histograms_of<K: RankInt, R: Send>(
        &self,
        images: &Values<'_>,
        bins: &Bins,
        interrupt: &Interrupt,
        map: impl Fn(usize, &[u32]) -> Result<R, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let used = Reused::<TileRanks<K>>::default();
        let rank = |rows: &Range<usize>, nodes: Range<usize>| {
            let mut ranks = used.take().unwrap_or_default();
            self.count_ranks(images, rows, nodes, bins, &mut ranks, interrupt)?;
            Ok(ranks)
        };
        let count = |histogram: &mut Vec<u32>, shares: &[TileRanks<K>], rows: &Range<usize>, image: usize| {
            histogram.clear();
            histogram.resize(bins.n_bins(), 0);
            for ranks in shares {
                ranks.add_to(image - rows.start, histogram);
            }
            map(image, histogram)
        };
        if images.is_small() {
            let rows = 0..images.dim().0;
            let shares = [rank(&rows, 0..self.n_nodes())?];
            let mut histogram = Vec::new();
            return rows.clone().map(|image| count(&mut histogram, &shares, &rows, image)).collect();
        }
        let Plan { tiles, share } = Plan::new(images.dim().0, self.n_nodes(), self.shape().width);
        let of_tile = |rows: &Range<usize>| {
            let shares = (0..self.n_nodes().div_ceil(share))
                .into_par_iter()
                .map(|n| rank(rows, n * share..self.n_nodes().min((n + 1) * share)))
                .collect::<Result<Vec<_>, Error>>()?;
            let images = rows.clone().into_par_iter();
            let found = images.map_init(Vec::new, |histogram, image| count(histogram, &shares, rows, image));
            let found = found.collect::<Result<Vec<_>, Error>>()?;
            for ranks in shares {
                used.give(ranks);
            }
            Ok(found)
        };
        let found: Vec<Vec<R>> = if share < self.n_nodes() {
            tiles.iter().map(of_tile).collect::<Result<_, Error>>()?
        } else {
            tiles.par_iter().map(of_tile).collect::<Result<_, Error>>()?
        };
        Ok(found.into_iter().flatten().collect())
    }

    /// Note the bin of each value, but of those beyond the last bin.
    fn count_ranks<K: RankInt>(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        ranks: &mut TileRanks<K>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        ranks.clear(rows.len(), self.largest_rank(bins));
        let Some(lanes) = bins.lanes(images) else {
            return self.count_plainly(images, rows, nodes, bins, ranks, interrupt);
        };
        let own = bins.membership.own_values();
        let all_there = if let Some(breaker) = bins.breaker() {
            let mut placed = Placed::new(rows, bins, breaker, ranks);
            self.search_rows(&lanes, rows, &nodes, &mut placed, interrupt)?;
            !placed.is_one_missing
        } else {
            self.search_rows(&lanes, rows, &nodes, ranks, interrupt)?;
            own == 0 && !bins.last_is_open() || ranks.shift(own, bins.n_bins().saturating_sub(1))
        };
        if !all_there {
            // An image that is not in the background: the plain way knows where.
            ranks.clear(rows.len(), self.largest_rank(bins));
            return self.count_plainly(images, rows, nodes, bins, ranks, interrupt);
        }
        Ok(())
    }

    fn count_plainly<K: RankInt>(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        ranks: &mut TileRanks<K>,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        for start in nodes.clone().step_by(NODE_BLOCK) {
            let block = start..nodes.end.min(start + NODE_BLOCK);
            ranks.reserve(rows.len() * block.len())?;
            let push = |image: usize, _: usize, bin: usize| ranks.push(image, K::of(bin));
            self.for_each_bin(images, rows, block, bins, interrupt, push)?;
            ranks.end_block();
        }
        Ok(())
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
        self.check_nodes(images, interrupt)?;
        self.check_scan(ranking, alpha_max)?;
        ranking.ties.check_one_p_value()?;
        let bins = self.bins(images, ranking, alpha_max, membership, interrupt)?;
        let mut histograms = zeros(Ix2(images.dim().0, bins.n_bins()))?;
        let counted = self.map_histograms(images, &bins, interrupt, |_, counts| Ok(counts.to_vec()))?;
        for (mut row, counts) in histograms.outer_iter_mut().zip(counted) {
            row.assign(&ArrayView1::from(&counts));
        }
        Ok(histograms)
    }
}
