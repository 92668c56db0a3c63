//! Searching node by node: for many images, which share a column and keep it in the nearest cache.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::ops::Range;
use std::{mem, slice};

use ndarray::ArrayView2;

use super::tile_ranks::{RankInt, TileRanks};
use crate::bins::{Bins, Membership};
use crate::index::{LINE, NODE_BLOCK, NodeBlock, Tree};
use crate::keys::KeyBlock;
use crate::pvalue::{GridRange, Tail};
use crate::simd::lanes::{Kernel, Lanes, Queries, mask_of};
use crate::simd::set::prefetch;
use crate::ties::TieBreaker;

/// Nodes at the end of a block, during which what the next one reads is asked for: earlier, and it would be gone.
const LATE: usize = 12;

/// Count for each node how many background values are less than each extreme value, or no larger.
pub(crate) struct SearchColumns<'a, S> {
    pub block: &'a NodeBlock<'a>,
    /// Its first node.
    pub first: usize,
    /// For each node the keys of all images.
    pub keys: &'a KeyBlock<f32>,
    pub n_images: usize,
    /// What the next block will read, if there is one.
    pub next: Option<ArrayView2<'a, f32>>,
    pub sink: &'a mut S,
}

/// Where counts go.
pub(crate) trait Sink {
    /// Whether both are needed, or those alone that look at the tail.
    const BOTH: bool;

    /// Take the counts of a node: for each extreme value which image's it is, how many values are less
    /// and how many no larger; no number where it is not needed.
    fn take(&mut self, block: &NodeBlock<'_>, node: usize, images: &[u32], less: &[u32], no_larger: &[u32]);

    /// After each block of nodes.
    fn end_block(&mut self) {}
}

/// A visit to each value: the node, the image, how many values are less, and how many no larger.
impl<F: FnMut(usize, usize, usize, usize)> Sink for F {
    const BOTH: bool = true;

    #[inline(always)]
    fn take(&mut self, _: &NodeBlock<'_>, node: usize, images: &[u32], less: &[u32], no_larger: &[u32]) {
        for (image, (less, no_larger)) in images.iter().zip(less.iter().zip(no_larger)) {
            self(node, *image as usize, *less as usize, *no_larger as usize);
        }
    }
}

/// Ranks that wait until there are enough of an image to go to a place far away.
pub(crate) struct Gathered<'a, R> {
    ranks: Vec<[[R; NODE_BLOCK]; 2]>,
    lengths: Vec<u32>,
    all: &'a mut TileRanks<R>,
}

impl<'a, R: RankInt> Gathered<'a, R> {
    pub fn new(n_images: usize, all: &'a mut TileRanks<R>) -> Self {
        Gathered { ranks: vec![[[R::default(); NODE_BLOCK]; 2]; n_images], lengths: vec![0; n_images], all }
    }

    /// Note a rank, if it counts.
    #[inline(always)]
    fn push(&mut self, image: usize, rank: R, counts: bool) {
        let length = &mut self.lengths[image];
        self.ranks[image].as_flattened_mut()[*length as usize % (2 * NODE_BLOCK)] = rank;
        *length += u32::from(counts);
    }

    /// After the last block.
    pub fn finish(self) {
        for (image, (ranks, length)) in self.ranks.iter().zip(self.lengths).enumerate() {
            self.all.extend(image, &ranks[0], length);
        }
    }
}

impl<R: RankInt> Sink for Gathered<'_, R> {
    const BOTH: bool = false;

    #[inline(always)]
    fn take(&mut self, block: &NodeBlock<'_>, _: usize, images: &[u32], less: &[u32], no_larger: &[u32]) {
        let width = block.width();
        let mut push = |image: &u32, rank: u32| self.push(*image as usize, R::of(rank as usize), true);
        match block.tail {
            Tail::Upper => images.iter().zip(less).for_each(|(image, less)| push(image, width.saturating_sub(*less))),
            Tail::Lower => images.iter().zip(no_larger).for_each(|(image, no_larger)| push(image, *no_larger)),
            Tail::TwoSided => {
                for (image, (less, no_larger)) in images.iter().zip(less.iter().zip(no_larger)) {
                    push(image, width.saturating_sub(*less).min(*no_larger));
                }
            }
        }
    }

    /// Make room for another.
    #[allow(clippy::cast_possible_truncation)] // a block has few nodes
    #[inline(always)]
    fn end_block(&mut self) {
        for (image, (ranks, length)) in self.ranks.iter_mut().zip(&mut self.lengths).enumerate() {
            if *length >= NODE_BLOCK as u32 {
                self.all.extend(image, &ranks[0], NODE_BLOCK as u32);
                ranks[0] = ranks[1];
                *length -= NODE_BLOCK as u32;
            }
        }
    }
}

