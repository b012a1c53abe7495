//! Replays a workload against a running router (or engine) and reports what its clients saw.
//!
//! ```text
//!   rows ─► due? ─► body ─► POST, streamed ─► tally: TTFT from the instant it was due, tokens by source, failures by reason
//! ```
//!
//! In an *open* loop a request is sent when its arrival is due, whatever became of those before it, so that a slow server
//! meets the load it would meet in life; times count from the due instant. In a *closed* loop a session sends its next turn
//! `think_ms` after the last answer.

pub(crate) mod args;
pub(crate) mod client;
pub(crate) mod report;
mod workload;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use weft_tokens::ModelFiles;

use client::Client;
use report::Tally;
pub(crate) use report::{Report, table};
pub(crate) use workload::{Api, Preparation, Source, Workload};

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Loop {
    /// By their arrival times.
    Open,
    /// A session's turns one after another.
    Closed,
}

/// One replay.
#[derive(Clone, Debug)]
pub(crate) struct ReplayConfig {
    /// Base URL of the router, such as `http://127.0.0.1:8080`.
    pub(crate) url: String,
    pub(crate) api_key: Option<String>,
    pub(crate) arrivals: Loop,
    /// Divides arrival and think times.
    pub(crate) speed: f64,
    /// Longest time from due to done; then the request has failed.
    pub(crate) timeout: Duration,
    /// Requests under way at once; further ones are sent late, which the report shows. An open connection is a file
    /// descriptor here and in the router.
    pub(crate) in_flight_max: NonZeroUsize,
}

impl ReplayConfig {
    /// An open loop at the workload's own pace.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            arrivals: Loop::Open,
            speed: 1.0,
            timeout: Duration::from_secs(300),
            in_flight_max: const { NonZeroUsize::new(512).expect("512 is not 0") },
        }
    }
}

/// Tokenizer and chat template of the simulated model, as they are shipped in this binary.
pub(crate) fn shipped_model() -> anyhow::Result<ModelFiles> {
    let tokenizer = include_str!("../../assets/sim-8b/tokenizer.json");
    let config = include_str!("../../assets/sim-8b/tokenizer_config.json");
    ModelFiles::from_parts(tokenizer, config).context("the shipped model is not usable")
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Requests answered or failed.
    pub(crate) done: usize,
    pub(crate) failed: usize,
    /// Requests of the workload.
    pub(crate) total: usize,
}

/// Told after each request.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Replays `workload`. Failed requests are part of the report; an error means that the replay itself could not be done.
pub(crate) async fn replay(
    config: &ReplayConfig,
    workload: &Arc<Workload>,
    on_progress: OnProgress,
) -> anyhow::Result<Report> {
    let uri = format!("{}{}", config.url.trim_end_matches('/'), workload.path());
    let replay = Arc::new(Replay {
        uri: uri.parse().with_context(|| format!("'{uri}' is not a URL, such as http://127.0.0.1:8080"))?,
        client: Client::new(config.api_key.as_deref()),
        places: Semaphore::new(config.in_flight_max.get()),
        tally: Mutex::default(),
        start: Instant::now(),
        config: config.clone(),
        workload: workload.clone(),
        on_progress,
    });
    let mut running = match config.arrivals {
        Loop::Open => replay.open_loop().await?,
        Loop::Closed => replay.closed_loop(),
    };
    while let Some(ended) = running.join_next().await {
        ended.context("a request's task panicked")??;
    }
    let elapsed = replay.start.elapsed();
    let tally = std::mem::take(&mut *replay.tally());
    Ok(tally.finish(workload.bound(), elapsed))
}

struct Replay {
    config: ReplayConfig,
    workload: Arc<Workload>,
    uri: Uri,
    client: Client,
    places: Semaphore,
    tally: Mutex<Tally>,
    start: Instant,
    on_progress: OnProgress,
}

