//! The audit of every member, once quiet, names each request that was answered once, with the answer that was given, and in an
//! order in which none comes before one that had ended when it began.

use weft_metadata::testing::Member;
use weft_types::{AuditEntry, AuditOutcome, Operated, Role};

use crate::accounts::record::{Acknowledged, Record};
use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "the audit names each request once";

/// Compares; called once quiet.
pub(crate) fn check(id: u64, member: &Member, record: &Record, chronicle: &Chronicle) {
    member.directory(|directory, _| {
        let audit: Vec<&AuditEntry> = directory.accounts().audit().collect();
        let mut listed: Vec<(u64, &Acknowledged)> = Vec::new();
        for asked in record.acknowledged() {
            let is = |entry: &&&AuditEntry| {
                entry.request == asked.request && entry.by.name == asked.by && entry.by.role == Role::Admin
            };
            let found: Vec<_> = audit.iter().filter(is).collect();
            match found[..] {
                [entry] if says(&entry.outcome, &asked.operated) => listed.push((entry.index, asked)),
                _ => chronicle.violated(NAME, format_args!("member {id}: of {asked:?} it says {found:?}")),
            }
        }
        listed.sort_by_key(|(index, _)| *index);
        let mut latest = 0;
        for (index, asked) in listed {
            if asked.ended < latest {
                chronicle
                    .violated(NAME, format_args!("member {id}: entry {index} had ended before one before it began"));
            }
            latest = latest.max(asked.began);
        }
    });
}

fn says(noted: &AuditOutcome, told: &Result<Operated, String>) -> bool {
    match (noted, told) {
        (AuditOutcome::Leased { lease, until }, Ok(told)) => *told == Operated::Leased { lease: *lease, until: *until },
        (AuditOutcome::Done, Ok(Operated::Done)) => true,
        (AuditOutcome::Refused(noted), Err(told)) => *noted == AuditEntry::cut(told.clone()),
        _ => false,
    }
}
