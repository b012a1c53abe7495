//! Why a holder has no more of a prompt than it has.

use std::collections::BTreeMap;

use weft_types::HolderKey;

/// Blocks that holders have from a place on.
type Runs = BTreeMap<HolderKey, usize>;

/// Why it goes no further. Blocks are counted from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It has every full block.
    Whole,
    /// It lacks this block.
    Lacks {
        /// Which.
        block: usize,
        /// Who has it.
        held_by: Vec<HolderKey>,
        /// Blocks that it has again right behind the one it lacks: it evicted or lost one from the middle.
        again: usize,
    },
    /// It lacks this block, and there were too many such places to ask about each.
    Unasked {
        /// Which.
        block: usize,
    },
}

impl Stop {
    /// `behind`: who has how many blocks from `at` on, and from the one after it.
    pub(super) fn new(holder: &HolderKey, at: usize, blocks: usize, behind: Option<(&Runs, &Runs)>) -> Self {
        if at >= blocks {
            return Self::Whole;
        }
        let Some((from, after)) = behind else { return Self::Unasked { block: at } };
        let again = after.get(holder).copied().unwrap_or(0);
        Self::Lacks { block: at, held_by: from.keys().cloned().collect(), again }
    }

    /// One word, for scripts.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Unasked { .. } => "unasked",
            Self::Lacks { again: 1.., .. } => "hole",
            Self::Lacks { held_by, .. } if held_by.is_empty() => "nowhere",
            Self::Lacks { .. } => "elsewhere",
        }
    }

    /// A sentence without its full stop. `block_tokens`: to say which tokens.
    pub(super) fn sentence(&self, block_tokens: usize) -> String {
        /// Holders that are named.
        const NAMED_MAX: usize = 3;
        let tokens = |block: usize| format!("tokens {} to {}", block * block_tokens, (block + 1) * block_tokens - 1);
        match self {
            Self::Whole => "it has every full block".to_owned(),
            Self::Unasked { block } => format!("{} are not here", tokens(*block)),
            Self::Lacks { block, held_by, again } => {
                let elsewhere = match &held_by[..] {
                    [] => "nobody has them".to_owned(),
                    some => {
                        let named: Vec<String> = some.iter().take(NAMED_MAX).map(ToString::to_string).collect();
                        let more = some.len() - named.len();
                        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                        format!("{}{more} {} them", named.join(", "), if some.len() == 1 { "has" } else { "have" })
                    }
                };
                let again = match again {
                    0 => String::new(),
                    again => format!(", and {again} blocks behind them are here"),
                };
                format!("{} are not here, {elsewhere}{again}", tokens(*block))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_types::Tier;

    use super::*;

    fn host(node: &str) -> HolderKey {
        HolderKey::Node { node: node.parse().unwrap(), tier: Tier::Host }
    }

    fn runs(of: &[(&str, usize)]) -> Runs {
        of.iter().map(|(node, blocks)| (host(node), *blocks)).collect()
    }

    #[test]
    fn a_holder_of_every_block_stops_at_the_end() {
        let stop = Stop::new(&host("a"), 3, 3, None);
        assert_eq!((stop.word(), stop.sentence(64)), ("whole", "it has every full block".to_owned()));
    }

    #[test]
    fn what_is_missing_is_told_with_who_has_it() {
        let (none, others) = (runs(&[]), runs(&[("b", 2), ("c", 1), ("d", 1), ("e", 1)]));
        let stop = Stop::new(&host("a"), 1, 3, Some((&none, &none)));
        assert_eq!(stop.word(), "nowhere");
        assert_eq!(stop.sentence(64), "tokens 64 to 127 are not here, nobody has them");
        let stop = Stop::new(&host("a"), 1, 3, Some((&others, &none)));
        assert_eq!(stop.word(), "elsewhere");
        assert_eq!(stop.sentence(64), "tokens 64 to 127 are not here, b/host, c/host, d/host and 1 more have them");
    }

    #[test]
    fn a_hole_is_told_from_an_end() {
        let (from, after) = (runs(&[("b", 3)]), runs(&[("a", 2), ("b", 2)]));
        let stop = Stop::new(&host("a"), 0, 4, Some((&from, &after)));
        assert_eq!(stop.word(), "hole");
        assert_eq!(
            stop.sentence(16),
            "tokens 0 to 15 are not here, b/host has them, and 2 blocks behind them are here"
        );
        assert_eq!(Stop::new(&host("a"), 0, 4, None).word(), "unasked");
    }
}
