//! From a prompt in a file to its blocks, as a router makes them: the same reading of the request, the same template and
//! tokenizer, the model key that the engines agreed on, and the tenant's salt.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use weft_tokens::ModelFiles;
use weft_types::{
    BlockHash, BlockHasher, BlockSize, Contract, GroupId, IndexKey, Operated, OperatorAction, Roster, TenantId,
};

use crate::cluster::{Cluster, ClusterArgs};
use crate::fault::{Fault, unknown};
use crate::tenant::{counted, find, find_group, operate, tenants};
use crate::up;

/// Longest file: a router takes no longer body (`limits.body`).
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A prompt, and what it is hashed under.
#[derive(Debug, clap::Args)]
pub(crate) struct PromptArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    /// Name of the model in requests; may be left out where the cluster serves one model.
    #[arg(long, short)]
    pub(crate) model: Option<String>,
    /// Folder with the engine's tokenizer.json and tokenizer_config.json; of a `weft up`, its own is taken.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) tokenizer: Option<PathBuf>,
}

/// Where the prompt is; `-` is standard input.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct InputArgs {
    /// Prompt of a completion, as text, taken as it is: a newline at its end is part of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt: Option<PathBuf>,
    /// Chat: JSON, an array of messages, or a whole body of /v1/chat/completions.
    #[arg(long, value_name = "FILE")]
    pub(crate) chat: Option<PathBuf>,
    /// Token ids: a JSON array, or numbers between spaces or commas.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
}

/// Under whose salt a prompt is hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Salted<'a> {
    /// The empty one of callers that bring no key.
    Nobody,
    /// A tenant's.
    Tenant(&'a TenantId),
    /// A sharing group's.
    Group(&'a GroupId),
}

impl<'a> From<Option<&'a TenantId>> for Salted<'a> {
    fn from(tenant: Option<&'a TenantId>) -> Self {
        tenant.map_or(Self::Nobody, Self::Tenant)
    }
}

/// A prompt, hashed under every model key that its model is served under.
#[derive(Debug)]
pub(crate) struct Hashed {
    /// Name of the model, as it was resolved.
    pub(crate) model: String,
    /// Tokens of the prompt.
    pub(crate) tokens: usize,
    /// One for each model key.
    pub(crate) prefixes: Vec<Prefix>,
}

/// A prompt under one model key.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// What its engines agreed on.
    pub(crate) contract: Contract,
    /// Its full blocks, from token 0.
    pub(crate) blocks: Vec<BlockHash>,
}

impl Hashed {
    /// The one model key, under which the prompt has a block.
    pub(crate) fn only(&self) -> Result<&Prefix, Fault> {
        let [prefix] = &self.prefixes[..] else {
            return Err(Fault::Refused(format!(
                "{} is served under {} model keys (layouts or revisions that share no blocks): name the model of one of them \
                 with --model",
                self.model,
                self.prefixes.len(),
            )));
        };
        if prefix.blocks.is_empty() {
            let (tokens, block) = (counted(self.tokens, "token"), prefix.block_size());
            let model = &self.model;
            return Err(Fault::Usage(format!(
                "the prompt has {tokens}, and a block of {model} has {block}: it fills none"
            )));
        }
        Ok(prefix)
    }
}

impl Prefix {
    /// Tokens in a block.
    pub(crate) fn block_size(&self) -> BlockSize {
        self.contract.model_key.block_tokens
    }

    /// As the directory knows them.
    pub(crate) fn keys(&self) -> Vec<IndexKey> {
        self.blocks.iter().map(BlockHash::index_key).collect()
    }
}

/// A prompt as it stands in a file.
enum Input {
    Completion(Vec<u8>),
    Chat(Vec<u8>),
    Tokens(Vec<u32>),
}

impl PromptArgs {
    /// Reads the prompt and hashes it.
    pub(crate) async fn hash(
        &self,
        cluster: &Cluster,
        args: &ClusterArgs,
        roster: &Roster,
        salted: Salted<'_>,
    ) -> anyhow::Result<Hashed> {
        // What can be wrong here is found before the salt is asked for, which is on record.
        let (model, contracts) = self.contracts(roster)?;
        let tokens = self.tokens(args, &model, &contracts)?;
        let salt = salt_of(cluster, salted).await?;
        let prefix = |contract: &&Contract| Prefix {
            blocks: BlockHasher::new(&contract.model_key.with_salt(&salt)).prefix(&tokens),
            contract: (*contract).clone(),
        };
        Ok(Hashed { model, tokens: tokens.len(), prefixes: contracts.iter().map(prefix).collect() })
    }

