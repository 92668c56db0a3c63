//! The hot loop in vector instructions: which values of a row are extreme enough, and their ranks.
//!
//! The one module with `unsafe` code. Each instruction set is chosen at run time and gives the same bits; the plain one is
//! ordinary Rust, which the compiler vectorises for whatever the target always has (NEON on ARM).
#![allow(unsafe_code)]
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

use std::env;
use std::sync::OnceLock;

use ndarray::{ArrayView2, Axis};

use crate::Error;
use crate::index::{CountLess, LINE, NODE_BLOCK, Shape};
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

/// More images than this look at most of a block.
const MANY: usize = 64;

/// Images whose values are searched for together, and room for all of those values and one more line.
const IMAGES: usize = 8;
const CAPACITY: usize = IMAGES * NODE_BLOCK + LINE;

/// For each node, and in whole lines, the keys that a value has to pass to be extreme.
#[derive(Debug, Clone)]
pub(crate) struct Extremes {
    /// The tail, how many values of a node are extreme, and whether all are instead.
    pub asked: (Tail, usize, bool),
    pub above: Vec<u32>,
    pub below: Vec<u32>,
}

/// How many nodes a block may have: the more, the fewer images there are.
pub(crate) fn nodes_at_once(n_images: usize) -> usize {
    IMAGES / n_images.clamp(1, IMAGES) * NODE_BLOCK
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

/// Ask for values that are about to be read.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks((64 / size_of::<T>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that is seen, and the address is one of the slice's.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// The two operations that the loop consists of.
trait Lanes: CountLess {
    /// Add the values that are extreme and have a bit in `mask` to the queries, the first being that of node `first`.
    /// Returns whether there is a NaN.
    fn screen(
        values: &[f32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        first: u32,
        queries: &mut Queries,
    ) -> bool;
}

/// Extreme values of a few images, one after the other: searches wait for memory, and many can wait at the same time.
struct Queries {
    n: usize,
    nodes: [u32; CAPACITY],
    keys: [u32; CAPACITY],
}

#[inline(always)]
fn rank_rows_with<L: Lanes>(block: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
    #[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
    let width = block.shape.width as u32;
    let mut nan_free = true;
    let mut line = [0.0; LINE];
    let mut queries = Queries { n: 0, nodes: [0; CAPACITY], keys: [0; CAPACITY] };
    let (mut found, mut no_larger) = ([0; CAPACITY], [0; CAPACITY]);
    if ranks.len() > MANY {
        prefetch(block.columns); // nearly all of it is going to be read, in an order that no processor foresees
    }
    for (n_chunk, (rows, ranks)) in values.axis_chunks_iter(Axis(0), IMAGES).zip(ranks.chunks_mut(IMAGES)).enumerate() {
        for coming in values.outer_iter().skip((n_chunk + 1) * IMAGES).take(IMAGES).filter_map(|row| row.to_slice()) {
            prefetch(coming);
        }
        let mut ends = [0; IMAGES];
        queries.n = 0;
        for (row, end) in rows.outer_iter().zip(&mut ends) {
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
                #[allow(clippy::cast_possible_truncation)] // a block has few nodes
                let has_nan = L::screen(values, above, below, u32::MAX >> (32 - n), first as u32, &mut queries);
                nan_free &= !has_nan;
            }
            *end = queries.n;
        }
        match block.tail {
            Tail::Upper => {
                queries.count_less::<L>(block, 0, &mut found);
                found.iter_mut().take(queries.n).for_each(|less| *less = width - *less);
            }
            Tail::Lower => queries.count_less::<L>(block, 1, &mut found),
            Tail::TwoSided => {
                queries.count_less::<L>(block, 0, &mut found);
                queries.count_less::<L>(block, 1, &mut no_larger);
                let both = found.iter_mut().zip(&no_larger).take(queries.n);
                both.for_each(|(less, no_larger)| *less = (width - *less).min(*no_larger));
            }
        }
        let mut start = 0;
        for (ranks, end) in ranks.iter_mut().zip(ends) {
            ranks.extend_from_slice(&found[start..end]);
            start = end;
        }
    }
    nan_free
}

struct Plain;

impl CountLess for Plain {
    #[inline(always)]
    fn count_less(line: &[u32; LINE], key: u32) -> usize {
        line.iter().map(|other| usize::from(*other < key)).sum()
    }
}

impl Lanes for Plain {
    #[inline(always)]
    fn screen(
        values: &[f32; LINE],
        above: &[u32; LINE],
        below: &[u32; LINE],
        mask: u32,
        first: u32,
        queries: &mut Queries,
    ) -> bool {
        let keys = values.map(Value::key);
        let mut extreme = 0;
        for lane in 0..LINE {
            extreme |= u32::from(keys[lane] > above[lane] || keys[lane] < below[lane]) << lane;
        }
        queries.add(&keys, extreme & mask, first);
        values.iter().any(|value| value.is_nan())
    }
}

#[allow(clippy::cast_possible_truncation)] // no background has 2^32 images
impl Queries {
    /// How many background values are less than each key plus `more`.
    ///
    /// Level by level, so that what is read for one query does not wait for another.
    #[inline(always)]
    fn count_less<L: Lanes>(&self, block: &NodeBlock<'_>, more: u32, counts: &mut [u32; CAPACITY]) {
        let Shape { width, n_separators, ref levels } = *block.shape;
        let queries = || self.nodes.iter().zip(&self.keys).take(self.n);
        counts[..self.n].fill(0);
        for &level in levels {
            for (n, (node, key)) in counts.iter_mut().zip(queries()) {
                let separators = &block.separators[*node as usize * n_separators..][..n_separators];
                *n = Shape::descend::<L>(level, separators, *n as usize, *key + more) as u32;
            }
        }
        for (n, (node, key)) in counts.iter_mut().zip(queries()) {
            let column = &block.columns[*node as usize * width..][..width];
            *n = block.shape.count_less::<L>(column, *n as usize, *key + more) as u32;
        }
    }

    /// Add the keys that have a bit.
    #[inline(always)]
    fn add(&mut self, keys: &[u32; LINE], extreme: u32, first: u32) {
        // Each is written, and the next one over it if it is not extreme: there is nothing to predict.
        for (lane, key) in (0..).zip(keys) {
            self.nodes[self.n] = first + lane;
            self.keys[self.n] = *key;
            self.n += (extreme >> lane & 1) as usize;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[allow(clippy::wildcard_imports)] // thirty intrinsics
    use std::arch::x86_64::*;

    use super::{ArrayView2, CountLess, LINE, Lanes, NodeBlock, Plain, Queries, rank_rows_with};

    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    pub unsafe fn rank_rows_avx2(b: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
        rank_rows_with::<Plain>(b, values, ranks) // vectorised by the compiler, for these instructions
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi1,bmi2")]
    pub unsafe fn rank_rows_avx512(b: &NodeBlock<'_>, values: &ArrayView2<'_, f32>, ranks: &mut [Vec<u32>]) -> bool {
        rank_rows_with::<Avx512>(b, values, ranks)
    }

    struct Avx512;

    impl CountLess for Avx512 {
        #[inline(always)]
        fn count_less(line: &[u32; LINE], key: u32) -> usize {
            // SAFETY: called from `rank_rows_avx512` only, and a line is as long as a vector.
            unsafe {
                let line = _mm512_loadu_si512(line.as_ptr().cast());
                _mm512_cmplt_epu32_mask(line, _mm512_set1_epi32(key.cast_signed())).count_ones() as usize
            }
        }
    }

    impl Lanes for Avx512 {
        #[inline(always)]
        fn screen(
            v: &[f32; LINE],
            above: &[u32; LINE],
            below: &[u32; LINE],
            mask: u32,
            first: u32,
            queries: &mut Queries,
        ) -> bool {
            let (Some(nodes), Some(keys)) = (
                queries.nodes[queries.n..].first_chunk_mut::<LINE>(),
                queries.keys[queries.n..].first_chunk_mut::<LINE>(),
            ) else {
                return false; // never: there is room for all values of so many images
            };
            // SAFETY: as above, and every pointer is to a whole line.
            unsafe {
                let values = _mm512_loadu_ps(v.as_ptr());
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
                let bits = _mm512_castps_si512(_mm512_add_ps(values, _mm512_setzero_ps())); // -0.0 + 0.0 = 0.0
                let sign = _mm512_or_si512(_mm512_srai_epi32::<31>(bits), _mm512_set1_epi32(i32::MIN));
                let key = _mm512_xor_si512(bits, sign);
                let high = _mm512_cmpgt_epu32_mask(key, _mm512_loadu_si512(above.as_ptr().cast()));
                let low = _mm512_cmplt_epu32_mask(key, _mm512_loadu_si512(below.as_ptr().cast()));
                #[allow(clippy::cast_possible_truncation)] // a bit for each lane
                let extreme = (high | low) & mask as u16;
                let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let node = _mm512_add_epi32(lanes, _mm512_set1_epi32(first.cast_signed()));
                _mm512_storeu_si512(nodes.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(extreme, node));
                _mm512_storeu_si512(keys.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(extreme, key));
                queries.n += extreme.count_ones() as usize;
                nan != 0
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
                shape.write_separators(column, &mut separators[n * shape.n_separators..][..shape.n_separators]);
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
