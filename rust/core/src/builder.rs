//! A background that is under way: images come in batches, or in parts that are merged.
//!
//! A compact background needs the most extreme values of each node alone. Memory for these and a quarter more is made:
//! where it is full, what can no longer be kept is dropped, and from then on a value is taken only if it lies beyond those
//! that are held. So the peak is 1.25 times what is kept, however many images come.

use ndarray::{Array2, ArrayView2, Axis, Ix2};
use rayon::prelude::*;

use crate::background::{Background, Keep, check_shape, keep_sorted};
use crate::error::Error;
use crate::index::{LINE, NODE_BLOCK, Shape};
use crate::interrupt::Interrupt;
use crate::keys::KeyBlock;
use crate::memory::{AlignedVec, Reused, zeros};
use crate::value::{Value, not_a_number};

const IMAGE_BLOCK: usize = 256;
/// A node's room for values beyond those that are kept: this part of them, and at least so many.
const SPARE: (usize, usize) = (4, 64);

/// A background that is under way: images come in batches, sorting comes last.
#[derive(Debug)]
pub struct BackgroundBuilder<V: Value> {
    n_samples: usize,
    n_nodes: usize,
    keep: Keep,
    n_pushed: usize,
    ends: Ends,
    /// Node after node, in whole lines: the keys that are held. Once more than the capacity have come, the first are the
    /// smallest and the largest of all up to some image, ascending.
    columns: AlignedVec<V::Key>,
    /// How many keys of each node are held.
    n_held: Vec<usize>,
    /// Whether no push or merge was broken off.
    is_whole: bool,
}

/// How many keys of a node matter, and how many are held at most.
#[derive(Debug, Clone, Copy)]
struct Ends {
    low: usize,
    high: usize,
    capacity: usize,
}

impl<V: Value> BackgroundBuilder<V> {
    /// Make room for what is kept of `n_samples` images of `n_nodes` nodes.
    ///
    /// # Errors
    ///
    /// If either is 0, or there is not enough memory for them.
    pub fn new(n_samples: usize, n_nodes: usize, keep: Keep) -> Result<Self, Error> {
        check_shape(n_samples, n_nodes)?;
        let (low, high) = keep.extent(n_samples)?;
        let kept = low.saturating_add(high).min(n_samples);
        let capacity = n_samples.min((kept + SPARE.1.max(kept / SPARE.0)).next_multiple_of(LINE));
        let columns = AlignedVec::zeros(n_nodes, capacity.next_multiple_of(LINE))?;
        let n_held = zeros(Ix2(1, n_nodes))?.into_raw_vec_and_offset().0;
        let ends = Ends { low, high, capacity };
        Ok(BackgroundBuilder { n_samples, n_nodes, keep, n_pushed: 0, ends, columns, n_held, is_whole: true })
    }

    /// Take up what [`BackgroundBuilder::held`] gave, one row a node.
    ///
    /// # Errors
    ///
    /// As for [`BackgroundBuilder::new`], and if `n_pushed` images cannot have left that.
    pub fn from_held(
        n_samples: usize,
        n_pushed: usize,
        keep: Keep,
        held: &ArrayView2<'_, V>,
        interrupt: &Interrupt,
    ) -> Result<Self, Error> {
        let (n_nodes, width) = held.dim();
        let mut builder = BackgroundBuilder::new(n_samples, n_nodes, keep)?;
        let Ends { low, high, capacity } = builder.ends;
        let expected = if n_pushed > capacity { low + high } else { n_pushed };
        if n_pushed > n_samples || width != expected {
            let received = format!("{width} values a node of {n_pushed} inputs out of {n_samples}");
            return Err(Error::Columns(received));
        }
        builder.push(&held.t(), interrupt)?;
        if n_pushed > capacity {
            // As after a merge: these are the ends of more images than there are keys.
            builder.compact(interrupt)?;
        }
        builder.n_pushed = n_pushed;
        Ok(builder)
    }

    /// Number of images that have come.
    #[must_use]
    pub fn n_pushed(&self) -> usize {
        self.n_pushed
    }

