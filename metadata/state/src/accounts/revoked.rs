//! The deny list: certificates that are not to be trusted though they have not run out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weft_types::{LogTime, Serial};

/// Certificates on the list. Each runs out within ten years at most, and is pointless from then on; an operator who fills
/// this has a CA to replace.
const REVOKED_MAX: usize = 4_096;

/// One line of the list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// Since when.
    pub at: LogTime,
    /// Why.
    pub reason: String,
}

/// The list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Revoked(BTreeMap<Serial, Revocation>);

impl Revoked {
    pub(crate) fn all(&self) -> &BTreeMap<Serial, Revocation> {
        &self.0
    }

    /// `true`: it was not there. Who is there already keeps time and reason.
    pub(crate) fn insert(&mut self, serial: Serial, revocation: Revocation) -> Result<bool, String> {
        if self.0.contains_key(&serial) {
            return Ok(false);
        }
        if self.0.len() >= REVOKED_MAX {
            return Err(format!(
                "{REVOKED_MAX} certificates are revoked, and no more may be: reinstate those that have run out"
            ));
        }
        self.0.insert(serial, revocation);
        Ok(true)
    }

    /// `true`: it was there.
    pub(crate) fn remove(&mut self, serial: &Serial) -> bool {
        self.0.remove(serial).is_some()
    }
}
