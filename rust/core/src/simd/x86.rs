//! The instructions of x86-64, and the `unsafe` code of this crate but for the mode of arithmetic and the line that maps a
//! file.
#![allow(unsafe_code)]

#[allow(clippy::wildcard_imports)] // forty intrinsics
use std::arch::x86_64::*;

use super::lanes::{Kernel, Lanes, Plain, Queries};
use crate::index::{Bucketings, CountLess, LINE};

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

// With what a feature implies for the compiler, in full: `rustc --print cfg -C target-feature=+avx2` lists it. The plain
// loops are vectorised by the compiler, for these instructions.
instruction_set!(
    run_avx2,
    avx2_features,
    Plain,
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

/// Used within `run_avx512` only, which is what makes its instructions safe; a line is as long as a vector.
struct Avx512;

#[inline(always)]
fn load(line: &[u32; LINE]) -> __m512i {
    // SAFETY: within `run_avx512`; the pointer is to a whole line.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

#[inline(always)]
fn store(line: &mut [u32; LINE], vector: __m512i) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), vector) }
}

impl CountLess for Avx512 {
    #[inline(always)]
    fn count_less(line: &[u32; LINE], key: u32) -> usize {
        // SAFETY: within `run_avx512`.
        unsafe { _mm512_cmplt_epu32_mask(load(line), _mm512_set1_epi32(key.cast_signed())).count_ones() as usize }
    }

    #[inline(always)]
    fn count_less_of_two(lines: &[[u32; LINE]; 2], key: u32) -> usize {
        // SAFETY: within `run_avx512`.
        unsafe {
            let key = _mm512_set1_epi32(key.cast_signed());
            let less = lines.each_ref().map(|line| _mm512_cmplt_epu32_mask(load(line), key));
            _mm512_kunpackw(less[1].into(), less[0].into()).count_ones() as usize
        }
    }
}

/// A bitonic network (Batcher 1968): runs of sorted keys, alternately ascending and descending, become runs of twice the
/// length by exchanges of keys that are nearer to each other from step to step.
macro_rules! network {
    ($vectors:expr, $($run:literal: $($apart:literal),+);+) => {
        $(if $run <= LINES * LINE { $(exchange::<LINES, $run, $apart>(&mut $vectors);)+ })+
    };
}

/// Order all pairs of keys that are `APART` from each other, in runs of `RUN` keys.
#[inline(always)]
fn exchange<const LINES: usize, const RUN: usize, const APART: usize>(vectors: &mut [__m512i; LINES]) {
    // SAFETY: within `run_avx512`.
    unsafe {
        if APART >= LINE {
            for n in 0..LINES {
                let other = n + APART / LINE;
                if n & (APART / LINE) == 0 {
                    let (a, b) = (vectors[n], vectors[other]);
                    let (least, most) = (_mm512_min_epu32(a, b), _mm512_max_epu32(a, b));
                    (vectors[n], vectors[other]) = if (n * LINE) & RUN == 0 { (least, most) } else { (most, least) };
                }
            }
            return;
        }
        let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // less than a line
        let others = _mm512_xor_si512(lanes, _mm512_set1_epi32(APART as i32));
        for (n, vector) in vectors.iter_mut().enumerate() {
            let larger =
                if (n * LINE) & RUN == 0 { const { larger(RUN, APART) } } else { const { !larger(RUN, APART) } };
            let other = _mm512_permutexvar_epi32(others, *vector);
            let least = _mm512_min_epu32(*vector, other);
            *vector = _mm512_mask_max_epu32(least, larger, *vector, other);
        }
    }
}

/// Which lanes of an ascending line take the larger key.
const fn larger(run: usize, apart: usize) -> u16 {
    let (mut larger, mut lane) = (0, 0);
    while lane < LINE {
        larger |= (((lane & apart == 0) != (lane & run == 0)) as u16) << lane;
        lane += 1;
    }
    larger
}

impl Lanes for Avx512 {
    const HAS_NETWORKS: bool = true;

    #[inline(always)]
    fn sort<const LINES: usize>(lines: &mut [[u32; LINE]; LINES]) {
        let mut vectors = [load(&[0; LINE]); LINES];
        vectors.iter_mut().zip(&*lines).for_each(|(to, line)| *to = load(line));
        network!(vectors, 2: 1; 4: 2, 1; 8: 4, 2, 1; 16: 8, 4, 2, 1; 32: 16, 8, 4, 2, 1;
            64: 32, 16, 8, 4, 2, 1; 128: 64, 32, 16, 8, 4, 2, 1);
        lines.iter_mut().zip(vectors).for_each(|(line, vector)| store(line, vector));
    }

    #[inline(always)]
    fn split(line: &[u32; LINE], pivot: u32, below: &mut [u32; LINE], others: &mut [u32; LINE]) -> usize {
        let keys = load(line);
        // SAFETY: within `run_avx512`.
        unsafe {
            let less = _mm512_cmplt_epu32_mask(keys, _mm512_set1_epi32(pivot.cast_signed()));
            store(below, _mm512_maskz_compress_epi32(less, keys));
            store(others, _mm512_maskz_compress_epi32(!less, keys));
            less.count_ones() as usize
        }
    }