    /// Number of nodes, J.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        self.n_nodes
    }

    /// Bytes of the keys that there is room for.
    #[must_use]
    pub fn nbytes(&self) -> usize {
        size_of_val(&*self.columns) + size_of_val(&*self.n_held)
    }

    /// Add images, one row each. After an error none of them counts.
    ///
    /// # Errors
    ///
    /// If the number of nodes is another, more images come than were announced, or a value is NaN. After
    /// [`Error::Interrupted`] the builder is of no more use.
    pub fn push(&mut self, values: &ArrayView2<'_, V>, interrupt: &Interrupt) -> Result<(), Error> {
        let (n_images, received) = values.dim();
        if received != self.n_nodes {
            return Err(Error::Nodes { expected: self.n_nodes, received });
        }
        let start = self.check_more(n_images)?;
        let n_chunk = 1 + (1 << 16) / self.n_nodes;
        if values.axis_chunks_iter(Axis(0), n_chunk).into_par_iter().any(|rows| rows.iter().any(|x| x.is_nan())) {
            return Err(match not_a_number(values) {
                Error::NotANumber { count, image, node } => Error::NotANumber { count, image: start + image, node },
                other => other,
            });
        }
        let values = V::wrap(values.view());
        let (ends, stride, n_nodes) = (self.ends, self.stride(), self.n_nodes);
        let rooms = Reused::default();
        let new_room = || Ok((KeyBlock::<V>::new(n_images.min(IMAGE_BLOCK), NODE_BLOCK.min(n_nodes))?, Vec::new()));
        self.is_whole = false;
        let columns = self.columns.par_chunks_mut(NODE_BLOCK * stride);
        columns.zip(self.n_held.par_chunks_mut(NODE_BLOCK)).enumerate().try_for_each(
            |(n_block, (columns, n_held))| {
                let (mut block, mut scratch) = rooms.take().map_or_else(new_room, Ok)?;
                let first = n_block * NODE_BLOCK;
                let nodes = first..first + n_held.len();
                for row in (0..n_images).step_by(IMAGE_BLOCK) {
                    interrupt.check()?;
                    block.fill(&values, &(row..n_images.min(row + IMAGE_BLOCK)), &nodes)?;
                    for (n, (column, n_held)) in columns.chunks_exact_mut(stride).zip(&mut *n_held).enumerate() {
                        ends.take::<V>(column, n_held, start + row, block.at_least(n), &mut scratch)?;
                    }
                }
                rooms.give((block, scratch));
                Ok(())
            },
        )?;
        (self.is_whole, self.n_pushed) = (true, start + n_images);
        Ok(())
    }

    /// Add the images of another builder, which was announced as many and keeps the same. The order does not matter.
    ///
    /// # Errors
    ///
    /// If the two differ, or more images come than were announced. After [`Error::Interrupted`] the builder is of no more
    /// use.
    pub fn merge(&mut self, other: &Self, interrupt: &Interrupt) -> Result<(), Error> {
        if other.n_nodes != self.n_nodes {
            return Err(Error::Nodes { expected: self.n_nodes, received: other.n_nodes });
        }
        if (other.n_samples, other.keep) != (self.n_samples, self.keep) {
            return Err(Error::Parts { expected: self.n_samples, received: other.n_samples });
        }
        other.check_whole()?;
        let start = self.check_more(other.n_pushed)?;
        let (stride, total) = (self.stride(), start + other.n_pushed);
        self.is_whole = false;
        let own = self.columns.par_chunks_mut(stride).zip(&mut self.n_held);
        let others = other.columns.par_chunks(stride).zip(&other.n_held);
        let ends = self.ends;
        own.zip(others).try_for_each_init(Vec::new, |scratch, ((column, n_held), (keys, n_keys))| {
            interrupt.check()?;
            ends.take::<V>(column, n_held, start, &keys[..*n_keys], scratch)?;
            // The other has dropped keys, so that those it held may fit in here although more images have come.
            if total > ends.capacity { ends.compact::<V>(column, n_held, scratch) } else { Ok(()) }
        })?;
        (self.is_whole, self.n_pushed) = (true, total);
        Ok(())
    }

    /// What is held, one row a node, for [`BackgroundBuilder::from_held`].
    ///
    /// # Errors
    ///
    /// If there is not enough memory for it.
    pub fn held(&self, interrupt: &Interrupt) -> Result<Array2<V>, Error> {
        self.check_whole()?;
        let (ends, n_pushed) = (self.ends, self.n_pushed);
        let width = if n_pushed > ends.capacity { ends.low + ends.high } else { n_pushed };
        let mut held = zeros(Ix2(self.n_nodes, width))?;
        let columns = self.columns.chunks_exact(self.stride()).zip(&self.n_held);
        let (mut room, mut scratch) = (Vec::new(), Vec::new());
        for (mut values, (column, n_held)) in held.outer_iter_mut().zip(columns) {
            interrupt.check()?;
            let mut n_held = *n_held;
            room.clear();
            room.extend_from_slice(&column[..n_held]);
            if n_held > width {
                ends.compact::<V>(&mut room, &mut n_held, &mut scratch)?;
            }
            values.iter_mut().zip(&room).for_each(|(value, key)| *value = V::from_key(*key));
        }
        Ok(held)
    }

    /// Sort what has come.
    ///
    /// # Errors
    ///
    /// If fewer images came than were announced.
    pub fn finish(mut self, interrupt: &Interrupt) -> Result<Background<V>, Error> {
        self.check_whole()?;
        if self.n_pushed != self.n_samples {
            return Err(Error::Images { expected: self.n_samples, received: self.n_pushed });
        }
        self.compact(interrupt)?;
        let whole = self.stride();
        let BackgroundBuilder { n_samples, n_nodes, keep, ends, mut columns, .. } = self;
        let shape = Shape::new((ends.low + ends.high).min(n_samples));
        if shape.stride < whole {
            for node in 1..n_nodes {
                interrupt.check()?;
                columns.copy_within(node * whole..node * whole + shape.width, node * shape.stride);
            }
            columns.truncate(n_nodes * shape.stride);
        }
        Background::of_sorted(n_samples, n_nodes, keep, shape, columns, interrupt)
    }

    /// Sort what has come, whatever was announced.
    ///
    /// # Errors
    ///
    /// If nothing has come.
    pub fn finish_early(mut self, interrupt: &Interrupt) -> Result<Background<V>, Error> {
        check_shape(self.n_pushed, self.n_nodes)?;
        self.n_samples = self.n_pushed;
        // Of fewer images fewer are kept, so that these are held.
        (self.ends.low, self.ends.high) = self.keep.extent(self.n_samples)?;
        self.finish(interrupt)
    }

    fn stride(&self) -> usize {
        self.ends.capacity.next_multiple_of(LINE)
    }

    fn check_whole(&self) -> Result<(), Error> {
        if self.is_whole { Ok(()) } else { Err(Error::BrokenOff) }
    }

    /// Refuse more images than were announced; how many have come.
    fn check_more(&self, n_images: usize) -> Result<usize, Error> {
        self.check_whole()?;
        let received = self.n_pushed.saturating_add(n_images);
        if received > self.n_samples {
            return Err(Error::Images { expected: self.n_samples, received });
        }
        Ok(self.n_pushed)
    }

    /// Drop what can no longer be kept, and sort the rest.
    fn compact(&mut self, interrupt: &Interrupt) -> Result<(), Error> {
        let (ends, stride) = (self.ends, self.stride());
        let columns = self.columns.par_chunks_mut(stride).zip(&mut self.n_held);
        columns.try_for_each_init(Vec::new, |scratch, (column, n_held)| {
            interrupt.check()?;
            ends.compact::<V>(column, n_held, scratch)
        })
    }
}

