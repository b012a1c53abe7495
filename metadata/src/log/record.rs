//! One record of the log: what it says and how it lies on disk. Pure: bytes in, bytes out.
//!
//! ```text
//! offset  size
//!      0     4  magic "WFL3"; the digit is the version of the layout
//!      4     1  kind: 1 blank, 2 command, 3 membership, 4 truncate, 5 purge, 6 committed, 7 continued
//!      5     1  flags: bit 0 = last record of its batch
//!      6     2  mask: what payload and padding are XORed with, 16 bits at a time; 0 but for payloads with long runs of zeros
//!      8     8  batch: number of the write that brought it, counted up by one over the life of the log
//!     16     8  index   ┐ of the entry; of the first entry that goes (truncate);
//!     24     8  term    │ of the last entry that goes (purge);
//!     32     8  leader  ┘ of the last entry that is known to be committed (committed);
//!                         number of the next segment, 0, 0 (continued)
//!     40     4  payload length in bytes
//!     44     4  CRC-32C of the 44 bytes before
//!     48     n  payload
//!   48+n     p  zero, 0 to 7 bytes: records begin and end at multiples of 8
//! 48+n+p     4  zero
//!      +4    4  CRC-32C of everything before
//! ```
//! All numbers are little-endian, and a checksum that would be 0 is written as 1. The payload of a purge is the number of the
//! oldest segment that is kept (u64).
//!
//! Every sector that a record touches holds a byte that is not zero: those at either end by the checksums in them, those
//! in the midst of the payload by the mask. That is how a write that the device left half done is told from one that rotted
//! (see [`looks_torn`]).

use std::collections::BTreeSet;

use bytes::Bytes;
use openraft::EntryPayload;
use weft_types::codec;

use crate::raft::mirror::MembershipMirror;
use crate::raft::{CommandBytes, Entry, LogId, log_id};
use crate::volume::SECTOR_BYTES;

const MAGIC: u32 = u32::from_le_bytes(*b"WFL3");
const LAST_OF_BATCH: u8 = 1;
/// Bytes in front of the payload.
pub(crate) const HEADER_BYTES: usize = 48;
/// Bytes behind the payload and its padding.
const TRAILER_BYTES: usize = 8;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Largest payload: a command is a quarter of this at most, and a length beyond it is damage.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Numbers are disk identity: append, never renumber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Blank = 1,
    Command = 2,
    Membership = 3,
    Truncate = 4,
    Purge = 5,
    Committed = 6,
    /// The log goes on in the next segment.
    Continued = 7,
}

/// What a record says about itself, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) last_of_batch: bool,
    pub(crate) batch: u64,
    pub(crate) id: LogId,
    payload_len: usize,
    mask: u16,
}

/// What lies at an offset of a segment.
#[derive(PartialEq, Debug)]
pub(crate) enum Parsed {
    /// Nothing was written here.
    Unwritten,
    /// A whole record of `bytes` bytes.
    Record { header: Header, bytes: usize },
    /// Not a record. `reach` is how many bytes the record would have, as far as that can be told.
    Bad { reason: &'static str, reach: usize },
}

/// Bytes of a record with a payload of that length.
pub(crate) const fn record_bytes(payload_len: usize) -> usize {
    HEADER_BYTES + payload_len.next_multiple_of(ALIGN) + TRAILER_BYTES
}

/// Appends an entry as a record; returns its offset in `out`.
pub(crate) fn put_entry(out: &mut Vec<u8>, batch: u64, entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => put(out, Kind::Blank, batch, entry.log_id, &[]),
        EntryPayload::Normal(command) => put(out, Kind::Command, batch, entry.log_id, &command.0),
        EntryPayload::Membership(membership) => {
            let payload = codec::encode(&MembershipMirror::from(membership));
            put(out, Kind::Membership, batch, entry.log_id, &payload)
        }
    }
}

/// Bytes that an entry takes in the log.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => record_bytes(0),
        EntryPayload::Normal(command) => record_bytes(command.0.len()),
        EntryPayload::Membership(membership) => record_bytes(codec::encode(&MembershipMirror::from(membership)).len()),
    }
}

/// Appends "entries from `since` on are gone".
pub(crate) fn put_truncate(out: &mut Vec<u8>, batch: u64, since: LogId) -> usize {
    put(out, Kind::Truncate, batch, since, &[])
}

