//! How many small p-values a block can have, by how the images share them in pairs and in threes.
//!
//! Of r lines let `k_j` be the number that have a small p-value at member j of the other side, m any number, and a block
//! take c members with N small p-values. Whichever the members are, by the inequality of Cauchy and Schwarz
//!
//! - N <= m c + sqrt(c Q), Q the sum of (`k_j` - m)^2 over all members,
//! - N (N / c - m)^2 <= T if N >= m c, T the sum of `k_j` (`k_j` - m)^2 over all members.
//!
//! Both sums are over pairs and threes of the r lines, and are bounded over all choices of r lines: Q by the spectrum of
//! a matrix of lines by lines, T by a matrix for each line, or by their mean and how far they are from it.

use std::f64::consts::SQRT_2;

use super::quadratic::{Spectrum, decreasing, dot, largest, sums_with};

/// What m is, as shares of the lines times the share of small p-values among all.
const CENTRES: [f64; 5] = [0.5, 0.65, 0.8, 0.9, 1.0];
/// What rounding may take from a sum over pairs or threes of lines, as a share of the largest that it could be.
const ROUNDING: f64 = 1e-12;
/// Newton's steps; each ends above the root.
const STEPS: usize = 4;

/// Who has a small p-value: lines by members of the other side, 64 to a word.
#[derive(Debug)]
pub(super) struct Bits {
    pub n_lines: usize,
    pub n_others: usize,
    words: Vec<u64>,
}

impl Bits {
    pub fn new(n_lines: usize, n_others: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let n_words = n_others.div_ceil(64);
        let mut words = vec![0; n_lines * n_words];
        for (line, other) in pairs {
            words[line as usize * n_words + other as usize / 64] |= 1 << (other % 64);
        }
        Bits { n_lines, n_others, words }
    }

    /// How many members have a small p-value in three lines: (lines, lines, lines).
    fn shared(&self) -> Vec<f64> {
        let n = self.n_lines;
        let lines: Vec<&[u64]> = self.words.chunks(self.n_others.div_ceil(64)).collect();
        let mut shared = vec![0.0; n * n * n];
        for i in 0..n {
            for k in i..n {
                let both: Vec<u64> = lines[i].iter().zip(lines[k]).map(|(i, k)| i & k).collect();
                for (l, line) in lines.iter().enumerate().skip(k) {
                    let count: u32 = both.iter().zip(*line).map(|(both, l)| (both & l).count_ones()).sum();
                    for [i, k, l] in [[i, k, l], [i, l, k], [k, i, l], [k, l, i], [l, i, k], [l, k, i]] {
                        shared[(i * n + k) * n + l] = f64::from(count);
                    }
                }
            }
        }
        shared
    }
}

/// Bounds on the sums over pairs and threes around one centre.
#[derive(Debug)]
struct Centre {
    /// m for each line of a block.
    share: f64,
    /// No less than Q for 1, 2, ... lines.
    pairs: Vec<f64>,
    /// No less than T for 1, 2, ... lines.
    threes: Vec<f64>,
}

/// Bounds on the small p-values of blocks, at one threshold.
#[derive(Debug)]
pub(super) struct Moments(Vec<Centre>);

impl Moments {
    pub fn new(bits: &Bits) -> Self {
        let n = bits.n_lines;
        let shared = bits.shared();
        let mean = (0..n).map(|i| shared[(i * n + i) * n + i]).sum::<f64>() / (n * bits.n_others) as f64;
        Moments(CENTRES.iter().map(|part| Centre::new(&shared, n, bits.n_others as f64, part * mean)).collect())
    }

