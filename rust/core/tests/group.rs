//! The group scan against every block of images and nodes there is, and against a step that looks at everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]
#![allow(clippy::cast_possible_truncation)] // small cases

mod common;

use common::{alpha_max, case, named, p_values};
use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;
use subsetscan_core::{
    AlphaMax, Background, Error, GroupBound, GroupOptions, GroupScan, Interrupt, Keep, SideLimits, Starts, Statistic,
    Tail, Values, scan_group_p_values,
};

fn never() -> Interrupt {
    Interrupt::default()
}

fn scan_group(p: &Array2<f64>, options: &GroupOptions) -> GroupScan {
    let images = Array2::from_shape_fn((p.nrows() + 1, p.nrows()), |(start, image)| start == 0 || start == image + 1);
    let starts = Starts { images: images.view(), all_nodes: true };
    scan_group_p_values(&p.view(), &starts, options, &never()).unwrap()
}

/// Small blocks of p-values: many ties, or hardly any.
fn group(max_images: usize, max_nodes: usize) -> impl Strategy<Value = Array2<f64>> {
    (1..=max_images, 1..=max_nodes, prop_oneof![2_u32..9, Just(100_000)]).prop_flat_map(|(n, j, k)| {
        prop::collection::vec(1..=k, n * j).prop_map(move |ranks| {
            let p = ranks.into_iter().map(|rank| f64::from(rank) / f64::from(k)).collect();
            Array2::from_shape_vec((n, j), p).unwrap()
        })
    })
}

fn limits() -> impl Strategy<Value = (Option<usize>, Option<usize>)> {
    (prop::option::of(1_usize..3), prop::option::of(3_usize..5))
}

fn options() -> impl Strategy<Value = GroupOptions> {
    (named(), alpha_max()).prop_map(|(statistic, alpha_max)| GroupOptions {
        statistic,
        alpha_max,
        bound: Some(GroupBound::Quick),
        ..GroupOptions::default()
    })
}

/// The highest score of all blocks of images and nodes, over all thresholds.
fn brute_force(p: &ArrayView2<'_, f64>, statistic: Statistic, alpha_max: AlphaMax) -> f64 {
    let (n, j) = p.dim();
    let mut best = 0.0_f64;
    for images in 1_u32..1 << n {
        for nodes in 1_u32..1 << j {
            let block: Vec<f64> = p
                .indexed_iter()
                .filter(|((image, node), _)| images >> image & 1 == 1 && nodes >> node & 1 == 1)
                .map(|(_, p)| *p)
                .collect();
            for alpha in block.iter().filter(|p| **p <= alpha_max.get()) {
                let n_alpha = block.iter().filter(|p| *p <= alpha).count() as u64;
                best = best.max(statistic.phi(*alpha, n_alpha, block.len() as u64));
            }
        }
    }
    best
}

