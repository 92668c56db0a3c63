//! A background whose index lies in a mapped file: nothing is read before it is looked at, and processes share it.
//!
//! Behind a head, which is not read here, lie the columns and the table that finds their lines, as they are in memory.
//! That they are those which were written is checked before the first look. What passes for them may be of anybody's
//! making: searches take any keys in any order, and then find some ranks, but never leave their arrays.

use rayon::prelude::*;
use twox_hash::{XxHash3_64, XxHash3_128};
use zerocopy::IntoBytes;

use crate::background::{Background, Keep, check_shape};
use crate::error::Error;
use crate::index::Shape;
use crate::interrupt::Interrupt;
use crate::map::{MappedFile, Seal};
use crate::memory::Lines;
use crate::value::Value;

/// Bytes that are hashed, or written, at a time.
const PART: usize = 1 << 20;

impl<V: Value> Background<V> {
    /// How many keys and how many entries of the table there are of each node in a file.
    ///
    /// # Errors
    ///
    /// If there is no such background.
    pub fn index_shape(n_samples: usize, keep: Keep) -> Result<(usize, usize), Error> {
        let shape = shape_of(n_samples, keep)?;
        Ok((shape.stride, Self::n_table(shape)))
    }

    /// The bytes of an index file behind its head, in parts.
    pub fn index_parts(&self) -> impl Iterator<Item = &[u8]> {
        let (columns, table) = self.index();
        columns.as_bytes().chunks(PART).chain(table.as_bytes().chunks(PART))
    }

    /// The XXH3 of these bytes: of 128 bits, over those of 64 bits of each part.
    ///
    /// # Errors
    ///
    /// If the background lies in a file that has another one.
    pub fn checksum(&self, interrupt: &Interrupt) -> Result<String, Error> {
        let (columns, table) = self.index();
        let parts = columns.as_bytes().par_chunks(PART).chain(table.as_bytes().par_chunks(PART));
        let of_part = |part: &[u8]| interrupt.check().map(|()| XxHash3_64::oneshot(part).to_le_bytes());
        let of_parts = parts.map(of_part).collect::<Result<Vec<_>, Error>>()?;
        let checksum = format!("{:032x}", XxHash3_128::oneshot(of_parts.as_flattened()));
        match self.seal() {
            Some(seal) if seal.checksum != checksum => Err(Error::Damaged(seal.name.clone())),
            _ => Ok(checksum),
        }
    }

    /// Take up an index that begins `start` bytes into a file. Without a seal the file is trusted.
    ///
    /// # Errors
    ///
    /// If there is no such background, or the file is shorter than its index.
    pub fn mapped(
        file: &MappedFile,
        start: usize,
        (n_samples, n_nodes): (usize, usize),
        keep: Keep,
        seal: Option<Seal>,
    ) -> Result<Self, Error> {
        check_shape(n_samples, n_nodes)?;
        let shape = shape_of(n_samples, keep)?;
        let lines = || {
            let n_keys = n_nodes.checked_mul(shape.stride)?;
            let columns = Lines::mapped(file, start, n_keys)?;
            let end = start.checked_add(size_of_val(&*columns))?;
            Some((columns, Lines::mapped(file, end, n_nodes.checked_mul(Self::n_table(shape))?)?))
        };
        let (columns, table) = lines().ok_or_else(|| {
            let length = file.bytes().len();
            Error::Columns(format!("{length} bytes, {start} of them before the index of {n_nodes} nodes"))
        })?;
        Background::of_index(n_samples, n_nodes, keep, shape, columns, table, seal)
    }

    /// Whether nothing remains to be checked.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.seal().is_none_or(|seal| seal.is_intact.get().is_some())
    }

    /// Refuse the content of a damaged file. Read once; threads that ask meanwhile read it as well.
    pub(crate) fn check_content(&self, interrupt: &Interrupt) -> Result<(), Error> {
        let Some(seal) = self.seal() else { return Ok(()) };
        if seal.is_intact.get().is_none() {
            let is_intact = match self.checksum(interrupt) {
                Err(Error::Damaged(_)) => false,
                checksum => checksum.map(|_| true)?,
            };
            let _ = seal.is_intact.set(is_intact); // another thread may have been quicker
        }
        match seal.is_intact.get() {
            Some(false) => Err(Error::Damaged(seal.name.clone())),
            _ => Ok(()),
        }
    }
}

fn shape_of(n_samples: usize, keep: Keep) -> Result<Shape, Error> {
    check_shape(n_samples, 1)?;
    let (low, high) = keep.extent(n_samples)?;
    Ok(Shape::new((low + high).min(n_samples)))
}