    /// Those of the model that is asked for.
    fn contracts<'a>(&self, roster: &'a Roster) -> Result<(String, Vec<&'a Contract>), Fault> {
        if let Some(model) = &self.model {
            return Ok((model.clone(), contracts_of(roster, model)?));
        }
        let mut models: Vec<&String> = roster.contracts.iter().map(|contract| &contract.model_key.model).collect();
        models.sort();
        models.dedup();
        match models[..] {
            [only] => Ok((only.clone(), roster.contracts.iter().collect())),
            [] => Err(Fault::Refused("no engine with weft has been here: there is no model to ask about".to_owned())),
            _ => Err(Fault::Usage(format!("which model? Say --model with one of {}", all_names(roster).join(", ")))),
        }
    }

    fn tokens(&self, args: &ClusterArgs, model: &str, contracts: &[&Contract]) -> Result<Vec<u32>, Fault> {
        let files = match self.folder(args) {
            Some(folder) => Some(load(&folder, model, contracts)?),
            None => None,
        };
        let usage = |error: weft_tokens::TokensError| Fault::Usage(error.to_string());
        match (self.input.read()?, files) {
            (Input::Completion(body), Some(files)) => files.completion_prompt(&body).map_err(usage),
            (Input::Chat(body), Some(files)) => files.chat_prompt(&body).map_err(usage),
            // The same door as text, so that ids outside the vocabulary are told.
            (Input::Tokens(tokens), Some(files)) => {
                files.completion_prompt(json!({ "prompt": tokens }).to_string().as_bytes()).map_err(usage)
            }
            (Input::Tokens(tokens), None) => Ok(tokens),
            (_, None) => Err(Fault::Usage(format!(
                "text needs the tokenizer of {model}: give the folder with the engine's tokenizer.json with --tokenizer, or give \
                 token ids with --tokens"
            ))),
        }
    }

    fn folder(&self, args: &ClusterArgs) -> Option<PathBuf> {
        self.tokenizer.clone().or_else(|| args.up_state().map(up::model_folder).filter(|folder| folder.exists()))
    }
}

/// The contracts under which a model is served.
pub(crate) fn contracts_of<'a>(roster: &'a Roster, model: &str) -> Result<Vec<&'a Contract>, Fault> {
    let is_of_it = |contract: &&Contract| names_of(contract).any(|name| name == model);
    let of_it: Vec<&Contract> = roster.contracts.iter().filter(is_of_it).collect();
    match of_it.is_empty() {
        true => Err(unknown("model", model, all_names(roster), "weft status")),
        false => Ok(of_it),
    }
}

