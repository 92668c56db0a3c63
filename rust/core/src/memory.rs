//! Large arrays, or an error where there is no room for them: a failed allocation would end the process.

use ndarray::{Array, Dimension};

use crate::Error;

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

#[cfg(test)]
mod tests {
    use ndarray::{Ix2, Ix3};

    use super::zeros;
    use crate::Error;

    #[test]
    fn zeros_have_their_shape() {
        assert_eq!(zeros::<u32, _>(Ix2(2, 3)), Ok(ndarray::Array2::zeros((2, 3))));
        assert_eq!(zeros::<u32, _>(Ix2(0, 3)), Ok(ndarray::Array2::zeros((0, 3))));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for shape in [Ix3(1 << 30, 1 << 30, 2), Ix3(1 << 40, 1 << 20, 1)] {
            let error = Error::Memory { shape: vec![shape[0], shape[1], shape[2]] };
            assert_eq!(zeros::<f64, _>(shape), Err(error));
        }
    }
}
