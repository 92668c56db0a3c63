//! The mode of floating-point arithmetic, which every thread has for itself.
//!
//! Libraries that are built with `-ffast-math` set it where they are loaded: subnormal numbers are then taken for zeros,
//! by some instructions and not by others.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// For as long as it lives, arithmetic on this thread follows IEEE 754: subnormal numbers are what they are, and results
/// are rounded to the nearest.
#[derive(Debug)]
pub struct StandardFloats {
    before: Mode,
    /// The mode is the thread's.
    thread: PhantomData<*const ()>,
}

impl StandardFloats {
    /// Set the mode; what it was comes back when this is dropped.
    #[must_use]
    pub fn set() -> Self {
        let before = mode();
        if before & NOT_STANDARD != 0 {
            set_mode(before & !NOT_STANDARD);
        }
        StandardFloats { before, thread: PhantomData }
    }
}

impl Drop for StandardFloats {
    fn drop(&mut self) {
        if self.before & NOT_STANDARD != 0 {
            set_mode(self.before);
        }
    }
}

#[cfg(target_arch = "x86_64")]
use x86_64::{Mode, NOT_STANDARD, mode, set_mode};

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    pub type Mode = u32;
    /// Of MXCSR: results that are subnormal become zero, how results are rounded, operands that are subnormal are zeros.
    pub const NOT_STANDARD: Mode = 1 << 15 | 0b11 << 13 | 1 << 6;

    pub fn mode() -> Mode {
        let mut mode: Mode = 0;
        // SAFETY: it writes 32 bits.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn set_mode(mode: Mode) {
        // SAFETY: it reads 32 bits, which `mode` has returned but for bits that may be cleared.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
use aarch64::{Mode, NOT_STANDARD, mode, set_mode};

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use std::arch::asm;

    pub type Mode = u64;
    /// Of FPCR: subnormal numbers are zeros, how results are rounded, the same for half precision, operands alone.
    pub const NOT_STANDARD: Mode = 1 << 24 | 0b11 << 22 | 1 << 19 | 1;

    pub fn mode() -> Mode {
        let mode: Mode;
        // SAFETY: any program may read it.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }

    pub fn set_mode(mode: Mode) {
        // SAFETY: any program may write what `mode` has returned but for bits that may be cleared.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use unknown::{Mode, NOT_STANDARD, mode, set_mode};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod unknown {
    pub type Mode = u32;
    pub const NOT_STANDARD: Mode = 0;

    pub fn mode() -> Mode {
        0
    }

    pub fn set_mode(_: Mode) {}
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use std::hint::black_box;

    use super::{NOT_STANDARD, StandardFloats, mode, set_mode};

    /// Whether half of the smallest normal number is a number.
    fn has_subnormals() -> bool {
        black_box(f32::MIN_POSITIVE) * black_box(0.5) > 0.0
    }

    #[test]
    fn the_mode_is_standard_for_a_while() {
        let before = mode();
        #[cfg(target_arch = "x86_64")]
        set_mode(before | 1 << 15 | 1 << 6);
        #[cfg(target_arch = "aarch64")]
        set_mode(before | 1 << 24);
        assert!(!has_subnormals());
        {
            let _standard = StandardFloats::set();
            assert!(has_subnormals());
            assert_eq!(mode() & NOT_STANDARD, 0);
        }
        assert!(!has_subnormals());
        set_mode(before);
        assert!(has_subnormals());
    }
}
