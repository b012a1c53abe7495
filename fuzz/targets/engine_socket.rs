//! What an engine says to a node through its socket, and a node to an engine: refused, or the same again when it is encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_attach::{ToEngine, ToNode};

fuzz_target!(|input: (u16, &[u8])| {
    let (kind, bytes) = input;
    if let Ok(Some(message)) = ToNode::decode(kind, bytes) {
        let (_, encoded) = message.encode();
        let again = ToNode::decode(kind, &encoded).expect("what was encoded is decoded").expect("of the same kind");
        assert_eq!(again.encode().1, encoded);
    }
    if let Ok(Some(message)) = ToEngine::decode(kind, bytes) {
        let (_, encoded) = message.encode();
        let again = ToEngine::decode(kind, &encoded).expect("what was encoded is decoded").expect("of the same kind");
        assert_eq!(again.encode().1, encoded);
    }
});
