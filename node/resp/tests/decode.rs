//! Bytes of clients, however they are cut, are the same commands; what is not the protocol is refused.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use weft_resp::{ARGUMENTS_BYTES_MAX, Decoder, Item, Protocol, ProtocolError, VALUE_BYTES_MAX, reply};

fn command(words: &[&str]) -> Item {
    Item::Command(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
}

/// Decodes pieces one after the other. Chunks of one value are joined.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Item>, ProtocolError> {
    let (mut decoder, mut input, mut items) = (Decoder::new(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(item) = decoder.next(&mut input)? {
            match (items.last_mut(), item) {
                (Some(Item::Chunk(before)), Item::Chunk(more)) => *before = [&before[..], &more[..]].concat().into(),
                (_, item) => items.push(item),
            }
        }
    }
    Ok(items)
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    reply::array(&mut out, words.len());
    words.iter().for_each(|word| reply::bulk(&mut out, word));
    out.to_vec()
}

#[test]
fn commands_come_out_as_they_were_sent() {
    let set = |key, bytes| Item::Set { key: Bytes::from_static(key), bytes };
    let end =
        |options: &[&'static str]| Item::SetEnd { options: options.iter().map(|word| Bytes::from(*word)).collect() };
    let sent = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nsEt\r\n$1\r\nk\r\n$4\r\n\r\n\x00\xff\r\n PING  x\r\n\r\n*0\r\n*-1\r\n\
        *5\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$2\r\nEX\r\n$2\r\n10\r\n*2\r\n$3\r\nSET\r\n$1\r\nk\r\n";
    let expected = vec![
        command(&["GET", "k"]),
        set(b"k", 4),
        Item::Chunk(Bytes::from_static(b"\r\n\x00\xff")),
        end(&[]),
        command(&["PING", "x"]),
        set(b"k", 0),
        end(&["EX", "10"]),
        command(&["SET", "k"]),
    ];
    assert_eq!(decode([&sent[..]]), Ok(expected.clone()));
    assert_eq!(decode(sent.chunks(1)), Ok(expected));
}

#[test]
fn what_is_beyond_its_bound_is_refused_before_it_is_read() {
    let big = |what, got, max| Err(ProtocolError::TooBig { what, got, max });
    assert_eq!(decode([&b"*1025\r\n"[..]]), big("number of arguments", 1025, 1024));
    assert_eq!(decode([&b"*2\r\n$3\r\nGET\r\n$65537\r\n"[..]]), big("argument", 65_537, 65_536));
    let value = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", VALUE_BYTES_MAX + 1);
    assert_eq!(decode([value.as_bytes()]), big("value", VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX));
    let keys = vec![&[b'k'; 60_000][..]; 18];
    assert_eq!(decode([&request(&keys)[..]]), big("command", 18 * 60_000, ARGUMENTS_BYTES_MAX as u64));
    assert_eq!(decode([&[b'x'; 4096][..]]), big("line", 4096, 4095));
    assert_eq!(decode([&b"*9223372036854775808\r\n"[..]]), Err(ProtocolError::Count("multibulk")));
    assert_eq!(decode([&b"*00000000000000000000001\r\n"[..]]), Err(ProtocolError::Count("multibulk")));
    assert_eq!(decode([&b"*1\r\n$-1\r\n"[..]]), Err(ProtocolError::Count("bulk")));
    assert_eq!(decode([&b"*1\r\n+OK\r\n"[..]]), Err(ProtocolError::Expected { expected: '$', got: b'+' }));
    assert_eq!(decode([&b"*1\r\n$1\r\nab\r\n"[..]]), Err(ProtocolError::Expected { expected: '\r', got: b'b' }));
    assert_eq!(decode([&b"*1\n"[..]]), Err(ProtocolError::Count("multibulk")));
}

#[test]
fn replies_have_the_forms_of_both_versions() {
    let written = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(written(&|out| Protocol::V2.null(out)), "$-1\r\n");
    assert_eq!(written(&|out| Protocol::V3.null(out)), "_\r\n");
    assert_eq!(written(&|out| Protocol::V2.map(out, 7)), "*14\r\n");
    assert_eq!(written(&|out| Protocol::V3.map(out, 7)), "%7\r\n");
    assert_eq!(written(&|out| reply::error(out, "ERR a\r\nb")), "-ERR a  b\r\n");
    assert_eq!(written(&|out| reply::bulk(out, b"ab")), "$2\r\nab\r\n");
    for bytes in [7, 42, 8192, 33_554_432] {
        let (miss, header) =
            (written(&|out| reply::miss_as_wide_as(out, bytes)), written(&|out| reply::bulk_header(out, bytes)));
        assert_eq!((miss.len(), &miss[..2]), (header.len(), "-M"), "{miss:?}");
    }
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5), 1..6),
        sets in prop::collection::vec(any::<bool>(), 6),
        cuts in prop::collection::vec(1_usize..50, 1..200),
    ) {
        let mut sent = Vec::new();
        for (words, set) in commands.iter().zip(sets) {
            let name: &[u8] = if set { b"set" } else { &words[0] };
            let words: Vec<_> = [name].into_iter().chain(words[1..].iter().map(Vec::as_slice)).collect();
            sent.extend(request(&words));
        }
        let (mut pieces, mut rest) = (Vec::new(), &sent[..]);
        for cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
        prop_assert_eq!(decode(pieces), decode([&sent[..]]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_its_bounds(noise in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4) {
        let start: &[u8] = [&b""[..], b"*3\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", b"*2\r\n$"][kind as usize];
        let _ = decode([start, &noise[..]]);
    }
}
