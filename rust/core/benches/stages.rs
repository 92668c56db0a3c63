//! The stages of a scan on a layer-like background: sorting, ranking and scanning many images, scanning one, scanning groups.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use subsetscan_core::{
    AlphaMax, Background, GroupOptions, Interrupt, Keep, Membership, ScanOptions, Starts, Tail, Values,
    scan_group_p_values,
};

/// ReLU-like values, about half of them exactly zero, from a small deterministic generator.
fn layer(n_images: usize, n_nodes: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn((n_images, n_nodes), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 40) as f32 / (1_u32 << 24) as f32;
        (uniform - 0.5).max(0.0)
    })
}

fn stages(criterion: &mut Criterion) {
    let never = Interrupt::default();
    let clean = layer(2000, 1024, 1);
    let images = layer(256, 1024, 2);
    let options = ScanOptions::default();
    let keep = Keep::Scans { tail: Tail::Upper, alpha_max: AlphaMax::default() };
    let background = Background::new(&clean.view(), keep, &never).unwrap();
    let one = images.slice(ndarray::s![..1, ..]);

    let mut group = criterion.benchmark_group("2000 x 1024");
    group.sample_size(20);
    group.throughput(Throughput::Elements(clean.len() as u64));
    group.bench_function("fit", |bench| {
        bench.iter(|| Background::new(&black_box(&clean).view(), keep, &never).unwrap());
    });
    group.throughput(Throughput::Elements(images.len() as u64));
    group.bench_function("scan 256 images", |bench| {
        let images = Values::F32(images.view());
        bench.iter(|| background.scan(black_box(&images), &options, Membership::Outside, false, &never).unwrap());
    });
    group.bench_function("scan 256 images with nodes", |bench| {
        let images = Values::F32(images.view());
        bench.iter(|| background.scan(black_box(&images), &options, Membership::Outside, true, &never).unwrap());
    });
    group.throughput(Throughput::Elements(one.len() as u64));
    group.bench_function("scan 1 image", |bench| {
        let image = Values::F32(one);
        bench.iter(|| background.scan(black_box(&image), &options, Membership::Outside, false, &never).unwrap());
    });
    group.finish();
    group_scan(criterion, &Background::new(&clean.view(), Keep::Everything, &never).unwrap(), &images);
}

/// The block of images and nodes, from all of 64 images and from all nodes.
fn group_scan(criterion: &mut Criterion, background: &Background<f32>, images: &Array2<f32>) {
    let never = Interrupt::default();
    let images = images.slice(ndarray::s![..64, ..]);
    let p_values = background.p_values(&Values::F32(images), Tail::Upper.into(), &never).unwrap();
    let all = Array2::from_elem((1, 64), true);
    let starts = Starts { images: all.view(), all_nodes: true };
    let options = GroupOptions::default();
    let mut group = criterion.benchmark_group("64 x 1024");
    group.sample_size(20);
    group.bench_function("p-values", |bench| {
        bench.iter(|| background.p_values(&Values::F32(black_box(images)), Tail::Upper.into(), &never).unwrap());
    });
    group.bench_function("group scan", |bench| {
        bench.iter(|| scan_group_p_values(&black_box(&p_values).view(), &starts, &options, &never).unwrap());
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
