//! What is done with the counts that a search finds.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::ops::Range;

use super::tile_ranks::{RankInt, TileRanks};
use crate::bins::{Bins, Membership};
use crate::error::Error;
use crate::index::NodeBlock;
use crate::ties::TieBreaker;

/// What was found of the extreme values of some images at a group of nodes, image after image.
pub(crate) struct Found<'a> {
    /// The first of the nodes.
    pub first: usize,
    pub log_buckets: u32,
    /// For each value its node, counted from the first, and its bucket.
    pub places: &'a [u32],
    /// The rank of each value, or, where more is asked for, how many background values are less.
    pub counts: &'a [u32],
    /// And how many are no larger.
    pub no_larger: &'a [u32],
    /// For each image where its values end.
    pub ends: &'a [u32],
}

impl Found<'_> {
    /// The places of each image's values among all of them.
    #[inline(always)]
    fn images(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(self.ends).map(|(start, end)| start as usize..*end as usize)
    }

    /// For some values: the node, how many background values are less, and how many no larger.
    #[inline(always)]
    fn both(&self, values: Range<usize>) -> impl Iterator<Item = (usize, (usize, usize))> {
        let nodes = self.places[values.clone()].iter().map(|place| self.first + (*place >> self.log_buckets) as usize);
        let counts = self.counts[values.clone()].iter().zip(&self.no_larger[values]);
        nodes.zip(counts.map(|(less, no_larger)| (*less as usize, *no_larger as usize)))
    }
}

/// Where they go.
pub(crate) trait Sink {
    /// Whether both counts are asked for, not only the rank.
    const BOTH: bool;

    /// Make room for so many values.
    ///
    /// # Errors
    ///
    /// If there is not enough memory.
    fn reserve(&mut self, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn take(&mut self, block: &NodeBlock<'_>, found: &Found<'_>);
}

impl<R: RankInt> Sink for TileRanks<R> {
    const BOTH: bool = false;

    fn reserve(&mut self, n: usize) -> Result<(), Error> {
        self.reserve(n)
    }

    #[inline(always)]
    fn take(&mut self, _: &NodeBlock<'_>, found: &Found<'_>) {
        self.extend(found.counts, found.ends);
    }
}

/// A visit to each value: the node, the image, and how many background values are less and how many no larger.
impl<F: FnMut(usize, usize, (usize, usize))> Sink for F {
    const BOTH: bool = true;

    #[inline(always)]
    fn take(&mut self, _: &NodeBlock<'_>, found: &Found<'_>) {
        for (image, values) in found.images().enumerate() {
            for (node, counts) in found.both(values) {
                self(node, image, counts);
            }
        }
    }
}

/// Puts values that may be tied in their bins.
pub(crate) struct Placed<'a, R> {
    ranks: &'a mut TileRanks<R>,
    bins: &'a Bins,
    breaker: &'a TieBreaker,
    /// The first of the images.
    start: usize,
    /// Whether an image that should be in the background is not.
    pub is_one_missing: bool,
    /// Bins of a group's values, and where those of each image end.
    found: Vec<u32>,
    ends: Vec<u32>,
}

impl<'a, R: RankInt> Placed<'a, R> {
    pub fn new(images: &Range<usize>, bins: &'a Bins, breaker: &'a TieBreaker, ranks: &'a mut TileRanks<R>) -> Self {
        let (found, ends) = (Vec::new(), Vec::new());
        Placed { ranks, bins, breaker, start: images.start, is_one_missing: false, found, ends }
    }
}

impl<R: RankInt> Sink for Placed<'_, R> {
    const BOTH: bool = true;

    fn reserve(&mut self, n: usize) -> Result<(), Error> {
        self.ranks.reserve(n)
    }

    #[inline(always)]
    fn take(&mut self, block: &NodeBlock<'_>, found: &Found<'_>) {
        let (n_bins, membership, tail) = (self.bins.n_bins(), self.bins.membership, block.tail);
        let is_member = membership != Membership::Outside;
        self.found.resize(found.counts.len(), 0);
        self.ends.clear();
        let mut n = 0;
        for (image, values) in found.images().enumerate() {
            // First all bins, which needs no branches, and then those that count.
            for ((node, (less, no_larger)), bin) in found.both(values.clone()).zip(&mut self.found[values.clone()]) {
                self.is_one_missing |= is_member && less >= no_larger;
                let range = membership.range(tail, block.shape.width, (less, no_larger));
                #[allow(clippy::cast_possible_truncation)] // no background has 2^31 images
                let narrow = self.breaker.position(range, self.start + image, node) as u32;
                *bin = narrow;
            }
            for place in values {
                let bin = self.found[place];
                self.found[n] = bin;
                n += usize::from((bin as usize) < n_bins);
            }
            #[allow(clippy::cast_possible_truncation)] // a group has fewer values
            self.ends.push(n as u32);
        }
        self.ranks.extend(&self.found[..n], &self.ends);
    }
}
