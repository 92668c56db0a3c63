//! The instructions of x86-64, and the `unsafe` code of this crate but for the mode of arithmetic and the line that maps a
//! file.
#![allow(unsafe_code)]

mod avx2;
mod avx512;
mod vector;

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use self::avx2::Avx2;
use self::avx512::Avx512;
use super::lanes::Kernel;

/// A function that runs a kernel with some features enabled, and one that says which of the very same this processor
/// has: a virtual machine may hide any of them.
macro_rules! instruction_set {
    ($run:ident, $features:ident, $lanes:ty, [$($feature:tt),+]) => {
        pub fn $run<K: Kernel>(kernel: K) -> K::Output {
            #[target_feature($(enable = $feature),+)]
            fn run<K: Kernel>(kernel: K) -> K::Output {
                kernel.run::<$lanes>()
            }
            // SAFETY: an instruction set is chosen only where `is_available` has seen all of its features.
            unsafe { run(kernel) }
        }

        pub fn $features() -> impl Iterator<Item = (&'static str, bool)> {
            [$(($feature, is_x86_feature_detected!($feature))),+].into_iter()
        }
    };
}

// With what a feature implies for the compiler, in full: `rustc --print cfg -C target-feature=+avx2` lists it.
instruction_set!(
    run_avx2,
    avx2_features,
    Avx2,
    ["sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "popcnt", "bmi1", "bmi2"]
);
instruction_set!(
    run_avx512,
    avx512_features,
    Avx512,
    [
        "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "popcnt", "bmi1", "bmi2", "fma", "f16c", "avx512f",
        "avx512bw", "avx512vl"
    ]
);

#[inline]
pub fn prefetch<T>(values: &[T]) {
    for line in values.chunks((64 / size_of::<T>()).max(1)) {
        // SAFETY: a prefetch reads nothing that is seen, and the address is one of the slice's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}
