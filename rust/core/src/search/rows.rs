//! The rank search in vector instructions: what is extreme is taken image by image, and searched for in a few columns
//! at a time.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::array;
use std::slice::Chunks;

use ndarray::{ArrayView2, Axis};

use super::sinks::{Found, Sink};
use crate::index::{LINE, NODE_BLOCK, NodeBlock};
use crate::pvalue::Tail;
use crate::simd::lanes::{Kernel, Lanes, Queries, mask_of};
use crate::simd::set::prefetch;

/// Up to so many images, each value is searched for in another column, most of it far away.
const FEW: usize = 32;
/// Nodes that are searched together for more images: what is searched, and what will be next, stay in a near cache.
const GROUP: usize = 64;
/// Nodes of which values are taken together: so much of an image is read in one piece.
const WIDE: usize = 8 * GROUP;
/// Queries that are answered together: little is asked for at a time, so that none of it is lost.
const BATCH: usize = 16;
/// Batches before which lines of columns are asked for, where columns are not read whole.
const AHEAD: usize = 2;
/// Columns are read whole where there is a query for so many of their lines.
const DENSE: usize = 4;
/// One of so many values is usually searched for.
const USUAL: usize = 4;
/// Keys that stay in a cache near a core.
const CACHED: usize = 1 << 18;

/// How many nodes a block may have.
pub(crate) fn nodes_at_once(n_images: usize) -> usize {
    if n_images > FEW { WIDE } else { FEW / n_images.max(1) * NODE_BLOCK }
}

/// Extreme values of some images, group of nodes by group of nodes.
#[derive(Default)]
pub(crate) struct Extracted {
    groups: Vec<Queries>,
    /// For each group where the queries of each image end.
    ends: Vec<u32>,
    ties: Ties,
}

/// How many background values are no larger.
#[derive(Default)]
struct Ties {
    /// Than each query of a group.
    no_larger: Vec<u32>,
    /// For each node two values that many are equal to, as zero and what a bias alone leads to: those found last.
    of_nodes: Vec<[Tie; 2]>,
}

/// A value that many are equal to: the key after it, and how many are less and how many no larger.
#[derive(Clone, Copy, Default)]
struct Tie {
    next: u32,
    less: u32,
    no_larger: u32,
}

impl Ties {
    fn clear(&mut self, n_nodes: usize, n_queries: usize) {
        self.of_nodes.clear();
        self.of_nodes.resize(n_nodes, <[Tie; 2]>::default());
        self.no_larger.resize(n_queries, 0);
    }
}

impl Extracted {
    fn make_room(&mut self, n_groups: usize, n_images: usize, size: usize) {
        self.groups.truncate(n_groups);
        self.groups.iter_mut().for_each(|group| group.make_room(n_images * size));
        self.groups.resize_with(n_groups, || Queries::new(n_images * size));
        self.ends.resize(n_groups * n_images, 0);
    }
}

/// Count for each extreme value how many background values are less, or no larger; false where a value is NaN.
pub(crate) struct SearchRows<'a, S> {
    pub block: &'a NodeBlock<'a>,
    /// Its first node.
    pub first: usize,
    /// One row an image, one column a node of the block.
    pub values: &'a ArrayView2<'a, f32>,
    /// Room that can be used again.
    pub extracted: &'a mut Extracted,
    pub sink: &'a mut S,
}

