//! Node values: the three float types, and the integer key of a single value. Blocks of keys are in `keys`.
//!
//! A background is stored as keys whose integer order is the order of the values, with one key for both zeros. Every
//! float type then takes the same path through sorting and searching, and half precision costs nothing extra.

use std::ops::Range;

use half::f16;
use ndarray::ArrayView2;
use rayon::prelude::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::Error;

/// A float type that node values may have.
pub trait Value: Copy + Default + Send + Sync + 'static {
    /// The unsigned integer of the same width whose order is that of the values.
    type Key: Copy + Ord + Default + Send + Sync + FromBytes + IntoBytes + Immutable + 'static;

    /// A key above that of every value.
    const LARGEST: Self::Key;

    /// The key of a value that is not NaN.
    fn key(self) -> Self::Key;
    /// The value of a key.
    fn from_key(key: Self::Key) -> Self;
    /// Whether this is NaN.
    fn is_nan(self) -> bool;
    /// The value, exactly.
    fn to_f64(self) -> f64;
    /// The key of the smallest value that is not less than `x`.
    fn key_at_least(x: f64) -> Self::Key;
    /// The key of the largest value that is not greater than `x`.
    fn key_at_most(x: f64) -> Self::Key;
    /// The values as they are, where they have this very type.
    fn direct<'a, 'b>(values: &'b Values<'a>) -> Option<&'b ArrayView2<'a, Self>>;
    /// The keys as those that vector instructions search, where they do: single precision.
    fn lanes(keys: &[Self::Key]) -> Option<&[u32]>;
    /// The same, to be written.
    fn lanes_mut(keys: &mut [Self::Key]) -> Option<&mut [u32]>;
    /// Values of this type as values of any.
    fn wrap(view: ArrayView2<'_, Self>) -> Values<'_>;
}

