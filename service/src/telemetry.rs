//! Tracing to standard error, and the process's metrics registry. Made once, by `run`, and passed down: nothing global.

use std::fmt;

use prometheus::Registry;
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt as text};

/// The `[log]` section every role's configuration may have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Filter directives of `tracing`, such as `info` or `info,weft_node=debug`. Default `info,openraft=off`: that library
    /// calls an error what is normal while a group forms, elects or stops, and what stops a member weft says itself.
    pub level: String,
    /// How a line looks. Default `text`.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info,openraft=off".to_owned(), format: LogFormat::Text }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "log.level '{level}' is not a filter: expected a level (error, warn, info, debug, trace) or target=level pairs"
    )]
    Level {
        /// As configured.
        level: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is installed.
    #[error("logging is already set up in this process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// What a component needs to be observed.
#[derive(Clone)]
pub struct Telemetry {
    /// Where components register their metrics.
    pub registry: Registry,
    level: String,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("level", &self.level).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Installs the process's subscriber and makes an empty registry.
    ///
    /// # Errors
    /// A filter that does not parse, or a second call.
    pub fn init(log: &LogConfig) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&log.level)
            .map_err(|source| TelemetryError::Level { level: log.level.clone(), source })?;
        let lines = text::layer().with_writer(std::io::stderr);
        let lines = match log.format {
            LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(TelemetryError::Twice)?;
        Ok(Self { registry: Registry::new(), level: log.level.clone() })
    }

    /// A registry of its own and no subscriber, for tests that run many components in one process.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { registry: Registry::new(), level: "off".to_owned() }
    }

    /// The filter in force.
    #[must_use]
    pub fn level(&self) -> &str {
        &self.level
    }
}
