//! How long the values of LMCache's keys are, so that a miss can be told to its compiled client.
//!
//! That client reads exactly as many bytes as the header of the value it expects, `$8192\r\n`, and then looks at the first. A null
//! is shorter: it waits for the rest, for ever. Its keys are told by their form, and by a connection that never said `HELLO`; all
//! values of a model at a rank are of one length, which the first one tells that is set or found.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Models, ranks and tenants whose length is remembered: 1,024. Beyond, all are forgotten and learnt anew.
const FAMILIES_MAX: usize = 1024;

/// Hexadecimal digits, at least, of the hash in such a key.
const HASH_DIGITS_MIN: usize = 16;

/// Lengths of values, by what their keys have in common.
#[derive(Debug, Default)]
pub(super) struct Widths(Mutex<HashMap<Vec<u8>, u64>>);

impl Widths {
    /// A tenant's value of this key is so long.
    pub(super) fn learn(&self, tenant: &str, key: &[u8], bytes: u64) {
        let Some(family) = family(tenant, key) else { return };
        let mut known = self.0.lock();
        if known.get(&family) != Some(&bytes) {
            if known.len() >= FAMILIES_MAX {
                known.clear();
            }
            known.insert(family, bytes);
        }
    }

    /// How long a tenant's value of this key would be, if it is LMCache's.
    pub(super) fn of(&self, tenant: &str, key: &[u8]) -> Option<u64> {
        self.0.lock().get(&family(tenant, key)?).copied()
    }
}

/// What keys of one model at one rank have in common: all but the hash, the fourth of the fields between `@`.
///
/// `model@rank@group@hash`, with a salt after it, or `model@world@rank@hash@dtype`, with tags after it.
fn family(tenant: &str, key: &[u8]) -> Option<Vec<u8>> {
    let fields: Vec<_> = key.split(|byte| *byte == b'@').collect();
    let hash = fields.get(3).filter(|hash| hash.len() >= HASH_DIGITS_MIN && hash.iter().all(u8::is_ascii_hexdigit))?;
    let at = fields.iter().take(3).map(|field| field.len() + 1).sum::<usize>();
    Some([tenant.as_bytes(), b"\0", &key[..at], &key[at + hash.len()..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_model_at_one_rank_are_of_one_length() {
        let widths = Widths::default();
        let key = |model: &str, hash: u8, rest: &str| format!("{model}@00010001@0@{}{rest}", hex(hash)).into_bytes();
        widths.learn("", &key("tiny", 1, ""), 8192);
        assert_eq!(widths.of("", &key("tiny", 2, "")), Some(8192));
        for other in
            [key("tiny", 2, "@salt"), key("other", 2, ""), b"tiny@00010001@0@nohash".to_vec(), b"plain".to_vec()]
        {
            assert_eq!(widths.of("", &other), None, "{}", String::from_utf8_lossy(&other));
        }
        assert_eq!(widths.of("acme", &key("tiny", 2, "")), None);
        widths.learn("", b"plain", 3);
        assert_eq!(widths.of("", b"plain"), None);
    }

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }
}
