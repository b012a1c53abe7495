//! A snapshot is refused, or is a directory whose own snapshot says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_metadata_state::Directory;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(directory) = Directory::restore(bytes) {
        let again = Directory::restore(&directory.snapshot()[..]).expect("a member reads its own snapshot");
        assert_eq!(again.fingerprint(), directory.fingerprint());
    }
});
