//! The one form of every bench: a name, where it ran, its parameters, and bars.
//!
//! A bar is a value and, where there is one, its *limit*: what a peer or the hardware reaches, measured in the same run.
//! Their ratio is what can be compared between machines; the value alone cannot.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

use super::machine::Machine;

/// What a bench measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    /// Commit of the checkout it ran in; empty outside of one.
    pub(crate) commit: String,
    pub(crate) params: Map<String, Value>,
    pub(crate) bars: Vec<Bar>,
}

/// One measured value. JSON has null where there is no limit or no goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    pub(crate) id: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What a peer or the hardware reached in the same run, in the same unit.
    pub(crate) limit: Option<f64>,
    /// `value / limit`.
    pub(crate) ratio: Option<f64>,
    /// What the ratio should be, such as `>= 0.8`; the value, where there is no limit.
    pub(crate) goal: Option<String>,
    /// Whether it is.
    pub(crate) held: Option<bool>,
}

impl Bar {
    /// A value without a limit.
    pub(crate) fn value(id: &'static str, value: f64, unit: &'static str) -> Self {
        Self { id, value, unit, limit: None, ratio: None, goal: None, held: None }
    }

    /// Sets the limit.
    pub(crate) fn against(self, limit: f64) -> Self {
        let ratio = (limit != 0.0).then(|| self.value / limit);
        Self { limit: Some(limit), ratio, ..self }
    }

    /// The ratio (the value, without a limit) should be at least this.
    pub(crate) fn at_least(self, goal: f64) -> Self {
        let held = self.ratio.unwrap_or(self.value) >= goal;
        Self { goal: Some(format!(">= {goal}")), held: Some(held), ..self }
    }

    /// The ratio (the value, without a limit) should be at most this.
    pub(crate) fn at_most(self, goal: f64) -> Self {
        let held = self.ratio.unwrap_or(self.value) <= goal;
        Self { goal: Some(format!("<= {goal}")), held: Some(held), ..self }
    }
}

impl Outcome {
    /// For people: a line a bar.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let head = format!("{}: {}", self.name, self.machine);
        let mut line = |line: &str| writeln!(text, "{}", line.trim_end()).expect("a string takes every write");
        line(&head);
        for (name, value) in &self.params {
            line(&format!("  {name} = {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
        line(&format!("\n  {:<28}{:>14} {:<10}{:>14}{:>9}{:>11}", "", "value", "", "limit", "ratio", "goal"));
        for bar in &self.bars {
            let limit = bar.limit.map(number).unwrap_or_default();
            let ratio = bar.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let goal = bar.goal.clone().unwrap_or_default();
            let held = bar.held.map_or("", |held| if held { "held" } else { "MISSED" });
            let value = number(bar.value);
            line(&format!("  {:<28}{value:>14} {:<10}{limit:>14}{ratio:>9}{goal:>11} {held}", bar.id, bar.unit));
        }
        text
    }

    /// A section of `docs/benchmarks.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.name);
        let mut line = |line: &str| writeln!(text, "{line}").expect("a string takes every write");
        let params: Vec<_> = self.params.iter().map(|(name, value)| format!("`{name}` = {value}")).collect();
        if !params.is_empty() {
            line(&format!("{}\n", params.join(", ")));
        }
        line("| | value | unit | limit | ratio | goal |");
        line("|---|--:|---|--:|--:|---|");
        for bar in &self.bars {
            let limit = bar.limit.map(number).unwrap_or_default();
            let ratio = bar.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let held = bar.held.map_or("", |held| if held { " held" } else { " **missed**" });
            let goal = bar.goal.clone().unwrap_or_default();
            line(&format!("| {} | {} | {} | {limit} | {ratio} | {goal}{held} |", bar.id, number(bar.value), bar.unit));
        }
        text
    }
}

/// Four significant digits, or all of a whole number.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 || (value.fract() == 0.0 && value.abs() < 1e15) {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor() as i32;
    format!("{value:.*}", usize::try_from(3 - magnitude).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bars: Vec<Bar>) -> Outcome {
        let machine = Machine { cpu: "cpu".into(), cores: 2, memory: "8GiB".into(), kernel: "6.1".into() };
        Outcome { name: "hash".into(), machine, commit: "abc".into(), params: Map::new(), bars }
    }

    #[test]
    fn json_has_exactly_the_fields_of_the_form() {
        let bar = Bar::value("speed", 3.0, "GB/s").against(4.0).at_least(0.8);
        let json = serde_json::to_value(outcome(vec![bar])).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&json), ["bars", "commit", "machine", "name", "params"]);
        assert_eq!(keys(&json["machine"]), ["cores", "cpu", "kernel", "memory"]);
        let expected = serde_json::json!({
            "id": "speed", "value": 3.0, "unit": "GB/s", "limit": 4.0, "ratio": 0.75, "goal": ">= 0.8", "held": false,
        });
        assert_eq!(json["bars"][0], expected);
        assert_eq!(serde_json::to_value(Bar::value("x", 1.0, "s")).unwrap()["limit"], Value::Null);
    }

    #[test]
    fn goals_are_on_the_ratio_where_there_is_a_limit() {
        assert_eq!(Bar::value("x", 3.0, "s").against(2.0).at_most(1.6).held, Some(true));
        assert_eq!(Bar::value("x", 3.0, "s").at_most(1.6).held, Some(false));
    }

    #[test]
    fn numbers_have_four_digits() {
        let cases = [(0.0, "0"), (1234.0, "1234"), (12.34567, "12.35"), (0.00123456, "0.001235"), (123456.7, "123457")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
