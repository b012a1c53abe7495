//! Configuration of a simulated engine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_service::config::duration;
use weft_types::{BlockSize, Contract, EndpointId, ModelKey, Part};

use crate::pace::Pace;

/// One simulated engine replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this endpoint, unique in the cluster.
    pub endpoint: EndpointId,
    /// Where the OpenAI API listens. Default 127.0.0.1:8000; port 0 takes a free one.
    #[serde(default = "default_addr")]
    pub addr: SocketAddr,
    /// Base URL as routers reach it. Default: `http://` and the bound address.
    #[serde(default)]
    pub url: Option<String>,
    /// Unix socket of the node daemon. Without one it is a plain engine, and every block is computed or on the device.
    #[serde(default)]
    pub node_socket: Option<PathBuf>,
    /// Boot counter, larger after each start. Default: milliseconds since 1970 at start, which fences correctly unless
    /// the clock was set back between two starts; then the node refuses the engine and says so.
    #[serde(default)]
    pub incarnation: Option<u64>,
    /// Folder with `tokenizer.json` and the chat template.
    pub model_folder: PathBuf,
    /// Model names that requests may use; the first is what `/v1/models` lists. Default `sim-8b`.
    #[serde(default = "default_served_models")]
    pub served_models: Vec<String>,
    /// What makes this engine's KV comparable with others'; its salt is the one of requests that bring none.
    #[serde(default = "default_model_key")]
    pub model_key: ModelKey,
    /// KV bytes of a token. Default 256, so that a laptop holds a cluster; an 8B model with grouped attention has 131072.
    #[serde(default = "default_kv_bytes_per_token")]
    pub kv_bytes_per_token: u32,
    /// Size of the device tier in tokens, rounded down to blocks. Default 400000. A request whose prompt and output do
    /// not fit into it is refused.
    #[serde(default = "default_device_tokens")]
    pub device_tokens: u64,
    /// Speed of the simulated accelerator.
    #[serde(default)]
    pub pace: Pace,
    /// Longest wait for blocks of the node; never more than computing them would take. Default 2s.
    #[serde(default = "default_load_deadline", with = "duration")]
    pub load_deadline: Duration,
    /// Longest wait for any other answer of the node. Default 1s.
    #[serde(default = "default_node_deadline", with = "duration")]
    pub node_deadline: Duration,
    /// Tokens in one server-sent event. Default 1, as engines do; more where thousands of tokens a second would measure
    /// JSON instead of caching.
    #[serde(default = "default_event_tokens")]
    pub event_tokens: usize,
    /// Requests that may wait for prefill; the next is answered 503. Default 4096.
    #[serde(default = "default_waiting_max")]
    pub waiting_max: usize,
}

fn default_addr() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8000))
}

fn default_served_models() -> Vec<String> {
    vec!["sim-8b".to_owned()]
}

fn default_model_key() -> ModelKey {
    ModelKey {
        model: "sim-8b".to_owned(),
        revision: "sim-1".to_owned(),
        adapter: String::new(),
        salt: String::new(),
        layout: "sim:u8:L1:H1:D1:tp1".to_owned(),
        block_tokens: BlockSize::DEFAULT,
    }
}

fn default_kv_bytes_per_token() -> u32 {
    256
}

fn default_device_tokens() -> u64 {
    400_000
}

fn default_load_deadline() -> Duration {
    Duration::from_secs(2)
}

fn default_node_deadline() -> Duration {
    Duration::from_secs(1)
}

fn default_event_tokens() -> usize {
    1
}

fn default_waiting_max() -> usize {
    4096
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {got}: expected {expected}")]
pub struct InvalidConfig {
    /// Its name.
    pub setting: &'static str,
    /// As configured.
    pub got: String,
    /// What it has to be.
    pub expected: &'static str,
}

impl Config {
    /// Defaults for everything that has one.
    #[must_use]
    pub fn new(endpoint: EndpointId, model_folder: PathBuf) -> Self {
        Self {
            endpoint,
            addr: default_addr(),
            url: None,
            node_socket: None,
            incarnation: None,
            model_folder,
            served_models: default_served_models(),
            model_key: default_model_key(),
            kv_bytes_per_token: default_kv_bytes_per_token(),
            device_tokens: default_device_tokens(),
            pace: Pace::default(),
            load_deadline: default_load_deadline(),
            node_deadline: default_node_deadline(),
            event_tokens: default_event_tokens(),
            waiting_max: default_waiting_max(),
        }
    }

    /// Refuses settings that the engine could not run with.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let speed = self.pace.speed;
        let rules = [
            (
                "served_models",
                self.served_models.len().to_string(),
                !self.served_models.is_empty(),
                "at least one name",
            ),
            ("kv_bytes_per_token", self.kv_bytes_per_token.to_string(), self.kv_bytes_per_token > 0, "at least 1"),
            ("device_tokens", self.device_tokens.to_string(), self.device_blocks() > 0, "at least one block"),
            (
                "pace.prefill_tokens_per_s",
                self.pace.prefill_tokens_per_s.to_string(),
                self.pace.prefill_tokens_per_s > 0,
                "at least 1",
            ),
            ("pace.speed", speed.to_string(), speed.is_finite() && speed > 0.0, "a number over 0"),
            ("event_tokens", self.event_tokens.to_string(), self.event_tokens > 0, "at least 1"),
            ("waiting_max", self.waiting_max.to_string(), self.waiting_max > 0, "at least 1"),
        ];
        match rules.into_iter().find(|(.., holds, _)| !holds) {
            None => Ok(()),
            Some((setting, got, _, expected)) => Err(InvalidConfig { setting, got, expected }),
        }
    }

    /// Blocks of the device tier.
    #[must_use]
    pub fn device_blocks(&self) -> usize {
        let blocks = self.device_tokens / u64::from(self.model_key.block_tokens.get());
        usize::try_from(blocks).expect("a block count fits the address space")
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.model_key.block_tokens.tokens() * self.kv_bytes_per_token as usize
    }

    /// What this engine brings to its node: one part, one rank.
    #[must_use]
    pub fn contract(&self, tokenizer: &str, chat_template: &str) -> Contract {
        Contract {
            model_key: ModelKey { adapter: String::new(), salt: String::new(), ..self.model_key.clone() },
            parts: vec![Part { bytes: self.block_bytes() as u64, ranks: vec![0] }],
            aliases: self.served_models.clone(),
            tokenizer: tokenizer.to_owned(),
            chat_template: chat_template.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_be_is_named() {
        let mut config = Config::new("e1".parse().unwrap(), PathBuf::new());
        assert_eq!(config.check(), Ok(()));
        config.pace.speed = 0.0;
        assert_eq!(config.check().unwrap_err().to_string(), "pace.speed is 0: expected a number over 0");
        config.device_tokens = 63;
        assert_eq!(config.check().unwrap_err().setting, "device_tokens");
    }
}
