//! Where in its range the p-value of a tied value lies, where ties do not simply take the upper end.

use std::ops::Range;

use ndarray::{ArrayView2, s};

use crate::pvalue::{Ranking, Steps, Ties};
use crate::value::{Value, Values};

/// Mix the bits of a number: the finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number for each image that depends on the seed and on all of its values, and on nothing else.
fn image_seeds(images: &Values<'_>, rows: &Range<usize>, seed: u64) -> Vec<u64> {
    fn of<V: Value>(view: &ArrayView2<'_, V>, rows: &Range<usize>, seed: u64) -> Vec<u64> {
        let bits = |value: &V| (value.to_f64() + 0.0).to_bits(); // both zeros are one
        let rows = view.slice(s![rows.clone(), ..]);
        rows.outer_iter().map(|row| row.iter().fold(mix(seed), |seed, value| mix(seed ^ bits(value)))).collect()
    }
    match images {
        Values::F16(view) => of(view, rows, seed),
        Values::F32(view) => of(view, rows, seed),
        Values::F64(view) => of(view, rows, seed),
    }
}

/// A number below `n`, drawn for a node of an image.
#[allow(clippy::cast_possible_truncation)] // below n, which fits
fn draw(image_seed: u64, node: usize, n: usize) -> usize {
    let bits = mix(image_seed ^ node as u64);
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// Turns a value that ties into one p-value of its range, in grid points.
pub(crate) struct TieBreaker {
    ties: Ties,
    seeds: Vec<u64>,
}

impl TieBreaker {
    pub fn new(ranking: Ranking, images: &Values<'_>, rows: &Range<usize>) -> Self {
        let seeds = if ranking.ties == Ties::Random { image_seeds(images, rows, ranking.seed) } else { Vec::new() };
        TieBreaker { ties: ranking.ties, seeds }
    }

    /// The position in the grid of [`thresholds`], counted from 0.
    pub fn position(&self, steps: Steps, image: usize, node: usize) -> usize {
        match self.ties {
            Ties::Midrank => steps.low + steps.high - 1,
            Ties::Random => steps.low + draw(self.seeds[image], node, steps.high - steps.low),
            Ties::Upper | Ties::Range => steps.high - 1,
        }
    }
}
