//! Engines without a connector: the node lists them as endpoints while they publish.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_types::{Contract, EndpointId, EndpointSpec, Incarnation, ModelKey, Part};

use crate::config::{EngineConfig, ServesConfig};
use crate::report::{Attached, DeviceHeld, ReporterHandle, refused};
use crate::session::Shared;

/// Pause after metadata refused an endpoint: its operator has to mend something.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Lists those engines of the configuration that do not attach, each while it publishes, until the node goes.
pub(crate) fn list(shared: &Arc<Shared>, configured: &[EngineConfig]) {
    let Some(reporter) = &shared.reporter else { return };
    let unattached = configured.iter().filter_map(|config| Some((config.endpoint.clone(), config.serves.clone()?)));
    for ((endpoint, serves), number) in unattached.zip(0..) {
        let (shared, reporter) = (Arc::clone(shared), reporter.clone());
        tokio::spawn(async move {
            let stop = shared.stop.clone();
            // Sessions of engines that attach count from below.
            let engine = Unattached { endpoint, serves, session: u64::MAX - number };
            tokio::select! {
                () = engine.run(&shared, &reporter) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

struct Unattached {
    endpoint: EndpointId,
    serves: ServesConfig,
    session: u64,
}

impl Unattached {
    async fn run(&self, shared: &Shared, reporter: &ReporterHandle) {
        let (contract, device) = (contract(&self.serves), Arc::<Mutex<DeviceHeld>>::default());
        let key = &contract.model_key;
        let following = shared.events.follow(&self.endpoint, key, &device, Some(reporter.clone()), &shared.stop);
        let connection = shared.events.progress(&self.endpoint).map(|progress| progress.connection());
        let (Some(_following), Some(mut connection)) = (following, connection) else { return };
        while connection.wait_for(|connected| *connected).await.is_ok() {
            let (verdict, mut verdicts) = watch::channel(None);
            let spec = EndpointSpec {
                id: self.endpoint.clone(),
                incarnation: now(),
                url: self.serves.url.clone(),
                node: Some(shared.node.clone()),
                ranks: 1,
                contracts: vec![contract.clone()],
            };
            reporter.attach(Attached { session: self.session, spec, device: Arc::clone(&device), verdict }).await;
            shared.roll.enter(&self.endpoint, self.session, &contract, &device);
            let gone = async { connection.wait_for(|connected| !connected).await.is_ok() };
            let refusal = tokio::select! {
                _ = gone => None,
                reason = refused(&mut verdicts) => Some(reason),
            };
            if let Some(reason) = refusal {
                tracing::error!(endpoint = %self.endpoint, %reason, "an engine that publishes is not listed");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
            shared.roll.strike(self.session);
            reporter.detach(self.endpoint.clone(), self.session).await;
        }
    }
}

/// The contract of an engine that shares no bytes: blocks have none.
fn contract(serves: &ServesConfig) -> Contract {
    let none = String::new;
    let (model, layout, block_tokens) = (serves.model.clone(), "kv-events".to_owned(), serves.block_tokens);
    let model_key = ModelKey { model, revision: none(), adapter: none(), salt: none(), layout, block_tokens };
    let parts = vec![Part { bytes: 0, ranks: vec![0] }];
    Contract { model_key, parts, aliases: serves.aliases.clone(), tokenizer: none(), chat_template: none() }
}

/// Larger in each life of an engine, as far as it is seen from here, and in each of this node.
fn now() -> Incarnation {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Incarnation::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
