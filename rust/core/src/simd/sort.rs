//! Sorting the ends of a column: by splitting, as quicksort does, and networks of comparisons where few keys are left.

use super::lanes::{Kernel, Lanes};
use crate::index::LINE;

/// Lines of keys that a network sorts at most.
const NETWORK: usize = 8;

/// Sort a column as far as its `low` smallest and `high` largest keys are concerned.
pub(crate) struct SortEnds<'a> {
    pub column: &'a mut [u32],
    pub low: usize,
    pub high: usize,
    /// Room that can be used again.
    pub scratch: &'a mut Vec<u32>,
}

impl Kernel for SortEnds<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let SortEnds { column, low, high, scratch } = self;
        let n = column.len();
        if !L::HAS_NETWORKS {
            return sort_ends(column, low, high);
        }
        scratch.resize(scratch.len().max(n + LINE), 0);
        let mut patience = 4 * n * n.ilog2().max(1) as usize; // for splits that come to nothing
        let mut parts = vec![(0, n)];
        while let Some((start, end)) = parts.pop() {
            if start >= low && end <= n - high {
                continue; // nobody asks for the order of these
            }
            let keys = &mut column[start..end];
            if keys.len() <= NETWORK * LINE {
                sort_few::<L>(keys);
            } else if patience < keys.len() {
                keys.sort_unstable();
            } else {
                patience -= keys.len();
                let pivot = pivot_of::<L>(keys);
                let mut n_below = split::<L>(keys, pivot, scratch);
                if n_below == 0 {
                    // The pivot is the smallest; its equals are where they belong.
                    n_below = split::<L>(keys, pivot.saturating_add(1), scratch);
                } else {
                    parts.push((start, start + n_below));
                }
                parts.push((start + n_below, end));
            }
        }
    }
}

/// The same by the standard library, for any keys.
pub(crate) fn sort_ends<K: Ord>(column: &mut [K], low: usize, high: usize) {
    if low == 0 && high < column.len() {
        let (_, _, largest) = column.select_nth_unstable(column.len() - high - 1);
        largest.sort_unstable();
    } else {
        column.sort_unstable();
    }
}

/// The middle of a few keys from everywhere.
#[inline(always)]
fn pivot_of<L: Lanes>(keys: &[u32]) -> u32 {
    let mut sample = [[0; LINE]];
    sample[0].iter_mut().zip(keys.iter().step_by(keys.len() / LINE)).for_each(|(to, key)| *to = *key);
    L::sort(&mut sample);
    sample[0][LINE / 2]
}

/// Put the keys below the pivot first; how many there are.
#[inline(always)]
fn split<L: Lanes>(keys: &mut [u32], pivot: u32, scratch: &mut [u32]) -> usize {
    let (mut n_below, mut n_others) = (0, 0);
    let whole = keys.len() - keys.len() % LINE;
    for start in (0..whole).step_by(LINE) {
        let Some(line) = keys[start..].first_chunk::<LINE>().copied() else { break };
        // What is written beyond the keys below lies within the lines that were read.
        if let (Some(below), Some(others)) = (keys[n_below..].first_chunk_mut(), scratch[n_others..].first_chunk_mut())
        {
            let n = L::split(&line, pivot, below, others);
            n_below += n;
            n_others += LINE - n;
        }
    }
    for n in whole..keys.len() {
        let key = keys[n];
        if key < pivot {
            keys[n_below] = key;
            n_below += 1;
        } else {
            scratch[n_others] = key;
            n_others += 1;
        }
    }
    keys[n_below..].copy_from_slice(&scratch[..n_others]);
    n_below
}

/// Sort at most as many keys as a network does.
#[inline(always)]
fn sort_few<L: Lanes>(keys: &mut [u32]) {
    match keys.len().div_ceil(LINE) {
        0 | 1 => sort_lines::<L, 1>(keys),
        2 => sort_lines::<L, 2>(keys),
        3 | 4 => sort_lines::<L, 4>(keys),
        _ => sort_lines::<L, NETWORK>(keys),
    }
}

#[inline(always)]
fn sort_lines<L: Lanes, const LINES: usize>(keys: &mut [u32]) {
    let mut lines = [[u32::MAX; LINE]; LINES];
    lines.as_flattened_mut()[..keys.len()].copy_from_slice(keys);
    L::sort(&mut lines);
    keys.copy_from_slice(&lines.as_flattened()[..keys.len()]);
}
