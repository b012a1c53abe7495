//! Who is let in, and who is let through to the engines next: the policy's queue, with clients waiting at it.
//!
//! A request that waits holds its body and nothing of an engine. Its tokens are read, and where it goes is decided, when its turn
//! has come: what is cached where will have changed by then.

mod config;
mod in_flight;
mod metrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use weft_policy::{Arrival, Entered, Next, Place, Priority, Queue, Refused, Why};
use weft_types::TenantId;

pub use self::config::{AdmissionConfig, TenantShare};
pub(crate) use self::in_flight::Admitted;
use self::in_flight::InFlight;
use self::metrics::Metrics;
use crate::answer::Refusal;
use crate::callers::Caller;

/// How much a request matters: `low`, `normal` or `high`, as far as its tenant may say.
pub(crate) const PRIORITY_HEADER: &str = "x-weft-priority";
/// Milliseconds after which its sender no longer wants to be let through.
pub(crate) const DEADLINE_HEADER: &str = "x-weft-deadline-ms";

/// The door of the router.
#[derive(Debug)]
pub(crate) struct Admission {
    config: AdmissionConfig,
    in_flight: Arc<InFlight>,
    line: Mutex<Line>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Line {
    /// Callers without a key are one tenant.
    queue: Queue<Option<TenantId>>,
    /// What those who wait are told.
    told: HashMap<Place, oneshot::Sender<Result<(), Refused>>>,
}

/// A request that was let through. Dropping it lets the next one through.
#[derive(Debug)]
pub(crate) struct Passing(Arc<Admission>);

/// A request that waits. Dropping it gives its place up, whatever has become of it in the meantime.
struct Waiting {
    admission: Arc<Admission>,
    place: Place,
    told: oneshot::Receiver<Result<(), Refused>>,
    /// It has been told.
    over: bool,
}

impl Admission {
    pub(crate) fn new(config: AdmissionConfig, per_tenant_max: usize, registry: &Registry) -> Self {
        Self {
            in_flight: Arc::new(InFlight::new(per_tenant_max)),
            line: Mutex::new(Line { queue: Queue::new(config.bounds()), told: HashMap::new() }),
            metrics: Metrics::register(registry),
            config,
        }
    }

    /// Lets a request in, unless its tenant has as many here as it may.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Option<Admitted>, Refusal> {
        self.in_flight.admit(caller).map_err(|in_flight| Refusal::TenantBusy { in_flight })
    }

    /// Waits until a request of about so many tokens may go to an engine.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        caller: &Caller,
        headers: &HeaderMap,
        tokens: u32,
    ) -> Result<Passing, Refusal> {
        let now = Instant::now();
        let share = self.config.share(caller.tenant.as_ref());
        let within = deadline(headers)?.map_or(self.config.wait_within, |within| within.min(self.config.wait_within));
        let arrival = Arrival {
            tenant: caller.tenant.clone(),
            share: share.to_policy(caller.weight),
            priority: share.priority(asked(headers)?),
            tokens,
            deadline: Some(now + within),
        };
        let mut waiting = {
            let mut line = self.line.lock();
            match line.queue.enter(now, arrival).map_err(|refused| self.refuse(refused))? {
                Entered::Passes(_) => return Ok(Passing(Arc::clone(self))),
                Entered::Waits(place) => {
                    let (tell, told) = oneshot::channel();
                    line.told.insert(place, tell);
                    self.metrics.waiting.set(i64::try_from(line.queue.waiting()).unwrap_or(i64::MAX));
                    Waiting { admission: Arc::clone(self), place, told, over: false }
                }
            }
        };
        let told = timeout_at((now + within).into(), &mut waiting.told).await;
        self.metrics.waited.observe(now.elapsed().as_secs_f64());
        match told {
            Ok(Ok(told)) => {
                waiting.over = true;
                told.map_err(|refused| self.refuse(refused))?;
                Ok(Passing(Arc::clone(self)))
            }
            // Nobody is told nothing while the line stands, so that this is the time being up.
            Ok(Err(_)) | Err(_) => {
                let retry_after = self.line.lock().queue.expected_wait();
                Err(self.refuse(Refused { why: Why::Deadline, retry_after }))
            }
        }
    }

    fn refuse(&self, refused: Refused) -> Refusal {
        self.metrics.refused(refused.why);
        Refusal::NotLetThrough { why: refused.why, retry_after: refused.retry_after }
    }

    /// One that was let through is done.
    fn left(&self) {
        let mut line = self.line.lock();
        line.queue.left();
        line.advance();
        self.metrics.waiting.set(i64::try_from(line.queue.waiting()).unwrap_or(i64::MAX));
    }
}

impl Line {
    fn advance(&mut self) {
        let now = Instant::now();
        while let Some(next) = self.queue.next(now) {
            let (place, said) = match next {
                Next::Passes(place) => (place, Ok(())),
                Next::Refused(place, refused) => (place, Err(refused)),
            };
            if let Some(tell) = self.told.remove(&place) {
                // Whoever waits holds the other end until it has left the line.
                let _ = tell.send(said);
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.left();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut line = self.admission.line.lock();
        line.told.remove(&self.place);
        let was_waiting = line.queue.gave_up(self.place);
        self.admission.metrics.waiting.set(i64::try_from(line.queue.waiting()).unwrap_or(i64::MAX));
        drop(line);
        // Its turn came as it left: the turn is the next one's.
        if !was_waiting && matches!(self.told.try_recv(), Ok(Ok(()))) {
            self.admission.left();
        }
    }
}

fn asked(headers: &HeaderMap) -> Result<Option<Priority>, Refusal> {
    let Some(value) = headers.get(PRIORITY_HEADER) else { return Ok(None) };
    match value.as_bytes() {
        b"low" => Ok(Some(Priority::Low)),
        b"normal" => Ok(Some(Priority::Normal)),
        b"high" => Ok(Some(Priority::High)),
        _ => {
            Err(Refusal::BadRequest(format!("the header {PRIORITY_HEADER} is {value:?}: expected low, normal or high")))
        }
    }
}

fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get(DEADLINE_HEADER) else { return Ok(None) };
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<u32>().ok());
    let millis = millis.ok_or_else(|| {
        Refusal::BadRequest(format!("the header {DEADLINE_HEADER} is {value:?}: expected whole milliseconds"))
    })?;
    Ok(Some(Duration::from_millis(u64::from(millis))))
}
