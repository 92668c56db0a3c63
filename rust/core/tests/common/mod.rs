//! Small random backgrounds and images, full of ties, and the slow, obvious twin of every fast path.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;

use ndarray::Array2;
use proptest::prelude::*;
use proptest::sample::select;
use subsetscan_core::{AlphaMax, Named, Ranking, Scope, Statistic, Tail};

/// Background and images over the same nodes: few distinct values, so that ties abound.
#[derive(Debug, Clone)]
pub struct Case {
    pub background: Array2<f64>,
    pub images: Array2<f64>,
}

pub fn case(max_samples: usize, max_nodes: usize, max_images: usize) -> impl Strategy<Value = Case> {
    (1..=max_samples, 1..=max_nodes, 0..=max_images).prop_flat_map(|(m, j, n)| {
        (prop::collection::vec(value(), m * j), prop::collection::vec(value(), n * j)).prop_map(
            move |(background, images)| Case {
                background: Array2::from_shape_vec((m, j), background).unwrap(),
                images: Array2::from_shape_vec((n, j), images).unwrap(),
            },
        )
    })
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => Just(0.0),
        1 => Just(-0.0),
        4 => (-4_i32..=4).prop_map(f64::from),
        4 => any::<f32>().prop_filter("NaN has no rank", |x| !x.is_nan()).prop_map(f64::from),
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ]
}

pub fn alpha_max() -> impl Strategy<Value = AlphaMax> {
    // Grid points of small backgrounds, 1, and anything between.
    prop_oneof![
        (1_u32..=8, 2_u32..=9).prop_map(|(a, b)| f64::from(a.min(b)) / f64::from(b)),
        Just(1.0),
        Just(1e-9),
        0.01..1.0,
    ]
    .prop_map(|alpha| AlphaMax::try_from(alpha).unwrap())
}

pub fn ranking() -> impl Strategy<Value = Ranking> {
    (named(), named(), any::<u64>()).prop_map(|(tail, ties, seed)| Ranking { tail, ties, seed })
}

/// Any of the statistics, tails, scopes or treatments of ties.
pub fn named<T: Named + Debug>() -> impl Strategy<Value = T> {
    select(T::ALL).prop_map(|(_, thing)| thing)
}

/// p-values by counting.
pub fn p_values(background: &Array2<f64>, images: &Array2<f64>, tail: Tail) -> Array2<f64> {
    let m = background.nrows();
    Array2::from_shape_fn(images.dim(), |(image, node)| {
        let (x, column) = (images[(image, node)], background.column(node));
        let upper = (column.iter().filter(|z| **z >= x).count() + 1) as f64 / (m + 1) as f64;
        let lower = (column.iter().filter(|z| **z <= x).count() + 1) as f64 / (m + 1) as f64;
        match tail {
            Tail::Upper => upper,
            Tail::Lower => lower,
            Tail::TwoSided => (2.0 * upper.min(lower)).min(1.0),
        }
    })
}

/// The range of every p-value by counting, image by image.
pub fn p_value_ranges(background: &Array2<f64>, images: &Array2<f64>, tail: Tail) -> impl Iterator<Item = (f64, f64)> {
    let high = p_values(background, images, tail);
    let n_steps = (background.nrows() + 1) as f64;
    images
        .indexed_iter()
        .map(|(place, x)| {
            let larger = background.column(place.1).iter().filter(|z| *z > x).count() as f64 / n_steps;
            let smaller = background.column(place.1).iter().filter(|z| *z < x).count() as f64 / n_steps;
            let low = match tail {
                Tail::Upper => larger,
                Tail::Lower => smaller,
                Tail::TwoSided => 2.0 * larger.min(smaller),
            };
            (low, high[place])
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// The highest score over ALL subsets of an image's nodes, each counting with its range's overlap with [0, alpha].
pub fn brute_force_ranges(ranges: &[(f64, f64)], statistic: Statistic, scope: Scope, grid: &[f64]) -> f64 {
    // Where rounding alone exceeds what is expected, there is nothing.
    let phi = |alpha: f64, sum: f64, n: f64| {
        if sum - n * alpha <= 1e-12 { 0.0 } else { statistic.phi_of_shares(alpha, sum, n) }
    };
    let mut best = 0.0_f64;
    for subset in 0_u32..1 << ranges.len() {
        let members: Vec<_> = (0..ranges.len()).filter(|node| subset >> node & 1 == 1).collect();
        for &alpha in grid {
            let share = |(low, high): (f64, f64)| ((alpha - low) / (high - low)).clamp(0.0, 1.0);
            let sum = members.iter().map(|node| share(ranges[*node])).sum();
            let n = if scope == Scope::All { ranges.len() } else { members.len() };
            best = best.max(phi(alpha, sum, n as f64));
        }
    }
    best
}

/// The highest score over ALL subsets of an image's nodes and all thresholds of the grid.
pub fn brute_force(p_values: &[f64], statistic: Statistic, scope: Scope, grid: &[f64]) -> f64 {
    let n_nodes = p_values.len();
    let mut best = 0.0_f64;
    for subset in 0_u32..1 << n_nodes {
        for &alpha in grid {
            let members = (0..n_nodes).filter(|node| subset >> node & 1 == 1);
            let n_alpha = members.clone().filter(|node| p_values[*node] <= alpha).count() as u64;
            let n = match scope {
                Scope::Subset => members.count(),
                Scope::All => n_nodes,
            };
            best = best.max(statistic.phi(alpha, n_alpha, n as u64));
        }
    }
    best
}
