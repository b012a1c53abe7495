//! What an audit found, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// Figures by name.
pub(super) type Numbers = BTreeMap<String, f64>;

/// One check.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) name: String,
    /// What must hold.
    pub(super) says: String,
    /// Whether the check would have seen it otherwise; `None`: it was not made.
    pub(super) control: Option<bool>,
    pub(super) holds: bool,
    pub(super) saw: String,
    pub(super) numbers: Numbers,
}

/// All checks.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) router: String,
    pub(super) prompts: u32,
    pub(super) findings: Vec<Finding>,
}

impl Finding {
    const fn verdict(&self) -> &'static str {
        match (self.holds, self.control) {
            (_, None) => "not tried",
            (false, Some(_)) => "FAILED",
            (true, Some(false)) => "shows nothing",
            (true, Some(true)) => "holds",
        }
    }
}

impl Report {
    /// Why the audit does not pass; `None`: it does.
    pub(super) fn fault(&self) -> Option<String> {
        let named = |verdict: &str| {
            let those = self.findings.iter().filter(|finding| finding.verdict() == verdict);
            those.map(|finding| finding.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (failed, blind) = (named("FAILED"), named("shows nothing"));
        match (failed.is_empty(), blind.is_empty()) {
            (false, _) => Some(format!("isolation does not hold: {failed}")),
            (true, false) => Some(format!(
                "the audit could not have seen a leak: {blind}. Its control failed; try more or longer prompts (--prompts, --prompt-tokens), on a quieter cluster"
            )),
            (true, true) => None,
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "check": finding.name, "says": finding.says, "verdict": finding.verdict(), "control": finding.control,
                "saw": finding.saw, "numbers": finding.numbers,
            })
        };
        json!({
            "model": self.model, "router": self.router, "prompts": self.prompts, "passed": self.fault().is_none(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    pub(super) fn as_markdown(&self) -> String {
        let mut text =
            format!("# Isolation of tenants\n\n{} at {}, {} prompts a tenant\n", self.model, self.router, self.prompts);
        for finding in &self.findings {
            let _ =
                write!(text, "\n- **{}**: {}. {}.\n  {}\n", finding.verdict(), finding.name, finding.says, finding.saw);
        }
        let verdict = self.fault().map_or("All that was tried holds.".to_owned(), |fault| format!("{fault}."));
        let _ = write!(
            text,
            "\n{verdict}\n\nNot in it: a node daemon may fetch any block whose hash it knows, so that who has a node's certificate and key, or root on a GPU host, is not held off by tenants' salts.\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: &[(bool, Option<bool>)]) -> Report {
        let finding = |(at, (holds, control)): (usize, &(bool, Option<bool>))| Finding {
            name: format!("check {at}"),
            says: "It holds".to_owned(),
            control: *control,
            holds: *holds,
            saw: "this".to_owned(),
            numbers: Numbers::default(),
        };
        let findings = findings.iter().enumerate().map(finding).collect();
        Report { model: "m".to_owned(), router: "r".to_owned(), prompts: 8, findings }
    }

    #[test]
    fn an_audit_passes_only_if_it_would_have_seen_a_leak_and_saw_none() {
        assert_eq!(report(&[(true, Some(true)), (true, None)]).fault(), None);
        assert!(report(&[(true, Some(true)), (false, Some(true))]).fault().unwrap().contains("does not hold: check 1"));
        assert!(report(&[(false, Some(false))]).fault().unwrap().contains("does not hold"), "seen is seen");
        assert!(report(&[(true, Some(false))]).fault().unwrap().contains("could not have seen a leak: check 0"));
    }
}
