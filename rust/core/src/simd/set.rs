//! The instruction sets: which there are, which is chosen, and how a loop is run with one.

use std::env;
use std::sync::OnceLock;

use super::lanes::{Kernel, Plain};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::error::Error;
use crate::name::Named;

/// Environment variable that chooses an instruction set by name.
pub const VARIABLE: &str = "SUBSETSCAN_SIMD";

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// What every processor of this kind has.
    Plain,
    /// AVX2, on x86-64 processors since about 2013.
    Avx2,
    /// AVX-512 (F, BW, VL), on server processors of x86-64.
    Avx512,
}

impl Named for InstructionSet {
    const WHAT: &'static str = "instruction set";
    const ALL: &'static [(&'static str, Self)] =
        &[("plain", InstructionSet::Plain), ("avx2", InstructionSet::Avx2), ("avx512", InstructionSet::Avx512)];
}

impl InstructionSet {
    /// Whether this processor has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Plain => true,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => x86::avx2_features().all(|(_, is_there)| is_there),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => x86::avx512_features().all(|(_, is_there)| is_there),
            #[cfg(not(target_arch = "x86_64"))]
            InstructionSet::Avx2 | InstructionSet::Avx512 => false,
        }
    }

    /// The one that `SUBSETSCAN_SIMD` names, or the widest that this processor has. Looked up once.
    ///
    /// # Errors
    ///
    /// If the variable names an unknown one, or one that the processor does not have.
    pub fn chosen() -> Result<Self, Error> {
        static CHOSEN: OnceLock<Result<InstructionSet, Error>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| match env::var(VARIABLE) {
                Ok(name) => match Self::by_name(&name)? {
                    set if set.is_available() => Ok(set),
                    _ => Err(Error::InstructionSet(name)),
                },
                Err(_) => Ok([InstructionSet::Avx512, InstructionSet::Avx2]
                    .into_iter()
                    .find(|set| set.is_available())
                    .unwrap_or(InstructionSet::Plain)),
            })
            .clone()
    }
}

/// Run a loop with an instruction set that this processor has.
pub(crate) fn run<K: Kernel>(set: InstructionSet, kernel: K) -> K::Output {
    match set {
        InstructionSet::Plain => kernel.run::<Plain>(),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => x86::run_avx2(kernel),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => x86::run_avx512(kernel),
        #[cfg(not(target_arch = "x86_64"))]
        InstructionSet::Avx2 | InstructionSet::Avx512 => kernel.run::<Plain>(),
    }
}

/// Ask for values that are about to be read.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
