//! The search index of a node: its sorted values in lines, and a table that says in which line a value belongs.
//!
//! A line of 16 single-precision keys fills a cache line, and one vector comparison tells how many of them are smaller
//! than a key. Values are put in more buckets than there are lines, by a few operations on their bits; the table has for
//! each bucket the first line of which it may hold values. So a search reads the table and two lines. Only where many
//! values are in one bucket it goes on, by halves.

use std::array;
use std::ops::Range;

use rayon::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::bins::Membership;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::pvalue::{Tail, Ties};
use crate::simd::set::prefetch;
use crate::value::Value;

/// Nodes that are handled together: one cache line of single-precision values from each image, four times over.
pub(crate) const NODE_BLOCK: usize = 64;
/// Keys that are compared at once.
pub(crate) const LINE: usize = 16;
/// Values of a column for each bucket: the fewer, the more often two lines tell where a value belongs.
const PER_BUCKET: usize = 4;
/// Buckets of a node, so that there is a 32-bit number for each of those of some thousand nodes.
const MOST_BUCKETS: usize = 1 << 18;
/// Numbers of a bucketing.
const BUCKETING: usize = 4;
/// Values of a column by which its bucketing is chosen.
const SAMPLES: usize = 31;
/// So many of them in a row show where values are densest.
const DENSE: usize = 7;

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

    /// Entries of the table for each node.
    pub fn n_table(self) -> usize {
        BUCKETING + self.n_buckets() / 2
    }

    /// Write what finds the lines of sorted columns.
    pub fn write_table(self, columns: &[u32], table: &mut [u32], interrupt: &Interrupt) -> Result<(), Error> {
        let n_nodes = columns.len() / self.stride;
        let (bucketings, starts) = table.split_at_mut(BUCKETING * n_nodes);
        let (centres, rest) = bucketings.split_at_mut(n_nodes);
        let (scales, rest) = rest.split_at_mut(n_nodes);
        let (lows, shifts) = rest.split_at_mut(n_nodes);
        let starts = starts.par_chunks_mut(self.n_buckets() / 2);
        let bucketings = centres.par_iter_mut().zip(scales).zip(lows).zip(shifts);
        let nodes = columns.par_chunks(self.stride).zip(starts).zip(bucketings);
        nodes.try_for_each(|((column, starts), (((centre, scale), low), shift))| {
            interrupt.check()?;
            let bucketing = Bucketing::of(column, self);
            bucketing.write_starts(column, self, starts);
            (*centre, *scale) = (bucketing.centre.to_bits(), bucketing.scale.to_bits());
            (*low, *shift) = (bucketing.low.cast_unsigned(), bucketing.shift);
            Ok(())
        })
    }
}

/// How a node's values are put in buckets, in their order: by how far they are from the centre, in either direction.
/// Up to the scale all differences are worth the same, and beyond it all ratios.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucketing {
    pub centre: f32,
    pub scale: f32,
    /// The least distance that is told from smaller ones.
    pub low: i32,
    pub shift: u32,
}

impl Bucketing {
    /// For a sorted column: the centre is where values are densest, the scale a typical distance from it, and the
    /// buckets part all but the ends.
    fn of(column: &[u32], shape: Shape) -> Self {
        let sample = |n: usize| f32::from_key(column[(2 * n + 1) * shape.width / (2 * SAMPLES)]);
        let samples: [f32; SAMPLES] = array::from_fn(sample);
        let mut centre = 0.0;
        let mut least = f32::INFINITY;
        for some in samples.windows(DENSE) {
            let spread = some[DENSE - 1] - some[0];
            if spread < least {
                (centre, least) = (some[DENSE / 2], spread);
            }
        }
        let mut distances = samples.map(|value| (value - centre).abs());
        distances.sort_unstable_by(f32::total_cmp);
        let distances = &distances[distances.partition_point(|distance| *distance == 0.0)..];
        let scale = distances.get(distances.len() / 2).copied().filter(|scale| *scale < f32::INFINITY).unwrap_or(1.0);
        let of_all = Bucketing { centre, scale, low: 0, shift: 0 };
        let at = |line: usize| of_all.distance(last_of(column, line));
        let (low, high) = (at(0), at(shape.n_lines().saturating_sub(2)));
        // The first bucket is for what is lower, the last for what is higher.
        let range = high.wrapping_sub(low).cast_unsigned();
        let shift = (u32::BITS - range.leading_zeros()).saturating_sub(shape.log_buckets);
        Bucketing { low, shift, ..of_all }
    }

