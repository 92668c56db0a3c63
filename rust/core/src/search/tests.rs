//! Every instruction set ranks as a count over the column does, image by image and node by node.

use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;

use super::columns::{Gathered, SearchColumns};
use super::rows::RankRows;
use super::tile_ranks::{RankInt, TileRanks};
use crate::index::{LINE, NODE_BLOCK, NodeBlock, Shape};
use crate::keys::KeyBlock;
use crate::pvalue::Tail;
use crate::simd::set::{InstructionSet, run};
use crate::simd::tests::{sets, value};
use crate::value::{Value, Values};

fn tail() -> impl Strategy<Value = Tail> {
    prop_oneof![Just(Tail::Upper), Just(Tail::Lower), Just(Tail::TwoSided)]
}

/// The histograms that one kernel makes of the images; None if it has seen a NaN.
fn histograms<R: RankInt>(
    set: InstructionSet,
    block: &NodeBlock<'_>,
    images: &ArrayView2<'_, f32>,
    by_node: bool,
    largest: usize,
) -> Option<Array2<u32>> {
    let (n_images, n_nodes) = images.dim();
    let mut ranks = TileRanks::<R>::default();
    ranks.clear(n_images, n_nodes, largest).unwrap();
    if by_node {
        let mut keys = KeyBlock::<f32>::new(n_images, n_nodes).unwrap();
        keys.fill(&Values::F32(*images), &(0..n_images), &(0..n_nodes)).ok()?;
        let (next, mut gathered) = (Some(*images), Gathered::new(n_images, &mut ranks));
        run(set, SearchColumns { block, first: 0, keys: &keys, n_images, next, sink: &mut gathered });
        gathered.finish();
    } else if !run(set, RankRows { block, values: images, ranks: &mut ranks }) {
        return None;
    }
    let mut histograms = Array2::zeros((n_images, block.shape.width + 1));
    for (image, mut histogram) in histograms.outer_iter_mut().enumerate() {
        ranks.add_to(image, histogram.as_slice_mut().unwrap());
    }
    Some(histograms)
}

/// For each value that is looked at, how many background values are less and how many no larger; for others 0 and 0.
fn both_counts(set: InstructionSet, block: &NodeBlock<'_>, images: &ArrayView2<'_, f32>) -> Array2<(usize, usize)> {
    let (n_images, n_nodes) = images.dim();
    let mut keys = KeyBlock::<f32>::new(n_images, n_nodes).unwrap();
    keys.fill(&Values::F32(*images), &(0..n_images), &(0..n_nodes)).unwrap();
    let mut found = Array2::default((n_images, n_nodes));
    let mut sink = |node: usize, image: usize, less, no_larger| found[(image, node - 7)] = (less, no_larger);
    run(set, SearchColumns { block, first: 7, keys: &keys, n_images, next: None, sink: &mut sink });
    found
}

proptest! {
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
        let mut counts = Array2::default((n_images, n_nodes));
        for ((image, node), x) in images.indexed_iter() {
            let (key, column) = (x.key(), &block.column(node)[..width]);
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
        }
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
