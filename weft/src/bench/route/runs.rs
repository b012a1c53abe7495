//! Runs of one rule that differ in their dice only.

use anyhow::Context;
use weft_route_sim::{NAMES, Run, Setup, Workload, rule, simulate};

/// What a rule made of a workload.
#[derive(Debug)]
pub(super) struct Runs(pub(super) Vec<Run>);

impl Runs {
    pub(super) fn of(name: &str, setup: &Setup, workload: &Workload, seeds: u64) -> anyhow::Result<Self> {
        let one = |seed| {
            let mut rule = rule(name, setup, workload)
                .with_context(|| format!("there is no rule '{name}': expected one of {}", NAMES.join(", ")))?;
            Ok(simulate(setup, workload, &mut *rule, seed))
        };
        (0..seeds).map(one).collect::<anyhow::Result<_>>().map(Self)
    }

    /// The mean of a figure over the runs.
    pub(super) fn mean(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        self.0.iter().map(figure).sum::<f64>() / self.0.len() as f64
    }
}
