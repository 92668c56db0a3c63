//! Vectors that are as long as half a line, two by two.

#[allow(clippy::wildcard_imports)] // forty intrinsics
use std::arch::x86_64::*;

use super::vector::Vector;
use crate::index::{Bucketings, LINE};

const HALF: usize = LINE / 2;

/// Used within `run_avx2` only.
#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256i; 2]);

/// For each choice of the lanes of half a line, first which these are.
#[allow(clippy::cast_possible_truncation)] // less than a line
static CHOSEN: [[u8; HALF]; 1 << HALF] = {
    let mut chosen = [[0; HALF]; 1 << HALF];
    let mut mask = 0;
    while mask < 1 << HALF {
        let (mut n, mut lane) = (0, 0);
        while lane < HALF {
            if mask >> lane & 1 == 1 {
                chosen[mask][n] = lane as u8;
                n += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    chosen
};

/// The same with both halves.
macro_rules! both {
    ($function:expr, $($lines:expr),+) => {
        [$function($($lines[0]),+), $function($($lines[1]),+)]
    };
}

/// Half a line.
#[inline(always)]
fn load(half: &[u32; HALF]) -> __m256i {
    // SAFETY: within `run_avx2`; the pointer is to eight keys.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[inline(always)]
fn store(half: &mut [u32; HALF], vector: __m256i) {
    // SAFETY: as above.
    unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), vector) }
}

/// Values, as bits.
#[inline(always)]
fn load_values(values: &[f32; LINE]) -> [__m256i; 2] {
    let (halves, _) = values.as_chunks::<HALF>();
    // SAFETY: as above.
    unsafe { [_mm256_loadu_si256(halves[0].as_ptr().cast()), _mm256_loadu_si256(halves[1].as_ptr().cast())] }
}

/// Where keys are at least others.
#[inline(always)]
unsafe fn at_least(keys: __m256i, others: __m256i) -> __m256i {
    // SAFETY: within `run_avx2`, as all below.
    unsafe { _mm256_cmpeq_epi32(_mm256_max_epu32(keys, others), keys) }
}

/// Half a line, the lanes that have bits first.
#[inline(always)]
fn compressed(half: __m256i, mask: usize) -> __m256i {
    // SAFETY: as above; the pointer is to eight bytes.
    unsafe {
        let lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(CHOSEN[mask].as_ptr().cast()));
        _mm256_permutevar8x32_epi32(half, lanes)
    }
}

#[inline(always)]
unsafe fn key(bits: __m256i) -> __m256i {
    // SAFETY: as above.
    unsafe {
        let bits = _mm256_add_ps(_mm256_castsi256_ps(bits), _mm256_setzero_ps()); // -0.0 + 0.0 = 0.0
        let bits = _mm256_castps_si256(bits);
        let sign = _mm256_or_si256(_mm256_srai_epi32::<31>(bits), _mm256_set1_epi32(i32::MIN));
        _mm256_xor_si256(bits, sign)
    }
}

/// A value's bucket, but for the last one's limit.
#[inline(always)]
unsafe fn bucket(value: __m256i, centre: __m256i, scale: __m256i, low: __m256i, shift: __m256i) -> __m256i {
    // SAFETY: as above.
    unsafe {
        let value = _mm256_sub_ps(_mm256_castsi256_ps(value), _mm256_castsi256_ps(centre));
        let size = _mm256_andnot_ps(_mm256_set1_ps(-0.0), value);
        let size = _mm256_castps_si256(_mm256_add_ps(size, _mm256_castsi256_ps(scale)));
        let size = _mm256_sub_epi32(size, scale);
        let sign = _mm256_srai_epi32::<31>(_mm256_castps_si256(value));
        let magnitude = _mm256_sub_epi32(_mm256_xor_si256(size, sign), sign);
        _mm256_srlv_epi32(_mm256_sub_epi32(_mm256_max_epi32(magnitude, low), low), shift)
    }
}

impl Vector for Avx2 {
    #[inline(always)]
    fn load(line: &[u32; LINE]) -> Self {
        let (halves, _) = line.as_chunks();
        Avx2([load(&halves[0]), load(&halves[1])])
    }

    #[inline(always)]
    fn store(self, line: &mut [u32; LINE]) {
        let (halves, _) = line.as_chunks_mut();
        store(&mut halves[0], self.0[0]);
        store(&mut halves[1], self.0[1]);
    }

