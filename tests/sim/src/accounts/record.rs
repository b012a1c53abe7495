//! What operators asked for and were told, in virtual time.

use std::collections::BTreeMap;

use tokio::time::Instant;
use weft_metadata_client::MetadataError;
use weft_types::{Name, Operated, RequestId, TenantId};

use super::Known;
use super::model::{Action, Answer, Call, micros};
use crate::linear::Timed;

/// All of it.
#[derive(Debug)]
pub(crate) struct Record {
    since: Instant,
    /// Calls about each tenant, in the order in which they ended or were given up.
    calls: BTreeMap<TenantId, Vec<Timed<Call>>>,
    /// Leases that were granted, and are not known to have ended.
    leases: BTreeMap<TenantId, Vec<Known>>,
    acknowledged: Vec<Acknowledged>,
}

/// What an operator asked for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) tenant: TenantId,
    pub(crate) by: Name,
    pub(crate) request: RequestId,
    pub(crate) began: u64,
    pub(crate) action: Action,
}

/// A request that was answered, with what.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) by: Name,
    pub(crate) request: RequestId,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Or why it was refused.
    pub(crate) operated: Result<Operated, String>,
}

impl Default for Record {
    fn default() -> Self {
        Self { since: Instant::now(), calls: BTreeMap::new(), leases: BTreeMap::new(), acknowledged: Vec::new() }
    }
}

impl Record {
    pub(crate) fn now(&self) -> u64 {
        micros(self.since.elapsed())
    }

    pub(crate) fn calls(&self, tenant: &TenantId) -> &[Timed<Call>] {
        self.calls.get(tenant).map_or(&[], |calls| calls)
    }

    pub(crate) fn leases_of(&self, tenant: &TenantId) -> Vec<Known> {
        self.leases.get(tenant).cloned().unwrap_or_default()
    }

    pub(crate) fn acknowledged(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// Somebody asked, and was answered or gave up.
    pub(crate) fn asked(&mut self, asked: Request, operated: Result<Operated, MetadataError>) {
        let Request { tenant, by, request, began, action } = asked;
        let ended = self.now();
        let operated = match operated {
            Ok(operated) => Ok(Ok(operated)),
            Err(MetadataError::Refused(reason)) => Ok(Err(reason)),
            Err(error) => Err(error),
        };
        let answer = match &operated {
            Ok(Ok(Operated::Leased { until, .. })) => Answer::Leased(*until),
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(_)) => Answer::Refused,
            Err(_) => Answer::Unknown,
        };
        if let Ok(operated) = operated {
            let leases = self.leases.entry(tenant.clone()).or_default();
            match (&action, &operated) {
                (Action::Grant { tag, .. }, Ok(Operated::Leased { lease, .. })) => leases.push((*tag, *lease)),
                (Action::Release { tag }, _) | (Action::Renew { tag, .. }, Err(_)) => {
                    leases.retain(|(it, _)| it != tag)
                }
                _ => {}
            }
            self.acknowledged.push(Acknowledged { by, request, began, ended, operated });
        }
        let ended = (answer != Answer::Unknown).then_some(ended);
        self.note(tenant, Timed { call: Call { action, answer }, began, ended });
    }

    /// A member told what it has applied, which may be long ago, but nothing that was not yet.
    pub(crate) fn saw_some_time_ago(&mut self, tenant: TenantId, answer: Answer) {
        let call = Call { action: Action::Read, answer };
        let ended = Some(self.now());
        self.note(tenant, Timed { call, began: 0, ended });
    }

    fn note(&mut self, tenant: TenantId, call: Timed<Call>) {
        self.calls.entry(tenant).or_default().push(call);
    }
}
