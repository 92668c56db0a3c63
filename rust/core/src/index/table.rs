//! In which line of a node's column a value belongs: the buckets that values are put in, and where each of them starts.

use std::array;
use std::ops::Range;

use rayon::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{LINE, Shape};
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::value::Value;

/// Numbers of a bucketing.
const BUCKETING: usize = 4;
/// Values of a column by which its bucketing is chosen.
const SAMPLES: usize = 31;
/// So many of them in a row show where values are densest.
const DENSE: usize = 7;

impl Shape {
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

#[cfg(test)]
mod tests {
    use super::super::{CountLess, NodeBlock};
    use super::*;
    use crate::pvalue::Tail;
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
