//! Every instruction set gives the same bits.

use ndarray::{Array2, s};
use proptest::prelude::*;

use super::set::{InstructionSet, run};
use super::sort::SortEnds;
use super::transpose::Transpose;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::name::Named;
use crate::value::Value;

/// Those that this processor has.
pub(crate) fn sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.iter().map(|(_, set)| *set).filter(|set| set.is_available())
}

/// A value, often a tie.
pub(crate) fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => Just(0.0_f32),
        1 => Just(-0.0),
        4 => (-4_i16..=4).prop_map(f32::from),
        4 => any::<f32>().prop_filter("NaN has no rank", |x| !x.is_nan()),
        1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY)],
    ]
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_feature_that_is_enabled_is_asked_for() {
    let sources = [
        include_str!("x86.rs"),
        include_str!("x86/avx2.rs"),
        include_str!("x86/avx512.rs"),
        include_str!("x86/vector.rs"),
    ];
    assert_eq!(
        sources.concat().matches("target_feature").count(),
        1,
        "features are enabled where they are listed, only"
    );
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
}
