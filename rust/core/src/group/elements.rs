//! The small p-values of a group of images, sorted once: what every step of the ascent and the bound sweep over.

use std::borrow::Cow;

use ndarray::{ArrayView1, ArrayView2, Ix1};
use rayon::prelude::*;

use crate::background::Background;
use crate::bins::Bins;
use crate::error::Error;
use crate::index::NODE_BLOCK;
use crate::interrupt::Interrupt;
use crate::memory::zeros;
use crate::pvalue::AlphaMax;
use crate::value::{Value, Values};

/// Where an image-node pair has its image and its node, and where a block has its images and its nodes.
pub(super) const IMAGES: usize = 0;
pub(super) const NODES: usize = 1;

/// Into how many ranges p-values are parted, to be sorted.
const N_BUCKETS: u16 = u16::MAX;
/// How many p-values at least a thread looks at.
const PART: usize = 1 << 15;
/// How much a block of levels adds to the p-values before it: one in this many.
const GROWTH: usize = 3;
/// About how many thresholds the coarse grid has, besides `alpha_max`.
const COARSE: usize = 50;

/// An image and a node.
pub(super) type Pair = [u32; 2];

/// The p-values up to `alpha_max` of N images and J nodes, by level: all image-node pairs of one p-value are a level.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Elements {
    /// N and J.
    pub shape: [usize; 2],
    /// The largest threshold.
    pub alpha_max: f64,
    /// The p-value of each level, increasing.
    pub alphas: Vec<f64>,
    /// Where each level's pairs begin, and where the last one's end.
    offsets: Vec<usize>,
    pairs: Vec<Pair>,
}

impl Elements {
    /// Those of p-values that came from anywhere: (images, nodes), each in (0, 1].
    pub fn from_p_values(
        p_values: &ArrayView2<'_, f64>,
        alpha_max: AlphaMax,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (n_images, n_nodes) = p_values.dim();
        let alpha_max = alpha_max.get();
        // Into buckets first, which keep the order: there are far more pairs than p-values, and few buckets hold several.
        let small = (0..n_images)
            .into_par_iter()
            .with_min_len(PART.div_ceil(n_nodes))
            .map_init(Vec::new, |found, image| {
                interrupt.check()?;
                small(&p_values.row(image), alpha_max, found).map_err(|(node, received)| Error::PValue {
                    received,
                    image,
                    node,
                })
            })
            .collect::<Vec<_>>();
        let small = small.into_iter().collect::<Result<Vec<_>, Error>>()?; // of several errors the first
        let mut buckets = vec![Bucket::default(); usize::from(N_BUCKETS) + 1];
        for (row, small) in p_values.rows().into_iter().zip(&small) {
            interrupt.check()?;
            for (bucket, node) in small {
                buckets[usize::from(*bucket)].count(row[*node as usize]);
            }
        }
        let mut n_pairs = 0;
        for bucket in &mut buckets {
            bucket.end = n_pairs; // where the first of it goes, which moves this on
            n_pairs += bucket.size;
        }
        let mut pairs = zeros::<Pair, _>(Ix1(n_pairs))?.into_raw_vec_and_offset().0;
        for (image, small) in (0..).zip(small) {
            interrupt.check()?;
            for (bucket, node) in small {
                let next = &mut buckets[usize::from(bucket)].end;
                pairs[*next] = [image, node];
                *next += 1;
            }
        }
        let (mut alphas, mut offsets) = (Vec::new(), vec![0]);
        for Bucket { size, end, value, is_mixed } in buckets.into_iter().filter(|bucket| bucket.size > 0) {
            if !is_mixed {
                alphas.push(value);
                offsets.push(end);
                continue;
            }
            interrupt.check()?;
            let start = end - size;
            let mut records: Vec<_> =
                pairs[start..end].iter().map(|pair| (p_values[pair.map(|n| n as usize)], *pair)).collect();
            records.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            #[allow(clippy::float_cmp)]
            for level in records.chunk_by(|a, b| a.0 == b.0) {
                alphas.push(level[0].0);
                offsets.push(offsets[offsets.len() - 1] + level.len());
            }
            pairs[start..end].iter_mut().zip(records).for_each(|(pair, (_, sorted))| *pair = sorted);
        }
        Ok(Elements::new([n_images, n_nodes], alpha_max, alphas, offsets, pairs))
    }

    fn new(shape: [usize; 2], alpha_max: f64, alphas: Vec<f64>, offsets: Vec<usize>, pairs: Vec<Pair>) -> Self {
        Elements { shape, alpha_max, alphas, offsets, pairs }
    }

