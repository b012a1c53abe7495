//! What a replay measured.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_engine_sim::WeftUsage;

use super::client::{Answered, Failure};
use crate::bench::form::Bar;
use crate::workload::Bound;

/// Distinct reasons of failures that are kept apart; further ones are counted as "other".
const REASONS_MAX: usize = 16;

/// Result of one replay.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Requests that failed, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Prompt tokens of answered requests.
    pub(crate) prompt_tokens: u64,
    /// Tokens of the answers.
    pub(crate) output_tokens: u64,
    /// Prompt tokens that were not computed.
    pub(crate) cached_tokens: u64,
    /// Prompt tokens by source, and bytes verified, as far as the engines tell.
    pub(crate) sources: WeftUsage,
    /// What an infinite cache would have spared.
    pub(crate) bound: Bound,
    /// Time to first token in seconds.
    pub(crate) ttft_s: Summary,
    /// Time to the last token in seconds.
    pub(crate) e2e_s: Summary,
    /// How late requests were sent, in seconds; part of the times above.
    pub(crate) lateness_s: Summary,
    /// From the first request due to the last answer, in seconds.
    pub(crate) elapsed_s: f64,
    /// Times to first token in seconds, ascending, for plots.
    #[serde(skip)]
    pub(crate) ttft_samples_s: Vec<f64>,
}

/// A distribution in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
}

/// Samples of a replay that goes on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    report: Report,
    first_token: Vec<f64>,
    last_token: Vec<f64>,
    lateness: Vec<f64>,
}

impl Tally {
    pub(crate) fn sent(&mut self, late: Duration) {
        self.report.requests += 1;
        self.lateness.push(late.as_secs_f64());
    }

    pub(crate) fn answered(&mut self, answer: &Answered) {
        let report = &mut self.report;
        report.prompt_tokens += answer.usage.prompt_tokens;
        report.output_tokens += answer.usage.completion_tokens;
        report.cached_tokens += answer.usage.cached_tokens();
        if let Some(weft) = answer.usage.weft {
            report.sources += weft;
        }
        self.first_token.push(answer.first_token.as_secs_f64());
        self.last_token.push(answer.last_token.as_secs_f64());
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        let failures = &mut self.report.failures;
        let reason: String = failure.to_string().chars().take(200).collect();
        let known = failures.contains_key(&reason) || failures.len() < REASONS_MAX;
        *failures.entry(if known { reason } else { "other".to_owned() }).or_default() += 1;
    }

    pub(crate) fn failures(&self) -> usize {
        usize::try_from(self.report.failed()).unwrap_or(usize::MAX)
    }

    /// Requests answered or failed.
    pub(crate) fn done(&self) -> usize {
        self.first_token.len() + self.failures()
    }

    pub(crate) fn finish(mut self, bound: Bound, elapsed: Duration) -> Report {
        self.report.ttft_s = Summary::of(&mut self.first_token);
        self.report.e2e_s = Summary::of(&mut self.last_token);
        self.report.lateness_s = Summary::of(&mut self.lateness);
        Report { bound, elapsed_s: elapsed.as_secs_f64(), ttft_samples_s: self.first_token, ..self.report }
    }
}

impl Summary {
    /// Sorts the samples. All zero for none.
    pub(crate) fn of(samples: &mut [f64]) -> Self {
        samples.sort_by(f64::total_cmp);
        let Some(last) = samples.len().checked_sub(1) else { return Self::default() };
        let at = |level: f64| samples[last.min((level * samples.len() as f64) as usize)];
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        Self { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99) }
    }
}

impl Report {
    /// Failed requests.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Share of prompt tokens that were not computed.
    pub(crate) fn hit_rate(&self) -> f64 {
        self.cached_tokens as f64 / self.prompt_tokens.max(1) as f64
    }

    /// Prompt and output tokens a second.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        (self.prompt_tokens + self.output_tokens) as f64 / self.elapsed_s.max(f64::MIN_POSITIVE)
    }

    /// The report in the form of all benches.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        let share = |tokens: u64| tokens as f64 / self.prompt_tokens.max(1) as f64;
        let WeftUsage { device, host, disk, object, peer, computed, verified_bytes } = self.sources;
        vec![
            Bar::value("requests", self.requests as f64, "requests"),
            Bar::value("failures", self.failed() as f64, "requests").at_most(0.0),
            Bar::value("prompt_tokens", self.prompt_tokens as f64, "tokens"),
            Bar::value("hit_rate", self.hit_rate(), "share").against(self.bound.share()),
            Bar::value("device_share", share(device), "share"),
            Bar::value("host_share", share(host), "share"),
            Bar::value("disk_share", share(disk), "share"),
            Bar::value("object_share", share(object), "share"),
            Bar::value("peer_share", share(peer), "share"),
            Bar::value("computed_share", share(computed), "share"),
            Bar::value("verified_bytes", verified_bytes as f64, "bytes"),
            Bar::value("ttft_p50", self.ttft_s.p50, "s"),
            Bar::value("ttft_p90", self.ttft_s.p90, "s"),
            Bar::value("ttft_p99", self.ttft_s.p99, "s"),
            Bar::value("e2e_p50", self.e2e_s.p50, "s"),
            Bar::value("e2e_p99", self.e2e_s.p99, "s"),
            Bar::value("lateness_p99", self.lateness_s.p99, "s"),
            Bar::value("throughput", self.tokens_per_s(), "tokens/s"),
        ]
    }
}