    #[inline(always)]
    fn keys(values: &[f32; LINE], keys: &mut [u32; LINE]) -> bool {
        // SAFETY: within `run_avx512`; the pointer is to a whole line.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
            let bits = _mm512_castps_si512(_mm512_add_ps(values, _mm512_setzero_ps())); // -0.0 + 0.0 = 0.0
            let sign = _mm512_or_si512(_mm512_srai_epi32::<31>(bits), _mm512_set1_epi32(i32::MIN));
            store(keys, _mm512_xor_si512(bits, sign));
            nan != 0
        }
    }

    #[inline(always)]
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>, bases: &[u32; LINE], places: &mut [u32; LINE]) {
        let Bucketings { centres, scales, lows, shifts, last } = *bucketings;
        // SAFETY: within `run_avx512`; the pointers are to whole lines.
        unsafe {
            let values = _mm512_sub_ps(_mm512_loadu_ps(values.as_ptr()), _mm512_castsi512_ps(load(centres)));
            let (scales, lows, shifts) = (load(scales), load(lows), load(shifts));
            let sizes = _mm512_add_ps(_mm512_abs_ps(values), _mm512_castsi512_ps(scales));
            let sizes = _mm512_sub_epi32(_mm512_castps_si512(sizes), scales);
            let negative = _mm512_cmplt_epi32_mask(_mm512_castps_si512(values), _mm512_setzero_si512());
            let magnitudes = _mm512_mask_sub_epi32(sizes, negative, _mm512_setzero_si512(), sizes);
            let beyond = _mm512_sub_epi32(_mm512_max_epi32(magnitudes, lows), lows);
            let found = _mm512_min_epu32(_mm512_srlv_epi32(beyond, shifts), _mm512_set1_epi32(last.cast_signed()));
            store(places, _mm512_add_epi32(load(bases), found));
        }
    }

    #[inline(always)]
    fn transpose(tile: &mut [[u32; LINE]; LINE]) {
        // Blocks of 1, 2, 4, 8 rows and columns change places across the diagonal.
        // SAFETY: within `run_avx512`.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); LINE];
            for (to, row) in rows.iter_mut().zip(&*tile) {
                *to = load(row);
            }
            for n in (0..LINE).step_by(2) {
                let (a, b) = (rows[n], rows[n + 1]);
                rows[n] = _mm512_unpacklo_epi32(a, b);
                rows[n + 1] = _mm512_unpackhi_epi32(a, b);
            }
            for n in (0..LINE).step_by(4) {
                let [a, b, c, d] = [rows[n], rows[n + 1], rows[n + 2], rows[n + 3]];
                rows[n] = _mm512_unpacklo_epi64(a, c);
                rows[n + 1] = _mm512_unpackhi_epi64(a, c);
                rows[n + 2] = _mm512_unpacklo_epi64(b, d);
                rows[n + 3] = _mm512_unpackhi_epi64(b, d);
            }
            // rows[4 i + j] has in its k-th quarter column 4 k + j of rows 4 i to 4 i + 3.
            for j in 0..4 {
                let [a, b, c, d] = [rows[j], rows[4 + j], rows[8 + j], rows[12 + j]];
                let low = _mm512_shuffle_i32x4::<0x44>(a, b);
                let high = _mm512_shuffle_i32x4::<0xee>(a, b);
                let low_2 = _mm512_shuffle_i32x4::<0x44>(c, d);
                let high_2 = _mm512_shuffle_i32x4::<0xee>(c, d);
                store(&mut tile[j], _mm512_shuffle_i32x4::<0x88>(low, low_2));
                store(&mut tile[4 + j], _mm512_shuffle_i32x4::<0xdd>(low, low_2));
                store(&mut tile[8 + j], _mm512_shuffle_i32x4::<0x88>(high, high_2));
                store(&mut tile[12 + j], _mm512_shuffle_i32x4::<0xdd>(high, high_2));
            }
        }
    }

    #[inline(always)]
    fn select(
        keys: &[u32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        from: &[u32; LINE],
        queries: &mut Queries,
    ) {
        let (Some(places), Some(to)) = (
            queries.places[queries.n..].first_chunk_mut::<LINE>(),
            queries.keys[queries.n..].first_chunk_mut::<LINE>(),
        ) else {
            return; // never: there is room for a line more
        };
        let keys = load(keys);
        // SAFETY: within `run_avx512`.
        unsafe {
            let extreme = _mm512_cmpgt_epu32_mask(keys, load(above)) | _mm512_cmplt_epu32_mask(keys, load(below));
            #[allow(clippy::cast_possible_truncation)] // a bit for each lane
            let extreme = extreme & mask as u16;
            store(places, _mm512_maskz_compress_epi32(extreme, load(from)));
            store(to, _mm512_maskz_compress_epi32(extreme, keys));
            queries.n += extreme.count_ones() as usize;
        }
    }
}