    /// A number that the small p-values of a block of `lines` lines and `others` members do not exceed, nor `most`.
    pub fn n_alpha(&self, lines: usize, others: u64, most: u64) -> u64 {
        let (c, n) = (others as f64, lines - 1);
        let mut bound = most as f64;
        for centre in &self.0 {
            let m = centre.share * lines as f64;
            bound = bound.min(m * c + (c * centre.pairs[n]).sqrt());
            // y^3 - c m y is convex and grows where it is positive: from above Newton's steps stay above.
            let (mut y, target) = (bound.sqrt(), c * centre.threes[n].sqrt());
            for _ in 0..STEPS {
                let excess = y * (y * y - c * m) - target;
                if excess <= 0.0 {
                    break;
                }
                y -= excess / (3.0 * y * y - c * m);
            }
            bound = bound.min(y * y);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to `most`
        let whole = (bound * (1.0 + 1e-9) + 1e-6) as u64;
        whole.min(most)
    }
}

impl Centre {
    fn new(shared: &[f64], n: usize, n_others: f64, share: f64) -> Self {
        // Sums of (x_k - share) (x_l - share) over members where line i has a small p-value, for each i.
        let count = |i: usize, k: usize| shared[(i * n + i) * n + k];
        let mut threes = vec![0.0; n * n * n];
        for (i, matrix) in threes.chunks_mut(n * n).enumerate() {
            for k in 0..n {
                for l in 0..n {
                    let all = shared[(i * n + k) * n + l];
                    matrix[k * n + l] = all - share * (count(i, k) + count(i, l)) + share * share * count(i, i);
                }
            }
        }
        let mut pairs = Vec::with_capacity(n * n);
        for k in 0..n {
            for l in 0..n {
                pairs.push(count(k, l) - share * (count(k, k) + count(l, l)) + share * share * n_others);
            }
        }
        let counts: Vec<f64> = (0..n).map(|i| count(i, i)).collect();
        let by_line = of_each_line(&threes, n);
        let by_mean = around_their_mean(&mut threes, n, &counts);
        let sizes = (1..=n).map(|size| size as f64);
        let threes = by_line.into_iter().zip(by_mean).zip(sizes.clone());
        let pairs = Spectrum::new(pairs, n).sums().into_iter().zip(sizes);
        Centre {
            share,
            pairs: pairs.map(|(sum, r)| sum.max(0.0) + ROUNDING * r * r * n_others).collect(),
            threes: threes.map(|((a, b), r)| a.min(b).max(0.0) + ROUNDING * r * r * r * n_others).collect(),
        }
    }
}

/// Bound sums over threes: each line's matrix on its own, and then the lines with the largest.
fn of_each_line(threes: &[f64], n: usize) -> Vec<f64> {
    let sums: Vec<Vec<f64>> = threes.chunks(n * n).enumerate().map(|(i, matrix)| sums_with(matrix, n, i)).collect();
    (0..n).map(|r| largest(sums.iter().map(|sums| sums[r]).collect(), r + 1)).collect()
}

/// Bound sums over threes: the lines' mean matrix, as often as they have small p-values, and what they are besides.
///
/// That is left behind in `threes`. It sums to 0 over the lines, so that instead of the indicator of r of n lines that
/// less its mean counts, of length sqrt(r (1 - r / n)), and the r x r entries have length r.
fn around_their_mean(threes: &mut [f64], n: usize, counts: &[f64]) -> Vec<f64> {
    let total: f64 = counts.iter().sum();
    if total == 0.0 {
        return vec![0.0; n];
    }
    let mut mean = vec![0.0; n * n];
    for matrix in threes.chunks(n * n) {
        mean.iter_mut().zip(matrix).for_each(|(mean, entry)| *mean += entry / total);
    }
    for (matrix, count) in threes.chunks_mut(n * n).zip(counts) {
        matrix.iter_mut().zip(&mean).for_each(|(entry, mean)| *entry -= count * mean);
    }
    // The same products, from half of the entries.
    let n_half = n * (n + 1) / 2;
    let mut halves = Vec::with_capacity(n * n_half);
    for matrix in threes.chunks(n * n) {
        for (k, row) in matrix.chunks(n).enumerate() {
            halves.push(row[k]);
            halves.extend(row[k + 1..].iter().map(|entry| entry * SQRT_2));
        }
    }
    let mut products = vec![0.0; n * n];
    for (i, a) in halves.chunks(n_half).enumerate() {
        for (k, b) in halves.chunks(n_half).enumerate().take(i + 1) {
            let product = dot(a, b);
            products[i * n + k] = product;
            products[k * n + i] = product;
        }
    }
    let spread = Spectrum::new(products, n).largest().max(0.0).sqrt();
    let mut weight = 0.0;
    let sums = Spectrum::new(mean, n).sums().into_iter().zip(decreasing(counts.iter().copied()));
    sums.zip(1..=n)
        .map(|((sum, count), size)| {
            weight += count;
            let r = size as f64;
            weight * sum.max(0.0) + (r * (1.0 - r / n as f64)).sqrt() * r * spread
        })
        .collect()
}
