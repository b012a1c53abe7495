//! What `weft lookup` prints.

use serde_json::{Value, json};

use super::stop::Stop;
use super::{Answered, Found, Holders};
use crate::prompt::Prefix;
use crate::table::Table;
use crate::tenant::counted;

pub(super) fn as_json(found: &Found) -> Value {
    let Answered { member, leads, applied, committed, by_leader } = found.answered;
    let prefix = |(prefix, holders): (&Prefix, &Holders)| {
        let block_tokens = prefix.block_size().tokens();
        let holder = |(one, stop): &(weft_metadata_proto::v1::HolderMatch, Stop)| {
            json!({
                "holder": one.grant.key.to_string(), "tier": one.grant.key.tier(), "number": one.grant.holder,
                "incarnation": one.grant.incarnation, "blocks": one.blocks, "tokens": one.blocks as usize * block_tokens,
                "stops": stop_json(stop),
            })
        };
        json!({
            "contract": prefix.contract.id().to_string(), "model_key": prefix.contract.model_key,
            "block_tokens": block_tokens, "blocks": prefix.blocks.len(),
            "hashes": prefix.blocks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "holders": holders.matches.iter().map(holder).collect::<Vec<_>>(),
        })
    };
    json!({
        "model": found.hashed.model,
        "tokens": found.hashed.tokens,
        "answered": {
            "member": member, "leads": leads, "applied": applied, "committed": committed, "behind": committed - applied,
            "leader_known": by_leader,
        },
        "prefixes": found.hashed.prefixes.iter().zip(&found.holders).map(prefix).collect::<Vec<_>>(),
    })
}

fn stop_json(stop: &Stop) -> Value {
    match stop {
        Stop::Whole => json!({ "why": stop.word() }),
        Stop::Unasked { block } => json!({ "why": stop.word(), "block": block }),
        Stop::Lacks { block, held_by, again } => json!({
            "why": stop.word(), "block": block, "again": again,
            "held_by": held_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    }
}

pub(super) fn as_text(found: &Found) -> String {
    let mut text = String::new();
    for (prefix, holders) in found.hashed.prefixes.iter().zip(&found.holders) {
        text.push_str(&prompt(found, prefix));
        text.push_str(&table(prefix, holders));
        text.push('\n');
    }
    text.push_str(&freshness(&found.answered));
    text
}

fn prompt(found: &Found, prefix: &Prefix) -> String {
    let (tokens, block_tokens) = (found.hashed.tokens, prefix.block_size().tokens());
    let over = tokens - prefix.blocks.len() * block_tokens;
    let over = match over {
        0 => String::new(),
        over => format!(", {} more fill none", counted(over, "token")),
    };
    format!(
        "{} (contract {}): {}, {} of {block_tokens}{over}\n",
        found.hashed.model,
        prefix.contract.id(),
        counted(tokens, "token"),
        counted(prefix.blocks.len(), "full block"),
    )
}

fn table(prefix: &Prefix, holders: &Holders) -> String {
    let block_tokens = prefix.block_size().tokens();
    if holders.matches.is_empty() {
        return match prefix.blocks.len() {
            0 => "it is too short to be cached\n".to_owned(),
            _ => format!("nobody has its beginning, tokens 0 to {}\n", block_tokens - 1),
        };
    }
    let mut table = Table::new(&["holder", "tier", "blocks", "tokens", "why no more"]);
    for (one, stop) in &holders.matches {
        table.row([
            one.grant.key.to_string(),
            one.grant.key.tier().to_string(),
            one.blocks.to_string(),
            (one.blocks as usize * block_tokens).to_string(),
            stop.sentence(block_tokens),
        ]);
    }
    table.to_string()
}

/// How far what was answered may be from what is.
fn freshness(answered: &Answered) -> String {
    let Answered { member, leads, applied, committed, by_leader } = answered;
    let role = if *leads { ", the leader" } else { "" };
    let behind = match committed - applied {
        0 => "nothing that is committed is missing".to_owned(),
        1 => format!("1 entry behind what is committed ({committed})"),
        behind => format!("{behind} entries behind what is committed ({committed})"),
    };
    let doubt = if *by_leader { "" } else { "; no leader answers, so that more may be committed" };
    format!("as of log index {applied}, by member {member}{role}: {behind}{doubt}\n")
}

#[cfg(test)]
mod tests {
    use weft_metadata_proto::v1::HolderMatch;
    use weft_types::{
        BlockHash, BlockSize, Contract, Generation, HolderGrant, HolderId, HolderKey, Incarnation, MemberId, ModelKey,
        Tier,
    };

    use super::*;
    use crate::prompt::Hashed;

    fn found(blocks: usize, matched: Option<u32>) -> Found {
        let model_key = ModelKey {
            model: "m".into(),
            revision: String::new(),
            adapter: String::new(),
            salt: String::new(),
            layout: String::new(),
            block_tokens: BlockSize::new(16).unwrap(),
        };
        let contract = Contract {
            model_key,
            parts: vec![],
            aliases: vec![],
            tokenizer: String::new(),
            chat_template: String::new(),
        };
        let prefix = Prefix { contract, blocks: vec![BlockHash::ROOT; blocks] };
        let key = HolderKey::Node { node: "n1".parse().unwrap(), tier: Tier::Host };
        let (holder, generation, incarnation) = (HolderId::new(3), Generation::new(1), Incarnation::new(1));
        let grant = HolderGrant { key, holder, generation, incarnation };
        let matches = matched.map(|blocks| (HolderMatch { grant, blocks }, Stop::Whole)).into_iter().collect();
        Found {
            hashed: Hashed { model: "m".into(), tokens: blocks * 16 + 5, prefixes: vec![prefix] },
            answered: Answered { member: MemberId::new(2), leads: true, applied: 7, committed: 9, by_leader: true },
            holders: vec![Holders { matches }],
        }
    }

    #[test]
    fn holders_are_told_with_tokens_and_the_answer_with_its_age() {
        let text = as_text(&found(2, Some(2)));
        assert!(text.contains("37 tokens, 2 full blocks of 16, 5 tokens more fill none"), "{text}");
        assert!(text.contains("n1/host  host       2      32  it has every full block"), "{text}");
        assert!(
            text.ends_with("as of log index 7, by member 2, the leader: 2 entries behind what is committed (9)\n"),
            "{text}"
        );
        let json = as_json(&found(2, Some(2)));
        assert_eq!(json["prefixes"][0]["holders"][0]["tokens"], 32);
        assert_eq!(json["answered"]["behind"], 2);
    }

    #[test]
    fn a_prompt_that_nobody_has_is_told_from_one_that_nobody_can_have() {
        let text = as_text(&found(2, None));
        assert!(text.contains("nobody has its beginning, tokens 0 to 15\n"), "{text}");
        assert!(as_text(&found(0, None)).contains("too short to be cached"));
    }
}
