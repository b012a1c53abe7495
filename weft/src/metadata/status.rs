//! `weft metadata status`: every member as it sees itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_metadata_proto::v1::StatusResponse;

use crate::cluster::{Cluster, ClusterArgs};
use crate::table::{Table, mib};

/// Longest wait for one member.
const DEADLINE: Duration = Duration::from_secs(2);

/// Arguments of `weft metadata status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// One JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What each member answered, or why it did not.
pub(crate) type Answers = Vec<(SocketAddr, Result<StatusResponse, String>)>;

/// Asks every member, those included that the others name, and prints what they say.
pub(crate) async fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let cluster = args.cluster.open()?;
    let answers = ask(&cluster).await;
    cluster.fabric.close().await;
    let answers = answers?;
    if args.json {
        println!("{:#}", as_json(&answers));
    } else {
        print!("{}", as_text(&answers));
    }
    Ok(())
}

/// The status of every member known.
///
/// # Errors
/// None answered.
pub(crate) async fn ask(cluster: &Cluster) -> anyhow::Result<Answers> {
    let ask_all = async |members: &[SocketAddr]| {
        let asked = join_all(members.iter().map(|member| cluster.client.status(*member, DEADLINE))).await;
        let answer = |status: Result<_, weft_metadata_client::MetadataError>| status.map_err(|error| error.to_string());
        members.iter().copied().zip(asked.into_iter().map(answer)).collect::<Answers>()
    };
    let mut answers = ask_all(&cluster.members).await;
    if answers.iter().all(|(_, answer)| answer.is_err()) {
        let reasons = answers.iter().filter_map(|(_, answer)| answer.as_ref().err());
        bail!("no metadata member answered:\n  {}", reasons.cloned().collect::<Vec<_>>().join("\n  "));
    }
    let named: Vec<_> = cluster.client.members().into_iter().filter(|one| !cluster.members.contains(one)).collect();
    answers.extend(ask_all(&named).await);
    Ok(answers)
}

/// The answer of the member that applied most: the others are on their way there.
pub(crate) fn freshest(answers: &Answers) -> Option<&StatusResponse> {
    answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).max_by_key(|status| status.applied)
}

fn as_json(answers: &Answers) -> Value {
    let member = |(addr, answer): &(SocketAddr, Result<StatusResponse, String>)| match answer {
        Ok(status) => json!({
            "id": status.member, "addr": addr, "state": status.state, "term": status.term, "leader": status.leader,
            "last_log": status.last_log, "committed": status.committed, "applied": status.applied,
            "snapshot": status.snapshot, "log_bytes": status.log_bytes, "log_time_us": status.log_time,
        }),
        Err(error) => json!({ "addr": addr, "error": error }),
    };
    let fresh = freshest(answers);
    json!({
        "leader": fresh.and_then(|status| status.leader),
        "members": answers.iter().map(member).collect::<Vec<_>>(),
        "group": fresh.map(|status| &status.members),
        "blocks": fresh.map(|status| status.blocks),
        "refused_blocks": fresh.map(|status| status.refused_blocks),
    })
}

fn as_text(answers: &Answers) -> String {
    let fresh = freshest(answers);
    let role = |id| fresh.and_then(|status| status.members.iter().find(|member| member.id == id));
    let heads = ["member", "address", "role", "state", "term", "log", "applied", "snapshot", "log size"];
    let mut members = Table::new(&heads);
    for (addr, answer) in answers {
        match answer {
            Ok(status) => members.row([
                status.member.to_string(),
                addr.to_string(),
                role(status.member).map_or("none", |member| if member.voter { "voter" } else { "learner" }).to_owned(),
                format!("{:?}", status.state).to_lowercase(),
                status.term.to_string(),
                status.last_log.to_string(),
                status.applied.to_string(),
                status.snapshot.map_or("-".to_owned(), |index| index.to_string()),
                format!("{:.1} MiB", mib(status.log_bytes)),
            ]),
            Err(_) => members.row(["?".into(), addr.to_string(), String::new(), "no answer".into()]),
        }
    }
    let mut text = format!("{members}\n");
    if let Some(status) = fresh {
        text.push_str(&format!(
            "leader {}, log time {}, {} distinct blocks, {} refused for want of room\n",
            status.leader.map_or("unknown".to_owned(), |leader| leader.to_string()),
            status.log_time,
            status.blocks,
            status.refused_blocks,
        ));
    }
    text
}
