//! A follower with a budget forgets, and never takes more, whatever the directory lists.

use weft_index::{Change, Report, ReportForm};
use weft_metadata_state::{Command, Outcome};
use weft_types::{ByteSize, HolderGrant, IndexKey, LogTime, Role};

use crate::service::{Group, SOON, metrics, node};

/// Half of it is for the view that is built beside the other: the least that an index may have.
const BUDGET: ByteSize = ByteSize::from_mib(8);
/// Several times what fits.
const BLOCKS: u32 = 400_000;
const REPORTED: u32 = 20_000;

fn key(number: u32) -> IndexKey {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.wrapping_mul(0x85eb_ca6b).to_be_bytes());
    bytes[12..].copy_from_slice(&number.to_le_bytes());
    IndexKey::from_bytes(bytes)
}

fn join(group: &Group) -> HolderGrant {
    match group.apply(Command::Join { at: LogTime::ZERO, node: node("a", 1) }) {
        Outcome::Granted(mut grants) => grants.remove(0),
        other => panic!("a grant expected, got {other:?}"),
    }
}

fn store(group: &Group, grant: &HolderGrant, blocks: std::ops::Range<u32>) {
    for (number, from) in (1..).zip(blocks.clone().step_by(REPORTED as usize)) {
        let HolderGrant { holder, generation, incarnation, .. } = *grant;
        let changes = (from..(from + REPORTED).min(blocks.end)).map(|block| Change::Stored(key(block))).collect();
        let number = number + u64::from(blocks.start / REPORTED);
        let report = Report { holder, generation, incarnation, number, form: ReportForm::default(), changes };
        group.apply(Command::Reports { at: LogTime::ZERO, reports: vec![report] });
    }
}

#[tokio::test]
async fn a_follower_stays_within_its_bytes_and_counts_what_it_forgets() {
    let group = Group::start(1);
    let grant = join(&group);
    // Half of them come with the snapshot, the others as changes.
    store(&group, &grant, 0..BLOCKS / 2);
    let (metrics, counters) = metrics();
    let follower = group.client(Role::Router, &[0]).follow(Some(BUDGET), metrics);
    let reached = async |index| tokio::time::timeout(SOON, follower.reached(index)).await.expect("it keeps up");
    let check = |listed: u32| {
        let (bytes, evicted) = (counters.index_bytes(), counters.evicted());
        assert!(bytes <= BUDGET.bytes() / 2, "{bytes} bytes");
        assert!(evicted > 0, "everything fitted: nothing was tried");
        let known = u64::try_from(follower.blocks()).unwrap();
        assert_eq!(known + evicted, u64::from(listed), "each block is known or counted as forgotten");
        let found = (0..listed).filter(|number| !follower.leading(&[key(*number)]).is_empty()).count() as u64;
        assert_eq!(found, known);
    };
    reached(group.directory().0).await;
    check(BLOCKS / 2);
    store(&group, &grant, BLOCKS / 2..BLOCKS);
    reached(group.directory().0).await;
    check(BLOCKS);
}
