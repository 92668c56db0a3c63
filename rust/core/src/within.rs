//! The ranks of an image's values among each other: which nodes are high for this image, whatever its overall level.

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, Ix2};

use crate::background::check_n_nodes;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::memory::zeros;
use crate::value::{Value, Values, not_a_number};

/// Rank each image's values from 1, the smallest, to the number of nodes; equal values share the mean of their ranks.
///
/// # Errors
///
/// If a value is NaN.
pub fn within_sample_ranks(values: &Values<'_>, interrupt: &Interrupt) -> Result<Array2<f64>, Error> {
    match values {
        Values::F16(view) => ranks(view, interrupt),
        Values::F32(view) => ranks(view, interrupt),
        Values::F64(view) => ranks(view, interrupt),
    }
}

fn ranks<V: Value>(view: &ArrayView2<'_, V>, interrupt: &Interrupt) -> Result<Array2<f64>, Error> {
    if view.iter().any(|value| value.is_nan()) {
        return Err(not_a_number(view));
    }
    check_n_nodes(view.ncols())?;
    let mut out = zeros(Ix2(view.nrows(), view.ncols()))?;
    let rank_row = |sorted: &mut Vec<_>, (mut out, values): (ArrayViewMut1<'_, f64>, ArrayView1<'_, V>)| {
        interrupt.check()?;
        rank(&values, sorted, |node, rank| out[node] = rank);
        Ok(())
    };
    if V::wrap(view.view()).is_small() {
        let mut sorted = Vec::new(); // on this thread
        out.rows_mut().into_iter().zip(view.rows()).try_for_each(|rows| rank_row(&mut sorted, rows))?;
    } else {
        let rows = out.axis_iter_mut(Axis(0)).into_par_iter().zip(view.axis_iter(Axis(0)));
        rows.try_for_each_init(Vec::new, rank_row)?;
    }
    Ok(out)
}

/// Tell the rank of every node; `sorted` is room to work in.
fn rank<V: Value>(values: &ArrayView1<'_, V>, sorted: &mut Vec<(V::Key, u32)>, mut tell: impl FnMut(usize, f64)) {
    sorted.clear();
    #[allow(clippy::cast_possible_truncation)] // that is checked
    sorted.extend(values.iter().enumerate().map(|(node, value)| (value.key(), node as u32)));
    sorted.sort_unstable();
    let mut below = 0;
    for ties in sorted.chunk_by(|a, b| a.0 == b.0) {
        // The mean of the ranks below + 1, ..., below + n.
        let mean = below as f64 + (ties.len() + 1) as f64 / 2.0;
        for (_, node) in ties {
            tell(*node as usize, mean);
        }
        below += ties.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() -> Result<(), Error> {
        let values = array![[3.0_f32, -0.0, 3.0, 0.0, f32::INFINITY], [1.0, 1.0, 1.0, 1.0, 1.0]];
        let ranks = within_sample_ranks(&Values::F32(values.view()), &Interrupt::default())?;
        assert_eq!(ranks, array![[3.5, 1.5, 3.5, 1.5, 5.0], [3.0; 5]]);
        Ok(())
    }

    #[test]
    fn a_value_without_a_place_in_the_order_is_refused() {
        let values = array![[0.0, 1.0], [2.0, f64::NAN]];
        let found = within_sample_ranks(&Values::F64(values.view()), &Interrupt::default());
        assert!(matches!(found, Err(Error::NotANumber { count: 1, image: 1, node: 1 })));
    }
}
