//! The body of a request: refused, or passed on with the caller's salt in place of any other, and else as it was, whoever reads it as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|body: &[u8]| {
    let Some(salted) = weft_router::testing::salted(body, "the caller's") else { return };
    let Ok(mut before) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    let mut after: Map<String, Value> = serde_json::from_slice(&salted).expect("JSON stays JSON");
    assert_eq!(after.remove("cache_salt"), Some("the caller's".into()));
    before.remove("cache_salt");
    assert_eq!(before, after);
});
