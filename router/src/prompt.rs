//! From a request body to how much of its prompt is held where.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::debug;
use weft_policy::Candidate;
use weft_tokens::{ModelFiles, TokensError};
use weft_types::{BlockHash, BlockHasher, EndpointId};

use crate::answer::Refusal;
use crate::callers::Caller;
use crate::models::{Model, Served};
use crate::prints::Prints;
use crate::residency::{Holdings, Residency};
use crate::scan::Scan;

/// How the prompt stands in the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Surface {
    /// `/v1/chat/completions`: `messages`.
    Chat,
    /// `/v1/completions`: `prompt`.
    Completion,
    /// Anything else: a prompt that is not looked for.
    Other,
}

/// A prompt, as the policy wants to know it.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: u32,
    /// They were counted by a tokenizer, and the index was asked.
    pub(crate) counted: bool,
    pub(crate) prints: Prints,
    /// By index in [`Model::keys`]; empty where nothing is known.
    holdings: Vec<Holdings>,
}

impl Prompt {
    /// English text has about 4 bytes a token; only used where there is no tokenizer to ask.
    const BYTES_A_TOKEN: usize = 4;

    fn by_size(seed: u64, body: &[u8], scan: &Scan<'_>) -> Self {
        let prints = Prints::of_bytes(seed, scan.prompt());
        Self { tokens: Self::tokens_by_size(body), counted: false, prints, holdings: Vec::new() }
    }

    /// About how many a body has.
    pub(crate) fn tokens_by_size(body: &[u8]) -> u32 {
        count(body.len() / Self::BYTES_A_TOKEN)
    }

    /// Whether somebody reports what this endpoint holds of the prompt; otherwise what it was sent stands for that.
    pub(crate) fn is_reported(&self, served: &Served) -> bool {
        self.counted && served.key.is_some()
    }

    /// The endpoints of the model, without those tried before. `sent`: leading tokens that each was sent.
    pub(crate) fn candidates<'a>(&'a self, model: &Model, tried: &[EndpointId], sent: &[u32]) -> Vec<Candidate<'a>> {
        let candidate = |(served, sent): (&Served, &u32)| {
            let holdings = served.key.and_then(|key| self.holdings.get(key));
            Candidate {
                endpoint: served.endpoint.id.clone(),
                node: served.node.clone(),
                usable: served.endpoint.is_healthy() && !tried.contains(&served.endpoint.id),
                device_tokens: match self.is_reported(served) {
                    true => holdings.map_or(0, |holdings| holdings.device(&served.endpoint.id)),
                    false => *sent,
                },
                nodes: holdings.map_or(&[], Holdings::nodes),
            }
        };
        model.served.iter().zip(sent).map(candidate).collect()
    }
}

/// Turns prompts into tokens without keeping the reactor from its sockets.
pub(crate) struct Prompts {
    residency: Arc<dyn Residency>,
    /// Tokenising is pure CPU work: more at once than cores only makes all of them late.
    cores: Arc<Semaphore>,
    /// Of the prints of this process.
    seed: u64,
    /// Prompts are not read as tokens, whether there is a tokenizer or not.
    approximate: bool,
}

impl Prompts {
    /// A body up to this size is tokenised where it arrives: at 3.6 MB/s it holds the reactor up for 0.6 ms at worst, and the
    /// hop to another thread and back costs about 0.05 ms.
    const INLINE_BYTES_MAX: usize = 2 << 10;

    pub(crate) fn new(residency: Arc<dyn Residency>, approximate: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { residency, cores: Arc::new(Semaphore::new(cores)), seed: rand::random(), approximate }
    }

    /// How old the index is.
    pub(crate) fn index_age(&self) -> Option<Duration> {
        self.residency.age()
    }

    /// The prompt of a request, and who holds how much of it that is the caller's.
    ///
    /// What cannot be told here is routed by its size; what no engine would take is refused.
    pub(crate) async fn read(
        &self,
        surface: Surface,
        model: &Arc<Model>,
        body: &Bytes,
        scan: &Scan<'_>,
        caller: &Arc<Caller>,
    ) -> Result<Prompt, Refusal> {
        let read = match model.files.clone().filter(|_| surface != Surface::Other && !self.approximate) {
            Some(files) => self.tokenise(surface, model, files, body, caller).await?,
            None => None,
        };
        Ok(read.unwrap_or_else(|| Prompt::by_size(self.seed, body, scan)))
    }

    async fn tokenise(
        &self,
        surface: Surface,
        model: &Arc<Model>,
        files: Arc<ModelFiles>,
        body: &Bytes,
        caller: &Arc<Caller>,
    ) -> Result<Option<Prompt>, Refusal> {
        let seed = self.seed;
        if body.len() <= Self::INLINE_BYTES_MAX {
            return read(surface, model, &files, body, caller, &*self.residency, seed);
        }
        let core = Arc::clone(&self.cores).acquire_owned().await.expect("the semaphore is never closed");
        let (model, body, residency) = (Arc::clone(model), body.clone(), Arc::clone(&self.residency));
        let caller = Arc::clone(caller);
        let reading = tokio::task::spawn_blocking(move || {
            // Not given back by a client that hangs up: the work goes on, and would be joined by more than there are cores.
            let _core = core;
            read(surface, &model, &files, &body, &caller, &*residency, seed)
        });
        reading.await.map_err(|error| Refusal::BadRequest(format!("the prompt could not be read: {error}")))?
    }
}

impl std::fmt::Debug for Prompts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prompts").field("cores", &self.cores).finish_non_exhaustive()
    }
}

fn read(
    surface: Surface,
    model: &Model,
    files: &ModelFiles,
    body: &[u8],
    caller: &Caller,
    residency: &dyn Residency,
    seed: u64,
) -> Result<Option<Prompt>, Refusal> {
    let tokens = match surface {
        Surface::Chat => files.chat_prompt(body),
        Surface::Completion => files.completion_prompt(body),
        Surface::Other => return Ok(None),
    };
    match tokens {
        Ok(tokens) => {
            let holdings = model.keys.iter().map(|key| {
                let hasher = BlockHasher::new(&key.with_salt(caller.salt()));
                let prefix: Vec<_> = hasher.prefix(&tokens).iter().map(BlockHash::index_key).collect();
                let (matches, roster) = residency.lookup(&prefix);
                Holdings::new(&matches, &roster, hasher.block_size())
            });
            let prints = Prints::of_tokens(seed, &tokens);
            Ok(Some(Prompt { tokens: count(tokens.len()), counted: true, prints, holdings: holdings.collect() }))
        }
        Err(error) if error.is_bad_request() => Err(Refusal::BadRequest(error.to_string())),
        Err(error @ (TokensError::Unsupported(_) | TokensError::NoTemplate)) => {
            debug!(model = %model.name, "routed by load: {error}");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(model = %model.name, "routed by load: {error}");
            Ok(None)
        }
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
