//! The accounts as bytes, inside the directory's snapshot: a length, then records, each of a kind that is known by its tag.
//! Drawn in `docs/metadata-format.md`.

use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_index::layout::Reader;
use weft_types::codec::{self, DecodeError};

use super::Accounts;
use crate::SnapshotError;

/// Tags are identity on disk: append, never renumber, never reuse.
mod tag {
    pub(super) const GROUP: u8 = 0;
    pub(super) const TENANT: u8 = 1;
    pub(super) const LEASE: u8 = 2;
    pub(super) const LEASE_LAST: u8 = 3;
    pub(super) const REVOKED: u8 = 4;
    pub(super) const AUDIT: u8 = 5;
}

impl Accounts {
    /// Appends length and records.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        self.tenants.groups().iter().for_each(|group| record(out, tag::GROUP, &group));
        self.tenants.all().iter().for_each(|tenant| record(out, tag::TENANT, &tenant));
        self.leases.all().iter().for_each(|lease| record(out, tag::LEASE, &lease));
        if self.leases.last() > 0 {
            record(out, tag::LEASE_LAST, &self.leases.last());
        }
        self.revoked.all().iter().for_each(|revoked| record(out, tag::REVOKED, &revoked));
        self.audit.entries().for_each(|entry| record(out, tag::AUDIT, entry));
        let len = (out.len() - start - 8) as u64;
        out[start..start + 8].copy_from_slice(&len.to_le_bytes());
    }

    /// Reads records.
    pub(crate) fn read(records: &[u8]) -> Result<Self, SnapshotError> {
        let mut records = Reader::new(records, "record of a directory snapshot");
        let mut accounts = Self::default();
        while records.remaining() > 0 {
            if !accounts.read_record(&mut records)? {
                return Err(SnapshotError::Inconsistent(
                    "a tenant, group, lease or revocation is there twice or lacks its part",
                ));
            }
        }
        Ok(accounts)
    }

    /// `false`: it does not fit to what was read before.
    fn read_record(&mut self, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        let tag = reader.u8()?;
        let len = reader.u32()? as usize;
        let body = reader.bytes(len)?;
        Ok(match tag {
            tag::GROUP => with(body, |(id, group)| self.tenants.restore_group(id, group))?,
            tag::TENANT => with(body, |(id, tenant)| self.tenants.restore_tenant(id, tenant))?,
            tag::LEASE => with(body, |(id, lease)| self.leases.restore(id, lease))?,
            tag::LEASE_LAST => with(body, |last| self.leases.restore_last(last))?,
            tag::REVOKED => with(body, |(serial, line)| self.revoked.insert(serial, line) == Ok(true))?,
            tag::AUDIT => {
                self.audit.push(codec::decode(body)?);
                true
            }
            unknown => return Err(reader.malformed(format!("tag {unknown} is unknown to this release"))),
        })
    }
}

fn record(out: &mut Vec<u8>, tag: u8, body: &impl Serialize) {
    let body = codec::encode(body);
    out.push(tag);
    out.extend_from_slice(&u32::try_from(body.len()).expect("every record is bounded").to_le_bytes());
    out.extend_from_slice(&body);
}

fn with<T: DeserializeOwned>(body: &[u8], take: impl FnOnce(T) -> bool) -> Result<bool, DecodeError> {
    codec::decode(body).map(take)
}
