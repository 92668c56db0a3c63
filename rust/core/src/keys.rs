//! Blocks of keys: the values of some images and nodes, turned from image by image to node by node.

use std::ops::Range;

use ndarray::{ArrayView2, Axis, s};

use crate::error::Error;
use crate::index::LINE;
use crate::memory::AlignedVec;
use crate::simd::set::{self, InstructionSet, prefetch};
use crate::simd::transpose::Transpose;
use crate::value::{Value, Values};

/// The keys of a block of images and nodes, node by node, ready to be ranked.
///
/// Where images and background differ in type, a value may fall between two values of the background's type. Then
/// "at least x" and "at most x" are asked with two different keys, and the counts are those of the exact values.
pub(crate) struct KeyBlock<V: Value> {
    n_images: usize,
    stride: usize,
    at_least: AlignedVec<V::Key>,
    at_most: Option<AlignedVec<V::Key>>,
}

impl<V: Value> KeyBlock<V> {
    /// Room for so many images and nodes.
    pub fn new(n_images: usize, n_nodes: usize) -> Result<Self, Error> {
        let stride = n_images.next_multiple_of(LINE) | LINE; // an odd number of lines: no two nodes compete for a place
        Ok(KeyBlock { n_images: 0, stride, at_least: AlignedVec::zeros(n_nodes, stride)?, at_most: None })
    }

    /// Read images `rows` at nodes `columns`.
    pub fn fill(&mut self, values: &Values<'_>, rows: &Range<usize>, columns: &Range<usize>) -> Result<(), Error> {
        self.n_images = rows.len();
        let stride = self.stride;
        let nan_free = if let (Values::F32(view), Some(keys)) = (values, V::lanes_mut(&mut self.at_least)) {
            let values = &view.slice(s![rows.clone(), columns.clone()]);
            set::run(InstructionSet::chosen()?, Transpose { values, keys, stride })
        } else if let Some(view) = V::direct(values) {
            transpose(view, rows, columns, V::key, &mut self.at_least, stride)
        } else {
            if self.at_most.is_none() {
                self.at_most = Some(AlignedVec::zeros(self.at_least.len(), 1)?);
            }
            let (at_least, at_most) = (&mut self.at_least, self.at_most.as_deref_mut().unwrap_or_default());
            match values {
                Values::F16(view) => transpose_between::<_, V>(view, rows, columns, at_least, at_most, stride),
                Values::F32(view) => transpose_between::<_, V>(view, rows, columns, at_least, at_most, stride),
                Values::F64(view) => transpose_between::<_, V>(view, rows, columns, at_least, at_most, stride),
            }
        };
        if nan_free { Ok(()) } else { Err(values.not_a_number()) }
    }

    /// The keys to ask "how many are at least x" with, one an image, for the n-th node of the block.
    pub fn at_least(&self, n: usize) -> &[V::Key] {
        &self.at_least[n * self.stride..][..self.n_images]
    }

    /// The same, to be sorted where all of them are of a background.
    pub fn at_least_mut(&mut self, n: usize) -> &mut [V::Key] {
        &mut self.at_least[n * self.stride..][..self.n_images]
    }

    /// The keys to ask "how many are at most x" with.
    pub fn at_most(&self, n: usize) -> &[V::Key] {
        &self.at_most.as_ref().unwrap_or(&self.at_least)[n * self.stride..][..self.n_images]
    }
}

/// Images and nodes that are transposed together.
const TILE: usize = 16;

/// Write `key` of each value node by node; false where a value is NaN.
fn transpose<Q: Value, K: Copy + Default>(
    view: &ArrayView2<'_, Q>,
    rows: &Range<usize>,
    columns: &Range<usize>,
    key: impl Fn(Q) -> K,
    out: &mut [K],
    stride: usize,
) -> bool {
    let mut nan_free = true;
    let view = view.slice(s![rows.clone(), columns.clone()]);
    for (n_tile, tile) in view.axis_chunks_iter(Axis(0), TILE).enumerate() {
        for row in view.outer_iter().skip((n_tile + 1) * TILE).take(TILE) {
            if let Some(row) = row.to_slice() {
                prefetch(row); // rows are pages apart, which no processor foresees
            }
        }
        // A few images at a time: what is written to a node's keys is a whole cache line.
        for first in (0..columns.len()).step_by(TILE) {
            let n_nodes = TILE.min(columns.len() - first);
            let mut keys = [[K::default(); TILE]; TILE];
            for (image, row) in tile.outer_iter().enumerate() {
                let row = row.slice(s![first..first + n_nodes]);
                let mut put = |node: usize, value: Q| {
                    nan_free &= !value.is_nan();
                    keys[node][image] = key(value);
                };
                match row.as_slice().and_then(|row| row.first_chunk::<TILE>()) {
                    Some(whole) => whole.iter().enumerate().for_each(|(node, value)| put(node, *value)),
                    None => row.iter().enumerate().for_each(|(node, value)| put(node, *value)),
                }
            }
            for (node, keys) in keys.iter().take(n_nodes).enumerate() {
                let start = (first + node) * stride + n_tile * TILE;
                out[start..start + tile.nrows()].copy_from_slice(&keys[..tile.nrows()]);
            }
        }
    }
    nan_free
}

fn transpose_between<Q: Value, V: Value>(
    view: &ArrayView2<'_, Q>,
    rows: &Range<usize>,
    columns: &Range<usize>,
    at_least: &mut [V::Key],
    at_most: &mut [V::Key],
    stride: usize,
) -> bool {
    transpose(view, rows, columns, |value| V::key_at_least(value.to_f64()), at_least, stride)
        && transpose(view, rows, columns, |value| V::key_at_most(value.to_f64()), at_most, stride)
}
