//! A frame of the transport is refused, or is what its bytes say: no two byte strings are one frame, but for the room of a hello.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_transport_proto::Frame;

fuzz_target!(|bytes: [u8; Frame::LEN]| {
    if let Ok(frame) = Frame::decode(&bytes) {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
});