    #[allow(clippy::inline_always)] // within a loop that is compiled for other instructions
    #[inline(always)]
    fn distance(self, value: f32) -> i32 {
        let from_centre = value - self.centre;
        let size = (from_centre.abs() + self.scale).to_bits().wrapping_sub(self.scale.to_bits()).cast_signed();
        if from_centre < 0.0 { size.wrapping_neg() } else { size }
    }

    /// The bucket of a value; none is beyond the last.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn bucket(self, value: f32, last: u32) -> u32 {
        let beyond = self.distance(value).max(self.low).wrapping_sub(self.low).cast_unsigned();
        beyond.checked_shr(self.shift).unwrap_or(0).min(last)
    }

    /// Write for each bucket the first of the two lines where its values begin: an earlier line holds none of them.
    #[allow(clippy::cast_possible_truncation)] // lines are counted in units for that
    fn write_starts(self, column: &[u32], shape: Shape, starts: &mut [u32]) {
        let Ok(starts) = <[u16]>::mut_from_bytes(starts.as_mut_bytes()) else { return }; // never: it is aligned
        let last = (starts.len() - 1) as u32;
        let mut bucket = 0;
        for line in 0..shape.n_lines().saturating_sub(2) {
            let end = self.bucket(last_of(column, line), last) as usize + 1;
            if end > bucket {
                starts[bucket..end].fill((line >> shape.log_unit) as u16);
                bucket = end;
            }
        }
        starts[bucket..].fill((shape.n_lines().saturating_sub(2) >> shape.log_unit) as u16);
    }
}

/// The largest value of a whole line.
fn last_of(column: &[u32], line: usize) -> f32 {
    f32::from_key(column[(line + 1) * LINE - 1])
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

/// What finds the lines of some nodes' columns: their bucketings, and where each bucket starts.
///
/// The numbers of bucketings come in whole lines, of which some may be of no node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    shape: Shape,
    centres: &'a [u32],
    scales: &'a [u32],
    lows: &'a [u32],
    shifts: &'a [u32],
    starts: &'a [u16],
}

/// The bucketings of a line of nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucketings<'a> {
    /// As bits, as the scales.
    pub centres: &'a [u32; LINE],
    pub scales: &'a [u32; LINE],
    pub lows: &'a [u32; LINE],
    pub shifts: &'a [u32; LINE],
    /// The last bucket.
    pub last: u32,
}

impl<'a> Table<'a> {
    /// The parts of what [`Shape::write_table`] wrote; None where there are others.
    pub fn of(shape: Shape, table: &'a [u32], n_nodes: usize) -> Option<Self> {
        let starts = <[u16]>::ref_from_bytes(table.get(BUCKETING * n_nodes..)?.as_bytes()).ok()?;
        let numbers = |n: usize| table.get(n * n_nodes..);
        let (centres, scales, lows, shifts) = (numbers(0)?, numbers(1)?, numbers(2)?, numbers(3)?);
        Some(Table { shape, centres, scales, lows, shifts, starts })
    }