impl<S: Sink> Kernel for SearchRows<'_, S> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self) -> bool {
        let SearchRows { block, first, values, extracted, sink } = self;
        let (n_images, n_nodes) = values.dim();
        let size = if n_images > FEW { GROUP } else { n_nodes.next_multiple_of(LINE) };
        extracted.make_room(n_nodes.div_ceil(size), n_images, size);
        if !extract::<L>(block, values, size, extracted) {
            return false;
        }
        let Extracted { groups, ends, ties } = extracted;
        for (n, queries) in groups.iter_mut().enumerate() {
            let (start, end) = (n * size, n_nodes.min((n + 1) * size));
            let group = block.nodes(start..end);
            let (places, keys) = (&queries.places[..queries.n], &mut queries.keys[..queries.n]);
            ties.clear(if S::BOTH { end - start } else { 0 }, if S::BOTH { keys.len() } else { 0 });
            let mut ahead = Ahead::new(&group, || block.nodes(end..n_nodes.min(end + size)), places);
            for (n, (places, keys)) in places.chunks(BATCH).zip(keys.chunks_mut(BATCH)).enumerate() {
                ahead.step();
                if S::BOTH {
                    count_both::<L>(&group, places, keys, n * BATCH, ties);
                } else {
                    rank::<L>(&group, places, keys);
                }
            }
            let (log_buckets, no_larger) = (group.shape.log_buckets, &ties.no_larger[..]);
            let ends = &ends[n * n_images..][..n_images];
            sink.take(block, &Found { first: first + start, log_buckets, places, counts: keys, no_larger, ends });
        }
        true
    }
}

/// What will be read soon, asked for batch by batch: memory works while we search.
struct Ahead<'a> {
    group: &'a NodeBlock<'a>,
    /// All of the next group, where that is worth it.
    columns: Chunks<'a, u32>,
    starts: Chunks<'a, u16>,
    /// Else where the values belong that will be searched for, and before that what says where it is.
    lines_of: Chunks<'a, u32>,
    starts_of: Chunks<'a, u32>,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    fn new(group: &'a NodeBlock<'a>, next: impl FnOnce() -> NodeBlock<'a>, places: &'a [u32]) -> Self {
        let (columns, starts, far) = match is_dense(places.len(), group.columns).then(next) {
            Some(next) => (next.columns, next.table.starts(), &[][..]),
            None => (&[][..], &[][..], places),
        };
        let n_batches = places.len().div_ceil(BATCH);
        let (columns, starts) = (in_parts(columns, n_batches), in_parts(starts, n_batches));
        let mut ahead = Ahead { group, columns, starts, lines_of: far.chunks(BATCH), starts_of: far.chunks(BATCH) };
        for n in 0..2 * AHEAD {
            ahead.ask(n >= AHEAD);
        }
        ahead
    }

    #[inline(always)]
    fn step(&mut self) {
        self.columns.next().into_iter().for_each(prefetch);
        self.starts.next().into_iter().for_each(prefetch);
        self.ask(true);
    }

    #[inline(always)]
    fn ask(&mut self, for_lines: bool) {
        for place in self.starts_of.next().into_iter().flatten() {
            self.group.prefetch_start(*place);
        }
        let lines_of = if for_lines { self.lines_of.next() } else { None };
        for place in lines_of.into_iter().flatten() {
            self.group.prefetch_lines(*place);
        }
    }
}

/// Whether columns are read whole: for a few values it is not worth it, and those that are large would not stay.
fn is_dense(n_queries: usize, columns: &[u32]) -> bool {
    (n_queries * DENSE * LINE).min(CACHED) > columns.len()
}

/// Part a slice evenly, in whole lines.
fn in_parts<T>(values: &[T], n: usize) -> Chunks<'_, T> {
    values.chunks(values.len().div_ceil(n.max(1)).next_multiple_of(2 * LINE).max(LINE))
}

/// Replace keys by their ranks.
#[inline(always)]
fn rank<L: Lanes>(group: &NodeBlock<'_>, places: &[u32], keys: &mut [u32]) {
    let width = group.width();
    for (key, place) in keys.iter_mut().zip(places) {
        *key = match group.tail {
            Tail::Upper => width.saturating_sub(group.count_less::<L>(*place, *key)),
            Tail::Lower => group.count_less::<L>(*place, *key + 1),
            Tail::TwoSided => {
                let less = group.count_less::<L>(*place, *key);
                width.saturating_sub(less).min(group.count_less::<L>(*place, *key + 1))
            }
        };
    }
}

