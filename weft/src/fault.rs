//! Why a command did not do what it was told, where no member of the cluster said so: with its exit code.

use weft_service::exit;

/// What a script can tell apart by the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The command line, or a file that it names, cannot be what was meant.
    #[error("{0}")]
    Usage(String),
    /// Against what the cluster has agreed on; the same again would be refused again.
    #[error("{0}")]
    Refused(String),
}

impl Fault {
    /// A number of [`weft_service::exit`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Refused(_) => exit::REFUSED,
        }
    }
}

/// A name that is not there, beside those that are: `all` is the command that lists them.
pub(crate) fn unknown(kind: &str, wanted: &str, names: impl IntoIterator<Item = String>, all: &str) -> Fault {
    /// Names shown: what fits a line.
    const SHOWN_MAX: usize = 5;
    /// Below this a name is not what was meant: `acme` and `acne` have 0.87, `acme` and `beta` 0.
    const LIKENESS_MIN: f64 = 0.7;
    let mut likely: Vec<(f64, String)> =
        names.into_iter().map(|name| (strsim::jaro_winkler(wanted, &name), name)).collect();
    let there = likely.len();
    likely.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    // Few are shown whatever they are called.
    if there > SHOWN_MAX {
        likely.retain(|(likeness, _)| *likeness >= LIKENESS_MIN);
    }
    likely.truncate(SHOWN_MAX);
    let likely: Vec<String> = likely.into_iter().map(|(_, name)| name).collect();
    Fault::Refused(match (there, likely.is_empty()) {
        (0, _) => format!("no {kind} {wanted}: there is none at all yet"),
        (_, true) => format!("no {kind} {wanted}, and none with a name like it: see `{all}`"),
        (_, false) => format!("no {kind} {wanted}: did you mean {}? See `{all}`", likely.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(wanted: &str, names: &[&str]) -> String {
        unknown("tenant", wanted, names.iter().map(|name| (*name).to_owned()), "weft tenant list").to_string()
    }

    #[test]
    fn an_unknown_name_is_told_beside_those_like_it() {
        assert_eq!(said("acme", &[]), "no tenant acme: there is none at all yet");
        assert_eq!(said("acne", &["beta", "acme"]), "no tenant acne: did you mean acme, beta? See `weft tenant list`");
        let many = ["acme", "beta", "gamma", "delta", "epsilon", "zeta"];
        assert_eq!(said("acne", &many), "no tenant acne: did you mean acme? See `weft tenant list`");
        let none = said("xyz", &many);
        assert_eq!(none, "no tenant xyz, and none with a name like it: see `weft tenant list`");
    }
}