/// Bytes of a purge's payload.
pub(crate) const PURGE_BYTES: usize = 8;

/// Appends "entries up to `upto` are gone, and segments before `kept` may be".
pub(crate) fn put_purge(out: &mut Vec<u8>, batch: u64, upto: LogId, kept: u64) -> usize {
    put(out, Kind::Purge, batch, upto, &kept.to_le_bytes())
}

/// Bytes of the record that [`continued`] makes.
pub(crate) const CONTINUED_BYTES: usize = record_bytes(0);

/// The last record of a segment: batch `batch` is in the segment `next`. It is no batch of its own.
pub(crate) fn continued(batch: u64, next: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(CONTINUED_BYTES);
    put(&mut out, Kind::Continued, batch, log_id(0, 0, next), &[]);
    mark_last(&mut out);
    out
}

/// Appends "entries up to `upto` are committed".
pub(crate) fn put_committed(out: &mut Vec<u8>, batch: u64, upto: LogId) -> usize {
    put(out, Kind::Committed, batch, upto, &[])
}

fn put(out: &mut Vec<u8>, kind: Kind, batch: u64, id: LogId, payload: &[u8]) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    for word in [batch, id.index, id.leader_id.term, id.leader_id.node_id] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let len = u32::try_from(payload.len()).expect("a payload is far below 4 GiB: PAYLOAD_BYTES_MAX");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.resize(start + record_bytes(payload.len()), 0);
    let record = &mut out[start..];
    let body = HEADER_BYTES..record.len() - TRAILER_BYTES;
    let mask = mask_of(&record[body.clone()]);
    record[6..8].copy_from_slice(&mask.to_le_bytes());
    apply_mask(&mut record[body], mask);
    seal(record);
    start
}

/// Marks the record as the last of its batch.
pub(crate) fn mark_last(record: &mut [u8]) {
    record[5] |= LAST_OF_BATCH;
    seal(record);
}

/// A mask under which no sector's worth of the payload is zero. Records begin at multiples of [`ALIGN`], so every sector in it
/// begins at one too, and holds the same 16 bits throughout if there is a mask under which it is zero. There are half as many
/// sectors at most as there are masks.
fn mask_of(payload: &[u8]) -> u16 {
    // A sector of zeros covers one of these.
    let mut probes = payload.chunks(SECTOR_BYTES).map(|sector| &sector[..ALIGN.min(sector.len())]);
    if probes.all(|probe| probe.iter().any(|byte| *byte != 0)) {
        return 0;
    }
    let mut excluded = BTreeSet::new();
    let (mut before, mut run) = (0, 0);
    for word in payload.chunks_exact(ALIGN).map(|word| word64(word, 0)) {
        run = if word == before { run + 1 } else { 1 };
        before = word;
        let repeated = word & 0xffff;
        if run * ALIGN >= SECTOR_BYTES && word == repeated * 0x0001_0001_0001_0001 {
            excluded.insert(u16::try_from(repeated).expect("16 bits were kept"));
        }
    }
    (0..=u16::MAX).find(|mask| !excluded.contains(mask)).expect("a payload has fewer sectors than there are masks")
}

fn apply_mask(bytes: &mut [u8], mask: u16) {
    if mask != 0 {
        let mask = mask.to_le_bytes();
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at % 2]);
    }
}

/// CRC-32C, but never 0.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).max(1)
}

fn seal(record: &mut [u8]) {
    let crc = checksum(&record[..HEADER_BYTES - 4]);
    record[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    let body = record.len() - 4;
    let crc = checksum(&record[..body]);
    record[body..].copy_from_slice(&crc.to_le_bytes());
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were sliced"))
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were sliced"))
}

/// The header at the start of `bytes`, if it is one and its checksum agrees.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<Header, &'static str> {
    let Some(bytes) = bytes.get(..HEADER_BYTES) else {
        return Err("the file ends inside a record header");
    };
    if word32(bytes, 0) != MAGIC {
        return Err("no record magic");
    }
    if checksum(&bytes[..HEADER_BYTES - 4]) != word32(bytes, HEADER_BYTES - 4) {
        return Err("record header checksum does not agree");
    }
    let kind = match bytes[4] {
        1 => Kind::Blank,
        2 => Kind::Command,
        3 => Kind::Membership,
        4 => Kind::Truncate,
        5 => Kind::Purge,
        6 => Kind::Committed,
        7 => Kind::Continued,
        _ => return Err("record kind unknown to this version"),
    };
    let payload_len = word32(bytes, 40) as usize;
    if payload_len > PAYLOAD_BYTES_MAX {
        return Err("record longer than any record may be");
    }
    Ok(Header {
        kind,
        last_of_batch: bytes[5] & LAST_OF_BATCH != 0,
        batch: word64(bytes, 8),
        id: log_id(word64(bytes, 24), word64(bytes, 32), word64(bytes, 16)),
        payload_len,
        mask: u16::from_le_bytes([bytes[6], bytes[7]]),
    })
}

