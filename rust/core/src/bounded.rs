//! What branch and bound parts further: the highest bound comes first.

use std::cmp::Ordering;

/// A part of what is searched, in the order of what nothing in it exceeds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounded<T> {
    pub bound: f64,
    pub part: T,
}

impl<T> Ord for Bounded<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bound.total_cmp(&other.bound)
    }
}

impl<T> PartialOrd for Bounded<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Bounded<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Bounded<T> {}
