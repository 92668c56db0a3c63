//! Everything that can be wrong with what a caller hands in; each message states the value received.

/// Why a background could not be built or an image not be scanned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An unknown name of a statistic, tail or scope.
    #[error("unknown {what} {received:?}; known are {known}")]
    UnknownName {
        /// What was named: a statistic, a tail, a scope.
        what: &'static str,
        /// The name received.
        received: String,
        /// The names that exist, in one line.
        known: String,
    },
    /// A largest threshold outside (0, 1].
    #[error("alpha_max must be in (0, 1], got {0}")]
    AlphaMax(f64),
    /// A background without images.
    #[error("the background is empty: at least 1 input is needed, got 0")]
    NoImages,
    /// More background images than there are p-values that floats tell apart.
    #[error("a background has at most {most} inputs, got {received}")]
    Samples {
        /// The largest number of images.
        most: usize,
        /// The number received.
        received: usize,
    },
    /// Images without nodes.
    #[error("at least 1 node is needed, got 0")]
    NoNodes,
    /// More images than the columns of a search count, or more nodes than numbers of them.
    #[error("at most {most} {what} can be handled at once, got {received}: scan them in parts")]
    TooMany {
        /// Inputs or nodes.
        what: &'static str,
        /// The largest number.
        most: usize,
        /// The number received.
        received: usize,
    },
    /// Thresholds for another number of images, or beyond the largest one.
    #[error("expected {expected} thresholds from 0 to {alpha_max}, one for each input, got {received}")]
    Thresholds {
        /// The number of images.
        expected: usize,
        /// The largest threshold.
        alpha_max: f64,
        /// What was received.
        received: String,
    },
    /// NaN has no rank.
    #[error("{count} of the values are NaN, the first at input {image}, node {node}")]
    NotANumber {
        /// How many values are NaN.
        count: usize,
        /// Row of the first one.
        image: usize,
        /// Column of the first one.
        node: usize,
    },
    /// Test images with another number of nodes than the background.
    #[error("the inputs have {received} nodes, but the background has {expected}")]
    Nodes {
        /// The background's number of nodes.
        expected: usize,
        /// The images' number of nodes.
        received: usize,
    },
    /// More images than were announced to a [`BackgroundBuilder`](crate::BackgroundBuilder), or fewer at its end.
    #[error("the background was to hold {expected} inputs, but {received} were given")]
    Images {
        /// The number announced.
        expected: usize,
        /// The number given.
        received: usize,
    },
    /// Builders of different backgrounds.
    #[error(
        "only parts of one background can be merged: one was announced {expected} inputs, the other {received}, \
             and both must keep the same"
    )]
    Parts {
        /// The number announced to the one.
        expected: usize,
        /// The number announced to the other.
        received: usize,
    },
    /// A builder that was interrupted while it took something in.
    #[error("this background was interrupted while inputs were added: make a new builder")]
    BrokenOff,
    /// A p-value outside (0, 1].
    #[error("p-values must be in (0, 1], got {received} at input {image}, node {node}")]
    PValue {
        /// The value received.
        received: f64,
        /// Its row.
        image: usize,
        /// Its column.
        node: usize,
    },
    /// Something that needs one p-value for each node was asked for with ties that keep their range.
    #[error(
        "ties \"range\" leave every node a range of p-values; this needs one: \"upper\", \"midrank\" or \"random\""
    )]
    Ranges,
    /// Rank histograms that are not those of the images and the grid.
    #[error("expected rank histograms of {} inputs and {} thresholds, got shape {received:?}", expected.0, expected.1)]
    Histograms {
        /// Images and thresholds.
        expected: (usize, usize),
        /// The shape received.
        received: (usize, usize),
    },
    /// Rank histograms that count more nodes than there are.
    #[error("the histograms of input {image} count {received} nodes, but there are only {expected}")]
    Counts {
        /// Row of the image.
        image: usize,
        /// The number of nodes.
        expected: usize,
        /// The number counted.
        received: u64,
    },
    /// A compact background was asked for something it did not keep.
    #[error("this background is compact: it serves {kept} only; build it whole for {asked}")]
    Compact {
        /// What the background keeps.
        kept: String,
        /// What was asked of it.
        asked: String,
    },
    /// Leave-one-out was asked for a row that the background does not hold.
    #[error("input {image} is not in the background: no background value of node {node} is as extreme as its own")]
    NotInBackground {
        /// Row of the image.
        image: usize,
        /// A node that proves it.
        node: usize,
    },
    /// Columns that claim to be sorted and are not, or have the wrong width.
    #[error("not the columns of a background: {0}")]
    Columns(String),
    /// A file whose content is another than was written.
    #[error(
        "{0} is damaged: its content has not the checksum that it was written with; copy it again from where it was \
             written, or write it anew"
    )]
    Damaged(String),
    /// An instruction set that this processor does not have.
    #[error("SUBSETSCAN_SIMD asks for {0}, which this processor does not have")]
    InstructionSet(String),
    /// Limits on the size of a block that nothing can keep.
    #[error("the number of {what} in a block must be limited to a range of positive numbers, got {min} to {max}")]
    SideLimits {
        /// Images or nodes.
        what: &'static str,
        /// The smallest number allowed.
        min: usize,
        /// The largest number allowed.
        max: usize,
    },
    /// A group with fewer images or nodes than a block must have.
    #[error("a block must have at least {min} {what}, but the group has {received}")]
    TooFew {
        /// Images or nodes.
        what: &'static str,
        /// The smallest number allowed.
        min: usize,
        /// The group's number.
        received: usize,
    },
    /// An invalid start of a group scan.
    #[error("not a start of a group scan: {0}")]
    Start(String),
    /// There is not enough memory for an array.
    #[error("not enough memory for an array of shape {shape:?}")]
    Memory {
        /// The array's shape.
        shape: Vec<usize>,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}
