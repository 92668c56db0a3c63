//! Every instruction set ranks as a count over the column does.

use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use proptest::sample::select;

use super::rows::{Extracted, SearchRows};
use super::tile_ranks::{RankInt, TileRanks};
use crate::index::{LINE, NodeBlock, Shape, Table};
use crate::interrupt::Interrupt;
use crate::pvalue::Tail;
use crate::simd::set::{InstructionSet, run};
use crate::simd::tests::{sets, value};
use crate::value::Value;

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![Just(Tail::Upper), Just(Tail::Lower), Just(Tail::TwoSided)]
}

/// The histograms of the images; None if a NaN was seen.
fn histograms<R: RankInt>(
    set: InstructionSet,
    block: &NodeBlock<'_>,
    images: &ArrayView2<'_, f32>,
    largest: usize,
) -> Option<Array2<u32>> {
    let mut ranks = TileRanks::<R>::default();
    ranks.clear(images.nrows(), largest);
    let mut extracted = Extracted::default();
    let sink = &mut ranks;
    if !run(set, SearchRows { block, first: 0, values: images, extracted: &mut extracted, sink }) {
        return None;
    }
    let mut histograms = Array2::zeros((images.nrows(), block.shape.width + 1));
    for (image, mut histogram) in histograms.outer_iter_mut().enumerate() {
        ranks.add_to(image, histogram.as_slice_mut().unwrap());
    }
    Some(histograms)
}

/// For each value that is looked at, how many background values are less and how many no larger; for others 0 and 0.
fn both_counts(set: InstructionSet, block: &NodeBlock<'_>, images: &ArrayView2<'_, f32>) -> Array2<(usize, usize)> {
    let mut found = Array2::default(images.dim());
    let mut sink = |node: usize, image: usize, counts| found[(image, node - 7)] = counts;
    let mut extracted = Extracted::default();
    run(set, SearchRows { block, first: 7, values: images, extracted: &mut extracted, sink: &mut sink });
    found
}

proptest! {
    #[test]
    fn every_instruction_set_ranks_alike(
        (width, n_nodes) in (prop_oneof![1_usize..70, 1_usize..600], 1_usize..150),
        // Few images are searched for otherwise than many.
        n_images in 1_usize..80,
        seed in prop::collection::vec(value(), 64),
        values in prop::collection::vec(value(), 97),
        // Few values, so that many of a column are equal, and images have them too, in turn.
        (is_dense, n_values, tail, depth) in (any::<bool>(), select(vec![4_usize, 64]), tail(), 1_usize..600),
    ) {
        let shape = Shape::new(width);
        let depth = depth.min(width);
        let padded = n_nodes.next_multiple_of(LINE);
        let mut columns = vec![u32::MAX; shape.stride * n_nodes];
        let (mut above, mut below) = (vec![u32::MAX; padded], vec![0; padded]);
        for (n, column) in columns.chunks_mut(shape.stride).enumerate() {
            for (i, key) in column[..width].iter_mut().enumerate() {
                let value = seed[(n + i * i + i / 7) % n_values];
                *key = if is_dense { value + (i * i % 997) as f32 * 1e-3 } else { value }.key();
            }
            column[..width].sort_unstable();
            if tail != Tail::Lower { above[n] = column[width - depth]; }
            if tail != Tail::Upper { below[n] = column[depth - 1]; }
        }
        let mut table = vec![0; shape.n_table() * n_nodes];
        prop_assert!(shape.write_table(&columns, &mut table, &Interrupt::default()).is_ok());
        let table = Table::of(shape, &table, n_nodes).unwrap();
        let block = NodeBlock { tail, shape, columns: &columns, table, above: &above, below: &below };
        let images = Array2::from_shape_fn((n_images, n_nodes), |(image, node)| {
            let value = if n_values < 64 { seed[(image * 31 + node) % 5] } else { values[(image * 31 + node) % 97] };
            if is_dense { value + ((image + node) % 89) as f32 * 1e-2 } else { value }
        });
        let mut expected = Array2::zeros((n_images, width + 1));
        let mut counts = Array2::default((n_images, n_nodes));
        for ((image, node), x) in images.indexed_iter() {
            let (key, column) = (x.key(), &columns[node * shape.stride..][..width]);
            if key > above[node] || key < below[node] {
                let upper = column.iter().filter(|other| **other >= key).count();
                let lower = column.iter().filter(|other| **other <= key).count();
                let rank = match tail { Tail::Upper => upper, Tail::Lower => lower, Tail::TwoSided => upper.min(lower) };
                expected[(image, rank)] += 1;
                counts[(image, node)] = (width - upper, lower);
            }
        }
        let reversed = images.slice(s![.., ..;-1]).as_standard_layout().to_owned();
        let mut holed = images.clone();
        holed[(n_images / 2, n_nodes - 1)] = f32::NAN;
        for set in sets() {
            prop_assert_eq!(&both_counts(set, &block, &images.view()), &counts, "{:?}", set);
            for view in [images.view(), reversed.slice(s![.., ..;-1])] {
                // Where ranks may be large they are listed, not counted.
                for largest in [width, 1 << 20] {
                    let found = histograms::<u16>(set, &block, &view, largest);
                    prop_assert_eq!(found.as_ref(), Some(&expected), "{:?}", set);
                    let found = histograms::<u32>(set, &block, &view, largest);
                    prop_assert_eq!(found.as_ref(), Some(&expected), "{:?}", set);
                }
            }
            prop_assert_eq!(histograms::<u16>(set, &block, &holed.view(), width), None);
        }
    }
}
