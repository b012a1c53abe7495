//! Which blocks of which nodes are cleared.

use std::fmt;
use std::path::PathBuf;

use clap::ArgGroup;
use weft_types::{BlockHash, Contract, ContractId, NodeId, NodeSpec, Roster, TenantId};

use crate::cluster::{Cluster, ClusterArgs};
use crate::fault::{Fault, unknown};
use crate::prompt::{InputArgs, PromptArgs, contracts_of};
use crate::tenant::counted;

/// Blocks named in one request: 2 MiB, half of the longest message.
const BLOCKS_MAX: usize = 65_536;

/// What is to go: of what is said, each narrows it down.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("scope").required(true).multiple(true).args(["all", "node", "model", "prompt", "chat", "tokens", "tenant"]))]
pub(super) struct ScopeArgs {
    /// Every block of every node.
    #[arg(long, conflicts_with_all = ["node", "model", "prompt", "chat", "tokens", "tenant"])]
    all: bool,
    /// Blocks of this node. May be repeated.
    #[arg(long, value_name = "NODE")]
    node: Vec<NodeId>,
    /// Blocks of this model, by its name in requests.
    #[arg(long, short)]
    model: Option<String>,
    /// Blocks of this prompt of a completion: text, taken as it is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["chat", "tokens"])]
    prompt: Option<PathBuf>,
    /// Blocks of this chat: JSON, an array of messages, or a whole body of /v1/chat/completions.
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    chat: Option<PathBuf>,
    /// Blocks of these token ids: a JSON array, or numbers between spaces or commas.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// All that this tenant stored, of every model and at every node: it gets another salt. With a prompt: whose salt that is
    /// hashed under; without it, the empty one.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// Folder with the engine's tokenizer.json and tokenizer_config.json; of a `weft up`, its own is taken.
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
}

/// Which blocks, and who has to drop them.
#[derive(Debug)]
pub(super) struct Scope {
    /// Whom to ask.
    pub(super) nodes: Vec<NodeSpec>,
    /// Blocks of these; none: of all.
    pub(super) contracts: Vec<ContractId>,
    /// Of those, these only.
    pub(super) blocks: Option<Vec<BlockHash>>,
    model: Option<String>,
    tenant: Option<TenantId>,
}

impl ScopeArgs {
    /// The tenant of which everything goes; `None`: something else does.
    pub(super) fn whole_tenant(&self) -> Result<Option<&TenantId>, Fault> {
        let Some(tenant) = self.tenant.as_ref().filter(|_| !self.input().is_given()) else { return Ok(None) };
        if self.model.is_some() || !self.node.is_empty() {
            return Err(Fault::Usage(
                "a node does not know whose a block is, which is why nobody else finds it: a tenant is cleared as a whole, with \
                 --tenant alone, or prompt by prompt, with --prompt, --chat or --tokens"
                    .to_owned(),
            ));
        }
        Ok(Some(tenant))
    }

    fn input(&self) -> InputArgs {
        InputArgs { prompt: self.prompt.clone(), chat: self.chat.clone(), tokens: self.tokens.clone() }
    }

    pub(super) async fn resolve(
        &self,
        cluster: &Cluster,
        args: &ClusterArgs,
        roster: &Roster,
    ) -> anyhow::Result<Scope> {
        let input = self.input();
        let nodes = self.nodes(roster)?;
        let ids = |contracts: &[&Contract]| contracts.iter().map(|contract| contract.id()).collect::<Vec<_>>();
        let (contracts, blocks) = if input.is_given() {
            let prompt = PromptArgs { input, model: self.model.clone(), tokenizer: self.tokenizer.clone() };
            let hashed = prompt.hash(cluster, args, roster, self.tenant.as_ref().into()).await?;
            let contracts: Vec<&Contract> = hashed.prefixes.iter().map(|prefix| &prefix.contract).collect();
            let blocks: Vec<BlockHash> = hashed.prefixes.iter().flat_map(|prefix| prefix.blocks.clone()).collect();
            check(blocks.len(), hashed.tokens)?;
            (ids(&contracts), Some(blocks))
        } else if let Some(model) = &self.model {
            (ids(&contracts_of(roster, model)?), None)
        } else {
            (Vec::new(), None)
        };
        Ok(Scope { nodes, contracts, blocks, model: self.model.clone(), tenant: self.tenant.clone() })
    }

    fn nodes(&self, roster: &Roster) -> Result<Vec<NodeSpec>, Fault> {
        if self.node.is_empty() {
            if roster.nodes.is_empty() {
                return Err(Fault::Refused("no node is in the roster: nobody holds anything".to_owned()));
            }
            return Ok(roster.nodes.values().cloned().collect());
        }
        let find = |node: &NodeId| {
            let names = || roster.nodes.keys().map(ToString::to_string);
            let found = roster.nodes.get(node).cloned();
            found.ok_or_else(|| unknown("node", node.name().as_str(), names(), "weft status"))
        };
        let mut nodes: Vec<NodeId> = self.node.clone();
        nodes.sort();
        nodes.dedup();
        nodes.iter().map(find).collect()
    }
}

fn check(blocks: usize, tokens: usize) -> Result<(), Fault> {
    match blocks {
        0 => Err(Fault::Usage(format!("the prompt has {}, which fill no block", counted(tokens, "token")))),
        1..=BLOCKS_MAX => Ok(()),
        _ => Err(Fault::Usage(format!("the prompt has {blocks} blocks: at most {BLOCKS_MAX} are cleared at once"))),
    }
}

impl fmt::Display for Scope {
    /// As it goes on record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.blocks {
            Some(blocks) => write!(f, "the {} of a prompt", counted(blocks.len(), "block"))?,
            None => f.write_str("all blocks")?,
        }
        if let Some(model) = &self.model {
            write!(f, " of model {model}")?;
        }
        if let Some(tenant) = &self.tenant {
            write!(f, " of tenant {tenant}")?;
        }
        let names: Vec<String> = self.nodes.iter().map(|node| node.id.to_string()).collect();
        write!(f, " at {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weft_types::Incarnation;

    use super::*;

    #[test]
    fn a_scope_is_recorded_in_words() {
        let node = |name: &str| NodeSpec {
            id: name.parse().unwrap(),
            incarnation: Incarnation::new(1),
            fabric: "127.0.0.1:1".parse().unwrap(),
            bulk: "127.0.0.1:2".parse().unwrap(),
            capacity: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        let nodes = vec![node("n1"), node("n2")];
        let mut scope = Scope { nodes, contracts: vec![], blocks: None, model: None, tenant: None };
        assert_eq!(scope.to_string(), "all blocks at n1, n2");
        scope.model = Some("m".to_owned());
        assert_eq!(scope.to_string(), "all blocks of model m at n1, n2");
        scope.blocks = Some(vec![BlockHash::ROOT]);
        scope.tenant = Some("acme".parse().unwrap());
        assert_eq!(scope.to_string(), "the 1 block of a prompt of model m of tenant acme at n1, n2");
        assert!(check(0, 5).unwrap_err().to_string().contains("5 tokens, which fill no block"));
    }
}
