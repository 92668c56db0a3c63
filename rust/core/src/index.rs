//! The search index of a node: a 16-ary tree over its sorted values, whose leaves are the values themselves.
//!
//! A line of 16 single-precision keys fills a cache line, and one vector comparison tells how many of them are smaller
//! than a key. A search touches one line a level: two of separators, mostly in the nearest cache, and one leaf.

use std::array;

use crate::bins::Membership;
use crate::pvalue::{Tail, Ties};

/// Nodes that are handled together: one cache line of single-precision values from each image, four times over.
pub(crate) const NODE_BLOCK: usize = 64;
/// Keys that are compared at once.
pub(crate) const LINE: usize = 16;

/// Where the levels of separators lie: alike for all nodes, whose columns have the same width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sorted values of a node.
    pub width: usize,
    /// The same in whole lines: what lies beyond is above all.
    pub stride: usize,
    /// Where each level of separators begins, the root first; each is a whole number of lines.
    pub levels: Vec<usize>,
    /// Separators of a node, in all levels.
    pub n_separators: usize,
}

impl Shape {
    /// The tree over columns of this width. Columns of fewer values than a line have no tree.
    pub fn new(width: usize) -> Self {
        let mut lengths = Vec::new();
        let mut n_lines = width.div_ceil(LINE);
        while n_lines > 1 {
            lengths.push(n_lines.next_multiple_of(LINE));
            n_lines = n_lines.div_ceil(LINE);
        }
        let mut levels = Vec::new();
        let mut n_separators = 0;
        for length in lengths.into_iter().rev() {
            levels.push(n_separators);
            n_separators += length;
        }
        Shape { width, stride: width.next_multiple_of(LINE), levels, n_separators }
    }

    /// Write the separators of a sorted column: the largest key of each line below, one above all beyond the last.
    pub fn write_separators(&self, column: &[u32], separators: &mut [u32]) {
        separators.fill(u32::MAX); // above every key
        let mut span = LINE; // values below a separator
        for &level in self.levels.iter().rev() {
            // The last line of a level needs none: what is not below another separator is there.
            for n in 0..self.width.div_ceil(span) - 1 {
                separators[level + n] = column[(n + 1) * span - 1];
            }
            span *= LINE;
        }
    }

    /// Go down a level from the n-th line of it, to the line of the next level where `key` belongs.
    ///
    /// The column itself is the last level: below it is the number of values that are smaller.
    #[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
    #[inline(always)]
    pub fn descend<C: CountLess>(level: usize, separators: &[u32], n: usize, key: u32) -> usize {
        let line = separators.get(level + n * LINE..).and_then(|lines| lines.first_chunk()); // a file may lead beyond
        line.map_or(n, |line| n * LINE + C::count_less(line, key)) // levels are whole lines
    }
}

/// Which values are asked for as extreme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub tail: Tail,
    pub ties: Ties,
    pub membership: Membership,
    /// Those that may fall in one of so many bins.
    pub n_bins: usize,
    /// Or all.
    pub everyone: bool,
}

/// For each node, and in whole lines, the keys that a value has to pass to be extreme.
#[derive(Debug, Clone)]
pub(crate) struct Extremes {
    pub asked: Asked,
    pub above: Vec<u32>,
    pub below: Vec<u32>,
}

/// Nodes that are worked on together: their sorted columns, the trees above them, and the keys beyond which a value
/// is extreme.
pub(crate) struct NodeBlock<'a> {
    pub tail: Tail,
    pub shape: &'a Shape,
    /// Node after node.
    pub columns: &'a [u32],
    pub separators: &'a [u32],
    /// For each node, and in whole lines: keys above this are extreme in the upper tail, and below that in the lower.
    pub above: &'a [u32],
    pub below: &'a [u32],
}

impl NodeBlock<'_> {
    /// Sorted values of a node.
    #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
    pub fn width(&self) -> u32 {
        self.shape.width as u32
    }

    /// Number of nodes.
    pub fn n_nodes(&self) -> usize {
        self.columns.len() / self.shape.stride
    }

    /// The sorted values of a node, in whole lines; none beyond the last node.
    pub fn column(&self, node: usize) -> &[u32] {
        let stride = self.shape.stride;
        self.columns.get(node * stride..(node + 1) * stride).unwrap_or_default()
    }

    /// A node's tree in lines: the levels above the column, the root first, none beyond; and the column.
    pub fn tree<const LEVELS: usize>(&self, node: usize) -> Tree<'_, LEVELS> {
        let separators = &self.separators[node * self.shape.n_separators..][..self.shape.n_separators];
        let level = |n| self.shape.levels.get(n).map_or(&[][..], |level: &usize| separators[*level..].as_chunks().0);
        Tree { levels: array::from_fn(level), leaves: self.column(node).as_chunks().0 }
    }
}

/// One node's part of the index.
pub(crate) struct Tree<'a, const LEVELS: usize> {
    pub levels: [&'a [[u32; LINE]]; LEVELS],
    pub leaves: &'a [[u32; LINE]],
}

#[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
impl<const LEVELS: usize> Tree<'_, LEVELS> {
    /// The leaf where a key belongs.
    #[inline(always)]
    pub fn leaf_of<C: CountLess>(&self, key: u32) -> usize {
        let mut n = 0;
        for lines in &self.levels {
            let Some(line) = lines.get(n) else { break }; // no level below
            n = n * LINE + C::count_less(line, key);
        }
        n
    }

    /// How many values are smaller than a key that belongs in this leaf.
    #[inline(always)]
    pub fn count_less<C: CountLess>(&self, leaf: usize, key: u32) -> usize {
        self.leaves.get(leaf).map_or(0, |line| leaf * LINE + C::count_less(line, key))
    }
}

/// How a line is compared.
pub(crate) trait CountLess {
    /// How many of a line's keys are smaller.
    fn count_less(line: &[u32; LINE], key: u32) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Slow;

    impl CountLess for Slow {
        fn count_less(line: &[u32; LINE], key: u32) -> usize {
            line.iter().filter(|other| **other < key).count()
        }
    }

    proptest! {
        #[test]
        fn the_tree_counts_what_is_smaller(
            mut column in prop_oneof![
                prop::collection::vec(0_u32..40, 1..70),
                prop::collection::vec(0_u32..5000, 250..600),
                prop::collection::vec(any::<u32>().prop_map(|key| key.min(u32::MAX - 1)), 4000..4200),
            ],
            keys in prop::collection::vec(0_u32..u32::MAX, 20),
        ) {
            column.sort_unstable();
            let shape = Shape::new(column.len());
            let mut separators = vec![0; shape.n_separators];
            shape.write_separators(&column, &mut separators);
            let mut padded = column.clone();
            padded.resize(shape.stride, u32::MAX);
            let (first, last) = (column[0], column[column.len() - 1]);
            let edges = [0, first, first + 1, last, last + 1, u32::MAX - 1];
            let own = column.iter().step_by(7).flat_map(|key| [*key, key + 1]);
            for key in keys.into_iter().chain(edges).chain(own.collect::<Vec<_>>()) {
                let expected = column.partition_point(|value| *value < key);
                let down = |n, level: &usize| Shape::descend::<Slow>(*level, &separators, n, key);
                let leaf = shape.levels.iter().fold(0, down);
                prop_assert_eq!(Shape::descend::<Slow>(0, &padded, leaf, key), expected);
            }
        }
    }

    #[test]
    fn levels_grow_with_the_width() {
        let levels = |width| Shape::new(width).levels.len();
        assert_eq!([1, 16, 17, 256, 257, 4096, 4097, 65536].map(levels), [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}
