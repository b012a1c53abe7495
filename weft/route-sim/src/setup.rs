//! What is simulated: engines, their memories, and the links between them.

/// A fleet of equal replicas.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setup {
    /// Engine replicas, each on a node of its own; at most 64.
    pub replicas: usize,
    /// What each of them does.
    pub engine: Engine,
    /// Host memory of each node, if its blocks are kept there too.
    pub host: Option<Host>,
    /// Bytes a second of each node's link, in either direction; 0 if nodes don't fetch from each other.
    pub peer_bytes_per_s: f64,
    /// Age of what the index says.
    pub index_lag_s: f64,
    /// What the product's policy believes of an engine's prefill, as a multiple of the truth; if it is not 1, it never learns
    /// better.
    pub rate_error: f64,
}

/// One engine: a prefill server that serves in order, and a batch that decodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Engine {
    /// Prefill of tokens that are not cached.
    pub prefill_tokens_per_s: f64,
    /// What every prefill takes beside its tokens.
    pub overhead_s: f64,
    /// What each decoding request adds to a prefill, as a share of it.
    pub slowdown: f64,
    /// A decode step of one request alone.
    pub decode_s: f64,
    /// What each further request in the batch adds to a step.
    pub decode_each_s: f64,
    /// Device memory for KV blocks.
    pub device_tokens: u64,
    /// KV bytes of a token.
    pub kv_bytes: f64,
}

/// Host memory of a node: written through, least recently used goes first.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Host {
    /// Its size.
    pub tokens: u64,
    /// How fast the device is filled from it.
    pub bytes_per_s: f64,
}

impl Setup {
    /// Round trip of a fetch from a peer.
    pub const PEER_RTT_S: f64 = 0.002;
    /// The index has one bit a replica.
    pub const REPLICAS_MAX: usize = 64;
}

impl Default for Engine {
    /// A model of 8 billion parameters in 16 bits on one large GPU; 128 KiB of KV a token.
    fn default() -> Self {
        Self {
            prefill_tokens_per_s: 20_000.0,
            overhead_s: 0.005,
            slowdown: 0.004,
            decode_s: 0.008,
            decode_each_s: 0.000_06,
            device_tokens: 400_000,
            kv_bytes: 131_072.0,
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            replicas: 8,
            engine: Engine::default(),
            host: None,
            peer_bytes_per_s: 0.0,
            index_lag_s: 0.0,
            rate_error: 1.0,
        }
    }
}
