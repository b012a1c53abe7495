//! What was looked at, what was seen, and what to do about it.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Well,
    /// It works, and could be better.
    Poor,
    /// Something does not work.
    Broken,
    /// It could not be looked at, or need not be.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// What.
    pub(super) of: String,
    pub(super) state: State,
    /// What was seen.
    pub(super) seen: String,
    /// What to do; empty when there is nothing to do.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn well(of: &str, seen: impl Into<String>) -> Self {
        Self { of: of.to_owned(), state: State::Well, seen: seen.into(), remedy: String::new() }
    }

    pub(super) fn poor(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Poor, remedy: remedy.into(), ..Self::well(of, seen) }
    }

    pub(super) fn broken(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Broken, ..Self::poor(of, seen, remedy) }
    }

    pub(super) fn skipped(of: &str, why: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::well(of, why) }
    }
}

/// For people: a line each, and the remedy below it.
pub(super) fn as_text(findings: &[Finding]) -> String {
    let mark = |state| match state {
        State::Well => "ok",
        State::Poor => "poor",
        State::Broken => "BROKEN",
        State::Skipped => "skipped",
    };
    let line = |finding: &Finding| {
        let remedy =
            if finding.remedy.is_empty() { String::new() } else { format!("\n{:>26}-> {}", "", finding.remedy) };
        format!("{:<8} {:<16} {}{remedy}\n", mark(finding.state), finding.of, finding.seen)
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_stands_below_what_was_seen() {
        let findings = [Finding::well("gpu", "one"), Finding::broken("clock", "an hour late", "set it")];
        let expected = "ok       gpu              one\n\
                        BROKEN   clock            an hour late\n                          -> set it\n";
        assert_eq!(as_text(&findings), expected);
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!((&json["state"], &json["remedy"]), (&"broken".into(), &"set it".into()));
    }
}
