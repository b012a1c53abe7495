//! Once quiet, every member knows the same voters, and they are whom the changes of the group, each of which was said to be done,
//! left in it. No change is left half made.

use std::collections::BTreeSet;

use weft_metadata::testing::Member;

use crate::chronicle::Chronicle;

pub(crate) const NAME: &str = "the group is as it was changed";

/// Compares; called once quiet.
pub(crate) fn check(id: u64, member: &Member, expected: &BTreeSet<u64>, chronicle: &Chronicle) {
    let voters = member.voters();
    if voters != *expected {
        chronicle.violated(NAME, format_args!("member {id} knows the voters {voters:?}, expected {expected:?}"));
    }
    if member.is_changing() {
        chronicle.violated(NAME, format_args!("member {id} knows of a change that is half made"));
    }
}
