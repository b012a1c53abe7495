//! Golden bytes of every frame: hex on the left, meaning on the right. Changing this file is a release note.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail their test")]

use weft_transport_proto::{ALPN, BlockRefusal, Frame, FrameType, ProtocolError, RefusalCode, VersionRange, codes};
use weft_types::Checksum;

/// Spaces are for the reader: type, code, number, len, value, zero.
fn bytes(hex_text: &str) -> [u8; Frame::LEN] {
    hex::decode(hex_text.replace(' ', "")).unwrap().try_into().unwrap()
}

#[test]
fn frames_have_these_bytes() {
    let golden = [
        // type  code  number    len               value             zero
        (
            "0000 0000 00000000 0000000000000000 0100020000000000 0000000000000000",
            Frame::Hello(VersionRange::new(1, 2).unwrap()),
        ),
        (
            "0100 0000 03000000 6000000000000000 0000200000000000 0000000000000000",
            Frame::Fetch { blocks: 3, block_bytes: 2 << 20 },
        ),
        ("0200 0000 00000000 0000000000000000 0000000000000000 0000000000000000", Frame::Accept),
        (
            "0300 0000 02000000 0000200000000000 efcdab8967452301 0000000000000000",
            Frame::Data { index: 2, len: 2 << 20, checksum: Checksum::from_u64(0x0123_4567_89ab_cdef) },
        ),
        ("0400 0000 00000000 0000000000000000 0000000000000000 0000000000000000", Frame::Done),
        (
            "0500 0100 00000000 1200000000000000 0000000000000000 0000000000000000",
            Frame::Refuse { code: RefusalCode::Forbidden, len: 18 },
        ),
        (
            "0500 0200 00000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Refuse { code: RefusalCode::UnknownMethod, len: 0 },
        ),
        (
            "0500 0300 00000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Refuse { code: RefusalCode::BadRequest, len: 0 },
        ),
        (
            "0500 0400 00000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Refuse { code: RefusalCode::Overloaded, len: 0 },
        ),
        (
            "0500 0500 00000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Refuse { code: RefusalCode::Failed, len: 0 },
        ),
        ("0600 1400 00000000 0102000000000000 0000000000000000 0000000000000000", Frame::Call { method: 20, len: 513 }),
        (
            "0700 1500 00000000 0102000000000000 0000000000000000 0000000000000000",
            Frame::Subscribe { method: 21, len: 513 },
        ),
        ("0800 0000 00000000 ffff000000000000 0000000000000000 0000000000000000", Frame::Reply { len: 65_535 }),
        (
            "0900 0100 07000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Decline { index: 7, refusal: BlockRefusal::Gone },
        ),
        (
            "0900 0200 07000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Decline { index: 7, refusal: BlockRefusal::WrongLayout },
        ),
        (
            "0900 0300 07000000 0000000000000000 0000000000000000 0000000000000000",
            Frame::Decline { index: 7, refusal: BlockRefusal::Corrupt },
        ),
    ];
    for (hex_text, frame) in golden {
        assert_eq!(hex::encode(frame.encode()), hex_text.replace(' ', ""), "{frame:?}");
        assert_eq!(Frame::decode(&bytes(hex_text)), Ok(frame));
    }
}

#[test]
fn a_later_hello_may_say_more() {
    let hello = "0000 ffff ffffffff 0000000000000000 01000200ffffffff ffffffffffffffff";
    assert_eq!(Frame::decode(&bytes(hello)), Ok(Frame::Hello(VersionRange::new(1, 2).unwrap())));
}

#[test]
fn what_is_not_a_frame_is_refused_by_name() {
    let bad = [
        // A type of a later version.
        (
            "0a00 0000 00000000 0000000000000000 0000000000000000 0000000000000000",
            ProtocolError::UnknownNumber { what: "frame type", number: 10 },
        ),
        (
            "0500 0600 00000000 0000000000000000 0000000000000000 0000000000000000",
            ProtocolError::UnknownNumber { what: "refusal code", number: 6 },
        ),
        (
            "0900 0000 00000000 0000000000000000 0000000000000000 0000000000000000",
            ProtocolError::UnknownNumber { what: "block refusal", number: 0 },
        ),
        // Accept with a body, Reply with bytes in the zero field.
        (
            "0200 0000 00000000 0100000000000000 0000000000000000 0000000000000000",
            ProtocolError::StrayField { kind: FrameType::Accept },
        ),
        (
            "0800 0000 00000000 0100000000000000 0000000000000000 0000000000000001",
            ProtocolError::StrayField { kind: FrameType::Reply },
        ),
        // Three hashes announced, 95 bytes of them.
        (
            "0100 0000 03000000 5f00000000000000 0000200000000000 0000000000000000",
            ProtocolError::StrayField { kind: FrameType::Fetch },
        ),
        (
            "0000 0000 00000000 0000000000000000 0200010000000000 0000000000000000",
            ProtocolError::EmptyVersionRange { min: 2, max: 1 },
        ),
    ];
    for (hex_text, error) in bad {
        assert_eq!(Frame::decode(&bytes(hex_text)), Err(error));
    }
}

#[test]
fn other_numbers_of_the_wire() {
    assert_eq!(ALPN, b"weft/1");
    assert_eq!([codes::CLOSED, codes::VERSION, codes::NO_HELLO], [0, 1, 2]);
    assert_eq!([codes::CANCELLED, codes::PROTOCOL, codes::TORN], [16, 17, 18]);
}
