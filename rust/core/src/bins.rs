//! The bins of rank histograms, and who is ranked among the background images.

use std::sync::Arc;

use ndarray::ArrayView2;

use crate::error::Error;
use crate::index::Extremes;
use crate::interrupt::Interrupt;
use crate::name::Named;
use crate::pvalue::{AlphaMax, GridRange, Ranking, Tail, Ties, thresholds};
use crate::ties::TieBreaker;
use crate::value::Values;

/// Who is ranked among the background images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Membership {
    /// Images that are not among them.
    #[default]
    Outside,
    /// Background images, each among the others: its own value does not count (leave-one-out).
    Inside,
    /// The same for null scores: a rank among M - 1 images gets the p-value that it has among M, as it would outside.
    ///
    /// A few extreme ranks can decide a score, and then many images share it: one node at the smallest p-value, say. If
    /// that p-value were 1 / M here and 1 / (M + 1) outside, every such image outside would exceed all of these.
    Calibrating,
}

impl Named for Membership {
    const WHAT: &'static str = "membership";
    const ALL: &'static [(&'static str, Self)] =
        &[("outside", Membership::Outside), ("inside", Membership::Inside), ("calibrating", Membership::Calibrating)];
}

impl Membership {
    pub(crate) fn own_values(self) -> usize {
        usize::from(self != Membership::Outside)
    }

    /// The number of background images whose grid of p-values counts.
    pub(crate) fn n_ranked(self, n_samples: usize) -> usize {
        if self == Membership::Inside { n_samples - 1 } else { n_samples }
    }

    /// The range of a value that `less` of `n_samples` background values fall below and `no_larger` do not exceed.
    pub(crate) fn range(self, tail: Tail, n_samples: usize, (less, no_larger): (usize, usize)) -> GridRange {
        let n_others = n_samples.saturating_sub(self.own_values());
        // Never more, unless an image is not in the background, or a column not sorted, in a file of somebody's making:
        // then no count can be relied on.
        let larger = n_samples.saturating_sub(no_larger).min(n_others);
        let smaller = less.min(n_others - larger);
        GridRange::new(tail, larger, smaller, n_others, self.n_ranked(n_samples) + 1)
    }
}

/// Values of some images, and the keys that they have to pass.
pub(crate) type Lanes<'a> = (ArrayView2<'a, f32>, &'a Extremes);

/// The bins of a rank histogram: one for each threshold up to `alpha_max`.
#[derive(Debug, Clone)]
pub(crate) struct Bins {
    pub ranking: Ranking,
    pub membership: Membership,
    alpha_max: AlphaMax,
    thresholds: Arc<[f64]>,
    /// Of the images to be ranked, for ties that need one.
    breaker: Option<TieBreaker>,
    /// Of the background, where vector instructions search it.
    extremes: Option<Arc<Extremes>>,
}

impl Bins {
    /// The bins for ranks among `n_samples` background images, or among all but one of them.
    pub fn new(ranking: Ranking, alpha_max: AlphaMax, n_samples: usize, membership: Membership) -> Self {
        let thresholds = thresholds(ranking, membership.n_ranked(n_samples), alpha_max).into();
        Bins { ranking, membership, alpha_max, thresholds, breaker: None, extremes: None }
    }

    /// The same bins, with what has to be passed to fall in one.
    pub fn with_extremes(self, extremes: Option<Extremes>) -> Self {
        Bins { extremes: extremes.map(Arc::new), ..self }
    }

    /// Whether these are the bins for such ranks, whatever seed draws among ties.
    pub fn are_for(&self, ranking: Ranking, alpha_max: AlphaMax, membership: Membership) -> bool {
        let Ranking { tail, ties, .. } = ranking;
        let own = (self.ranking.tail, self.ranking.ties, self.alpha_max, self.membership);
        own == (tail, ties, alpha_max, membership)
    }

    /// The same bins for ranks of these images, whose ties may need a tie breaker.
    pub fn for_images(self, ranking: Ranking, images: &Values<'_>, interrupt: &Interrupt) -> Result<Self, Error> {
        let needs_none = matches!(ranking.ties, Ties::Upper | Ties::Range);
        let breaker = if needs_none { None } else { Some(TieBreaker::new(ranking, images, interrupt)?) };
        Ok(Bins { ranking, breaker, ..self })
    }

    /// What decides between tied values, where ties do not simply take the upper end.
    pub fn breaker(&self) -> Option<&TieBreaker> {
        self.breaker.as_ref()
    }

    /// What vector instructions search, and which values they search for; None where they do not.
    pub fn lanes<'a>(&'a self, images: &'a Values<'_>) -> Option<Lanes<'a>> {
        match (images, &self.extremes) {
            (Values::F32(view), Some(extremes)) => Some((view.view(), extremes)),
            _ => None,
        }
    }

    /// The p-value of each bin, increasing.
    pub fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }

    /// Number of bins.
    pub fn n_bins(&self) -> usize {
        self.thresholds.len()
    }

    /// Background values of a node that decide in which bin, if any, an image falls.
    pub fn depth(&self) -> usize {
        self.n_bins() + self.membership.own_values()
    }

    /// Whether two-sided ranks beyond the last bin's belong to the last bin as well: all of them mean p = 1.
    #[allow(clippy::float_cmp)] // p-values are capped at exactly 1
    pub fn last_is_open(&self) -> bool {
        self.ranking.tail == Tail::TwoSided && self.thresholds.last() == Some(&1.0)
    }
}
