//! Bytes from outside: nothing panics, nothing malformed passes, and what passes is what was written.

use proptest::prelude::*;
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
        blocks in prop::collection::btree_map(any::<[u8; 16]>(), prop::collection::btree_set(any::<u16>(), 1..9), 0..40),
    ) {
        let mut list = BlockList::default();
        for (key, holders) in &blocks {
            list.push(IndexKey::from_bytes(*key), holders.iter().map(|number| HolderId::new(u32::from(*number))));
        }
        let item = WatchItem::SnapshotBlocks(list);
        let WatchItem::SnapshotBlocks(read) = WatchItem::decode(&item.encode()).unwrap() else {
            return Err(TestCaseError::fail("another item"));
        };
        let mut pairs = Vec::new();
        read.for_each(|key, holder| pairs.push((*key.as_bytes(), holder.get())));
        let written: Vec<_> =
            blocks.iter().flat_map(|(key, holders)| holders.iter().map(|number| (*key, u32::from(*number)))).collect();
        prop_assert_eq!(pairs, written);
        prop_assert_eq!(read.count() as usize, blocks.len());
    }
}
