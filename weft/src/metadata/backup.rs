//! `weft metadata backup|restore|recover`: what to do before and after a group is lost.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use weft_metadata::{Config, Revived};
use weft_service::config;

use crate::cluster::{Cluster, ClusterArgs};

/// Longest wait for a member to begin.
const DEADLINE: Duration = Duration::from_secs(5);

/// Longest wait for the next piece of a backup.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `weft metadata backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// File to write; readable by its owner only, and not there yet.
    file: PathBuf,
    /// Which cluster. The first member that answers is asked.
    #[command(flatten)]
    cluster: ClusterArgs,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Arguments of `weft metadata restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    member: MemberArgs,
}

/// Arguments of `weft metadata recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// I know that this gives up the other members: what only they had is lost, and none of them may ever start again with its
    /// data directory.
    #[arg(long)]
    force_single: bool,
    #[command(flatten)]
    member: MemberArgs,
}

/// The member, which does not run.
#[derive(Debug, clap::Args)]
struct MemberArgs {
    /// Its configuration file (TOML).
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// One setting over file and environment.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl MemberArgs {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(config::load(self.config.as_deref(), &self.sets)?.config)
    }
}

/// Writes a backup, checks it, and only then gives it its name.
pub(crate) async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    if args.file.exists() {
        bail!("{} is there already: a backup is never written over another file", args.file.display());
    }
    let mut partial = args.file.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let cluster = args.cluster.open()?;
    let fetched = fetch(&cluster, &partial).await;
    cluster.fabric.close().await;
    let bytes = fetched?;
    let checking = partial.clone();
    let held = tokio::task::spawn_blocking(move || weft_metadata::check_backup(&checking)).await??;
    std::fs::rename(&partial, &args.file).with_context(|| format!("cannot name {}", args.file.display()))?;
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    if args.json {
        let file = args.file.display().to_string();
        let (index, blocks) = (held.index, held.blocks);
        println!("{:#}", json!({ "file": file, "bytes": bytes, "index": index, "blocks": blocks }));
    } else {
        println!("{}: {bytes} bytes, the state as of log index {}", args.file.display(), held.index);
    }
    Ok(())
}

async fn fetch(cluster: &Cluster, file: &Path) -> anyhow::Result<u64> {
    let mut reasons = Vec::new();
    for member in &cluster.members {
        let mut pieces = match cluster.client.backup(*member, DEADLINE).await {
            Ok(pieces) => pieces,
            Err(error) => {
                reasons.push(error.to_string());
                continue;
            }
        };
        let cannot = || format!("cannot write {}", file.display());
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
        let (mut out, mut bytes) = (opened.with_context(cannot)?, 0);
        while let Some(piece) =
            tokio::time::timeout(PIECE_WITHIN, pieces.next()).await.context("the member is silent")??
        {
            out.write_all(&piece.0).with_context(cannot)?;
            bytes += piece.0.len() as u64;
        }
        out.sync_all().with_context(cannot)?;
        return Ok(bytes);
    }
    bail!("no metadata member gives a backup:\n  {}", reasons.join("\n  "))
}

/// Makes the first member of a new group of a backup.
pub(crate) fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let config = args.member.load()?;
    let revived = weft_metadata::restore(&config, &args.file)?;
    tell(&config, &revived, args.member.json);
    Ok(())
}

/// Makes the first member of a new group of what a stopped one has.
pub(crate) fn recover(args: &RecoverArgs) -> anyhow::Result<()> {
    let config = args.member.load()?;
    if !args.force_single {
        bail!(
            "this makes a new group of member {} alone, with what is in {}. Whatever only the others had is lost. Stop every \
             member, make sure that a majority is gone for good, pick the one with the highest applied index, and say \
             --force-single",
            config.member,
            config.data.display()
        );
    }
    let revived = weft_metadata::recover(&config)?;
    tell(&config, &revived, args.member.json);
    Ok(())
}

fn tell(config: &Config, revived: &Revived, json: bool) {
    let before = revived.before.as_ref().map(|before| before.display().to_string());
    if json {
        println!("{:#}", json!({ "member": config.member, "index": revived.index, "before": before }));
        return;
    }
    println!("member {} is a group of its own, of the state as of log index {}.", config.member, revived.index);
    if let Some(before) = before {
        println!("Its files from before are in {before}; delete them once all is well.");
    }
    println!("Now: start it; nodes report to it by themselves.");
    for (id, addr) in revived.members.iter().filter(|(id, _)| *id != config.member) {
        println!("Then: start member {id} with an EMPTY data directory, and `weft metadata add {id} {addr}`.");
    }
}
