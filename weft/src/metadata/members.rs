//! `weft metadata list|add|remove|replace|transfer-leader`: who is in the group, and who leads it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};
use weft_metadata_proto::v1::{MemberStatus, MembersChange, NewMember};
use weft_service::address::resolve;
use weft_types::MemberId;

use super::status::{self, Answers};
use crate::cluster::{Cluster, ClusterArgs};
use crate::table::Table;

/// Longest wait for one answer of the leader.
const DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at how far a new member is.
const PAUSE: Duration = Duration::from_millis(200);

/// Fewer voters than this cannot lose one and go on.
const VOTERS_MIN: usize = 3;

/// What every one of these takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Which cluster.
    #[command(flatten)]
    cluster: ClusterArgs,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Arguments of `weft metadata list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weft metadata add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Id of the member, as its certificate and its configuration have it. It runs, with an empty data directory or what it had when it was removed; or it is a
    /// member already that has moved.
    #[arg(value_parser = member)]
    id: MemberId,
    /// Its fabric address.
    #[arg(value_parser = resolve)]
    addr: SocketAddr,
    /// It follows, and gets no vote.
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `weft metadata remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// Id of the member. Stop it afterwards.
    #[arg(value_parser = member)]
    id: MemberId,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of `weft metadata replace`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplaceArgs {
    /// Id of the member that goes; it may be gone already.
    #[arg(value_parser = member)]
    old: MemberId,
    /// Id of the member that takes its place.
    #[arg(value_parser = member)]
    new: MemberId,
    /// Fabric address of the new one, which runs with an empty data directory.
    #[arg(value_parser = resolve)]
    addr: SocketAddr,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Even if the voters that stay and answer are no majority. Without one, nothing can be agreed on any more.
    #[arg(long)]
    force: bool,
    /// Longest wait for a new member to answer and to catch up. What was begun goes on: run the command again.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `weft metadata transfer-leader`.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// To whom; without it, to whoever has most of the log.
    #[arg(value_parser = member)]
    to: Option<MemberId>,
    #[command(flatten)]
    common: Common,
}

/// Lists the members that the group agreed on.
pub(crate) async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let cluster = args.common.cluster.open()?;
    let answers = status::ask(&cluster).await;
    cluster.fabric.close().await;
    let answers = answers?;
    let Some(fresh) = status::freshest(&answers) else { bail!("no member answers") };
    let listed = fresh.members.iter().map(|member| Row::of(member, &answers, fresh.leader, fresh.applied));
    if args.common.json {
        println!("{:#}", json!({ "members": listed.map(|row| row.as_json()).collect::<Vec<_>>() }));
        return Ok(());
    }
    let mut table = Table::new(&["member", "address", "role", "answers", "entries behind"]);
    listed.for_each(|row| table.row(row.cells()));
    print!("{table}");
    warn_of_few(&fresh.members);
    Ok(())
}

/// A member of the list.
struct Row {
    id: MemberId,
    addr: SocketAddr,
    role: &'static str,
    /// Entries it has not applied that the freshest has; `None`: it does not answer.
    behind: Option<u64>,
}

impl Row {
    fn of(member: &MemberStatus, answers: &Answers, leader: Option<MemberId>, applied: u64) -> Self {
        let answered = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        let status = answered.into_iter().find(|status| status.member == member.id);
        let role = match (leader == Some(member.id), member.voter) {
            (true, _) => "leader",
            (_, true) => "voter",
            _ => "learner",
        };
        let behind = status.map(|status| applied.saturating_sub(status.applied));
        Self { id: member.id, addr: member.addr, role, behind }
    }

    fn cells(&self) -> [String; 5] {
        let answers = if self.behind.is_some() { "yes" } else { "no" };
        let behind = self.behind.map_or("?".to_owned(), |behind| behind.to_string());
        [self.id.to_string(), self.addr.to_string(), self.role.to_owned(), answers.to_owned(), behind]
    }

    fn as_json(&self) -> Value {
        json!({
            "id": self.id, "addr": self.addr, "role": self.role, "answers": self.behind.is_some(),
            "behind": self.behind,
        })
    }
}

/// Adds a member, or tells the group that one has moved.
pub(crate) async fn add(args: &AddArgs) -> anyhow::Result<()> {
    let new = NewMember { id: args.id, addr: args.addr, voter: !args.learner };
    change(&args.change, Some(new), None).await
}

/// Removes a member.
pub(crate) async fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    change(&args.change, None, Some(args.id)).await
}

/// Puts a member in the place of another.
pub(crate) async fn replace(args: &ReplaceArgs) -> anyhow::Result<()> {
    let new = NewMember { id: args.new, addr: args.addr, voter: true };
    change(&args.change, Some(new), Some(args.old)).await
}

async fn change(args: &ChangeArgs, add: Option<NewMember>, remove: Option<MemberId>) -> anyhow::Result<()> {
    let cluster = args.common.cluster.open()?;
    let changed = until_done(&cluster, args, add, remove).await;
    cluster.fabric.close().await;
    let members = changed?;
    if args.common.json {
        println!("{:#}", json!({ "members": members }));
        return Ok(());
    }
    let mut table = Table::new(&["member", "address", "role"]);
    for member in &members {
        let role = if member.voter { "voter" } else { "learner" };
        table.row([member.id.to_string(), member.addr.to_string(), role.to_owned()]);
    }
    print!("{table}");
    warn_of_few(&members);
    Ok(())
}

async fn until_done(
    cluster: &Cluster,
    args: &ChangeArgs,
    add: Option<NewMember>,
    remove: Option<MemberId>,
) -> anyhow::Result<Vec<MemberStatus>> {
    let until = Instant::now() + Duration::from_secs(args.wait);
    let mut said = String::new();
    loop {
        let now = match cluster.client.change_members(add, remove, args.force, DEADLINE).await? {
            MembersChange::Done { members } => return Ok(members),
            MembersChange::CatchingUp { behind } => format!("the new member catches up, {behind} entries to go"),
            MembersChange::Silent { id } => {
                format!("member {id} does not answer yet: is it started, and at this address?")
            }
        };
        if Instant::now() > until {
            bail!("not done after {} s: {now}; run the command again to go on", args.wait);
        }
        if now != said && !args.common.json {
            eprintln!("{now}");
            said = now;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Hands leadership over.
pub(crate) async fn transfer(args: &TransferArgs) -> anyhow::Result<()> {
    let cluster = args.common.cluster.open()?;
    let transferred = cluster.client.transfer_leader(args.to, DEADLINE).await;
    cluster.fabric.close().await;
    let leader = transferred?;
    match args.common.json {
        true => println!("{:#}", json!({ "leader": leader })),
        false => println!("member {leader} leads"),
    }
    Ok(())
}

fn member(text: &str) -> Result<MemberId, String> {
    match text.parse() {
        Ok(id) if id > 0 => Ok(MemberId::new(id)),
        _ => Err("not a member id: expected a number from 1, such as 4".to_owned()),
    }
}

/// What the number of voters means for what may be lost.
fn warn_of_few(members: &[MemberStatus]) {
    let voters = members.iter().filter(|member| member.voter).count();
    if voters < VOTERS_MIN {
        let voters = if voters == 1 { "1 voter".to_owned() } else { format!("{voters} voters") };
        eprintln!("{voters}: losing one stops the group. Add members until there are {VOTERS_MIN}.");
    } else if voters.is_multiple_of(2) {
        let lost = (voters - 1) / 2;
        eprintln!("{voters} voters can lose {lost}, as {} can: add or remove one.", voters - 1);
    }
}
