//! A background in a file is the one in memory; what is in a damaged file is refused, and what anybody puts there is harmless.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_precision_loss)]

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process};

use half::f16;
use ndarray::{Array, Array2, Dimension, s};
use proptest::prelude::*;
use subsetscan_core::{
    AlphaMax, Background, Error, GroupOptions, Interrupt, Keep, MappedFile, Membership, Named, Ranking, ScanOptions,
    Seal, Starts, Summary, Tail, Ties, Value, Values,
};

const HEAD: usize = 64;

fn never() -> Interrupt {
    Interrupt::default()
}

/// A mapped file of 64 bytes and some content.
fn file_of(content: &[u8]) -> MappedFile {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("subsetscan-mapped-{}-{}", process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = env::temp_dir().join(name);
    fs::write(&path, [&[0; HEAD], content].concat()).unwrap();
    let file = MappedFile::open(&path).unwrap();
    #[cfg(unix)]
    fs::remove_file(&path).unwrap();
    file
}

fn content_of<V: Value>(background: &Background<V>) -> Vec<u8> {
    background.index_parts().flatten().copied().collect()
}

fn seal(checksum: &str) -> Seal {
    Seal::new("the file".to_owned(), checksum.to_owned())
}

/// What every method says, as text, so that results and errors of all kinds are compared.
fn all_answers<V: Value>(background: &Background<V>, images: &Values<'_>, alpha_max: AlphaMax) -> Vec<String> {
    fn say<T: Debug>(found: &Result<T, Error>) -> String {
        match found {
            Err(Error::NotInBackground { .. }) => "not in the background".to_owned(), // which thread meets one first
            found => format!("{found:?}"),
        }
    }
    // An array's text leaves out most of it.
    fn all<T: Debug, D: Dimension>(found: Result<Array<T, D>, Error>) -> String {
        say(&found.map(|array| array.into_iter().collect::<Vec<_>>()))
    }
    let mut said = vec![all(background.columns(&never()).map(|columns| columns.mapv(|x| x.to_f64().to_bits())))];
    let n_images = images.dim().0;
    let every = Array2::from_elem((1, n_images), true);
    let starts = Starts { images: every.view(), all_nodes: true };
    for (_, tail) in Tail::ALL {
        said.push(all(background.p_value_ranges(images, *tail, &never())));
        for (_, ties) in Ties::ALL {
            let ranking = Ranking { tail: *tail, ties: *ties, seed: 7 };
            said.push(all(background.p_values(images, ranking, &never())));
            let options = GroupOptions { alpha_max, ..GroupOptions::default() };
            said.push(say(&background.scan_group(images, ranking, &starts, &options, &never())));
            let options = ScanOptions { ranking, alpha_max, ..ScanOptions::default() };
            for (_, membership) in Membership::ALL {
                said.push(say(&background.scan(images, &options, *membership, true, &never())));
                said.push(all(background.rank_histogram(images, ranking, alpha_max, *membership, &never())));
                said.push(say(&background.summarise(images, Summary::Fisher, ranking, *membership, &never())));
                let up_to = vec![alpha_max.get() / 2.0; n_images];
                said.push(say(&background.nodes_within(images, &up_to, ranking, alpha_max, *membership, &never())));
            }
        }
    }
    said
}

fn values<V: Value>(shape: (usize, usize), seed: usize, from_f64: impl Fn(f64) -> V) -> Array2<V> {
    Array2::from_shape_fn(shape, |(i, j)| from_f64(((i * 31 + j * 17 + i * i * (j + seed)) % 97) as f64 / 8.0 - 5.0))
}

fn is_the_same<V: Value>((m, n_nodes, n): (usize, usize, usize), keep: Keep, from_f64: impl Fn(f64) -> V) {
    let (clean, images) = (values((m, n_nodes), 3, &from_f64), values((n, n_nodes), 5, &from_f64));
    let background = Background::new(&clean.view(), keep, &never()).unwrap();
    let (content, checksum) = (content_of(&background), background.checksum(&never()).unwrap());
    let file = file_of(&content);
    let mapped = Background::<V>::mapped(&file, HEAD, (m, n_nodes), keep, Some(seal(&checksum))).unwrap();
    assert!(!mapped.is_checked());
    let (stride, n_table) = Background::<V>::index_shape(m, keep).unwrap();
    assert_eq!(content.len(), n_nodes * (stride * size_of::<V>() + n_table * 4));
    assert_eq!((mapped.nbytes(), background.nbytes()), (content.len(), content.len()));
    let alpha_max = match keep {
        Keep::Everything => AlphaMax::default(),
        Keep::Scans { alpha_max, .. } => alpha_max,
    };
    for images in [images.view(), clean.slice(s![..m.min(20), ..])] {
        let images = V::wrap(images);
        let answers = all_answers(&mapped, &images, alpha_max);
        for (n, (mapped, own)) in answers.iter().zip(all_answers(&background, &images, alpha_max)).enumerate() {
            assert!(*mapped == own, "answer {n}: {mapped:.100} instead of {own:.100}");
        }
    }
    assert!(mapped.is_checked());
    assert_eq!((content_of(&mapped), mapped.checksum(&never()).unwrap()), (content, checksum));
}

#[test]
fn every_answer_is_that_of_the_background_in_memory() {
    let compact = |tail| Keep::Scans { tail, alpha_max: AlphaMax::try_from(0.3).unwrap() };
    for m in [1, 16, 17, 60, 257] {
        for keep in [Keep::Everything, compact(Tail::Upper), compact(Tail::Lower), compact(Tail::TwoSided)] {
            is_the_same((m, 5, 3), keep, f16::from_f64);
            is_the_same((m, 5, 3), keep, |x| x as f32);
            is_the_same((m, 67, 20), keep, |x| x as f32);
            is_the_same((m, 5, 3), keep, |x| x);
        }
    }
    is_the_same((256, 1, 1), Keep::Everything, |x| x as f32);
}

#[test]
fn damage_is_found_at_the_first_look_and_every_later_one() {
    let clean = values((300, 40), 1, |x| x as f32);
    let background = Background::new(&clean.view(), Keep::Everything, &never()).unwrap();
    let (content, checksum) = (content_of(&background), background.checksum(&never()).unwrap());
    let open =
        |content: &[u8], seal| Background::<f32>::mapped(&file_of(content), HEAD, (300, 40), Keep::Everything, seal);
    let damaged = || Error::Damaged("the file".to_owned());
    for place in (0..content.len()).step_by(501).chain([content.len() - 1]) {
        let mut other = content.clone();
        other[place] ^= 1 << (place % 8);
        let mapped = open(&other, Some(seal(&checksum))).unwrap();
        let images = Values::F32(clean.view());
        for _ in 0..2 {
            let found = mapped.scan(&images, &ScanOptions::default(), Membership::Outside, false, &never());
            assert_eq!(found, Err(damaged()));
        }
        assert_eq!(mapped.columns(&never()), Err(damaged()));
        assert_eq!(mapped.checksum(&never()), Err(damaged()));
        assert!(open(&other, None).unwrap().columns(&never()).is_ok()); // who trusts the file
    }
    assert!(matches!(open(&content[1..], None), Err(Error::Columns(_))));
    let stopped = Interrupt::default();
    stopped.set();
    let mapped = open(&content, Some(seal(&checksum))).unwrap();
    assert_eq!(mapped.columns(&stopped), Err(Error::Interrupted));
    assert!(mapped.columns(&never()).is_ok()); // what was broken off is no damage
}

#[test]
fn sizes_that_no_file_has_are_refused() {
    let (stride, n_table) = Background::<f32>::index_shape(16, Keep::Everything).unwrap();
    let n_nodes = 64;
    let file = file_of(&vec![0; n_nodes * (stride + n_table) * size_of::<f32>()]);
    for (start, n_samples, n_nodes) in [
        (HEAD, 16, n_nodes + 1),
        (HEAD, 0, 1),
        (HEAD, 16, 0),
        (HEAD, 1 << 40, 1),
        (HEAD, usize::MAX, 1),
        (HEAD, 16, i32::MAX as usize),
        (usize::MAX, 16, 1),
        (usize::MAX - 63, 16, 1),
        (1, 16, 1),
    ] {
        let found = Background::<f32>::mapped(&file, start, (n_samples, n_nodes), Keep::Everything, None);
        assert!(found.is_err(), "{start} {n_samples} {n_nodes}");
    }
    assert!(Background::<f32>::mapped(&file, HEAD, (16, n_nodes), Keep::Everything, None).is_ok());
}

/// Whatever a file holds, every question is answered, or refused: no panic, which arithmetic that overflows is as well.
fn is_harmless<V: Value>(content: &[u8], (m, n): (usize, usize), keep: Keep, from_f64: impl Fn(f64) -> V) {
    let (stride, n_table) = Background::<V>::index_shape(m, keep).unwrap();
    let of_node = stride * size_of::<V>() + n_table * 4;
    let n_nodes = 3;
    let content: Vec<u8> = content.iter().copied().cycle().take(n_nodes * of_node).collect();
    let background = Background::<V>::mapped(&file_of(&content), HEAD, (m, n_nodes), keep, None).unwrap();
    let images = values((n, n_nodes), 5, from_f64);
    let alpha_max = match keep {
        Keep::Everything => AlphaMax::try_from(1.0).unwrap(),
        Keep::Scans { alpha_max, .. } => alpha_max,
    };
    all_answers(&background, &V::wrap(images.view()), alpha_max);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_content_makes_a_search_leave_its_arrays(
        content in prop_oneof![
            prop::collection::vec(any::<u8>(), 1..3000),
            prop::collection::vec(any::<u32>(), 1..9).prop_map(|keys| keys.iter().flat_map(|k| k.to_le_bytes()).collect()),
            prop::collection::vec(prop_oneof![Just(0_u8), Just(255)], 1..200),
        ],
        m in prop_oneof![1_usize..40, 250_usize..280, Just(4100)],
        n in prop_oneof![1_usize..4, 16_usize..20, Just(70)],
        tail in prop::sample::select(Tail::ALL),
        is_compact in any::<bool>(),
    ) {
        let alpha_max = AlphaMax::try_from(0.4).unwrap();
        let keep = if is_compact { Keep::Scans { tail: tail.1, alpha_max } } else { Keep::Everything };
        is_harmless(&content, (m, n), keep, |x| x as f32);
        is_harmless(&content, (m.min(300), n.min(3)), keep, f16::from_f64);
        is_harmless(&content, (m.min(300), n.min(3)), keep, |x| x);
    }
}

#[test]
fn ranks_that_are_listed_stay_within_their_histograms() {
    for byte in [0, 1, 127, 255] {
        is_harmless(&[byte], (6000, 70), Keep::Everything, |x| x as f32);
    }
    is_harmless(&[0, 0, 0, 0, 255, 255, 255, 255], (70_000, 70), Keep::Everything, |x| x as f32);
}
