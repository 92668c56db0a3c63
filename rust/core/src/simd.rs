//! The hot loops in vector instructions: transposing, screening, ranking.
//!
//! Each instruction set is chosen at run time and gives the same bits; the plain one is ordinary Rust, which the compiler
//! vectorises for whatever the target always has (NEON on ARM). `x86` is the one module with `unsafe` code.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

pub(crate) mod columns;
pub(crate) mod lanes;
pub(crate) mod rows;
pub(crate) mod sort;
pub(crate) mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::env;
use std::sync::OnceLock;

use crate::Error;
use crate::name::Named;
use lanes::{Lanes, Plain};

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
            InstructionSet::Avx2 => x86::avx2_features().all(|(_, is_there)| is_there),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => x86::avx512_features().all(|(_, is_there)| is_there),
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

/// A loop that is compiled for each instruction set.
pub(crate) trait Kernel {
    type Output;

    /// Has to be inlined, or it would be compiled for what every processor has.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Run a loop with an instruction set that this processor has.
pub(crate) fn run<K: Kernel>(set: InstructionSet, kernel: K) -> K::Output {
    match set {
        InstructionSet::Plain => kernel.run::<Plain>(),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => x86::run_avx2(kernel),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => x86::run_avx512(kernel),
        #[cfg(not(target_arch = "x86_64"))]
        InstructionSet::Avx2 | InstructionSet::Avx512 => kernel.run::<Plain>(),
    }
}

/// Ask for values that are about to be read.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayView2, s};
    use proptest::prelude::*;

    use super::columns::{Gathered, RankColumns};
    use super::rows::RankRows;
    use super::sort::SortEnds;
    use super::transpose::Transpose;
    use super::*;
    use crate::index::{LINE, NODE_BLOCK, NodeBlock, Shape};
    use crate::pvalue::Tail;
    use crate::ranks::{Rank, Ranks};
    use crate::value::{KeyBlock, Value, Values};

    fn sets() -> impl Iterator<Item = InstructionSet> {
        InstructionSet::ALL.iter().map(|(_, set)| *set).filter(|set| set.is_available())
    }

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

