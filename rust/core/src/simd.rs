//! The hot loop in vector instructions: which values of a row are extreme enough, and their ranks.
//!
//! The one module with `unsafe` code. Each instruction set is chosen at run time and gives the same bits; the plain one is
//! ordinary Rust, which the compiler vectorises for whatever the target always has (NEON on ARM).
#![allow(unsafe_code)]
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::env;
use std::sync::OnceLock;

use ndarray::ArrayView2;

use crate::Error;
use crate::index::{LINE, Shape};
use crate::name::Named;
use crate::pvalue::Tail;
use crate::value::Value;

/// Environment variable that chooses an instruction set by name.
pub const VARIABLE: &str = "SUBSETSCAN_SIMD";

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// What every processor of this kind has.
    Plain,
    /// AVX2, on x86-64 processors since about 2013.
    Avx2,
    /// AVX-512 (F, BW, VL), on server processors of x86-64.
    Avx512,
}

impl Named for InstructionSet {
    const WHAT: &'static str = "instruction set";
    const ALL: &'static [(&'static str, Self)] =
        &[("plain", InstructionSet::Plain), ("avx2", InstructionSet::Avx2), ("avx512", InstructionSet::Avx512)];
}

impl InstructionSet {
    /// Whether this processor has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Plain => true,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt"),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(not(target_arch = "x86_64"))]
            InstructionSet::Avx2 | InstructionSet::Avx512 => false,
        }
    }

    /// The one that `SUBSETSCAN_SIMD` names, or the widest that this processor has. Looked up once.
    ///
    /// # Errors
    ///
    /// If the variable names none, or one that the processor has not.
    pub fn chosen() -> Result<Self, Error> {
        static CHOSEN: OnceLock<Result<InstructionSet, Error>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| match env::var(VARIABLE) {
                Ok(name) => match Self::by_name(&name)? {
                    set if set.is_available() => Ok(set),
                    _ => Err(Error::InstructionSet(name)),
                },
                Err(_) => Ok([InstructionSet::Avx512, InstructionSet::Avx2]
                    .into_iter()
                    .find(|set| set.is_available())
                    .unwrap_or(InstructionSet::Plain)),
            })
            .clone()
    }
}

/// Nodes that are worked on together: their sorted columns with the trees above them, and who is extreme.
pub(crate) struct NodeBlock<'a> {
    pub tail: Tail,
    pub shape: &'a Shape,
    /// Node after node.
    pub columns: &'a [u32],
    pub separators: &'a [u32],
    /// For each node, and in whole lines: keys above this are extreme in the upper tail, and below that in the lower.
    pub above: &'a [u32],
    pub below: &'a [u32],
}

