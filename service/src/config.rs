//! Layered configuration, read once at the edge: TOML file, then `WEFT_*` environment, then `--set`.
//!
//! The same names everywhere: `identity.cert` in the file is `WEFT_IDENTITY__CERT` in the environment (two underscores
//! between levels) and `--set identity.cert=…`. A value that is not TOML by itself (`64GiB`, `a.pem`) is taken as text.
//! Unknown keys are refused, whichever layer they come from.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::telemetry::LogConfig;

/// Prefix of environment variables that are settings.
const ENV_PREFIX: &str = "WEFT_";

/// A role's configuration, and the `[log]` section that every role has.
#[derive(Debug)]
pub struct Loaded<C> {
    /// The role's own.
    pub config: C,
    /// `[log]`.
    pub log: LogConfig,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that is named could not be read.
    #[error("cannot read {path}: check that it exists and is readable", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{path} is not valid TOML", path = .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// `--set` without `=`, or through a value that is no table.
    #[error("{layer}: '{setting}' is not a setting: expected key=value, with dots between levels of the key")]
    Setting {
        /// Which layer.
        layer: &'static str,
        /// As given.
        setting: String,
    },
    /// A key nobody knows, a missing one, or a value of the wrong kind.
    #[error("configuration ({layers}) refused")]
    Value {
        /// The layers that had a say.
        layers: String,
        /// Which key and why.
        #[source]
        source: toml::de::Error,
    },
}

/// Files of a process's identity, as `weft certs issue` writes them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificates of the cluster's CA, PEM.
    pub ca: PathBuf,
}

/// Texts of those files.
#[derive(Clone)]
pub struct IdentityPem {
    /// Certificate chain.
    pub cert: String,
    /// Private key.
    pub key: String,
    /// Certificates of the cluster's CA.
    pub ca: String,
}

impl IdentityFiles {
    /// Reads all three.
    ///
    /// # Errors
    /// The first that can't be read, by name.
    pub fn read(&self) -> Result<IdentityPem, ConfigError> {
        Ok(IdentityPem { cert: read(&self.cert)?, key: read(&self.key)?, ca: read(&self.ca)? })
    }
}

impl std::fmt::Debug for IdentityPem {
    /// Says nothing: one of the texts is a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityPem").finish_non_exhaustive()
    }
}

/// Folds the layers and types the result once.
///
/// # Errors
/// Which layer, which key, and what was expected.
pub fn load<C: DeserializeOwned>(file: Option<&Path>, sets: &[String]) -> Result<Loaded<C>, ConfigError> {
    fold(file, environment(), sets)
}

fn fold<C: DeserializeOwned>(
    file: Option<&Path>,
    environment: Vec<(String, String)>,
    sets: &[String],
) -> Result<Loaded<C>, ConfigError> {
    let mut layers = Vec::new();
    let mut table = Table::new();
    if let Some(path) = file {
        layers.push(path.display().to_string());
        table = read(path)?.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })?;
    }
    for (name, value) in environment {
        let key = name[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
        put(&mut table, &key, &value).ok_or(ConfigError::Setting { layer: "environment", setting: name.clone() })?;
        layers.push(name);
    }
    for set in sets {
        let error = || ConfigError::Setting { layer: "--set", setting: set.clone() };
        let (key, value) = set.split_once('=').ok_or_else(error)?;
        put(&mut table, key.trim(), value.trim()).ok_or_else(error)?;
        layers.push(format!("--set {key}"));
    }
    let refused = |source| ConfigError::Value {
        layers: if layers.is_empty() { "nothing given".to_owned() } else { layers.join(", ") },
        source,
    };
    let log = match table.remove("log") {
        Some(section) => section.try_into().map_err(refused)?,
        None => LogConfig::default(),
    };
    Ok(Loaded { config: Value::Table(table).try_into().map_err(refused)?, log })
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is configuration")]
fn environment() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect()
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Puts `value` at a dotted key; `None` where the key is empty or leads through a value that is no table.
fn put(table: &mut Table, key: &str, value: &str) -> Option<()> {
    let (path, leaf) = match key.rsplit_once('.') {
        Some((path, leaf)) => (Some(path), leaf),
        None => (None, key),
    };
    let mut table = table;
    for level in path.into_iter().flat_map(|path| path.split('.')) {
        let entry = table.entry(level.to_owned()).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut()?;
    }
    if leaf.is_empty() {
        return None;
    }
    table.insert(leaf.to_owned(), parse(value));
    Some(())
}

/// A TOML value where it is one (`3`, `true`, `["a"]`), else the text itself.
fn parse(text: &str) -> Value {
    let document: Result<Table, _> = format!("value = {text}").parse();
    document.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Durations with units, `250ms` or `1h 30m`: `#[serde(with = "weft_service::config::duration")]`.
pub mod duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{self, Visitor};
    use serde::{Deserializer, Serializer};

    /// Reads one.
    ///
    /// # Errors
    /// Not a number with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text)
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as \"250ms\" or \"20s\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|error| E::custom(format!("'{text}' is not a duration, such as 250ms or 20s: {error}")))
        }
    }

    /// Writes one.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(with = "duration")]
        deadline: Duration,
        identity: Option<IdentityFiles>,
    }

    fn fold_texts(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded<Sample>, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weft.toml");
        std::fs::write(&path, file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let sets: Vec<_> = sets.iter().map(|set| (*set).to_owned()).collect();
        fold(Some(&path), env, &sets)
    }

    #[test]
    fn the_later_layer_wins() {
        let file = "name = 'a'\ndeadline = '1s'\n[identity]\ncert = 'c'\nkey = 'k'\nca = 'a'\n[log]\nlevel = 'debug'";
        let loaded = fold_texts(
            file,
            &[("WEFT_DEADLINE", "2s"), ("WEFT_IDENTITY__CERT", "d.pem")],
            &["deadline=3s", "identity.key = e.pem"],
        )
        .unwrap();
        let identity = loaded.config.identity.unwrap();
        assert_eq!((loaded.config.name.as_str(), loaded.config.deadline), ("a", Duration::from_secs(3)));
        assert_eq!((identity.cert, identity.key), (PathBuf::from("d.pem"), PathBuf::from("e.pem")));
        assert_eq!(loaded.log.level, "debug");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let file = "name = 'a'\ndeadline = '1s'";
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);
        let cases: [Case<'_>; 6] = [
            ("name = ", &[], &[], "not valid TOML"),
            (file, &[("WEFT_NODE", "1")], &[], "unknown field `node`"),
            (file, &[], &["dedline=3s"], "unknown field `dedline`"),
            (file, &[], &["deadline=3"], "integer `3`, expected a duration with its unit, such as \"250ms\""),
            (file, &[], &["deadline=soon"], "such as 250ms"),
            (file, &[], &["deadline"], "expected key=value"),
        ];
        for (file, env, sets, expected) in cases {
            let error = crate::run::chain(&fold_texts(file, env, sets).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
