//! Configuration files of every role: refused with a reason, or read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let reasons = [
        toml::from_str::<weft_router::Config>(text).err(),
        toml::from_str::<weft_node::Config>(text).err(),
        toml::from_str::<weft_metadata::Config>(text).err(),
    ];
    for reason in reasons.into_iter().flatten() {
        assert!(!reason.to_string().is_empty());
    }
});
