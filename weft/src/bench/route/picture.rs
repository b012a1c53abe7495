//! Times to first token under each rule, as one picture.

use std::path::Path;

use super::runs::Runs;
use crate::bench::plot;
use crate::bench::trace::Report;
use crate::bench::trace::report::Summary;

/// Draws the curves of the first run of each rule.
pub(super) fn curves(all: &[(&str, Runs)], prefill_tokens_per_s: f64, path: &Path) -> anyhow::Result<()> {
    let reports: Vec<_> = all
        .iter()
        .filter_map(|(name, runs)| {
            let mut samples = runs.0.first()?.ttft_s.clone();
            let (requests, ttft_s) = (samples.len() as u64, Summary::of(&mut samples));
            Some((*name, Report { requests, ttft_s, ttft_samples_s: samples, ..Report::default() }))
        })
        .collect();
    let curves: Vec<_> = reports.iter().map(|(name, report)| (*name, report)).collect();
    plot::ttft(&curves, Some(prefill_tokens_per_s as u32), path)
}
