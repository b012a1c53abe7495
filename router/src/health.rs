//! Probes every endpoint at an interval, and says so when one goes or comes back.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::HealthConfig;
use crate::endpoint::{Change, Endpoint};
use crate::gateway::Gateway;

/// Probes at work at once: enough for hundreds of endpoints in one interval.
const CONCURRENT_MAX: usize = 64;

/// Runs until it is dropped.
pub(crate) async fn probe(gateway: Arc<Gateway>, config: HealthConfig, path: PathAndQuery) {
    let mut ticks = interval(config.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let models = gateway.models.load_full();
        stream::iter(models.endpoints().values())
            .for_each_concurrent(CONCURRENT_MAX, |endpoint| probe_one(&gateway, endpoint, &config, &path))
            .await;
        gateway.count_endpoints();
    }
}

async fn probe_one(gateway: &Gateway, endpoint: &Endpoint, config: &HealthConfig, path: &PathAndQuery) {
    let found = gateway.upstream.probe(endpoint, path, config.within).await;
    match endpoint.probed(found, Instant::now(), config.failures) {
        Change::None => {}
        Change::Out => {
            warn!(endpoint = %endpoint.id, url = %endpoint.url, "endpoint fails its probes: it is out");
            gateway.history.forget(endpoint.remembered());
        }
        Change::Back => info!(endpoint = %endpoint.id, "endpoint passes its probes: it is back"),
    }
}
