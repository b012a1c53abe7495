//! `weft tenant group publish|unpublish`: prompts whose blocks every tenant of a group may hit.

use serde_json::json;
use weft_types::{GroupId, Name, OperatorAction, PublicPrefix};

use super::groups::find;
use super::{counted, operate, tenants};
use crate::cluster::{DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::unknown;
use crate::prompt::{PromptArgs, Salted};

/// Arguments of `weft tenant group publish`.
#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// The group.
    group: GroupId,
    /// What the public prefix is called.
    name: Name,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of `weft tenant group unpublish`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpublishArgs {
    /// The group.
    group: GroupId,
    /// What the public prefix is called.
    name: Name,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Makes a prompt public. Of two operators who change one group in the same second, the later one's prefixes stay.
pub(super) async fn publish(PublishArgs { group, name, prompt, operator }: &PublishArgs) -> anyhow::Result<()> {
    operator
        .with(async |cluster| {
            let roster = cluster.newest().await.roster(DEADLINE).await?;
            let hashed = prompt.hash(cluster, &operator.cluster, &roster, Salted::Group(group)).await?;
            let blocks = &hashed.only()?.blocks;
            let last = *blocks.last().expect("the one prefix has a block");
            let length = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
            let mut prefixes = find(&tenants(cluster).await?, group)?.prefixes.clone();
            prefixes.insert(name.clone(), PublicPrefix { blocks: length, last });
            operate(cluster, OperatorAction::PutGroup { group: group.clone(), prefixes }).await?;
            let json = json!({ "group": group, "prefix": name, "blocks": length, "last": last.to_string() });
            let public = counted(blocks.len(), "block");
            operator.print(&json, &format!("{name} is public in sharing group {group}: {public} of {}", hashed.model));
            Ok(())
        })
        .await
}

/// Takes it back.
pub(super) async fn unpublish(args: &UnpublishArgs) -> anyhow::Result<()> {
    let UnpublishArgs { group, name, operator, confirm } = args;
    operator
        .with(async |cluster| {
            let mut prefixes = find(&tenants(cluster).await?, group)?.prefixes.clone();
            if prefixes.remove(name).is_none() {
                let (kind, all) =
                    (format!("public prefix of group {group} called"), format!("weft tenant group show {group}"));
                return Err(unknown(&kind, name.as_str(), prefixes.keys().map(ToString::to_string), &all).into());
            }
            confirm.confirm(&format!("Tenants of group {group} no longer share {name}."))?;
            operate(cluster, OperatorAction::PutGroup { group: group.clone(), prefixes }).await
        })
        .await?;
    operator
        .print(&json!({ "group": group, "removed": name }), &format!("{name} is no longer public in group {group}"));
    Ok(())
}
