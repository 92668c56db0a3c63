//! Ranking image by image: for few images, whose values are each in another column.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use ndarray::{ArrayView2, Axis};

use super::tile_ranks::{RankInt, TileRanks};
use crate::index::{LINE, NODE_BLOCK, NodeBlock, Shape};
use crate::pvalue::Tail;
use crate::simd::lanes::{Kernel, Lanes, Queries, mask_of};
use crate::simd::set::prefetch;
use crate::simd::transpose::line_of;

/// Images whose values are searched for together, and room for all of those values and one more line.
const IMAGES_AT_ONCE: usize = 32;
const CAPACITY: usize = IMAGES_AT_ONCE * NODE_BLOCK + LINE;

/// How many nodes a block may have: the more, the fewer images there are.
pub(crate) fn nodes_at_once(n_images: usize) -> usize {
    IMAGES_AT_ONCE / n_images.clamp(1, IMAGES_AT_ONCE) * NODE_BLOCK
}

/// Note for each image the ranks of its extreme values; false where a value is NaN.
pub(crate) struct RankRows<'a, R> {
    pub block: &'a NodeBlock<'a>,
    /// One row an image, one column a node of the block.
    pub values: &'a ArrayView2<'a, f32>,
    pub ranks: &'a mut TileRanks<R>,
}

impl<R: RankInt> Kernel for RankRows<'_, R> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self) -> bool {
        let RankRows { block, values, ranks } = self;
        let width = block.width();
        let mut nan_free = true;
        let mut queries = Queries::new(IMAGES_AT_ONCE * NODE_BLOCK);
        let (mut found, mut no_larger) = ([0; CAPACITY], [0; CAPACITY]);
        for (n_chunk, rows) in values.axis_chunks_iter(Axis(0), IMAGES_AT_ONCE).enumerate() {
            let mut ends = [0; IMAGES_AT_ONCE];
            queries.n = 0;
            for (row, end) in rows.outer_iter().zip(&mut ends) {
                for first in (0..row.len()).step_by(LINE) {
                    let n = LINE.min(row.len() - first);
                    let (Some(above), Some(below)) =
                        (block.above[first..].first_chunk::<LINE>(), block.below[first..].first_chunk::<LINE>())
                    else {
                        return nan_free; // never: thresholds come in whole lines
                    };
                    let mut keys = [0; LINE];
                    nan_free &= !L::keys(line_of(&row, first, &mut [0.0; LINE]), &mut keys);
                    #[allow(clippy::cast_possible_truncation)] // a block has few nodes
                    L::select(&keys, above, below, mask_of(n), first as u32, &mut queries);
                }
                *end = queries.n;
            }
            match block.tail {
                Tail::Upper => {
                    count_less::<L>(&queries, block, 0, &mut found);
                    found.iter_mut().take(queries.n).for_each(|less| *less = width.saturating_sub(*less));
                }
                Tail::Lower => count_less::<L>(&queries, block, 1, &mut found),
                Tail::TwoSided => {
                    count_less::<L>(&queries, block, 0, &mut found);
                    count_less::<L>(&queries, block, 1, &mut no_larger);
                    let both = found.iter_mut().zip(&no_larger).take(queries.n);
                    both.for_each(|(less, no_larger)| *less = width.saturating_sub(*less).min(*no_larger));
                }
            }
            let mut start = 0;
            for (image, end) in ends.into_iter().enumerate().take(rows.nrows()) {
                let of_image = found[start..end].iter();
                of_image.for_each(|rank| ranks.push(n_chunk * IMAGES_AT_ONCE + image, R::of(*rank as usize)));
                start = end;
            }
        }
        nan_free
    }
}

/// How many background values are less than each key plus `more`.
#[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
#[inline(always)]
fn count_less<L: Lanes>(queries: &Queries, block: &NodeBlock<'_>, more: u32, counts: &mut [u32; CAPACITY]) {
    let Shape { stride, n_separators, ref levels, .. } = *block.shape;
    let each = || queries.places.iter().zip(&queries.keys).take(queries.n);
    counts[..queries.n].fill(0);
    // Level by level, the column last: each line is asked for before any of its level is waited for.
    let levels =
        levels.iter().map(|level| (block.separators, n_separators, *level)).chain([(block.columns, stride, 0)]);
    for (lines, stride, level) in levels {
        let start = |node: &u32| *node as usize * stride;
        for (n, (node, _)) in counts.iter().zip(each()) {
            let rest = lines.get(start(node) + level + *n as usize * LINE..);
            if let Some(line) = rest.and_then(|lines| lines.first_chunk::<LINE>()) {
                prefetch(line);
            }
        }
        for (n, (node, key)) in counts.iter_mut().zip(each()) {
            *n = Shape::descend::<L>(level, &lines[start(node)..][..stride], *n as usize, *key + more) as u32;
        }
    }
}
