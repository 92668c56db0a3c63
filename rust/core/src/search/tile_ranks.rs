//! The ranks of a tile of images, image by image: counted at once where the counts fit in the cache, or listed first.
//!
//! A rank beyond the largest, which only a file of somebody's making leads to, counts for nothing.

use std::mem;

use crate::error::Error;
use crate::index::NODE_BLOCK;

/// An integer that is wide enough for the ranks of a scan: the narrower, the less memory there is to touch.
pub(crate) trait RankInt: Copy + Default + Send + Sync + 'static {
    /// The largest rank.
    const LARGEST: usize;

    /// A rank that fits.
    fn of(rank: usize) -> Self;
    fn get(self) -> usize;
}

impl RankInt for u16 {
    const LARGEST: usize = u16::MAX as usize;

    #[allow(clippy::cast_possible_truncation)] // a rank that fits
    fn of(rank: usize) -> Self {
        rank as u16
    }

    fn get(self) -> usize {
        usize::from(self)
    }
}

impl RankInt for u32 {
    const LARGEST: usize = u32::MAX as usize;

    #[allow(clippy::cast_possible_truncation)]
    fn of(rank: usize) -> Self {
        rank as u32
    }

    fn get(self) -> usize {
        self as usize
    }
}

/// Bytes of counts that the cache of a core holds beside the index.
const COUNTS: usize = 1 << 20;

/// For each image how often each rank occurs, or its ranks in any order.
#[derive(Default)]
pub(crate) struct TileRanks<R> {
    n_images: usize,
    /// Ranks of which each image has a count; 0 if ranks are listed.
    n_counts: usize,
    counts: Vec<u32>,
    /// Group after group of nodes, image after image.
    listed: Vec<R>,
    /// For each group where it begins.
    groups: Vec<usize>,
    /// For each group where its ranks of each image end, from its beginning on.
    ends: Vec<u32>,
    /// Those of a group that come one by one.
    pushed: Vec<[R; NODE_BLOCK]>,
    n_pushed: Vec<u32>,
}

impl<R: RankInt> TileRanks<R> {
    /// Forget all, and make room for ranks up to `largest` of so many images.
    pub fn clear(&mut self, n_images: usize, largest: usize) {
        self.n_images = n_images;
        self.n_counts = if n_images * (largest + 1) * size_of::<u32>() <= COUNTS { largest + 1 } else { 0 };
        self.counts.clear();
        self.counts.resize(n_images * self.n_counts, 0);
        self.listed.clear();
        self.groups.clear();
        self.ends.clear();
        self.pushed.clear();
        self.n_pushed.clear();
    }

    /// Make room for so many more ranks.
    pub fn reserve(&mut self, n: usize) -> Result<(), Error> {
        let is_room = self.n_counts > 0 || self.listed.try_reserve(n).is_ok();
        if is_room { Ok(()) } else { Err(Error::Memory { shape: vec![self.listed.len() + n] }) }
    }

    /// Add the ranks of a group of nodes, image after image, each up to where its ranks end.
    #[allow(clippy::inline_always)] // it is compiled for the instructions of the search
    #[inline(always)]
    pub fn extend(&mut self, ranks: &[u32], ends: &[u32]) {
        if self.n_counts == 0 {
            self.groups.push(self.listed.len());
            self.listed.extend(ranks.iter().map(|rank| R::of(*rank as usize)));
            self.ends.extend_from_slice(ends);
            return;
        }
        let mut start = 0;
        for (counts, end) in self.counts.chunks_exact_mut(self.n_counts).zip(ends) {
            for rank in &ranks[start..*end as usize] {
                count(counts, *rank as usize);
            }
            start = *end as usize;
        }
    }

