//! Tenants and keys in a file, for a router without metadata.
//!
//! ```toml
//! [tenants.acme]
//! salt = "…64 hexadecimal digits; a secret…"
//! keys.ci = "…64 hexadecimal digits: the hash of a key…"
//! ```

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::warn;
use weft_types::{KeyHash, KeyId, TenantId};

/// A file, as it was read last.
pub(crate) struct KeyFile {
    path: PathBuf,
    text: String,
    tenants: BTreeMap<TenantId, FileTenant>,
    /// Its last change could not be read, and that was said.
    broken: bool,
}

/// A tenant of the file.
pub(crate) struct FileTenant {
    /// Empty for none.
    pub(crate) salt: String,
    pub(crate) keys: BTreeMap<KeyId, KeyHash>,
}

/// Why a file of keys was refused. Says nothing of salts and hashes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Not readable.
    #[error("cannot read the file of API keys {path}: check that it exists and is readable", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not what was expected.
    #[error("the file of API keys {path} is refused: {reason}", path = .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why, and what was expected.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    tenants: BTreeMap<TenantId, TenantText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantText {
    salt: String,
    #[serde(default)]
    keys: BTreeMap<KeyId, String>,
}

impl KeyFile {
    /// Some 5,000 tenants with two keys each.
    const BYTES_MAX: u64 = 1 << 20;

    /// Reads it.
    pub(crate) fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = read(path)?;
        let tenants = parse(&text).map_err(|reason| KeyFileError::Content { path: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), text, tenants, broken: false })
    }

    /// As it is now, and whether that is another; as it was, while it cannot be read.
    pub(crate) async fn reread(self) -> (Self, bool) {
        let path = self.path.clone();
        let next = tokio::task::spawn_blocking(move || Self::load(&path)).await;
        match next {
            Ok(Ok(next)) if next.text == self.text => (Self { broken: false, ..self }, false),
            Ok(Ok(next)) => (next, true),
            Ok(Err(error)) => {
                if !self.broken {
                    warn!("{error}; the keys stay as they were");
                }
                (Self { broken: true, ..self }, false)
            }
            Err(error) => {
                warn!("the file of API keys was not read: {error}");
                (self, false)
            }
        }
    }

    pub(crate) fn tenants(&self) -> &BTreeMap<TenantId, FileTenant> {
        &self.tenants
    }
}

fn read(path: &Path) -> Result<String, KeyFileError> {
    let error = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(error)?;
    let mut text = String::new();
    file.take(KeyFile::BYTES_MAX + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > KeyFile::BYTES_MAX {
        let reason = format!("it is larger than {} bytes", KeyFile::BYTES_MAX);
        return Err(KeyFileError::Content { path: path.to_owned(), reason });
    }
    Ok(text)
}

fn parse(text: &str) -> Result<BTreeMap<TenantId, FileTenant>, String> {
    // The reader's own message shows the line, which may hold a secret.
    let text: Text = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut owners = BTreeMap::<KeyId, TenantId>::new();
    let mut tenants = BTreeMap::new();
    for (tenant, TenantText { salt, keys: texts }) in text.tenants {
        if !(salt.is_empty() || salt.len() == 64 && salt.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            return Err(format!(
                "the salt of tenant {tenant} is neither 64 hexadecimal digits nor empty, which is none"
            ));
        }
        let mut keys = BTreeMap::new();
        for (id, hash) in texts {
            if let Some(owner) = owners.insert(id.clone(), tenant.clone()) {
                return Err(format!("key {id} is tenant {owner}'s and tenant {tenant}'s: one id is one tenant's"));
            }
            let hash = hash.parse::<KeyHash>().map_err(|error| format!("key {id} of tenant {tenant} is {error}"))?;
            keys.insert(id, hash);
        }
        tenants.insert(tenant, FileTenant { salt: salt.to_ascii_lowercase(), keys });
    }
    Ok(tenants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_and_no_secret_with_it() {
        let (salt, hash) = ("ab".repeat(32), "cd".repeat(32));
        let good = format!("[tenants.acme]\nsalt = '{salt}'\nkeys.ci = '{hash}'\n[tenants.open]\nsalt = ''\n");
        let tenants = parse(&good).unwrap();
        assert_eq!((tenants.len(), tenants[&"acme".parse().unwrap()].keys.len()), (2, 1));
        for (text, expected) in [
            (format!("[tenants.acme]\nkeys.ci = '{hash}'"), "missing field `salt`"),
            (format!("[tenants.acme]\nsalt = '{salt}0'"), "neither 64 hexadecimal digits nor empty"),
            (format!("[tenants.acme]\nsalt = '{salt}'\nkeys.ci = 'weft_ci_{hash}'"), "not the hash of an API key"),
            (format!("{good}keys.ci = '{hash}'"), "key ci is tenant acme's and tenant open's"),
            (format!("[tenants.acme]\nslat = '{salt}'"), "unknown field `slat`"),
        ] {
            let error = parse(&text).err().unwrap();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(&salt) && !error.contains(&hash), "{error}");
        }
    }
}