/// The score of the block that was found, counted.
fn earned(p: &Array2<f64>, found: &GroupScan, statistic: Statistic) -> f64 {
    let members = found.images.iter().flat_map(|image| found.nodes.iter().map(move |node| (*image, *node)));
    let n_alpha =
        members.filter(|(i, j)| p[(usize::try_from(*i).unwrap(), usize::try_from(*j).unwrap())] <= found.alpha);
    statistic.phi(found.alpha, n_alpha.count() as u64, (found.images.len() * found.nodes.len()) as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bound_is_no_lower_than_optimum_and_that_no_lower_than_ascent(p in group(4, 5), options in options()) {
        let found = scan_group(&p, &options);
        let best = brute_force(&p.view(), options.statistic, options.alpha_max);
        prop_assert!(found.score <= best * (1.0 + 1e-12), "{} {best}", found.score);
        let bound = found.upper_bound.unwrap();
        prop_assert!(bound >= best, "{bound} {best}");
        // There are few images: the best block is found.
        let close = scan_group(&p, &GroupOptions { bound: Some(GroupBound::Close), ..options });
        prop_assert_eq!((close.score, close.upper_bound), (best, Some(best)));
        prop_assert_eq!(close.score, earned(&p, &close, options.statistic));
        prop_assert_eq!(found.score, earned(&p, &found, options.statistic));
    }

    #[test]
    fn a_side_of_one_is_solved_exactly(p in group(1, 9), options in options()) {
        // From all images, which is one, the first step is over all subsets of the nodes.
        for p in [p.clone(), p.t().to_owned()] {
            let best = brute_force(&p.view(), options.statistic, options.alpha_max);
            prop_assert!((scan_group(&p, &options).score - best).abs() <= 1e-12 * best);
        }
    }

    #[test]
    fn blocks_keep_to_the_limits(
        p in group(6, 6), options in options(), images in limits(), nodes in limits(),
    ) {
        prop_assume!(p.nrows() >= 2 && p.ncols() >= 2);
        let free = scan_group(&p, &options);
        let side = |what, limits: (Option<usize>, Option<usize>)| SideLimits::new(what, limits.0, limits.1).unwrap();
        let limited = GroupOptions { images: side("images", images), nodes: side("nodes", nodes), ..options };
        let found = scan_group(&p, &limited);
        prop_assert!(found.upper_bound <= free.upper_bound);
        let close = |options: GroupOptions| {
            scan_group(&p, &GroupOptions { bound: Some(GroupBound::Close), ..options }).upper_bound
        };
        prop_assert!(close(limited) <= close(options) && close(limited) <= found.upper_bound);
        prop_assert!(Some(found.score) <= found.upper_bound);
        if found.score > 0.0 {
            prop_assert_eq!(found.score, earned(&p, &found, options.statistic));
            for ((min, max), n) in [(images, found.images.len()), (nodes, found.nodes.len())] {
                prop_assert!(min.is_none_or(|min| n >= min) && max.is_none_or(|max| n <= max));
            }
        } else {
            prop_assert!(found.images.is_empty() && found.nodes.is_empty());
        }
    }

    #[test]
    fn a_background_leads_to_the_same_as_its_p_values(case in case(9, 7, 6), options in options(), tail in named::<Tail>()) {
        prop_assume!(case.images.nrows() > 0);
        let starts = Array2::from_elem((1, case.images.nrows()), true);
        let starts = Starts { images: starts.view(), all_nodes: true };
        let p = p_values(&case.background, &case.images, tail);
        let expected = scan_group_p_values(&p.view(), &starts, &options, &never()).unwrap();
        for keep in [Keep::Everything, Keep::Scans { tail, alpha_max: options.alpha_max }] {
            let background = Background::new(&case.background.view(), keep, &never()).unwrap();
            let images = Values::F64(case.images.view());
            let found = background.scan_group(&images, tail.into(), &starts, &options, &never()).unwrap();
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn memory_order_and_threads_make_no_difference(p in group(9, 40), options in options()) {
        let expected = scan_group(&p, &options);
        let by_column = p.t().as_standard_layout().to_owned();
        prop_assert_eq!(&scan_group(&by_column.reversed_axes(), &options), &expected);
        for n_threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            prop_assert_eq!(&pool.install(|| scan_group(&p, &options)), &expected);
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let p = Array2::from_elem((2, 3), 0.1);
    let scan = |p: &Array2<f64>, starts: &Array2<bool>, options: &GroupOptions| {
        let starts = Starts { images: starts.view(), all_nodes: false };
        scan_group_p_values(&p.view(), &starts, options, &never())
    };
    let (all, options) = (Array2::from_elem((1, 2), true), GroupOptions::default());
    assert!(scan(&p, &all, &options).is_ok());
    assert_eq!(scan(&Array2::zeros((2, 0)), &all, &options).unwrap_err(), Error::NoNodes);
    let wide = scan(&p, &Array2::from_elem((1, 3), true), &options).unwrap_err();
    assert_eq!(wide.to_string(), "not a start of a group scan: 3 images where the group has 2");
    let empty = scan(&p, &Array2::from_elem((1, 2), false), &options).unwrap_err();
    assert_eq!(empty.to_string(), "not a start of a group scan: start 0 is empty");
    for received in [0.0, 1.5, f64::NAN, f64::INFINITY, -0.5] {
        let mut bad = p.clone();
        bad[(1, 2)] = received;
        let error = scan(&bad, &all, &options).unwrap_err();
        assert!(matches!(error, Error::PValue { image: 1, node: 2, .. }), "{error}");
    }
    let images = SideLimits::new("images", Some(3), None).unwrap();
    let few = scan(&p, &all, &GroupOptions { images, ..options }).unwrap_err();
    assert_eq!(few.to_string(), "a block must have at least 3 images, but the group has 2");
    assert!(SideLimits::new("nodes", Some(0), None).is_err());
    let crossed = SideLimits::new("nodes", Some(3), Some(2)).unwrap_err();
    assert_eq!(
        crossed.to_string(),
        "the number of nodes in a block must be limited to a range of positive numbers, got 3 to 2"
    );
    let interrupt = Interrupt::default();
    interrupt.set();
    let starts = Starts { images: all.view(), all_nodes: true };
    assert_eq!(scan_group_p_values(&p.view(), &starts, &options, &interrupt).unwrap_err(), Error::Interrupted);
}

#[test]
fn a_planted_block_is_found() {
    // 100 x 200 p-values on a fine grid, those of 20 images and 30 nodes ten times smaller than elsewhere.
    let mut state = 1_u64;
    let p = Array2::from_shape_fn((100, 200), |(image, node)| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((state >> 33) % 10_000 + 1) as f64 / 10_000.0;
        if image < 20 && node < 30 { uniform / 10.0 } else { uniform }
    });
    let found = scan_group(&p, &GroupOptions { bound: Some(GroupBound::Quick), ..GroupOptions::default() });
    assert_eq!(found.images, (0..20).collect::<Vec<i64>>());
    assert_eq!(found.nodes, (0..30).collect::<Vec<i64>>());
    assert!(found.upper_bound.unwrap() > found.score);
}
