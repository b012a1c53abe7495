//! The console: a page on the admin port that shows what the router sees.
//!
//! ```text
//!   browser ──► /                 the page; it and its files are part of the program
//!          ──► /console/state     everything it shows, as JSON; asked again every two seconds
//!          ──► /explain/{request} one decision
//! ```
//! It tells and changes nothing. Of prompts it has counts and fingerprints, and no text; of tenants no salt and no key. What it
//! costs is bounded: an answer is made at most once a second, whoever looks.

mod fabric;
mod recent;
mod tree;

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use weft_metadata_client::{Follower, MetadataClient};
use weft_service::admin::{Content, Page};
use weft_types::Name;

use self::fabric::{Fabric, ROWS_MAX};
use crate::gateway::Gateway;

/// An answer is as good as new for so long.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The page, and what it is made of.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("console/console.html")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console/console.css")),
    ("/console/console.js", SCRIPT, include_str!("console/console.js")),
    ("/console/decisions.js", SCRIPT, include_str!("console/decisions.js")),
    ("/console/dom.js", SCRIPT, include_str!("console/dom.js")),
    ("/console/prefixes.js", SCRIPT, include_str!("console/prefixes.js")),
    ("/console/tenants.js", SCRIPT, include_str!("console/tenants.js")),
    ("/console/tiles.js", SCRIPT, include_str!("console/tiles.js")),
    ("/console/topology.js", SCRIPT, include_str!("console/topology.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What it tells of.
#[derive(Debug)]
struct Console {
    name: Name,
    started: Instant,
    gateway: Arc<Gateway>,
    fabric: Option<Fabric>,
    /// The last answer, and when it was made. Held while the next one is: whoever comes meanwhile waits for that.
    last: Mutex<Option<(Instant, Value)>>,
}

/// Its pages.
pub(crate) fn pages(name: &Name, gateway: &Arc<Gateway>, metadata: Option<(&MetadataClient, &Follower)>) -> Vec<Page> {
    let fabric = metadata.map(|(client, follower)| Fabric { client: client.clone(), follower: follower.clone() });
    let (gateway, last) = (Arc::clone(gateway), Mutex::default());
    let console = Arc::new(Console { name: name.clone(), started: Instant::now(), gateway, fabric, last });
    let state = move |_: String| {
        let console = Arc::clone(&console);
        Box::pin(async move { Some(Content::Json(console.state().await)) }) as _
    };
    let file = |(path, media_type, text)| {
        let answer = move |_: String| Box::pin(ready(Some(Content::File { media_type, text }))) as _;
        Page { path, answer: Arc::new(answer) }
    };
    FILES.map(file).into_iter().chain([Page { path: "/console/state", answer: Arc::new(state) }]).collect()
}

impl Console {
    async fn state(&self) -> Value {
        let mut last = self.last.lock().await;
        if let Some((_, state)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR) {
            return state.clone();
        }
        let fabric = match &self.fabric {
            Some(fabric) => Some(fabric.describe().await),
            None => None,
        };
        let state = self.describe(fabric);
        *last = Some((Instant::now(), state.clone()));
        state
    }

    fn describe(&self, fabric: Option<Value>) -> Value {
        let gateway = &self.gateway;
        let models = gateway.models.load();
        let (prompt_tokens, matched) = gateway.metrics.matched();
        let records = gateway.explain.last(recent::DECISIONS_MAX);
        json!({
            "name": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs_f64(),
            "ready": gateway.ready().err().unwrap_or_default(),
            "models": models.names().collect::<Vec<_>>(),
            "in_flight": gateway.metrics.in_flight.get(),
            "requests": gateway.metrics.outcomes(),
            "prompt_tokens": prompt_tokens,
            "matched_tokens": matched,
            "endpoints": gateway.describe_endpoints(ROWS_MAX),
            "endpoints_left_out": models.endpoints().len().saturating_sub(ROWS_MAX),
            "tenants": gateway.metrics.by_tenant(),
            "recent": recent::describe(&records, &|endpoint| gateway.fleet.lock().prefill_tokens_per_second(endpoint)),
            "prefixes": recent::prefixes(&records),
            "fabric": fabric,
        })
    }
}
