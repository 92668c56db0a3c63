//! The search index of a node: its sorted values in lines, and a table that says in which line a value belongs.
//!
//! A line of 16 single-precision keys fills a cache line, and one vector comparison tells how many of them are smaller
//! than a key. Values are put in more buckets than there are lines, by a few operations on their bits; the table has for
//! each bucket the first line of which it may hold values. So a search reads the table and two lines. Only where many
//! values are in one bucket it goes on, by halves.

mod table;

use std::ops::Range;

pub(crate) use self::table::{Bucketing, Bucketings, Table};
use crate::pvalue::Tail;
use crate::simd::set::prefetch;

/// Nodes that are handled together: one cache line of single-precision values from each image, four times over.
pub(crate) const NODE_BLOCK: usize = 64;
/// Keys that are compared at once.
pub(crate) const LINE: usize = 16;
/// Values of a column for each bucket: the fewer, the more often two lines tell where a value belongs.
const PER_BUCKET: usize = 4;
/// Buckets of a node, so that there is a 32-bit number for each of those of some thousand nodes.
const MOST_BUCKETS: usize = 1 << 18;

/// How columns of a width are kept and searched: alike for all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sorted values of a node.
    pub width: usize,
    /// The same in whole lines: what lies beyond is above all.
    pub stride: usize,
    /// Of the number of buckets of a node.
    pub log_buckets: u32,
    /// Of the lines that a bucket's start is a multiple of.
    pub log_unit: u32,
}

impl Shape {
    pub fn new(width: usize) -> Self {
        let stride = width.next_multiple_of(LINE);
        let n_buckets = width.div_ceil(PER_BUCKET).clamp(2 * LINE, MOST_BUCKETS).next_power_of_two();
        let unit = (stride / LINE).div_ceil(1 << u16::BITS).next_power_of_two();
        Shape { width, stride, log_buckets: n_buckets.ilog2(), log_unit: unit.ilog2() }
    }

    pub fn n_lines(self) -> usize {
        self.stride / LINE
    }

    pub fn n_buckets(self) -> usize {
        1 << self.log_buckets
    }
}

/// For each node, and in whole lines, the keys that a value has to pass to be extreme.
#[derive(Debug, Clone)]
pub(crate) struct Extremes {
    pub tail: Tail,
    pub above: Vec<u32>,
    pub below: Vec<u32>,
}

/// Nodes that are worked on together: their sorted columns, what finds a line of them, and the keys beyond which a
/// value is extreme.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeBlock<'a> {
    pub tail: Tail,
    pub shape: Shape,
    /// Node after node.
    pub columns: &'a [u32],
    pub table: Table<'a>,
    /// For each node, and in whole lines: keys above this are extreme in the upper tail, and below that in the lower.
    pub above: &'a [u32],
    pub below: &'a [u32],
}

#[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
impl<'a> NodeBlock<'a> {
    /// Sorted values of a node.
    #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
    pub fn width(&self) -> u32 {
        self.shape.width as u32
    }

    /// Some of the nodes.
    #[inline(always)]
    pub fn nodes(self, nodes: Range<usize>) -> Self {
        let stride = self.shape.stride;
        NodeBlock {
            columns: &self.columns[nodes.start * stride..nodes.end * stride],
            table: self.table.nodes(&nodes),
            above: &self.above[nodes.start..],
            below: &self.below[nodes.start..],
            ..self
        }
    }

    /// Ask for what says where a bucket starts.
    #[inline(always)]
    pub fn prefetch_start(&self, place: u32) {
        prefetch(self.table.starts().get(place as usize..=place as usize).unwrap_or_default());
    }

    /// Ask for the lines where a bucket starts.
    #[inline(always)]
    pub fn prefetch_lines(&self, place: u32) {
        if let Some(lines) = self.lines_at(place).1 {
            prefetch(lines.as_flattened());
        }
    }

    /// The line of a node's column where a bucket starts; this one and the next.
    #[inline(always)]
    fn lines_at(&self, place: u32) -> (usize, Option<&'a [[u32; LINE]; 2]>) {
        let lines = self.columns.as_chunks::<LINE>().0;
        let first = (place >> self.shape.log_buckets) as usize * self.shape.n_lines();
        let line =
            self.table.starts().get(place as usize).map_or(0, |start| usize::from(*start) << self.shape.log_unit);
        (line, lines.get(first + line..).and_then(|lines| lines.first_chunk()))
    }

    /// How many values of a node's column are smaller than a key, given its place: the node, and its bucket.
    #[inline(always)]
    pub fn count_less<C: CountLess>(&self, place: u32, key: u32) -> u32 {
        self.count_near::<C>(place, key).unwrap_or_else(|| self.count_beyond(place, key))
    }

    /// The same where two lines tell.
    #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
    #[inline(always)]
    pub fn count_near<C: CountLess>(&self, place: u32, key: u32) -> Option<u32> {
        if self.shape.stride == LINE {
            let line = self.columns.as_chunks().0.get((place >> self.shape.log_buckets) as usize)?;
            return Some(C::count_less(line, key) as u32);
        }
        let (line, lines) = self.lines_at(place);
        let n = C::count_less_of_two(lines?, key); // in a closure it would not be compiled for the loop's instructions
        (n < 2 * LINE).then_some((line * LINE + n) as u32)
    }

    /// The same where two lines do not tell.
    #[cold]
    #[inline(never)]
    #[allow(clippy::cast_possible_truncation)]
    pub fn count_beyond(&self, place: u32, key: u32) -> u32 {
        let (line, _) = self.lines_at(place);
        let Shape { width, stride, log_buckets, .. } = self.shape;
        let column = self.columns.get((place >> log_buckets) as usize * stride..).unwrap_or_default();
        let rest = column.get(line * LINE..width).unwrap_or_default();
        (line * LINE + rest.partition_point(|other| *other < key)) as u32
    }
}

/// How a line is compared.
pub(crate) trait CountLess {
    /// How many of a line's keys are smaller.
    fn count_less(line: &[u32; LINE], key: u32) -> usize;

    /// How many keys of two lines are smaller.
    #[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
    #[inline(always)]
    fn count_less_of_two(lines: &[[u32; LINE]; 2], key: u32) -> usize {
        Self::count_less(&lines[0], key) + Self::count_less(&lines[1], key)
    }
}
