//! A line in registers, and what is built of its operations for every instruction set.

use crate::index::{Bucketings, CountLess, LINE};
use crate::simd::lanes::{Lanes, Queries};

/// The 16 lanes of a line. Its functions are used within the function that enables its instructions, only: that is what
/// makes them safe. In closures and loops over iterators they may not be inlined, and then cost a call each.
pub(super) trait Vector: Copy {
    fn load(line: &[u32; LINE]) -> Self;

    fn store(self, line: &mut [u32; LINE]);

    fn splat(number: u32) -> Self;

    fn min(self, other: Self) -> Self;

    fn max(self, other: Self) -> Self;

    /// Where this is less: a bit for each lane.
    fn less(self, other: Self) -> u32;

    /// In how many lanes of two vectors the key is larger.
    fn count_less_of_two(vectors: [Self; 2], key: Self) -> u32;

    /// In each lane what is in the lane so far apart, a power of two.
    fn exchanged<const APART: usize>(self) -> Self;

    /// The other's lanes where `mask`, which is a constant, has bits.
    fn replaced(self, mask: u32, other: Self) -> Self;

    /// Write first the lanes that have bits, and anything behind them.
    fn compress(self, mask: u32, line: &mut [u32; LINE]);

    /// The keys of values, and whether one of these is NaN.
    fn keys(values: &[f32; LINE]) -> (Self, bool);

    /// The places of values: see [`Lanes::places`].
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>) -> Self;

    fn add(self, other: Self) -> Self;

    fn transpose(tile: &mut [[u32; LINE]; LINE]);
}

impl<V: Vector> CountLess for V {
    #[inline(always)]
    fn count_less(line: &[u32; LINE], key: u32) -> usize {
        V::load(line).less(V::splat(key)).count_ones() as usize
    }

    #[inline(always)]
    fn count_less_of_two(lines: &[[u32; LINE]; 2], key: u32) -> usize {
        <V as Vector>::count_less_of_two([V::load(&lines[0]), V::load(&lines[1])], V::splat(key)) as usize
    }
}

/// A bitonic network (Batcher 1968): runs of sorted keys, alternately ascending and descending, become runs of twice the
/// length by exchanges of keys that are nearer to each other from step to step.
macro_rules! network {
    ($vectors:expr, $($run:literal: $($apart:literal),+);+) => {
        $(if $run <= LINES * LINE { $(exchange::<V, LINES, $run, $apart>(&mut $vectors);)+ })+
    };
}

/// Order all pairs of keys that are `APART` from each other, in runs of `RUN` keys.
#[inline(always)]
fn exchange<V: Vector, const LINES: usize, const RUN: usize, const APART: usize>(vectors: &mut [V; LINES]) {
    if APART >= LINE {
        for n in 0..LINES {
            let other = n + APART / LINE;
            if n & (APART / LINE) == 0 {
                let (a, b) = (vectors[n], vectors[other]);
                let (least, most) = (a.min(b), a.max(b));
                (vectors[n], vectors[other]) = if (n * LINE) & RUN == 0 { (least, most) } else { (most, least) };
            }
        }
        return;
    }
    for (n, vector) in vectors.iter_mut().enumerate() {
        let larger = if (n * LINE) & RUN == 0 { const { larger(RUN, APART) } } else { const { !larger(RUN, APART) } };
        let other = vector.exchanged::<APART>();
        *vector = vector.min(other).replaced(larger.into(), vector.max(other));
    }
}

/// Which lanes of an ascending line take the larger key.
const fn larger(run: usize, apart: usize) -> u16 {
    let (mut larger, mut lane) = (0, 0);
    while lane < LINE {
        larger |= (((lane & apart == 0) != (lane & run == 0)) as u16) << lane;
        lane += 1;
    }
    larger
}

impl<V: Vector> Lanes for V {
    const HAS_NETWORKS: bool = true;

    #[inline(always)]
    fn sort<const LINES: usize>(lines: &mut [[u32; LINE]; LINES]) {
        let mut vectors = [V::splat(0); LINES];
        vectors.iter_mut().zip(&*lines).for_each(|(to, line)| *to = V::load(line));
        network!(vectors, 2: 1; 4: 2, 1; 8: 4, 2, 1; 16: 8, 4, 2, 1; 32: 16, 8, 4, 2, 1;
            64: 32, 16, 8, 4, 2, 1; 128: 64, 32, 16, 8, 4, 2, 1);
        lines.iter_mut().zip(vectors).for_each(|(line, vector)| vector.store(line));
    }

    #[inline(always)]
    fn split(line: &[u32; LINE], pivot: u32, below: &mut [u32; LINE], others: &mut [u32; LINE]) -> usize {
        let keys = V::load(line);
        let less = keys.less(V::splat(pivot));
        keys.compress(less, below);
        keys.compress(!less & 0xffff, others);
        less.count_ones() as usize
    }

    #[inline(always)]
    fn keys(values: &[f32; LINE], keys: &mut [u32; LINE]) -> bool {
        let (found, has_nan) = <V as Vector>::keys(values);
        found.store(keys);
        has_nan
    }

    #[inline(always)]
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>, bases: &[u32; LINE], places: &mut [u32; LINE]) {
        <V as Vector>::places(values, bucketings).add(V::load(bases)).store(places);
    }

    #[inline(always)]
    fn transpose(tile: &mut [[u32; LINE]; LINE]) {
        <V as Vector>::transpose(tile);
    }

    #[inline(always)]
    fn select(
        keys: &[u32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        from: &[u32; LINE],
        queries: &mut Queries,
    ) {
        let (Some(places), Some(to)) = (
            queries.places[queries.n..].first_chunk_mut::<LINE>(),
            queries.keys[queries.n..].first_chunk_mut::<LINE>(),
        ) else {
            return; // never: there is room for a line more
        };
        let keys = V::load(keys);
        let extreme = (V::load(above).less(keys) | keys.less(V::load(below))) & mask;
        V::load(from).compress(extreme, places);
        keys.compress(extreme, to);
        queries.n += extreme.count_ones() as usize;
    }
}
