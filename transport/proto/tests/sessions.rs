//! Both sides of a fetch, joined byte by byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use bytes::Bytes;
use proptest::prelude::*;
use weft_transport_proto::{
    BLOCK_BYTES_MAX, BlockRefusal, FETCH_BLOCKS_MAX, Fetch, FetchEvent, Frame, FrameType, ProtocolError, Refusal,
    RefusalCode, Serve, SourceError,
};
use weft_types::{BlockHash, Checksum};

const BLOCK_BYTES: u64 = 1000;

fn hash(number: u8) -> BlockHash {
    BlockHash::from_bytes([number; 32])
}

fn body(number: u8) -> Bytes {
    (0..BLOCK_BYTES).map(|i| (i as u8).wrapping_mul(number)).collect::<Vec<_>>().into()
}

fn data(index: u32, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Frame::Data { index, len: bytes.len() as u64, checksum: Checksum::of(bytes) }.encode().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

fn fetch(blocks: u8) -> Fetch {
    Fetch::new(&(0..blocks).map(hash).collect::<Vec<_>>(), BLOCK_BYTES).unwrap()
}

/// What the server sends for a request, given what its source has.
fn served(fetch: &mut Fetch, source: impl Fn(BlockHash) -> Result<(Bytes, Checksum), BlockRefusal>) -> Vec<u8> {
    let request = fetch.poll_transmit().unwrap();
    let Ok(Frame::Fetch { blocks, block_bytes }) = Frame::decode(request[..Frame::LEN].try_into().unwrap()) else {
        panic!("a fetch begins with its frame");
    };
    let mut serve = Serve::new(blocks, block_bytes, request.slice(Frame::LEN..)).unwrap();
    let mut sent = Vec::new();
    while let Some(block) = serve.poll_wanted() {
        let _ = serve.handle_block(source(block));
        while let Some(bytes) = serve.poll_transmit() {
            sent.extend_from_slice(&bytes);
        }
    }
    sent
}

/// Events with the chunks of a block joined.
fn events(fetch: &mut Fetch) -> Vec<FetchEvent> {
    let mut all: Vec<FetchEvent> = Vec::new();
    while let Some(event) = fetch.poll_event() {
        match (all.last_mut(), event) {
            (
                Some(FetchEvent::Chunk { index, offset, bytes }),
                FetchEvent::Chunk { index: next, offset: at, bytes: more },
            ) => {
                assert_eq!((next, at), (*index, *offset + bytes.len() as u64), "chunks follow each other");
                *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
            }
            (_, event) => all.push(event),
        }
    }
    all
}

fn held(block: BlockHash) -> Result<(Bytes, Checksum), BlockRefusal> {
    let bytes = body(block.as_bytes()[0]);
    let checksum = Checksum::of(&bytes);
    Ok((bytes, checksum))
}

fn complete(index: u32) -> [FetchEvent; 2] {
    let bytes = body(index as u8);
    let checksum = Checksum::of(&bytes);
    [FetchEvent::Chunk { index, offset: 0, bytes }, FetchEvent::Complete { index, checksum }]
}

proptest! {
    #[test]
    fn blocks_arrive_whole_however_the_wire_cuts_them(cuts in proptest::collection::vec(1usize..700, 1..50)) {
        let mut fetch = fetch(4);
        let mut wire = Bytes::from(served(&mut fetch, |block| if block == hash(2) { Err(BlockRefusal::Gone) } else { held(block) }));
        for cut in cuts.into_iter().cycle() {
            if wire.is_empty() {
                break;
            }
            fetch.handle_bytes(wire.split_to(cut.min(wire.len()))).unwrap();
        }
        fetch.handle_end().unwrap();
        let declined = [FetchEvent::Declined { index: 2, refusal: BlockRefusal::Gone }];
        let expected = [&complete(0)[..], &complete(1), &declined, &complete(3), &[FetchEvent::Done]].concat();
        prop_assert_eq!(events(&mut fetch), expected);
    }

    #[test]
    fn rubbish_never_panics(pieces: Vec<Vec<u8>>) {
        let mut fetch = fetch(2);
        for piece in pieces {
            if fetch.handle_bytes(piece.into()).is_err() {
                break;
            }
        }
        let _ = fetch.handle_end();
    }

    #[test]
    fn rubbish_behind_a_real_header_never_panics(kind in 0u16..12, rest: [u8; 30], tail: Vec<u8>) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&rest);
        bytes.extend_from_slice(&tail);
        let _ = fetch(2).handle_bytes(bytes.into());
    }

    #[test]
    fn a_frame_that_decodes_encodes_to_the_same_bytes(kind in 1u16..12, code in 0u16..8, number: u32, len: u64, value: u64) {
        let mut bytes = [0; Frame::LEN];
        bytes[0..2].copy_from_slice(&kind.to_le_bytes());
        bytes[2..4].copy_from_slice(&code.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&len.to_le_bytes());
        bytes[16..24].copy_from_slice(&value.to_le_bytes());
        if let Ok(frame) = Frame::decode(&bytes) {
            prop_assert_eq!(frame.encode(), bytes);
        }
    }
}

