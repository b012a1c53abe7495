//! An engine's answer on its way to the client, and what hangs on it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tracing::{info, warn};
use weft_policy::{Fleet, Ticket};
use weft_service::run::chain;
use weft_types::EndpointId;

use crate::admission::{Admitted, Passing};
use crate::answer::error_event;
use crate::endpoint::{Change, Endpoint};
use crate::explain::{Attempt, Entry, Explain, Record};
use crate::metrics::{Metrics, Outcome};
use crate::usage::{Tail, Usage};

/// A request from its first byte to the last of its answer. Dropping it ends the request, in every sense.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) outcome: Outcome,
    metrics: Arc<Metrics>,
    booking: Option<Booking>,
    entry: Option<Entry>,
    _permit: OwnedSemaphorePermit,
    _admitted: Option<Admitted>,
    passing: Option<Passing>,
}

/// A place in the fleet's books.
#[derive(Debug)]
pub(crate) struct Booking {
    pub(crate) fleet: Arc<Mutex<Fleet>>,
    pub(crate) ticket: Ticket,
}

/// The body of an answer, byte for byte.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Came before the client was answered at all.
    first: Option<Frame<Bytes>>,
    rest: Incoming,
    /// The last frame was handed on, or there will be none.
    ended: bool,
    /// The client understands events, so that it can be told of an engine that dies.
    events: bool,
    endpoint: Arc<Endpoint>,
    exchange: Exchange,
    /// What the engine says at the end is in it.
    tail: Tail,
    stall: Duration,
    deadline: Pin<Box<Sleep>>,
    heard: tokio::time::Instant,
}

/// The engine died in the middle of an answer whose client cannot be told in words: its connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("endpoint {endpoint} failed in the middle of its answer: {reason}")]
pub(crate) struct RelayError {
    endpoint: String,
    reason: String,
}

impl Exchange {
    /// A request that will have been cancelled, unless something else becomes of it.
    pub(crate) fn begin(metrics: &Arc<Metrics>, permit: OwnedSemaphorePermit, admitted: Option<Admitted>) -> Self {
        metrics.in_flight.inc();
        Self {
            outcome: Outcome::Cancelled,
            metrics: Arc::clone(metrics),
            booking: None,
            entry: None,
            _permit: permit,
            _admitted: admitted,
            passing: None,
        }
    }

    /// It was let through to the engines.
    pub(crate) fn passes(&mut self, passing: Passing) {
        self.passing = Some(passing);
    }

    /// It is at this endpoint now, and no longer at the one before.
    pub(crate) fn book(&mut self, booking: Booking) {
        self.booking = Some(booking);
    }

    /// It was tried, and is nowhere now.
    pub(crate) fn unbook(&mut self) {
        self.booking = None;
    }

    /// It was decided where it goes; `record` is kept of the first decision.
    pub(crate) fn decided(&mut self, attempt: Attempt, explain: &Explain, record: impl FnOnce(Attempt) -> Record) {
        match &self.entry {
            Some(entry) => entry.lock().attempts.push(attempt),
            None => self.entry = Some(explain.keep(record(attempt))),
        }
    }

    /// It was not answered there.
    pub(crate) fn failed(&self, reason: &str) {
        if let Some(attempt) =
            self.entry.as_ref().map(|entry| entry.lock()).as_mut().and_then(|record| record.attempts.last_mut())
        {
            attempt.failed = Some(reason.to_owned());
        }
    }

    /// Where else it could have gone, the cheapest first.
    pub(crate) fn others(&self) -> Vec<EndpointId> {
        let Some(entry) = &self.entry else { return Vec::new() };
        let record = entry.lock();
        record
            .attempts
            .last()
            .into_iter()
            .flat_map(|attempt| &attempt.others)
            .map(|other| other.endpoint.clone())
            .collect()
    }

