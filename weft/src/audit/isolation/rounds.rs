//! The prompts: what each tenant sends, and what it could see.

use std::io::{IsTerminal, stderr};
use std::net::SocketAddr;
use std::time::Duration;

use ::http::{StatusCode, Uri};
use anyhow::{Context, bail};
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::IsolationArgs;
use super::directory::Directory;
use super::report::{Finding, Numbers};
use super::tenants::{Pair, Subject};
use crate::audit::ranks::{detectable, p_value};
use crate::bench::trace::client::{Answered, Client, Failure};
use crate::http;

/// Differences in time are told at this level: one audit in a hundred sees one that is not there.
const ALPHA: f64 = 0.01;
/// And are seen, if they are there, in this share of audits.
const POWER: f64 = 0.8;
/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Longest wait until the router knows the new tenants.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// Token ids that every tokenizer has, and that none of them takes for a sign of its own.
const TOKENS: std::ops::Range<u32> = 1000..4000;

/// What was seen.
#[derive(Debug)]
pub(super) struct Rounds {
    /// The last prompt that `a` primed.
    pub(super) primed: Vec<u32>,
    /// `a` on its own prompts, a second time.
    repeated: Seen,
    /// `a` and `b` on prompts that nobody ever sent.
    fresh_a: Seen,
    fresh_b: Seen,
    /// `b` on prompts that `a` primed.
    crossed: Seen,
    /// The same, with `a`'s salt in the body.
    forged: Seen,
    /// What a caller that nobody knows was told.
    stranger: String,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<String>,
    cached_tokens: Vec<u64>,
    milliseconds: Vec<f64>,
}

/// Sends prompts as one tenant.
struct Sender<'a> {
    client: Client,
    uri: &'a Uri,
    model: &'a str,
}

impl Rounds {
    /// Plays all of them, one request at a time: what others do at the same time is noise, and counted as such.
    pub(super) async fn play(
        args: &IsolationArgs,
        router: &str,
        model: &str,
        pair: &Pair,
        directory: &Directory<'_>,
    ) -> anyhow::Result<Self> {
        let uri = format!("{router}/v1/completions");
        let uri: Uri = uri.parse().with_context(|| format!("'{uri}' is not a URL, such as http://10.0.0.5:8080"))?;
        let sender = |subject: &Subject| Sender { client: Client::new(Some(&subject.key)), uri: &uri, model };
        let (a, b) = (sender(&pair.a), sender(&pair.b));
        let fresh = || -> Vec<u32> {
            let mut dice = rand::rng();
            (0..args.prompt_tokens).map(|_| dice.random_range(TOKENS)).collect()
        };
        for sender in [&a, &b] {
            sender.become_known(&fresh()).await?;
        }
        let (mut repeated, mut crossed, mut forged) = (Seen::default(), Seen::default(), Seen::default());
        let (mut fresh_a, mut fresh_b) = (Seen::default(), Seen::default());
        let mut primed = Vec::new();
        for round in 0..args.prompts {
            primed = fresh();
            a.ask(&primed, None).await?;
            // From here on whoever could see it would.
            directory.holders(&pair.a, &primed).await?;
            repeated.add(a.ask(&primed, None).await?);
            fresh_a.add(a.ask(&fresh(), None).await?);
            // Which comes first must not matter; on average it does not.
            match rand::random() {
                true => {
                    crossed.add(b.ask(&primed, None).await?);
                    fresh_b.add(b.ask(&fresh(), None).await?);
                }
                false => {
                    fresh_b.add(b.ask(&fresh(), None).await?);
                    crossed.add(b.ask(&primed, None).await?);
                }
            }
            // A prompt of `a`'s that `b` has not computed itself by now.
            let other = fresh();
            a.ask(&other, None).await?;
            directory.holders(&pair.a, &other).await?;
            forged.add(b.ask(&other, Some(&pair.a.salt)).await?);
            if stderr().is_terminal() {
                eprint!("\r{} of {} prompts ", round + 1, args.prompts);
            }
        }
        if stderr().is_terminal() {
            eprintln!();
        }
        let nobody = Sender { client: Client::new(Some(&format!("{}x", pair.a.key))), uri: &uri, model };
        let stranger = match nobody.send(&primed, None).await {
            Ok(_) => String::new(),
            Err(failure) => failure.to_string(),
        };
        Ok(Self { primed, repeated, fresh_a, fresh_b, crossed, forged, stranger })
    }

    /// What answers and times tell.
    pub(super) fn findings(&self, timed: bool) -> Vec<Finding> {
        let count = |seen: &Seen| seen.cached_tokens.len();
        let hits = |seen: &Seen| seen.cached_tokens.iter().filter(|tokens| **tokens > 0).count();
        let control = hits(&self.repeated) > 0;
        let answers = |name: &str, says: &str, seen: &Seen| Finding {
            name: name.to_owned(),
            says: says.to_owned(),
            control: Some(control),
            holds: hits(seen) == 0,
            saw: format!(
                "{} of {} answers tell of cached tokens; where the owner repeats a prompt, {} of {}",
                hits(seen),
                count(seen),
                hits(&self.repeated),
                count(&self.repeated),
            ),
            numbers: Numbers::default(),
        };
        vec![
            answers("answers", "A tenant is told of no cached token of another's prompt", &self.crossed),
            answers(
                "forged salt",
                "Another tenant's salt in a request finds nothing: the router puts the caller's own in its place",
                &self.forged,
            ),
            self.timing(timed),
            Finding {
                name: "stranger".to_owned(),
                says: "Who brings a key that is not known is nobody".to_owned(),
                control: Some(control),
                holds: self.stranger.starts_with("status 401"),
                saw: match self.stranger.is_empty() {
                    true => "it was answered as if it were somebody".to_owned(),
                    false => self.stranger.clone(),
                },
                numbers: Numbers::default(),
            },
        ]
    }