#[test]
fn a_checksum_that_does_not_agree_is_corrupt_and_the_next_block_still_comes() {
    let mut fetch = fetch(2);
    let wire = served(&mut fetch, |block| {
        let (bytes, checksum) = held(block)?;
        Ok((bytes, if block == hash(0) { Checksum::from_u64(checksum.get() ^ 1) } else { checksum }))
    });
    fetch.handle_bytes(wire.into()).unwrap();
    let [chunk, _] = complete(0);
    let corrupt = FetchEvent::Declined { index: 0, refusal: BlockRefusal::Corrupt };
    assert_eq!(events(&mut fetch), [&[chunk, corrupt][..], &complete(1), &[FetchEvent::Done]].concat());
}

#[test]
fn what_a_lying_peer_may_not_do() {
    let lies: [(Vec<u8>, ProtocolError); 6] = [
        (data(1, &body(1)), ProtocolError::OutOfOrder { expected: 0, got: 1 }),
        (data(0, b"short"), ProtocolError::WrongLength { index: 0, expected: BLOCK_BYTES, got: 5 }),
        (Frame::Done.encode().into(), ProtocolError::EndedEarly { answered: 0, asked: 2 }),
        (
            Frame::Refuse { code: RefusalCode::Failed, len: 1 << 40 }.encode().into(),
            ProtocolError::TooLong { what: "refusal", len: 1 << 40, max: 1024 },
        ),
        (
            Frame::Accept.encode().into(),
            ProtocolError::UnexpectedFrame { expected: "Data, Decline, Done or Refuse", got: FrameType::Accept },
        ),
        (
            [data(0, &body(0)), data(1, &body(1)), data(2, &body(2))].concat(),
            ProtocolError::OutOfOrder { expected: 2, got: 2 },
        ),
    ];
    for (wire, error) in lies {
        assert_eq!(fetch(2).handle_bytes(wire.into()), Err(error));
    }
}

#[test]
fn a_stream_that_ends_early_says_where() {
    let mut session = fetch(2);
    session.handle_bytes(data(0, &body(0)).into()).unwrap();
    assert_eq!(session.handle_end(), Err(ProtocolError::EndedEarly { answered: 1, asked: 2 }));
    session.handle_bytes(data(1, &body(1))[..500].to_vec().into()).unwrap();
    assert_eq!(session.handle_end(), Err(ProtocolError::Truncated));
    let kept = events(&mut session);
    assert_eq!(kept[..2], complete(0), "what was complete stays complete");
}

#[test]
fn bytes_behind_the_end_are_refused() {
    let mut session = fetch(1);
    let mut wire = served(&mut session, held);
    wire.push(0);
    assert_eq!(session.handle_bytes(wire.into()), Err(ProtocolError::Trailing(1)));
}

#[test]
fn a_refusal_ends_the_fetch() {
    let mut session = fetch(2);
    let mut wire = Frame::Refuse { code: RefusalCode::Overloaded, len: 9 }.encode().to_vec();
    wire.extend_from_slice(b"try later");
    session.handle_bytes(wire.into()).unwrap();
    session.handle_end().unwrap();
    assert_eq!(events(&mut session), [FetchEvent::Refused(Refusal::new(RefusalCode::Overloaded, "try later"))]);
}

#[test]
fn a_source_with_other_sizes_is_named_and_declined() {
    let mut session = fetch(1);
    let request = session.poll_transmit().unwrap();
    let mut serve = Serve::new(1, BLOCK_BYTES, request.slice(Frame::LEN..)).unwrap();
    let short = Bytes::from_static(b"short");
    let error = serve.handle_block(Ok((short.clone(), Checksum::of(&short))));
    assert_eq!(error, Err(SourceError { block: hash(0), expected: BLOCK_BYTES, got: 5 }));
    while let Some(bytes) = serve.poll_transmit() {
        session.handle_bytes(bytes).unwrap();
    }
    let declined = FetchEvent::Declined { index: 0, refusal: BlockRefusal::WrongLayout };
    assert_eq!(events(&mut session), [declined, FetchEvent::Done]);
}

#[test]
fn requests_have_bounds_on_both_sides() {
    let error = |result: Result<Fetch, ProtocolError>| matches!(result, Err(ProtocolError::BadFetch { .. }));
    assert!(error(Fetch::new(&[], BLOCK_BYTES)));
    assert!(error(Fetch::new(&[hash(0)], 0)));
    assert!(error(Fetch::new(&[hash(0)], BLOCK_BYTES_MAX + 1)));
    assert!(error(Fetch::new(&vec![hash(0); FETCH_BLOCKS_MAX + 1], BLOCK_BYTES)));
    assert!(Fetch::new(&vec![hash(0); FETCH_BLOCKS_MAX], BLOCK_BYTES_MAX).is_ok());
    assert!(Serve::new(2, BLOCK_BYTES, Bytes::from(vec![0; 32])).is_err());
    assert!(Serve::new(1, 0, Bytes::from(vec![0; 32])).is_err());
}

#[test]
fn the_next_block_is_wanted_only_once_the_last_was_taken() {
    let mut serve = Serve::new(2, BLOCK_BYTES, Bytes::from([[0; 32], [1; 32]].concat())).unwrap();
    serve.handle_block(held(hash(0))).unwrap();
    assert_eq!(serve.poll_wanted(), None);
    let (header, bytes) = (serve.poll_transmit().unwrap(), serve.poll_transmit().unwrap());
    assert_eq!((header.len(), bytes), (Frame::LEN, body(0)));
    assert_eq!(serve.poll_wanted(), Some(hash(1)));
}
