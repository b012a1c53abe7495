//! Once quiet, a router's copy answers as the directory does.

use weft_metadata::testing::Member;
use weft_metadata_client::Follower;
use weft_types::IndexKey;

use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "the follower equals the directory once quiet";

/// Compares; called once quiet.
pub(crate) fn check(follower: &Follower, member: &Member, prefixes: &[Vec<IndexKey>], chronicle: &Chronicle) {
    member.directory(|directory, index| {
        if follower.log_index() != Some(index) {
            let how = format_args!("the follower has reached {:?}, the directory {index}", follower.log_index());
            return chronicle.violated(NAME, how);
        }
        if *follower.roster() != *directory.roster() {
            chronicle.violated(NAME, "their rosters differ");
        }
        let (copied, original) = (follower.accounts(), directory.accounts());
        if copied.tenants != *original.tenants().all() || copied.leases != *original.leases().all() {
            chronicle.violated(NAME, "their tenants or leases differ");
        }
        for prefix in prefixes {
            let (copied, original) = (follower.leading(prefix), directory.leading(prefix));
            if copied != original {
                let how = format_args!(
                    "of {} blocks the follower finds {copied:?}, the directory {original:?}",
                    prefix.len()
                );
                chronicle.violated(NAME, how);
            }
        }
    });
}
