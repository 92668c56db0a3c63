//! A background that comes in batches and parts is that which comes at once, to the bit.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

mod common;

use common::{alpha_max, named};
use ndarray::{Array2, ArrayView2, Axis, s};
use proptest::prelude::*;
use subsetscan_core::{Background, BackgroundBuilder, Error, Interrupt, Keep, Tail, Value};

fn never() -> Interrupt {
    Interrupt::default()
}

/// Values of more images than a compact builder holds: with ties, or ascending, which is the most work.
fn values() -> impl Strategy<Value = Array2<f32>> {
    (1_usize..600, 1_usize..4, 1_u32..1000, any::<bool>(), any::<u64>()).prop_map(
        |(n_images, n_nodes, n_distinct, ascending, seed)| {
            Array2::from_shape_fn((n_images, n_nodes), |(image, node)| {
                let mixed = (seed ^ (image * 31 + node) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
                #[allow(clippy::cast_precision_loss)]
                let value = if ascending { image as f32 } else { (mixed % u64::from(n_distinct)) as f32 - 20.0 };
                if value == 7.0 { f32::INFINITY } else { value }
            })
        },
    )
}

fn keeps() -> impl Strategy<Value = Keep> {
    let scans = (named::<Tail>(), alpha_max()).prop_map(|(tail, alpha_max)| Keep::Scans { tail, alpha_max });
    prop_oneof![1 => Just(Keep::Everything), 6 => scans]
}

fn pushed<V: Value>(builder: &mut BackgroundBuilder<V>, values: &ArrayView2<'_, V>, size: usize) {
    for batch in values.axis_chunks_iter(Axis(0), size) {
        builder.push(&batch, &never()).unwrap();
    }
}

fn columns<V: Value>(background: &Background<V>) -> Array2<V> {
    background.columns(&never()).unwrap()
}

proptest! {
    #[test]
    fn parts_in_any_order_are_the_whole(
        values in values(),
        keep in keeps(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        size in 1_usize..400,
        announced_more in prop_oneof![Just(0_usize), 0..2000_usize],
        seed in any::<usize>(),
    ) {
        let n = values.nrows();
        let expected = columns(&Background::new(&values.view(), keep, &never()).unwrap());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(n + 1)).chain([0, n]).collect();
        cuts.sort_unstable();
        let mut parts: Vec<_> = cuts.windows(2).map(|cut| {
            let mut builder = BackgroundBuilder::new(n + announced_more, values.ncols(), keep).unwrap();
            pushed(&mut builder, &values.slice(s![cut[0]..cut[1], ..]), size);
            builder
        }).collect();
        while parts.len() > 1 {
            let mut one = parts.swap_remove(seed % parts.len());
            let n_other = seed / 7 % parts.len();
            let mut other = parts.swap_remove(n_other);
            if seed % 3 == 0 {
                let held = other.held(&never()).unwrap();
                let n_pushed = other.n_pushed();
                other = BackgroundBuilder::from_held(n + announced_more, n_pushed, keep, &held.view(), &never()).unwrap();
            }
            one.merge(&other, &never()).unwrap();
            parts.push(one);
        }
        let builder = parts.pop().unwrap();
        let finished = if announced_more == 0 { builder.finish(&never()) } else { builder.finish_early(&never()) };
        prop_assert_eq!(columns(&finished.unwrap()), expected);
    }
}

#[test]
fn little_more_than_what_is_kept_is_held() {
    let keep = Keep::Scans { tail: Tail::Upper, alpha_max: 0.05.try_into().unwrap() };
    let builder = BackgroundBuilder::<f32>::new(20_000, 10, keep).unwrap();
    let raw = 20_000 * 10 * 4;
    assert!(builder.nbytes() < raw * 65 / 1000, "{} of {raw}", builder.nbytes());
}

#[test]
fn what_is_wrong_is_said() {
    let values = Array2::<f64>::zeros((3, 2));
    let keep = Keep::Scans { tail: Tail::Upper, alpha_max: 0.5.try_into().unwrap() };
    let new = |n_samples, n_nodes, keep| {
        let mut builder = BackgroundBuilder::new(n_samples, n_nodes, keep).unwrap();
        builder.push(&values.slice(s![.., ..n_nodes]), &never()).unwrap();
        builder
    };
    let refused = |other: &BackgroundBuilder<f64>| new(4, 2, keep).merge(other, &never()).unwrap_err();
    assert_eq!(refused(&new(4, 2, keep)), Error::Images { expected: 4, received: 6 });
    assert_eq!(refused(&new(5, 2, keep)), Error::Parts { expected: 4, received: 5 });
    assert_eq!(refused(&new(4, 2, Keep::Everything)), Error::Parts { expected: 4, received: 4 });
    assert_eq!(refused(&new(4, 1, keep)), Error::Nodes { expected: 2, received: 1 });
    let empty = BackgroundBuilder::<f64>::new(4, 2, keep).unwrap();
    assert_eq!(empty.finish_early(&never()).unwrap_err(), Error::NoImages);
    for (n_samples, n_pushed) in [(10, 2), (2, 3)] {
        let made = BackgroundBuilder::from_held(n_samples, n_pushed, keep, &values.t(), &never());
        assert!(matches!(made.unwrap_err(), Error::Columns(_)));
    }

    let (stop, mut stopped) = (Interrupt::default(), new(4, 2, keep));
    stop.set();
    assert_eq!(stopped.push(&values.slice(s![..1, ..]), &stop).unwrap_err(), Error::Interrupted);
    assert_eq!(stopped.push(&values.slice(s![..1, ..]), &never()).unwrap_err(), Error::BrokenOff);
    assert_eq!(stopped.finish(&never()).unwrap_err(), Error::BrokenOff);
}
