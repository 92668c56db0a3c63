//! The simple scores that a scan has to beat: an image's p-values in one number, without any choice of a subset.

use crate::background::Background;
use crate::bins::Membership;
use crate::error::Error;
use crate::interrupt::Interrupt;
use crate::name::Named;
use crate::pvalue::{AlphaMax, Ranking};
use crate::statistic::ln_ratio;
use crate::value::{Value, Values};

/// What is made of the p-values of an image; higher is more anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Summary {
    /// 1 - mean p.
    MeanP,
    /// ln (1 / min p).
    MinimumP,
    /// 2 sum ln (1 / p) (Fisher 1925).
    Fisher,
}

impl Named for Summary {
    const WHAT: &'static str = "summary";
    const ALL: &'static [(&'static str, Self)] =
        &[("mean-p", Summary::MeanP), ("minimum-p", Summary::MinimumP), ("fisher", Summary::Fisher)];
}

impl Summary {
    /// The score of p-values, each with the number of nodes that have it, increasing.
    fn of(self, p_values: impl Iterator<Item = (f64, u32)>) -> f64 {
        let mut p_values = p_values.filter(|(_, count)| *count > 0);
        match self {
            Summary::MeanP => {
                let (sum, n) = p_values
                    .fold((0.0, 0.0), |(sum, n), (p, count)| (sum + p * f64::from(count), n + f64::from(count)));
                1.0 - sum / n
            }
            Summary::MinimumP => p_values.next().map_or(0.0, |(p, _)| ln_ratio(1.0, p)),
            Summary::Fisher => 2.0 * p_values.fold(0.0, |sum, (p, count)| sum + f64::from(count) * ln_ratio(1.0, p)),
        }
    }
}

impl<V: Value> Background<V> {
    /// Summarise the p-values of each image.
    ///
    /// # Errors
    ///
    /// If the number of nodes is not the background's, a value is NaN, the background is compact, or ties are to keep
    /// their range.
    pub fn summarise(
        &self,
        images: &Values<'_>,
        summary: Summary,
        ranking: Ranking,
        membership: Membership,
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>, Error> {
        self.check_nodes(images, interrupt)?;
        self.check_whole("summaries of all p-values")?;
        ranking.ties.check_one_p_value()?;
        let bins = self.bins(images, ranking, AlphaMax::try_from(1.0)?, membership, interrupt)?;
        self.map_histograms(images, &bins, interrupt, |_, counts| {
            Ok(summary.of(bins.thresholds().iter().copied().zip(counts.iter().copied())))
        })
    }
}
