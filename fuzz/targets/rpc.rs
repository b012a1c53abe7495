//! Every message of the metadata service, by the number of its method: refused, or the same again when it is encoded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_metadata_proto::v1::method::*;
use weft_types::rpc::{Message, Method};

fn both<M: Method>(bytes: &[u8]) {
    same::<M::Request>(bytes);
    same::<M::Response>(bytes);
}

fn same<T: Message>(bytes: &[u8]) {
    if let Ok(message) = T::decode(bytes) {
        let encoded = message.encode();
        let again = T::decode(&encoded).expect("what was encoded is decoded");
        assert_eq!(again.encode(), encoded);
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (number, bytes) = input;
    match u16::from(number) {
        Join::ID => both::<Join>(bytes),
        KeepAlive::ID => both::<KeepAlive>(bytes),
        Leave::ID => both::<Leave>(bytes),
        PutEndpoint::ID => both::<PutEndpoint>(bytes),
        RemoveEndpoint::ID => both::<RemoveEndpoint>(bytes),
        Report::ID => both::<Report>(bytes),
        Lookup::ID => both::<Lookup>(bytes),
        Roster::ID => both::<Roster>(bytes),
        Watch::ID => both::<Watch>(bytes),
        Status::ID => both::<Status>(bytes),
        Digests::ID => both::<Digests>(bytes),
        ChangeMembers::ID => both::<ChangeMembers>(bytes),
        TransferLeader::ID => both::<TransferLeader>(bytes),
        Operate::ID => both::<Operate>(bytes),
        Tenants::ID => both::<Tenants>(bytes),
        Leases::ID => both::<Leases>(bytes),
        Audit::ID => both::<Audit>(bytes),
        Revoked::ID => both::<Revoked>(bytes),
        _ => {}
    }
});
