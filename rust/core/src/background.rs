//! The values that clean images gave each node, validated and sorted once.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, Ix2};
use rayon::prelude::*;

use crate::bins::{Bins, Membership};
use crate::error::Error;
use crate::index::{Extremes, NODE_BLOCK, NodeBlock, Shape, Table};
use crate::interrupt::Interrupt;
use crate::keys::KeyBlock;
use crate::map::Seal;
use crate::memory::{AlignedVec, First, Lines, Reused, zeros};
use crate::name::Named;
use crate::pvalue::{AlphaMax, Ranking, Tail, Ties, check_n_samples, n_thresholds};
use crate::simd::set::{self, InstructionSet};
use crate::simd::sort::{SortEnds, sort_ends};
use crate::value::{Value, Values, not_a_number};

/// How much of every node's values a background keeps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Keep {
    /// All of them: every p-value and every scan can be asked for.
    #[default]
    Everything,
    /// Only those that a scan of this tail with thresholds up to this one looks at.
    Scans {
        /// The tail that will be scanned.
        tail: Tail,
        /// The largest threshold that will be asked for.
        alpha_max: AlphaMax,
    },
}

impl Keep {
    /// How many of the smallest and of the largest values of a node are kept.
    pub(crate) fn extent(self, n_samples: usize) -> Result<(usize, usize), Error> {
        let Keep::Scans { tail, alpha_max } = self else {
            check_kept(n_samples)?;
            return Ok((n_samples, n_samples));
        };
        // One more than there are thresholds: leave-one-out counts the image itself, and the value after the last
        // threshold's is what tells which nodes are beyond it.
        let depth = n_thresholds(tail.into(), n_samples, alpha_max)? + 1;
        let low = if tail.looks_down() { depth } else { 0 };
        let high = if tail.looks_up() { depth } else { 0 };
        check_kept((low + high).min(n_samples))?;
        Ok(if low + high < n_samples { (low, high) } else { (n_samples, n_samples) })
    }
}

/// Sorted node values of M background images, the reference that test images are ranked in.
///
/// Sorting is what costs; it is done once, and the scans of any number of images then search. Immutable, so that any
/// number of threads may read it.
#[derive(Debug)]
pub struct Background<V: Value> {
    n_samples: usize,
    n_nodes: usize,
    keep: Keep,
    low: usize,
    high: usize,
    /// Node after node, in whole lines: the `low` smallest keys and the `high` largest, ascending, or all where these
    /// overlap; then the largest key of all.
    columns: Lines<V::Key>,
    shape: Shape,
    /// What finds a value's line of a column, for columns that vector instructions search.
    table: Lines<u32>,
    /// Of a mapped file.
    seal: Option<Seal>,
    pub(crate) first_bins: First<Bins>,
}

impl<V: Value> Background<V> {
    /// Sort the node values of background images, one row an image.
    ///
    /// # Errors
    ///
    /// If there is no image, no node, or a NaN.
    pub fn new(values: &ArrayView2<'_, V>, keep: Keep, interrupt: &Interrupt) -> Result<Self, Error> {
        let (n_samples, n_nodes) = values.dim();
        check_shape(n_samples, n_nodes)?;
        let (low, high) = keep.extent(n_samples)?;
        let shape = Shape::new((low + high).min(n_samples));
        let (width, stride) = (shape.width, shape.stride);
        let mut columns = AlignedVec::zeros(n_nodes, stride)?;
        let values = V::wrap(values.view());
        // A block's columns stay in the cache from reading to sorting.
        let blocks = columns.par_chunks_mut(NODE_BLOCK * stride).enumerate();
        let rooms = Reused::default();
        let new_room = || Ok((KeyBlock::<V>::new(n_samples, NODE_BLOCK.min(n_nodes))?, Vec::new()));
        blocks.try_for_each(|(n_block, kept)| {
            interrupt.check()?;
            let (mut block, mut scratch) = rooms.take().map_or_else(new_room, Ok)?;
            let first = n_block * NODE_BLOCK;
            let nodes = first..first + kept.len() / stride;
            block.fill(&values, &(0..n_samples), &nodes)?;
            for (n, kept) in kept.chunks_exact_mut(stride).enumerate() {
                let column = block.at_least_mut(n);
                keep_sorted::<V>(column, (low, high), &mut scratch)?;
                kept[..low.min(width)].copy_from_slice(&column[..low.min(width)]);
                kept[width - high..width].copy_from_slice(&column[n_samples - high..]);
            }
            rooms.give((block, scratch));
            Ok(())
        })?;
        Background::of_sorted(n_samples, n_nodes, keep, shape, columns, interrupt)
    }

