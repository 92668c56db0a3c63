//! Large arrays, or an error where there is no room for them: a failed allocation would end the process.

use std::ops::{Deref, DerefMut, Range};
use std::sync::{Mutex, OnceLock};

use ndarray::{Array, Dimension, Ix2};
use zerocopy::{FromBytes, Immutable};

use crate::error::Error;
use crate::map::MappedFile;

const CACHE_LINE: usize = 64;

/// Zeros in the given shape.
pub(crate) fn zeros<T: Copy + Default, D: Dimension>(shape: D) -> Result<Array<T, D>, Error> {
    let n_bytes = shape.slice().iter().try_fold(size_of::<T>(), |n, length| n.checked_mul(*length));
    let too_large = Error::Memory { shape: shape.slice().to_vec() };
    let n = match n_bytes {
        // Asking first is cheap: pages of a large block exist only once they are written.
        Some(n_bytes) if Vec::<u8>::new().try_reserve_exact(n_bytes).is_ok() => n_bytes / size_of::<T>(),
        _ => return Err(too_large),
    };
    Array::from_shape_vec(shape, vec![T::default(); n]).map_err(|_| too_large)
}

/// Zeros that begin with a cache line, so that a line of 16 values is one.
#[derive(Debug)]
pub(crate) struct AlignedVec<T> {
    start: usize,
    end: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> AlignedVec<T> {
    /// `n_rows` rows of `length` values.
    pub fn zeros(n_rows: usize, length: usize) -> Result<Self, Error> {
        let spare = CACHE_LINE / size_of::<T>();
        let too_large = Error::Memory { shape: vec![n_rows, length] };
        let n = n_rows.checked_mul(length).and_then(|n| n.checked_add(spare)).ok_or(too_large.clone())?;
        let values = zeros(Ix2(1, n)).map_err(|_| too_large)?.into_raw_vec_and_offset().0;
        let start = first_line(&values);
        Ok(AlignedVec { start, end: start + n - spare, values })
    }

    /// Keep the first `n` values.
    pub fn truncate(&mut self, n: usize) {
        self.values.truncate(self.start + n);
        self.values.resize(n + CACHE_LINE / size_of::<T>(), T::default());
        self.values.shrink_to_fit();
        let start = first_line(&self.values); // shrinking may have moved them
        self.values.copy_within(self.start..self.start + n, start);
        (self.start, self.end) = (start, start + n);
    }
}

/// Values that are only read: this process' own, or a part of a mapped file.
#[derive(Debug)]
pub(crate) enum Lines<T> {
    Own(AlignedVec<T>),
    Mapped { file: MappedFile, bytes: Range<usize> },
}

impl<T: FromBytes + Immutable> Lines<T> {
    /// `n` values, `start` bytes into a file; None where it is not so long, or they are not aligned there.
    pub fn mapped(file: &MappedFile, start: usize, n: usize) -> Option<Self> {
        let bytes = start..start.checked_add(n.checked_mul(size_of::<T>())?)?;
        <[T]>::ref_from_bytes(file.bytes().get(bytes.clone())?).ok()?;
        Some(Lines::Mapped { file: file.clone(), bytes })
    }
}

impl<T: FromBytes + Immutable> Deref for Lines<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Lines::Own(values) => values,
            // It was one when it was mapped.
            Lines::Mapped { file, bytes } => <[T]>::ref_from_bytes(&file.bytes()[bytes.clone()]).unwrap_or_default(),
        }
    }
}

/// Working memory, handed from one task to the next: the first write to new memory is slow.
pub(crate) struct Reused<T>(Mutex<Vec<T>>);

impl<T> Default for Reused<T> {
    fn default() -> Self {
        Reused(Mutex::default())
    }
}

impl<T> Reused<T> {
    pub fn take(&self) -> Option<T> {
        self.0.lock().ok().and_then(|mut used| used.pop())
    }

    pub fn give(&self, back: T) {
        if let Ok(mut used) = self.0.lock() {
            used.push(back);
        }
    }
}

/// What is made when it is first asked for, and kept.
///
/// No lock is held while it is made, so that a process that is forked meanwhile, by another thread, waits for nobody: at
/// times several threads make the same.
#[derive(Debug)]
pub(crate) struct First<T>(OnceLock<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        First(OnceLock::new())
    }
}

impl<T> First<T> {
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get().unwrap_or_else(|| {
            let made = make();
            self.0.get_or_init(|| made)
        })
    }
}

/// Where a cache line begins.
fn first_line<T>(values: &[T]) -> usize {
    values.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE / size_of::<T>())
}

impl<T> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..self.end]
    }
}

impl<T> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.end]
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Ix2, Ix3};

    use super::{AlignedVec, Lines, zeros};
    use crate::error::Error;
    use crate::map::tests::mapped;

    #[test]
    fn zeros_have_their_shape() {
        assert_eq!(zeros::<u32, _>(Ix2(2, 3)), Ok(ndarray::Array2::zeros((2, 3))));
        assert_eq!(zeros::<u32, _>(Ix2(0, 3)), Ok(ndarray::Array2::zeros((0, 3))));
    }

    #[test]
    fn lines_begin_with_a_cache_line() {
        for (n, kept) in [(1, 1), (16, 3), (100_000, 70), (3_000_000, 1_000_000)] {
            let mut lines = AlignedVec::<u16>::zeros(1, n).expect("small");
            lines[kept - 1] = 7;
            lines.truncate(kept);
            assert_eq!((lines.len(), lines[kept - 1], lines.as_ptr() as usize % 64), (kept, 7, 0));
        }
    }

    #[test]
    fn mapped_lines_are_the_values_of_the_file() {
        let values: Vec<u32> = (0..5000).map(|n| n * 77_777).collect();
        let content: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let file = mapped("lines", &content);
        let native = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        for (start, n) in [(0, 5000), (64, 4984), (64, 16), (20_000, 0), (4, 1)] {
            let lines = Lines::<u32>::mapped(&file, start, n).expect("within the file");
            let expected: Vec<u32> = content[start..start + 4 * n].chunks(4).map(native).collect();
            assert_eq!(*lines, *expected);
            assert_eq!(lines.as_ptr() as usize % 64, start % 64);
        }
        for (start, n) in
            [(0, 5001), (64, 4985), (20_000, 1), (2, 1), (20_001, 0), (usize::MAX, 1), (8, usize::MAX / 4)]
        {
            assert!(Lines::<u32>::mapped(&file, start, n).is_none(), "{start} {n}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(AlignedVec::<u32>::zeros(1 << 40, 1 << 40).is_err());
        for shape in [Ix3(1 << 30, 1 << 30, 2), Ix3(1 << 40, 1 << 20, 1)] {
            let error = Error::Memory { shape: vec![shape[0], shape[1], shape[2]] };
            assert_eq!(zeros::<f64, _>(shape), Err(error));
        }
    }
}
