//! The fast paths against their slow twins, and the linear-time scan against every subset there is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // small cases

mod common;

use common::{alpha_max, brute_force, brute_force_ranges, case, named, p_value_ranges, p_values, ranking};
use half::f16;
use ndarray::{Array2, Axis, concatenate, s};
use proptest::prelude::*;
use subsetscan_core::pvalue::thresholds;
use subsetscan_core::{
    Background, BackgroundBuilder, Error, Interrupt, Keep, Membership, Part, Ranking, Scan, ScanOptions, Summary, Tail,
    Ties, Values, scan_histograms, scan_p_values,
};

fn never() -> Interrupt {
    Interrupt::default()
}

fn whole(values: &Array2<f64>) -> Background<f64> {
    Background::new(&values.view(), Keep::Everything, &never()).unwrap()
}

fn scan(background: &Background<f64>, images: &Array2<f64>, options: &ScanOptions) -> Scan {
    background.scan(&Values::F64(images.view()), options, Membership::Outside, true, &never()).unwrap()
}

/// Options with ties as in the paper.
fn options() -> impl Strategy<Value = ScanOptions> {
    (any_options(), named::<Tail>()).prop_map(|(options, tail)| ScanOptions { ranking: tail.into(), ..options })
}

fn any_options() -> impl Strategy<Value = ScanOptions> {
    (named(), ranking(), alpha_max(), named()).prop_map(|(statistic, ranking, alpha_max, scope)| ScanOptions {
        statistic,
        ranking,
        alpha_max,
        scope,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_subset_and_no_threshold_scores_higher(case in case(8, 7, 3), options in options()) {
        let found = scan(&whole(&case.background), &case.images, &options);
        let p = p_values(&case.background, &case.images, options.ranking.tail);
        let grid = thresholds(options.ranking, case.background.nrows(), options.alpha_max);
        for (image, row) in p.rows().into_iter().enumerate() {
            let best = brute_force(row.as_slice().unwrap(), options.statistic, options.scope, &grid);
            prop_assert!((found.scores[image] - best).abs() <= 1e-12 * best, "{} {best}", found.scores[image]);
        }
    }

    #[test]
    fn the_subset_earns_its_score(case in case(9, 12, 4), options in options()) {
        let found = scan(&whole(&case.background), &case.images, &options);
        let p = p_values(&case.background, &case.images, options.ranking.tail);
        let subsets = found.nodes.unwrap();
        for (image, row) in p.rows().into_iter().enumerate() {
            let nodes = &subsets.indices[subsets.indptr[image] as usize..subsets.indptr[image + 1] as usize];
            let expected: Vec<i32> =
                (0..row.len()).filter(|node| row[*node] <= found.alphas[image]).map(|node| node as i32).collect();
            prop_assert_eq!(nodes, &expected[..]);
            prop_assert_eq!(found.sizes[image], nodes.len() as i64);
            let n = if options.scope == subsetscan_core::Scope::All { row.len() } else { nodes.len() };
            let earned = options.statistic.phi(found.alphas[image], nodes.len() as u64, n as u64);
            prop_assert_eq!(found.scores[image], earned);
        }
    }

    #[test]
    fn p_values_are_counted(case in case(9, 5, 4), tail in named::<Tail>()) {
        let background = whole(&case.background);
        let images = Values::F64(case.images.view());
        let p = background.p_values(&images, tail.into(), &never()).unwrap();
        prop_assert_eq!(&p, &p_values(&case.background, &case.images, tail));
        let ranges = background.p_value_ranges(&images, tail, &never()).unwrap();
        prop_assert_eq!(&ranges.slice(s![.., .., 1]), &p);
        let m = case.background.nrows();
        for ((image, node), x) in case.images.indexed_iter() {
            let column = case.background.column(node);
            let larger = column.iter().filter(|z| *z > x).count() as f64 / (m + 1) as f64;
            let smaller = column.iter().filter(|z| *z < x).count() as f64 / (m + 1) as f64;
            let expected = match tail {
                Tail::Upper => larger,
                Tail::Lower => smaller,
                Tail::TwoSided => (2.0 * larger.min(smaller)).min(1.0),
            };
            prop_assert_eq!(ranges[(image, node, 0)], expected);
        }
    }

    #[test]
    fn p_values_lead_to_the_same_scan(case in case(9, 12, 4), options in any_options()) {
        prop_assume!(options.ranking.ties != Ties::Range);
        let background = whole(&case.background);
        let p = background.p_values(&Values::F64(case.images.view()), options.ranking, &never()).unwrap();
        let found = scan(&background, &case.images, &options);
        let from_p =
            scan_p_values(&p.view(), options.statistic, options.alpha_max, options.scope, true, &never()).unwrap();
        prop_assert_eq!(found, from_p);
    }

    #[test]
    fn ties_have_their_place_in_the_range(case in case(9, 5, 4), ranking in ranking()) {
        prop_assume!(ranking.ties != Ties::Range);
        let (background, images) = (whole(&case.background), Values::F64(case.images.view()));
        let p = background.p_values(&images, ranking, &never()).unwrap();
        let n_steps = (case.background.nrows() + 1) as f64;
        for ((place, p), (low, high)) in p.indexed_iter().zip(p_value_ranges(&case.background, &case.images, ranking.tail)) {
            match ranking.ties {
                Ties::Upper => prop_assert_eq!(*p, high),
                Ties::Midrank => prop_assert!((p - f64::midpoint(low, high)).abs() < 1e-15),
                _ => {
                    prop_assert!(low < *p && *p <= high, "{:?}: {} < {} <= {}", place, low, p, high);
                    prop_assert_eq!((p * n_steps).round() / n_steps, *p);
                }
            }
        }
    }

    #[test]
    fn ranges_scan_as_no_subset_scores_higher(
        case in case(8, 6, 2), options in any_options(), tail in named::<Tail>(), alpha_max in alpha_max()
    ) {
        let options = ScanOptions { ranking: Ranking { tail, ties: Ties::Range, seed: 0 }, alpha_max, ..options };
        let found = scan(&whole(&case.background), &case.images, &options);
        let grid = thresholds(options.ranking, case.background.nrows(), options.alpha_max);
        let ranges: Vec<_> = p_value_ranges(&case.background, &case.images, tail).collect();
        let subsets = found.nodes.unwrap();
        for (image, ranges) in ranges.chunks(case.background.ncols()).enumerate() {
            let best = brute_force_ranges(ranges, options.statistic, options.scope, &grid);
            prop_assert!((found.scores[image] - best).abs() <= 1e-9 * best + 1e-12, "{} {best}", found.scores[image]);
            prop_assert_eq!(subsets.indptr[image + 1] - subsets.indptr[image], found.sizes[image]);
        }
    }

    #[test]
    fn parts_scan_as_their_union(case in case(9, 8, 4), options in options(), cut in 0_usize..8) {
        let n_nodes = case.background.ncols();
        let cut = cut.min(n_nodes - 1);
        let tails = [options.ranking, Ranking::from(Tail::Upper)];
        let blocks = [0..cut, cut..n_nodes].map(Iterator::collect::<Vec<_>>);
        let (mut p, mut histograms) = (Array2::zeros((case.images.nrows(), 0)), Vec::new());
        for (nodes, ranking) in blocks.iter().zip(tails).filter(|(nodes, _)| !nodes.is_empty()) {
            let background = whole(&case.background.select(Axis(1), nodes));
            let images = case.images.select(Axis(1), nodes);
            let images = Values::F64(images.view());
            let part = background.p_values(&images, ranking, &never()).unwrap();
            p = concatenate(Axis(1), &[p.view(), part.view()]).unwrap();
            let counts =
                background.rank_histogram(&images, ranking, options.alpha_max, Membership::Outside, &never()).unwrap();
            histograms.push((counts, ranking));
        }
        let parts: Vec<_> = histograms.iter().map(|(h, ranking)| Part { histograms: h.view(), ranking: *ranking }).collect();
        let (found, shares) = scan_histograms(&parts, case.background.nrows(), n_nodes, &options, &never()).unwrap();
        let expected =
            scan_p_values(&p.view(), options.statistic, options.alpha_max, options.scope, false, &never()).unwrap();
        prop_assert_eq!(shares.sum_axis(Axis(1)).to_vec(), expected.sizes.clone());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn summaries_are_those_of_the_p_values(case in case(9, 6, 4), ranking in ranking()) {
        prop_assume!(ranking.ties != Ties::Range);
        let (background, images) = (whole(&case.background), Values::F64(case.images.view()));
        let p = background.p_values(&images, ranking, &never()).unwrap();
        let of = |summary| background.summarise(&images, summary, ranking, Membership::Outside, &never()).unwrap();
        let (mean, minimum, fisher) = (of(Summary::MeanP), of(Summary::MinimumP), of(Summary::Fisher));
        for (image, p) in p.rows().into_iter().enumerate() {
            prop_assert!((mean[image] - (1.0 - p.mean().unwrap())).abs() < 1e-12);
            let least = p.iter().copied().fold(1.0, f64::min);
            prop_assert!((minimum[image] + least.ln()).abs() < 1e-12);
            prop_assert!((fisher[image] + 2.0 * p.iter().map(|p| p.ln()).sum::<f64>()).abs() < 1e-9);
        }
    }

    #[test]
    fn a_compact_background_scans_alike(case in case(12, 6, 4), options in options()) {
        let keep = Keep::Scans { tail: options.ranking.tail, alpha_max: options.alpha_max };
        let compact = Background::new(&case.background.view(), keep, &never()).unwrap();
        let background = whole(&case.background);
        prop_assert!(compact.nbytes() <= background.nbytes());
        prop_assert_eq!(scan(&compact, &case.images, &options), scan(&background, &case.images, &options));
        let own = Values::F64(case.background.view());
        prop_assert_eq!(
            compact.scan(&own, &options, Membership::Inside, true, &never()),
            background.scan(&own, &options, Membership::Inside, true, &never())
        );
        let back = Background::from_columns(background.n_samples(), keep, &compact.columns(&never()).unwrap().view(), &never()).unwrap();
        prop_assert_eq!(scan(&back, &case.images, &options), scan(&background, &case.images, &options));
    }

    #[test]
    fn leaving_one_out_is_a_background_without_it(case in case(7, 6, 0), options in any_options()) {
        prop_assume!(case.background.nrows() > 1);
        let background = whole(&case.background);
        let own = Values::F64(case.background.view());
        let left_out = background.scan(&own, &options, Membership::Inside, true, &never()).unwrap();
        for image in 0..case.background.nrows() {
            let (before, after) = (case.background.slice(s![..image, ..]), case.background.slice(s![image + 1.., ..]));
            let others = concatenate(Axis(0), &[before, after]).unwrap();
            let alone = scan(&whole(&others), &case.background.slice(s![image..=image, ..]).to_owned(), &options);
            prop_assert_eq!(left_out.scores[image], alone.scores[0]);
            prop_assert_eq!(left_out.alphas[image], alone.alphas[0]);
            prop_assert_eq!(left_out.sizes[image], alone.sizes[0]);
        }
    }

    #[test]
    fn histograms_of_disjoint_nodes_add_up(case in case(9, 8, 4), tail in named::<Tail>(), alpha_max in alpha_max()) {
        let histogram = |nodes: std::ops::Range<usize>| {
            let background = case.background.slice(s![.., nodes.clone()]).to_owned();
            let images = case.images.slice(s![.., nodes]);
            whole(&background).rank_histogram(&Values::F64(images), tail.into(), alpha_max, Membership::Outside, &never()).unwrap()
        };
        let n_nodes = case.background.ncols();
        let all = histogram(0..n_nodes);
        for cut in 1..n_nodes {
            prop_assert_eq!(histogram(0..cut) + histogram(cut..n_nodes), all.clone());
        }
        let p = p_values(&case.background, &case.images, tail);
        for (row, counts) in p.rows().into_iter().zip(all.rows()) {
            prop_assert_eq!(row.iter().filter(|p| **p <= alpha_max.get()).count(), counts.sum() as usize);
        }
    }

    #[test]
    fn types_strides_and_batches_make_no_difference(case in case(9, 6, 4), options in options()) {
        // Single precision holds every value of the case; half precision is made to.
        let halves = case.background.mapv(|x| f64::from(f16::from_f64(x)));
        let expected = scan(&whole(&halves), &case.images, &options);
        let background = Background::new(&halves.mapv(f16::from_f64).view(), Keep::Everything, &never()).unwrap();
        let single = case.images.mapv(|x| x as f32);
        let mut wide = Array2::<f32>::zeros((single.nrows(), 2 * single.ncols()));
        wide.slice_mut(s![..;-1, ..;2]).assign(&single);
        let by_column = case.images.t().as_standard_layout().to_owned();
        for images in
            [Values::F64(by_column.t()), Values::F32(single.view()), Values::F32(wide.slice(s![..;-1, ..;2]))]
        {
            prop_assert_eq!(&background.scan(&images, &options, Membership::Outside, true, &never()).unwrap(), &expected);
        }
        let mut builder = BackgroundBuilder::new(halves.nrows(), halves.ncols(), Keep::Everything).unwrap();
        for batch in halves.axis_chunks_iter(Axis(0), 2) {
            builder.push(&batch, &never()).unwrap();
        }
        prop_assert_eq!(scan(&builder.finish(&never()).unwrap(), &case.images, &options), expected);
    }

    #[test]
    fn threads_make_no_difference(case in case(9, 200, 4), options in options()) {
        let background = whole(&case.background);
        let [one, three] = [1, 3].map(|n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| scan(&background, &case.images, &options))
        });
        prop_assert_eq!(one, three);
    }
}

#[test]
fn the_example_of_the_paper() {
    // Section 3.1: 30 p-values of at most 0.1 among 100, and 20 of at most 0.075. Berk-Jones prefers the former,
    // held against all 100.
    let phi = |alpha, n_alpha| subsetscan_core::Statistic::BerkJones.phi(alpha, n_alpha, 100);
    assert!(phi(0.1, 30) > phi(0.075, 20));
}

#[test]
fn an_image_without_small_p_values_scores_nothing() {
    let background = whole(&Array2::zeros((5, 3)));
    let found = scan(&background, &Array2::zeros((1, 3)), &ScanOptions::default());
    assert_eq!((found.scores[0], found.alphas[0], found.sizes[0]), (0.0, 0.0, 0));
    assert_eq!(found.nodes.unwrap().indices, [0; 0]);
}

#[test]
fn what_is_wrong_is_said() {
    let values = Array2::from_shape_fn((4, 2), |(image, node)| (image * 2 + node) as f64);
    let new = |values: &Array2<f64>, keep| Background::new(&values.view(), keep, &never());
    assert_eq!(new(&Array2::zeros((0, 2)), Keep::Everything).unwrap_err(), Error::NoImages);
    assert_eq!(new(&Array2::zeros((2, 0)), Keep::Everything).unwrap_err(), Error::NoNodes);

    let mut holed = values.clone();
    holed[(1, 1)] = f64::NAN;
    holed[(3, 0)] = f64::NAN;
    let nan = Error::NotANumber { count: 2, image: 1, node: 1 };
    assert_eq!(new(&holed, Keep::Everything).unwrap_err(), nan);

    let background = whole(&values);
    let images = Values::F64(holed.view());
    let options = ScanOptions::default();
    assert_eq!(background.scan(&images, &options, Membership::Outside, false, &never()).unwrap_err(), nan);
    assert_eq!(background.p_values(&images, Tail::Lower.into(), &never()).unwrap_err(), nan);

    let narrow = Array2::zeros((1, 3));
    let nodes = Error::Nodes { expected: 2, received: 3 };
    assert_eq!(
        background.scan(&Values::F64(narrow.view()), &options, Membership::Outside, false, &never()).unwrap_err(),
        nodes
    );

    let above = Array2::from_elem((1, 2), 99.0);
    let stranger = Error::NotInBackground { image: 0, node: 0 };
    assert_eq!(
        background.scan(&Values::F64(above.view()), &options, Membership::Inside, false, &never()).unwrap_err(),
        stranger
    );

    let keep = Keep::Scans { tail: Tail::Upper, alpha_max: options.alpha_max };
    let compact = new(&values, keep).unwrap();
    let lower = ScanOptions { ranking: Tail::Lower.into(), ..options };
    let error = compact
        .scan(&Values::F64(values.view()), &lower, Membership::Outside, false, &never())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "this background is compact: it serves upper scans with alpha_max up to 0.5 only; \
         build it whole for lower scans with alpha_max up to 0.5"
    );
    assert!(compact.p_values(&Values::F64(values.view()), Ranking::default(), &never()).is_err());

    let midrank = ScanOptions { ranking: Ranking { ties: Ties::Midrank, ..Ranking::default() }, ..options };
    let error = compact.scan(&Values::F64(values.view()), &midrank, Membership::Outside, false, &never());
    assert!(error.unwrap_err().to_string().ends_with("build it whole for ties \"midrank\""));
    let range = Ranking { ties: Ties::Range, ..Ranking::default() };
    assert_eq!(background.p_values(&Values::F64(values.view()), range, &never()).unwrap_err(), Error::Ranges);
    let counts = Array2::zeros((2, 3));
    let part = Part { histograms: counts.view(), ranking: Ranking::default() };
    let error = scan_histograms(&[part], 4, 2, &options, &never()).unwrap_err();
    assert_eq!(error, Error::Histograms { expected: (2, 2), received: (2, 3) });

    let unsorted = Array2::from_shape_fn((2, 4), |(node, n)| (node * 10) as f64 - n as f64);
    let error = Background::from_columns(4, Keep::Everything, &unsorted.view(), &never()).unwrap_err();
    assert_eq!(error, Error::Columns("the values of node 0 are not sorted".to_owned()));
    assert!(Background::from_columns(5, Keep::Everything, &unsorted.view(), &never()).is_err());

    let p = Array2::from_shape_vec((1, 3), vec![0.5, 0.0, 1.0]).unwrap();
    let error = scan_p_values(&p.view(), options.statistic, options.alpha_max, options.scope, false, &never());
    assert_eq!(error.unwrap_err(), Error::PValue { received: 0.0, image: 0, node: 1 });
}

#[test]
fn an_interrupt_ends_the_work() {
    let values = Array2::<f64>::zeros((4, 2));
    let interrupt = Interrupt::default();
    interrupt.set();
    assert_eq!(Background::new(&values.view(), Keep::Everything, &interrupt).unwrap_err(), Error::Interrupted);
    let found = whole(&values).scan(
        &Values::F64(values.view()),
        &ScanOptions::default(),
        Membership::Outside,
        false,
        &interrupt,
    );
    assert_eq!(found.unwrap_err(), Error::Interrupted);
}
