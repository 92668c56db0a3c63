//! The operations of the hot loops in vector instructions: sorting, transposing, screening.
//!
//! Each instruction set is chosen at run time and gives the same bits; the plain one is ordinary Rust, which the compiler
//! vectorises for whatever the target always has (NEON on ARM). `x86` and `floats` are the modules with `unsafe` code.
#![allow(clippy::inline_always)] // what is not inlined loses the instructions of its caller

pub(crate) mod floats;
pub(crate) mod lanes;
pub(crate) mod set;
pub(crate) mod sort;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;
