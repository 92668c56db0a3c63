//! The rank search, for values of every type: how many background values are at least, or at most, as large as a test
//! value. `rows` is the same search in vector instructions.

pub(crate) mod rows;
pub(crate) mod sinks;
#[cfg(test)]
mod tests;
pub(crate) mod tile_ranks;

use std::mem;
use std::ops::Range;

use ndarray::{Array2, Array3, Axis, Ix3, s};
use rayon::prelude::*;

use crate::background::Background;
use crate::bins::{Bins, Lanes, Membership};
use crate::error::Error;
use crate::index::NODE_BLOCK;
use crate::interrupt::Interrupt;
use crate::keys::KeyBlock;
use crate::memory::zeros;
use crate::pvalue::{AlphaMax, GridRange, Ranking, Tail, Ties, thresholds};
use crate::search::rows::{Extracted, SearchRows, nodes_at_once};
use crate::search::sinks::Sink;
use crate::simd::set::{self, InstructionSet};
use crate::ties::TieBreaker;
use crate::value::{Value, Values, not_a_number};

/// Images whose p-values are computed together.
const P_VALUE_IMAGES: usize = 256;
/// Images whose subsets are found together: the more, the less often the background is read.
const SUBSET_IMAGES: usize = 1024;

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

/// How many values of a column are less than another, and how many no larger.
fn counts<K: Ord>(column: &[K], at_least: &K, at_most: &K) -> (usize, usize) {
    (column.len() - count_at_least(column, at_least), count_at_most(column, at_most))
}