    /// The histograms that one kernel makes of the images; None if it has seen a NaN.
    fn histograms<R: Rank>(
        set: InstructionSet,
        block: &NodeBlock<'_>,
        images: &ArrayView2<'_, f32>,
        by_node: bool,
        largest: usize,
    ) -> Option<Array2<u32>> {
        let (n_images, n_nodes) = images.dim();
        let mut ranks = Ranks::<R>::default();
        ranks.clear(n_images, n_nodes, largest).unwrap();
        if by_node {
            let mut keys = KeyBlock::<f32>::new(n_images, n_nodes).unwrap();
            keys.fill(&Values::F32(*images), &(0..n_images), &(0..n_nodes)).ok()?;
            let (next, mut gathered) = (Some(*images), Gathered::new(n_images));
            run(set, RankColumns { block, keys: &keys, n_images, next, gathered: &mut gathered, ranks: &mut ranks });
            gathered.finish(&mut ranks);
        } else if !run(set, RankRows { block, values: images, ranks: &mut ranks }) {
            return None;
        }
        let mut histograms = Array2::zeros((n_images, block.shape.width + 1));
        for (image, mut histogram) in histograms.outer_iter_mut().enumerate() {
            ranks.add_to(image, histogram.as_slice_mut().unwrap());
        }
        Some(histograms)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_feature_that_is_enabled_is_asked_for() {
        let source = include_str!("simd/x86.rs");
        assert_eq!(source.matches("#[target_feature").count(), 1, "features are enabled where they are listed, only");
        let names = |features: &mut dyn Iterator<Item = (&'static str, bool)>| features.map(|(name, _)| name).collect();
        let avx2: Vec<_> = names(&mut x86::avx2_features());
        let avx512: Vec<_> = names(&mut x86::avx512_features());
        for feature in ["avx2", "popcnt", "bmi1", "bmi2"] {
            assert!(avx2.contains(&feature) && avx512.contains(&feature), "{feature}");
        }
        for feature in ["avx512f", "avx512bw", "avx512vl", "fma", "f16c"] {
            assert!(avx512.contains(&feature), "{feature}");
        }
    }

    proptest! {
        #[test]
        fn every_instruction_set_sorts_alike(
            keys in prop_oneof![
                prop::collection::vec(any::<u32>(), 1..1200),
                prop::collection::vec(0_u32..9, 1..1200),
                prop::collection::vec(prop_oneof![3 => Just(0), 1 => any::<u32>(), 1 => Just(u32::MAX)], 1..600),
                (1_u32..2000).prop_map(|n| (0..n).rev().collect::<Vec<_>>()),
            ],
            (low, high) in (0_usize..1200, 0_usize..1200),
        ) {
            let n = keys.len();
            let (low, high) = (low.min(n), high.min(n));
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            for set in sets() {
                let mut column = keys.clone();
                run(set, SortEnds { column: &mut column, low, high, scratch: &mut Vec::new() });
                prop_assert_eq!(&column[..low], &sorted[..low], "{:?}", set);
                prop_assert_eq!(&column[n - high..], &sorted[n - high..], "{:?}", set);
                column.sort_unstable();
                prop_assert_eq!(&column, &sorted, "{:?}", set);
            }
        }

        #[test]
        fn every_instruction_set_transposes_alike(
            (n_images, n_nodes) in (1_usize..50, 1_usize..50),
            seed in prop::collection::vec(value(), 64),
        ) {
            let images = Array2::from_shape_fn((n_images, n_nodes), |(i, n)| seed[(i * 7 + n * n + i * n) % 64]);
            let stride = n_images + 3;
            let reversed = images.slice(s![.., ..;-1]).as_standard_layout().to_owned();
            for set in sets() {
                for values in [images.view(), reversed.slice(s![.., ..;-1])] {
                    let mut keys = vec![7; stride * n_nodes];
                    let nan_free = run(set, Transpose { values: &values, keys: &mut keys, stride });
                    prop_assert!(nan_free);
                    for (n, column) in keys.chunks(stride).enumerate() {
                        let expected: Vec<u32> = images.column(n).iter().map(|x| x.key()).chain([7; 3]).collect();
                        prop_assert_eq!(column, &expected, "{:?}", set);
                    }
                }
                let mut holed = images.clone();
                holed[(n_images / 2, n_nodes - 1)] = f32::NAN;
                let mut keys = vec![0; stride * n_nodes];
                let nan_free = run(set, Transpose { values: &holed.view(), keys: &mut keys, stride });
                prop_assert!(!nan_free);
            }
        }

        #[test]
        fn every_instruction_set_ranks_alike(
            (width, n_nodes, n_images) in (1_usize..300, 1_usize..=NODE_BLOCK, 1_usize..40),
            seed in prop::collection::vec(value(), 64),
            values in prop::collection::vec(value(), 97),
            tail in tail(),
            depth in 1_usize..300,
        ) {
            let shape = Shape::new(width);
            let mut columns = vec![u32::MAX; shape.stride * n_nodes];
            let mut separators = vec![0; shape.n_separators * n_nodes];
            let depth = depth.min(width);
            let padded = n_nodes.next_multiple_of(LINE);
            let (mut above, mut below) = (vec![u32::MAX; padded], vec![0; padded]);
            for (n, column) in columns.chunks_mut(shape.stride).enumerate() {
                column[..width].iter_mut().enumerate().for_each(|(i, key)| *key = seed[(n + i * i + i / 7) % 64].key());
                column[..width].sort_unstable();
                shape.write_separators(column, &mut separators[n * shape.n_separators..][..shape.n_separators]);
                if tail != Tail::Lower { above[n] = column[width - depth]; }
                if tail != Tail::Upper { below[n] = column[depth - 1]; }
            }
            let block =
                NodeBlock { tail, shape: &shape, columns: &columns, separators: &separators, above: &above, below: &below };
            let images = Array2::from_shape_fn((n_images, n_nodes), |(image, node)| values[(image * 31 + node) % 97]);
            let mut expected = Array2::zeros((n_images, width + 1));
            for ((image, node), x) in images.indexed_iter() {
                let (key, column) = (x.key(), &block.column(node)[..width]);
                if key > above[node] || key < below[node] {
                    let upper = column.iter().filter(|other| **other >= key).count();
                    let lower = column.iter().filter(|other| **other <= key).count();
                    let rank = match tail { Tail::Upper => upper, Tail::Lower => lower, Tail::TwoSided => upper.min(lower) };
                    expected[(image, rank)] += 1;
                }
            }
            let reversed = images.slice(s![.., ..;-1]).as_standard_layout().to_owned();
            let mut holed = images.clone();
            holed[(n_images / 2, n_nodes - 1)] = f32::NAN;
            for (set, by_node) in sets().flat_map(|set| [(set, false), (set, true)]) {
                for view in [images.view(), reversed.slice(s![.., ..;-1])] {
                    // Where ranks may be large they are listed, not counted.
                    for largest in [width, 1 << 20] {
                        let found = histograms::<u16>(set, &block, &view, by_node, largest);
                        prop_assert_eq!(found.as_ref(), Some(&expected), "{:?}", set);
                        let found = histograms::<u32>(set, &block, &view, by_node, largest);
                        prop_assert_eq!(found.as_ref(), Some(&expected), "{:?}", set);
                    }
                }
                prop_assert_eq!(histograms::<u16>(set, &block, &holed.view(), by_node, width), None);
            }
        }
    }
}
