//! Ranking node by node: for many images, which share a column and keep it in the nearest cache.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::{mem, slice};

use ndarray::ArrayView2;

use super::tile_ranks::{RankInt, TileRanks};
use crate::index::{LINE, NODE_BLOCK, NodeBlock, Tree};
use crate::keys::KeyBlock;
use crate::pvalue::Tail;
use crate::simd::lanes::{Kernel, Lanes, Queries, mask_of};
use crate::simd::set::prefetch;

/// Nodes at the end of a block, during which what the next one reads is asked for: earlier, and it would be gone.
const LATE: usize = 12;

/// Note for each image the ranks of its extreme values.
pub(crate) struct RankColumns<'a, R> {
    pub block: &'a NodeBlock<'a>,
    /// For each node the keys of all images.
    pub keys: &'a KeyBlock<f32>,
    pub n_images: usize,
    /// What the next block will read, if there is one.
    pub next: Option<ArrayView2<'a, f32>>,
    pub gathered: &'a mut Gathered<R>,
    pub ranks: &'a mut TileRanks<R>,
}

/// Ranks that wait until there are enough of an image to go to a place far away.
pub(crate) struct Gathered<R> {
    ranks: Vec<[[R; NODE_BLOCK]; 2]>,
    lengths: Vec<u32>,
}

impl<R: RankInt> Gathered<R> {
    pub fn new(n_images: usize) -> Self {
        Gathered { ranks: vec![[[R::default(); NODE_BLOCK]; 2]; n_images], lengths: vec![0; n_images] }
    }

    #[inline(always)]
    fn push(&mut self, image: usize, rank: R) {
        let length = &mut self.lengths[image];
        self.ranks[image].as_flattened_mut()[*length as usize % (2 * NODE_BLOCK)] = rank;
        *length += 1;
    }

    /// After each block of nodes: make room for another.
    #[allow(clippy::cast_possible_truncation)] // a block has few nodes
    #[inline(always)]
    fn make_room(&mut self, all: &mut TileRanks<R>) {
        for (image, (ranks, length)) in self.ranks.iter_mut().zip(&mut self.lengths).enumerate() {
            if *length >= NODE_BLOCK as u32 {
                all.extend(image, &ranks[0], NODE_BLOCK as u32);
                ranks[0] = ranks[1];
                *length -= NODE_BLOCK as u32;
            }
        }
    }

    /// After the last one.
    pub fn finish(self, all: &mut TileRanks<R>) {
        for (image, (ranks, length)) in self.ranks.iter().zip(self.lengths).enumerate() {
            all.extend(image, &ranks[0], length);
        }
    }
}

impl<R: RankInt> Kernel for RankColumns<'_, R> {
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

impl<R: RankInt> RankColumns<'_, R> {
    #[inline(always)]
    fn run_at<L: Lanes, const LEVELS: usize>(self) {
        let RankColumns { block, keys, n_images, next, gathered, ranks: all } = self;
        let width = block.width();
        let [mut now, mut then] = [(); 2].map(|()| Queries::new(n_images));
        let mut found = vec![0; n_images];
        let mut no_larger = vec![0; if block.tail == Tail::TwoSided { n_images } else { 0 }];
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
            let (sought, found) = (&now.keys[..now.n], &mut found[..now.n]);
            match block.tail {
                Tail::Upper => {
                    count_less::<L, LEVELS>(&tree, sought, 0, found, &mut ahead);
                    for less in &mut *found {
                        *less = width.saturating_sub(*less);
                    }
                }
                Tail::Lower => count_less::<L, LEVELS>(&tree, sought, 1, found, &mut ahead),
                Tail::TwoSided => {
                    count_less::<L, LEVELS>(&tree, sought, 0, found, &mut ahead);
                    let no_larger = &mut no_larger[..now.n];
                    count_less::<L, LEVELS>(&tree, sought, 1, no_larger, &mut ahead);
                    let both = found.iter_mut().zip(no_larger);
                    both.for_each(|(less, no_larger)| *less = width.saturating_sub(*less).min(*no_larger));
                }
            }
            ahead.lines.for_each(prefetch);
            for (image, rank) in now.places.iter().zip(found) {
                gathered.push(*image as usize, R::of(*rank as usize));
            }
            mem::swap(&mut now, &mut then);
        }
        rows.for_each(prefetch);
        gathered.make_room(all);
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