    /// Take up columns that [`Background::columns`] gave, one row a node.
    ///
    /// # Errors
    ///
    /// If their shape is not that of such a background, or a column is not sorted, or holds a NaN.
    pub fn from_columns(
        n_samples: usize,
        keep: Keep,
        columns: &ArrayView2<'_, V>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (n_nodes, width) = columns.dim();
        check_shape(n_samples, n_nodes)?;
        let (low, high) = keep.extent(n_samples)?;
        let expected = (low + high).min(n_samples);
        if width != expected {
            let kept = format!("{width} values a node where {expected} of {n_samples} inputs are kept");
            return Err(Error::Columns(kept));
        }
        let shape = Shape::new(width);
        let mut keys = AlignedVec::zeros(n_nodes, shape.stride)?;
        for (node, (column, keys)) in columns.outer_iter().zip(keys.chunks_exact_mut(shape.stride)).enumerate() {
            interrupt.check()?;
            if column.iter().any(|value| value.is_nan()) {
                return Err(not_a_number(columns));
            }
            column.iter().zip(&mut *keys).for_each(|(value, key)| *key = value.key());
            if !keys[..width].is_sorted() {
                return Err(Error::Columns(format!("the values of node {node} are not sorted")));
            }
        }
        Background::of_sorted(n_samples, n_nodes, keep, shape, keys, interrupt)
    }

    pub(crate) fn of_sorted(
        n_samples: usize,
        n_nodes: usize,
        keep: Keep,
        shape: Shape,
        mut columns: AlignedVec<V::Key>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        columns.par_chunks_mut(shape.stride).for_each(|column| column[shape.width..].fill(V::LARGEST));
        let mut table = AlignedVec::zeros(n_nodes, Self::n_table(shape))?;
        if let Some(columns) = V::lanes(&columns) {
            shape.write_table(columns, &mut table, interrupt)?;
        }
        Background::of_index(n_samples, n_nodes, keep, shape, Lines::Own(columns), Lines::Own(table), None)
    }

    pub(crate) fn of_index(
        n_samples: usize,
        n_nodes: usize,
        keep: Keep,
        shape: Shape,
        columns: Lines<V::Key>,
        table: Lines<u32>,
        seal: Option<Seal>,
    ) -> Result<Self, Error> {
        let (low, high) = keep.extent(n_samples)?;
        let first_bins = First::default();
        Ok(Background { n_samples, n_nodes, keep, low, high, columns, shape, table, seal, first_bins })
    }

    /// Entries of the table for each node.
    pub(crate) fn n_table(shape: Shape) -> usize {
        if V::lanes(&[]).is_some() { shape.n_table() } else { 0 }
    }

    /// Columns, and what finds a line of them.
    pub(crate) fn index(&self) -> (&[V::Key], &[u32]) {
        (&self.columns, &self.table)
    }

    pub(crate) fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// What is kept: one row a node, ascending.
    ///
    /// # Errors
    ///
    /// If there is not enough memory for it, or it lies in a damaged file.
    pub fn columns(&self, interrupt: &Interrupt) -> Result<Array2<V>, Error> {
        self.check_content(interrupt)?;
        let mut columns = zeros(Ix2(self.n_nodes, self.shape.width))?;
        for (node, mut values) in columns.outer_iter_mut().enumerate() {
            interrupt.check()?;
            values.iter_mut().zip(self.column(node)).for_each(|(value, key)| *value = V::from_key(*key));
        }
        Ok(columns)
    }

    /// Number of background images, M.
    #[must_use]
    pub fn n_samples(&self) -> usize {
        self.n_samples
    }

