//! The search index of a node: a 16-ary tree over its sorted values, whose leaves are the values themselves.
//!
//! A line of 16 single-precision keys fills a cache line, and one vector comparison tells how many of them are smaller
//! than a key. A search touches one line a level: two of separators, mostly in the nearest cache, and one leaf.

/// Nodes that are handled together: one cache line of single-precision values from each image, four times over.
pub(crate) const NODE_BLOCK: usize = 64;
/// Keys that are compared at once.
pub(crate) const LINE: usize = 16;

/// Where the levels of separators lie: alike for all nodes, whose columns have the same width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Sorted values of a node.
    pub width: usize,
    /// Where each level of separators begins, the root first; each is a whole number of lines.
    pub levels: Vec<usize>,
    /// Separators of a node, in all levels.
    pub n_separators: usize,
}

impl Shape {
    /// The tree over columns of this width. Columns of fewer values than a line have no tree.
    pub fn new(width: usize) -> Self {
        let mut lengths = Vec::new();
        let mut n_lines = width.div_ceil(LINE);
        while n_lines > 1 {
            lengths.push(n_lines.next_multiple_of(LINE));
            n_lines = n_lines.div_ceil(LINE);
        }
        let mut levels = Vec::new();
        let mut n_separators = 0;
        for length in lengths.into_iter().rev() {
            levels.push(n_separators);
            n_separators += length;
        }
        Shape { width, levels, n_separators }
    }

    /// Write the separators of a sorted column: the largest key of each line below, `above_all` beyond the last.
    pub fn write_separators(&self, column: &[u32], separators: &mut [u32]) {
        separators.fill(u32::MAX); // above every key
        let mut span = LINE; // values below a separator
        for &level in self.levels.iter().rev() {
            // The last line of a level needs none: what is not below another separator is there.
            for n in 0..self.width.div_ceil(span) - 1 {
                separators[level + n] = column[(n + 1) * span - 1];
            }
            span *= LINE;
        }
    }

    /// Go down a level from the n-th line of it: the line of the next level, or the leaf, where `key` belongs.
    #[allow(clippy::inline_always)] // within the loop it is compiled for the loop's instructions
    #[inline(always)]
    pub fn descend<C: CountLess>(level: usize, separators: &[u32], n: usize, key: u32) -> usize {
        let line = separators[level + n * LINE..].first_chunk();
        line.map_or(n, |line| n * LINE + C::count_less(line, key)) // levels are whole lines
    }

    /// The number of values in a sorted column that are smaller than `key`, which belongs in the n-th leaf.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    pub fn count_less<C: CountLess>(&self, column: &[u32], n: usize, key: u32) -> usize {
        // The last leaf begins early enough to be whole: what precedes it is smaller anyway.
        match self.width.checked_sub(LINE) {
            Some(last) => {
                let start = (n * LINE).min(last);
                column[start..].first_chunk().map_or(0, |line| start + C::count_less(line, key))
            }
            None => column.iter().filter(|value| **value < key).count(),
        }
    }
}

/// How a line is compared.
pub(crate) trait CountLess {
    /// How many of a line's keys are smaller.
    fn count_less(line: &[u32; LINE], key: u32) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Slow;

    impl CountLess for Slow {
        fn count_less(line: &[u32; LINE], key: u32) -> usize {
            line.iter().filter(|other| **other < key).count()
        }
    }

    proptest! {
        #[test]
        fn the_tree_counts_what_is_smaller(
            mut column in prop_oneof![
                prop::collection::vec(0_u32..40, 1..70),
                prop::collection::vec(0_u32..5000, 250..600),
                prop::collection::vec(any::<u32>().prop_map(|key| key.min(u32::MAX - 1)), 4000..4200),
            ],
            keys in prop::collection::vec(0_u32..u32::MAX, 20),
        ) {
            column.sort_unstable();
            let shape = Shape::new(column.len());
            let mut separators = vec![0; shape.n_separators];
            shape.write_separators(&column, &mut separators);
            let (first, last) = (column[0], column[column.len() - 1]);
            let edges = [0, first, first + 1, last, last + 1, u32::MAX - 1];
            let own = column.iter().step_by(7).flat_map(|key| [*key, key + 1]);
            for key in keys.into_iter().chain(edges).chain(own.collect::<Vec<_>>()) {
                let expected = column.partition_point(|value| *value < key);
                let down = |n, level: &usize| Shape::descend::<Slow>(*level, &separators, n, key);
                let leaf = shape.levels.iter().fold(0, down);
                prop_assert_eq!(shape.count_less::<Slow>(&column, leaf, key), expected);
            }
        }
    }

    #[test]
    fn levels_grow_with_the_width() {
        let levels = |width| Shape::new(width).levels.len();
        assert_eq!([1, 16, 17, 256, 257, 4096, 4097, 65536].map(levels), [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}
