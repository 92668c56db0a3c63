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
const CENTRES: [f64; 3] = [0.65, 0.8, 1.0];
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

    fn lines(&self) -> impl Iterator<Item = &[u64]> {
        self.words.chunks(self.n_others.div_ceil(64))
    }

    /// How many members have a small p-value in two lines: (lines, lines).
    fn shared(&self) -> Vec<f64> {
        let n = self.n_lines;
        let mut shared = vec![0.0; n * n];
        for (i, a) in self.lines().enumerate() {
            for (k, b) in self.lines().enumerate().take(i + 1) {
                let count: u32 = a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum();
                shared[i * n + k] = f64::from(count);
                shared[k * n + i] = f64::from(count);
            }
        }
        shared
    }

    /// The same among the members that have a small p-value in a further line, for each: (lines, lines, lines).
    fn shared_by_line(&self) -> Vec<f64> {
        let shared = self.lines().flat_map(|line| {
            let words = self.lines().flat_map(|other| line.iter().zip(other).map(|(a, b)| a & b)).collect();
            Bits { words, ..*self }.shared()
        });
        shared.collect()
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
    /// From pairs of lines, and from threes as well if that is asked for.
    pub fn new(bits: &Bits, with_threes: bool) -> Self {
        let (n, n_others) = (bits.n_lines, bits.n_others as f64);
        let pairs = bits.shared();
        let threes = with_threes.then(|| bits.shared_by_line());
        let counts: Vec<f64> = pairs.iter().step_by(n + 1).copied().collect();
        let mean = counts.iter().sum::<f64>() / (n as f64 * n_others);
        let centre = |part| {
            let share = part * mean;
            let sums = Spectrum::new(centred(&pairs, n, n_others, share), n).sums();
            let rounding = |r: usize| ROUNDING * (r * r) as f64 * n_others;
            Centre {
                share,
                pairs: (1..=n).zip(sums).map(|(r, sum)| sum.max(0.0) + rounding(r)).collect(),
                threes: threes.as_ref().map_or(vec![f64::INFINITY; n], |threes| {
                    let matrices = threes.chunks(n * n).zip(&counts);
                    let sums = sums_of_threes(
                        matrices.flat_map(|(a, count)| centred(a, n, *count, share)).collect(),
                        n,
                        &counts,
                    );
                    (1..=n).zip(sums).map(|(r, sum)| sum.max(0.0) + r as f64 * rounding(r)).collect()
                }),
            }
        };
        Moments(CENTRES.into_iter().map(centre).collect())
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

/// Sums of (`x_k` - share) (`x_l` - share) over some members, x being 1 for a small p-value in that line and else 0.
fn centred(shared: &[f64], n: usize, n_members: f64, share: f64) -> Vec<f64> {
    let mut sums = Vec::with_capacity(n * n);
    for (k, row) in shared.chunks(n).enumerate() {
        let both = |l: usize| row[k] + shared[l * n + l];
        sums.extend(row.iter().enumerate().map(|(l, all)| all - share * both(l) + share * share * n_members));
    }
    sums
}

/// Bound sums over threes in two ways.
fn sums_of_threes(mut threes: Vec<f64>, n: usize, counts: &[f64]) -> Vec<f64> {
    let by_line = of_each_line(&threes, n);
    let by_mean = around_their_mean(&mut threes, n, counts);
    by_line.into_iter().zip(by_mean).map(|(a, b)| a.min(b)).collect()
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

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)] // small cases
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The lines come in the order in which blocks take them, the first of them with more small p-values at some members.
        #[test]
        fn no_block_exceeds_the_bounds(
            (n, n_others) in (1_usize..70, 1_usize..300),
            (lines, others) in (0_usize..70, 0_usize..300),
            (density, planted) in (0.0..1.0, 0.0..=1.0),
            chances in prop::collection::vec(0.0..1.0, 70 * 300),
        ) {
            let is_small = |i: usize, j: usize| {
                chances[i * 300 + j] < if i < lines && j < others { planted } else { density }
            };
            let of_line = |i| (0..n_others).filter(move |j| is_small(i, *j)).map(move |j| (i as u32, j as u32));
            let bits = Bits::new(n, n_others, (0..n).flat_map(of_line));
            for moments in [false, true].map(|with_threes| Moments::new(&bits, with_threes)) {
                let mut counts = vec![0; n_others];
                for r in 1..=n {
                    of_line(r - 1).for_each(|(_, j)| counts[j as usize] += 1);
                    let mut sorted = counts.clone();
                    sorted.sort_unstable_by(|a, b| b.cmp(a));
                    let mut n_alpha = 0;
                    for (c, count) in (1..).zip(sorted) {
                        n_alpha += count;
                        let bound = moments.n_alpha(r, c, c * r as u64);
                        prop_assert!(n_alpha <= bound, "{r} x {c}: {n_alpha} {bound}");
                    }
                }
            }
        }
    }
}