/// Append to each image's list the ranks of its extreme values; false where a value is NaN.
///
/// `values` has one row an image and one column a node of the block. A rank is the number of background values at
/// least as extreme.
pub(crate) fn rank_rows(
    set: InstructionSet,
    block: &NodeBlock<'_>,
    values: &ArrayView2<'_, f32>,
    ranks: &mut [Vec<u32>],
) -> bool {
    match set {
        InstructionSet::Plain => rank_rows_with::<Plain>(block, values, ranks),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an instruction set is chosen only where `is_available` has seen its features.
        InstructionSet::Avx2 => unsafe { x86::rank_rows_avx2(block, values, ranks) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        InstructionSet::Avx512 => unsafe { x86::rank_rows_avx512(block, values, ranks) },
        #[cfg(not(target_arch = "x86_64"))]
        InstructionSet::Avx2 | InstructionSet::Avx512 => rank_rows_with::<Plain>(block, values, ranks),
    }
}

/// The two operations that the loop consists of.
trait Lanes {
    /// How many of a line's keys are smaller.
    fn count_less(line: &[u32; LINE], key: u32) -> usize;
    /// The keys of values, a bit for each that is extreme, and whether there is a NaN.
    fn screen(values: &[f32; LINE], above: &[u32; LINE], below: &[u32; LINE], keys: &mut [u32; LINE]) -> (u32, bool);
}

#[inline(always)]
fn rank_rows_with<L: Lanes>(block: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
    let mut nan_free = true;
    let mut line = [0.0; LINE];
    for (row, ranks) in values.outer_iter().zip(ranks) {
        ranks.reserve(row.len());
        for first in (0..row.len()).step_by(LINE) {
            let n = LINE.min(row.len() - first);
            let contiguous = row.as_slice().and_then(|row| row[first..].first_chunk());
            let values = if let Some(whole) = contiguous {
                whole
            } else {
                line.fill(0.0);
                line.iter_mut().zip(row.iter().skip(first)).for_each(|(to, from)| *to = *from);
                &line
            };
            let (Some(above), Some(below)) =
                (block.above[first..].first_chunk::<LINE>(), block.below[first..].first_chunk::<LINE>())
            else {
                return nan_free; // never: thresholds come in whole lines
            };
            let mut keys = [0; LINE];
            let (mut extreme, has_nan) = L::screen(values, above, below, &mut keys);
            nan_free &= !has_nan;
            extreme &= u32::MAX >> (u32::BITS as usize - n);
            while extreme != 0 {
                let lane = extreme.trailing_zeros() as usize;
                extreme &= extreme - 1;
                let (node, key) = (first + lane, keys[lane]);
                let column = &block.columns[node * block.shape.width..][..block.shape.width];
                let separators = &block.separators[node * block.shape.n_separators..][..block.shape.n_separators];
                let count = |key| block.shape.count_less(column, separators, key, L::count_less, |a, b| a < b);
                let rank = match block.tail {
                    Tail::Upper => column.len() - count(key),
                    Tail::Lower => count(key + 1),
                    Tail::TwoSided => (column.len() - count(key)).min(count(key + 1)),
                };
                #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
                ranks.push(rank as u32);
            }
        }
    }
    nan_free
}

struct Plain;

impl Lanes for Plain {
    #[inline(always)]
    fn count_less(line: &[u32; LINE], key: u32) -> usize {
        line.iter().map(|other| usize::from(*other < key)).sum()
    }

    #[inline(always)]
    fn screen(values: &[f32; LINE], above: &[u32; LINE], below: &[u32; LINE], keys: &mut [u32; LINE]) -> (u32, bool) {
        let (mut extreme, mut has_nan) = (0, false);
        for lane in 0..LINE {
            keys[lane] = values[lane].key();
            has_nan |= values[lane].is_nan();
            extreme |= u32::from(keys[lane] > above[lane] || keys[lane] < below[lane]) << lane;
        }
        (extreme, has_nan)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[allow(clippy::wildcard_imports)] // thirty intrinsics
    use std::arch::x86_64::*;

    use super::{ArrayView2, LINE, Lanes, NodeBlock, rank_rows_with};

    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    pub unsafe fn rank_rows_avx2(b: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
        rank_rows_with::<Avx2>(b, values, ranks)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
    pub unsafe fn rank_rows_avx512(b: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
        rank_rows_with::<Avx512>(b, values, ranks)
    }

    struct Avx512;

    impl Lanes for Avx512 {
        #[inline(always)]
        fn count_less(line: &[u32; LINE], key: u32) -> usize {
            // SAFETY: called from `rank_rows_avx512` only, and a line is as long as a vector.
            unsafe {
                let line = _mm512_loadu_si512(line.as_ptr().cast());
                _mm512_cmplt_epu32_mask(line, _mm512_set1_epi32(key.cast_signed())).count_ones() as usize
            }
        }

        #[inline(always)]
        fn screen(v: &[f32; LINE], above: &[u32; LINE], below: &[u32; LINE], keys: &mut [u32; LINE]) -> (u32, bool) {
            // SAFETY: as above.
            unsafe {
                let values = _mm512_loadu_ps(v.as_ptr());
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
                let bits = _mm512_castps_si512(_mm512_add_ps(values, _mm512_setzero_ps())); // -0.0 + 0.0 = 0.0
                let sign = _mm512_or_si512(_mm512_srai_epi32::<31>(bits), _mm512_set1_epi32(i32::MIN));
                let key = _mm512_xor_si512(bits, sign);
                _mm512_storeu_si512(keys.as_mut_ptr().cast(), key);
                let high = _mm512_cmpgt_epu32_mask(key, _mm512_loadu_si512(above.as_ptr().cast()));
                let low = _mm512_cmplt_epu32_mask(key, _mm512_loadu_si512(below.as_ptr().cast()));
                (u32::from(high | low), nan != 0)
            }
        }
    }

    struct Avx2;

    impl Lanes for Avx2 {
        #[inline(always)]
        fn count_less(line: &[u32; LINE], key: u32) -> usize {
            // SAFETY: called from `rank_rows_avx2` only, and a line is as long as two vectors.
            unsafe {
                let sign = _mm256_set1_epi32(i32::MIN); // comparisons are signed
                let key = _mm256_xor_si256(_mm256_set1_epi32(key.cast_signed()), sign);
                let less = |half: usize| {
                    let line = _mm256_xor_si256(_mm256_loadu_si256(line.as_ptr().add(half).cast()), sign);
                    _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(key, line))).cast_unsigned()
                };
                (less(0) | less(8) << 8).count_ones() as usize
            }
        }

        #[inline(always)]
        fn screen(v: &[f32; LINE], above: &[u32; LINE], below: &[u32; LINE], keys: &mut [u32; LINE]) -> (u32, bool) {
            // SAFETY: as above.
            unsafe {
                let sign = _mm256_set1_epi32(i32::MIN);
                let (mut extreme, mut nan) = (0, 0);
                for half in [0, 8] {
                    let values = _mm256_loadu_ps(v.as_ptr().add(half));
                    nan |= _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
                    let bits = _mm256_castps_si256(_mm256_add_ps(values, _mm256_setzero_ps()));
                    // Signed keys: those of `Value::key` with the first bit turned.
                    let key = _mm256_xor_si256(bits, _mm256_srli_epi32::<1>(_mm256_srai_epi32::<31>(bits)));
                    _mm256_storeu_si256(keys.as_mut_ptr().add(half).cast(), _mm256_xor_si256(key, sign));
                    let above = _mm256_xor_si256(_mm256_loadu_si256(above.as_ptr().add(half).cast()), sign);
                    let below = _mm256_xor_si256(_mm256_loadu_si256(below.as_ptr().add(half).cast()), sign);
                    let found = _mm256_or_si256(_mm256_cmpgt_epi32(key, above), _mm256_cmpgt_epi32(below, key));
                    extreme |= _mm256_movemask_ps(_mm256_castsi256_ps(found)).cast_unsigned() << half;
                }
                (extreme, nan != 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => Just(0.0_f32),
            1 => Just(-0.0),
            4 => (-4_i16..=4).prop_map(f32::from),
            4 => any::<f32>().prop_filter("NaN has no rank", |x| !x.is_nan()),
            1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
        ]
    }

    fn tail() -> impl Strategy<Value = Tail> {
        prop_oneof![Just(Tail::Upper), Just(Tail::Lower), Just(Tail::TwoSided)]
    }

    proptest! {
        #[test]
        fn every_instruction_set_ranks_alike(
            (width, n_nodes) in (1_usize..300, 1_usize..40),
            seed in prop::collection::vec(value(), 64),
            images in prop::collection::vec(value(), 3 * 40),
            tail in tail(),
            depth in 1_usize..300,
        ) {
            let mut columns: Vec<u32> = (0..width * n_nodes).map(|n| seed[(n * n + n / 7) % 64].key()).collect();
            columns.chunks_mut(width).for_each(<[u32]>::sort_unstable);
            let shape = Shape::new(width);
            let mut separators = vec![0; shape.n_separators * n_nodes];
            for (n, column) in columns.chunks(width).enumerate() {
                shape.write_separators(column, u32::MAX, &mut separators[n * shape.n_separators..][..shape.n_separators]);
            }
            let depth = depth.min(width);
            let padded = n_nodes.next_multiple_of(LINE);
            let (mut above, mut below) = (vec![u32::MAX; padded], vec![0; padded]);
            for (n, column) in columns.chunks(width).enumerate() {
                if tail != Tail::Lower { above[n] = column[width - depth]; }
                if tail != Tail::Upper { below[n] = column[depth - 1]; }
            }
            let block =
                NodeBlock { tail, shape: &shape, columns: &columns, separators: &separators, above: &above, below: &below };
            let images = Array2::from_shape_fn((3, n_nodes), |(image, node)| images[image * 40 + node]);
            let mut expected = vec![Vec::new(); 3];
            for ((image, node), x) in images.indexed_iter() {
                let (key, column) = (x.key(), &columns[node * width..][..width]);
                if key > above[node] || key < below[node] {
                    let upper = column.iter().filter(|other| **other >= key).count();
                    let lower = column.iter().filter(|other| **other <= key).count();
                    let rank = match tail { Tail::Upper => upper, Tail::Lower => lower, Tail::TwoSided => upper.min(lower) };
                    expected[image].push(u32::try_from(rank).unwrap());
                }
            }
            let reversed = images.slice(ndarray::s![.., ..;-1]).as_standard_layout().to_owned();
            for (_, set) in InstructionSet::ALL.iter().filter(|(_, set)| set.is_available()) {
                for view in [images.view(), reversed.slice(ndarray::s![.., ..;-1])] {
                    let mut ranks = vec![Vec::new(); 3];
                    prop_assert!(rank_rows(*set, &block, &view, &mut ranks));
                    prop_assert_eq!(&ranks, &expected, "{:?}", set);
                }
                let mut holed = images.clone();
                holed[(2, n_nodes - 1)] = f32::NAN;
                prop_assert!(!rank_rows(*set, &block, &holed.view(), &mut vec![Vec::new(); 3]));
            }
        }
    }
}