/// Of every model.
fn all_names(roster: &Roster) -> Vec<String> {
    let mut names: Vec<String> = roster.contracts.iter().flat_map(names_of).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// Its own, and its aliases.
fn names_of(contract: &Contract) -> impl Iterator<Item = &String> {
    std::iter::once(&contract.model_key.model).chain(&contract.aliases)
}

/// Refuses a tokenizer that is not the engines', as a router does: it would hash into blocks that nobody has.
fn load(folder: &Path, model: &str, contracts: &[&Contract]) -> Result<ModelFiles, Fault> {
    let shown = folder.display();
    let files = ModelFiles::load(folder).map_err(|error| Fault::Usage(format!("{shown}: {error}")))?;
    let differ = |theirs: &str, ours: &str| !theirs.is_empty() && !ours.is_empty() && theirs != ours;
    for contract in contracts {
        for (what, theirs, ours) in [
            ("tokenizer.json", &contract.tokenizer, files.tokenizer_digest()),
            ("chat template", &contract.chat_template, files.template_digest()),
        ] {
            if differ(theirs, ours) {
                return Err(Fault::Refused(format!(
                    "the {what} in {shown} is not that of the engines of {model} (BLAKE3 {ours}, theirs is {theirs}): give \
                     the engine's folder with --tokenizer"
                )));
            }
        }
    }
    Ok(files)
}

async fn salt_of(cluster: &Cluster, salted: Salted<'_>) -> anyhow::Result<String> {
    // What is not there is told with the names like it; and a salt that is none is not asked for, since asking is on record.
    let action = match salted {
        Salted::Nobody => return Ok(String::new()),
        Salted::Tenant(tenant) if !find(&tenants(cluster).await?, tenant)?.salted => return Ok(String::new()),
        Salted::Tenant(tenant) => OperatorAction::ReadSalt { tenant: tenant.clone() },
        Salted::Group(group) => {
            find_group(&tenants(cluster).await?, group)?;
            OperatorAction::ReadGroupSalt { group: group.clone() }
        }
    };
    match operate(cluster, action).await? {
        Operated::Salt(salt) => Ok(salt.map(|salt| salt.reveal()).unwrap_or_default()),
        other => anyhow::bail!("a salt was asked for, and metadata answered {other:?}: is it of another release?"),
    }
}

impl InputArgs {
    /// There is a prompt.
    pub(crate) fn is_given(&self) -> bool {
        self.prompt.is_some() || self.chat.is_some() || self.tokens.is_some()
    }

    fn read(&self) -> Result<Input, Fault> {
        match (&self.prompt, &self.chat, &self.tokens) {
            (Some(file), ..) => {
                let text = text(file)?;
                Ok(Input::Completion(json!({ "prompt": text }).to_string().into_bytes()))
            }
            (_, Some(file), _) => chat(&text(file)?).map(Input::Chat).map_err(|fault| within(file, &fault)),
            (.., Some(file)) => tokens(&text(file)?).map(Input::Tokens).map_err(|fault| within(file, &fault)),
            (None, None, None) => Err(Fault::Usage("a prompt is needed: --prompt, --chat or --tokens".to_owned())),
        }
    }
}

fn within(file: &Path, fault: &str) -> Fault {
    Fault::Usage(format!("{}: {fault}", file.display()))
}

fn text(file: &Path) -> Result<String, Fault> {
    let read = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = match file.as_os_str() == "-" {
        true => read(&mut std::io::stdin().lock()),
        false => std::fs::File::open(file).and_then(|mut file| read(&mut file)),
    };
    let bytes = bytes.context("cannot read it").map_err(|error| within(file, &format!("{error:#}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(within(file, "longer than 16 MiB, which no router takes"));
    }
    String::from_utf8(bytes).map_err(|error| within(file, &format!("not UTF-8: {error}")))
}

/// A body of /v1/chat/completions. The text itself, not what it says: a template shows the fields of tools in their order.
fn chat(text: &str) -> Result<Vec<u8>, String> {
    match text.trim_start().chars().next() {
        Some('[') => Ok(format!("{{\"messages\":{text}}}").into_bytes()),
        Some('{') => Ok(text.as_bytes().to_vec()),
        _ => Err("not JSON: expected an array of messages, or a body of /v1/chat/completions".to_owned()),
    }
}

fn tokens(text: &str) -> Result<Vec<u32>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| format!("not a JSON array of token ids: {error}"));
    }
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let id = |word: &str| {
        let shown: String = word.chars().take(20).collect();
        word.parse().map_err(|_| format!("'{shown}' is not a token id: expected a number from 0 to 4294967295"))
    };
    words.map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ids_are_json_or_plain_numbers() {
        assert_eq!(tokens("[1, 2,3]\n"), Ok(vec![1, 2, 3]));
        assert_eq!(tokens("1 2,3\n4, 5"), Ok(vec![1, 2, 3, 4, 5]));
        assert_eq!(tokens(""), Ok(vec![]));
        for (bad, said) in
            [("[1, -2]", "not a JSON array"), ("1 x", "'x' is not a token id"), ("4294967296", "0 to 4294967295")]
        {
            let error = tokens(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn a_chat_is_its_messages_or_a_whole_body() {
        let messages = r#"[{"role":"user","content":"hi"}]"#;
        let body = format!("{{\"messages\":{messages}}}");
        assert_eq!(chat(messages).unwrap(), body.as_bytes());
        assert_eq!(chat(&body).unwrap(), body.as_bytes());
        assert!(chat("hi").unwrap_err().contains("not JSON"));
        assert!(chat("").unwrap_err().contains("an array of messages"));
    }
}