/// Replace keys, the first of a group being the `first`-th of all, by how many values are less, and note how many are no
/// larger.
#[inline(always)]
fn count_both<L: Lanes>(group: &NodeBlock<'_>, places: &[u32], keys: &mut [u32], first: usize, ties: &mut Ties) {
    let log_buckets = group.shape.log_buckets;
    let no_larger = &mut ties.no_larger[first..][..keys.len()];
    for ((key, place), no_larger) in keys.iter_mut().zip(places).zip(no_larger) {
        let next = *key + 1;
        let known = &mut ties.of_nodes[(*place >> log_buckets) as usize];
        let last = known[usize::from(known[0].next != next)];
        if last.next == next {
            (*key, *no_larger) = (last.less, last.no_larger);
            continue;
        }
        let less = group.count_less::<L>(*place, *key);
        *no_larger = group.count_near::<L>(*place, next).unwrap_or_else(|| {
            let tie = Tie { next, less, no_larger: group.count_beyond(*place, next) };
            *known = [tie, known[0]];
            tie.no_larger
        });
        *key = less;
    }
}

/// Take the extreme values; false where a value is NaN.
#[inline(always)]
fn extract<L: Lanes>(
    block: &NodeBlock<'_>,
    values: &ArrayView2<'_, f32>,
    size: usize,
    extracted: &mut Extracted,
) -> bool {
    let n_images = values.nrows();
    let mut nan_free = true;
    let mut buffer = Vec::new();
    // Meanwhile memory works for the first group.
    let first = block.nodes(0..size.min(values.ncols()));
    let is_dense = is_dense(n_images * size / USUAL, first.columns);
    let first = if is_dense { first } else { block.nodes(0..0) };
    let (mut columns, mut starts) = (in_parts(first.columns, n_images), in_parts(first.table.starts(), n_images));
    for (image, row) in values.outer_iter().enumerate() {
        columns.next().into_iter().for_each(prefetch);
        starts.next().into_iter().for_each(prefetch);
        if let Some(row) = values.index_axis(Axis(0), (image + 2).min(n_images - 1)).to_slice() {
            prefetch(row);
        }
        let row = row.to_slice().unwrap_or_else(|| {
            buffer.clear();
            buffer.extend(row.iter().copied());
            &buffer
        });
        for (n, (row, queries)) in row.chunks(size).zip(&mut extracted.groups).enumerate() {
            nan_free &= extract_row::<L>(row, &block.nodes(n * size..n * size + row.len()), queries);
            #[allow(clippy::cast_possible_truncation)] // a group has fewer values
            let end = queries.n as u32;
            extracted.ends[n * n_images + image] = end;
        }
    }
    nan_free
}

/// The same for one image and the nodes of one group.
#[inline(always)]
fn extract_row<L: Lanes>(row: &[f32], group: &NodeBlock<'_>, queries: &mut Queries) -> bool {
    let (lines, rest) = row.as_chunks::<LINE>();
    let mut last = [0.0; LINE];
    last[..rest.len()].copy_from_slice(rest);
    let lines = lines.iter().map(|line| (line, mask_of(LINE)));
    let lines = lines.chain((!rest.is_empty()).then_some((&last, mask_of(rest.len()))));
    let bounds = group.above.as_chunks().0.iter().zip(group.below.as_chunks().0);
    let log_buckets = group.shape.log_buckets;
    let mut nan_free = true;
    #[allow(clippy::cast_possible_truncation)] // a line
    let (mut bases, next): ([u32; LINE], _) =
        (array::from_fn(|lane| (lane as u32) << log_buckets), (LINE as u32) << log_buckets);
    for (((line, mask), (above, below)), bucketings) in lines.zip(bounds).zip(group.table.bucketings()) {
        let (mut keys, mut places) = ([0; LINE], [0; LINE]);
        nan_free &= !L::keys(line, &mut keys);
        L::places(line, &bucketings, &bases, &mut places);
        L::select(&keys, above, below, mask, &places, queries);
        for base in &mut bases {
            *base += next;
        }
    }
    nan_free
}
