//! Bytes of the disk tier's pages: hex on the left, meaning on the right. A change here makes every store on disk unreadable.

use proptest::prelude::*;
use weft_store::disk::format::{
    ENTRY_BYTES, FooterEntry, PAGE_BYTES, PARTS_MAX, Page, RecordHeader, SegmentHeader, Space, StoreId, Trailer,
    footer_pages,
};
use weft_types::{BlockHash, Checksum};

const STORE: StoreId = StoreId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// Joins the hex digits in front of each comment, and pads with zeroes up to the checksum at the end of the page.
fn page(golden: &str, checksum: &str) -> String {
    let digits = golden.lines().map(|line| line.split("--").next().unwrap_or_default());
    let digits: String = digits.flat_map(|line| line.chars().filter(char::is_ascii_hexdigit)).collect();
    format!("{digits:0<width$}{checksum}", width = 2 * (PAGE_BYTES - 8))
}

fn record() -> RecordHeader {
    RecordHeader {
        segment: 3,
        generation: 9,
        sequence: 4,
        page: 17,
        block: BlockHash::from_bytes([0xab; 32]),
        checksum: Checksum::from_u64(0x0123_4567_89ab_cdef),
        space: Space { contract: Checksum::from_u64(0x1111_2222_3333_4444), parts: vec![4096, 1000] },
    }
}

#[test]
fn a_segment_header() {
    let header = SegmentHeader {
        store: STORE,
        segment: 3,
        generation: 9,
        segment_bytes: 4 << 20,
        wear_bytes: 0x1_0000_0000,
        owner: "node-1".to_owned(),
    };
    let golden = page(
        "5745465453454731 -- magic, WEFTSEG1
         03000000 -- segment
         06000000 -- bytes of the owner's name
         0900000000000000 -- generation
         0000400000000000 -- bytes of a segment
         0102030405060708090a0b0c0d0e0f10 -- store
         6e6f64652d31 00000000000000000000 00000000000000000000000000000000 -- owner, padded to 64
         00000000000000000000000000000000 00000000000000000000000000000000
         0000000001000000 -- wear in bytes",
        "0000000000000000",
    );
    let encoded = header.encode();
    assert_eq!(hex::encode(&encoded[..PAGE_BYTES - 8]), golden[..2 * (PAGE_BYTES - 8)]);
    assert_eq!(hex::encode(&encoded[PAGE_BYTES - 8..]), "afb2041244ba50cc", "XXH3 of the page, seeded with the store");
    assert_eq!(SegmentHeader::decode(&encoded), Some(header));
}

#[test]
fn a_record_header() {
    let mut encoded = [0xee; PAGE_BYTES];
    record().encode(STORE, &mut encoded);
    let golden = page(
        "5745465452454331 -- magic, WEFTREC1
         0900000000000000 -- generation
         03000000 -- segment
         04000000 -- number in the segment
         11000000 -- page
         02000000 -- parts
         abababababababababababababababababababababababababababababababab -- block hash
         4444333322221111 -- contract
         e813000000000000 -- bytes of the block
         efcdab8967452301 -- checksum of its data
         0010000000000000 e803000000000000 -- bytes of each part",
        "",
    );
    assert_eq!(hex::encode(&encoded[..PAGE_BYTES - 8]), golden);
    assert_eq!(hex::encode(&encoded[PAGE_BYTES - 8..]), "1c4b3b4556dc7665", "XXH3 of the page, seeded with the store");
    assert_eq!(RecordHeader::decode(&encoded, STORE), Some(record()));
}

#[test]
fn a_footer() {
    let entries = [
        FooterEntry { block: BlockHash::from_bytes([0xcd; 32]), page: 1, bytes: 5096, contract: Checksum::from_u64(7) },
        FooterEntry {
            block: BlockHash::from_bytes([0xef; 32]),
            page: 4,
            bytes: 0x20_0000,
            contract: Checksum::from_u64(0x0102_0304_0506_0708),
        },
    ];
    let mut encoded = vec![0; 2 * PAGE_BYTES];
    Trailer::encode(STORE, (3, 9), &entries, &mut encoded);
    let table = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd -- block hash
         01000000 e8130000 0700000000000000 -- page, bytes, contract
         efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef
         04000000 00002000 0807060504030201";
    assert_eq!(hex::encode(&encoded[..PAGE_BYTES]), page(table, "0000000000000000"));
    let trailer = page(
        "5745465449445832 -- magic, WEFTIDX2
         0900000000000000 -- generation
         03000000 -- segment
         02000000 -- entries
         b127b85edbc1a99b -- XXH3 of the table's pages, seeded with the store",
        "",
    );
    assert_eq!(hex::encode(&encoded[PAGE_BYTES..2 * PAGE_BYTES - 8]), trailer);
    assert_eq!(
        hex::encode(&encoded[2 * PAGE_BYTES - 8..]),
        "66656db2459911b8",
        "XXH3 of the page, seeded with the store"
    );
    let last: &Page = encoded.last_chunk().unwrap();
    let trailer = Trailer::decode(last, STORE).unwrap();
    let segment_bytes = 16 * PAGE_BYTES as u64;
    assert_eq!(trailer.table(segment_bytes), Some(14 * 4096..15 * 4096));
    assert_eq!(trailer.entries(&encoded[..PAGE_BYTES], STORE).unwrap(), entries);
    encoded[0] ^= 1;
    assert_eq!(trailer.entries(&encoded[..PAGE_BYTES], STORE), None);
    assert_eq!(footer_pages(85), 2);
    assert_eq!(footer_pages(86), 3, "{ENTRY_BYTES} bytes an entry");
}

#[test]
fn a_page_of_another_store_is_no_page() {
    let mut encoded = [0; PAGE_BYTES];
    record().encode(STORE, &mut encoded);
    assert_eq!(RecordHeader::decode(&encoded, StoreId([2; 16])), None);
}

proptest! {
    #[test]
    fn a_record_reads_as_it_was_written_and_not_with_a_bit_changed(
        generation: u64,
        page: u32,
        block: [u8; 32],
        parts in prop::collection::vec(0..u64::from(u32::MAX), 0..PARTS_MAX),
        bit in 0..8 * PAGE_BYTES,
    ) {
        let space = Space { contract: Checksum::from_u64(5), parts };
        let written = RecordHeader { generation, page, block: BlockHash::from_bytes(block), space, ..record() };
        let mut encoded = [0; PAGE_BYTES];
        written.encode(STORE, &mut encoded);
        prop_assert_eq!(RecordHeader::decode(&encoded, STORE), Some(written));
        encoded[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(RecordHeader::decode(&encoded, STORE), None);
    }

    #[test]
    fn any_page_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 200), kind in 0..3) {
        let mut page = [0; PAGE_BYTES];
        page[..200].copy_from_slice(&bytes);
        page[..8].copy_from_slice([b"WEFTSEG1", b"WEFTREC1", b"WEFTIDX2"][kind as usize]);
        prop_assert_eq!(SegmentHeader::decode(&page), None);
        prop_assert_eq!(RecordHeader::decode(&page, STORE), None);
        prop_assert_eq!(Trailer::decode(&page, STORE), None);
    }
}
