//! Where the tokens of a request came from, as the `usage` object of its answer tells it.
//!
//! OpenAI's fields, vLLM's `prompt_tokens_details.cached_tokens`, and the extension `weft`: tokens of the prompt by source,
//! which add up to `prompt_tokens`, and the bytes that were loaded and compared.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use weft_node_client::LoadSource;

/// Where a block of the prompt came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Device,
    Loaded(LoadSource),
}

/// Prompt tokens by source, and bytes verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WeftUsage {
    /// Were on the device.
    pub device: u64,
    /// Loaded from the node's host memory.
    pub host: u64,
    /// Loaded from the node's disk.
    pub disk: u64,
    /// Loaded from object storage.
    pub object: u64,
    /// Fetched from another node.
    pub peer: u64,
    /// Computed.
    pub computed: u64,
    /// KV bytes loaded and found equal, byte for byte, to what belongs there.
    pub verified_bytes: u64,
}

/// The `usage` object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
    pub(crate) weft: WeftUsage,
}

#[derive(Serialize)]
struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    weft: WeftUsage,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

impl Usage {
    /// Usage of a prompt whose leading blocks came from `sources`; the rest is computed.
    pub(crate) fn of_prompt(
        prompt_tokens: usize,
        block_tokens: usize,
        sources: &[Source],
        verified_bytes: u64,
    ) -> Self {
        let mut weft = WeftUsage { verified_bytes, ..WeftUsage::default() };
        for source in sources {
            *weft.of(*source) += block_tokens as u64;
        }
        weft.computed = (prompt_tokens - sources.len() * block_tokens) as u64;
        Self { prompt_tokens: prompt_tokens as u64, completion_tokens: 0, weft }
    }

    /// Tokens from one source.
    pub(crate) fn tokens(&self, source: Source) -> u64 {
        let mut weft = self.weft;
        *weft.of(source)
    }

    /// Tokens that were not computed.
    pub(crate) fn cached_tokens(&self) -> u64 {
        self.prompt_tokens - self.weft.computed
    }
}

impl AddAssign for WeftUsage {
    fn add_assign(&mut self, other: Self) {
        self.device += other.device;
        self.host += other.host;
        self.disk += other.disk;
        self.object += other.object;
        self.peer += other.peer;
        self.computed += other.computed;
        self.verified_bytes += other.verified_bytes;
    }
}

impl WeftUsage {
    fn of(&mut self, source: Source) -> &mut u64 {
        match source {
            Source::Device => &mut self.device,
            Source::Loaded(LoadSource::Host) => &mut self.host,
            Source::Loaded(LoadSource::Disk) => &mut self.disk,
            Source::Loaded(LoadSource::Object) => &mut self.object,
            Source::Loaded(LoadSource::Peer) => &mut self.peer,
        }
    }
}

impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = UsageBody {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            total_tokens: self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens: self.cached_tokens() },
            weft: self.weft,
        };
        body.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_add_up_to_the_prompt() {
        let sources = [Source::Device, Source::Loaded(LoadSource::Host), Source::Loaded(LoadSource::Peer)];
        let usage = Usage::of_prompt(200, 64, &sources, 0);
        assert_eq!(usage.weft, WeftUsage { device: 64, host: 64, peer: 64, computed: 8, ..WeftUsage::default() });
        let body = serde_json::to_value(usage).unwrap();
        assert_eq!(body["prompt_tokens_details"]["cached_tokens"], 192);
        assert_eq!(body["weft"]["computed"], 8);
    }
}