/// A row of the comparison: a label, and a cell made of a report.
type Line = (&'static str, fn(&Report) -> String);

/// Reports side by side, a column each.
pub(crate) fn table(columns: &[(&str, &Report)]) -> String {
    let lines: &[Line] = &[
        ("requests", |r| r.requests.to_string()),
        ("  failed", |r| r.failed().to_string()),
        ("prompt tokens", |r| count(r.prompt_tokens)),
        ("  on device", |r| part(r.sources.device, r)),
        ("  from host memory", |r| part(r.sources.host, r)),
        ("  from disk", |r| part(r.sources.disk, r)),
        ("  from object store", |r| part(r.sources.object, r)),
        ("  from peers", |r| part(r.sources.peer, r)),
        ("  computed", |r| part(r.sources.computed, r)),
        ("hit rate", |r| percent(r.hit_rate())),
        ("  infinite cache", |r| percent(r.bound.share())),
        ("time to first token p50", |r| seconds(r.ttft_s.p50)),
        ("  p90", |r| seconds(r.ttft_s.p90)),
        ("  p99", |r| seconds(r.ttft_s.p99)),
        ("  mean", |r| seconds(r.ttft_s.mean)),
        ("time to last token p50", |r| seconds(r.e2e_s.p50)),
        ("block bytes verified", |r| bytes(r.sources.verified_bytes)),
        ("tokens per second", |r| count(r.tokens_per_s() as u64)),
    ];
    let mut text = String::new();
    let mut row = |label: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>22}")).collect();
        writeln!(text, "{label:<26}{cells}").expect("a string takes every write");
    };
    row("", columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (label, cell) in lines {
        let cells: Vec<_> = columns.iter().map(|(_, report)| cell(report)).collect();
        let told = cells.iter().any(|cell| !cell.starts_with("0 ")) || !label.starts_with("  from");
        if told {
            row(label, cells);
        }
    }
    for (name, report) in columns {
        for (reason, times) in &report.failures {
            writeln!(text, "{name}: {times} failed: {reason}").expect("a string takes every write");
        }
    }
    text
}

fn part(tokens: u64, report: &Report) -> String {
    format!("{} ({})", count(tokens), percent(tokens as f64 / report.prompt_tokens.max(1) as f64))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

fn bytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3)];
    units
        .iter()
        .find(|(_, scale)| bytes >= *scale)
        .map_or_else(|| format!("{bytes} B"), |(unit, scale)| format!("{:.1} {unit}", bytes / scale))
}

/// With a space between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut samples: Vec<f64> = (0..1000).rev().map(f64::from).collect();
        assert_eq!(Summary::of(&mut samples), Summary { mean: 499.5, p50: 500.0, p90: 900.0, p99: 990.0 });
        assert_eq!(Summary::of(&mut [3.0]), Summary { mean: 3.0, p50: 3.0, p90: 3.0, p99: 3.0 });
        assert_eq!(Summary::of(&mut []), Summary::default());
    }

    #[test]
    fn failures_are_counted_by_reason_and_the_reasons_are_bounded() {
        let mut tally = Tally::default();
        for number in 0..40 {
            tally.failed(&Failure::Connection(format!("number {number}")));
            tally.failed(&Failure::Unfinished);
        }
        let report = tally.finish(Bound::default(), Duration::ZERO);
        assert_eq!(report.failed(), 80);
        assert_eq!(report.failures["answer ended without usage and [DONE]"], 40);
        assert_eq!(report.failures.len(), REASONS_MAX + 1);
    }

    #[test]
    fn tables_show_what_was_used_and_spare_what_was_not() {
        let report = Report {
            prompt_tokens: 1_234_567,
            cached_tokens: 617_283,
            sources: WeftUsage { host: 617_283, computed: 617_284, verified_bytes: 2_000_000, ..WeftUsage::default() },
            ..Report::default()
        };
        let text = table(&[("with weft", &report), ("without", &Report::default())]);
        assert!(text.contains("617 283 (50.0 %)") && text.contains("2.0 MB"), "{text}");
        assert!(!text.contains("from disk"), "{text}");
    }
}
