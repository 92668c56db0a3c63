//! Where in its range the p-value of a tied value lies, where ties do not simply take the upper end.

use ndarray::{ArrayView2, Axis, Ix1};
use rayon::prelude::*;

use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::memory::zeros;
use crate::pvalue::{GridRange, Ranking, Ties};
use crate::value::{Value, Values};

/// Images that are mixed at the same time: each waits for its last number, and meanwhile the others go on.
const AT_ONCE: usize = 8;

/// Mix the bits of a number: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number for each image that depends on the seed and on all of its values, and on nothing else.
fn image_seeds(images: &Values<'_>, seed: u64, interrupt: &Interrupt) -> Result<Vec<u64>, Error> {
    fn of<V: Value>(rows: &ArrayView2<'_, V>, seeds: &mut [u64], interrupt: &Interrupt) -> Result<(), Error> {
        interrupt.check()?;
        let bits = |value: &V| (value.to_f64() + 0.0).to_bits(); // both zeros are one
        for values in rows.axis_iter(Axis(1)) {
            seeds.iter_mut().zip(values).for_each(|(seed, value)| *seed = mix(*seed ^ bits(value)));
        }
        Ok(())
    }
    fn of_all<V: Value>(
        view: &ArrayView2<'_, V>,
        is_small: bool,
        seeds: &mut [u64],
        interrupt: &Interrupt,
    ) -> Result<(), Error> {
        if is_small {
            let mut rows = view.axis_chunks_iter(Axis(0), AT_ONCE).zip(seeds.chunks_mut(AT_ONCE));
            return rows.try_for_each(|(rows, seeds)| of(&rows, seeds, interrupt)); // on this thread
        }
        let rows = view.axis_chunks_iter(Axis(0), AT_ONCE).into_par_iter().zip(seeds.par_chunks_mut(AT_ONCE));
        rows.try_for_each(|(rows, seeds)| of(&rows, seeds, interrupt))
    }
    let mut seeds = zeros(Ix1(images.dim().0))?.into_raw_vec_and_offset().0;
    seeds.fill(mix(seed));
    let is_small = images.is_small();
    match images {
        Values::F16(view) => of_all(view, is_small, &mut seeds, interrupt),
        Values::F32(view) => of_all(view, is_small, &mut seeds, interrupt),
        Values::F64(view) => of_all(view, is_small, &mut seeds, interrupt),
    }?;
    Ok(seeds)
}

/// A number below `n`, drawn for a node of an image.
#[allow(clippy::cast_possible_truncation)] // below n, which fits
fn draw(image_seed: u64, node: usize, n: usize) -> usize {
    let bits = mix(image_seed ^ node as u64);
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// Turns a value of some images that ties into one p-value of its range, in grid points.
#[derive(Debug, Clone)]
pub(crate) struct TieBreaker {
    ties: Ties,
    seeds: Vec<u64>,
}

impl TieBreaker {
    /// To be made once for all images: random ties read every value.
    pub fn new(ranking: Ranking, images: &Values<'_>, interrupt: &Interrupt) -> Result<Self, Error> {
        let Ranking { ties, seed, .. } = ranking;
        let seeds = if ties == Ties::Random { image_seeds(images, seed, interrupt)? } else { Vec::new() };
        Ok(TieBreaker { ties, seeds })
    }

    /// The position in the grid of [`thresholds`], counted from 0.
    pub fn position(&self, range: GridRange, image: usize, node: usize) -> usize {
        match self.ties {
            Ties::Midrank => range.midrank(),
            Ties::Random => range.low + draw(self.seeds[image], node, range.high - range.low),
            Ties::Upper | Ties::Range => range.high - 1,
        }
    }
}