impl<V: Value> Background<V> {
    /// The bins for images that are ranked here. Those that are asked for first are kept.
    pub(crate) fn bins(
        &self,
        images: &Values<'_>,
        ranking: Ranking,
        alpha_max: AlphaMax,
        membership: Membership,
        interrupt: &Interrupt,
    ) -> Result<Bins, Error> {
        let make = || {
            let bins = Bins::new(ranking, alpha_max, self.n_samples(), membership);
            let extremes = self.extremes(&bins);
            bins.with_extremes(extremes)
        };
        let kept = self.first_bins.get_or_make(make);
        let bins = if kept.are_for(ranking, alpha_max, membership) { kept.clone() } else { make() };
        bins.for_images(ranking, images, interrupt)
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
        let tail = bins.ranking.tail;
        if let Some(breaker) = bins.breaker() {
            let place = |image: usize, node: usize, range: GridRange| {
                let bin = breaker.position(range, rows.start + image, node);
                if bin < n_bins {
                    visit(image, node, bin);
                }
            };
            return self.for_each_range(images, rows, nodes, bins, interrupt, place);
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

    /// Visit the range of every value, at the least if it may fall in a bin. Only whole backgrounds know them.
    pub(crate) fn for_each_range(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        nodes: Range<usize>,
        bins: &Bins,
        interrupt: &Interrupt,
        mut visit: impl FnMut(usize, usize, GridRange),
    ) -> Result<(), Error> {
        let (tail, membership) = (bins.ranking.tail, bins.membership);
        let is_member = membership != Membership::Outside;
        let mut missing = None;
        let mut see = |node: usize, image: usize, (less, no_larger): (usize, usize)| {
            if is_member && less >= no_larger {
                missing.get_or_insert(Error::NotInBackground { image: rows.start + image, node });
            }
            visit(image, node, membership.range(tail, self.n_samples(), (less, no_larger)));
        };
        if let Some(lanes) = bins.lanes(images) {
            self.search_rows(&lanes, rows, &nodes, &mut see, interrupt)?;
        } else {
            // So many background values that are more extreme put the beginning of a range beyond reach.
            let depth = bins.ranking.depth_of_ranges(bins.n_bins());
            let skips = !is_member && depth <= self.n_samples();
            for_each_node::<V>(images, rows, nodes, interrupt, |node, block, n| {
                let column = self.all(node);
                let at = |place: Option<usize>| place.and_then(|n| column.get(n));
                let least = if tail.looks_up() { at(column.len().checked_sub(depth)) } else { None };
                let most = if tail.looks_down() { at(depth.checked_sub(1)) } else { None };
                for (image, (at_least, at_most)) in block.at_least(n).iter().zip(block.at_most(n)).enumerate() {
                    // Most values are ordinary, and one comparison tells.
                    if skips && least.is_none_or(|least| at_most < least) && most.is_none_or(|most| at_least > most) {
                        continue;
                    }
                    see(node, image, counts(column, at_least, at_most));
                }
                Ok(())
            })?;
        }
        missing.map_or(Ok(()), Err)
    }

    /// Search with vector instructions for the values of some images that are extreme.
    pub(crate) fn search_rows(
        &self,
        (values, extremes): &Lanes<'_>,
        rows: &Range<usize>,
        nodes: &Range<usize>,
        sink: &mut impl Sink,
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        let set = InstructionSet::chosen()?;
        let size = nodes_at_once(rows.len());
        let mut extracted = Extracted::default();
        for first in nodes.clone().step_by(size) {
            interrupt.check()?;
            let in_block = first..nodes.end.min(first + size);
            let block = &self.lanes(&in_block, extremes).ok_or_else(|| Error::Columns("no table of them".into()))?;
            let own = &values.slice(s![rows.clone(), in_block]);
            sink.reserve(own.len())?;
            if !set::run(set, SearchRows { block, first, values: own, extracted: &mut extracted, sink }) {
                return Err(not_a_number(values));
            }
        }
        Ok(())
    }

    /// For each image, the nodes whose p-values fall in bin `last` of its own or an earlier one.
    pub(crate) fn nodes_up_to(
        &self,
        images: &Values<'_>,
        bins: &Bins,
        last: &[Option<usize>],
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<i32>>, Error> {
        images.in_tiles(SUBSET_IMAGES, |rows| self.nodes_of_rows(images, rows, bins, &last[rows.clone()], interrupt))
    }

    /// The same for some of them.
    fn nodes_of_rows(
        &self,
        images: &Values<'_>,
        rows: &Range<usize>,
        bins: &Bins,
        last: &[Option<usize>],
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<i32>>, Error> {
        let mut found = vec![Vec::new(); rows.len()];
        let tail = bins.ranking.tail;
        if let Some(breaker) = bins.breaker() {
            let place = |image: usize, node: usize, range: GridRange| {
                if last[image].is_some_and(|last| breaker.position(range, rows.start + image, node) <= last) {
                    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                    found[image].push(node as i32);
                }
            };
            self.for_each_range(images, rows, 0..self.n_nodes(), bins, interrupt, place)?;
            return Ok(found);
        }
        // No search: a value's rank is at most r where it exceeds the (r + 1)-th most extreme background value.
        let depth_of = |last: &Option<usize>| last.map(|last| last + bins.membership.own_values() + 1);
        let depths: Vec<_> = last.iter().map(depth_of).collect();
        let is_everyone = |last: &Option<usize>| bins.last_is_open() && *last == bins.n_bins().checked_sub(1);
        let everyone: Vec<_> = last.iter().map(is_everyone).collect();
        // Those of a block of nodes: each is written, and stays if it counts, which no processor foresees.
        let mut of_block = vec![([0; NODE_BLOCK], 0_usize); rows.len()];
        for_each_node::<V>(images, rows, 0..self.n_nodes(), interrupt, |node, block, n| {
            let (top, bottom) = (self.top(node, usize::MAX), self.bottom(node, usize::MAX));
            let keys = block.at_least(n).iter().zip(block.at_most(n)).zip(depths.iter().zip(&everyone));
            for (((at_least, at_most), (depth, everyone)), (nodes, length)) in keys.zip(&mut of_block) {
                let Some(depth) = *depth else { continue };
                let least = top.len().checked_sub(depth).and_then(|place| top.get(place));
                let above = tail.looks_up() && least.is_none_or(|least| at_least > least);
                let below = tail.looks_down() && bottom.get(depth - 1).is_none_or(|most| at_most < most);
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // no image has 2^31 nodes
                let node = node as i32;
                nodes[*length % NODE_BLOCK] = node;
                *length += usize::from(above | below | everyone);
            }
            if n + 1 == NODE_BLOCK || node + 1 == self.n_nodes() {
                for ((nodes, length), found) in of_block.iter_mut().zip(&mut found) {
                    found.extend_from_slice(&nodes[..mem::take(length)]);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The empirical p-value of every node of every image (the paper, section 3.1): (images, nodes).
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, the background is compact, or ties are to keep
    /// their range.
    pub fn p_values(&self, images: &Values<'_>, ranking: Ranking, interrupt: &Interrupt) -> Result<Array2<f64>, Error> {
        self.check_whole("p-values")?;
        ranking.ties.check_one_p_value()?;
        let m = self.n_samples();
        let whole = AlphaMax::try_from(1.0)?;
        let grid = thresholds(ranking, m, whole);
        let breaker = TieBreaker::new(ranking, images, interrupt)?;
        let p_values = self.for_each_value(images, interrupt, |image, node, column, at_least, at_most| {
            [if ranking.ties == Ties::Upper {
                ranking.tail.p_value(rank(ranking.tail, column, column, at_least, at_most), m)
            } else {
                let range = Membership::Outside.range(ranking.tail, m, counts(column, at_least, at_most));
                grid[breaker.position(range, image, node)]
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
        let m = self.n_samples();
        let n_steps = (m + 1) as f64;
        self.for_each_value(images, interrupt, |_, _, column, at_least, at_most| {
            let GridRange { low, high } = Membership::Outside.range(tail, m, counts(column, at_least, at_most));
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
        self.check_nodes(images, interrupt)?;
        let n_images = images.dim().0;
        let size = n_images.div_ceil(rayon::current_num_threads()).clamp(1, P_VALUE_IMAGES);
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

/// Visit nodes in order with the keys of a few images, read block by block.
fn for_each_node<V: Value>(
    images: &Values<'_>,
    rows: &Range<usize>,
    nodes: Range<usize>,
    interrupt: &Interrupt,
    mut visit: impl FnMut(usize, &KeyBlock<V>, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut block = KeyBlock::new(rows.len(), NODE_BLOCK.min(nodes.len()))?;
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