// The three types differ in their names alone.
macro_rules! value {
    ($float:ty, $key:ty, $variant:ident, $to_f64:expr, $from_f64:expr, $lanes:expr, $lanes_mut:expr) => {
        impl Value for $float {
            type Key = $key;
            const LARGEST: $key = <$key>::MAX;

            #[inline]
            fn key(self) -> $key {
                const SIGN: $key = 1 << (<$key>::BITS - 1);
                match self.to_bits() {
                    SIGN => SIGN, // -0.0 has the key of +0.0
                    bits if bits & SIGN == 0 => bits | SIGN,
                    bits => !bits,
                }
            }

            fn from_key(key: $key) -> Self {
                const SIGN: $key = 1 << (<$key>::BITS - 1);
                Self::from_bits(if key & SIGN == 0 { !key } else { key ^ SIGN })
            }

            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn to_f64(self) -> f64 {
                $to_f64(self)
            }

            fn key_at_least(x: f64) -> $key {
                let nearest: Self = $from_f64(x);
                nearest.key() + <$key>::from($to_f64(nearest) < x)
            }

            fn key_at_most(x: f64) -> $key {
                let nearest: Self = $from_f64(x);
                nearest.key() - <$key>::from($to_f64(nearest) > x)
            }

            fn direct<'a, 'b>(values: &'b Values<'a>) -> Option<&'b ArrayView2<'a, Self>> {
                if let Values::$variant(view) = values { Some(view) } else { None }
            }

            fn lanes(keys: &[$key]) -> Option<&[u32]> {
                $lanes(keys)
            }

            fn lanes_mut(keys: &mut [$key]) -> Option<&mut [u32]> {
                $lanes_mut(keys)
            }

            fn wrap(view: ArrayView2<'_, Self>) -> Values<'_> {
                Values::$variant(view)
            }
        }
    };
}

#[allow(clippy::cast_possible_truncation)] // rounds to the nearest, which is what is asked
fn to_f32(x: f64) -> f32 {
    x as f32
}
value!(f16, u16, F16, f16::to_f64, f16::from_f64, |_| None, |_| None);
value!(f32, u32, F32, f64::from, to_f32, Some, Some);
value!(f64, u64, F64, f64::from, f64::from, |_| None, |_| None);

/// Values that one thread scans in less than a millisecond.
const SMALL: usize = 1 << 16;

/// Node values of N images, one row an image, of any of the float types and with any strides.
#[derive(Debug, Clone)]
pub enum Values<'a> {
    /// Half precision.
    F16(ArrayView2<'a, f16>),
    /// Single precision.
    F32(ArrayView2<'a, f32>),
    /// Double precision.
    F64(ArrayView2<'a, f64>),
}

impl Values<'_> {
    /// Number of images and number of nodes.
    #[must_use]
    pub fn dim(&self) -> (usize, usize) {
        match self {
            Values::F16(view) => view.dim(),
            Values::F32(view) => view.dim(),
            Values::F64(view) => view.dim(),
        }
    }

    /// Whether a scan is done before other threads would have begun to help.
    #[must_use]
    pub fn is_small(&self) -> bool {
        let (n_images, n_nodes) = self.dim();
        n_images * n_nodes <= SMALL
    }

    /// Find something for each image, in tiles of at most so many: small work on this thread, other work on all.
    pub(crate) fn in_tiles<R: Send>(
        &self,
        most: usize,
        find: impl Fn(&Range<usize>) -> Result<Vec<R>, Error> + Sync,
    ) -> Result<Vec<R>, Error> {
        let n_images = self.dim().0;
        if self.is_small() {
            return find(&(0..n_images));
        }
        let size = n_images.div_ceil(rayon::current_num_threads()).clamp(1, most);
        let tiles = (0..n_images).into_par_iter().step_by(size);
        let found = tiles.map(|start| find(&(start..n_images.min(start + size)))).collect::<Result<Vec<_>, Error>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The error for values among which a NaN was met.
    pub(crate) fn not_a_number(&self) -> Error {
        match self {
            Values::F16(view) => not_a_number(view),
            Values::F32(view) => not_a_number(view),
            Values::F64(view) => not_a_number(view),
        }
    }
}

/// The error that counts the NaN of an array and names the first.
pub(crate) fn not_a_number<V: Value>(view: &ArrayView2<'_, V>) -> Error {
    let mut places = view.indexed_iter().filter(|(_, value)| value.is_nan()).map(|(place, _)| place).peekable();
    let (image, node) = places.peek().copied().unwrap_or_default();
    Error::NotANumber { count: places.count(), image, node }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_zeros_bear_one_key() {
        assert_eq!((-0.0_f32).key(), 0.0_f32.key());
        assert_eq!(f16::NEG_ZERO.key(), f16::ZERO.key());
        assert_eq!((-0.0_f64).key(), 0.0_f64.key());
    }

    #[test]
    fn every_half_precision_value_keeps_its_place() {
        let mut values: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|v| !v.is_nan()).collect();
        values.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
        assert!(values.windows(2).all(|pair| pair[0].key() <= pair[1].key()));
        assert!(values.iter().all(|v| f16::from_key(v.key()) == *v));
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_values(a in any::<f32>(), b in any::<f32>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(a.partial_cmp(&b), Some(a.key().cmp(&b.key())));
            prop_assert!(f32::from_key(a.key()) == a);
        }

        #[test]
        fn a_value_of_another_type_is_compared_exactly(x in any::<f64>(), z in any::<f32>()) {
            prop_assume!(!x.is_nan() && !z.is_nan());
            // Both near x and anywhere: rounding matters only in the first case.
            #[allow(clippy::cast_possible_truncation)]
            for z in [z, x as f32, (x as f32).next_up(), (x as f32).next_down()] {
                if !z.is_nan() {
                    prop_assert_eq!(f64::from(z) >= x, z.key() >= f32::key_at_least(x));
                    prop_assert_eq!(f64::from(z) <= x, z.key() <= f32::key_at_most(x));
                }
            }
        }
    }
}
