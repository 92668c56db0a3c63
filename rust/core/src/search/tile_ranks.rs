//! The ranks of a tile of images, image by image: counted at once where the counts fit in the cache, or listed first.
//!
//! A rank beyond the largest, which only a file of somebody's making leads to, counts for nothing.

use std::mem;

use ndarray::Ix2;

use crate::error::Error;
use crate::index::NODE_BLOCK;
use crate::memory::zeros;

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

/// For each image how often each rank occurs, or a list of its ranks in any order.
#[derive(Default)]
pub(crate) struct TileRanks<R> {
    /// From image to image in what is used of the two.
    stride: usize,
    counts: Vec<u32>,
    lists: Vec<R>,
    /// Of the lists.
    lengths: Vec<u32>,
    is_counted: bool,
}

impl<R: RankInt> TileRanks<R> {
    /// Forget all, and make room for ranks of so many images and nodes up to `largest`.
    pub fn clear(&mut self, n_images: usize, n_nodes: usize, largest: usize) -> Result<(), Error> {
        self.is_counted = n_images * (largest + 1) * size_of::<u32>() <= COUNTS;
        self.stride = if self.is_counted { largest + 1 } else { n_nodes + NODE_BLOCK };
        let n = n_images * self.stride;
        if self.is_counted {
            self.counts.clear();
            self.counts.resize(n, 0);
        } else if self.lists.len() < n {
            self.lists = zeros(Ix2(n_images, self.stride))?.into_raw_vec_and_offset().0;
        }
        self.lengths.clear();
        self.lengths.resize(n_images, 0);
        Ok(())
    }

    #[inline]
    pub fn push(&mut self, image: usize, rank: R) {
        if self.is_counted {
            count(&mut self.counts[image * self.stride..][..self.stride], rank);
        } else {
            let length = &mut self.lengths[image];
            self.lists[image * self.stride + *length as usize] = rank;
            *length += 1;
        }
    }

    /// Add the first `n` ranks of a block of nodes.
    #[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
    #[inline(always)]
    pub fn extend(&mut self, image: usize, ranks: &[R; NODE_BLOCK], n: u32) {
        if self.is_counted {
            let counts = &mut self.counts[image * self.stride..][..self.stride];
            for rank in &ranks[..n as usize] {
                count(counts, *rank);
            }
        } else {
            let start = image * self.stride + self.lengths[image] as usize;
            if let Some(room) = self.lists[start..].first_chunk_mut() {
                *room = *ranks; // a copy of fixed length is quicker; what is beyond `n` will be overwritten
            }
            self.lengths[image] += n;
        }
    }

    /// Take `own` off each rank, and let none exceed `last`; false, and nothing done, if a rank is less than `own`.
    pub fn shift(&mut self, own: usize, last: usize) -> bool {
        if self.is_counted {
            if self.counts.chunks_exact(self.stride).any(|counts| counts[..own].iter().any(|count| *count > 0)) {
                return false;
            }
            for counts in self.counts.chunks_exact_mut(self.stride) {
                counts.rotate_left(own);
                for rank in last + 1..counts.len() {
                    counts[last] += mem::take(&mut counts[rank]);
                }
            }
            return true;
        }
        if self.listed().any(|rank| rank.get() < own) {
            return false;
        }
        self.listed().for_each(|rank| *rank = R::of((rank.get() - own).min(last)));
        true
    }

    fn listed(&mut self) -> impl Iterator<Item = &mut R> {
        let lists = self.lists.chunks_exact_mut(self.stride).zip(&self.lengths);
        lists.flat_map(|(list, length)| &mut list[..*length as usize])
    }

    /// Add an image's ranks to a histogram.
    pub fn add_to(&self, image: usize, histogram: &mut [u32]) {
        if self.is_counted {
            let counts = &self.counts[image * self.stride..][..self.stride];
            histogram.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        } else {
            let list = &self.lists[image * self.stride..][..self.lengths[image] as usize];
            for rank in list {
                count(histogram, *rank);
            }
        }
    }
}

#[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
#[inline(always)]
fn count<R: RankInt>(counts: &mut [u32], rank: R) {
    if let Some(count) = counts.get_mut(rank.get()) {
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
            (own, last) in (0_usize..3, 0_usize..40),
        ) {
            let smallest = images.iter().flatten().min().copied().unwrap_or(own);
            for largest in [50, 1 << 20] {
                let mut ranks = TileRanks::<u16>::default();
                ranks.clear(images.len(), 80, largest).unwrap();
                for (image, values) in images.iter().enumerate() {
                    let mut block = [0; NODE_BLOCK];
                    let (first, rest) = values.split_at(values.len().min(NODE_BLOCK));
                    block.iter_mut().zip(first).for_each(|(to, rank)| *to = u16::of(*rank));
                    ranks.extend(image, &block, u32::try_from(first.len()).unwrap());
                    for rank in rest {
                        ranks.push(image, u16::of(*rank));
                    }
                }
                prop_assert_eq!(ranks.shift(own, last), smallest >= own);
                for (image, values) in images.iter().enumerate() {
                    let mut expected = [0; 51];
                    for rank in values {
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
