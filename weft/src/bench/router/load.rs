//! Clients on one thread of ours: as many requests as connections allow, or so many a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::latencies::Latencies;
use super::chats::Chats;
use super::cores::Cores;
use super::wire::Wire;

/// What is sent, and how.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) chats: Arc<Chats>,
    pub(super) connections: usize,
    /// Requests a second; `None`: the next as soon as the last was answered.
    pub(super) rate: Option<f64>,
    pub(super) warm: Duration,
    pub(super) window: Duration,
}

/// What was seen while it was measured.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) events: u64,
    /// Of what is between clients and engines.
    pub(super) cpu: Duration,
    pub(super) latencies: Latencies,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    requests: AtomicU64,
    events: AtomicU64,
    measuring: AtomicBool,
    latencies: Mutex<Latencies>,
}

impl Load {
    /// Sends it to `addr`; `cpu` is what the process there has taken by now.
    pub(super) fn run(
        &self,
        cores: Cores,
        addr: SocketAddr,
        cpu: impl Fn() -> anyhow::Result<Duration> + Send,
    ) -> anyhow::Result<Seen> {
        let run = || {
            cores.pin_ours();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.send(addr, cpu))
        };
        std::thread::scope(|threads| threads.spawn(run).join()).unwrap_or_else(|_| bail!("the load panicked"))
    }

    async fn send(&self, addr: SocketAddr, cpu: impl Fn() -> anyhow::Result<Duration>) -> anyhow::Result<Seen> {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..self.connections {
            clients.spawn(client(addr, self.clone(), Arc::clone(&shared), begun));
        }
        let counts = || (shared.requests.load(Ordering::Relaxed), shared.events.load(Ordering::Relaxed));
        let measuring = async {
            sleep(self.warm).await;
            shared.measuring.store(true, Ordering::Relaxed);
            let ((requests, events), before) = (counts(), cpu()?);
            sleep(self.window).await;
            let ((requests_then, events_then), after) = (counts(), cpu()?);
            let latencies = std::mem::take(&mut *shared.latencies.lock());
            let (requests, events) = (requests_then - requests, events_then - events);
            anyhow::Ok(Seen { requests, events, cpu: after.saturating_sub(before), latencies })
        };
        tokio::select! {
            seen = measuring => {
                let seen = seen?;
                ensure!(seen.requests + seen.events > 0, "nothing was answered at {addr}");
                Ok(seen)
            }
            Some(ended) = clients.join_next() => {
                ended.context("a client panicked")??;
                bail!("a client ended by itself")
            }
        }
    }
}

/// One connection. It ends with what goes wrong.
async fn client(addr: SocketAddr, load: Load, shared: Arc<Shared>, begun: Instant) -> anyhow::Result<()> {
    let mut wire = Wire::new(TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?)?;
    let mut request = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        load.chats.write(number, &mut request);
        let mut sent = Instant::now();
        if let Some(rate) = load.rate {
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            // A request that no connection was free for waits since it was due; a timer's lateness is nobody's.
            let was_free = sent < due;
            sleep_until(due).await;
            sent = if was_free { Instant::now() } else { due };
        }
        wire.send(&request).await.context("a request broke off")?;
        // As they come: a stream lasts longer than what is measured of it.
        let count = |piece: &[u8]| {
            let events = piece.windows(2).filter(|bytes| bytes == b"\n\n").count() as u64;
            shared.events.fetch_add(events, Ordering::Relaxed);
        };
        let answer = wire.receive_in_pieces(count).await.context("an answer broke off")?;
        let answer = answer.context("the connection was closed")?;
        if !answer.is_ok() {
            bail!("answered: {} {}", String::from_utf8_lossy(answer.head), String::from_utf8_lossy(answer.body));
        }
        let took = sent.elapsed();
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if shared.measuring.load(Ordering::Relaxed) {
            shared.latencies.lock().add(took);
        }
    }
}