/// What lies at the start of `bytes`, which go on to the end of the segment.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let head = &bytes[..bytes.len().min(HEADER_BYTES)];
    if head.iter().all(|byte| *byte == 0) {
        return Parsed::Unwritten;
    }
    let header = match parse_header(bytes) {
        Ok(header) => header,
        Err(reason) => return Parsed::Bad { reason, reach: head.len() },
    };
    let len = record_bytes(header.payload_len);
    let Some(record) = bytes.get(..len) else {
        return Parsed::Bad { reason: "the file ends inside a record", reach: bytes.len() };
    };
    if checksum(&record[..len - 4]) != word32(record, len - 4) {
        return Parsed::Bad { reason: "record checksum does not agree", reach: len };
    }
    Parsed::Record { header, bytes: len }
}

/// Whether the `reach` bytes at `at` of a segment look like a write of which the device did only some sectors: those it
/// left out still read as zero. Damage to a record that was whole never looks so.
pub(crate) fn looks_torn(segment: &[u8], at: usize, reach: usize) -> bool {
    let end = (at + reach).min(segment.len());
    let mut start = at;
    while start < end {
        let next = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if segment[start..next].iter().all(|byte| *byte == 0) {
            return true;
        }
        start = next;
    }
    false
}

/// The entry in a record whose checksum agreed.
pub(crate) fn entry(header: &Header, record: &Bytes) -> Result<Entry, String> {
    let payload = payload(header, record);
    let payload = match header.kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Command => EntryPayload::Normal(CommandBytes(payload)),
        Kind::Membership => {
            let membership: MembershipMirror = codec::decode(&payload).map_err(|error| error.to_string())?;
            EntryPayload::Membership(membership.into())
        }
        Kind::Truncate | Kind::Purge | Kind::Committed | Kind::Continued => {
            return Err(format!("a {:?} record, not an entry", header.kind));
        }
    };
    Ok(Entry { log_id: header.id, payload })
}

/// The oldest segment that a purge keeps.
pub(crate) fn purge_keeps(header: &Header, record: &Bytes) -> Result<u64, String> {
    let payload = payload(header, record);
    let kept: [u8; PURGE_BYTES] = payload[..].try_into().map_err(|_| "a purge without a segment".to_owned())?;
    Ok(u64::from_le_bytes(kept))
}

