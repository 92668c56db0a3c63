//! Vectors that are as long as a line.

#[allow(clippy::wildcard_imports)] // forty intrinsics
use std::arch::x86_64::*;

use super::vector::Vector;
use crate::index::{Bucketings, LINE};

/// Used within `run_avx512` only.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512i);

impl Vector for Avx512 {
    #[inline(always)]
    fn load(line: &[u32; LINE]) -> Self {
        // SAFETY: within `run_avx512`; the pointer is to a whole line.
        Avx512(unsafe { _mm512_loadu_si512(line.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, line: &mut [u32; LINE]) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn splat(number: u32) -> Self {
        // SAFETY: within `run_avx512`, as all below.
        Avx512(unsafe { _mm512_set1_epi32(number.cast_signed()) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_min_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_max_epu32(self.0, other.0) })
    }

    #[inline(always)]
    fn less(self, other: Self) -> u32 {
        // SAFETY: as above.
        unsafe { _mm512_cmplt_epu32_mask(self.0, other.0).into() }
    }

    #[inline(always)]
    fn count_less_of_two(vectors: [Self; 2], key: Self) -> u32 {
        // SAFETY: as above.
        unsafe {
            let first = _mm512_cmplt_epu32_mask(vectors[0].0, key.0);
            let second = _mm512_cmplt_epu32_mask(vectors[1].0, key.0);
            _mm512_kunpackw(second.into(), first.into()).count_ones()
        }
    }

    #[inline(always)]
    fn exchanged<const APART: usize>(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // less than a line
            let others = _mm512_xor_si512(lanes, _mm512_set1_epi32(APART as i32));
            Avx512(_mm512_permutexvar_epi32(others, self.0))
        }
    }

    #[inline(always)]
    fn replaced(self, mask: u32, other: Self) -> Self {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_mask_mov_epi32(self.0, low(mask), other.0) })
    }

    #[inline(always)]
    fn compress(self, mask: u32, line: &mut [u32; LINE]) {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_maskz_compress_epi32(low(mask), self.0) }).store(line);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn keys(values: &[f32; LINE]) -> (Self, bool) {
        // SAFETY: as above; the pointer is to a whole line.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
            let bits = _mm512_castps_si512(_mm512_add_ps(values, _mm512_setzero_ps())); // -0.0 + 0.0 = 0.0
            let sign = _mm512_or_si512(_mm512_srai_epi32::<31>(bits), _mm512_set1_epi32(i32::MIN));
            (Avx512(_mm512_xor_si512(bits, sign)), nan != 0)
        }
    }

    #[inline(always)]
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>) -> Self {
        let Bucketings { centres, scales, lows, shifts, last } = *bucketings;
        let (centres, scales) = (Self::load(centres).0, Self::load(scales).0);
        let (lows, shifts) = (Self::load(lows).0, Self::load(shifts).0);
        // SAFETY: as above; the pointer is to a whole line.
        unsafe {
            let values = _mm512_sub_ps(_mm512_loadu_ps(values.as_ptr()), _mm512_castsi512_ps(centres));
            let sizes = _mm512_add_ps(_mm512_abs_ps(values), _mm512_castsi512_ps(scales));
            let sizes = _mm512_sub_epi32(_mm512_castps_si512(sizes), scales);
            let negative = _mm512_cmplt_epi32_mask(_mm512_castps_si512(values), _mm512_setzero_si512());
            let magnitudes = _mm512_mask_sub_epi32(sizes, negative, _mm512_setzero_si512(), sizes);
            let beyond = _mm512_sub_epi32(_mm512_max_epi32(magnitudes, lows), lows);
            Avx512(_mm512_srlv_epi32(beyond, shifts)).min(Self::splat(last))
        }
    }

    #[inline(always)]
    fn transpose(tile: &mut [[u32; LINE]; LINE]) {
        // Blocks of 1, 2, 4, 8 rows and columns change places across the diagonal.
        // SAFETY: as above.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); LINE];
            for (to, row) in rows.iter_mut().zip(&*tile) {
                *to = Self::load(row).0;
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
                Avx512(_mm512_shuffle_i32x4::<0x88>(low, low_2)).store(&mut tile[j]);
                Avx512(_mm512_shuffle_i32x4::<0xdd>(low, low_2)).store(&mut tile[4 + j]);
                Avx512(_mm512_shuffle_i32x4::<0x88>(high, high_2)).store(&mut tile[8 + j]);
                Avx512(_mm512_shuffle_i32x4::<0xdd>(high, high_2)).store(&mut tile[12 + j]);
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // a bit for each lane
#[inline(always)]
fn low(mask: u32) -> u16 {
    mask as u16
}