    /// Those of images ranked in a background.
    pub fn from_background<V: Value>(
        background: &Background<V>,
        images: &Values<'_>,
        bins: &Bins,
        alpha_max: AlphaMax,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (n_images, n_nodes) = images.dim();
        let share = n_nodes.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(NODE_BLOCK);
        let parts = (0..n_nodes.div_ceil(share))
            .into_par_iter()
            .map(|n| {
                let mut found = Vec::new();
                let nodes = n * share..n_nodes.min((n + 1) * share);
                background.for_each_bin(images, &(0..n_images), nodes, bins, interrupt, |image, node, bin| {
                    #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
                    found.push((bin as u32, pair(image, node)));
                })?;
                Ok(found)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // Counted first, so that every pair can go to its place at once.
        let mut ends = vec![0; bins.n_bins()];
        for (bin, _) in parts.iter().flatten() {
            ends[*bin as usize] += 1;
        }
        let (mut alphas, mut offsets) = (Vec::new(), vec![0]);
        let mut n_pairs = 0;
        for (end, alpha) in ends.iter_mut().zip(bins.thresholds()) {
            let count = *end;
            *end = n_pairs; // the first pair goes here, and moves it on
            n_pairs += count;
            if count > 0 {
                alphas.push(*alpha);
                offsets.push(n_pairs);
            }
        }
        let mut pairs = zeros::<Pair, _>(Ix1(n_pairs))?.into_raw_vec_and_offset().0;
        for (bin, pair) in parts.into_iter().flatten() {
            let next = &mut ends[bin as usize];
            pairs[*next] = pair;
            *next += 1;
        }
        Ok(Elements::new([n_images, n_nodes], alpha_max.get(), alphas, offsets, pairs))
    }

    /// Number of distinct p-values.
    pub fn n_levels(&self) -> usize {
        self.alphas.len()
    }

    /// The pairs of levels `from` to `to`, the latter not among them.
    pub fn pairs(&self, from: usize, to: usize) -> &[Pair] {
        &self.pairs[self.offsets[from]..self.offsets[to]]
    }

    /// Where blocks of levels end, so that each holds a fixed share of the p-values up to its end, or is one level.
    pub fn block_ends(&self) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut level = 0;
        while level < self.n_levels() {
            let enough = self.offsets[level] + self.offsets[level] / GROWTH;
            level = self.offsets.partition_point(|offset| *offset <= enough).min(self.n_levels());
            ends.push(level);
        }
        ends
    }

    /// A coarse grid: every k-th distinct p-value of these pairs below `alpha_max`, about 50 of them, and `alpha_max`,
    /// each with the number of levels up to it.
    pub fn coarse_grid(&self, among: impl Fn(&Pair) -> bool) -> Vec<(f64, usize)> {
        let is_below = |level: &usize| self.alphas[*level] < self.alpha_max;
        let is_among = |level: &usize| self.pairs(*level, *level + 1).iter().any(&among);
        let levels: Vec<_> = (0..self.n_levels()).take_while(is_below).filter(is_among).collect();
        let every = levels.len() / COARSE + 1;
        let mut grid: Vec<_> = levels.into_iter().step_by(every).map(|n| (self.alphas[n], n + 1)).collect();
        grid.push((self.alpha_max, self.n_levels()));
        grid
    }
}

/// The p-values of an image that are at most `alpha_max`: the bucket and the node of each; else the first invalid one.
fn small(
    row: &ArrayView1<'_, f64>,
    alpha_max: f64,
    found: &mut Vec<(u16, u32)>,
) -> Result<Vec<(u16, u32)>, (usize, f64)> {
    let row = row.as_slice().map_or_else(|| Cow::Owned(row.to_vec()), Cow::Borrowed);
    let is_none = |p: &f64| !(*p > 0.0 && *p <= 1.0);
    if row.iter().fold(false, |found, p| found | is_none(p))
        && let Some(node) = row.iter().position(is_none)
    {
        return Err((node, row[node]));
    }
    found.resize(row.len() + 1, (0, 0));
    let scale = f64::from(N_BUCKETS) / alpha_max;
    let mut n_found = 0;
    for (node, p) in (0..).zip(&*row) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to N_BUCKETS
        let bucket = (p * scale).min(f64::from(N_BUCKETS)) as u16;
        // Which are small is hard to predict for a processor: those that are not are overwritten.
        found[n_found] = (bucket, node);
        n_found += usize::from(*p <= alpha_max);
    }
    Ok(found[..n_found].to_vec())
}

/// Some of the p-values, next to each other in order.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    size: usize,
    end: usize,
    /// The last one.
    value: f64,
    /// Whether there are others.
    is_mixed: bool,
}

impl Bucket {
    fn count(&mut self, p: f64) {
        #[allow(clippy::float_cmp)] // ties are equal to the bit
        let is_other = p != self.value;
        self.is_mixed |= is_other && self.size > 0;
        self.value = p;
        self.size += 1;
    }
}

fn pair(image: usize, node: usize) -> Pair {
    #[allow(clippy::cast_possible_truncation)] // no group has 2^32 images or nodes
    [image as u32, node as u32]
}