    fn timing(&self, timed: bool) -> Finding {
        let finding = |control, holds, saw, numbers| Finding {
            name: "timing".to_owned(),
            says: "How long an answer takes does not tell whether another tenant sent the prompt".to_owned(),
            control,
            holds,
            saw,
            numbers,
        };
        if !timed {
            return finding(None, true, "left out by --without-timing".to_owned(), Numbers::default());
        }
        let (crossed, fresh) = (&self.crossed.milliseconds, &self.fresh_b.milliseconds);
        let (p, detectable) = (p_value(crossed, fresh), detectable(fresh, ALPHA, POWER));
        let control_p = p_value(&self.repeated.milliseconds, &self.fresh_a.milliseconds);
        let effect = median(&self.fresh_a.milliseconds) - median(&self.repeated.milliseconds);
        let powerful = detectable.is_some_and(|least| least < effect);
        let saw = format!(
            "time to first token, median: {:.2} ms where the other primed the prompt, {:.2} ms where nobody did (p = {p:.4}); a hit saves its owner {effect:.2} ms \
             (p = {control_p:.4}); a difference from {} up would have been seen with {:.0} % probability",
            median(crossed),
            median(fresh),
            detectable.map_or("more than was ever seen".to_owned(), |least| format!("{least:.2} ms")),
            POWER * 100.0,
        );
        let numbers = [
            ("p", p),
            ("control_p", control_p),
            ("hit_saves_ms", effect),
            ("detectable_ms", detectable.unwrap_or(f64::NAN)),
            ("crossed_median_ms", median(crossed)),
            ("fresh_median_ms", median(fresh)),
        ];
        let numbers = numbers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        finding(Some(control_p < ALPHA && powerful), p >= ALPHA, saw, numbers)
    }

    /// What the router had to choose from, by its own account.
    pub(super) async fn candidates(&self, admin: Option<SocketAddr>) -> Finding {
        let finding = |control, holds, saw| Finding {
            name: "candidates".to_owned(),
            says: "No endpoint, node or peer is seen to have a block of another tenant's prompt".to_owned(),
            control,
            holds,
            saw,
            numbers: Numbers::default(),
        };
        let Some(admin) = admin else {
            return finding(None, true, "not looked at: give the router's admin port with --router-admin".to_owned());
        };
        let (owners, others) = (overlaps(admin, &self.repeated).await, overlaps(admin, &self.crossed).await);
        let with = |overlaps: &[u64]| overlaps.iter().filter(|tokens| **tokens > 0).count();
        let saw = format!(
            "{} of {} of its decisions had a candidate with a part of the prompt; where the owner repeats it, {} of {}",
            with(&others),
            others.len(),
            with(&owners),
            owners.len(),
        );
        finding(Some(with(&owners) > 0 && !others.is_empty()), with(&others) == 0, saw)
    }
}

/// For each request that the router still knows: the most that any candidate had of its prompt.
async fn overlaps(admin: SocketAddr, seen: &Seen) -> Vec<u64> {
    let mut all = Vec::new();
    for request in &seen.requests {
        let Ok((200, text)) = http::get(&format!("http://{admin}/explain/{request}")).await else { continue };
        let Ok(explained) = serde_json::from_str::<Value>(&text) else { continue };
        let Some(attempt) = explained["attempts"].get(0) else { continue };
        let others = attempt["others"].as_array().into_iter().flatten();
        let tokens = |one: &Value| {
            let of = |kind: &str| one["overlap"][kind].as_u64().unwrap_or(0);
            of("device_tokens").max(of("local_tokens")).max(of("peer_tokens"))
        };
        all.push(others.chain([&attempt["picked"]]).map(tokens).max().unwrap_or(0));
    }
    all
}

impl Seen {
    fn add(&mut self, (request, answered): (String, Answered)) {
        self.requests.push(request);
        self.cached_tokens.push(answered.usage.cached_tokens());
        self.milliseconds.push(answered.first_token.as_secs_f64() * 1e3);
    }
}

impl Sender<'_> {
    async fn send(&self, prompt: &[u32], salt: Option<&str>) -> Result<(String, Answered), Failure> {
        let mut body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0,
            "stream": true, "stream_options": { "include_usage": true },
        });
        if let Some(salt) = salt {
            body["cache_salt"] = salt.into();
        }
        self.client.ask_known(self.uri, Bytes::from(body.to_string()), Instant::now(), ANSWER_WITHIN).await
    }

    async fn ask(&self, prompt: &[u32], salt: Option<&str>) -> anyhow::Result<(String, Answered)> {
        self.send(prompt, salt).await.with_context(|| format!("{} did not answer the audit's request", self.uri))
    }

    /// The router follows metadata: it knows a new key a moment later.
    async fn become_known(&self, prompt: &[u32]) -> anyhow::Result<()> {
        let until = Instant::now() + KNOWN_WITHIN;
        loop {
            match self.send(prompt, None).await {
                Ok(_) => return Ok(()),
                Err(Failure::Status { status, .. }) if status == StatusCode::UNAUTHORIZED && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(Failure::Status { status, .. }) if status == StatusCode::UNAUTHORIZED => bail!(
                    "the router knows no key that metadata has had for {KNOWN_WITHIN:?}: is --router a router of this cluster, with `metadata` in its configuration?"
                ),
                Err(failure) => return Err(failure).with_context(|| format!("{} does not serve the audit", self.uri)),
            }
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
