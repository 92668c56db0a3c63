//! What to scan for.

use crate::name::Named;
use crate::pvalue::{AlphaMax, Ranking};
use crate::statistic::Statistic;

/// What the number of small p-values of an image is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// The subset itself, free to leave every other node out: n = `n_alpha` (the paper).
    #[default]
    Subset,
    /// All nodes, as in a classical goodness-of-fit test: n = J.
    All,
}

impl Named for Scope {
    const WHAT: &'static str = "scope";
    const ALL: &'static [(&'static str, Self)] = &[("subset", Scope::Subset), ("all", Scope::All)];
}

/// What to scan for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ScanOptions {
    /// What a subset is scored by.
    pub statistic: Statistic,
    /// How values are turned into p-values.
    pub ranking: Ranking,
    /// The largest threshold.
    pub alpha_max: AlphaMax,
    /// What the number of small p-values is compared with.
    pub scope: Scope,
}