    /// Add a rank of a node among the next [`NODE_BLOCK`], after which [`end_block`](TileRanks::end_block) is due.
    #[inline]
    pub fn push(&mut self, image: usize, rank: R) {
        if self.n_counts > 0 {
            count(&mut self.counts[image * self.n_counts..][..self.n_counts], rank.get());
        } else {
            if self.pushed.is_empty() {
                self.pushed.resize(self.n_images, [R::default(); NODE_BLOCK]);
                self.n_pushed.resize(self.n_images, 0);
            }
            let n = &mut self.n_pushed[image];
            self.pushed[image][*n as usize % NODE_BLOCK] = rank;
            *n += 1;
        }
    }

    #[allow(clippy::cast_possible_truncation)] // a group has fewer ranks
    pub fn end_block(&mut self) {
        if self.pushed.is_empty() {
            return; // they were counted, or there is none
        }
        let start = self.listed.len();
        self.groups.push(start);
        for (ranks, n) in self.pushed.iter().zip(&mut self.n_pushed) {
            self.listed.extend_from_slice(&ranks[..mem::take(n) as usize]);
            self.ends.push((self.listed.len() - start) as u32);
        }
    }

    /// Take `own` off each rank, and let none exceed `last`; false, and nothing done, if a rank is less than `own`.
    pub fn shift(&mut self, own: usize, last: usize) -> bool {
        if self.n_counts == 0 {
            if self.listed.iter().any(|rank| rank.get() < own) {
                return false;
            }
            self.listed.iter_mut().for_each(|rank| *rank = R::of((rank.get() - own).min(last)));
            return true;
        }
        if self.counts.chunks_exact(self.n_counts).any(|counts| counts[..own].iter().any(|count| *count > 0)) {
            return false;
        }
        for counts in self.counts.chunks_exact_mut(self.n_counts) {
            counts.rotate_left(own);
            for rank in last + 1..counts.len() {
                counts[last] += mem::take(&mut counts[rank]);
            }
        }
        true
    }

    /// Add an image's ranks to a histogram.
    pub fn add_to(&self, image: usize, histogram: &mut [u32]) {
        let counts = &self.counts[image * self.n_counts..][..self.n_counts];
        histogram.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        for (group, ends) in self.groups.iter().zip(self.ends.chunks_exact(self.n_images)) {
            let start = if image > 0 { ends[image - 1] } else { 0 };
            let ranks = &self.listed[group + start as usize..group + ends[image] as usize];
            for rank in ranks {
                count(histogram, rank.get());
            }
        }
    }
}

#[allow(clippy::inline_always)] // it is compiled for the instructions of the search
#[inline(always)]
fn count(counts: &mut [u32], rank: usize) {
    if let Some(count) = counts.get_mut(rank) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_and_lists_agree(
            images in prop::collection::vec(prop::collection::vec(1_usize..50, 0..80), 1..4),
            more in prop::collection::vec(prop::collection::vec(3_usize..50, 0..NODE_BLOCK), 4),
            (own, last) in (0_usize..3, 0_usize..40),
        ) {
            let smallest = images.iter().flatten().min().copied().unwrap_or(own);
            for largest in [50, 1 << 20] {
                let mut ranks = TileRanks::<u16>::default();
                ranks.clear(images.len(), largest);
                let flat: Vec<_> = images.iter().flatten().map(|rank| u32::try_from(*rank).unwrap()).collect();
                let ends = images.iter().scan(0, |end, image| { *end += u32::try_from(image.len()).unwrap(); Some(*end) });
                ranks.reserve(flat.len()).unwrap();
                ranks.extend(&flat, &ends.collect::<Vec<_>>());
                for (image, values) in more.iter().enumerate().take(images.len()) {
                    for rank in values {
                        ranks.push(image, u16::of(*rank));
                    }
                }
                ranks.end_block();
                prop_assert_eq!(ranks.shift(own, last), smallest >= own);
                for (image, values) in images.iter().enumerate() {
                    let mut expected = [0; 51];
                    for rank in values.iter().chain(&more[image]) {
                        expected[if smallest >= own { (rank - own).min(last) } else { *rank }] += 1;
                    }
                    let mut histogram = [0; 51];
                    ranks.add_to(image, &mut histogram);
                    prop_assert_eq!(histogram, expected);
                }
            }
        }
    }
}