    /// What the engine says of the prompt.
    pub(crate) fn used(&self, usage: Usage) {
        let Some(entry) = &self.entry else { return };
        let mut record = entry.lock();
        record.usage = Some(usage);
        if let (true, Some(hit_tokens)) = (record.counted, record.predicted_hit_tokens()) {
            self.metrics.used(record.prompt_tokens, hit_tokens, &usage);
        }
        let rate = |booking: &Booking, endpoint| booking.fleet.lock().prefill_tokens_per_second(endpoint);
        let loaded_tokens = record.loaded_tokens();
        if let (1.., Some(booking), Some(endpoint)) = (loaded_tokens, &self.booking, record.endpoint())
            && let Some(rate) = rate(booking, endpoint)
        {
            self.metrics.saved(record.tenant.as_ref(), loaded_tokens, f64::from(loaded_tokens) / rate);
        }
    }

    pub(crate) fn first_token(&self) {
        if let Some(entry) = &self.entry {
            let mut record = entry.lock();
            let took = record.at.elapsed();
            record.ttft = Some(took);
            if let Some(attempt) = record.attempts.last() {
                self.metrics.ttft_error(
                    (attempt.picked.terms.ttft_seconds() + attempt.took.as_secs_f64()) - took.as_secs_f64(),
                );
            }
        }
        if let Some(booking) = &self.booking {
            booking.fleet.lock().first_token(Instant::now(), booking.ticket);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.ended(self.outcome);
        if let Some(entry) = &self.entry {
            let mut record = entry.lock();
            record.ended = Some((self.outcome, record.at.elapsed()));
        }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.fleet.lock().ended(Instant::now(), self.ticket);
    }
}

impl Relay {
    pub(crate) fn new(
        first: Option<Frame<Bytes>>,
        rest: Incoming,
        events: bool,
        endpoint: Arc<Endpoint>,
        exchange: Exchange,
        stall: Duration,
    ) -> Self {
        let heard = tokio::time::Instant::now();
        let mut tail = Tail::default();
        if let Some(bytes) = first.as_ref().and_then(Frame::data_ref) {
            tail.push(bytes);
        }
        let deadline = Box::pin(sleep(stall));
        Self { first, rest, ended: false, events, endpoint, exchange, tail, stall, deadline, heard }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.rest).poll_frame(cx) {
            self.heard = tokio::time::Instant::now();
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| chain(&error))));
        }
        // One timer an answer, moved only when it fires: frames come by the thousand.
        while self.deadline.as_mut().poll(cx).is_ready() {
            let due = self.heard + self.stall;
            if due <= tokio::time::Instant::now() {
                return Poll::Ready(Some(Err(format!("nothing came from it for {:?}", self.stall))));
            }
            self.deadline.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn broke(&mut self, reason: String) -> Option<Result<Frame<Bytes>, RelayError>> {
        self.ended = true;
        self.exchange.outcome = Outcome::Broken;
        warn!(endpoint = %self.endpoint.id, "an answer broke: {reason}");
        if self.endpoint.failed(Instant::now()) == Change::Out {
            info!(endpoint = %self.endpoint.id, "endpoint is out until a probe finds it well");
        }
        let endpoint = self.endpoint.id.to_string();
        if self.events {
            return Some(Ok(Frame::data(error_event(&endpoint, &reason))));
        }
        Some(Err(RelayError { endpoint, reason }))
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        this.poll_rest(cx).map(|frame| match frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    this.tail.push(bytes);
                }
                Some(Ok(frame))
            }
            Some(Err(reason)) => this.broke(reason),
            None => {
                this.ended = true;
                this.exchange.outcome = Outcome::Answered;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(first + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(first + upper);
        }
        hint
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A body of known length is not asked for the end that follows its last byte.
        if self.exchange.outcome == Outcome::Cancelled && self.is_end_stream() {
            self.exchange.outcome = Outcome::Answered;
        }
        if self.exchange.outcome == Outcome::Answered
            && let Some(usage) = self.tail.usage()
        {
            self.exchange.used(usage);
        }
    }
}
