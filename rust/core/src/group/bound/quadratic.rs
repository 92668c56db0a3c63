//! How large the sum of a symmetric matrix over a square block of r rows and the same columns can be, for every r.

/// Sweeps of rotations at most; what is not yet diagonal then is added to the bound.
const SWEEPS: usize = 30;
/// Rows whose cosine is smaller than that are orthogonal enough.
const ORTHOGONAL: f64 = 1e-5;
/// What rounding may take from a sum, as a share of the norm: a hundred times what n rotations of n numbers lose.
const ROUNDING: f64 = 1e-11;

/// Numbers in order, the largest first.
pub(super) fn decreasing(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    values
}

/// A symmetric matrix, (n, n), by its eigenvectors.
///
/// It is sum of `values[l]` times the square of `vectors[l]`, and something whose norm is at most `rest`.
#[derive(Debug)]
pub(super) struct Spectrum {
    n: usize,
    /// Decreasing.
    values: Vec<f64>,
    vectors: Vec<f64>,
    rest: f64,
}

impl Spectrum {
    /// Rotate the rows until they are orthogonal (one-sided Jacobi): then each is a multiple of an eigenvector, which the
    /// rotations themselves are. What keeps them from that is measured, so that the bounds hold in any case.
    pub fn new(mut rows: Vec<f64>, n: usize) -> Self {
        let norm = dot(&rows, &rows).sqrt();
        let mut vectors = vec![0.0; n * n];
        vectors.iter_mut().step_by(n + 1).for_each(|one| *one = 1.0);
        for _ in 0..SWEEPS {
            let mut is_done = true;
            let mut squares: Vec<f64> = rows.chunks(n).map(|row| dot(row, row)).collect();
            for k in 0..n {
                for l in k + 1..n {
                    let [a, b] = pair(&mut rows, n, k, l);
                    let (aa, bb, ab) = (squares[k], squares[l], dot(a, b));
                    if ab * ab <= ORTHOGONAL * ORTHOGONAL * aa * bb || ab.abs() <= (ROUNDING * norm).powi(2) {
                        continue;
                    }
                    is_done = false;
                    let half = (bb - aa) / (2.0 * ab);
                    let tangent = half.signum() / (half.abs() + (1.0 + half * half).sqrt());
                    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                    (squares[k], squares[l]) = ((aa - tangent * ab).max(0.0), bb + tangent * ab);
                    rotate(a, b, cosine, cosine * tangent);
                    let [a, b] = pair(&mut vectors, n, k, l);
                    rotate(a, b, cosine, cosine * tangent);
                }
            }
            if is_done {
                break;
            }
        }
        let mut rest = 0.0;
        let values: Vec<f64> = rows.chunks(n).zip(vectors.chunks(n)).map(|(row, vector)| dot(row, vector)).collect();
        for ((row, vector), value) in rows.chunks(n).zip(vectors.chunks(n)).zip(&values) {
            rest += row.iter().zip(vector).map(|(row, vector)| (row - value * vector).powi(2)).sum::<f64>();
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
        Spectrum {
            n,
            values: order.iter().map(|l| values[*l]).collect(),
            vectors: order.iter().flat_map(|l| &vectors[l * n..][..n]).copied().collect(),
            rest: rest.sqrt() + ROUNDING * norm,
        }
    }

    /// No less than the largest eigenvalue.
    pub fn largest(&self) -> f64 {
        self.values[0] + self.rest
    }

    /// No less than the sum over any r rows and the same columns, for r = 1 to n.
    ///
    /// The indicator of r rows has length sqrt(r), of which it shares with each eigenvector no more than the sum of its r
    /// largest or smallest entries: all goes to the largest eigenvalues first.
    pub fn sums(&self) -> Vec<f64> {
        let n = self.n;
        let mut shares = vec![0.0; n * n]; // (r, eigenvector)
        for (l, vector) in self.vectors.chunks(n).enumerate() {
            let sorted = decreasing(vector.iter().copied());
            let (mut most, mut least) = (0.0_f64, 0.0_f64);
            for r in 0..n {
                most += sorted[r];
                least += sorted[n - 1 - r];
                shares[r * n + l] = most.max(-least).powi(2);
            }
        }
        let mut sums = Vec::with_capacity(n);
        for (size, shares) in (1..=n).zip(shares.chunks(n)) {
            let (mut left, mut sum) = (size as f64, 0.0);
            for (value, share) in self.values.iter().zip(shares).take_while(|(value, _)| **value > 0.0) {
                sum += value * share.min(left);
                left -= share.min(left);
            }
            sums.push(sum + size as f64 * self.rest);
        }
        sums
    }
}

/// No less than the sum over any r rows and the same columns, `first` among them, for r = 1 to n.
///
/// Each row adds what it has on the diagonal, twice what it shares with `first`, and at most its r - 2 largest others.
pub(super) fn sums_with(matrix: &[f64], n: usize, first: usize) -> Vec<f64> {
    let mut by_size = vec![Vec::with_capacity(n); n];
    for (k, row) in matrix.chunks(n).enumerate().filter(|(k, _)| *k != first) {
        let mut sum = row[k] + 2.0 * row[first];
        let others = decreasing((0..n).filter(|l| *l != k && *l != first).map(|l| row[l]));
        for (sums, other) in by_size[1..].iter_mut().zip(others.into_iter().chain([0.0])) {
            sums.push(sum);
            sum += other;
        }
    }
    let diagonal = matrix[first * n + first];
    by_size.into_iter().zip(0..).map(|(sums, r)| diagonal + largest(sums, r)).collect()
}

/// The sum of the `n` largest.
pub(super) fn largest(mut values: Vec<f64>, n: usize) -> f64 {
    if n < values.len() {
        values.select_nth_unstable_by(n, |a, b| b.total_cmp(a));
    }
    values.iter().take(n).sum()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums that do not wait for each other.
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    rest + sums.iter().sum::<f64>()
}

/// Rows `k` and `l`, k < l.
fn pair(rows: &mut [f64], n: usize, k: usize, l: usize) -> [&mut [f64]; 2] {
    let (before, after) = rows.split_at_mut(l * n);
    [&mut before[k * n..][..n], &mut after[..n]]
}

fn rotate(a: &mut [f64], b: &mut [f64], cosine: f64, sine: f64) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest sum over r rows and the same columns that has `first`, or any, for r = 1 to n.
    fn naive(matrix: &[f64], n: usize, first: Option<usize>) -> Vec<f64> {
        let mut sums = vec![f64::NEG_INFINITY; n];
        for subset in 1_usize..1 << n {
            let rows: Vec<usize> = (0..n).filter(|k| subset >> k & 1 == 1).collect();
            if first.is_none_or(|first| rows.contains(&first)) {
                let sum = rows.iter().flat_map(|k| rows.iter().map(move |l| matrix[k * n + *l])).sum();
                sums[rows.len() - 1] = sums[rows.len() - 1].max(sum);
            }
        }
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_sum_exceeds_the_bounds(
            n in 1_usize..8,
            width in 1_usize..12,
            entries in prop::collection::vec(prop_oneof![Just(0.0), -1.0..1.0], 8 * 12),
            scale in prop_oneof![Just(1.0), Just(1e-9), Just(1e9)],
        ) {
            let rows: Vec<&[f64]> = entries.chunks(width).take(n).collect();
            let matrix: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b) * scale)).collect();
            let slack = 1e-12 * scale;
            let spectrum = Spectrum::new(matrix.clone(), n);
            prop_assert!(spectrum.rest <= 1e-3 * scale, "{}", spectrum.rest);
            let trace: f64 = matrix.iter().step_by(n + 1).sum();
            prop_assert!((spectrum.values.iter().sum::<f64>() - trace).abs() <= 1e-9 * scale);
            for (sum, bound) in naive(&matrix, n, None).into_iter().zip(spectrum.sums()) {
                prop_assert!(sum <= bound + slack && bound <= 8.0 * spectrum.largest() + slack, "{sum} {bound}");
            }
            for first in 0..n {
                for (sum, bound) in naive(&matrix, n, Some(first)).into_iter().zip(sums_with(&matrix, n, first)) {
                    prop_assert!(sum <= bound + slack, "{sum} {bound}");
                }
            }
        }
    }
}