fn payload(header: &Header, record: &Bytes) -> Bytes {
    let payload = record.slice(HEADER_BYTES..HEADER_BYTES + header.payload_len);
    if header.mask == 0 {
        return payload;
    }
    let mut unmasked = payload.to_vec();
    apply_mask(&mut unmasked, header.mask);
    unmasked.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(index: u64, payload: &'static [u8]) -> Entry {
        let payload = EntryPayload::Normal(CommandBytes(Bytes::from_static(payload)));
        Entry { log_id: log_id(3, 2, index), payload }
    }

    #[test]
    fn golden_bytes() {
        let mut out = Vec::new();
        put_entry(&mut out, 7, &command(9, b"abc"));
        mark_last(&mut out);
        let golden = concat!(
            "57464c33",         // magic
            "02",               // kind: command
            "01",               // flags: last of batch
            "0000",             // no mask
            "0700000000000000", // batch 7
            "0900000000000000", // index 9
            "0300000000000000", // term 3
            "0200000000000000", // leader 2
            "03000000",         // payload length
            "HEADERCRC",        // CRC-32C of the header
            "6162630000000000", // payload, padded
            "00000000",         // zero
        )
        .replace("HEADERCRC", &hex(&checksum(&out[..44]).to_le_bytes()));
        assert_eq!(hex(&out[..60]), golden);
        assert_eq!(out.len(), 64);
    }

    #[test]
    fn golden_bytes_of_what_is_no_entry() {
        let mut purge = Vec::new();
        put_purge(&mut purge, 7, log_id(3, 2, 9), 258);
        let golden = concat!(
            "57464c33",         // magic
            "05",               // kind: purge
            "00",               // flags
            "0000",             // no mask
            "0700000000000000", // batch 7
            "0900000000000000", // up to index 9
            "0300000000000000", // term 3
            "0200000000000000", // leader 2
            "08000000",         // payload length
        );
        assert_eq!(hex(&purge[..44]), golden);
        assert_eq!(hex(&purge[48..60]), "020100000000000000000000", "segment 258 is kept; zero");
        let golden = concat!(
            "57464c33",         // magic
            "07",               // kind: continued
            "01",               // flags: last, as every batch's
            "0000",             // no mask
            "0800000000000000", // batch 8 is there
            "0500000000000000", // in segment 5
            "0000000000000000", // zero
            "0000000000000000", // zero
            "00000000",         // no payload
        );
        assert_eq!(hex(&continued(8, 5)[..44]), golden);
    }

    #[test]
    fn golden_bytes_of_a_mask() {
        let mut out = Vec::new();
        put_entry(&mut out, 7, &command(9, &[0; SECTOR_BYTES + 1]));
        assert_eq!(hex(&out[6..8]), "0100", "the first mask that no sector is equal to");
        assert_eq!(hex(&out[48..52]), "01000100", "zeros");
        assert_eq!(hex(&out[48 + SECTOR_BYTES..56 + SECTOR_BYTES]), "0100010001000100", "padding too");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_none_looks_torn() {
        let mut whole = vec![0; SECTOR_BYTES - 64]; // so that the record straddles a sector
        let start = put_entry(&mut whole, 1, &command(1, b"a payload of some length, to reach the next sector"));
        whole.resize(2 * SECTOR_BYTES, 0);
        let Parsed::Record { bytes, .. } = parse(&whole[start..]) else { panic!("a record was written") };
        for bit in 0..bytes * 8 {
            let mut flipped = whole.clone();
            flipped[start + bit / 8] ^= 1 << (bit % 8);
            let Parsed::Bad { reach, .. } = parse(&flipped[start..]) else { panic!("bit {bit} went unnoticed") };
            assert!(!looks_torn(&flipped, start, reach), "bit {bit} was taken for a torn write");
        }
    }

    #[test]
    fn every_half_done_write_looks_torn_or_unwritten() {
        let mut whole = vec![0; SECTOR_BYTES - 64];
        let start = put_entry(&mut whole, 1, &command(1, &[0x5a; 2000]));
        let end = whole.len();
        whole.resize(end.next_multiple_of(SECTOR_BYTES), 0);
        for lost in 0..whole.len() / SECTOR_BYTES {
            let mut torn = whole.clone();
            let sector = lost * SECTOR_BYTES;
            torn[sector.max(start)..sector + SECTOR_BYTES].fill(0);
            match parse(&torn[start..]) {
                Parsed::Unwritten => assert_eq!(lost, 0),
                Parsed::Bad { reach, .. } => assert!(looks_torn(&torn, start, reach), "sector {lost}"),
                Parsed::Record { .. } => panic!("sector {lost} is missing and went unnoticed"),
            }
        }
    }

    #[test]
    fn no_sector_of_a_record_is_zero_whatever_is_in_it() {
        let constant = |byte| vec![byte; 4 * SECTOR_BYTES];
        let mixed = [constant(0), constant(1), vec![0; 3], constant(0xff), constant(0), vec![0; 509]].concat();
        for payload in [constant(0), vec![0; 3 * SECTOR_BYTES - HEADER_BYTES - 3], constant(7), mixed] {
            for place in (0..SECTOR_BYTES).step_by(ALIGN) {
                let entry = Entry {
                    log_id: log_id(3, 2, 9),
                    payload: EntryPayload::Normal(CommandBytes(payload.clone().into())),
                };
                let mut segment = vec![0; place];
                put_entry(&mut segment, 1, &entry);
                let end = segment.len();
                assert!(!looks_torn(&segment, place, end - place), "at {place}");
                let Parsed::Record { header, .. } = parse(&segment[place..]) else { panic!("a record was written") };
                let read = super::entry(&header, &Bytes::from(segment).slice(place..)).unwrap();
                let EntryPayload::Normal(command) = read.payload else { panic!("a command was written") };
                assert_eq!(command.0, payload);
            }
        }
    }
}
