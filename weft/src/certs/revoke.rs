//! `weft certs revoke|reinstate|revoked`: certificates that are not to be trusted though they have not run out.

use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use serde_json::{Value, json};
use weft_metadata_proto::v1::RevokedResponse;
use weft_service::certs::serial_of;
use weft_types::{OperatorAction, Serial};

use crate::cluster::{DEADLINE, OperatorArgs};
use crate::confirm::ConfirmArgs;
use crate::fault::{Fault, unknown};
use crate::table::{Table, ago};

/// Arguments of `weft certs revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// The certificate's file (PEM), or its serial number in hexadecimal.
    #[arg(value_name = "FILE|SERIAL")]
    certificate: String,
    /// Why, for those who read the list.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Arguments of `weft certs reinstate`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReinstateArgs {
    /// The certificate's file (PEM), or its serial number in hexadecimal.
    #[arg(value_name = "FILE|SERIAL")]
    certificate: String,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Puts a certificate on the list.
pub(super) async fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let RevokeArgs { certificate, reason, operator, confirm } = args;
    let serial = serial(certificate)?;
    confirm.confirm(&format!("Certificate {serial} is no longer to be trusted."))?;
    let action = OperatorAction::Revoke { serial: serial.clone(), reason: reason.clone() };
    operator.with(async |cluster| Ok(cluster.client.operate(action.clone(), DEADLINE).await?)).await?;
    operator.print(&json!({ "revoked": serial, "reason": reason }), &format!("certificate {serial} is revoked"));
    Ok(())
}

/// Takes one off it.
pub(super) async fn reinstate(args: &ReinstateArgs) -> anyhow::Result<()> {
    let ReinstateArgs { certificate, operator } = args;
    let serial = serial(certificate)?;
    operator
        .with(async |cluster| {
            let known = cluster.newest().await.revoked(DEADLINE).await?.revoked;
            if known.iter().all(|line| line.serial != serial) {
                let serials = known.iter().map(|line| line.serial.to_string());
                return Err(unknown("revoked certificate", &serial.to_string(), serials, "weft certs revoked").into());
            }
            Ok(cluster.client.operate(OperatorAction::Reinstate { serial: serial.clone() }, DEADLINE).await?)
        })
        .await?;
    operator.print(&json!({ "reinstated": serial }), &format!("certificate {serial} is no longer revoked"));
    Ok(())
}

/// Shows the list.
pub(super) async fn list(operator: &OperatorArgs) -> anyhow::Result<()> {
    let list = operator
        .with(async |cluster| {
            cluster.newest().await.revoked(DEADLINE).await.context("cannot read which certificates are revoked")
        })
        .await?;
    operator.print(&as_json(&list), &as_text(&list));
    Ok(())
}

fn as_json(list: &RevokedResponse) -> Value {
    let line = |line: &weft_metadata_proto::v1::RevokedStatus| json!({ "serial": line.serial, "at_us": line.at, "reason": line.reason });
    json!({
        "applied": list.applied, "log_time_us": list.log_time, "revoked": list.revoked.iter().map(line).collect::<Vec<_>>(),
    })
}

fn as_text(list: &RevokedResponse) -> String {
    if list.revoked.is_empty() {
        return "no certificate is revoked".to_owned();
    }
    let mut table = Table::new(&["serial", "ago", "reason"]);
    for line in &list.revoked {
        table.row([line.serial.to_string(), ago(list.log_time.since(line.at)), line.reason.clone()]);
    }
    table.to_string()
}

/// The serial number of a certificate's file.
pub(super) fn serial_in(file: &Path) -> anyhow::Result<Serial> {
    let shown = file.display();
    let pem = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let serial = serial_of(&pem).and_then(|bytes| Serial::from_bytes(&bytes));
    serial.with_context(|| format!("{shown} is no certificate: expected one in PEM, as `weft certs issue` writes it"))
}

fn serial(certificate: &str) -> Result<Serial, Fault> {
    let file = Path::new(certificate);
    if file.exists() {
        return serial_in(file).map_err(|error| Fault::Usage(format!("{error:#}")));
    }
    Serial::from_str(certificate).map_err(|error| Fault::Usage(format!("{error}, or a certificate's file")))
}

#[cfg(test)]
mod tests {
    use weft_service::certs::Ca;

    use super::*;

    #[test]
    fn a_certificate_is_named_by_its_file_or_its_serial() {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::init(folder.path(), "demo").unwrap();
        let files = ca.issue_to(folder.path(), "node", "n1", 1).unwrap();
        let by_file = serial(files.cert.to_str().unwrap()).unwrap();
        assert_eq!(serial(&by_file.to_string()).unwrap(), by_file);
        let key = serial(files.key.to_str().unwrap()).unwrap_err().to_string();
        assert!(key.contains("expected one in PEM"), "{key}");
        let none = serial("n1.pem").unwrap_err().to_string();
        assert!(none.contains("such as 5f:03:a1, or a certificate's file"), "{none}");
    }
}
