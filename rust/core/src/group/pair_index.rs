//! The pairs of image and node by what they belong to, so that a step need only pass over those of the fixed side.

use ndarray::Ix1;

use super::elements::Elements;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::memory::zeros;

/// All pairs in cells: a block of levels and a member of the side with fewer members, the short one.
#[derive(Debug)]
pub(super) struct PairIndex {
    /// The side with fewer members.
    pub short: usize,
    n_short: usize,
    /// How many levels there are up to the end of each block.
    pub ends: Vec<usize>,
    /// The coarse grid: each threshold, and the block that ends with its levels.
    pub coarse_grid: Vec<(f64, usize)>,
    /// Where each cell's pairs begin among `others`, and where the last one's end. Cells are ordered by block.
    cells: Vec<usize>,
    /// The members of the long side in each cell.
    others: Vec<u32>,
    /// Where each long member's pairs begin among `cells_of`, and where the last one's end.
    offsets: Vec<usize>,
    /// The cells that each long member is in.
    cells_of: Vec<u32>,
}

impl PairIndex {
    /// Part the pairs into blocks of levels that end at `ends`, the last of them all levels' end, and where a coarse
    /// grid needs it.
    pub fn new(elements: &Elements, mut ends: Vec<usize>, interrupt: &Interrupt) -> Result<Self, Error> {
        let coarse_grid = elements.coarse_grid(|_| true);
        ends.extend(coarse_grid.iter().map(|(_, end)| *end).filter(|end| *end > 0));
        ends.sort_unstable();
        ends.dedup();
        let coarse_grid =
            coarse_grid.into_iter().filter_map(|(alpha, end)| Some((alpha, ends.binary_search(&end).ok()?)));
        let coarse_grid = coarse_grid.collect();
        let [n_images, n_nodes] = elements.shape;
        let short = usize::from(n_nodes < n_images);
        let n_short = elements.shape[short];
        let mut cells = zeros::<usize, _>(Ix1(ends.len() * n_short + 1))?.into_raw_vec_and_offset().0;
        let mut offsets = vec![0; elements.shape[1 - short] + 1];
        let blocks = |n: usize| elements.pairs(if n > 0 { ends[n - 1] } else { 0 }, ends[n]);
        for n in 0..ends.len() {
            interrupt.check()?;
            let counts = &mut cells[n * n_short..][..n_short];
            for pair in blocks(n) {
                counts[pair[short] as usize] += 1;
                offsets[pair[1 - short] as usize] += 1;
            }
        }
        // Each begins where it is to begin, moves on with its pairs, and so ends up where the next one begins.
        let n_pairs = begin(&mut cells);
        begin(&mut offsets);
        let mut others = zeros::<u32, _>(Ix1(n_pairs))?.into_raw_vec_and_offset().0;
        let mut cells_of = zeros::<u32, _>(Ix1(n_pairs))?.into_raw_vec_and_offset().0;
        for n in 0..ends.len() {
            interrupt.check()?;
            for pair in blocks(n) {
                let cell = n * n_short + pair[short] as usize;
                others[cells[cell]] = pair[1 - short];
                cells[cell] += 1;
                let next = &mut offsets[pair[1 - short] as usize];
                #[allow(clippy::cast_possible_truncation)] // there are far fewer blocks than 2^32 / members
                let cell = cell as u32;
                cells_of[*next] = cell;
                *next += 1;
            }
        }
        cells.rotate_right(1);
        cells[0] = 0;
        offsets.rotate_right(1);
        offsets[0] = 0;
        Ok(PairIndex { short, n_short, ends, coarse_grid, cells, others, offsets, cells_of })
    }

    /// Where a block of levels begins, and where it ends.
    pub fn levels(&self, block: usize) -> (usize, usize) {
        (if block > 0 { self.ends[block - 1] } else { 0 }, self.ends[block])
    }

    /// The long members that a short one has in a block, one for each pair.
    pub fn others(&self, block: usize, short: u32) -> &[u32] {
        let cell = block * self.n_short + short as usize;
        &self.others[self.cells[cell]..self.cells[cell + 1]]
    }

    /// The cells of a long member, one for each pair: block times number of short members plus short member.
    pub fn cells(&self, long: u32) -> &[u32] {
        &self.cells_of[self.offsets[long as usize]..self.offsets[long as usize + 1]]
    }
}

/// Turn counts into where each begins; returns the sum.
fn begin(counts: &mut [usize]) -> usize {
    let mut sum = 0;
    for count in counts {
        sum += std::mem::replace(count, sum);
    }
    sum
}
