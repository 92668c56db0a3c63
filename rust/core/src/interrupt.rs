//! A flag by which a caller stops work that is under way on other threads.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Asked for between small pieces of work; once [set](Interrupt::set), the work ends with [`Error::Interrupted`].
#[derive(Debug, Default)]
pub struct Interrupt(AtomicBool);

impl Interrupt {
    /// Ask the work to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