/// Bins of values that may be tied, which wait as ranks do.
pub(crate) struct Placed<'a, R> {
    gathered: Gathered<'a, R>,
    bins: &'a Bins,
    breaker: &'a TieBreaker,
    /// The first of the images.
    start: usize,
    /// Room for the bins of a node.
    found: Vec<usize>,
    /// Whether an image that should be in the background is not.
    pub is_one_missing: bool,
}

impl<'a, R: RankInt> Placed<'a, R> {
    pub fn new(images: &Range<usize>, bins: &'a Bins, breaker: &'a TieBreaker, all: &'a mut TileRanks<R>) -> Self {
        let gathered = Gathered::new(images.len(), all);
        Placed { gathered, bins, breaker, start: images.start, found: vec![0; images.len()], is_one_missing: false }
    }

    /// After the last block; whether all images were there.
    pub fn finish(self) -> bool {
        self.gathered.finish();
        !self.is_one_missing
    }
}

impl<R: RankInt> Sink for Placed<'_, R> {
    const BOTH: bool = true;

    #[inline(always)]
    fn take(&mut self, block: &NodeBlock<'_>, node: usize, images: &[u32], less: &[u32], no_larger: &[u32]) {
        let (tail, membership, width) = (block.tail, self.bins.membership, block.shape.width);
        let is_member = membership != Membership::Outside;
        let found = &mut self.found[..images.len()];
        for ((bin, image), (less, no_larger)) in found.iter_mut().zip(images).zip(less.iter().zip(no_larger)) {
            self.is_one_missing |= is_member && less >= no_larger;
            let range = GridRange::of_counts(tail, width, (*less as usize, *no_larger as usize), membership);
            *bin = self.breaker.position(range, self.start + *image as usize, node);
        }
        let n_bins = self.bins.n_bins();
        for (image, bin) in images.iter().zip(found) {
            self.gathered.push(*image as usize, R::of(*bin), *bin < n_bins);
        }
    }

    #[inline(always)]
    fn end_block(&mut self) {
        self.gathered.end_block();
    }
}

impl<S: Sink> Kernel for SearchColumns<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.block.shape.levels.len() {
            0 => self.run_at::<L, 0>(),
            1 => self.run_at::<L, 1>(),
            2 => self.run_at::<L, 2>(),
            3 => self.run_at::<L, 3>(),
            _ => self.run_at::<L, 8>(),
        }
    }
}

impl<S: Sink> SearchColumns<'_, S> {
    #[inline(always)]
    fn run_at<L: Lanes, const LEVELS: usize>(self) {
        let SearchColumns { block, first, keys, n_images, next, sink } = self;
        let looks = [S::BOTH || block.tail.looks_up(), S::BOTH || block.tail.looks_down()];
        let [mut now, mut then] = [(); 2].map(|()| Queries::new(n_images));
        let [mut less, mut no_larger] = looks.map(|looks| vec![0; if looks { n_images } else { 0 }]);
        let mut rows = next.iter().flat_map(|values| values.outer_iter()).filter_map(|row| row.to_slice());
        let n_nodes = block.n_nodes();
        select::<L>(keys.at_least(0), block.above[0], block.below[0], &mut now);
        for node in 0..n_nodes {
            then.n = 0;
            if node + 1 < n_nodes {
                select::<L>(keys.at_least(node + 1), block.above[node + 1], block.below[node + 1], &mut then);
            }
            // A column that is searched for a few values only is not worth reading whole.
            let whole = |queries: &Queries| queries.n * 2 * LINE > block.shape.width;
            let coming = if whole(&then) { block.column(node + 1) } else { &[] };
            let mut ahead =
                Ahead { lines: coming.chunks(LINE), rows: &mut rows, late: node + LATE > n_nodes, near: whole(&now) };
            let tree = block.tree::<LEVELS>(node);
            let sought = &now.keys[..now.n];
            let [less, no_larger] = [(&mut less, looks[0]), (&mut no_larger, looks[1])]
                .map(|(counts, looks)| &mut counts[..if looks { now.n } else { 0 }]);
            match looks {
                [true, false] => count_less::<L, LEVELS>(&tree, sought, 0, less, &mut ahead),
                [false, _] => count_less::<L, LEVELS>(&tree, sought, 1, no_larger, &mut ahead),
                [true, true] => {
                    count_less::<L, LEVELS>(&tree, sought, 0, less, &mut ahead);
                    count_no_larger::<L, LEVELS>(&tree, sought, less, no_larger);
                }
            }
            ahead.lines.for_each(prefetch);
            sink.take(block, first + node, &now.places[..now.n], less, no_larger);
            mem::swap(&mut now, &mut then);
        }
        rows.for_each(prefetch);
        sink.end_block();
    }
}

