//! Exact non-parametric subset scanning.
//!
//! An image is a row of node values. Each value is ranked among the values that clean background images gave the
//! same node ([`Background`]), the ranks are empirical p-values ([`pvalue`]), and the scan finds the subset of nodes
//! and the threshold alpha that maximise a non-parametric scan statistic ([`Statistic`], [`Background::scan`]). On a grid of
//! ranks an image is a histogram, which is what makes the search over all subsets linear in the number of nodes.
//!
//! This crate knows nothing of Python. Nothing in it depends on the number of threads: work is split over images and
//! nodes, and partial results are integers. Arithmetic must be that of IEEE 754 on every thread: where other libraries
//! have set another mode, [`StandardFloats`] sets it for a while.
//!
//! ```
//! use ndarray::array;
//! use subsetscan_core::{Background, Interrupt, Keep, Membership, ScanOptions, Values};
//!
//! let clean = array![[0.0_f32, 1.0], [0.5, 2.0], [1.0, 3.0]];
//! let never = Interrupt::default();
//! let background = Background::new(&clean.view(), Keep::Everything, &never)?;
//!
//! let image = array![[2.0_f32, 0.5]];
//! let options = ScanOptions::default();
//! let found = background.scan(&Values::F32(image.view()), &options, Membership::Outside, true, &never)?;
//! assert_eq!(found.scores, [4.0_f64.ln()]); // one node with p = 1/4
//! assert_eq!(found.nodes.unwrap().indices, [0]);
//! # Ok::<(), subsetscan_core::Error>(())
//! ```

#![cfg_attr(test, allow(clippy::float_cmp))] // results are exact, and tests say so

mod background;
mod bins;
mod bounded;
mod builder;
mod error;
mod group;
mod histogram;
mod index;
mod interrupt;
mod keys;
mod map;
mod mapped;
mod memory;
mod name;
mod options;
pub mod pvalue;
mod range;
mod result;
mod scan;
mod search;
mod simd;
mod statistic;
mod summary;
mod ties;
mod value;
mod within;

pub use background::{Background, Keep};
pub use bins::Membership;
pub use builder::BackgroundBuilder;
pub use error::Error;
pub use group::{GroupBound, GroupOptions, GroupScan, SideLimits, Starts, scan_group_p_values};
pub use interrupt::Interrupt;
pub use map::{MappedFile, Seal};
pub use name::Named;
pub use options::{ScanOptions, Scope};
pub use pvalue::{AlphaMax, Ranking, Tail, Ties};
pub use result::{NodeSubsets, Scan};
pub use scan::{Part, scan_histograms, scan_p_values};
pub use simd::floats::StandardFloats;
pub use simd::set::InstructionSet;
pub use statistic::Statistic;
pub use summary::Summary;
pub use value::{Value, Values};
pub use within::within_sample_ranks;
