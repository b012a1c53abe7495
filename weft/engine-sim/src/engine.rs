//! One request through the engine.
//!
//! ```text
//!   prompt ─► block hashes ─► load what the device lacks ─► turn at prefill ─► memory ─► compute ─► decode, token by token
//!                             (deadline; bytes compared)     (first come,                 │
//!                                                             first served)               └─► store (behind the request)
//! ```
//!
//! Loading happens before the request joins the queue, beside the prefills of others, as vLLM does while a request waits
//! for remote KV. What was found is looked up again when the turn comes: blocks that others computed meanwhile count, and
//! blocks that were evicted meanwhile are computed.
//!
//! # Invariants
//! - At least one token of a prompt is computed: the last block of a prompt that is cached in full is computed again.
//! - A request that ends in any way, a dropped future included, gives back memory, turn and queue place.
//! - Loaded bytes are compared before any of their blocks counts as a hit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tracing::error;
use weft_node_client::{LoadedBlock, NodeClient};
use weft_types::{BlockHash, BlockHasher, Chain};

use crate::answer::{Answer, Answers};
use crate::config::Config;
use crate::kv::{self, KvMismatch};
use crate::memory::{Allocation, Loaded, Memory};
use crate::metrics::{Finish, Metrics};
use crate::pace::PrefillServer;
use crate::usage::Usage;
use crate::writer::Writer;

/// What a client asked for, in tokens.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    /// Salt of the tenant; `None` for the engine's own.
    pub(crate) salt: Option<String>,
    /// At most so many tokens; `None`: the answer's natural length.
    pub(crate) max_tokens: Option<usize>,
    /// Go on past the natural end, to `max_tokens`.
    pub(crate) ignore_eos: bool,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(
        "prompt and output need {needed} tokens of KV memory, the device holds {capacity}: \
         shorten the prompt or lower max_tokens"
    )]
    TooLong { needed: usize, capacity: usize },
    #[error("{waiting_max} requests wait already: try another replica, or again later")]
    Busy { waiting_max: usize },
    #[error("loaded KV cache is not what was stored: {0}")]
    Corrupt(#[from] KvMismatch),
}

/// One engine replica without its HTTP surface.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    hasher: BlockHasher,
    answers: Answers,
    memory: Arc<Memory>,
    prefill: PrefillServer,
    waiting: Semaphore,
    decoding: AtomicUsize,
    node: Option<NodeClient>,
    writer: Option<Writer>,
}

/// A request that decodes.
#[derive(Debug)]
pub(crate) struct Sequence {
    engine: Arc<Engine>,
    memory: Allocation,
    chain: Chain,
    answer: Answer,
    pub(crate) usage: Usage,
    /// Tokens still to come.
    remaining: usize,
    finish: Finish,
    next_at: Instant,
    arrived: Instant,
    _running: Counted,
}

impl Engine {
    pub(crate) fn new(config: Config, answers: Answers, metrics: Metrics, node: Option<NodeClient>) -> Arc<Self> {
        Arc::new(Self {
            hasher: BlockHasher::new(&config.model_key),
            memory: Memory::new(config.device_blocks(), node.clone(), metrics.kv_usage.clone()),
            prefill: PrefillServer::new(),
            waiting: Semaphore::new(config.waiting_max),
            decoding: AtomicUsize::new(0),
            writer: node.clone().map(Writer::spawn),
            node,
            answers,
            metrics,
            config,
        })
    }

    /// Takes a request to its first token.
    pub(crate) async fn prefill(self: &Arc<Self>, job: Job) -> Result<Sequence, EngineError> {
        let arrived = Instant::now();
        let answer = self.answers.to(&job.prompt);
        let (output, finish) = job.output(answer.natural_tokens());
        let slots = self.slots(job.prompt.len() + output)?;
        let place =
            self.waiting.try_acquire().map_err(|_| EngineError::Busy { waiting_max: self.config.waiting_max })?;
        let waiting = Counted::up(&self.metrics.waiting);

        let mut chain = self.hasher_for(job.salt.as_deref()).chain();
        chain.extend(&job.prompt);
        let block_tokens = self.config.model_key.block_tokens.tokens();
        let reusable = &chain.hashes()[..(job.prompt.len() - 1) / block_tokens];
        let loaded = self.load(reusable).await?;

        let mut turn = self.prefill.turn().await;
        let (mut memory, sources, waited) = self.memory.admit(reusable, &loaded, slots).await;
        if waited.0 {
            turn.begin_now();
        }
        drop((place, waiting));
        let running = Counted::up(&self.metrics.running);
        let usage = Usage::of_prompt(job.prompt.len(), block_tokens, &sources, loaded.verified_bytes);
        let decoding = self.decoding.load(Ordering::Relaxed);
        turn.run(self.config.pace.prefill(job.prompt.len() - sources.len() * block_tokens, decoding)).await;

        memory.commit(&chain.hashes()[sources.len()..]);
        self.store(chain.hashes());
        self.metrics.first_token(&usage, arrived.elapsed().as_secs_f64());
        self.decoding.fetch_add(1, Ordering::Relaxed);
        let engine = self.clone();
        let next_at = Instant::now();
        Ok(Sequence {
            engine,
            memory,
            chain,
            answer,
            usage,
            remaining: output,
            finish,
            next_at,
            arrived,
            _running: running,
        })
    }

