//! A simulated inference engine with real KV bytes.
//!
//! It speaks the OpenAI API and vLLM's metrics, and behaves as an engine does where caching can tell: one prefill at a time
//! at a given rate, decoding that slows down with company, a device tier of bounded size that evicts least recently used
//! prefixes from their end. What it does not simulate are the bytes: each block's KV is a stream keyed by the block's hash,
//! is stored through the node's shared memory, and is compared byte for byte whenever it is loaded. One wrong byte fails
//! the request.
//!
//! ```text
//!   http ──► engine ──► memory ──► device      pure: names of blocks, LRU
//!              │  └───► pace                   how long things take
//!              └──► weft-node-client: load ──► kv::verify;  writer: store ◄── kv::fill
//! ```
//!
//! Absent on purpose: sampling parameters (the answer is a function of the prompt), and several sequences a request.

mod answer;
mod config;
mod device;
mod engine;
mod http;
pub mod kv;
mod memory;
mod metrics;
mod pace;
mod server;
mod usage;
mod writer;

pub use config::{Config, InvalidConfig};
pub use pace::Pace;
pub use server::{BindError, EngineSim};
pub use usage::WeftUsage;