    #[inline(always)]
    fn splat(number: u32) -> Self {
        // SAFETY: as above.
        Avx2([unsafe { _mm256_set1_epi32(number.cast_signed()) }; 2])
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx2(unsafe { both!(_mm256_min_epu32, self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx2(unsafe { both!(_mm256_max_epu32, self.0, other.0) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx2(unsafe { both!(_mm256_add_epi32, self.0, other.0) })
    }

    #[inline(always)]
    fn less(self, other: Self) -> u32 {
        // SAFETY: as above.
        unsafe {
            let at_least = both!(_mm256_castsi256_ps, both!(at_least, self.0, other.0));
            let [first, second] = both!(_mm256_movemask_ps, at_least);
            (first | second << HALF).cast_unsigned() ^ 0xffff
        }
    }

    #[inline(always)]
    fn count_less_of_two([first, second]: [Self; 2], key: Self) -> u32 {
        // SAFETY: as above.
        unsafe {
            let (first, second) = (both!(at_least, first.0, key.0), both!(at_least, second.0, key.0));
            let (first, second) = (_mm256_packs_epi32(first[0], first[1]), _mm256_packs_epi32(second[0], second[1]));
            let at_least = _mm256_movemask_epi8(_mm256_packs_epi16(first, second)); // in an order of its own
            at_least.count_zeros()
        }
    }

    #[inline(always)]
    fn exchanged<const APART: usize>(self) -> Self {
        // SAFETY: as above.
        Avx2(unsafe {
            match APART {
                1 => both!(_mm256_shuffle_epi32::<0b10_11_00_01>, self.0),
                2 => both!(_mm256_shuffle_epi32::<0b01_00_11_10>, self.0),
                4 => both!(_mm256_permute4x64_epi64::<0b01_00_11_10>, self.0),
                _ => [self.0[1], self.0[0]],
            }
        })
    }

    #[inline(always)]
    fn replaced(self, mask: u32, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let masks = [_mm256_set1_epi32(mask.cast_signed()), _mm256_set1_epi32((mask >> HALF).cast_signed())];
            let masks = both!(_mm256_and_si256, masks, [lanes, lanes]);
            Avx2(both!(_mm256_blendv_epi8, self.0, other.0, both!(_mm256_cmpeq_epi32, masks, [lanes, lanes])))
        }
    }

    #[inline(always)]
    fn compress(self, mask: u32, line: &mut [u32; LINE]) {
        let masks = [mask as usize % CHOSEN.len(), (mask >> HALF) as usize % CHOSEN.len()];
        let n = masks[0].count_ones() as usize;
        if let Some(to) = line.first_chunk_mut() {
            store(to, compressed(self.0[0], masks[0]));
        }
        if let Some(to) = line[n.min(HALF)..].first_chunk_mut() {
            store(to, compressed(self.0[1], masks[1]));
        }
    }

    #[inline(always)]
    fn keys(values: &[f32; LINE]) -> (Self, bool) {
        let bits = load_values(values);
        // SAFETY: as above.
        unsafe {
            let values = both!(_mm256_castsi256_ps, bits);
            let [first, second] = both!(_mm256_cmp_ps::<_CMP_UNORD_Q>, values, values);
            (Avx2(both!(key, bits)), _mm256_movemask_ps(_mm256_or_ps(first, second)) != 0)
        }
    }

    #[inline(always)]
    fn places(values: &[f32; LINE], bucketings: &Bucketings<'_>) -> Self {
        let Bucketings { centres, scales, lows, shifts, last } = *bucketings;
        let (centres, scales) = (Self::load(centres).0, Self::load(scales).0);
        let (lows, shifts) = (Self::load(lows).0, Self::load(shifts).0);
        // SAFETY: as above.
        let buckets = unsafe { both!(bucket, load_values(values), centres, scales, lows, shifts) };
        Avx2(buckets).min(Self::splat(last))
    }

    #[inline(always)]
    fn transpose(tile: &mut [[u32; LINE]; LINE]) {
        let rows = *tile;
        for (to, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut quarter = [Self::splat(0).0[0]; HALF];
            for (to_row, row) in quarter.iter_mut().zip(&rows[from * HALF..]) {
                *to_row = load(&row.as_chunks().0[to]);
            }
            transpose_quarter(&mut quarter);
            for (row, column) in tile[to * HALF..].iter_mut().zip(quarter) {
                store(&mut row.as_chunks_mut().0[from], column);
            }
        }
    }
}

/// Exchange rows and columns: blocks of 1, 2, 4 of them change places across the diagonal.
#[inline(always)]
fn transpose_quarter(rows: &mut [__m256i; HALF]) {
    // SAFETY: as above.
    unsafe {
        for n in (0..HALF).step_by(2) {
            let (a, b) = (rows[n], rows[n + 1]);
            rows[n] = _mm256_unpacklo_epi32(a, b);
            rows[n + 1] = _mm256_unpackhi_epi32(a, b);
        }
        for n in (0..HALF).step_by(4) {
            let [a, b, c, d] = [rows[n], rows[n + 1], rows[n + 2], rows[n + 3]];
            rows[n] = _mm256_unpacklo_epi64(a, c);
            rows[n + 1] = _mm256_unpackhi_epi64(a, c);
            rows[n + 2] = _mm256_unpacklo_epi64(b, d);
            rows[n + 3] = _mm256_unpackhi_epi64(b, d);
        }
        // rows[n] has in its halves columns n and n + 4 of rows 0 to 3, rows[n + 4] the same of rows 4 to 7.
        for n in 0..HALF / 2 {
            let (a, b) = (rows[n], rows[n + 4]);
            rows[n] = _mm256_permute2x128_si256::<0x20>(a, b);
            rows[n + 4] = _mm256_permute2x128_si256::<0x31>(a, b);
        }
    }
}
