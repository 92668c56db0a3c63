//! Turning values image by image into keys node by node.

use ndarray::{ArrayView1, ArrayView2, Axis};

use super::lanes::{Kernel, Lanes};
use super::set::prefetch;
use crate::index::LINE;

/// The line of a row that begins with value `first`, from `buffer` where it does not lie in one piece.
#[inline(always)]
pub(crate) fn line_of<'a>(row: &ArrayView1<'a, f32>, first: usize, buffer: &'a mut [f32; LINE]) -> &'a [f32; LINE] {
    row.to_slice().and_then(|row| row[first..].first_chunk()).unwrap_or_else(|| {
        buffer.iter_mut().zip(row.iter().skip(first)).for_each(|(to, from)| *to = *from);
        buffer
    })
}

/// Write the keys of each column of `values`, `stride` apart; false where a value is NaN.
pub(crate) struct Transpose<'a> {
    pub values: &'a ArrayView2<'a, f32>,
    pub keys: &'a mut [u32],
    pub stride: usize,
}

impl Kernel for Transpose<'_> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes>(self) -> bool {
        let Transpose { values, keys, stride } = self;
        let mut nan_free = true;
        for (n_tile, rows) in values.axis_chunks_iter(Axis(0), LINE).enumerate() {
            for row in values.outer_iter().skip((n_tile + 1) * LINE).take(LINE) {
                if let Some(row) = row.to_slice() {
                    prefetch(row); // rows are pages apart, which no processor foresees
                }
            }
            for first in (0..values.ncols()).step_by(LINE) {
                let mut tile = [[0; LINE]; LINE];
                for (row, keys) in rows.outer_iter().zip(&mut tile) {
                    nan_free &= !L::keys(line_of(&row, first, &mut [0.0; LINE]), keys);
                }
                L::transpose(&mut tile);
                for (node, line) in (first..values.ncols()).zip(&tile) {
                    let start = node * stride + n_tile * LINE;
                    match keys[start..].first_chunk_mut() {
                        Some(whole) if rows.nrows() == LINE => *whole = *line,
                        _ => keys[start..start + rows.nrows()].copy_from_slice(&line[..rows.nrows()]),
                    }
                }
            }
        }
        nan_free
    }
}
