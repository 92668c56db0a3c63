//! The ranks of a tile of images, image by image.

use ndarray::Ix2;

use crate::Error;
use crate::index::NODE_BLOCK;
use crate::memory::zeros;

/// An integer that is wide enough for the ranks of a scan: the narrower, the less memory there is to touch.
pub(crate) trait Rank: Copy + Default + Send + Sync + 'static {
    /// The largest rank.
    const LARGEST: usize;

    /// A rank that fits.
    fn of(rank: usize) -> Self;
    fn get(self) -> usize;
}

impl Rank for u16 {
    const LARGEST: usize = u16::MAX as usize;

    #[allow(clippy::cast_possible_truncation)] // a rank that fits
    fn of(rank: usize) -> Self {
        rank as u16
    }

    fn get(self) -> usize {
        usize::from(self)
    }
}

impl Rank for u32 {
    const LARGEST: usize = u32::MAX as usize;

    #[allow(clippy::cast_possible_truncation)]
    fn of(rank: usize) -> Self {
        rank as u32
    }

    fn get(self) -> usize {
        self as usize
    }
}

/// For each image the ranks of its extreme values, in any order.
#[derive(Default)]
pub(crate) struct RankLists<R> {
    /// From list to list.
    stride: usize,
    ranks: Vec<R>,
    lengths: Vec<u32>,
}

impl<R: Rank> RankLists<R> {
    /// Empty lists with room for one rank of each node, and for a block of what is no rank yet.
    pub fn clear(&mut self, n_images: usize, n_nodes: usize) -> Result<(), Error> {
        self.stride = n_nodes + NODE_BLOCK;
        if self.ranks.len() < n_images * self.stride {
            self.ranks = zeros(Ix2(n_images, self.stride))?.into_raw_vec_and_offset().0;
        }
        self.lengths.clear();
        self.lengths.resize(n_images, 0);
        Ok(())
    }

    #[inline]
    pub fn push(&mut self, image: usize, rank: R) {
        let length = &mut self.lengths[image];
        self.ranks[image * self.stride + *length as usize] = rank;
        *length += 1;
    }

    #[inline]
    pub fn extend(&mut self, image: usize, ranks: impl ExactSizeIterator<Item = R>) {
        let start = image * self.stride + self.lengths[image] as usize;
        #[allow(clippy::cast_possible_truncation)] // no image has 2^32 nodes
        let n = ranks.len() as u32;
        self.ranks[start..start + n as usize].iter_mut().zip(ranks).for_each(|(to, rank)| *to = rank);
        self.lengths[image] += n;
    }

    /// Add the first `n` of a block of nodes.
    #[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
    #[inline(always)]
    pub fn extend_of(&mut self, image: usize, ranks: &[R; NODE_BLOCK], n: u32) {
        let start = image * self.stride + self.lengths[image] as usize;
        if let Some(room) = self.ranks[start..].first_chunk_mut() {
            *room = *ranks; // all are quicker than as many as there are; what is beyond is going to be written over
        }
        self.lengths[image] += n;
    }

    pub fn of(&self, image: usize) -> &[R] {
        &self.ranks[image * self.stride..][..self.lengths[image] as usize]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut R> {
        let lists = self.ranks.chunks_exact_mut(self.stride).zip(&self.lengths);
        lists.flat_map(|(ranks, length)| &mut ranks[..*length as usize])
    }
}