impl Replay {
    async fn open_loop(self: &Arc<Self>) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
        let mut running = JoinSet::new();
        for number in 0..self.workload.len() {
            let due = self.start + self.workload.arrival(number).div_f64(self.config.speed);
            let body = self.workload.body(number)?;
            sleep_until(due).await;
            let replay = self.clone();
            running.spawn(async move {
                replay.ask(body, due).await;
                Ok(())
            });
        }
        Ok(running)
    }

    fn closed_loop(self: &Arc<Self>) -> JoinSet<anyhow::Result<()>> {
        let mut sessions: HashMap<_, Vec<usize>> = HashMap::new();
        for (number, row) in self.workload.rows().iter().enumerate() {
            sessions.entry(row.session_id.clone().ok_or(number)).or_default().push(number);
        }
        sessions.into_values().map(|turns| self.clone().session(turns)).collect()
    }

    async fn session(self: Arc<Self>, turns: Vec<usize>) -> anyhow::Result<()> {
        let first = turns.first().map(|number| self.workload.arrival(*number)).unwrap_or_default();
        sleep_until(self.start + first.div_f64(self.config.speed)).await;
        for (position, number) in turns.into_iter().enumerate() {
            if position > 0 {
                let think = Duration::from_millis(self.workload.rows()[number].think_ms);
                sleep(think.div_f64(self.config.speed)).await;
            }
            let body = self.workload.body(number)?;
            self.ask(body, Instant::now()).await;
        }
        Ok(())
    }

    async fn ask(&self, body: Bytes, due: Instant) {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        self.tally().sent(due.elapsed());
        let result = self.client.ask(&self.uri, body, due, self.config.timeout).await;
        let progress = {
            let mut tally = self.tally();
            match result {
                Ok(answered) => tally.answered(&answered),
                Err(failure) => tally.failed(&failure),
            }
            Progress { done: tally.done(), failed: tally.failures(), total: self.workload.len() }
        };
        (self.on_progress)(progress);
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no panic holds the tally")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use weft_engine_sim::{Config, EngineSim, Pace};
    use weft_service::telemetry::Telemetry;
    use weft_types::BlockSize;

    use super::*;
    use crate::workload::generate::{Mix, Shape};

    /// An engine whose device holds everything, so that it is the infinite cache that the bound speaks of.
    async fn engine(change: impl FnOnce(&mut Config)) -> EngineSim {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/sim-8b");
        let mut config = Config::new("e1".parse().unwrap(), folder);
        config.addr = "127.0.0.1:0".parse().unwrap();
        config.device_tokens = 1 << 30;
        config.event_tokens = 64;
        config.pace = Pace { speed: 10_000.0, ..Pace::default() };
        change(&mut config);
        EngineSim::bind(config, &Telemetry::for_tests()).await.unwrap()
    }

    fn workload(api: Api) -> Arc<Workload> {
        workload_of(100, api)
    }

    fn workload_of(requests: usize, api: Api) -> Arc<Workload> {
        let mix = Mix { chat: 1.0, tool: 1.0, agent: 2.0 };
        let (span, length_scale) = (Duration::from_secs(3600), 0.02);
        let shape = Shape { seed: 3, requests: 120, span, length_scale, block_tokens: 64, mix };
        let preparation = Preparation {
            source: Source::Generated(shape),
            requests,
            api,
            seed: 3,
            files: Arc::new(shipped_model().unwrap()),
            model: "sim-8b",
            block_size: BlockSize::DEFAULT,
        };
        Arc::new(Workload::prepare(preparation).unwrap())
    }

    async fn replay_all(url: &str, arrivals: Loop, workload: &Arc<Workload>) -> Report {
        let config = ReplayConfig { arrivals, speed: 36_000.0, ..ReplayConfig::new(url) };
        let last = Arc::new(Mutex::new(None));
        let seen = last.clone();
        let report = replay(&config, workload, Arc::new(move |progress| *seen.lock().unwrap() = Some(progress)));
        let report = report.await.unwrap();
        assert_eq!(last.lock().unwrap().unwrap().done, workload.len());
        report
    }

    #[tokio::test]
    async fn an_infinite_cache_reaches_the_bound_through_either_api_and_loop() {
        for (api, arrivals) in
            [(Api::Completions, Loop::Open), (Api::Chat, Loop::Open), (Api::Completions, Loop::Closed)]
        {
            let engine = engine(|_| {}).await;
            let workload = workload(api);
            let report = replay_all(engine.url(), arrivals, &workload).await;
            assert_eq!((report.requests, report.failed()), (100, 0), "{:?}", report.failures);
            assert_eq!(
                report.prompt_tokens,
                workload.bound().prompt_tokens,
                "prompts are tokenised as they were meant"
            );
            assert_eq!(report.sources.device + report.sources.computed, report.prompt_tokens);
            let (hit, bound) = (report.hit_rate(), workload.bound().share());
            assert!(bound > 0.3, "{bound}: the workload has something to share");
            assert!((hit - bound).abs() < 0.01, "{api:?} {arrivals:?}: hit rate {hit}, bound {bound}");
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_before_it_is_due() {
        let (engine, workload) = (engine(|_| {}).await, workload_of(5, Api::Completions));
        for arrivals in [Loop::Open, Loop::Closed] {
            let speed = workload.span().as_secs_f64() / 1.5;
            let config = ReplayConfig { arrivals, speed, ..ReplayConfig::new(engine.url()) };
            let report = replay(&config, &workload, Arc::new(|_| ())).await.unwrap();
            assert!(
                report.elapsed_s >= 1.5,
                "{arrivals:?}: the last was due after 1.5 s, all were done in {}",
                report.elapsed_s
            );
        }
    }

    #[tokio::test]
    async fn failures_are_reported_and_do_not_end_the_replay() {
        let small = engine(|config| config.device_tokens = 1024).await;
        let report = replay_all(small.url(), Loop::Open, &workload(Api::Completions)).await;
        let refused: u64 =
            report.failures.iter().filter(|(reason, _)| reason.starts_with("status 400")).map(|f| f.1).sum();
        assert!(refused > 0 && refused == report.failed() && refused < 100, "{:?}", report.failures);

        let nobody = replay_all("http://127.0.0.1:1", Loop::Open, &workload(Api::Completions)).await;
        assert_eq!(nobody.failed(), 100);
        assert!(nobody.failures.keys().all(|reason| reason.starts_with("no connection")), "{:?}", nobody.failures);
    }
}
