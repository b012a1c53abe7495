//! Which data directory this is, and which group it belongs to. Both are drawn once, at random, and written into the file
//! `member`.
//!
//! ```text
//!  empty ──► a directory of its own, of no group ──► forms a group: draws its id
//!                                               └──► hears from a group that has met it: that group's, before it promises anything
//! ```
//! A directory never changes sides. So whatever it holds was promised to this group and to no other, and a member that was
//! taken out, or that followed a leader whose decision to take it in came to nothing, may come back with what it has: Raft cuts
//! what the others do not have. What was written under another group is not let in, whatever its numbers look like.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Mutex;
use weft_transport::{Refusal, RefusalCode};

use crate::raft::{DiskId, LineageId};
use crate::runtime::{blocking, random};
use crate::store::Owner;
use crate::volume::Volume;

/// Clone is cheap; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Allegiance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    volume: Arc<dyn Volume>,
    owner: Owner,
    disk: DiskId,
    group: RwLock<Option<LineageId>>,
    /// One at a time writes it down.
    joining: Mutex<()>,
}

impl Allegiance {
    /// As the file `member` has it.
    pub(crate) fn new(volume: Arc<dyn Volume>, owner: Owner, disk: DiskId, group: Option<LineageId>) -> Self {
        Self(Arc::new(Shared { volume, owner, disk, group: RwLock::new(group), joining: Mutex::default() }))
    }

    /// Which data directory this is.
    pub(crate) fn disk(&self) -> DiskId {
        self.0.disk
    }

    /// Whose it is; `None` until it has heard from one.
    pub(crate) fn group(&self) -> Option<LineageId> {
        *self.0.group.read()
    }

    /// The group that this member forms: a new one, or the one it was about to form when it was stopped.
    pub(crate) async fn found(&self) -> Result<(), String> {
        match self.group() {
            Some(_) => Ok(()),
            None => self.join(LineageId(random())).await,
        }
    }

    /// Whoever calls must mean this data directory, and not the one that a member of this id had before.
    pub(crate) fn check_disk(&self, meant: DiskId) -> Result<(), Refusal> {
        let disk = self.0.disk;
        if meant == disk {
            return Ok(());
        }
        let message = format!(
            "meant for the member with data directory {meant}; this one has {disk}: it lost the other, and comes back by \
             `weft metadata remove` and `add`, not by itself"
        );
        Err(Refusal::new(RefusalCode::Forbidden, message))
    }

    /// Whoever calls must mean this data directory, in the name of the group that it belongs to. One that belongs to none does so
    /// from now on: only a group that has met it knows its id.
    pub(crate) async fn check(&self, meant: DiskId, group: LineageId) -> Result<(), Refusal> {
        self.check_disk(meant)?;
        if self.group().is_none() {
            self.join(group).await.map_err(|error| Refusal::new(RefusalCode::Failed, error))?;
        }
        match self.group() {
            Some(ours) if ours == group => Ok(()),
            ours => {
                let ours = ours.unwrap_or_default();
                let message = format!("a request of group {group}, and this data directory is of group {ours}");
                Err(Refusal::new(RefusalCode::Forbidden, message))
            }
        }
    }

    /// Durable when this returns, unless it has joined one meanwhile.
    async fn join(&self, group: LineageId) -> Result<(), String> {
        let _one = self.0.joining.lock().await;
        if self.group().is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        let writing = blocking(move || shared.owner.write(&*shared.volume, shared.disk, Some(group)));
        let written = writing.await.map_err(std::io::Error::other).flatten();
        written.map_err(|error| format!("cannot write down which group this member belongs to: {error}"))?;
        *self.0.group.write() = Some(group);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open_volume;
    use weft_types::MemberId;

    #[tokio::test]
    async fn a_directory_joins_the_first_group_that_knows_it_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let owner = Owner { cluster: "test".to_owned(), member: MemberId::new(1) };
            owner.claim(open_volume(folder.path()).unwrap()).unwrap()
        };
        let fresh = open();
        let (disk, code) = (fresh.disk(), |refused: Result<(), Refusal>| refused.unwrap_err().code);
        assert_eq!(code(fresh.check(DiskId(disk.0 ^ 1), LineageId(6)).await), RefusalCode::Forbidden);
        assert_eq!(fresh.group(), None, "a caller that does not know the directory binds nothing");
        fresh.check(disk, LineageId(7)).await.unwrap();
        assert_eq!(code(fresh.check(disk, LineageId(8)).await), RefusalCode::Forbidden);
        drop(fresh);
        let again = open();
        assert_eq!((again.disk(), again.group()), (disk, Some(LineageId(7))), "it is on disk");
        again.found().await.unwrap();
        assert_eq!(again.group(), Some(LineageId(7)), "what it was about to form");
    }
}