    /// Stores what is queued and leaves the node.
    pub(crate) async fn close(self: Arc<Self>) {
        if let Some(Self { writer: Some(writer), .. }) = Arc::into_inner(self) {
            writer.finish().await;
        }
    }

    fn slots(&self, tokens: usize) -> Result<usize, EngineError> {
        let block_tokens = self.config.model_key.block_tokens.tokens();
        let (slots, capacity) = (tokens.div_ceil(block_tokens), self.memory.capacity());
        match slots <= capacity {
            true => Ok(slots),
            false => Err(EngineError::TooLong { needed: tokens, capacity: capacity * block_tokens }),
        }
    }

    fn hasher_for(&self, salt: Option<&str>) -> BlockHasher {
        match salt.filter(|salt| *salt != self.config.model_key.salt) {
            None => self.hasher.clone(),
            Some(salt) => BlockHasher::new(&self.config.model_key.with_salt(salt)),
        }
    }

    /// Loads the blocks behind those on the device, and compares their bytes.
    async fn load(&self, blocks: &[BlockHash]) -> Result<Loaded, EngineError> {
        let first = self.memory.touch_leading(blocks);
        let missing = &blocks[first..];
        let Some(node) = self.node.as_ref().filter(|_| !missing.is_empty()) else { return Ok(Loaded::default()) };
        let arrived = node.load(missing, self.load_deadline(missing.len())).await;
        let sources = arrived.iter().map(LoadedBlock::source).collect();
        let (wanted, block_bytes) = (missing.to_vec(), self.config.block_bytes());
        let verified = tokio::task::spawn_blocking(move || verify(&wanted, block_bytes, &arrived)).await;
        match verified.expect("comparing bytes does not panic") {
            Ok(verified_bytes) => {
                self.metrics.verified_bytes.inc_by(verified_bytes);
                Ok(Loaded { first, sources, verified_bytes })
            }
            Err(mismatch) => {
                self.metrics.mismatched_blocks.inc();
                error!(endpoint = %self.config.endpoint, %mismatch, "a loaded block has wrong bytes: the request fails");
                Err(mismatch.into())
            }
        }
    }

    /// Never longer than computing the blocks would take on an idle engine: past that, loading cannot win.
    fn load_deadline(&self, blocks: usize) -> Duration {
        let tokens = blocks * self.config.model_key.block_tokens.tokens();
        self.config.load_deadline.min(self.config.pace.prefill(tokens, 0))
    }

    fn store(&self, blocks: &[BlockHash]) {
        if self.writer.as_ref().is_some_and(|writer| !writer.store(blocks)) {
            self.metrics.skipped_stores.inc_by(blocks.len() as u64);
        }
    }
}

/// Compares what was loaded with what belongs to the blocks that were asked for, in order. Returns the bytes compared.
fn verify(wanted: &[BlockHash], block_bytes: usize, loaded: &[LoadedBlock]) -> Result<u64, KvMismatch> {
    for (block, loaded) in wanted.iter().zip(loaded) {
        kv::verify(block, block_bytes, loaded.bytes())?;
    }
    Ok((loaded.len() * block_bytes) as u64)
}

impl Job {
    /// Tokens to generate, and why they end.
    fn output(&self, natural: usize) -> (usize, Finish) {
        match self.max_tokens {
            Some(max) if self.ignore_eos || max < natural => (max, Finish::Length),
            _ => (natural, Finish::Stop),
        }
    }
}

impl Sequence {
    /// The next tokens, when their time has come; the first is there at once. `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Vec<u32>> {
        let first = self.usage.completion_tokens == 0;
        let tokens = self.remaining.min(if first { 1 } else { self.engine.config.event_tokens });
        if tokens == 0 {
            return None;
        }
        if !first {
            self.next_at += self.engine.config.pace.decode(tokens, self.engine.decoding.load(Ordering::Relaxed));
            sleep_until(self.next_at).await;
        }
        let generated: Vec<_> = self.answer.by_ref().take(tokens).collect();
        self.usage.completion_tokens += tokens as u64;
        self.remaining -= tokens;
        self.engine.metrics.generation_tokens.inc_by(tokens as u64);
        let computed = if self.remaining == 0 { tokens - 1 } else { tokens };
        self.extend(&generated[..computed]);
        Some(generated)
    }

    /// Why it ended, once `next` has nothing more to give.
    pub(crate) fn finish(&self) -> Option<Finish> {
        (self.remaining == 0).then_some(self.finish)
    }

    /// Blocks that generated tokens fill are cached as a prompt's are. The last token's KV is never computed.
    fn extend(&mut self, computed: &[u32]) {
        let before = self.chain.hashes().len();
        self.chain.extend(computed);
        let filled = &self.chain.hashes()[before..];
        if !filled.is_empty() {
            self.memory.commit(filled);
            self.engine.store(filled);
        }
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.engine.decoding.fetch_sub(1, Ordering::Relaxed);
        let finish = self.finish().unwrap_or(Finish::Abort);
        self.engine.metrics.finished(finish, self.arrived.elapsed().as_secs_f64());
    }
}

/// One more in a gauge, as long as it lives.
#[derive(Debug)]
struct Counted(IntGauge);

impl Counted {
    fn up(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
