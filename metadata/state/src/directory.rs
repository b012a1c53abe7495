//! [`Directory`]: the state, and the door through which every command comes.

use weft_index::{DirectoryChange, IndexReader, Match, PrefixIndex};
use weft_types::{HolderGrant, HolderKey, Incarnation, IndexKey, LogTime, Roster};

use crate::accounts::Accounts;
use crate::digests::HolderDigests;
use crate::numbers::Numbers;
use crate::operate::OperatorRequest;
use crate::outcome::Refusal;
use crate::{Applied, Command, Limits, Outcome};

/// The replicated state.
#[derive(Debug, Default)]
pub struct Directory {
    pub(crate) log_time: LogTime,
    pub(crate) limits: Limits,
    pub(crate) roster: Roster,
    pub(crate) numbers: Numbers,
    pub(crate) index: PrefixIndex,
    pub(crate) digests: HolderDigests,
    /// Tenants, leases, and who asked for what.
    pub(crate) accounts: Accounts,
    /// Blocks not taken for want of room.
    pub(crate) refused_blocks: u64,
    /// Encoded bytes of the roster's nodes, endpoints and contracts.
    pub(crate) specs_bytes: usize,
}

impl Directory {
    /// An empty one with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one command, wherever in the log it stands.
    pub fn apply(&mut self, command: Command) -> Applied {
        self.apply_at(0, command)
    }

    /// Applies the command at this index of the log.
    pub fn apply_at(&mut self, index: u64, command: Command) -> Applied {
        self.log_time = self.log_time.max(command.at());
        let mut changes = Vec::new();
        let outcome = match command {
            Command::Join { node, .. } => self.join(node, &mut changes),
            Command::Leave { node, incarnation, .. } | Command::Expire { node, incarnation, .. } => {
                self.remove_node(&node, incarnation, &mut changes);
                Ok(Outcome::Done)
            }
            Command::PutEndpoint { endpoint, .. } => self.put_endpoint(endpoint, &mut changes),
            Command::RemoveEndpoint { endpoint, incarnation, .. } => {
                self.remove_endpoint(&endpoint, incarnation, &mut changes);
                Ok(Outcome::Done)
            }
            Command::Reports { reports, .. } => Ok(self.reports(reports, &mut changes)),
            Command::Sweep { budget, .. } => {
                for holder in self.index.sweep(budget as usize) {
                    self.numbers.swept(holder);
                }
                Ok(Outcome::Done)
            }
            Command::SetLimits { limits, .. } => limits.check().map_err(Refusal::from).map(|()| {
                self.limits = limits;
                Outcome::Done
            }),
            Command::Operator { at: _, by, request, salt, action } => {
                Ok(self.operate(OperatorRequest { index, by, request, salt, action }, &mut changes))
            }
            Command::ExpireLeases { .. } => {
                self.accounts.leases.expire(self.log_time, &mut changes);
                Ok(Outcome::Done)
            }
        };
        Applied { outcome: outcome.unwrap_or_else(Outcome::from), changes }
    }

    /// Latest stamp applied.
    #[must_use]
    pub fn log_time(&self) -> LogTime {
        self.log_time
    }

    /// Bounds in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Nodes, endpoints, holders, contracts.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Tenants, leases, the deny list, and what operators asked for.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Blocks, as they are kept.
    #[must_use]
    pub fn index(&self) -> &PrefixIndex {
        &self.index
    }

    /// Its index, for lookups from any thread.
    #[must_use]
    pub fn reader(&self) -> IndexReader {
        self.index.reader()
    }

    /// Leading blocks by holder; retired holders never appear.
    #[must_use]
    pub fn leading(&self, prefix: &[IndexKey]) -> Vec<Match> {
        self.index.leading(prefix)
    }

    /// Blocks that were not taken because the directory was full, since the group was formed.
    #[must_use]
    pub fn refused_blocks(&self) -> u64 {
        self.refused_blocks
    }

    /// Retired holders wait for a [`Command::Sweep`].
    #[must_use]
    pub fn sweep_due(&self) -> bool {
        self.index.retired().next().is_some()
    }

    /// Retires whatever is granted to keys in this range.
    pub(crate) fn retire(&mut self, keys: std::ops::RangeInclusive<HolderKey>, changes: &mut Vec<DirectoryChange>) {
        for holder in self.numbers.retire(keys) {
            self.index.retire(holder);
            self.digests.forget(holder);
            self.roster.holders.remove(&holder);
            changes.push(DirectoryChange::HolderRetired(holder));
        }
    }

    /// Grants a number to each key. The caller has looked for room.
    pub(crate) fn grant(
        &mut self,
        keys: impl Iterator<Item = HolderKey>,
        incarnation: Incarnation,
        changes: &mut Vec<DirectoryChange>,
    ) -> Outcome {
        let grants: Vec<HolderGrant> = keys.map(|key| self.numbers.grant(key, incarnation)).collect();
        for grant in &grants {
            self.roster.holders.insert(grant.holder, grant.clone());
            changes.push(DirectoryChange::HolderGranted(grant.clone()));
        }
        Outcome::Granted(grants)
    }

    /// Whether `count` numbers can be granted.
    pub(crate) fn room_for_holders(&self, count: usize) -> Result<(), Refusal> {
        let room = self.numbers.room(self.limits.holders);
        if count <= room {
            return Ok(());
        }
        Err(format!(
            "{count} holder numbers wanted, {room} free of {max}; those of holders that went come free with the sweep: try \
             again, or raise the directory's holder limit",
            max = self.limits.holders,
        )
        .into())
    }

    /// Whether descriptions may grow from `old` to `new` encoded bytes.
    pub(crate) fn room_for_specs(&self, old: usize, new: usize) -> Result<usize, Refusal> {
        let bytes = self.specs_bytes - old + new;
        if bytes <= Limits::SPECS_BYTES_MAX {
            return Ok(bytes);
        }
        Err(format!(
            "descriptions of nodes, endpoints and contracts would take {bytes} bytes, at most {max}: shorten labels, \
             aliases or URLs",
            max = Limits::SPECS_BYTES_MAX,
        )
        .into())
    }
}
