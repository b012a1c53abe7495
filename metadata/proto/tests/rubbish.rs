//! Bytes from outside: nothing panics, nothing malformed passes, and what passes is what was written.

use std::collections::BTreeSet;

use proptest::prelude::*;
use weft_index::Run;
use weft_metadata_proto::v1::{BlockList, DigestsRequest, LookupRequest, ReportRequest, WatchItem};
use weft_types::rpc::Message;
use weft_types::{HolderId, IndexKey, ShardId};

/// What decodes encodes to the same bytes: there is one encoding of each message with a fixed layout.
fn same_or_refused<M: Message>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        assert_eq!(message.encode(), bytes);
    }
}

proptest! {
    #[test]
    fn fixed_layouts_have_one_encoding(
        mut bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => 0u8..4, 1 => any::<u8>()], 0..120),
        tag in 0u8..8,
    ) {
        same_or_refused::<ReportRequest>(&bytes);
        same_or_refused::<LookupRequest>(&bytes);
        same_or_refused::<DigestsRequest>(&[bytes.as_slice(), &[0; 416]].concat());
        if let Some(first) = bytes.first_mut() {
            *first = tag;
        }
        if matches!(tag, 1 | 2 | 6) {
            same_or_refused::<WatchItem>(&bytes);
        } else {
            let _ = WatchItem::decode(&bytes);
        }
    }

    #[test]
    fn a_lookup_reads_as_it_was_written(shard: u16, keys: Vec<[u8; 16]>) {
        let prefix = keys.into_iter().map(IndexKey::from_bytes).collect();
        let request = LookupRequest { shard: ShardId::new(shard), prefix };
        prop_assert_eq!(LookupRequest::decode(&request.encode()).unwrap(), request);
    }

    #[test]
    fn blocks_read_as_they_were_written(
        runs in prop::collection::vec(
            (prop::collection::btree_set(any::<u16>(), 1..9), prop::collection::vec(any::<[u8; 16]>(), 1..9)),
            0..20,
        ),
    ) {
        let run = |(holders, keys): (_, Vec<_>)| Run {
            holders: BTreeSet::into_iter(holders).map(|number: u16| HolderId::new(u32::from(number))).collect(),
            keys: keys.into_iter().map(IndexKey::from_bytes).collect(),
        };
        let written: Vec<Run> = runs.into_iter().map(run).collect();
        let mut list = BlockList::default();
        written.iter().for_each(|run| list.push(run));
        let item = WatchItem::SnapshotBlocks(list);
        let WatchItem::SnapshotBlocks(read) = WatchItem::decode(&item.encode()).unwrap() else {
            return Err(TestCaseError::fail("another item"));
        };
        prop_assert!(read.runs().eq(written.iter().cloned()));
        prop_assert_eq!(read.count() as usize, written.len());
    }
}
