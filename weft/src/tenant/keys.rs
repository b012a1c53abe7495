//! `weft tenant key`: the secrets by which callers are known. A secret is made here and shown once; metadata gets its hash.

use anyhow::Context;
use serde_json::json;
use weft_metadata_client::MetadataError;
use weft_types::{ApiKey, KeyId, OperatorAction, Salt, TenantId};

use super::{TenantArgs, find, operate, tenants};
use crate::cluster::{DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::unknown;

/// Manages API keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// List what a tenant's keys are called.
    List(TenantArgs),
    /// Make a key. It goes to standard output, this once.
    Add(AddArgs),
    /// Make a key and a salt for the `keys.file` of a router without metadata. Nobody is asked, and nothing is kept.
    Make(MakeArgs),
    /// Remove a key: whoever brings it is nobody.
    Remove(RemoveArgs),
}

/// Arguments of `weft tenant key add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Whose.
    tenant: TenantId,
    /// What it is listed and removed by; no secret. One is made up if none is given.
    #[arg(value_name = "KEY")]
    id: Option<KeyId>,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant key make`.
#[derive(Debug, clap::Args)]
pub(crate) struct MakeArgs {
    /// Whose.
    tenant: TenantId,
    /// What it is told apart by; no secret. One is made up if none is given.
    #[arg(value_name = "KEY")]
    id: Option<KeyId>,
    /// One JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// Arguments of `weft tenant key remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Whose.
    tenant: TenantId,
    /// What it is listed by.
    #[arg(value_name = "KEY")]
    id: KeyId,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Runs it.
pub(super) async fn run(command: &KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::List(args) => list(args).await,
        KeyCommand::Add(args) => add(args).await,
        KeyCommand::Make(args) => make(args),
        KeyCommand::Remove(args) => remove(args).await,
    }
}

async fn list(TenantArgs { tenant, operator }: &TenantArgs) -> anyhow::Result<()> {
    let known = operator.with(async |cluster| tenants(cluster).await).await?;
    let keys = &find(&known, tenant)?.keys;
    let text = match keys.is_empty() {
        true => format!("tenant {tenant} has no API keys: `weft tenant key add {tenant}` makes one"),
        false => keys.iter().map(|key| format!("{key}\n")).collect(),
    };
    operator.print(&json!({ "tenant": tenant, "keys": keys }), &text);
    Ok(())
}

async fn add(AddArgs { tenant, id, operator }: &AddArgs) -> anyhow::Result<()> {
    let (id, key) = fresh(id.as_ref())?;
    operator
        .with(async |cluster| {
            find(&tenants(cluster).await?, tenant)?;
            let action = OperatorAction::AddKey { tenant: tenant.clone(), key: id.clone(), hash: key.hash() };
            match cluster.client.operate(action, DEADLINE).await {
                Ok(_) => Ok(()),
                Err(error @ MetadataError::Unavailable { .. }) => Err(error).with_context(|| {
                    format!(
                        "the key may be listed, and is lost: `weft tenant key remove {tenant} {id}`, then add another"
                    )
                }),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    operator.print(&json!({ "tenant": tenant, "key": id, "secret": key.reveal() }), &key.reveal());
    if !operator.json {
        eprintln!("Key {id} of tenant {tenant}. It is shown this once: the cluster keeps its hash only.");
    }
    Ok(())
}

fn make(MakeArgs { tenant, id, json }: &MakeArgs) -> anyhow::Result<()> {
    let ((id, key), salt) = (fresh(id.as_ref())?, Salt::from_bytes(rand::random()).reveal());
    let hash = key.hash().reveal();
    if *json {
        println!("{}", json!({ "tenant": tenant, "key": id, "secret": key.reveal(), "hash": hash, "salt": salt }));
        return Ok(());
    }
    println!("{}", key.reveal());
    eprintln!(
        "Key {id} of tenant {tenant}. It is shown this once. For the router's keys.file; keep the salt of a tenant that is there:\n\n\
         [tenants.\"{tenant}\"]\nsalt = \"{salt}\"\nkeys.\"{id}\" = \"{hash}\""
    );
    Ok(())
}

fn fresh(id: Option<&KeyId>) -> anyhow::Result<(KeyId, ApiKey)> {
    let id = match id {
        Some(id) => id.clone(),
        None => format!("k-{:08x}", rand::random::<u32>()).parse().context("a made-up name is a name")?,
    };
    Ok((id.clone(), ApiKey::new(id, rand::random())))
}

async fn remove(RemoveArgs { tenant, id: key, operator, confirm }: &RemoveArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let known = tenants(cluster).await?;
            let keys = &find(&known, tenant)?.keys;
            if !keys.contains(key) {
                let (kind, all) = (format!("key of tenant {tenant} called"), format!("weft tenant key list {tenant}"));
                return Err(unknown(&kind, key.name().as_str(), keys.iter().map(ToString::to_string), &all).into());
            }
            confirm.confirm(&format!("Whoever brings key {key} is no longer tenant {tenant}."))?;
            operate(cluster, OperatorAction::RemoveKey { tenant: tenant.clone(), key: key.clone() }).await
        })
        .await?;
    operator.print(&json!({ "tenant": tenant, "removed": key }), &format!("key {key} of tenant {tenant} is removed"));
    Ok(())
}
