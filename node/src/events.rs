//! Engines whose KV-cache events this node follows: what they hold in device memory, by what they publish.
//!
//! ```text
//!   engine PUB ──► follow ──► DeviceHeld ──► Reporter ──► directory: the endpoint's device
//! ```
//! An engine that is attached is followed under the contract it brought, for as long as it is attached. One without a connector
//! is listed by the node, for as long as it publishes.

mod unattached;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio_util::sync::{CancellationToken, DropGuard};
use weft_event_feed::{InvalidAddress, Progress, Publisher, follow};
use weft_events::DeviceBlocks;
use weft_types::{EndpointId, ModelKey};

pub(crate) use self::unattached::list;
use crate::config::EngineConfig;
use crate::report::{DeviceHeld, ReporterHandle};

/// Engines in the configuration that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsFault {
    /// An address is none.
    #[error("engines: {0}")]
    Address(#[from] InvalidAddress),
    /// One endpoint twice.
    #[error("engines: endpoint {0} is there twice: an endpoint is one engine, which publishes at one address")]
    Twice(EndpointId),
}

/// The engines of the configuration, by endpoint.
#[derive(Debug, Default)]
pub(crate) struct Events {
    engines: BTreeMap<EndpointId, Engine>,
}

#[derive(Debug)]
struct Engine {
    publisher: Publisher,
    adapters: BTreeMap<String, String>,
    progress: Arc<Progress>,
    /// Held while it is followed: a later life of the engine begins when the former one's is over.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Events {
    /// Looks at the addresses; follows nobody yet.
    pub(crate) fn new(configured: &[EngineConfig]) -> Result<Self, EventsFault> {
        let mut engines = BTreeMap::new();
        for config in configured {
            let publisher = Publisher {
                address: config.kv_events.clone(),
                replay: config.replay.clone(),
                topic: config.topic.clone(),
            };
            publisher.check()?;
            let (progress, turn) = (Arc::default(), Arc::default());
            let engine = Engine { publisher, adapters: config.adapters.clone(), progress, turn };
            if engines.insert(config.endpoint.clone(), engine).is_some() {
                return Err(EventsFault::Twice(config.endpoint.clone()));
            }
        }
        Ok(Self { engines })
    }

    /// Adds `weft_node_kv_events_*`, if there is anybody to follow.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        if self.engines.is_empty() {
            return Ok(());
        }
        let engines = self.engines.iter().map(|(id, engine)| (id.clone(), Arc::clone(&engine.progress)));
        weft_event_feed::register(registry, "weft_node", engines.collect())
    }

    /// Follows an engine until the guard is dropped; `None`: its events are not in the configuration.
    pub(crate) fn follow(
        &self,
        endpoint: &EndpointId,
        key: &ModelKey,
        device: &Arc<Mutex<DeviceHeld>>,
        reporter: Option<ReporterHandle>,
        stop: &CancellationToken,
    ) -> Option<DropGuard> {
        let Engine { publisher, adapters, progress, turn } = self.engines.get(endpoint)?;
        let (publisher, progress, turn) = (publisher.clone(), Arc::clone(progress), Arc::clone(turn));
        let blocks = DeviceBlocks::new(key.clone(), adapters.clone());
        let (device, stop) = (Arc::clone(device), stop.child_token());
        let guard = stop.clone().drop_guard();
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            let changed = move |changes: &[_]| {
                device.lock().follow(changes);
                if let Some(reporter) = &reporter {
                    reporter.changed();
                }
            };
            follow(&publisher, blocks, &progress, changed, &stop).await;
        });
        Some(guard)
    }

    fn progress(&self, endpoint: &EndpointId) -> Option<&Arc<Progress>> {
        self.engines.get(endpoint).map(|engine| &engine.progress)
    }
}
