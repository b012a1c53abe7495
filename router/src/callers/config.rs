//! How callers are told apart, as an operator sets it.

use std::path::PathBuf;

use serde::Deserialize;

/// API keys. Metadata's tenants bring theirs by themselves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysConfig {
    /// TOML file of tenants, with their salts and the hashes of their keys, beside those of metadata; read again within a second
    /// of a change, and kept as it was while it is broken. At most 1 MiB. Default none. `weft tenant key make` shows its form.
    pub file: Option<PathBuf>,
    /// Whether callers without a key are served, as the one default tenant: `loopback` if `http` is on loopback, there is no
    /// file, and metadata knows no tenant; `always`; `never`. Default `loopback`. A router that is reached from elsewhere and could know no key
    /// refuses to start, unless this is `always`.
    pub keyless: Keyless,
    /// Tenants with a label of their own in `weft_router_tenant_*`, first come, first counted; all others share one.
    /// Default 0: nobody is counted by name. At most 1,000.
    pub counted_tenants: usize,
}

impl KeysConfig {
    /// Prometheus keeps every label it ever saw.
    pub(crate) const COUNTED_TENANTS_MAX: usize = 1000;
}

/// What becomes of callers without a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keyless {
    /// Served on loopback, while there are no tenants.
    #[default]
    Loopback,
    /// Served.
    Always,
    /// Refused.
    Never,
}
