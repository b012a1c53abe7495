//! Log-stamped time never goes back, on any member, whoever led and however its clock ran.

use std::collections::BTreeMap;

use weft_metadata::testing::Seen;
use weft_types::LogTime;

pub(crate) const NAME: &str = "log time never goes back";

/// Member → time after the entry it applied last.
#[derive(Debug, Default)]
pub(crate) struct Clocks(BTreeMap<u64, LogTime>);

impl Clocks {
    /// It applies again what it had applied before.
    pub(crate) fn restarted(&mut self, member: u64) {
        self.0.remove(&member);
    }

    pub(crate) fn applied(&mut self, member: u64, seen: &Seen<'_>) -> Result<(), String> {
        let before = self.0.insert(member, seen.at);
        match before.filter(|before| *before > seen.at) {
            None => Ok(()),
            Some(before) => {
                Err(format!("member {member} was at {before}, and entry {} takes it to {}", seen.index, seen.at))
            }
        }
    }
}
