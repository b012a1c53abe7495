//! `weft metadata audit`: what operators asked for, as the group agreed on it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};
use weft_metadata_proto::v1::AuditResponse;
use weft_types::{AuditEntry, AuditOutcome, LogTime};

use crate::cluster::{DEADLINE, OperatorArgs};
use crate::table::{Table, ago};

/// Arguments of `weft metadata audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// So many of the newest requests; the group remembers 1024.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Shows it.
pub(crate) async fn run(AuditArgs { last, operator }: &AuditArgs) -> anyhow::Result<()> {
    let audit = operator
        .with(async |cluster| {
            cluster.newest().await.audit(*last, DEADLINE).await.context("cannot read what operators asked for")
        })
        .await?;
    operator.print(&as_json(&audit), &as_text(&audit, SystemTime::now()));
    Ok(())
}

fn as_json(audit: &AuditResponse) -> Value {
    let entry = |entry: &AuditEntry| {
        let outcome = match &entry.outcome {
            AuditOutcome::Done => json!({ "done": true }),
            AuditOutcome::Leased { lease, until } => json!({ "done": true, "lease": lease, "until_us": until }),
            AuditOutcome::Refused(reason) => json!({ "done": false, "refused": reason }),
        };
        json!({
            "index": entry.index, "at_us": entry.at, "by": entry.by.to_string(), "request": entry.request,
            "what": entry.what, "outcome": outcome,
        })
    };
    json!({
        "applied": audit.applied,
        "log_time_us": audit.log_time,
        "entries": audit.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

/// Oldest first, so that the newest stands where a reader looks.
fn as_text(audit: &AuditResponse, now: SystemTime) -> String {
    if audit.entries.is_empty() {
        return "no operator has asked for anything yet".to_owned();
    }
    let mut table = Table::new(&["index", "when, about", "ago", "who", "what", "outcome"]);
    for entry in &audit.entries {
        let since = audit.log_time.since(entry.at);
        table.row([
            entry.index.to_string(),
            about(now, since),
            ago(since),
            entry.by.to_string(),
            entry.what.clone(),
            outcome(&entry.outcome, entry.at),
        ]);
    }
    table.to_string()
}

/// The log's time runs only while the group has a leader, so that a wall clock is not far off, and no more.
fn about(now: SystemTime, since: Duration) -> String {
    let then = now.checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(then).to_string()
}

fn outcome(outcome: &AuditOutcome, at: LogTime) -> String {
    match outcome {
        AuditOutcome::Leased { lease, until } => {
            format!("lease {lease} for {}", humantime::format_duration(Duration::from_secs(until.since(at).as_secs())))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use weft_types::{Asker, LeaseId, RequestId, Role};

    use super::*;

    #[test]
    fn an_entry_says_who_when_what_and_what_came_of_it() {
        let at = LogTime::from_micros(1_000_000);
        let entry = |outcome| AuditEntry {
            index: 7,
            at,
            by: Asker { role: Role::Admin, name: "ann".parse().unwrap() },
            request: RequestId::new(9),
            what: "pin 3 blocks".to_owned(),
            outcome,
        };
        let until = at.after(Duration::from_secs(7200));
        let entries = vec![
            entry(AuditOutcome::Leased { lease: LeaseId::new(4), until }),
            entry(AuditOutcome::Refused("full".into())),
        ];
        let audit = AuditResponse { applied: 8, log_time: at.after(Duration::from_secs(90)), entries };
        let text = as_text(&audit, SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("1970-01-01T00:00:10Z  1m 30s"), "{text}");
        assert!(lines[1].contains("admin/ann  pin 3 blocks  lease 4 for 2h"), "{text}");
        assert!(lines[2].ends_with("refused: full"), "{text}");
        assert_eq!(as_json(&audit)["entries"][1]["outcome"], json!({ "done": false, "refused": "full" }));
    }
}