impl Ends {
    /// Add a node's keys to those that are held; `n_seen` have come before.
    fn take<V: Value>(
        self,
        column: &mut [V::Key],
        n_held: &mut usize,
        n_seen: usize,
        keys: &[V::Key],
        scratch: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let mut rest = keys;
        if n_seen <= self.capacity {
            let (first, beyond) = keys.split_at(keys.len().min(self.capacity - *n_held));
            column[*n_held..*n_held + first.len()].copy_from_slice(first);
            *n_held += first.len();
            if beyond.is_empty() {
                return Ok(());
            }
            self.compact::<V>(column, n_held, scratch)?;
            rest = beyond;
        }
        let mut inner = self.inner::<V>(column);
        for keys in rest.chunks(LINE) {
            // Most lines hold nothing of interest, which vector instructions find out.
            if keys.iter().map(|key| u32::from(*key < inner.0) + u32::from(*key > inner.1)).sum::<u32>() == 0 {
                continue;
            }
            for key in keys {
                if *key < inner.0 || *key > inner.1 {
                    if *n_held == self.capacity {
                        self.compact::<V>(column, n_held, scratch)?;
                        inner = self.inner::<V>(column);
                    }
                    column[*n_held] = *key;
                    *n_held += 1;
                }
            }
        }
        Ok(())
    }

    /// The largest of the small keys that are kept, and the smallest of the large ones: what lies between is dropped.
    fn inner<V: Value>(self, column: &[V::Key]) -> (V::Key, V::Key) {
        let below = if self.low > 0 { column[self.low - 1] } else { V::Key::default() };
        let above = if self.high > 0 { column[self.low] } else { V::LARGEST };
        (below, above)
    }

    /// Sort what matters of a node's keys to the front, and drop the others.
    fn compact<V: Value>(self, column: &mut [V::Key], n_held: &mut usize, scratch: &mut Vec<u32>) -> Result<(), Error> {
        let Ends { low, high, .. } = self;
        let n = *n_held;
        keep_sorted::<V>(&mut column[..n], (low.min(n), high.min(n)), scratch)?;
        if low + high < n {
            column.copy_within(n - high..n, low);
            *n_held = low + high;
        }
        Ok(())
    }
}
