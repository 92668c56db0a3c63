//! The operations that the hot loops consist of, on a line of 16 values.

use crate::index::{Bucketing, Bucketings, CountLess, LINE};
use crate::value::Value;

/// What an instruction set does with a line.
pub(crate) trait Lanes: CountLess {
    /// The keys of values; true if one of these is NaN.
    fn keys(values: &[f32; LINE], keys: &mut [u32; LINE]) -> bool;

    /// The places of values, one of each of a line of nodes: the bucket, from where each node's buckets begin.
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>, bases: &[u32; LINE], places: &mut [u32; LINE]);

    /// Exchange rows and columns.
    fn transpose(tile: &mut [[u32; LINE]; LINE]);

    /// Whether [`sort`](Lanes::sort) and [`split`](Lanes::split) are quicker than the standard library.
    const HAS_NETWORKS: bool;

    /// Sort all keys of some lines, a power of two of them.
    fn sort<const LINES: usize>(lines: &mut [[u32; LINE]; LINES]);

    /// Write first the keys that are below the pivot, and first those that are not; how many are below.
    fn split(line: &[u32; LINE], pivot: u32, below: &mut [u32; LINE], others: &mut [u32; LINE]) -> usize;

    /// Add the keys that are above the one or below the other, and have a bit in `mask`, to the queries, with their places.
    fn select(
        keys: &[u32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        places: &[u32; LINE],
        queries: &mut Queries,
    );
}

/// A loop that is compiled for each instruction set.
pub(crate) trait Kernel {
    type Output;

    /// Has to be inlined, or it would be compiled for what every processor has.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Extreme values, one after the other: searches wait for memory, and many can wait at the same time.
pub(crate) struct Queries {
    pub n: usize,
    /// Where each value was.
    pub places: Vec<u32>,
    pub keys: Vec<u32>,
}

impl Queries {
    /// Room for so many.
    pub fn new(n: usize) -> Self {
        Queries { n: 0, places: vec![0; n + LINE], keys: vec![0; n + LINE] } // whole lines are written
    }

    /// Forget them, and have room for so many.
    pub fn make_room(&mut self, n: usize) {
        if self.places.len() < n + LINE {
            *self = Queries::new(n);
        }
        self.n = 0;
    }
}

/// The bits of the first n lanes.
pub(crate) fn mask_of(n: usize) -> u32 {
    if n < LINE { (1 << n) - 1 } else { 0xffff }
}

/// Ordinary Rust.
pub(crate) struct Plain;

impl CountLess for Plain {
    #[inline(always)]
    fn count_less(line: &[u32; LINE], key: u32) -> usize {
        line.iter().map(|other| u32::from(*other < key)).sum::<u32>() as usize
    }
}

impl Lanes for Plain {
    const HAS_NETWORKS: bool = false;

    #[inline(always)]
    fn sort<const LINES: usize>(lines: &mut [[u32; LINE]; LINES]) {
        lines.as_flattened_mut().sort_unstable();
    }

    #[inline(always)]
    fn split(line: &[u32; LINE], pivot: u32, below: &mut [u32; LINE], others: &mut [u32; LINE]) -> usize {
        let mut n = 0;
        for (lane, key) in line.iter().enumerate() {
            below[n] = *key;
            others[lane - n] = *key;
            n += usize::from(*key < pivot);
        }
        n
    }

    #[inline(always)]
    fn keys(values: &[f32; LINE], keys: &mut [u32; LINE]) -> bool {
        *keys = values.map(Value::key);
        values.iter().any(|value| value.is_nan())
    }

    #[inline(always)]
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>, bases: &[u32; LINE], places: &mut [u32; LINE]) {
        let Bucketings { centres, scales, lows, shifts, last } = *bucketings;
        for lane in 0..LINE {
            let [centre, scale] = [centres, scales].map(|of| f32::from_bits(of[lane]));
            let bucketing = Bucketing { centre, scale, low: lows[lane].cast_signed(), shift: shifts[lane] };
            places[lane] = bases[lane] + bucketing.bucket(values[lane], last);
        }
    }

    #[inline(always)]
    fn transpose(tile: &mut [[u32; LINE]; LINE]) {
        let rows = *tile;
        for (n, column) in tile.iter_mut().enumerate() {
            for (m, key) in column.iter_mut().enumerate() {
                *key = rows[m][n];
            }
        }
    }

    #[inline(always)]
    fn select(
        keys: &[u32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        places: &[u32; LINE],
        queries: &mut Queries,
    ) {
        let mut extreme = 0;
        for lane in 0..LINE {
            extreme |= u32::from(keys[lane] > above[lane] || keys[lane] < below[lane]) << lane;
        }
        extreme &= mask;
        while extreme != 0 {
            let lane = extreme.trailing_zeros();
            queries.places[queries.n] = places[lane as usize % LINE];
            queries.keys[queries.n] = keys[lane as usize % LINE];
            queries.n += 1;
            extreme &= extreme - 1;
        }
    }
}