/// Take the keys of one node that are above the one or below the other.
#[inline(always)]
fn select<L: Lanes>(keys: &[u32], above: u32, below: u32, queries: &mut Queries) {
    let (above, below) = ([above; LINE], [below; LINE]);
    queries.n = 0;
    let (lines, rest) = keys.as_chunks::<LINE>();
    let mut first = (0..).step_by(LINE);
    for (line, first) in lines.iter().zip(&mut first) {
        L::select(line, &above, &below, mask_of(LINE), first, queries);
    }
    if !rest.is_empty() {
        let mut line = [0; LINE];
        line[..rest.len()].copy_from_slice(rest);
        L::select(&line, &above, &below, mask_of(rest.len()), first.next().unwrap_or(0), queries);
    }
}

/// What will be read soon, asked for little by little: memory works while we search.
struct Ahead<'a, 'b, I> {
    /// The column of the next node.
    lines: slice::Chunks<'a, u32>,
    /// The rows of the next block.
    rows: &'b mut I,
    late: bool,
    /// Whether the column of this node has been asked for.
    near: bool,
}

impl<'a, I: Iterator<Item = &'a [f32]>> Ahead<'_, '_, I> {
    #[inline(always)]
    fn step(&mut self) {
        for line in self.lines.by_ref().take(8) {
            prefetch(line);
        }
        if self.late
            && let Some(row) = self.rows.next()
        {
            prefetch(row);
        }
    }
}

/// How many values of a column are less than each key plus `more`.
#[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
#[inline(always)]
fn count_less<'a, L: Lanes, const LEVELS: usize>(
    tree: &Tree<'_, LEVELS>,
    keys: &[u32],
    more: u32,
    counts: &mut [u32],
    ahead: &mut Ahead<'_, '_, impl Iterator<Item = &'a [f32]>>,
) {
    let near = ahead.near;
    for (counts, keys) in counts.chunks_mut(LINE).zip(keys.chunks(LINE)) {
        for (count, key) in counts.iter_mut().zip(keys) {
            *count = tree.leaf_of::<L>(*key + more) as u32;
        }
        if near {
            for (count, key) in counts.iter_mut().zip(keys) {
                *count = tree.count_less::<L>(*count as usize, *key + more) as u32;
            }
        } else {
            counts.iter().filter_map(|leaf| tree.leaves.get(*leaf as usize)).for_each(|leaf| prefetch(leaf));
        }
        ahead.step();
    }
    if !near {
        for (count, key) in counts.iter_mut().zip(keys) {
            *count = tree.count_less::<L>(*count as usize, *key + more) as u32;
        }
    }
}

/// How many values are no larger than each key, where it is known how many are less: most end in the same leaf.
#[allow(clippy::cast_possible_truncation)]
#[inline(always)]
fn count_no_larger<L: Lanes, const LEVELS: usize>(
    tree: &Tree<'_, LEVELS>,
    keys: &[u32],
    less: &[u32],
    no_larger: &mut [u32],
) {
    let (mut tied, mut n_tied) = (0, 0); // many images have the same
    for ((key, less), no_larger) in keys.iter().zip(less).zip(no_larger) {
        let leaf = *less as usize / LINE;
        let mut n = tree.count_less::<L>(leaf, *key + 1);
        if n == (leaf + 1) * LINE {
            if tied != *key {
                (tied, n_tied) = (*key, tree.count_less::<L>(tree.leaf_of::<L>(*key + 1), *key + 1));
            }
            n = n_tied;
        }
        *no_larger = (n as u32).max(*less); // of which none is beyond the last leaf
    }
}
