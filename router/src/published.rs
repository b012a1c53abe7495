//! What engines publish of their KV caches, beside what the directory knows: static endpoints with `kv_events`.
//!
//! ```text
//!   engine 1 ── KV events ──► follow ──┐
//!   engine 2 ── KV events ──► follow ──┴─► index of published blocks ──┐
//!   directory ─────────────────────────────────────────────────────────┴─► lookup
//! ```
//! A holder of a published block has a number from the top of the range; the directory numbers its own from below.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::Registry;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_event_feed::{Progress, Publisher, follow};
use weft_events::{BlockChange, DeviceBlocks};
use weft_index::{Change, IndexReader, Match, PrefixIndex};
use weft_types::{BlockSize, Generation, HolderGrant, HolderId, HolderKey, Incarnation, IndexKey, ModelKey, Roster};

use crate::config::{EndpointConfig, InvalidConfig};
use crate::residency::Residency;

/// Where an engine publishes what it keeps in device memory.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvEventsConfig {
    /// Of its events, such as `tcp://10.0.0.7:5557`: `endpoint` in vLLM's and SGLang's `--kv-events-config`.
    pub address: String,
    /// Where it replays them, `replay_endpoint` there. Without it a lost event costs all that is known of this engine.
    pub replay: Option<String>,
    /// Topic, `topic` there. Default all.
    #[serde(default)]
    pub topic: String,
    /// Tokens of a block here: a multiple of the engine's blocks. Default 64.
    #[serde(default = "block_tokens")]
    pub block_tokens: BlockSize,
}

fn block_tokens() -> BlockSize {
    BlockSize::new(64).expect("64 tokens are a block")
}

impl KvEventsConfig {
    fn publisher(&self) -> Publisher {
        Publisher { address: self.address.clone(), replay: self.replay.clone(), topic: self.topic.clone() }
    }
}

impl EndpointConfig {
    /// What its published blocks are hashed under, without a salt: the first of its names stands for the model.
    pub(crate) fn published_key(&self) -> Option<ModelKey> {
        let block_tokens = self.kv_events.as_ref()?.block_tokens;
        let (model, layout) = (self.models.first()?.clone(), "kv-events".to_owned());
        let none = String::new;
        Some(ModelKey { model, revision: none(), adapter: none(), salt: none(), layout, block_tokens })
    }
}

/// Refuses addresses that are none.
pub(crate) fn check(endpoints: &[EndpointConfig]) -> Result<(), InvalidConfig> {
    for events in endpoints.iter().filter_map(|endpoint| endpoint.kv_events.as_ref()) {
        if let Err(error) = events.publisher().check() {
            let expected = "tcp://HOST:PORT or ipc://PATH, as the engine was told".to_owned();
            return Err(InvalidConfig { setting: "endpoints.kv_events", got: error.to_string(), expected });
        }
    }
    Ok(())
}

/// The directory, and what engines publish beside it.
pub(crate) struct Published {
    directory: Arc<dyn Residency>,
    index: Arc<Mutex<PrefixIndex>>,
    reader: IndexReader,
    engines: Vec<Engine>,
    /// The directory's roster, and the same with holders of published blocks.
    rosters: ArcSwap<(Arc<Roster>, Arc<Roster>)>,
}

struct Engine {
    grant: HolderGrant,
    publisher: Publisher,
    key: ModelKey,
    progress: Arc<Progress>,
}

impl Published {
    /// `None`: no endpoint publishes. The index never takes more than `index_bytes`.
    pub(crate) fn new(
        directory: &Arc<dyn Residency>,
        endpoints: &[EndpointConfig],
        index_bytes: usize,
    ) -> Option<Arc<Self>> {
        let publishing = endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.kv_events.as_ref()?)));
        let engine = |((endpoint, events), number): ((&EndpointConfig, &KvEventsConfig), u32)| {
            let key = HolderKey::Device { endpoint: endpoint.id.clone(), rank: 0 };
            let holder = HolderId::new(PrefixIndex::HOLDERS_MAX - 1 - number);
            let (generation, incarnation) = (Generation::new(0), Incarnation::new(0));
            Some(Engine {
                grant: HolderGrant { key, holder, generation, incarnation },
                publisher: events.publisher(),
                key: endpoint.published_key()?,
                progress: Arc::default(),
            })
        };
        let engines: Vec<Engine> = publishing.zip(0..PrefixIndex::HOLDERS_MAX).filter_map(engine).collect();
        let index = PrefixIndex::with_budget(index_bytes);
        (!engines.is_empty()).then(|| {
            Arc::new(Self {
                directory: Arc::clone(directory),
                reader: index.reader(),
                index: Arc::new(Mutex::new(index)),
                engines,
                rosters: ArcSwap::from_pointee((Arc::default(), Arc::default())),
            })
        })
    }

    /// Follows every engine that publishes, until `stop`.
    pub(crate) fn follow(&self, stop: &CancellationToken) {
        for engine in &self.engines {
            let (publisher, holder) = (engine.publisher.clone(), engine.grant.holder);
            let blocks = DeviceBlocks::new(engine.key.clone(), BTreeMap::new());
            let (index, progress, stop) = (Arc::clone(&self.index), Arc::clone(&engine.progress), stop.clone());
            tokio::spawn(async move {
                let changed = |changes: &[BlockChange]| {
                    let change = |change: &BlockChange| match change {
                        BlockChange::Stored(hash) => Change::Stored(hash.index_key()),
                        BlockChange::Removed(hash) => Change::Removed(hash.index_key()),
                    };
                    let changes: Vec<Change> = changes.iter().map(change).collect();
                    index.lock().apply_all(holder, &changes, usize::MAX, |_, _| ());
                };
                follow(&publisher, blocks, &progress, changed, &stop).await;
            });
        }
    }

    /// Adds what is known of the engines' events to the metrics.
    ///
    /// # Panics
    /// If a router has registered there before.
    pub(crate) fn register(&self, registry: &Registry) {
        let engines = self.engines.iter().filter_map(|engine| match &engine.grant.key {
            HolderKey::Device { endpoint, .. } => Some((endpoint.clone(), Arc::clone(&engine.progress))),
            HolderKey::Node { .. } => None,
        });
        weft_event_feed::register(registry, "weft_router", engines.collect()).expect("a registry is one router's");
    }

    fn with_published(&self, directory: Arc<Roster>) -> Arc<Roster> {
        let known = self.rosters.load();
        if Arc::ptr_eq(&known.0, &directory) {
            return Arc::clone(&known.1);
        }
        let mut roster = Roster::clone(&directory);
        roster.holders.extend(self.engines.iter().map(|engine| (engine.grant.holder, engine.grant.clone())));
        let roster = Arc::new(roster);
        self.rosters.store(Arc::new((directory, Arc::clone(&roster))));
        roster
    }
}

impl Residency for Published {
    fn lookup(&self, prefix: &[IndexKey]) -> (Vec<Match>, Arc<Roster>) {
        let (mut matches, roster) = self.directory.lookup(prefix);
        let published = self.reader.leading(prefix);
        if published.is_empty() {
            return (matches, roster);
        }
        matches.extend(published);
        (matches, self.with_published(roster))
    }

    /// What engines publish is heard as it happens.
    fn age(&self) -> Option<Duration> {
        Some(self.directory.age().unwrap_or_default())
    }

    fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.directory.rosters()
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("engines", &self.engines.len()).finish_non_exhaustive()
    }
}
