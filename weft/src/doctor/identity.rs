//! The certificate: whether it is one of this cluster's, whose it is, and when it ends.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use weft_service::config::{IdentityFiles, IdentityPem};
use weft_transport::Identity;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::finding::Finding;

/// Below this a certificate wants to be renewed: a week.
const SOON_SECONDS: i64 = 7 * 86_400;

/// All about the files that are given.
pub(super) fn look(files: Option<&IdentityFiles>) -> Vec<Finding> {
    let Some(files) = files else {
        return vec![Finding::skipped("certificate", "none given: --cert, --key and --ca, or --state of a `weft up`")];
    };
    let remedy = "issue another: weft certs issue";
    let pem = match files.read() {
        Ok(pem) => pem,
        Err(error) => return vec![Finding::broken("certificate", error.to_string(), remedy)],
    };
    if let Err(error) = Identity::from_pem(&pem.cert, &pem.key, &pem.ca) {
        return vec![Finding::broken("certificate", error.to_string(), remedy)];
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    ours(&pem, now).unwrap_or_else(|error| vec![Finding::broken("certificate", format!("{error:#}"), remedy)])
}

fn ours(pem: &IdentityPem, now: i64) -> anyhow::Result<Vec<Finding>> {
    let (own, ca) = (der(&pem.cert)?, der(&pem.ca)?);
    let (_, own) = X509Certificate::from_der(&own).context("the certificate cannot be read")?;
    let (_, ca) = X509Certificate::from_der(&ca).context("the CA's certificate cannot be read")?;
    let name = names(&own).join(", ");
    let whose = match name.starts_with("weft://") {
        true => Finding::well("certificate", name),
        false => Finding::broken(
            "certificate",
            format!("names '{name}'"),
            "expected weft://<cluster>/<role>/<name>: weft certs issue",
        ),
    };
    // Whether the chain holds is what any connection tells; here it is told which of the two is the wrong one.
    let chain = match own.issuer() == ca.subject() {
        true => Finding::well("issued by", ca.subject().to_string()),
        false => Finding::broken(
            "issued by",
            format!("{}, and --ca is {}", own.issuer(), ca.subject()),
            "take the CA that issued it, or have this one issue another",
        ),
    };
    let ends = |of: &str, cert: &X509Certificate<'_>| {
        life(of, cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp(), now)
    };
    Ok(vec![whose, chain, ends("certificate ends", &own), ends("CA ends", &ca)])
}

fn life(of: &str, begins: i64, ends: i64, now: i64) -> Finding {
    let days = |seconds: i64| seconds.abs() / 86_400;
    match (begins - now, ends - now) {
        (early, _) if early > 0 => Finding::broken(
            of,
            format!("not valid for another {} days", days(early)),
            "is this host's clock right? Set it (chrony, timesyncd)",
        ),
        (_, left) if left <= 0 => {
            Finding::broken(of, format!("{} days ago", days(left)), "issue another; and is this host's clock right?")
        }
        (_, left) if left < SOON_SECONDS => {
            Finding::poor(of, format!("in {} days", days(left)), "issue another: processes read it without a restart")
        }
        (_, left) => Finding::well(of, format!("in {} days", days(left))),
    }
}

fn der(pem: &str) -> anyhow::Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).context("a file holds no certificate in PEM")?;
    Ok(pem.contents)
}

fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = cert.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    san.value.general_names.iter().filter_map(uri).collect()
}

#[cfg(test)]
mod tests {
    use weft_service::certs::Ca;

    use super::super::finding::State;
    use super::*;

    fn states(issuer: &Ca, trusted: &Ca, days_ahead: i64) -> Vec<State> {
        let issued = issuer.issue("admin", "one", 30).unwrap();
        let pem = IdentityPem { cert: issued.cert.clone(), key: issued.key.clone(), ca: trusted.cert_pem().to_owned() };
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        ours(&pem, now + days_ahead * 86_400).unwrap().into_iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn a_certificate_is_well_then_poor_then_broken() {
        use State::{Broken, Poor, Well};
        let ca = Ca::create("c").unwrap();
        assert_eq!(states(&ca, &ca, 0), [Well, Well, Well, Well]);
        assert_eq!(states(&ca, &ca, 25), [Well, Well, Poor, Well]);
        assert_eq!(states(&ca, &ca, 31), [Well, Well, Broken, Well]);
        assert_eq!(states(&ca, &ca, -30), [Well, Well, Broken, Broken], "a clock that is a month late");
        assert_eq!(states(&Ca::create("other").unwrap(), &ca, 0)[1], Broken);
    }
}