    /// That of some of the nodes.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn nodes(self, nodes: &Range<usize>) -> Self {
        let n_buckets = self.shape.n_buckets();
        let of_nodes = |numbers: &'a [u32]| &numbers[nodes.start..];
        Table {
            shape: self.shape,
            centres: of_nodes(self.centres),
            scales: of_nodes(self.scales),
            lows: of_nodes(self.lows),
            shifts: of_nodes(self.shifts),
            starts: &self.starts[nodes.start * n_buckets..nodes.end * n_buckets],
        }
    }

    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn bucketings(self) -> impl Iterator<Item = Bucketings<'a>> {
        #[allow(clippy::cast_possible_truncation)] // fewer buckets than values
        let last = (self.shape.n_buckets() - 1) as u32;
        let lines = |numbers: &'a [u32]| numbers.as_chunks().0.iter();
        let lines = lines(self.centres).zip(lines(self.scales)).zip(lines(self.lows)).zip(lines(self.shifts));
        lines.map(move |(((centres, scales), lows), shifts)| Bucketings { centres, scales, lows, shifts, last })
    }

    /// Where the buckets of all nodes start, node after node.
    pub fn starts(self) -> &'a [u16] {
        self.starts
    }
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
        prefetch(self.table.starts.get(place as usize..=place as usize).unwrap_or_default());
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
        let line = self.table.starts.get(place as usize).map_or(0, |start| usize::from(*start) << self.shape.log_unit);
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
            let line = self.columns.as_chunks().0.get((place >> self.shape.log_buckets) as usize);
            return Some(line.map_or(0, |line| C::count_less(line, key)) as u32);
        }
        let (line, lines) = self.lines_at(place);
        let n = lines.map_or(2 * LINE, |lines| C::count_less_of_two(lines, key));
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

    fn number() -> impl Strategy<Value = f32> {
        prop_oneof![
            3 => -4.0_f32..4.0,
            1 => (-40.0_f32..40.0).prop_map(f32::exp),
            1 => (-5_i16..5).prop_map(f32::from),
            1 => any::<f32>().prop_filter("NaN has no place", |x| !x.is_nan()),
            1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(-0.0)],
        ]
    }

    proptest! {
        #[test]
        fn the_table_finds_what_is_smaller(
            values in prop_oneof![
                prop::collection::vec(number(), 1..70),
                prop::collection::vec(number(), 250..600),
                prop::collection::vec(-1.0_f32..1.0, 4000..4200),
                // Many in one bucket, and far away from the others.
                prop::collection::vec(prop_oneof![1.0_f32..1.0001, Just(1e30_f32), Just(-3.0)], 100..700),
            ],
            others in prop::collection::vec(number(), 20),
            log_unit in 0_u32..3,
        ) {
            let mut column: Vec<u32> = values.iter().map(|value| value.key()).collect();
            column.sort_unstable();
            let shape = Shape { log_unit, ..Shape::new(column.len()) };
            let sorted = column.clone();
            column.resize(shape.stride, u32::MAX);
            let mut table = vec![0; shape.n_table()];
            prop_assert_eq!(shape.write_table(&column, &mut table, &Interrupt::default()), Ok(()));
            let table = Table::of(shape, &table, 1).unwrap();
            let bits = |values: &[u32]| values[0];
            let [centre, scale] = [table.centres, table.scales].map(|of| f32::from_bits(bits(of)));
            let bucketing = Bucketing { centre, scale, low: bits(table.lows).cast_signed(), shift: bits(table.shifts) };
            let (above, below) = (&[][..], &[][..]);
            let block = NodeBlock { tail: Tail::Upper, shape, columns: &column, table, above, below };
            let last = u32::try_from(shape.n_buckets() - 1).unwrap();
            for value in values.iter().chain(&others).flat_map(|x| [x.next_down(), *x, x.next_up()]) {
                let place = bucketing.bucket(value, last);
                for key in [value.key(), value.key() + 1] {
                    let expected = sorted.partition_point(|other| *other < key);
                    prop_assert_eq!(block.count_less::<Slow>(place, key) as usize, expected);
                }
            }
        }
    }

    #[test]
    fn values_are_spread_over_the_buckets() {
        let tail = |n: usize| ((n as f32 + 0.5) / 4000.0).recip().ln(); // exponential, most of them small
        let columns = [
            (0..4000).map(|n| n as f32).collect::<Vec<_>>(),
            (0..4000).map(tail).collect(),
            (0..4000).map(|n| tail(n) - tail(3999 - n)).collect(), // both signs
            (0..4000).map(|n| if n % 2 == 0 { 0.0 } else { tail(n) }).collect(), // half zeros
            (0..4000).map(|n| (0.5 * tail(n)).exp()).collect(),    // the largest far from the others
        ];
        for (n, values) in columns.iter().enumerate() {
            let mut column: Vec<u32> = values.iter().map(|value| value.key()).collect();
            column.sort_unstable();
            let shape = Shape::new(column.len());
            let bucketing = Bucketing::of(&column, shape);
            let mut counts = vec![0; shape.n_buckets()];
            let last = u32::try_from(shape.n_buckets() - 1).unwrap();
            for value in values {
                counts[bucketing.bucket(*value, last) as usize] += 1;
            }
            let crowded: usize = counts.iter().filter(|count| **count > LINE).sum();
            let zeros = values.iter().filter(|value| **value == 0.0).count();
            assert!(crowded - zeros < values.len() / 5, "{n}: {crowded} of {} values", values.len());
        }
    }

    #[test]
    fn starts_fit_in_their_table() {
        for (width, n_buckets, log_unit) in
            [(1, 32, 0), (16, 32, 0), (129, 64, 0), (3501, 1024, 0), (1 << 20, 1 << 18, 0), ((1 << 20) + 1, 1 << 18, 1)]
        {
            let shape = Shape::new(width);
            assert_eq!((shape.n_buckets(), shape.log_unit), (n_buckets, log_unit), "{width}");
            assert!(u16::try_from((shape.n_lines() - 1) >> shape.log_unit).is_ok());
        }
    }
}