    /// Number of nodes, J.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.n_nodes
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// What is kept of the images' values.
    #[must_use]
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Bytes of the sorted columns and of their search index.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        size_of_val(&*self.columns) + size_of_val(&*self.table)
    }

    /// The keys that values have to pass to fall in one of these bins, or to be looked at if all are; None where vector
    /// instructions do not search such values.
    pub(crate) fn extremes(&self, bins: &Bins) -> Option<Extremes> {
        let columns = V::lanes(&self.columns)?;
        let (Bins { ranking, membership, .. }, n_bins) = (bins, bins.n_bins());
        let Ranking { tail, ties, .. } = *ranking;
        let depth = match ties {
            Ties::Upper => bins.depth(),
            _ if *membership != Membership::Outside => usize::MAX, // each is looked for
            _ => ranking.depth_of_ranges(n_bins),
        };
        // The least extreme key of those that may count is often tied, and then counts only if its range does.
        let may_count = |column: &[u32], key: u32| match ties {
            Ties::Upper => false,
            Ties::Midrank => {
                let counts =
                    (column.partition_point(|other| *other < key), column.partition_point(|other| *other <= key));
                membership.range(tail, self.n_samples, counts).midrank() < n_bins
            }
            Ties::Random | Ties::Range => true,
        };
        let n = self.n_nodes.next_multiple_of(NODE_BLOCK);
        let mut extremes = Extremes { tail, above: vec![u32::MAX; n], below: vec![0; n] };
        let all = [self.high, self.low].map(|kept| bins.last_is_open() || kept < depth);
        let columns = columns.chunks_exact(self.shape.stride).map(|column| &column[..self.shape.width]);
        for ((column, above), below) in columns.zip(&mut extremes.above).zip(&mut extremes.below) {
            if tail.looks_up() && depth > 0 {
                let key = if all[0] { 0 } else { column[column.len() - depth] };
                *above = key.saturating_sub((!all[0] && may_count(column, key)).into());
            }
            if tail.looks_down() && depth > 0 {
                let key = if all[1] { u32::MAX } else { column[depth - 1] };
                *below = key.saturating_add((!all[1] && may_count(column, key)).into());
            }
        }
        Some(extremes)
    }

    /// A block of nodes for the vector instructions, where these search such values.
    pub(crate) fn lanes<'a>(&'a self, nodes: &Range<usize>, extremes: &'a Extremes) -> Option<NodeBlock<'a>> {
        let stride = self.shape.stride;
        Some(NodeBlock {
            tail: extremes.tail,
            shape: self.shape,
            columns: &V::lanes(&self.columns)?[nodes.start * stride..nodes.end * stride],
            table: Table::of(self.shape, &self.table, self.n_nodes)?.nodes(nodes),
            above: &extremes.above[nodes.start..],
            below: &extremes.below[nodes.start..],
        })
    }

    fn column(&self, node: usize) -> &[V::Key] {
        &self.columns[node * self.shape.stride..][..self.shape.width]
    }

    /// The `depth` smallest keys of a node, ascending; fewer if there are no more.
    pub(crate) fn bottom(&self, node: usize, depth: usize) -> &[V::Key] {
        &self.column(node)[..depth.min(self.low)]
    }

    /// The `depth` largest keys of a node, ascending; fewer if there are no more.
    pub(crate) fn top(&self, node: usize, depth: usize) -> &[V::Key] {
        let column = self.column(node);
        &column[column.len() - depth.min(self.high)..]
    }

    /// Every key of a node, ascending. Only whole backgrounds have them.
    pub(crate) fn all(&self, node: usize) -> &[V::Key] {
        self.column(node)
    }

    /// Refuse images with another number of nodes, and a background in a damaged file.
    pub(crate) fn check_nodes(&self, images: &Values<'_>, interrupt: &Interrupt) -> Result<(), Error> {
        let (_, received) = images.dim();
        if received == self.n_nodes {
            self.check_content(interrupt)
        } else {
            Err(Error::Nodes { expected: self.n_nodes, received })
        }
    }

    /// Refuse a scan that looks at values which were not kept.
    pub(crate) fn check_scan(&self, ranking: Ranking, alpha_max: AlphaMax) -> Result<(), Error> {
        let Ranking { tail, ties, .. } = ranking;
        if ties != Ties::Upper {
            return self.check_whole(&format!("ties {:?}", ties.name()));
        }
        match self.keep {
            Keep::Scans { tail: kept_tail, alpha_max: kept } if tail != kept_tail || alpha_max > kept => {
                Err(self.compact_error(describe(tail, alpha_max)))
            }
            _ => Ok(()),
        }
    }

    /// Refuse what needs every value, where not every value was kept.
    pub(crate) fn check_whole(&self, asked: &str) -> Result<(), Error> {
        if self.keep == Keep::Everything { Ok(()) } else { Err(self.compact_error(asked.to_owned())) }
    }

    fn compact_error(&self, asked: String) -> Error {
        let kept = match self.keep {
            Keep::Everything => "everything".to_owned(),
            Keep::Scans { tail, alpha_max } => describe(tail, alpha_max),
        };
        Error::Compact { kept, asked }
    }
}

pub(crate) fn check_shape(n_samples: usize, n_nodes: usize) -> Result<(), Error> {
    match (n_samples, n_nodes) {
        (0, _) => Err(Error::NoImages),
        (_, 0) => Err(Error::NoNodes),
        _ => {
            check_n_samples(n_samples)?;
            check_n_nodes(n_nodes)
        }
    }
}

/// Refuse more nodes than subsets have numbers for.
pub(crate) fn check_n_nodes(n_nodes: usize) -> Result<(), Error> {
    check_most("nodes", n_nodes, i32::MAX as usize)
}

/// Refuse more values of a node than a search counts.
fn check_kept(n: usize) -> Result<(), Error> {
    check_most("values of a node", n, u32::MAX as usize)
}

/// Refuse more than fits the numbers that are counted with.
pub(crate) fn check_most(what: &'static str, received: usize, most: usize) -> Result<(), Error> {
    if received <= most { Ok(()) } else { Err(Error::TooMany { what, most, received }) }
}

/// Sort a column as far as its `low` smallest and `high` largest keys are concerned.
pub(crate) fn keep_sorted<V: Value>(
    column: &mut [V::Key],
    (low, high): (usize, usize),
    scratch: &mut Vec<u32>,
) -> Result<(), Error> {
    match V::lanes_mut(column) {
        Some(column) => set::run(InstructionSet::chosen()?, SortEnds { column, low, high, scratch }),
        None => sort_ends(column, low, high),
    }
    Ok(())
}

fn describe(tail: Tail, alpha_max: AlphaMax) -> String {
    format!("{} scans with alpha_max up to {}", tail.name(), alpha_max.get())
}
